"""Read the arrays of a PyTorch checkpoint (`torch.save` before 1.6) without PyTorch and without running its code."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_checkpoint(path: Path | str) -> dict[str, np.ndarray]:
    """Return the checkpoint's arrays by name.

    The file is a sequence of pickles, the third of which describes tensors in named storages, followed by these
    storages. Only the few names that a plain state dict needs can be unpickled. Raises ValueError for anything else.
    """
    with open(path, "rb") as file:
        try:
            if _Reader(file).load() != _MAGIC:
                raise ValueError("wrong magic number")
            for _ in ("protocol", "machine"):
                _Reader(file).load()
            tensors = _Reader(file).load()
            storages = dict.fromkeys(_Reader(file).load())
            types = {key: dtype for key, dtype, *_ in tensors.values()}
            for key in storages:
                count = int(np.frombuffer(file.read(8), "<i8")[0])
                dtype = types.get(key, np.dtype("<f4"))
                storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
            return {name: _view(storages[key], *layout) for name, (key, _, *layout) in tensors.items()}
        except (pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"not a checkpoint of the old format ({error})") from None


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (*storage, offset, shape, strides)
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, pid):
        _, dtype, key, *_ = pid
        return key, dtype


def _view(storage, offset, shape, strides):
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if min((offset, *strides, *shape)) < 0 or last >= len(storage):
        raise ValueError("a tensor is larger than its storage")
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
