"""Test that a run's state is restored bit for bit, that corrupt files are refused, and that old states survive."""

import json
import re

import keras
import numpy as np
import pytest
from keras import layers

from posecascade.errors import InputError
from posecascade.training import checkpoints
from posecascade.training.checkpoints import STATE, Progress
from posecascade.training.optimizers import OPTIMIZERS, make_optimizer

IDENTITY = {"recipe": {"training": {"seed": 1}}, "data": "abc", "backend": "x"}
PROGRESS = Progress(7, 12.5, {"loss": 0.1 + 0.2, "steps": 3}, [{"epoch": 1, "result": 1 / 3, "best": 1}], ["a.jpg"])


def small_model():
    image = keras.Input((4, 4, 3))
    return keras.Model(image, layers.BatchNormalization()(layers.Conv2D(2, 3)(image)))


def trained(name="adamw", ema=0.9, seed=0):
    """Return a model and its optimizer after two steps, which have changed every variable."""
    keras.utils.set_random_seed(seed)
    model = small_model()
    optimizer = make_optimizer(name, learning_rate=0.1, momentum=0.9, weight_decay=0.01, clip_norm=1.0, ema_decay=ema,
                               rates={})
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor(rng.normal(size=v.shape).astype("float32"))
                         for v in model.trainable_variables])
    return model, optimizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a state, and its model and optimizer."""
    folder = tmp_path_factory.mktemp("run")
    model, optimizer = trained()
    checkpoints.save_state(folder, model, optimizer, PROGRESS, IDENTITY)
    return folder, model, optimizer


def arrays(owner):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in owner.variables]


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_restored_bit_for_bit(name, ema, tmp_path):
    model, optimizer = trained(name, ema)
    checkpoints.save_state(tmp_path, model, optimizer, PROGRESS, IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert checkpoints.read_header(tmp_path) == (PROGRESS, IDENTITY)
    other, its = trained(name, ema, seed=1)
    checkpoints.load_state(tmp_path, "network", other.variables)
    checkpoints.load_state(tmp_path, "optimizer", its.variables)
    for mine, theirs in zip(arrays(model) + arrays(optimizer), arrays(other) + arrays(its), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_folder_without_a_state_gives_none(tmp_path):
    assert checkpoints.read_header(tmp_path) is None
    assert checkpoints.read_header(tmp_path / "nowhere") is None


def test_failed_write_keeps_the_older_state(saved, tmp_path, monkeypatch):
    _, model, optimizer = saved
    checkpoints.save_state(tmp_path, model, optimizer, PROGRESS, IDENTITY)
    before = (tmp_path / STATE).read_bytes()

    def full(path, **content):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_state(tmp_path, model, optimizer, Progress(8), IDENTITY)
    assert (tmp_path / STATE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


@pytest.mark.parametrize(("content", "problem"), [
    (b"", "EOF|No data|cannot|empty"), (b"no zip at all", "pickle"), (b"PK\x03\x04 and no more", "zip"),
    (b"\x93NUMPY\x01\x00", "EOF|header|expected")], ids=["empty", "text", "zip", "npy"])
def test_foreign_file_is_refused_in_one_line(content, problem, tmp_path):
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(InputError) as error:
        checkpoints.read_header(tmp_path)
    begin, end = f"{tmp_path / STATE}: is corrupt or incomplete (", \
        "); delete it to start over, or train into another --model_dir"
    message = str(error.value)
    assert message.startswith(begin) and message.endswith(end) and "\n" not in message
    assert re.search(problem, message[len(begin):-len(end)], re.IGNORECASE)


def test_another_format_is_refused(saved, tmp_path):
    with np.load(saved[0] / STATE) as archive:
        content = dict(archive)
    header = json.loads(content["header"].tobytes()) | {"format": 99}
    np.savez(tmp_path / STATE, **content | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(InputError) as error:
        checkpoints.read_header(tmp_path)
    assert str(error.value) == (f"{tmp_path / STATE}: has format 99, expected 1; train into another "
                                "--model_dir")


def test_state_of_another_network_is_refused_and_nothing_is_assigned(saved):
    folder, model, optimizer = saved
    before = arrays(model)
    with pytest.raises(InputError) as error:
        checkpoints.load_state(folder, "network", model.variables[:-1])
    assert str(error.value) == (f"{folder / STATE}: holds {len(model.variables)} arrays of the network, expected "
                                f"{len(model.variables) - 1} of this recipe's shapes; train into another --model_dir")
    with pytest.raises(InputError, match="arrays of the optimizer"):
        checkpoints.load_state(folder, "optimizer", optimizer.variables[::-1])
    for mine, theirs in zip(before, arrays(model), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.999])
def test_truncated_state_is_refused(saved, share, tmp_path):
    data = (saved[0] / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(data[:int(share * len(data))])
    with pytest.raises(InputError, match="is corrupt or incomplete"):
        checkpoints.read_header(tmp_path)


def test_flipped_bit_is_refused_or_harmless(saved, tmp_path, rng):
    """It never raises another exception and never gives other numbers."""
    data, refused = (saved[0] / STATE).read_bytes(), 0
    model, optimizer = trained(seed=1)
    expected = arrays(saved[1]) + arrays(saved[2])
    positions = [*range(40), *rng.integers(0, len(data), 100), *range(len(data) - 60, len(data))]
    for position in positions:
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        (tmp_path / STATE).write_bytes(flipped)
        try:
            assert checkpoints.read_header(tmp_path) == (PROGRESS, IDENTITY)
            checkpoints.load_state(tmp_path, "network", model.variables)
            checkpoints.load_state(tmp_path, "optimizer", optimizer.variables)
        except InputError:
            refused += 1
            continue
        for mine, theirs in zip(expected, arrays(model) + arrays(optimizer), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert refused > len(positions) / 3  # at least those in the arrays


@pytest.mark.parametrize(("value", "good"), [
    ([1.0, 2.0], True), ([3e38, 3e38], True), ([1.0, np.nan], False), ([np.inf, 0.0], False),
    ([np.inf, -np.inf], False)])
def test_finite_detects_nan_and_infinity_but_accepts_large_sums(value, good):
    variables = [keras.Variable(np.zeros(3, "float32")), keras.Variable(np.array(value, "float32")),
                 keras.Variable(np.array(5, "int64"), dtype="int64")]
    assert checkpoints.finite(variables) is good
