"""Predictions for a list of records, and readers of prediction files (JSON lines, MATLAB, HDF5, JSON)."""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from posecascade.datasets.sources import load_json, load_mat
from posecascade.errors import InputError
from posecascade.evaluation import coco_results, matching
from posecascade.evaluation.coco_results import Instance
from posecascade.evaluation.json_lines import read_lines
from posecascade.files import did_you_mean, read_bytes
from posecascade.geometry import Affine, moved_box
from posecascade.images import ImageFile
from posecascade.records import Record
from posecascade.schema import Schema

FIELDS = ("pred", "preds")  # names of the array in the files of the paper, DeeperCut, pytorch-pose and HRNet
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HDF5_MAGIC_OFFSETS = (0, 512)  # MATLAB 7.3 puts a text header of 512 bytes before it


@dataclass(frozen=True)
class Predictions:
    """Predictions for N records of one schema, keypoints in its order.

    Attributes:
        stages: name of each stage -> (N, K, 2) float64, image pixels as in the records; the last stage is the result.
            Not finite if not predicted, which counts as a miss.
        scores: (N, K) or None.
        visibility: (N, K) in 0..1, or None.
        known: (K,) bool: whether a keypoint is predicted for anyone; the others are not counted.
        readable: (N,) bool: whether the person's image could be read; the others are not counted.
        missing: number of people without a prediction; their keypoints count as misses.
        skipped: names of the unreadable images.
        instances: everybody that was predicted in the images, for COCO's AP; None if that is one person per record.
    """

    stages: Mapping[str, np.ndarray]
    scores: np.ndarray | None
    visibility: np.ndarray | None
    known: np.ndarray
    readable: np.ndarray
    missing: int = 0
    skipped: tuple[str, ...] = ()
    instances: tuple[Instance, ...] | None = None


