"""Helper: small TFLite models of each kind, arguments for their files, and models as objects."""

import warnings

import flatbuffers
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tflite = pytest.importorskip("ai_edge_litert.schema_py_generated")

from posecascade.formats import tflite_file  # noqa: E402  (needs ai_edge_litert)

KEYPOINTS = ("left_wrist", "right_wrist", "pelvis", "kopf_oben", "nœud")
METADATA = {"format": 1, "schema": {"name": "five", "keypoints": list(KEYPOINTS)}, "input_size": 32, "stride": 4}
DESCRIPTION = {"name": "five keypoints", "description": "A test.", "version": "1.2.3", "author": "Somebody",
               "license": "MIT"}
SIDE, K = 32, len(KEYPOINTS)


def converted(kind, quantized=False):
    """Return the bytes of a small model with the outputs of a kind."""
    rng = np.random.default_rng(3)
    kernel = tf.Variable(rng.normal(0, 0.01, (4, 4, 3, K)).astype("float32"))
    images = [rng.uniform(0, 255, (1, SIDE, SIDE, 3)).astype("float32") for _ in range(4)]

    def model(image):
        maps = tf.nn.conv2d(image / 255.0, kernel, 4, "SAME")
        parts = tf.sigmoid(maps)
        if kind == "heatmaps":
            return {"heatmaps": tf.nn.relu(maps - 0.01), "parts": parts}
        best = tf.reduce_max(parts, (1, 2))
        return {"keypoints": tf.stack([best, 4 * best], -1), "scores": best, "visibility": best * best}

    module = tf.Module()
    module.kernel, module.call = kernel, tf.function(model, input_signature=[
        tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32, name="image")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.call.get_concrete_function()], module)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter itself: "statistics for quantized inputs were expected"
        return converter.convert()


def to_bytes(model, **changes):
    """Return `tflite_file.to_bytes` with this module's arguments."""
    return tflite_file.to_bytes(model, **{"metadata": METADATA, "keypoints": KEYPOINTS} | DESCRIPTION | changes)


def unpacked(model):
    """Return the model's bytes as objects."""
    return tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(model))


def repacked(model):
    """Return the bytes of a model given as objects."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_far_weights(model):
    """Return the model with its largest buffer behind the flatbuffer, as AI Edge Quantizer stores it."""
    parts = unpacked(model)
    buffer = max(parts.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    content, buffer.data = buffer.data.tobytes(), None
    buffer.offset, buffer.size = 4096, len(content)
    end = len(repacked(parts))
    buffer.offset = -(-end // 16) * 16
    return repacked(parts).ljust(buffer.offset, b"\0") + content
