"""Save and load the state of a run: weights, optimizer and progress, written atomically and restored exactly."""

import dataclasses
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posecascade import files
from posecascade.backend import keras
from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.inference.predictor import CHECKPOINTS

STATE = "state.npz"
BEST, LAST = CHECKPOINTS
FORMAT = 1
_HEADER = "header"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, TypeError, RuntimeError)


@dataclass
class Progress:
    """What the next step and the log of a run depend on, apart from the variables.

    Attributes:
        step: steps done.
        best: highest validation result so far, None before the first.
        sums: sum of each loss over the steps of the current epoch, and "steps", their number.
        history: the log's row of each finished epoch.
        unreadable: a message for each image that could not be read.
        planned: steps of the run as it was first started, None if no epochs were added since.
    """

    step: int = 0
    best: float | None = None
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    planned: int | None = None


def save_state(folder: Path, network: keras.Model, optimizer: keras.optimizers.Optimizer, progress: Progress,
               identity: Mapping) -> None:
    """Write FOLDER/state.npz atomically: weights, batch-norm statistics, the optimizer's slots and averages.

    Args:
        identity: JSON values that a run must share to resume from this state.
    """
    header = {"format": FORMAT, "progress": dataclasses.asdict(progress), "identity": identity}
    arrays: dict[str, Any] = {_HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8)}
    arrays |= {f"{piece}/{i}": keras.ops.convert_to_numpy(variable)
               for piece, owner in (("network", network), ("optimizer", optimizer))
               for i, variable in enumerate(owner.variables)}
    with files.atomic_write(folder / STATE) as draft:
        np.savez(draft, **arrays)


def read_header(folder: Path) -> tuple[Progress, dict] | None:
    """Return the progress and identity of the state in FOLDER, None if there is none.

    Raises InputError if the file is corrupt or of another format.
    """
    path = folder / STATE
    if not path.exists():
        return None
    with _opened(path) as archive:
        header = json.loads(archive[_HEADER].tobytes())
        if header["format"] != FORMAT:
            raise InputError(f"{path}: has format {header['format']}, expected {FORMAT}; train into another "
                             "--model_dir")
        return Progress(**header["progress"]), header["identity"]


def load_state(folder: Path, piece: str, variables: Sequence[keras.Variable]) -> None:
    """Set the variables of a piece, "network" or "optimizer", to the values saved in FOLDER.

    Raises InputError if these are corrupt or have other shapes.
    """
    path = folder / STATE
    with _opened(path) as archive:
        count = sum(name.startswith(f"{piece}/") for name in archive.files)
        arrays = [archive[f"{piece}/{i}"] for i in range(count)]
    if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
        raise InputError(f"{path}: holds {len(arrays)} arrays of the {piece}, expected {len(variables)} of this "
                         "recipe's shapes; train into another --model_dir")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def restore_best(folder: Path, progress: Progress, log: Callable[[str], None]) -> None:
    """Replace a best model that is missing or damaged by the last one, and log a warning.

    The last model's result becomes the best so far. If the last one is damaged too, or was not validated, the next
    result is the best.
    """
    faults = {name: _fault(folder / name) for name in CHECKPOINTS}
    if progress.best is None or not faults[BEST]:
        return
    progress.best = None
    if faults[LAST]:
        log(f"warning: {faults[BEST]}. {faults[LAST]}. The next validated epoch is the best")
        return
    with files.atomic_write(folder / BEST) as draft:
        shutil.copyfile(folder / LAST, draft)
    row = keras_file.load_metadata(folder / LAST).result
    progress.best = row.get("result")
    log(f"warning: {faults[BEST]}. {BEST} is now {LAST}, the model of epoch {row.get('epoch')}")


def _fault(path: Path) -> str:
    """Return what is wrong with a model's file, every byte of which is checked, or an empty text."""
    try:
        keras_file.load_metadata(path)
    except InputError as error:
        return str(error)
    return ""


def finite(variables: Sequence[keras.Variable]) -> bool:
    """Return whether no value is NaN or infinite."""
    return all(np.isfinite(keras.ops.convert_to_numpy(keras.ops.sum(keras.ops.cast(v, "float32")))) or
               np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in variables)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the arrays of the file by name; errors of reading them become an InputError."""
    try:
        with open(path, "rb") as file, np.load(file) as archive:  # np.load leaves a damaged file open that it opened
            yield archive
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path}: is corrupt or incomplete ({' '.join(str(error).split())[:120]}); delete it to start "
                         "over, or train into another --model_dir") from None
