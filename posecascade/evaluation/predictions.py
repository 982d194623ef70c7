"""Predictions for a list of records, and the readers of prediction files that others made."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import h5py
import numpy as np
from scipy.optimize import linear_sum_assignment

from posecascade.datasets.sources import load_json, load_mat
from posecascade.errors import InputError
from posecascade.files import did_you_mean, read_bytes
from posecascade.geometry import Box
from posecascade.records import Record

FIELDS = ("pred", "preds")  # what the paper's, DeeperCut's, pytorch-pose's and HRNet's evaluations call the array
HDF5_SIGN = b"\x89HDF\r\n\x1a\n"
HDF5_SIGN_AT = (0, 512)  # MATLAB 7.3 puts a text header of 512 bytes before it


@dataclass(frozen=True)
class Predictions:
    """What somebody predicted for N records of one schema, joints in its order.

    Attributes:
        stages: name of each stage -> (N, K, 2) float64, image pixels as in the records; the last is the result.
            Anything not finite was not predicted, which is a miss.
        scores: (N, K) or None.
        visibility: (N, K) in 0..1, or None.
        known: (K,) bool: the joints that are predicted at all; the others are not counted.
        readable: (N,) bool: people whose picture could be read; the others are not counted.
        missing: people for whom the predictions have nothing; their joints are misses.
        skipped: names of the unreadable pictures.
    """

    stages: Mapping[str, np.ndarray]
    scores: np.ndarray | None
    visibility: np.ndarray | None
    known: np.ndarray
    readable: np.ndarray
    missing: int = 0
    skipped: tuple[str, ...] = ()


def read_predictions(path: Path | str, records: Sequence[Record], *, first_pixel: float = 0) -> Predictions:
    """The predictions in a file for these people, all of one schema.

    Args:
        path: by its suffix, one of FORMATS. JSON lines name their joints and hold pixels counted from 0; arrays have
            the joints of the records' schema in its order and one entry per record, in the data set's order.
        first_pixel: where the arrays begin to count, as the data set's own files (`datasets.FIRST_PIXEL`).

    Raises InputError for what cannot be read, and where the people or joints are not those of the records.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--predictions={path}: unknown suffix {path.suffix!r}; {did_you_mean(path.suffix, FORMATS)}")
    return FORMATS[path.suffix.lower()](path, records, first_pixel)


def _mat(path, records, first_pixel):
    data = read_bytes(path)
    if any(data[at:at + len(HDF5_SIGN)] == HDF5_SIGN for at in HDF5_SIGN_AT):
        return _hdf5(path, records, first_pixel)
    variables = load_mat(path, "__header__")  # which every version 5 file has; `_field` looks for the array
    return _from_array(path, variables[_field(path, variables)], records, first_pixel)


def _hdf5(path, records, first_pixel):
    try:
        with h5py.File(io.BytesIO(read_bytes(path)), "r") as file:
            values = file[_field(path, file)]
            array = values[()] if isinstance(values, h5py.Dataset) else None
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: is no whole HDF5 file ({error}); copy it again") from None
    return _from_array(path, array, records, first_pixel)


def _json(path, records, first_pixel):
    content = load_json(path)
    values = content[_field(path, content)] if isinstance(content, dict) else content
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: holds no regular array of numbers; expected (N, K, 2) as nested lists, "
                         "or use JSON lines with the suffix .jsonl") from None
    return _from_array(path, array, records, first_pixel)


def _field(path: Path, names) -> str:
    found = [name for name in FIELDS if name in names]
    if not found:
        others = ", ".join(sorted(n for n in names if not n.startswith("__"))[:8]) or "nothing"
        raise InputError(f"{path}: has neither {' nor '.join(map(repr, FIELDS))}, found {others}; "
                         "rename the predictions' array")
    return found[0]


def _from_array(path, array, records, first_pixel) -> Predictions:
    people, schema = len(records), records[0].schema
    array = np.asarray(array) if array is not None else np.empty(())
    if people == 1 and array.ndim == 2:  # MATLAB drops the last axis of a single person
        array = array[..., None] if array.shape[1] == schema.size else array[None]
    # (person, joint, axis) as NumPy writes it, (axis, joint, person) as MATLAB does; a third value is a score.
    layouts = {(people, schema.size, 2): (0, 1, 2), (people, schema.size, 3): (0, 1, 2),
               (2, schema.size, people): (2, 1, 0), (3, schema.size, people): (2, 1, 0)}
    if array.dtype.kind not in "fiu" or array.shape not in layouts:
        raise InputError(f"{path}: holds {array.dtype} of shape {array.shape}, expected numbers of shape ({people}, "
                         f"{schema.size}, 2) or (2, {schema.size}, {people}): {people} people of this split, "
                         f"{schema.size} joints of {schema.name}; choose --split, or name the joints in JSON lines")
    if people in (2, 3) and array.shape in ((2, schema.size, 2), (3, schema.size, 3)):
        raise InputError(f"{path}: shape {array.shape} does not tell people from coordinates; use JSON lines")
    values = array.transpose(layouts[array.shape]).astype(np.float64)
    everybody = np.ones(people, bool)
    return Predictions({"keypoints": values[..., :2] - first_pixel}, values[..., 2] if values.shape[2] == 3 else None,
                       None, np.ones(schema.size, bool), everybody)


