"""Checkpoints of PyTorch before 1.6: read without it, and nothing in them is executed."""

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
    """What a pickle calls a tensor: a part of a storage."""

    def __init__(self, key, offset, shape, strides):
        self.key, self.arguments = key, (offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return rebuild, (Storage(self.key), *self.arguments)


class Storage:
    """Pickled by its key alone."""

    def __init__(self, key):
        self.key = key


class Writer(pickle.Pickler):
    """Writes storages as persistent names, as torch does."""

    def persistent_id(self, value):
        return ("storage", FloatStorage, value.key, "cpu", 6, None) if isinstance(value, Storage) else None


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a state dict and its storages as torch.save did; gives the path."""
    for thing in (FloatStorage, rebuild):  # pickle looks its names up before it writes them
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
    path = write({"plain": Tensor("7", 0, (2, 3), (3, 1)), "turned": Tensor("7", 0, (3, 2), (1, 3)),
                  "later": Tensor("8", 2, (2,), (1,)), "number": Tensor("8", 1, (), ())},
                 {"7": range(6), "8": [5, 6, 7, 8]})
    found = read_checkpoint(path)
    np.testing.assert_array_equal(found["plain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["later"], [7, 8])
    assert found["number"] == 6 and found["plain"].dtype == np.float32


@pytest.mark.parametrize(("offset", "shape", "strides"), [(1, (2, 3), (3, 1)), (0, (2,), (6,)), (-1, (2,), (1,)),
                                                          (0, (2,), (-1,))])
def test_a_tensor_cannot_reach_beyond_its_storage(write, offset, shape, strides):
    with pytest.raises(ValueError, match="a tensor reaches beyond its storage"):
        read_checkpoint(write({"a": Tensor("7", offset, shape, strides)}, {"7": range(6)}))


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_code_in_the_file_is_refused(write):
    with pytest.raises(ValueError, match=r"no checkpoint of the old format \(__builtin__.exec is not allowed\)"):
        read_checkpoint(write({"a": Evil()}, {}))


def test_other_and_shortened_files_are_refused(write, tmp_path):
    with pytest.raises(ValueError, match="wrong mark at its begin"):
        read_checkpoint(write({}, {}, magic=1))
    whole = write({"a": Tensor("7", 0, (6,), (1,))}, {"7": range(6)}).read_bytes()
    short = tmp_path / "short.pth"
    for length in range(0, len(whole), 7):
        short.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read_checkpoint(short)
