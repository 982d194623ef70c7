"""What a backbone is, the blocks that several of them share, and how weights from outside get in.

B images, H x W pixels, C channels; "tap" means the last feature map at a stride (input pixels per cell).
"""

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import KerasTensor, layers

from posecascade.errors import InputError, first_line

# Keras' own 0.99 (MobileNetV2's 0.999) lets evaluation lag training by hundreds (thousands) of steps.
BN_MOMENTUM = 0.97
# What NumPy raises for other or damaged files; the last two for a plain .npy, which is no context manager.
_NO_NPZ = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError)


@dataclass(frozen=True)
class Backbone:
    """A network that turns an image into feature maps.

    Attributes:
        build: image (B, H, W, 3) in 0..255, RGB -> its taps by stride, finest first. Scaling is inside.
        blocks: prefixes of its layer names, in order from the image; what `freeze` counts.
        load: puts ImageNet weights ("imagenet") or those of a file (its path) into a model that holds the layers;
            InputError where the file or the download is not what was expected.
    """

    build: Callable[[KerasTensor], dict[int, KerasTensor]]
    blocks: tuple[str, ...]
    load: Callable[[keras.Model, str], None]


def batch_norm(x, name, epsilon=1e-3):
    """Batch normalization with the momentum that all our networks share."""
    return layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=epsilon, name=name)(x)


def conv_bn(x, filters, kernel=1, stride=1, *, name, relu6=True):
    """Convolution, batch norm and ReLU6 (if `relu6`), with TensorFlow's "same" padding."""
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = batch_norm(x, f"{name}_bn")
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu6 else x


def depthwise_bn(x, kernel=3, stride=1, *, name):
    """Depthwise convolution, batch norm and ReLU6."""
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(batch_norm(x, f"{name}_bn"))


def separable(x, filters, kernel, *, name, stride=1):
    """Depthwise convolution, then 1x1 with batch norm and ReLU6; nothing between the two."""
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    return conv_bn(x, filters, name=name)


def inverted_residual(x, filters, *, expansion, kernel, stride, name):
    """MobileNetV2's block: widen, filter each channel, narrow without activation; add its input where shapes allow."""
    channels = x.shape[-1]
    y = conv_bn(x, expansion * channels, name=f"{name}_expand") if expansion > 1 else x
    y = depthwise_bn(y, kernel, stride, name=f"{name}_depthwise")
    y = conv_bn(y, filters, name=f"{name}_project", relu6=False)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and channels == filters else y


def image_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Every layer of the model and its nested models but the regressor's, from the image on."""
    for layer in model.layers:
        if not isinstance(layer, keras.Model):
            yield layer
        elif layer.name != "regressor":
            yield from image_layers(layer)


def weighted_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Every layer that has weights, by a name that no other has: the regressor's begin with "regressor/"."""
    found = {layer.name: layer for layer in image_layers(model)}
    for stage in (layer for layer in model.layers if layer.name == "regressor"):
        found |= {f"regressor/{layer.name}": layer for layer in stage.layers}
    return {name: layer for name, layer in found.items() if layer.weights}


def put_weights(model: keras.Model, arrays: Mapping[str, list[np.ndarray]], origin: str) -> None:
    """Set the layers named in `arrays`; InputError naming `origin` and the layer where one is missing or differs."""
    found = {layer.name: layer for layer in image_layers(model)}
    for name, values in arrays.items():
        if name not in found:
            raise InputError(f"{origin}: has a layer {name!r} that the model lacks; "
                             "give the file made for this backbone")
        wanted = [tuple(w.shape) for w in found[name].weights]
        if [v.shape for v in values] != wanted:
            raise InputError(f"{origin}: layer {name!r} has shapes {[v.shape for v in values]}, expected {wanted}; "
                             "give the file made for this backbone")
    for name, values in arrays.items():
        found[name].set_weights(values)


def read_npz(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, as float32; InputError, which says "an .npz WHAT", where it is missing or none."""
    try:
        with np.load(path) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except FileNotFoundError:
        raise InputError(f"model.backbone_weights: no file {path}; give 'none' or the path of an .npz {what}") from None
    except _NO_NPZ:
        raise InputError(f"{path}: is no .npz of arrays, or damaged; expected one {what}") from None


def application_weights(build: Callable[..., keras.Model], weights: str, what: str, **options) -> dict[str, list]:
    """Weights by layer name of a `keras.applications` network: ImageNet's, or those of a file saved from it.

    Raises InputError where the download fails (naming the offline way) or the file is another network's.
    """
    if weights != "imagenet" and not Path(weights).is_file():
        raise InputError(f"model.backbone_weights: no file {weights}; give 'imagenet', 'none' or the path of {what}")
    options.setdefault("include_top", False)
    try:
        with warnings.catch_warnings():  # a wrong file warns a hundred times before Keras refuses it
            warnings.filterwarnings("ignore", "Skipping nested container")
            source = build(weights=weights, **options)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        if weights == "imagenet":
            raise _offline(what, error) from None
        raise InputError(f"{weights}: is not {what} ({first_line(error)}); "
                         "give a file saved from that network") from None
    except Exception as error:
        if type(error) is not Exception:  # keras.utils.get_file raises the bare class where a download fails
            raise
        raise _offline(what, error) from None
    return {layer.name: layer.get_weights() for layer in source.layers if layer.weights}


def _offline(what, error):
    return InputError(f"model.backbone_weights: 'imagenet' could not be downloaded ({first_line(error)}); "
                      f"download {what} elsewhere and give model.backbone_weights: FILE")