def _lines(path, records, first_pixel) -> Predictions:
    schema = records[0].schema
    lines = [_line(f"{path}, line {number}", text)
             for number, text in enumerate(_text(path).splitlines(), 1) if text.strip()]
    named = {name for line in lines for name in line["keypoints"]}
    if not named & set(schema.keypoints):
        raise InputError(f"{path}: names none of the joints of schema {schema.name!r} (found "
                         f"{', '.join(sorted(named)[:4]) or 'no joint'}); expected names like {schema.keypoints[0]!r}")
    table = np.full((len(records), schema.size, 4), np.nan)
    chosen = _matched(path, lines, records)
    for row, index in zip(table, chosen, strict=True):
        if index >= 0:
            for joint, name in enumerate(schema.keypoints):
                values = lines[index]["keypoints"].get(name) or ()
                row[joint, :len(values)] = values
    known = np.array([name in named for name in schema.keypoints])
    return Predictions({"keypoints": table[..., :2]}, _unless_nan(table[..., 2], known),
                       _unless_nan(table[..., 3], known), known, np.ones(len(records), bool),
                       missing=int((chosen < 0).sum()))


def _text(path):
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start}); "
                         "give JSON lines") from None


def _line(origin: str, text: str) -> dict:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}: is no JSON ({error}); mend or remove the line") from None
    if not isinstance(line, dict) or not isinstance(line.get("image"), str) \
            or not isinstance(line.get("keypoints"), dict):
        raise InputError(f'{origin}: expected {{"image": PATH, "box": [x, y, w, h], "keypoints": '
                         "{NAME: [x, y, score, visibility]}}; mend the line")
    for name, values in line["keypoints"].items():
        if values is not None and not (_numbers(values) and 2 <= len(values) <= 4):
            raise InputError(f"{origin}: joint {name!r} holds {values!r}, expected [x, y, score, visibility]; "
                             "mend the line")
    box = line.get("box")
    if box is not None and not (_numbers(box) and len(box) == 4 and np.isfinite(box).all() and min(box[2:]) > 0):
        raise InputError(f"{origin}: 'box' holds {box!r}, expected [x, y, w, h] with w, h > 0; mend the line")
    return line


def _numbers(values) -> bool:
    return isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _unless_nan(values, known):
    """The values where any joint has one; joints without one get 0."""
    return np.nan_to_num(values) if np.isfinite(values[:, known]).any() else None


def _matched(path, lines, records) -> np.ndarray:
    """(N,) int: the line of each record, or -1: by the picture's name, then by overlap of boxes, else by order."""
    if all(record.image is None for record in records):
        if len(lines) != len(records):
            raise InputError(f"{path}: has {len(lines)} lines, the data {len(records)} people and no pictures to "
                             "match by; write one line for each person of this split, in its order")
        return np.arange(len(records))
    names = [record.image_name for record in records]
    parts = _telling_parts(names)
    of_image: dict[tuple, list[int]] = {}
    for index, line in enumerate(lines):
        of_image.setdefault(_tail(line["image"], parts), []).append(index)
    people: dict[tuple, list[int]] = {}
    for index, name in enumerate(names):
        people.setdefault(_tail(name, parts), []).append(index)
    chosen = np.full(len(records), -1)
    for image in people.keys() & of_image.keys():
        for person, line in _pairs(path, people[image], of_image[image], records, lines):
            chosen[person] = line
    if (chosen < 0).all():
        raise InputError(f"{path}: none of its {len(lines)} pictures (the first: {lines[0]['image']!r}) is in the "
                         f"data (the first: {names[0]!r}); choose another --data or --split")
    return chosen


def _tail(name: str, parts: int) -> tuple[str, ...]:
    return PurePath(name).parts[-parts:]


def _telling_parts(names: Sequence[str]) -> int:
    """How many parts of a path, from its end, tell all the pictures apart."""
    different = set(names)
    longest = max(len(PurePath(name).parts) for name in different)
    return next((n for n in range(1, longest) if len({_tail(name, n) for name in different}) == len(different)),
                longest)


def _pairs(path, people, found, records, lines):
    """(person, line) of one picture."""
    if len(people) == len(found) == 1:
        return [(people[0], found[0])]
    if all(lines[index].get("box") for index in found):
        overlap = np.array([[records[p].box.iou(Box(*lines[i]["box"])) for i in found] for p in people])
        return [(people[p], found[i]) for p, i in zip(*linear_sum_assignment(-overlap), strict=True)
                if overlap[p, i] > 0]
    if len(people) != len(found):
        raise InputError(f"{path}: has {len(found)} lines for {lines[found[0]]['image']!r}, the data {len(people)} "
                         "people there; give each line its 'box'")
    return list(zip(people, found, strict=True))


FORMATS = {".jsonl": _lines, ".mat": _mat, ".h5": _hdf5, ".hdf5": _hdf5, ".json": _json}
