"""Edit TFLite models: join two graphs, store weights in float16, count operators."""

from collections import Counter

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tflite

IDENTIFIER = b"TFL3"
MAIN = 0  # the subgraph of the converter's models that have one signature
# Operators with weights, which are their second input.
WEIGHTED = (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
            tflite.BuiltinOperator.TRANSPOSE_CONV, tflite.BuiltinOperator.FULLY_CONNECTED)
# Share of the weights, counted from the input, that stay float32 in a float16 model: rounding errors of the first
# layers pass through all others, and these layers have few weights (BUILD_NOTES, "Export").
KEPT_FLOAT32 = 0.02
# The operators that LiteRT's documentation lists for its GPU delegate, as far as our networks may use them. It folds
# away DEQUANTIZE of weights and of int8 outputs, and QUANTIZE of inputs.
GPU_OPERATORS = frozenset((
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "EXP", "FULLY_CONNECTED",
    "LOGISTIC", "MAX_POOL_2D", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "PAD", "PRELU", "QUANTIZE", "RELU", "RELU6",
    "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX", "STRIDED_SLICE", "SUB", "TANH",
    "TRANSPOSE_CONV"))
_NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}


class _Builder(flatbuffers.Builder):
    """Aligns vectors of bytes, which hold a model's weights, to 16 bytes, as the schema requires."""

    def CreateNumpyVector(self, x):
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, 16)
        self.head = self.head - x.size
        self.Bytes[self.head:self.head + x.size] = x.tobytes()
        return self.EndVector()


def unpacked(model: bytes) -> tflite.ModelT:
    """Return the model as objects."""
    return tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(model, 0))


def packed(model: tflite.ModelT) -> bytes:
    """Return the bytes of a model given as objects."""
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def operators(model: bytes) -> dict[str, int]:
    """Return how often each operator occurs, by its name in the schema or its custom name, in the graph's order."""
    content = unpacked(model)
    return dict(Counter(_name(content.operatorCodes[operator.opcodeIndex])
                        for graph in content.subgraphs for operator in graph.operators))


def joined(first: bytes, second: bytes, key: str) -> bytes:
    """Return one model that runs `first` and passes its outputs to the inputs of `second` by their signature names.

    Args:
        first, second: models of one subgraph and one signature each.
        key: of the signature of the result, which has the inputs of `first` and the outputs of `second`.
    Raises:
        ValueError: an input of `second` is not an output of `first`, or has another shape or type.
    """
    model, other = unpacked(first), unpacked(second)
    graph, more = model.subgraphs[MAIN], other.subgraphs[MAIN]
    first_signature, second_signature = model.signatureDefs[0], other.signatureDefs[0]
    outputs_of_first = {entry.name: entry.tensorIndex for entry in first_signature.outputs}
    at = {}  # tensor of `second` -> tensor of the result
    for entry in second_signature.inputs:
        if entry.name not in outputs_of_first:
            raise ValueError(f"{_text(entry.name)!r} is not an output of the first graph, which returns "
                             f"{', '.join(map(_text, outputs_of_first))}")
        one, two = graph.tensors[outputs_of_first[entry.name]], more.tensors[entry.tensorIndex]
        if _shape(one) != _shape(two) or one.type != two.type:
            raise ValueError(f"{_text(entry.name)!r} has shape {_shape(one)}, expected {_shape(two)}, or has another "
                             "type")
        at[entry.tensorIndex] = outputs_of_first[entry.name]
    buffers, codes = len(model.buffers) - 1, len(model.operatorCodes)  # buffer 0 is empty in both
    for index, tensor in enumerate(more.tensors):
        if index not in at:
            at[index] = len(graph.tensors)
            tensor.buffer += buffers if tensor.buffer else 0
            graph.tensors.append(tensor)
    for operator in more.operators:
        operator.inputs = _moved(operator.inputs, at)
        operator.outputs = _moved(operator.outputs, at)
        operator.opcodeIndex += codes
        graph.operators.append(operator)
    model.buffers += other.buffers[1:]
    model.operatorCodes += other.operatorCodes
    graph.outputs = _moved(more.outputs, at)
    for entry in second_signature.outputs:
        entry.tensorIndex = at[entry.tensorIndex]
    first_signature.outputs, first_signature.signatureKey = second_signature.outputs, key
    return packed(model)


def with_float16_weights(model: bytes) -> bytes:
    """Return a float32 model with its weights in float16, except biases and the first KEPT_FLOAT32 of the weights."""
    content = unpacked(model)
    graph = content.subgraphs[MAIN]
    layers = [operator for operator in graph.operators
              if _code(content.operatorCodes[operator.opcodeIndex]) in WEIGHTED]
    weights = list(dict.fromkeys(int(layer.inputs[1]) for layer in layers if _is_constant(content, layer.inputs[1])))
    sizes = [int(np.prod(graph.tensors[index].shape)) for index in weights]
    limit = KEPT_FLOAT32 * sum(sizes)
    late = [index for index, reached in zip(weights, np.cumsum(sizes), strict=True) if reached > limit]
    code = len(content.operatorCodes)
    content.operatorCodes.append(_operator_code(tflite.BuiltinOperator.DEQUANTIZE))
    first = []
    for index in late:
        tensor = graph.tensors[index]
        data = content.buffers[tensor.buffer].data
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32).astype(np.float16)
        half = tflite.TensorT(shape=tensor.shape, type=tflite.TensorType.FLOAT16, buffer=len(content.buffers),
                              name=_text(tensor.name) + "_float16")
        content.buffers.append(tflite.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        tensor.buffer = 0  # no longer constant: computed once, when the model is loaded
        first.append(tflite.OperatorT(opcodeIndex=code, inputs=[len(graph.tensors)], outputs=[index]))
        graph.tensors.append(half)
    graph.operators = first + graph.operators
    used = {tensor.buffer for tensor in graph.tensors} | {entry.buffer for entry in content.metadata or []}
    for index, buffer in enumerate(content.buffers):
        if index not in used:
            buffer.data = None
    return packed(content)


def _shape(tensor):
    return [int(side) for side in tensor.shape]


def _moved(indices, at):
    return [at.get(int(index), -1) for index in indices]  # -1: an optional input that is absent


def _is_constant(content, index):
    tensor = content.subgraphs[MAIN].tensors[index]
    return tensor.type == tflite.TensorType.FLOAT32 and content.buffers[tensor.buffer].data is not None


def _code(entry):
    return max(entry.builtinCode, entry.deprecatedBuiltinCode)  # codes beyond 127 are only in the newer field


def _operator_code(code):
    return tflite.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)


def _name(entry):
    code = _code(entry)
    return _text(entry.customCode) if code == tflite.BuiltinOperator.CUSTOM else _NAMES[code]


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
