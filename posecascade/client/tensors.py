"""Arrays to the server's TensorProto and back."""

from typing import Any

import numpy as np

from posecascade.client.retrying import ServerError

# tensorflow/core/framework/types.proto
FLOAT, STRING = 1, 7


def fill(tensor: Any, values: np.ndarray) -> None:
    """Put float32 numbers, or bytes in an array of dtype object, into an empty TensorProto."""
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    if values.dtype == object:
        tensor.dtype = STRING
        tensor.string_val.extend(values.ravel().tolist())
    else:
        tensor.dtype = FLOAT
        tensor.tensor_content = values.astype("<f4").tobytes()


def values_of(tensor: Any, name: str) -> np.ndarray:
    """The array in a TensorProto of float32 or strings (bytes in an array of dtype object).

    Numbers may lie as bytes, or one by one, where the last stands for all that are missing.
    Raises ServerError, naming the output, for other types and for less or more values than the shape has.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = int(np.prod(shape, dtype=np.int64))
    if tensor.dtype == STRING:
        found = np.array([*tensor.string_val, None], object)[:-1]  # NumPy would take equally long bytes for an array
    elif tensor.dtype == FLOAT:
        found = np.frombuffer(tensor.tensor_content, "<f4") if tensor.tensor_content else \
            np.array(tensor.float_val, np.float32)
        if 0 < len(found) < count and not tensor.tensor_content:
            found = np.concatenate([found, np.full(count - len(found), found[-1])])
    else:
        raise ServerError(f"output {name!r} is of type {tensor.dtype}, expected float32 or strings", "INTERNAL")
    if len(found) != count:
        raise ServerError(f"output {name!r} has {len(found)} values, expected {count} for its shape {list(shape)}",
                          "INTERNAL")
    return found.reshape(shape)
