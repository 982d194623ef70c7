"""Convert a TensorFlow.js graph model to TFLite, in float32 or with int8 convolutions.

Such a model is a .json file with a graph, and .bin files with its weights. In an int8 model, operations after the last
convolutions (argmax, gathered offsets) stay float32, as in this package's own decoder.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from posecascade.datasets.sources import load_json, read_bytes
from posecascade.errors import InputError, first_line
from posecascade.formats.tflite_graphs import joined

FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
CONVOLUTIONS = (*FUSED, *FUSED.values())
AFTER = {"BiasAdd": ("T", "data_format"), "Relu": ("T",), "Relu6": ("T",)}  # operations fused with a convolution
OF_CONVOLUTION = ("T", "strides", "padding", "explicit_paddings", "dilations", "data_format")
DTYPES = {"float16": "<f2", "float32": "<f4", "int32": "<i4", "bool": "?"}
INPUT, OUTPUT = "crop", "joints"  # tensor names of the signature

GraphDef, NodeDef = tf.compat.v1.GraphDef, tf.compat.v1.NodeDef


def model(file: Path, side: int, calibration: np.ndarray | None = None) -> bytes:
    """Return a TFLite model from "crop" (1, S, S, 3) in 0..255, uint8 for int8 or else float32, to "joints".

    Args:
        file: the .json of a graph with one input, an image of `side` pixels, and one output.
        side: S, of the input in pixels.
        calibration: (N, S, S, 3) uint8, crops to calibrate int8 on; None for float32.
    Raises:
        InputError: the graph cannot be read, has other inputs or outputs, or contains unsupported operations.
    """
    content = graph(file)
    complete, ends = function(content, file), heads(content)
    shapes = [complete.graph.get_tensor_by_name(f"{node.name}:0").shape for node in content.node
              if node.op == "Placeholder"]
    results = _results(content)
    if not ends or len(results) != 1 or shapes != [[1, side, side, 3]]:
        raise InputError(f"{file}: has inputs {shapes}, {len(ends)} last convolutions and outputs "
                         f"{', '.join(results)}; expected one image [1, {side}, {side}, 3], at least one convolution "
                         "and one output. Use the file of the package")
    [source] = [f"{node.name}:0" for node in content.node if node.op == "Placeholder"]
    tensors = {f"head_{number}": complete.graph.get_tensor_by_name(f"{end}:0") for number, end in enumerate(ends)}
    trunk = complete.prune(source, list(tensors.values()))
    decoder = complete.prune(list(tensors.values()), f"{results[0]}:0")
    crop = {INPUT: tf.TensorSpec((1, side, side, 3), tf.float32, name=INPUT)}
    maps = {name: tf.TensorSpec(tensor.shape, tf.float32, name=name) for name, tensor in tensors.items()}
    to_maps = _converted(lambda **inputs: dict(zip(tensors, trunk(inputs[INPUT]), strict=True)), crop, "maps",
                         calibration)
    to_keypoints = _converted(lambda **inputs: {OUTPUT: decoder(*(inputs[name] for name in tensors))}, maps, OUTPUT)
    return joined(to_maps, to_keypoints, OUTPUT)


def graph(file: Path) -> GraphDef:
    """Return the graph with its weights as constants, a float32 input, and fused convolutions split.

    Raises InputError if it cannot be read, or contains unsupported operations.
    """
    content = load_json(file)
    try:
        parsed = json_format.ParseDict({"node": content["modelTopology"]["node"]}, GraphDef())
        manifest = content["weightsManifest"]
        groups = [([str(path) for path in group["paths"]], list(group["weights"])) for group in manifest]
    except (KeyError, TypeError, json_format.ParseError) as error:
        raise InputError(f"{file}: is not a graph model of TensorFlow.js ({type(error).__name__}: "
                         f"{first_line(error)}); use the file of the package") from None
    arrays: dict[str, np.ndarray] = {}
    for paths, weights in groups:
        arrays |= _weights(file, b"".join(read_bytes(file.parent / path) for path in paths), weights)
    inputs = {node.name for node in parsed.node if node.op == "Placeholder"}
    converted = GraphDef()
    converted.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in parsed.node:
        node.device = ""
        if node.name in inputs:
            node.attr["dtype"].type = tf.float32.as_datatype_enum
        elif node.op == "Cast" and node.input[0] in inputs:
            node.attr["SrcT"].type = tf.float32.as_datatype_enum
        elif node.op == "Const" and node.name in arrays:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(arrays[node.name]))
        converted.node.extend(unfused(node, file) if node.op in FUSED else [node])
    return converted


def _weights(file, data, weights) -> dict[str, np.ndarray]:
    """Return the weights, float16 as float32; raise InputError if `data` has another size."""
    arrays, offset = {}, 0
    for weight in weights:
        stored = weight.get("quantization", weight)["dtype"]
        if stored not in DTYPES:
            raise InputError(f"{file}: weight {weight['name']} is stored as {stored}; expected one of "
                             f"{', '.join(DTYPES)}. Use a package whose weights are float16 or float32")
        dtype, count = np.dtype(DTYPES[stored]), int(np.prod(weight["shape"], dtype=int))
        if offset + count * dtype.itemsize > len(data):
            raise InputError(f"{file}: its .bin file has {len(data)} bytes, too few for its weights; download both "
                             "files again")
        array = np.frombuffer(data, dtype, count, offset).reshape(weight["shape"])
        arrays[weight["name"]] = array.astype(np.float32) if stored == "float16" else array
        offset += count * dtype.itemsize
    if offset != len(data):
        raise InputError(f"{file}: its .bin file has {len(data)} bytes; expected {offset} for its weights. Download "
                         "both files again")
    return arrays


def unfused(node: NodeDef, file: Path) -> list[NodeDef]:
    """Split a fused convolution into one node per operation; the last one has the name of the fused node."""
    steps = [step.decode() for step in node.attr["fused_ops"].list.s]
    unknown = [step for step in steps if step not in AFTER]
    if unknown or len(node.input) != 2 + steps.count("BiasAdd"):
        raise InputError(f"{file}: {node.name} is fused with {', '.join(steps)} and has {len(node.input)} inputs; "
                         f"expected {', '.join(AFTER)} only")
    value, kernel, *bias = node.input
    split = []
    for number, step in enumerate([FUSED[node.op], *steps]):
        name = node.name if number == len(steps) else f"{node.name}/step_{number}"
        inputs = [value, kernel] if not number else [value, *bias] if step == "BiasAdd" else [value]
        split.append(NodeDef(name=name, op=step, input=inputs))
        for attribute in AFTER[step] if number else OF_CONVOLUTION:
            if attribute in node.attr:
                split[-1].attr[attribute].CopyFrom(node.attr[attribute])
        value = name
    return split


def function(content: GraphDef, file: Path):
    """Return the graph as a function that can be pruned; raise InputError if TensorFlow cannot build it."""
    try:
        return tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(content, name=""), [])
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(f"{file}: TensorFlow {tf.__version__} cannot build its graph ({first_line(error)}); use the "
                         "file of the package") from None


def heads(content: GraphDef) -> list[str]:
    """Return the outputs of the last convolutions, after their biases and activations, in the graph's order."""
    nodes = {node.name: node for node in content.node}
    used: set[str] = set()
    waiting = [name for node in content.node if node.op in CONVOLUTIONS for name in _inputs(node)]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += _inputs(nodes[name])
    last = [node.name for node in content.node if node.op in CONVOLUTIONS and node.name not in used]
    follower = {_inputs(node)[0]: node.name for node in content.node if node.op in AFTER}
    ends = []
    for name in last:
        while name in follower:
            name = follower[name]
        ends.append(name)
    return ends


def _inputs(node):
    return [name.split(":")[0].lstrip("^") for name in node.input]


def _results(content):
    """Return the names of nodes that are not an input of another node."""
    used = {name for node in content.node for name in _inputs(node)}
    return [node.name for node in content.node if node.name not in used]


def _converted(function: Callable, inputs: dict[str, tf.TensorSpec], key: str, calibration=None) -> bytes:
    """Convert `function`, of keyword arguments, through a SavedModel, which keeps the names of the signature."""
    signature = tf.function(function).get_concrete_function(**inputs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures={key: signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[key])
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ({INPUT: crop[None].astype(np.float32)} for crop in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.float32
        with warnings.catch_warnings():  # raised by the converter's own code
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
            return converter.convert()
