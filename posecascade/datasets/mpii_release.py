"""Read the people from the nested and irregular MATLAB struct of MPII's official release.

The fields are RELEASE.annolist(i).image.name, .annorect(r).{x1, y1, x2, y2, annopoints.point(p).{x, y, id,
is_visible}}, RELEASE.img_train(i) and RELEASE.single_person{i} (indices r). Any level may be missing, empty, a scalar
instead of an array, or a cell. is_visible may be a number, a string ("0", "1") or empty (for head and neck, which the
release derives; they count as visible).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io.matlab import mat_struct

from posecascade.datasets.sources import load_mat
from posecascade.errors import InputError
from posecascade.records import Visibility
from posecascade.schema import MPII16


@dataclass(frozen=True)
class Person:
    """A person with at least one annotated keypoint.

    Attributes:
        image: file name of the image.
        image_number, number: indices in annolist and in annorect, counted from 1.
        points: (16, 2) float64 as stored (counted from 1); NaN if missing.
        visibility: (16,) int8, codes of `Visibility`.
        head_box: width and height of the head's box in pixels, or None.
        center_and_scale: rough center (x, y) as stored and scale (person height / 200 px), or None.
    """

    image: str
    image_number: int
    number: int
    points: np.ndarray
    visibility: np.ndarray
    head_box: tuple[float, float] | None
    center_and_scale: tuple[float, float, float] | None = None


def annotated_people(path: Path) -> Iterator[Person]:
    """Yield the people of the training images who are in `single_person`, or everybody if the file has no such list.

    Raises InputError if the file is not an MPII release.
    """
    variables = load_mat(path, "RELEASE", struct_as_record=False, squeeze_me=False)
    release = (_structs(variables["RELEASE"]) or [None])[0]
    images = _structs(_field(release, "annolist"))
    if not images:
        raise InputError(f"{path}: 'RELEASE' has no 'annolist'; give the official mpii_human_pose_v1_u12_1.mat")
    training = _numbers(_field(release, "img_train"))
    singles = _cells(_field(release, "single_person"))
    for field, entries in (("img_train", training), ("single_person", singles)):
        if len(entries) not in (0, len(images)):
            raise InputError(f"{path}: 'RELEASE.{field}' has {len(entries)} entries, 'annolist' {len(images)}; "
                             "give the official mpii_human_pose_v1_u12_1.mat")
    for i, image in enumerate(images):
        if len(training) and not training[i]:
            continue
        chosen = set(_numbers(singles[i]).astype(int).tolist()) if singles else None
        yield from _people(path, i + 1, image, chosen)


def _people(path: Path, image_number: int, image: mat_struct, chosen: set[int] | None) -> Iterator[Person]:
    name = _text(_field((_structs(_field(image, "image")) or [None])[0], "name"))
    for number, rect in enumerate(_structs(_field(image, "annorect")), 1):
        points = [point for holder in _structs(_field(rect, "annopoints"))
                  for point in _structs(_field(holder, "point"))]
        if (chosen is not None and number not in chosen) or not points:
            continue
        origin = f"{path}, annolist({image_number}).annorect({number})"
        if not name:
            raise InputError(f"{origin}: the image has no name; give the official release")
        keypoints, codes = _keypoints(origin, points)
        if codes.any():
            corners: list[Any] = [_number(_field(rect, key)) for key in ("x1", "y1", "x2", "y2")]
            head = None if None in corners else (abs(corners[2] - corners[0]), abs(corners[3] - corners[1]))
            middle = (_structs(_field(rect, "objpos")) or [None])[0]
            square: Any = (_number(_field(middle, "x")), _number(_field(middle, "y")), _number(_field(rect, "scale")))
            yield Person(name, image_number, number, keypoints, codes, head, None if None in square else square)


def _keypoints(origin: str, points: list[mat_struct]) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (16, 2) as stored, NaN if missing, and codes of `Visibility` (16,)."""
    keypoints, codes = np.full((MPII16.size, 2), np.nan), np.zeros(MPII16.size, np.int8)
    for point in points:
        x, y, index, visible = (_number(_field(point, key)) for key in ("x", "y", "id", "is_visible"))
        if index is None or not 0 <= index < MPII16.size or index != int(index):
            raise InputError(f"{origin}: a point has id {index}, expected 0 to {MPII16.size - 1}; "
                             "give the official release")
        if x is not None and y is not None:
            keypoints[int(index)] = x, y
            codes[int(index)] = Visibility.OCCLUDED if visible == 0 else Visibility.VISIBLE
    return keypoints, codes


def _field(struct: mat_struct | None, name: str) -> object:
    """Return the field's value, or None if there is no struct or no such field."""
    return None if struct is None else vars(struct).get(name)


def _structs(value: object) -> list[mat_struct]:
    """Return the structs in a scalar, array or cell; empty and numeric values have none."""
    if isinstance(value, mat_struct):
        return [value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [struct for item in value.ravel() for struct in _structs(item)]
    return []


def _cells(value: object) -> list:
    """Return the cells of a cell array; other values have none."""
    return list(value.ravel()) if isinstance(value, np.ndarray) and value.dtype == object else []


def _numbers(value: object) -> np.ndarray:
    """Return all numbers in a scalar, array or cell as flat float64; text and structs have none."""
    array = np.asarray([] if value is None else value)
    if array.dtype == object:
        numbers = [_numbers(item) for item in array.ravel() if not isinstance(item, mat_struct)]
        return np.concatenate(numbers) if numbers else np.array([])
    return array.ravel().astype(np.float64) if array.dtype.kind in "fiub" else np.array([])


def _number(value: object) -> float | None:
    """Return the first finite number, which may be written as text, or None if there is none."""
    numbers = _numbers(value)
    if not numbers.size and (text := _text(value)):
        numbers = np.array([float(text)]) if text.lstrip("-").replace(".", "", 1).isdecimal() else numbers
    return float(numbers[0]) if numbers.size and np.isfinite(numbers[0]) else None


def _text(value: object) -> str:
    """Return the first text in a string, array or cell, or ""."""
    array = np.asarray([] if value is None else value)
    if array.dtype == object:
        return next((text for item in array.ravel() if (text := _text(item))), "")
    return str(array.ravel()[0]).strip() if array.dtype.kind == "U" and array.size else ""
