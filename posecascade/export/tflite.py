"""Convert a network to TFLite models: maps and keypoints, each in four precisions, and the decoder."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from posecascade.export.graph.network import Network
from posecascade.formats.runtime import DECODER
from posecascade.formats.tflite_graphs import joined, with_float16_weights

KINDS = ("heatmaps", "keypoints")  # crop to maps, for a GPU; crop to keypoints, for a CPU
PRECISIONS = ("float32", "float16", "dynamic", "int8")
BITS_8 = ("dynamic", "int8")
INPUT = "crop"  # (1, S, S, 3) RGB in 0..255: float32 for `heatmaps` except int8, else uint8


def models(network: Network, decoder: bytes, calibration: np.ndarray,
           rounded: Network | None = None) -> Iterator[tuple[str, str, bytes]]:
    """Yield (kind, precision, model) for all KINDS and PRECISIONS; the signature has the kind's name.

    "float16" and "dynamic" have 16-bit and 8-bit weights; "int8" also has 8-bit activations, with ranges measured on
    `calibration` (N, S, S, 3) uint8. Keypoints are decoded in float32 in all of them: the keypoints graph is the
    heatmaps graph followed by `decoder`, the result of the function of that name. `rounded` computes the same with
    weights that lose less in 8 bits (`channel_equalization.equalized`); "dynamic" and "int8" are converted from it.
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
    """Return the model of signature DECODER, from a network's maps (1, H, W, K) float32 to keypoints and scores."""
    cells = network.metadata.input_size // network.metadata.stride
    shape = (1, cells, cells, network.metadata.schema.size)
    maps = {name: tf.TensorSpec(shape, tf.float32, name=name) for name in network.names}

    def decoded(**given):
        answer = network.keypoints(given)
        # Without part maps, visibility and uncalibrated scores are one tensor, for which LiteRT.js has only one name.
        # The converter keeps this upper limit, which changes no value, so they become two tensors.
        return answer if "parts" in given else answer | {"visibility": tf.minimum(answer["visibility"], 2.0)}

    return _convert(decoded, maps, DECODER)


def heatmaps(network: Network, precision: str, calibration: np.ndarray | None = None) -> bytes:
    """Return the model of kind "heatmaps" and one precision; only "int8" needs `calibration`, as in `models`."""
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
    """Convert `function`, of keyword arguments, through a SavedModel, which keeps the signature's names."""
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
        with warnings.catch_warnings():  # the converter itself uses the deprecated interpreter
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
            return converter.convert()
