"""Match predictions of other programs to the people of a data set, by image and by overlap of boxes."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from posecascade.errors import InputError
from posecascade.files import name_to_text
from posecascade.geometry import Box
from posecascade.records import Record


def image_ids(records: Sequence[Record]) -> np.ndarray:
    """Return the number of each record's image, (N,) int: the data set's own, otherwise 1, 2, ... in its order."""
    names = _own_numbers(records) or {
        name: number for number, name in enumerate(dict.fromkeys(r.image_name for r in records), 1)}
    return np.array([names[record.image_name] for record in records])


def check_numbered(records: Sequence[Record], origin: Any) -> None:
    """Raise InputError, beginning with `origin`, if the data set has no numbers of images, which COCO's results need.

    Numbers in the order of a split would name other images in another split.
    """
    if not _own_numbers(records):
        raise InputError(f"{origin}: COCO's results name images by number, and the images of the data have none (the "
                         f"first: {records[0].image_name}); expected whole numbers as their ids. Use predictions in "
                         "JSON lines")


def _own_numbers(records: Sequence[Record]) -> dict[str, int]:
    """Return the data set's number of each image; nothing if some have none or the same one."""
    own = {record.image_name: record.image_id for record in records}
    return own if min(own.values(), default=-1) >= 0 and len(set(own.values())) == len(own) else {}


def matched_by_id(numbers: Sequence[int], boxes: Sequence[Box | None], records: Sequence[Record]) -> np.ndarray:
    """Return the index of each record's prediction, (N,) int, -1 without one.

    Args:
        numbers: the image of each prediction, as in `image_ids`.
        boxes: the box of each prediction, by whose overlap the people of an image are matched; None is nobody's.
        records: the people.
    """
    of_image: dict[int, list[int]] = {}
    known = {index: box for index, box in enumerate(boxes) if box}
    for index in known:
        of_image.setdefault(numbers[index], []).append(index)
    people: dict[int, list[int]] = {}
    for index, number in enumerate(image_ids(records).tolist()):
        people.setdefault(number, []).append(index)
    chosen = np.full(len(records), -1)
    for number in people.keys() & of_image.keys():
        for person, index in by_overlap(people[number], of_image[number], records, known):
            chosen[person] = index
    return chosen


def by_overlap(people: Sequence[int], indices: Sequence[int], records: Sequence[Record],
               boxes: Mapping[int, Box] | Sequence[Box]) -> list[tuple[int, int]]:
    """Return the pairs (person, index) of the largest total overlap, for indices into `records` and `boxes`."""
    overlap = np.array([[records[p].box.iou(boxes[i]) for i in indices] for p in people])
    return [(people[p], indices[i]) for p, i in zip(*linear_sum_assignment(-overlap), strict=True) if overlap[p, i] > 0]


def matched_by_name(path: Any, lines: Sequence[dict], records: Sequence[Record]) -> np.ndarray:
    """Return the index of each record's line, (N,) int, -1 without one.

    Lines are matched by the image's name; several in one image by overlap of boxes, or by order without boxes.
    """
    if all(record.image is None for record in records):
        if len(lines) != len(records):
            raise InputError(f"{path}: has {len(lines)} lines; expected {len(records)}, one per person of this split "
                             "in its order, because the data has no images to match by")
        return np.arange(len(records))
    names = [record.image_name for record in records]
    depth = _unique_depth(names)
    of_image: dict[tuple, list[int]] = {}
    for index, line in enumerate(lines):
        of_image.setdefault(_tail(line["image"], depth), []).append(index)
    people: dict[tuple, list[int]] = {}
    for index, name in enumerate(names):
        people.setdefault(_tail(name, depth), []).append(index)
    chosen = np.full(len(records), -1)
    for image in people.keys() & of_image.keys():
        for person, line in _pairs(path, people[image], of_image[image], records, lines):
            chosen[person] = line
    if (chosen < 0).all():
        raise InputError(f"{path}: none of its {len(lines)} images (the first: {lines[0]['image']!r}) is in the "
                         f"data (the first: {names[0]!r}); choose another --data or --split")
    return chosen


def somebody_in_the_image(lines: Sequence[dict], records: Sequence[Record]) -> list[int]:
    """Return the index of a record in the image of each line, -1 if its image has none."""
    depth = _unique_depth([record.image_name for record in records])
    of_image = {_tail(record.image_name, depth): index for index, record in enumerate(records)}
    return [of_image.get(_tail(line["image"], depth), -1) for line in lines]


def _tail(name: str, depth: int) -> tuple[str, ...]:
    return PurePath(name_to_text(name)).parts[-depth:]


def _unique_depth(names: Sequence[str]) -> int:
    """Return how many trailing parts of the paths are needed for all of them to differ."""
    different = set(names)
    longest = max(len(PurePath(name).parts) for name in different)
    return next((n for n in range(1, longest) if len({_tail(name, n) for name in different}) == len(different)),
                longest)


def _pairs(path, people, indices, records, lines):
    """Return (person, line) pairs of one image, for indices into `records` and `lines`."""
    if len(people) == len(indices) == 1:
        return [(people[0], indices[0])]
    if all(lines[index].get("box") for index in indices):
        boxes = {i: Box(*lines[i]["box"]) for i in indices}
        return by_overlap(people, indices, records, boxes)
    if len(people) != len(indices):
        raise InputError(f"{path}: has {len(indices)} lines for {lines[indices[0]]['image']!r}, where the data has "
                         f"{len(people)} people; add a 'box' to each line")
    return list(zip(people, indices, strict=True))
