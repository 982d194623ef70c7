"""Define what a backbone is, the blocks that several backbones share, and how published weights are loaded.

B images, H x W pixels, C channels; "tap" means the last feature map at a stride (input pixels per cell).
"""

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecascade.backend import keras, layers
from posecascade.errors import InputError, first_line

# With Keras' 0.99 (MobileNetV2's 0.999), evaluation lags training by hundreds (thousands) of steps.
BN_MOMENTUM = 0.97
# Raised by NumPy for other or corrupt files; the last two for a plain .npy, which is not a context manager.
_NO_NPZ = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError)


@dataclass(frozen=True)
class Backbone:
    """A network that turns an image into feature maps.

    Attributes:
        build: function from an image (B, H, W, 3), RGB in 0..255, to its taps by stride, finest first; it scales the
            image itself.
        blocks: prefixes of its layer names in order from the image; `freeze` counts these.
        load: loads ImageNet weights ("imagenet") or those of a file (its path) into a model that has the layers;
            raises InputError for another file or a failed download.
    """

    build: Callable[[keras.KerasTensor], dict[int, keras.KerasTensor]]
    blocks: tuple[str, ...]
    load: Callable[[keras.Model, str], None]


def batch_norm(x, name, epsilon=1e-3):
    """Return x after batch normalization with the momentum of all our networks."""
    return layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=epsilon, name=name)(x)


def conv_bn(x, filters, kernel=1, stride=1, *, name, relu6=True):
    """Return x after a convolution with "same" padding, batch norm and, if `relu6`, ReLU6."""
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = batch_norm(x, f"{name}_bn")
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu6 else x


def depthwise_bn(x, kernel=3, stride=1, *, name):
    """Return x after a depthwise convolution, batch norm and ReLU6."""
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(batch_norm(x, f"{name}_bn"))


def separable(x, filters, kernel, *, name, stride=1):
    """Return x after a depthwise convolution and, directly on it, a 1x1 convolution with batch norm and ReLU6."""
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    return conv_bn(x, filters, name=name)


def inverted_residual(x, filters, *, expansion, kernel, stride, name):
    """Return x after MobileNetV2's block: expand, depthwise, project without activation; add x if shapes are equal."""
    channels = x.shape[-1]
    y = conv_bn(x, expansion * channels, name=f"{name}_expand") if expansion > 1 else x
    y = depthwise_bn(y, kernel, stride, name=f"{name}_depthwise")
    y = conv_bn(y, filters, name=f"{name}_project", relu6=False)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and channels == filters else y


def image_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield every layer of the model and its nested models except the regressor's, in order from the image."""
    for layer in model.layers:
        if not isinstance(layer, keras.Model):
            yield layer
        elif layer.name != "regressor":
            yield from image_layers(layer)


def weighted_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers that have weights by unique name; those of the regressor begin with "regressor/"."""
    by_name = {layer.name: layer for layer in image_layers(model)}
    for stage in (layer for layer in model.layers if layer.name == "regressor"):
        by_name |= {f"regressor/{layer.name}": layer for layer in stage.layers}
    return {name: layer for name, layer in by_name.items() if layer.weights}


def put_weights(model: keras.Model, arrays: Mapping[str, list[np.ndarray]], origin: str) -> None:
    """Set the weights of the layers named in `arrays`.

    Raises InputError with `origin` and the layer's name if the model lacks the layer or has it in other shapes.
    """
    by_name = {layer.name: layer for layer in image_layers(model)}
    for name, values in arrays.items():
        if name not in by_name:
            raise InputError(f"{origin}: has a layer {name!r} that the model lacks; "
                             "give the file made for this backbone")
        expected = [tuple(w.shape) for w in by_name[name].weights]
        if [v.shape for v in values] != expected:
            raise InputError(f"{origin}: layer {name!r} has shapes {[v.shape for v in values]}, expected {expected}; "
                             "give the file made for this backbone")
    for name, values in arrays.items():
        by_name[name].set_weights(values)


def read_npz(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz by name, as float32; InputError, which asks for "an .npz WHAT", if it is not one."""
    try:
        with np.load(path) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except FileNotFoundError:
        raise InputError(f"model.backbone_weights: no file {path}; give 'none' or the path of an .npz {what}") from None
    except _NO_NPZ:
        raise InputError(f"{path}: is not an .npz file, or corrupt; expected one {what}") from None


def application_weights(build: Callable[..., keras.Model], weights: str, what: str, **options) -> dict[str, list]:
    """Return a `keras.applications` network's weights by layer name: ImageNet's, or those of a file saved from it.

    Raises InputError if the download fails (it says how to do without) or the file is another network's.
    """
    if weights != "imagenet" and not Path(weights).is_file():
        raise InputError(f"model.backbone_weights: no file {weights}; give 'imagenet', 'none' or the path of {what}")
    options.setdefault("include_top", False)
    try:
        with warnings.catch_warnings():  # a wrong file causes a hundred warnings before Keras refuses it
            warnings.filterwarnings("ignore", "Skipping nested container")
            source = build(weights=weights, **options)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        if weights == "imagenet":
            raise _offline(what, error) from None
        raise InputError(f"{weights}: is not {what} ({first_line(error)}); "
                         "give a file saved from that network") from None
    except Exception as error:
        if type(error) is not Exception:  # keras.utils.get_file raises the bare class if a download fails
            raise
        raise _offline(what, error) from None
    return {layer.name: layer.get_weights() for layer in source.layers if layer.weights}


def _offline(what, error):
    return InputError(f"model.backbone_weights: 'imagenet' could not be downloaded ({first_line(error)}); "
                      f"download {what} elsewhere and give model.backbone_weights: FILE")
