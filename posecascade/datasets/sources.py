"""Shared functions of the readers: open annotation files with clear errors, and split data sets that have no split."""

import io
import json
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from posecascade.datasets import contents
from posecascade.errors import InputError
from posecascade.files import did_you_mean, expanded, read_bytes
from posecascade.records import Record

SPLITS = ("train", "val", "test", "all")
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
HEAD_SIZE_FACTOR = 0.6  # MPII toolkit: head size divided by the diagonal of the head box
HELD_OUT = 18  # one image in 18 is kept for validation, such as the last 500 of 9,000 in LSPET

# The exceptions that scipy was seen to raise for truncated or damaged MATLAB files.
_DAMAGED = (MatReadError, ValueError, TypeError, LookupError, ArithmeticError, OSError, EOFError, MemoryError,
            AttributeError, NameError, zlib.error, struct.error)


def splits_in(name: str) -> set[str]:
    """Return the splits that words of a file's or folder's name stand for.

    >>> splits_in("My_Train2017"), splits_in("training") | splits_in("valid"), splits_in("images")
    ({'train'}, {'train', 'val'}, set())
    """
    return {SPLIT_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLIT_WORDS}


def checked_split(split: str) -> str:
    """Return `split` itself. Raises InputError if it is not one of SPLITS."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
    return split


def hold_out(records: Sequence[Record], split: str) -> list[Record]:
    """Return one split of a data set without an official one; people of the same image are kept together.

    "val" is the people of the last 1 / HELD_OUT of the images, in the order of the file (at least one image if there
    are two or more); "train" is the others; "test" and "all" are everybody.
    """
    if checked_split(split) in ("test", "all"):
        return list(records)
    images = list(dict.fromkeys(record.image_name for record in records))
    if len(images) == 1 and split == "val":
        raise InputError(f"{records[0].origin}: is of the only image with labeled people, {images[0]}; expected two or "
                         "more, because one is kept for validation. Add images; to evaluate, pass --split=all")
    kept = len(images) - max(len(images) // HELD_OUT, int(len(images) > 1))
    chosen = set(images[:kept] if split == "train" else images[kept:])
    return [record for record in records if record.image_name in chosen]


def existing(root: str, kind: str, layout: str) -> Path:
    """Return ROOT as a path. If it does not exist, raises InputError with what the type `kind` expects there."""
    path = Path(expanded(root))
    if not root or not path.exists():
        raise InputError(f"{kind}: {root!r} does not exist; give {layout}")
    return path


def load_mat(path: Path, field: str, **options) -> dict:
    """Return the variables of a MATLAB file (up to version 7.2).

    Raises InputError if the file is missing, truncated or not a MATLAB file, or has no variable `field`.
    """
    data = read_bytes(path)
    try:
        variables = scipy.io.loadmat(io.BytesIO(data), **options)
    except NotImplementedError:  # raised by scipy for the HDF5-based version 7.3
        raise InputError(f"{path}: is a MATLAB 7.3 file; save it again in MATLAB with -v7") from None
    except _DAMAGED as error:
        other = contents.other_than("MATLAB", data)
        raise InputError(f"{path}: {other}" if other else f"{path}: is not a complete MATLAB file "
                         f"({type(error).__name__}: {error}); copy or unpack it again") from None
    if field not in variables:
        names = ", ".join(sorted(key for key in variables if not key.startswith("__"))) or "nothing"
        raise InputError(f"{path}: has no variable {field!r}, found {names}; give the release's own file")
    return variables


def mat_numbers(path: Path, variables: dict, field: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return variable `field` as float64. Raises InputError unless it is numeric and of `shape` (None: any length)."""
    value = np.asarray(variables.get(field))
    expected = "(" + ", ".join("N" if side is None else str(side) for side in shape) + ")"
    if value.dtype.kind not in "fiub" or value.ndim != len(shape) or any(
            side not in (None, length) for side, length in zip(shape, value.shape, strict=True)):
        raise InputError(f"{path}: {field!r} is {value.dtype} of shape {value.shape}, expected numbers of shape "
                         f"{expected}; give the release's own file")
    return value.astype(np.float64)


def labeled_keypoints(origin: str, keypoints: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the keypoints (N, 2) whose code is not 0. Raises InputError if there are none, or if one is NaN."""
    labeled = keypoints[codes > 0]
    if not len(labeled) or not np.isfinite(labeled).all():
        raise InputError(f"{origin}: has {'a keypoint that is NaN' if len(labeled) else 'no labeled keypoint'}; "
                         "fix the file")
    return labeled


def load_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises InputError if the file is missing, truncated or not JSON."""
    data = read_bytes(path)
    try:
        return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        other = contents.other_than("JSON", data)
        raise InputError(f"{path}: {other or contents.json_fault(data, error)}") from None
