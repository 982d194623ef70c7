"""TFLite models of a network: two graphs, each in four precisions, and the decoder between them."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from posecascade.export.graph.network import Network
from posecascade.formats.runtime import DECODER
from posecascade.formats.tflite_graphs import joined, with_float16_weights

KINDS = ("heatmaps", "keypoints")  # maps alone, for a GPU; crop to joints in one call, for a CPU
PRECISIONS = ("float32", "float16", "dynamic", "int8")
BITS_8 = ("dynamic", "int8")
INPUT = "crop"  # (1, S, S, 3) RGB in 0..255: float32 into `heatmaps` that are not int8, else uint8


def models(network: Network, decoder: bytes, calibration: np.ndarray,
           rounded: Network | None = None) -> Iterator[tuple[str, str, bytes]]:
    """(kind, precision, model) for every one of KINDS and PRECISIONS; the signature is named as the kind.

    "float16" and "dynamic" have weights of 16 and 8 bits, "int8" also activations of 8, from ranges seen on
    `calibration` (N, S, S, 3) uint8. Joints are decoded in float32 in all of them: the keypoints graph is the heatmaps
    graph followed by `decoder`, which the function of that name makes. `rounded` computes the same with weights that 8
    bits suit better (`equalization.equalized`); both files of 8 bits are made of it.
    """
    side = network.metadata.input_size
    size = (1, side, side, 3)
    to_float = _convert(lambda **given: {INPUT: tf.cast(given[INPUT], tf.float32)},
                        {INPUT: tf.TensorSpec(size, tf.uint8, name=INPUT)}, "image")
    for precision in PRECISIONS:
        maps_alone = heatmaps(rounded if rounded and precision in BITS_8 else network, precision, calibration)
        yield "heatmaps", precision, maps_alone
        pixels = maps_alone if precision == "int8" else joined(to_float, maps_alone, "heatmaps")
        yield "keypoints", precision, joined(pixels, decoder, "keypoints")


def decoder(network: Network) -> bytes:
    """The model of signature DECODER: a network's maps (1, H, W, K) float32 to keypoints, scores and visibility."""
    cells = network.metadata.input_size // network.metadata.stride
    shape = (1, cells, cells, network.metadata.schema.size)
    maps = {name: tf.TensorSpec(shape, tf.float32, name=name) for name in network.names}

    def decoded(**given):
        found = network.joints(given)
        # Without part maps, visibility and uncalibrated scores are one tensor, to which LiteRT.js gives only one name.
        # The converter keeps this limit, which changes no value, so they become two.
        return found if "parts" in given else found | {"visibility": tf.minimum(found["visibility"], 2.0)}

    return _convert(decoded, maps, DECODER)


def heatmaps(network: Network, precision: str, calibration: np.ndarray | None = None) -> bytes:
    """The model of one kind and precision; only "int8" needs `calibration`, as in `models`."""
    side = network.metadata.input_size
    crop = {INPUT: tf.TensorSpec((1, side, side, 3), tf.float32, name=INPUT)}
    model = _convert(lambda **given: network.maps(given[INPUT]), crop, "heatmaps", network.kept,
                     _SETTINGS[precision](calibration))
    return with_float16_weights(model) if precision == "float16" else model


def _float(_):
    return {}


def _dynamic(_):
    return {"optimizations": [tf.lite.Optimize.DEFAULT]}


def _int8(calibration):
    def crops():
        for crop in calibration:
            yield {INPUT: crop[None].astype(np.float32)}

    return {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": crops,
            "inference_input_type": tf.uint8, "inference_output_type": tf.float32}


_SETTINGS = {"float32": _float, "float16": _float, "dynamic": _dynamic, "int8": _int8}


def _convert(function: Callable, inputs: dict[str, tf.TensorSpec], key: str, variables=(), settings=None) -> bytes:
    """`function`, of keyword arguments, through a SavedModel: so the signature's names survive."""
    module = tf.Module()
    module.kept = list(variables)
    signature = tf.function(function).get_concrete_function(**inputs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={key: signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder)), signature_keys=[key])
        for name, value in (settings or {}).items():
            setattr(converter, name, value)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if "representative_dataset" in (settings or {})
            else tf.lite.OpsSet.TFLITE_BUILTINS]
        with warnings.catch_warnings():  # of the converter's own use of it, for which nobody here can do anything
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
            return converter.convert()
