"""Scale a detector's channels to similar ranges, since int8 has one step size for all channels of a tensor.

If everything between two convolutions is linear, or a ReLU without an upper limit, a channel may be multiplied by any
positive number by which the next convolution divides: the network computes the same. After Nagel, van Baalen,
Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section
4.1. They scale by the ranges of weights; this module by those of activations, which lose more to int8 here.
"""

from collections.abc import Sequence

import numpy as np

from posecascade.backend import keras, layers

MAX_FACTOR = 8.0  # for channels that are hardly ever above 0
BATCH = 16        # crops per call
_LINEAR = ("linear", "relu")  # activations that commute with positive factors
_THROUGH = (layers.Add, layers.UpSampling2D)  # inputs and outputs have the same factors
_KERNELS = (layers.Conv2D, layers.DepthwiseConv2D)


def equalized(model: keras.Model, crops: np.ndarray) -> keras.Model:
    """Return a copy of the model that computes the same, up to rounding, with channels of similar range.

    Args:
        model: a cascade; a model without a layer "detector" is copied unchanged.
        crops: (N, S, S, 3) uint8 RGB, on which the ranges of the activations are measured.
    """
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for detector in (layer for layer in twin.layers if layer.name == "detector"):
        groups = _groups(detector)
        ranges = _ranges(detector, [name for group in groups for name in group], crops)
        factors = {name: factor for group in groups for factor in [_factors([ranges[name] for name in group])]
                   for name in group}
        _rescale(detector, factors)
    return twin


def _groups(detector: keras.Model) -> list[list[str]]:
    """Return the names of layers whose outputs must have the same factors, a list for each set that may be scaled."""
    comes_from, goes_to = _wiring(detector)
    group = {layer.name: {layer.name} for layer in detector.layers}
    for layer in (layer for layer in detector.layers if isinstance(layer, _THROUGH)):
        together = set().union(group[layer.name], *(group[name] for name in comes_from[layer.name]))
        group.update(dict.fromkeys(together, together))
    bound = {layer.name for layer in detector.layers if not (_scales(layer) or isinstance(layer, _THROUGH))}
    bound |= {name for name, users in goes_to.items()
              if not users or not all(_is_plain(user) or isinstance(user, _THROUGH) for user in users)}
    bound |= {name for name, output in _outputs(detector).items() if any(output is one for one in _returned(detector))}
    return [list(names) for names in {id(names): sorted(names) for names in group.values()}.values()
            if bound.isdisjoint(names)]


def _scales(layer):
    """Return whether the layer's output can be multiplied by changing its weights."""
    return _is_plain(layer) and layer.activation.__name__ in _LINEAR


def _is_plain(layer):
    """Return whether the layer is a convolution with separate weights for each channel that it reads."""
    return isinstance(layer, _KERNELS) and getattr(layer, "groups", 1) == getattr(layer, "depth_multiplier", 1) == 1


def _outputs(detector):
    return {layer.name: layer.output for layer in detector.layers}


def _returned(detector):
    return list(detector.output.values()) if isinstance(detector.output, dict) else [detector.output]


def _wiring(detector) -> tuple[dict[str, list[str]], dict[str, list[layers.Layer]]]:
    """Return for each layer the names of the layers that it reads, and the layers that read it."""
    made_by = {id(output): name for name, output in _outputs(detector).items()}
    comes_from, goes_to = {}, {layer.name: [] for layer in detector.layers}
    for layer in detector.layers:
        read = [] if isinstance(layer, layers.InputLayer) else keras.tree.flatten(layer.input)
        comes_from[layer.name] = [made_by[id(tensor)] for tensor in read]
        for name in comes_from[layer.name]:
            goes_to[name].append(layer)
    return comes_from, goes_to


def _ranges(detector, names: Sequence[str], crops) -> dict[str, np.ndarray]:
    """Return the maximum magnitude of each channel of these layers' outputs."""
    outputs = _outputs(detector)
    probe = keras.Model(detector.input, {name: outputs[name] for name in names}) if names else None
    ranges = {name: np.zeros(outputs[name].shape[-1]) for name in names}
    for start in range(0, len(crops) if names else 0, BATCH):
        for name, values in probe.predict_on_batch(crops[start:start + BATCH].astype(np.float32)).items():
            ranges[name] = np.maximum(ranges[name], np.abs(np.asarray(values)).max((0, 1, 2)))
    return ranges


def _factors(ranges: Sequence[np.ndarray]) -> np.ndarray:
    """Return the factors, at most MAX_FACTOR, that give each channel the widest range; 1 for channels that stay 0."""
    widest = np.max(ranges, axis=0)
    return np.where(widest > 0, np.minimum(widest.max() / np.maximum(widest, 1e-12), MAX_FACTOR), 1.0)


def _rescale(detector, factors: dict[str, np.ndarray]) -> None:
    comes_from, _ = _wiring(detector)
    for layer in (layer for layer in detector.layers if isinstance(layer, _KERNELS)):
        kernel, *bias = layer.get_weights()
        input_factors = factors.get(comes_from[layer.name][0], np.ones(kernel.shape[2]))
        output_factors = factors.get(layer.name, np.ones(1))
        kernel = kernel / input_factors[:, None]  # (height, width, in, out); depthwise: out = 1
        kernel = kernel * (output_factors[:, None] if isinstance(layer, layers.DepthwiseConv2D) else output_factors)
        layer.set_weights([kernel, *(values * output_factors for values in bias)])
