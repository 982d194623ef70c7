"""Convert arrays to TensorProto messages and back."""

import math
from typing import Any

import numpy as np

from posecascade.client.retrying import ServerError
from posecascade.errors import first_line

# tensorflow/core/framework/types.proto
FLOAT, STRING = 1, 7
MAX_VALUES = 2 ** 22  # of an output; one value and a large shape would otherwise fill the memory
MAX_DIMENSIONS = 8


def fill(tensor: Any, values: np.ndarray) -> None:
    """Write an array of float32, or of bytes (dtype object), to an empty TensorProto."""
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    if values.dtype == object:
        tensor.dtype = STRING
        tensor.string_val.extend(values.ravel().tolist())
    else:
        tensor.dtype = FLOAT
        tensor.tensor_content = values.astype("<f4").tobytes()


def values_of(tensor: Any, name: str) -> np.ndarray:
    """Return the array in a TensorProto of float32, or of strings as bytes (dtype object).

    Numbers are stored as bytes, or one by one; in the latter case the last one is repeated to fill the shape. Raises
    ServerError, with the output's name, for other types, and if the number of values does not match the shape.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if len(shape) > MAX_DIMENSIONS:
        raise ServerError(f"output {first_line(name)!r}: has {len(shape)} dimensions; expected at most "
                          f"{MAX_DIMENSIONS}", "INTERNAL")
    if min(shape, default=0) < 0 or count > MAX_VALUES:
        raise ServerError(f"output {first_line(name)!r}: has shape {first_line(list(shape))}; expected at most "
                          f"{MAX_VALUES} values", "INTERNAL")
    if tensor.dtype == STRING:
        values = np.array([*tensor.string_val, None], object)[:-1]  # None keeps dtype object for strings of one length
    elif tensor.dtype == FLOAT:
        whole = len(tensor.tensor_content) // 4 * 4
        values = np.frombuffer(tensor.tensor_content[:whole], "<f4") if tensor.tensor_content else \
            np.array(tensor.float_val, np.float32)
        if 0 < len(values) < count and not tensor.tensor_content:
            values = np.concatenate([values, np.full(count - len(values), values[-1])])
    else:
        raise ServerError(f"output {first_line(name)!r}: has type {tensor.dtype}; expected float32 or strings",
                          "INTERNAL")
    if len(values) != count:
        raise ServerError(f"output {first_line(name)!r}: has {len(values)} values; expected {count} for its shape "
                          f"{first_line(list(shape))}", "INTERNAL")
    return values.reshape(shape)
