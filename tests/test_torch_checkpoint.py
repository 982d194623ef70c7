"""Test that checkpoints of PyTorch before 1.6 are read without PyTorch and without executing code."""

import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from posecascade.models.torch_checkpoint import read_checkpoint

MAGIC = 0x1950A86A20F9469CFC6C


class FloatStorage:
    """Stands for torch's class of that name."""


def rebuild(*arguments):
    """Stands for torch._utils._rebuild_tensor_v2."""


FloatStorage.__module__ = "torch"
rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"


class Tensor:
    """A tensor in a pickle: a view of a storage."""

    def __init__(self, key, offset, shape, strides):
        self.key, self.arguments = key, (offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return rebuild, (Storage(self.key), *self.arguments)


class Storage:
    """A storage, pickled as its key."""

    def __init__(self, key):
        self.key = key


class Writer(pickle.Pickler):
    """Writes storages as persistent names, as torch does."""

    def persistent_id(self, value):
        return ("storage", FloatStorage, value.key, "cpu", 6, None) if isinstance(value, Storage) else None


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a state dict and its storages as torch.save did and returns the path."""
    for thing in (FloatStorage, rebuild):  # pickle imports these names when it writes them
        module = types.ModuleType(thing.__module__)
        setattr(module, thing.__qualname__, thing)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(state, storages, magic=MAGIC):
        path = tmp_path / "model.pth"
        with open(path, "wb") as file:
            for value in (magic, 1001, {"little_endian": True}):
                pickle.dump(value, file, protocol=2)
            Writer(file, protocol=2).dump(OrderedDict(state))
            pickle.dump(list(storages), file, protocol=2)
            for values in storages.values():
                file.write(np.int64(len(values)).tobytes() + np.asarray(values, "<f4").tobytes())
        return path

    return make


def test_tensors_are_views_of_their_storages(write):
    path = write({"plain": Tensor("7", 0, (2, 3), (3, 1)), "transposed": Tensor("7", 0, (3, 2), (1, 3)),
                  "later": Tensor("8", 2, (2,), (1,)), "number": Tensor("8", 1, (), ())},
                 {"7": range(6), "8": [5, 6, 7, 8]})
    tensors = read_checkpoint(path)
    np.testing.assert_array_equal(tensors["plain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["transposed"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(tensors["later"], [7, 8])
    assert tensors["number"] == 6 and tensors["plain"].dtype == np.float32


@pytest.mark.parametrize(("offset", "shape", "strides"), [(1, (2, 3), (3, 1)), (0, (2,), (6,)), (-1, (2,), (1,)),
                                                          (0, (2,), (-1,))])
def test_tensor_larger_than_its_storage_is_refused(write, offset, shape, strides):
    with pytest.raises(ValueError, match="a tensor is larger than its storage"):
        read_checkpoint(write({"a": Tensor("7", offset, shape, strides)}, {"7": range(6)}))


class Evil:
    """Executes code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_code_in_the_file_is_refused(write):
    with pytest.raises(ValueError, match=r"not a checkpoint of the old format \(__builtin__.exec is not allowed\)"):
        read_checkpoint(write({"a": Evil()}, {}))


def test_other_and_truncated_files_are_refused(write, tmp_path):
    with pytest.raises(ValueError, match="wrong magic number"):
        read_checkpoint(write({}, {}, magic=1))
    whole = write({"a": Tensor("7", 0, (6,), (1,))}, {"7": range(6)}).read_bytes()
    short = tmp_path / "short.pth"
    for length in range(0, len(whole), 7):
        short.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read_checkpoint(short)
