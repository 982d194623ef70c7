"""Read and write lists in COCO's results layout: keypoints of people, and boxes of a detector, several per image."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecascade.datasets.sources import load_json
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.poses_io import BOX_LIMITS, box_from
from posecascade.schema import Schema

PERSON = 1  # COCO's category_id of people
_LAYOUTS = {"keypoints": '{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}',
            "bbox": '{"image_id", "category_id", "bbox": [x, y, w, h], "score"}'}


@dataclass(frozen=True)
class Instance:
    """One entry of a results list.

    Attributes:
        image_id: the image's number in the data set.
        score: of the person or detection; the higher, the earlier it counts in COCO's AP.
        box: the detected box, or the box around the predicted keypoints; None without either.
        keypoints: (K, 3) float64: x and y in image pixels, not finite if not predicted, and the keypoint's score;
            (0, 3) if the entry is a detection.
    """

    image_id: int
    score: float
    box: Box | None
    keypoints: np.ndarray


def are_results(content: object) -> bool:
    """Return whether the value of a JSON file is a list of entries, not of numbers."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict)


def results_from(path: Path, content: list, schema: Schema) -> list[Instance]:
    """Return the people of a list of keypoint results, in its order, whose keypoints are those of `schema`.

    A keypoint of 0, 0, 0 is not predicted.

    Raises InputError, naming the entry, if a field is missing or wrong.
    """
    return [_result(f"{path}, entry {number}", entry, schema)
            for number, entry in _of_people(path, content, "keypoints")[0]]


def read_detections(path: Path | str) -> tuple[list[Instance], str]:
    """Return the people of a list of detected boxes, and a line about entries that were excluded ("" without any).

    Entries of other categories and empty boxes are excluded. Raises InputError, naming the entry, if a field is missing
    or wrong, or if nothing is left.
    """
    path = Path(path)
    content = load_json(path)
    if isinstance(content, dict):
        raise InputError(f"{path}: is a mapping of keys; expected a list of {_LAYOUTS['bbox']}. Give a detector's "
                         "results, not annotations")
    entries, others = _of_people(path, content, "bbox")
    found = [_detection(f"{path}, entry {number}", entry) for number, entry in entries]
    kept = [detection for detection in found if detection]
    if not kept:
        raise InputError(f"{path}: has no box of a person; expected a list of {_LAYOUTS['bbox']}")
    empty = [f"{len(found) - len(kept)} boxes without a size"] * (len(kept) < len(found))
    excluded = ", ".join([f"{count} of category {key}" for key, count in others.items()] + empty)
    return kept, f"{path}: excluded {excluded}" if excluded else ""


def result(image_id: int, keypoints: np.ndarray, score: float) -> dict[str, Any]:
    """Return one entry of a list of keypoint results, which pycocotools' `loadRes` reads.

    Args:
        image_id: the image's number.
        keypoints: (K, 3), image pixels and score; one that is not finite is written as 0, 0, 0.
        score: of the person.

    >>> result(7, np.array([[1.5, 2.0, 0.5], [np.nan, np.nan, 0.9]]), 0.7)
    {'image_id': 7, 'category_id': 1, 'keypoints': [1.5, 2.0, 0.5, 0.0, 0.0, 0.0], 'score': 0.7}
    """
    finite = np.where(np.isfinite(keypoints).all(axis=1, keepdims=True), keypoints, 0.0)
    return {"image_id": int(image_id), "category_id": PERSON, "keypoints": finite.ravel().tolist(),
            "score": float(score)}


def category(schema: Schema, name: str = "person") -> dict[str, Any]:
    """Return the entry of a COCO file's "categories" for this schema; limbs count keypoints from 1.

    >>> category(Schema("toy", ("head", "tail"), limbs=(("head", "tail"),)))
    {'id': 1, 'name': 'person', 'keypoints': ['head', 'tail'], 'skeleton': [[1, 2]]}
    """
    return {"id": PERSON, "name": name, "keypoints": list(schema.keypoints),
            "skeleton": [[schema.index(a) + 1, schema.index(b) + 1] for a, b in schema.limbs]}


def _of_people(path: Path, content: Any, field: str) -> tuple[list[tuple[int, dict]], Counter]:
    """Return the numbered entries of the category of people, and how many there are of each other category."""
    if not isinstance(content, list):
        raise InputError(f"{path}: is {type(content).__name__}; expected a list of {_LAYOUTS[field]}")
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or not _is_number(entry.get("image_id"), whole=True) \
                or not _is_number(entry.get("category_id", PERSON), whole=True) \
                or not _is_number(entry.get("score")) or not isinstance(entry.get(field), list):
            raise InputError(f"{path}, entry {number}: is {str(entry)[:120]}; expected {_LAYOUTS[field]}, with whole "
                             "numbers as ids and a finite score. Fix the entry")
    counts = Counter(entry.get("category_id", PERSON) for entry in content)
    if len(counts) > 1 and 0 in counts:
        raise InputError(f"{path}: has the categories {', '.join(map(str, sorted(counts)))}; expected COCO's numbers, "
                         f"which begin with 1 for people. If people are 0, write them as {PERSON}")
    if counts and PERSON not in counts and set(counts) != {0}:
        raise InputError(f"{path}: has the categories {', '.join(map(str, counts))}; expected {PERSON}, COCO's number "
                         "of people. Remove the others, or write people as 1")
    chosen = PERSON if PERSON in counts else next(iter(counts), PERSON)
    entries = [(n, entry) for n, entry in enumerate(content) if entry.get("category_id", PERSON) == chosen]
    return entries, Counter({key: count for key, count in counts.items() if key != chosen})


def _result(origin: str, entry: dict, schema: Schema) -> Instance:
    values = entry["keypoints"]
    if len(values) != 3 * schema.size or not all(map(_is_number, values)):
        raise InputError(f"{origin}: 'keypoints' holds {len(values)} values; expected {3 * schema.size} finite numbers "
                         f"(x, y, score for {schema.size} keypoints of {schema.name}). Fix the file, or pass --schema")
    points = np.array(values, np.float64).reshape(-1, 3)
    points[(points == 0).all(1), :2] = np.nan  # how `result` writes a keypoint that is not predicted
    predicted = points[np.isfinite(points[:, 0]), :2]
    box = _box(entry.get("bbox")) or (Box.around(predicted) if len(predicted) else None)
    return Instance(entry["image_id"], float(entry["score"]), box, points)


def _detection(origin: str, entry: dict) -> Instance | None:
    values = entry["bbox"]
    if len(values) != 4 or not all(map(_is_number, values)):
        raise InputError(f"{origin}: 'bbox' is {str(values)[:80]}; expected [x, y, w, h] in pixels. Fix the entry")
    box = _box(values)
    return Instance(entry["image_id"], float(entry["score"]), box, np.empty((0, 3))) if box else None


def _box(values: Sequence[float] | None) -> Box | None:
    try:
        return box_from(values)
    except InputError:
        return None


def _is_number(value: Any, whole: bool = False) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and (whole or abs(value) <= BOX_LIMITS[1])