def read_predictions(path: Path | str, records: Sequence[Record], *, first_pixel: float = 0) -> Predictions:
    """Read predictions for these people, all of one schema, from a file.

    Args:
        path: a file with one of the suffixes of FORMATS. JSON lines have keypoints by name, in pixels of the upright
            image counted from 0. Arrays have one entry per record, in the data set's order, and the keypoints of the
            schema in its order.
        records: the people, all of one schema.
        first_pixel: coordinate of the first pixel in arrays, 0 or 1, as in the data set's own annotation files
            (`datasets.FIRST_PIXEL`).

    Raises InputError if the file cannot be read, or if its people or keypoints do not match the records.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--predictions={path}: unknown suffix {path.suffix!r}; {did_you_mean(path.suffix, FORMATS)}")
    return FORMATS[path.suffix.lower()](path, records, first_pixel)


def _mat(path, records, first_pixel):
    data = read_bytes(path)
    if any(data[offset:offset + len(HDF5_MAGIC)] == HDF5_MAGIC for offset in HDF5_MAGIC_OFFSETS):
        return _hdf5(path, records, first_pixel)
    variables = load_mat(path, "__header__")  # present in every version 5 file; `_field` selects the array
    return _from_array(path, variables[_field(path, variables)], records, first_pixel)


def _hdf5(path, records, first_pixel):
    try:
        with h5py.File(io.BytesIO(read_bytes(path)), "r") as file:
            values = file[_field(path, file)]
            array = values[()] if isinstance(values, h5py.Dataset) else None
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: is not a complete HDF5 file ({error}); copy it again") from None
    return _from_array(path, array, records, first_pixel)


def _json(path, records, first_pixel):
    content = load_json(path)
    if coco_results.are_results(content):
        return from_instances(path, coco_results.results_from(path, content, records[0].schema), records)
    values = content[_field(path, content)] if isinstance(content, dict) else content
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: is not a regular array of numbers; expected (N, K, 2) as nested lists. "
                         "Or write JSON lines with the suffix .jsonl") from None
    return _from_array(path, array, records, first_pixel)


def from_instances(origin: Path | str, instances: Sequence[Instance], records: Sequence[Record],
                   known: np.ndarray | None = None, skipped: Sequence[str] = ()) -> Predictions:
    """Return several people per image as Predictions; each record gets the person whose box overlaps its own most.

    Args:
        origin: where the people come from, for messages.
        instances: keypoints in the records' schema; images are numbered as in `matching.image_ids`.
        records: the people of the data set.
        known: (K,) bool, as in `Predictions`; None if all keypoints are predicted.
        skipped: names of the unreadable images.

    Raises InputError if no instance is near a person of the records.
    """
    matching.check_numbered(records, origin)
    schema = records[0].schema
    chosen = matching.matched_by_id([i.image_id for i in instances], [i.box for i in instances], records)
    if (chosen < 0).all():
        first = f" (the first is in image {instances[0].image_id})" if instances else ""
        raise InputError(f"{origin}: none of its {len(instances)} people{first} overlaps a person of the data (the "
                         f"first is in image {matching.image_ids(records)[0]}); choose another --data or --split")
    points = np.full((len(records), schema.size, 2), np.nan)
    for row, index in zip(points, chosen, strict=True):
        if index >= 0:
            row[:] = instances[index].keypoints[:, :2]
    readable = ~np.isin([record.image_name for record in records], list(skipped))
    return Predictions({"keypoints": points}, None, None, np.ones(schema.size, bool) if known is None else known,
                       readable, int((chosen[readable] < 0).sum()), tuple(skipped), tuple(instances))


def as_results(predictions: Predictions, records: Sequence[Record], origin: Path | str) -> list[dict]:
    """Return the predictions for these records in COCO's results layout, without people that were not predicted.

    Raises InputError, beginning with `origin`, if the images have no numbers.
    """
    matching.check_numbered(records, origin)
    if predictions.instances is not None:
        return [coco_results.result(i.image_id, i.keypoints, i.score) for i in predictions.instances]
    points = predictions.stages[list(predictions.stages)[-1]]
    scores = np.ones(points.shape[:2]) if predictions.scores is None else predictions.scores
    ids = matching.image_ids(records)
    return [coco_results.result(ids[i], np.column_stack([points[i], scores[i]]), scores[i, predictions.known].mean())
            for i in range(len(records)) if np.isfinite(points[i]).all(-1).any()]


def _field(path: Path, names) -> str:
    present = [name for name in FIELDS if name in names]
    if not present:
        others = ", ".join(sorted(n for n in names if not n.startswith("__"))[:8]) or "no variable"
        raise InputError(f"{path}: contains {others}; expected {' or '.join(map(repr, FIELDS))}. "
                         "Rename the array of predictions")
    return present[0]


def _from_array(path, array, records, first_pixel) -> Predictions:
    people, schema = len(records), records[0].schema
    array = np.asarray(array) if array is not None else np.empty(())
    if people == 1 and array.ndim == 2:  # MATLAB drops the last axis of a single person
        array = array[..., None] if array.shape[1] == schema.size else array[None]
    # NumPy writes (person, keypoint, axis), MATLAB (axis, keypoint, person); a third value per keypoint is its score.
    layouts = {(people, schema.size, 2): (0, 1, 2), (people, schema.size, 3): (0, 1, 2),
               (2, schema.size, people): (2, 1, 0), (3, schema.size, people): (2, 1, 0)}
    if array.dtype.kind not in "fiu" or array.shape not in layouts:
        raise InputError(f"{path}: is {array.dtype} of shape {array.shape}; expected numbers of shape ({people}, "
                         f"{schema.size}, 2) or (2, {schema.size}, {people}), for {people} people of this split and "
                         f"{schema.size} keypoints of {schema.name}. Choose another --split, or write JSON lines with "
                         "named keypoints")
    if people in (2, 3) and array.shape in ((2, schema.size, 2), (3, schema.size, 3)):
        raise InputError(f"{path}: shape {array.shape} is ambiguous: the axes of people and of coordinates cannot be "
                         "distinguished. Write JSON lines")
    values = array.transpose(layouts[array.shape]).astype(np.float64)
    return Predictions({"keypoints": values[..., :2] - first_pixel}, values[..., 2] if values.shape[2] == 3 else None,
                       None, np.ones(schema.size, bool), readable=np.ones(people, bool))


def _lines(path, records, first_pixel) -> Predictions:
    schema = records[0].schema
    lines = read_lines(path)
    named = {name for line in lines for name in line["keypoints"]}
    if not named & set(schema.keypoints):
        raise InputError(f"{path}: has {', '.join(sorted(named)[:4]) or 'no keypoints'}; expected keypoints of schema "
                         f"{schema.name!r}, such as {schema.keypoints[0]!r}")
    to_upright = _maps_to_upright(records)
    chosen = matching.matched_by_name(path, lines, [
        replace(record, box=moved_box(record.box, to)) if to else record
        for record, to in zip(records, to_upright, strict=True)])
    table = np.full((len(records), schema.size, 4), np.nan)
    for row, index, to in zip(table, chosen, to_upright, strict=True):
        if index >= 0:
            row[:] = _keypoints(lines[index], schema, to)
    known = np.array([name in named for name in schema.keypoints])
    return Predictions({"keypoints": table[..., :2]}, _unless_nan(table[..., 2], known),
                       _unless_nan(table[..., 3], known), known, np.ones(len(records), bool),
                       missing=int((chosen < 0).sum()), instances=_everybody(lines, records, to_upright, chosen, known))


def _keypoints(line: dict, schema: Schema, to_upright: Affine | None) -> np.ndarray:
    """Return (K, 4): x and y in the records' pixels, score, visibility; NaN where the line has none."""
    row = np.full((schema.size, 4), np.nan)
    for k, name in enumerate(schema.keypoints):
        values = line["keypoints"].get(name) or ()
        row[k, :len(values)] = values
    row[:, :2] = to_upright.inverse()(row[:, :2]) if to_upright else row[:, :2]
    return row


def _everybody(lines, records, to_upright, chosen, known) -> tuple[Instance, ...] | None:
    """Return the people of all lines in the records' images; None if each is that of a record."""
    owners = matching.somebody_in_the_image(lines, records)
    inside = [index for index, owner in enumerate(owners) if owner >= 0]
    if set(inside) <= set(chosen.tolist()):
        return None
    ids, instances = matching.image_ids(records), []
    for index in inside:
        record = records[owners[index]]
        row = _keypoints(lines[index], record.schema, to_upright[owners[index]])
        scores = np.nan_to_num(row[known, 2]) if np.isfinite(row[known, 2]).any() else np.ones(1)
        instances.append(Instance(int(ids[owners[index]]), float(scores.mean()), record.box, row[:, :3]))
    return tuple(instances)


def _maps_to_upright(records: Sequence[Record]) -> list[Affine | None]:
    """Return the map from each record's pixels to those of its upright image, which JSON lines count."""
    images = {record.image_name: record.image for record in records if isinstance(record.image, ImageFile)}
    with ThreadPoolExecutor() as pool:
        maps = dict(zip(images, pool.map(ImageFile.to_upright, images.values()), strict=True))
    return [maps.get(record.image_name) for record in records]


def _unless_nan(values, known):
    """Return the values with 0 for NaN, or None if no known keypoint has one."""
    return np.nan_to_num(values) if np.isfinite(values[:, known]).any() else None


FORMATS = {".jsonl": _lines, ".mat": _mat, ".h5": _hdf5, ".hdf5": _hdf5, ".json": _json}
