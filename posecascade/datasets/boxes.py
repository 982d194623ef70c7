"""The smallest sensible box of a person: boxes that cannot be right are replaced, or the person is excluded."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.image_headers import read_header
from posecascade.images import ImageFile

MIN_SIDE = 4.0         # pixels of the longer side: a smaller crop is a few pixels of one color
MIN_SHARE = 0.5        # of the span of the labeled keypoints: a shorter box does not hold the person
FEW = 0.5              # of the schema's keypoints: a box around fewer does not show the person
TIGHT = 1.0            # pixels: how far the sides of a box around the keypoints are from the keypoints at most
FEW_FACTOR = 1.7       # longer side divided by the span of few keypoints: median 1.7-1.9 of annotated people
IMAGE_SHARE = 0.25     # of the image's longer side, if keypoints within MIN_SIDE are all that is known of a person
FRACTION_LIMIT = 1.5   # fractions of an image's sides may lie beyond its edge
NEARLY_ALL, MOST = 0.95, 0.8  # shares of keypoints and boxes that show how a file counts
MIN_CORNERS = 5        # boxes
MIN_PER_CENT = 50      # labeled keypoints
MIN_NORMALIZED = 3     # labeled keypoints; fewer may be in the first pixel by chance


class Boxes:
    """The boxes of the people in one file, and counts of those that were replaced."""

    def __init__(self, path: Path) -> None:
        """Start counting the people of the file at `path`."""
        self._path = path
        self._replaced: Counter[str] = Counter()
        self._excluded: list[str] = []
        self.at_corner = 0  # keypoints labeled at exactly (0, 0), more than one of a person
        self._largest, self._labeled, self._fractions, self._whole = 0.0, 0, 0, True
        self._shortest_image, self._boxes, self._corners = math.inf, 0, 0

    def of(self, origin: str, annotation: dict, points: np.ndarray, labeled: np.ndarray, image: ImageFile
           ) -> Box | None:
        """Return the annotated box, or the smallest sensible one; None if the person is to be excluded.

        Args:
            origin: of the annotation, for messages.
            annotation: whose "bbox", "segmentation" and "area" are read.
            points: (K, 2) in pixels.
            labeled: (K,) bool, at least one.
            image: its size decides for people with a single keypoint.
        """
        known = points[labeled]
        self._largest = max(self._largest, float(np.abs(known).max()))
        self._fractions += int(((known > -FRACTION_LIMIT) & (known < FRACTION_LIMIT)).all(axis=1).sum())
        self._labeled += len(known)
        self._whole &= bool((known == np.round(known)).all())
        box, few = _box(annotation.get("bbox")), len(known) < FEW * len(points)
        if image.size:
            self._shortest_image = min(self._shortest_image, max(image.size))
        if box and image.size:
            self._boxes += 1
            self._corners += _is_corners(box, known, image.size)
        if box and is_sensible(box, known) and not (few and _is_tight(box, known)):
            return box
        given = annotation.get("bbox") is not None
        found, source = _replacement(annotation, known, few, image)
        if found is None:
            self._excluded.append(origin)
        elif given or few:
            self._replaced[source] += 1
        return found

    def check_pixels(self) -> None:
        """Raise InputError if keypoints are fractions of the image's sides, or boxes are given by two corners."""
        if self._labeled >= MIN_NORMALIZED and self._fractions >= NEARLY_ALL * self._labeled and not self._whole:
            share = "all" if self._largest <= 1 else f"{self._fractions} of"
            raise InputError(f"{self._path}: {share} {self._labeled} labeled keypoints are between 0 and 1; expected "
                             "pixels. They are probably fractions of the image's width and height: multiply x by the "
                             "width, y by the height")
        if self._corners >= MIN_CORNERS and self._corners >= MOST * self._boxes:
            raise InputError(f"{self._path}: {self._corners} of {self._boxes} boxes leave their images as x, y, width, "
                             "height, but fit as two corners x1, y1, x2, y2; expected x, y, width, height. Subtract x1 "
                             "from x2 and y1 from y2")

    def notes(self) -> Iterator[str]:
        """Yield lines about boxes that were replaced, and people without a sensible one."""
        if self.at_corner:
            yield (f"{self._path}: {self.at_corner} keypoints at exactly (0, 0) are labeled, several of a person; they "
                   "are taken as unlabeled")
        if self._labeled >= MIN_PER_CENT and self._largest <= 100 and self._shortest_image >= 3 * 100:
            yield (f"{self._path}: all {self._labeled} labeled keypoints are within 0 to 100, although the images have "
                   f"{self._shortest_image:g} pixels and more; they may be per cent of the sides, not pixels")
        if self._replaced:
            kinds = ", ".join(f"{count} from {source}" for source, count in self._replaced.most_common())
            yield (f"{self._path}: {sum(self._replaced.values())} people have no box that shows them (empty, a few "
                   f"pixels, or around a few keypoints); new boxes: {kinds}")
        if self._excluded:
            yield (f"{self._path}: excludes {len(self._excluded)} people without any sensible box, the first is "
                   f"{self._excluded[0]}")


