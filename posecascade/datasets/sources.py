"""What the readers share: opening annotation files with clear errors, and splits where a data set has none."""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from posecascade.errors import InputError
from posecascade.files import did_you_mean, read_bytes
from posecascade.records import Record

SPLITS = ("train", "val", "test", "all")
HELD_OUT = 18  # one image in so many is kept for validation: the last 500 of LSPET's 9,000

# What scipy was seen to raise on MATLAB files that are cut short or damaged.
_DAMAGED = (MatReadError, ValueError, TypeError, LookupError, ArithmeticError, OSError, EOFError, MemoryError,
            AttributeError, NameError, zlib.error, struct.error)


def checked_split(split: str) -> str:
    """`split` itself; InputError where it is none of SPLITS."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
    return split


def hold_out(records: Sequence[Record], split: str) -> list[Record]:
    """A split for data sets that have no official one, people of the same image kept together.

    "val" is the people of the last 1 / HELD_OUT of the images (at least one of two or more), in the order of the
    file, "train" the others; "test" and "all" are everybody.
    """
    if checked_split(split) in ("test", "all"):
        return list(records)
    images = list(dict.fromkeys(record.image_name for record in records))
    kept = len(images) - max(len(images) // HELD_OUT, int(len(images) > 1))
    wanted = set(images[:kept] if split == "train" else images[kept:])
    return [record for record in records if record.image_name in wanted]


def existing(root: str, kind: str, layout: str) -> Path:
    """ROOT as a path; InputError, saying what `kind` expects there, where nothing exists."""
    path = Path(root).expanduser()
    if not root or not path.exists():
        raise InputError(f"{kind}: {root!r} does not exist; give {layout}")
    return path


def load_mat(path: Path, field: str, **options) -> dict:
    """The variables of a MATLAB file (up to version 7.2) that holds `field`.

    Raises InputError where the file is missing, cut short, no MATLAB file, or without `field`.
    """
    try:
        variables = scipy.io.loadmat(io.BytesIO(read_bytes(path)), **options)
    except NotImplementedError:  # scipy's word for the HDF5-based version 7.3
        raise InputError(f"{path}: is a MATLAB 7.3 file; save it again in MATLAB with -v7") from None
    except _DAMAGED as error:
        raise InputError(f"{path}: is no whole MATLAB file ({type(error).__name__}: {error}); "
                         "copy or unpack it again") from None
    if field not in variables:
        found = ", ".join(sorted(key for key in variables if not key.startswith("__"))) or "nothing"
        raise InputError(f"{path}: has no variable {field!r}, found {found}; give the release's own file")
    return variables


def mat_numbers(path: Path, variables: dict, field: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Variable `field` as float64; InputError unless it is numeric and of `shape` (None: any length)."""
    value = np.asarray(variables.get(field))
    wanted = "(" + ", ".join("N" if side is None else str(side) for side in shape) + ")"
    if value.dtype.kind not in "fiub" or value.ndim != len(shape) or any(
            side not in (None, found) for side, found in zip(shape, value.shape, strict=True)):
        raise InputError(f"{path}: {field!r} is {value.dtype} of shape {value.shape}, expected numbers of shape "
                         f"{wanted}; give the release's own file")
    return value.astype(np.float64)


def load_json(path: Path) -> Any:
    """The value in a JSON file; InputError where it is missing, cut short or no JSON."""
    try:
        return json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no whole JSON file ({error}); copy or unpack it again") from None
