"""A TensorFlow.js graph model as a TFLite model, in float32 or with int8 convolutions.

Such a model is a .json file with a graph, and .bin files beside it with its weights. int8 goes up to the last
convolutions; what is computed from their outputs (arg max, gathered offsets) stays float32, as our own decoder does.
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
AFTER = {"BiasAdd": ("T", "data_format"), "Relu": ("T",), "Relu6": ("T",)}  # what a convolution is fused with
OF_CONVOLUTION = ("T", "strides", "padding", "explicit_paddings", "dilations", "data_format")
DTYPES = {"float16": "<f2", "float32": "<f4", "int32": "<i4", "bool": "?"}
INPUT, OUTPUT = "crop", "joints"  # of the signature

GraphDef, NodeDef = tf.compat.v1.GraphDef, tf.compat.v1.NodeDef


def model(file: Path, side: int, calibration: np.ndarray | None = None) -> bytes:
    """A TFLite model: "crop" (1, S, S, 3) in 0..255, uint8 where it is int8, else float32, to "joints", the output.

    Args:
        file: the .json of a graph with one input, a picture of `side` pixels, and one output.
        calibration: (N, S, S, 3) uint8, crops on which int8's ranges are seen; float32 without them.
    Raises:
        InputError: the graph cannot be read, is no such graph, or holds what is not known here.
    """
    content = graph(file)
    whole, ends = function(content, file), heads(content)
    shapes = [whole.graph.get_tensor_by_name(f"{node.name}:0").shape for node in content.node
              if node.op == "Placeholder"]
    results = _results(content)
    if not ends or len(results) != 1 or shapes != [[1, side, side, 3]]:
        raise InputError(f"{file}: takes {shapes}, has {len(ends)} last convolutions and gives {', '.join(results)}; "
                         f"expected one picture [1, {side}, {side}, 3], some and one output; get the package's own "
                         "file")
    [source] = [f"{node.name}:0" for node in content.node if node.op == "Placeholder"]
    tensors = {f"head_{number}": whole.graph.get_tensor_by_name(f"{end}:0") for number, end in enumerate(ends)}
    trunk = whole.prune(source, list(tensors.values()))
    decoder = whole.prune(list(tensors.values()), f"{results[0]}:0")
    crop = {INPUT: tf.TensorSpec((1, side, side, 3), tf.float32, name=INPUT)}
    maps = {name: tf.TensorSpec(tensor.shape, tf.float32, name=name) for name, tensor in tensors.items()}
    to_maps = _converted(lambda **given: dict(zip(tensors, trunk(given[INPUT]), strict=True)), crop, "maps",
                         calibration)
    to_joints = _converted(lambda **given: {OUTPUT: decoder(*(given[name] for name in tensors))}, maps, OUTPUT)
    return joined(to_maps, to_joints, OUTPUT)


def graph(file: Path) -> GraphDef:
    """The graph with its weights as constants, its input a float32 and its fused convolutions taken apart.

    Raises InputError where it cannot be read, or holds what is not known here.
    """
    content = load_json(file)
    try:
        found = json_format.ParseDict({"node": content["modelTopology"]["node"]}, GraphDef())
        manifest = content["weightsManifest"]
        groups = [([str(path) for path in group["paths"]], list(group["weights"])) for group in manifest]
    except (KeyError, TypeError, json_format.ParseError) as error:
        raise InputError(f"{file}: is no graph model of TensorFlow.js ({type(error).__name__}: {first_line(error)}); "
                         "get the package's own file") from None
    arrays: dict[str, np.ndarray] = {}
    for paths, weights in groups:
        arrays |= _weights(file, b"".join(read_bytes(file.parent / path) for path in paths), weights)
    inputs = {node.name for node in found.node if node.op == "Placeholder"}
    made = GraphDef()
    made.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in found.node:
        node.device = ""
        if node.name in inputs:
            node.attr["dtype"].type = tf.float32.as_datatype_enum
        elif node.op == "Cast" and node.input[0] in inputs:
            node.attr["SrcT"].type = tf.float32.as_datatype_enum
        elif node.op == "Const" and node.name in arrays:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(arrays[node.name]))
        made.node.extend(unfused(node, file) if node.op in FUSED else [node])
    return made


def _weights(file, data, weights) -> dict[str, np.ndarray]:
    """float16 as float32; every byte must be used."""
    arrays, at = {}, 0
    for weight in weights:
        stored = weight.get("quantization", weight)["dtype"]
        if stored not in DTYPES:
            raise InputError(f"{file}: weight {weight['name']} is stored as {stored}, expected one of "
                             f"{', '.join(DTYPES)}; get a package whose weights are float16 or float32")
        dtype, count = np.dtype(DTYPES[stored]), int(np.prod(weight["shape"], dtype=int))
        if at + count * dtype.itemsize > len(data):
            raise InputError(f"{file}: its .bin has {len(data)} bytes, too few for its weights; get both files again")
        array = np.frombuffer(data, dtype, count, at).reshape(weight["shape"])
        arrays[weight["name"]] = array.astype(np.float32) if stored == "float16" else array
        at += count * dtype.itemsize
    if at != len(data):
        raise InputError(f"{file}: its weights take {at} bytes, its .bin has {len(data)}; get both files again")
    return arrays


def unfused(node: NodeDef, file: Path) -> list[NodeDef]:
    """The fused convolution as nodes of its own kind, one for each step; the last has its name."""
    steps = [step.decode() for step in node.attr["fused_ops"].list.s]
    unknown = [step for step in steps if step not in AFTER]
    if unknown or len(node.input) != 2 + steps.count("BiasAdd"):
        raise InputError(f"{file}: {node.name} is fused with {', '.join(steps)} of {len(node.input)} inputs; known are "
                         f"{', '.join(AFTER)}")
    value, kernel, *bias = node.input
    made = []
    for number, step in enumerate([FUSED[node.op], *steps]):
        name = node.name if number == len(steps) else f"{node.name}/step_{number}"
        given = [value, kernel] if not number else [value, *bias] if step == "BiasAdd" else [value]
        made.append(NodeDef(name=name, op=step, input=given))
        for attribute in AFTER[step] if number else OF_CONVOLUTION:
            if attribute in node.attr:
                made[-1].attr[attribute].CopyFrom(node.attr[attribute])
        value = name
    return made


def function(content: GraphDef, file: Path):
    """The graph as a function, of which `prune` takes parts. Raises InputError where TensorFlow refuses it."""
    try:
        return tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(content, name=""), [])
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(f"{file}: TensorFlow {tf.__version__} cannot build its graph ({first_line(error)}); get the "
                         "package's own file") from None


def heads(content: GraphDef) -> list[str]:
    """The tensors at which the convolutions end: their last ones with their biases, in the graph's order."""
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
    """Names of the nodes that no other takes."""
    used = {name for node in content.node for name in _inputs(node)}
    return [node.name for node in content.node if node.name not in used]


def _converted(function: Callable, inputs: dict[str, tf.TensorSpec], key: str, calibration=None) -> bytes:
    """`function`, of keyword arguments, through a SavedModel: so the signature's names survive."""
    signature = tf.function(function).get_concrete_function(**inputs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures={key: signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[key])
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ({INPUT: crop[None].astype(np.float32)} for crop in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.float32
        with warnings.catch_warnings():  # of the converter's own use of it, for which nobody here can do anything
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
            return converter.convert()