def is_sensible(box: Box, points: np.ndarray) -> bool:
    """Return whether the box may show the person who has these labeled keypoints (N, 2).

    >>> is_sensible(Box(0, 0, 1, 1), np.array([[0, 0]])), is_sensible(Box(0, 0, 9, 1), np.array([[0, 0], [9, 9]]))
    (False, True)
    """
    return max(box.w, box.h) >= max(MIN_SIDE, MIN_SHARE * _span(points))


def box_around(points: np.ndarray, other: Box | None) -> Box:
    """Return the tight box around labeled keypoints, or `other` if these are within a few pixels."""
    return other if other and _span(points) < MIN_SIDE and is_sensible(other, points) else Box.around(points)


def _replacement(annotation: dict, points: np.ndarray, few: bool, image: ImageFile) -> tuple[Box | None, str]:
    """Return the box from the best other information, and the name of that."""
    outline = _outline(annotation.get("segmentation"))
    if outline and is_sensible(outline, points):
        return outline, "segmentation"
    span = _span(points)
    area: Any = annotation.get("area")
    side = math.sqrt(area) if is_finite(area) and area > 0 else 0.0
    side = max(side, FEW_FACTOR * span if few else 0.0)
    if span >= MIN_SIDE:
        return _at_least(points, side), "keypoints"
    if side >= MIN_SIDE:
        return _at_least(points, side), "area"
    if len(points) > 1 and np.abs(points).max() <= 1:  # fractions instead of pixels, unlike others in the file
        return None, ""
    longer = _longer_side(image)
    return _at_least(points, max(IMAGE_SHARE * longer, MIN_SIDE)), "a share of the image" if longer else "keypoints"


def _at_least(points: np.ndarray, side: float) -> Box:
    """Return the box around the points, enlarged about its center to `side` for its longer side."""
    tight = Box.around(points)
    if max(tight.w, tight.h) >= side:
        return tight
    return Box.around(points, min_size=side) if _span(points) < MIN_SIDE else _scaled(
        tight, side / max(tight.w, tight.h))


def _scaled(box: Box, factor: float) -> Box:
    (x, y), w, h = box.center, box.w * factor, box.h * factor
    return Box(x - w / 2, y - h / 2, w, h)


def _longer_side(image: ImageFile) -> float:
    if image.size:
        return float(max(image.size))
    header = read_header(image.path) if image.path.is_file() else None
    return float(max(header.stored)) if header else 0.0


def _outline(segmentation: Any) -> Box | None:
    """Return the box around COCO's polygons; None for anything else, such as a mask."""
    polygons: Sequence = segmentation if isinstance(segmentation, list) else ()
    values = [value for polygon in polygons if isinstance(polygon, list) and len(polygon) % 2 == 0
              for value in polygon]
    if not values or not all(map(is_finite, values)):
        return None
    return Box.around(np.array(values, np.float64).reshape(-1, 2))


def _is_tight(box: Box, points: np.ndarray) -> bool:
    low, high = points.min(axis=0), points.max(axis=0)
    sides = np.array([box.x, box.y, box.x + box.w, box.y + box.h])
    return bool((np.abs(sides - [*low, *high]) <= TIGHT).all())


def _span(points: np.ndarray) -> float:
    return float(np.ptp(points, axis=0).max())


def _box(bbox: Any) -> Box | None:
    numeric = isinstance(bbox, list) and len(bbox) == 4 and all(map(is_finite, bbox))
    return Box(*map(float, bbox)) if numeric and min(bbox[2:]) > 0 else None


def _is_corners(box: Box, points: np.ndarray, size: tuple[int, int]) -> bool:
    """Return whether the box leaves the image, but two corners with the same numbers fit it and the keypoints."""
    corner = np.array([box.w, box.h])  # the second, if the box is given by corners
    leaves = box.x + box.w > 1.02 * size[0] or box.y + box.h > 1.02 * size[1]
    fits = (corner <= 1.02 * np.array(size)).all() and (corner > [box.x, box.y]).all()
    return bool(leaves and fits and (points.max(axis=0) <= corner + TIGHT).all())


def is_finite(value: Any) -> bool:
    """Return whether the value is a number that a float holds.

    >>> is_finite(10 ** 400), is_finite("1"), is_finite(1)
    (False, False, True)
    """
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number beyond floats
        return False
