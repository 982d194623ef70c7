"""Boxes, affine maps and mirrors, and the one pixel convention of the package.

A point is (x, y), x to the right and y down, and the *center* of the top left pixel is (0, 0). So an image of W x H
pixels covers -0.5 <= x < W - 0.5, a mirror maps x to W - 1 - x, and the center of cell u of a map with stride s is at
s * u + (s - 1) / 2 in input pixels. Readers of data sets whose coordinates count from 1 (MPII) subtract 1.

From a cell of a map to the original image:
    cell --(codec.decoders.cells_to_pixels)--> input pixel --(crop_transform(...).inverse())--> original pixel
"""

import math
from dataclasses import dataclass

import numpy as np

CROP_PADDING = 1.25  # side of the square crop divided by the longer side of the person's box


@dataclass(frozen=True)
class Box:
    """A person's rectangle: left, top, width and height in image pixels, COCO's order; w and h are positive.

    >>> box = Box(10, 20, 100, 200)
    >>> box.center, box.side
    ((60.0, 120.0), 250.0)
    >>> box.iou(Box(60, 20, 100, 200))
    0.3333333333333333
    """

    x: float
    y: float
    w: float
    h: float

    def __post_init__(self) -> None:
        if not (all(map(math.isfinite, (self.x, self.y, self.w, self.h))) and self.w > 0 and self.h > 0):
            raise ValueError(f"box {self.as_list()} is empty; expected x, y, w > 0, h > 0")

    @property
    def center(self) -> tuple[float, float]:
        """Return (x, y) of the middle."""
        return self.x + self.w / 2, self.y + self.h / 2

    @property
    def side(self) -> float:
        """Return the side of the square crop in image pixels: CROP_PADDING times the longer side."""
        return CROP_PADDING * max(self.w, self.h)

    def as_list(self) -> list[float]:
        """Return [x, y, w, h]."""
        return [float(self.x), float(self.y), float(self.w), float(self.h)]

    def iou(self, other: "Box") -> float:
        """Return the area of the intersection with the other box divided by the area of the union."""
        width = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        height = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        both = max(width, 0.0) * max(height, 0.0)
        return both / (self.w * self.h + other.w * other.h - both)

    @staticmethod
    def around(points: np.ndarray, min_size: float = 1.0) -> "Box":
        """Return the tight box of (N, 2) finite points, N >= 1, at least `min_size` pixels wide and high.

        >>> Box.around(np.array([[1, 2], [4, 2]]), min_size=2)
        Box(x=1.0, y=1.0, w=3.0, h=2.0)
        """
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        size = np.maximum(high - low, min_size)
        corner = (low + high) / 2 - size / 2
        return Box(*map(float, corner), *map(float, size))

    @staticmethod
    def from_center_scale(center: tuple[float, float], scale: float, unit: float = 200.0) -> "Box":
        """Return the box whose crop is MPII's square: `unit * scale` pixels around `center`.

        This is the crop of the paper, docs/paper.md "Test time".

        >>> Box.from_center_scale((100, 100), scale=1.0).side
        200.0
        """
        size = unit * scale / CROP_PADDING
        return Box(center[0] - size / 2, center[1] - size / 2, size, size)


@dataclass(frozen=True)
class Affine:
    """An affine map of the plane, p -> A p + t, as OpenCV's 2 x 3 matrix [A | t] (float64).

    >>> double = Affine(np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    >>> double([3, 4]).tolist(), double.inverse()([7, 8]).tolist(), double.zoom
    ([7.0, 8.0], [3.0, 4.0], 2.0)
    """

    matrix: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the mapped points (..., 2) as float64."""
        moved: np.ndarray = np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    def inverse(self) -> "Affine":
        """Return the inverse map; A must be invertible."""
        back = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([back, -back @ self.matrix[:, 2]]))

    def after(self, first: "Affine") -> "Affine":
        """Return the composition: `first`, then this map."""
        linear = self.matrix[:, :2] @ first.matrix[:, :2]
        return Affine(np.column_stack([linear, self(first.matrix[:, 2])]))

    @property
    def zoom(self) -> float:
        """Return how much longer lengths become: the square root of the ratio of areas."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


def crop_transform(box: Box, size: int, *, rotation: float = 0.0, zoom: float = 1.0,
                   shift: tuple[float, float] = (0.0, 0.0), flip: bool = False) -> Affine:
    """Return the map from image pixels to the pixels of a square crop of `size` x `size` around `box`.

    Args:
        box: the person; without zoom, the crop is a square of `box.side` around the center of the box.
        size: side of the crop in its own pixels.
        rotation: degrees by which the image turns clockwise as seen (y down).
        zoom: above 1 the person appears larger.
        shift: of the crop's center along image x and y, as a fraction of the crop's side.
        flip: mirror the crop; the caller exchanges left and right (`Schema.flip_order`).

    >>> to_crop = crop_transform(Box(0, 0, 80, 80), 50)
    >>> to_crop([[40.0, 40.0]]).tolist()
    [[24.5, 24.5]]
    >>> to_crop.inverse()([[24.5, 24.5]]).tolist()
    [[40.0, 40.0]]
    """
    angle, scale = math.radians(rotation), zoom * size / box.side
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    center = np.array(box.center) + np.array(shift) * box.side
    crop = Affine(np.column_stack([linear, (size - 1) / 2 - linear @ center]))
    return mirror_transform(size).after(crop) if flip else crop


def moved_box(box: Box, transform: Affine) -> Box:
    """Return the tight box around a box moved by a map that keeps the axes or exchanges them.

    >>> moved_box(Box(1, 2, 3, 4), mirror_transform(10))
    Box(x=5.0, y=2.0, w=3.0, h=4.0)
    """
    corners = transform(np.array([[box.x, box.y], [box.x + box.w, box.y + box.h]]))
    return Box(*map(float, corners.min(0)), *map(float, np.ptp(corners, axis=0)))


def mirror_transform(width: int) -> Affine:
    """Return the mirror of an image `width` pixels wide, x -> width - 1 - x; it is its own inverse.

    >>> mirror_transform(10)([0.0, 3.0]).tolist()
    [9.0, 3.0]
    """
    return Affine(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))


def shrink_transform(factor: int) -> Affine:
    """Return the map from the pixels of an image to those of its copy shrunk `factor` times by averaging blocks.

    >>> shrink_transform(2)([0.5, 0.5]).tolist()
    [0.0, 0.0]
    """
    return Affine(np.array([[1 / factor, 0, -(factor - 1) / 2 / factor], [0, 1 / factor, -(factor - 1) / 2 / factor]]))


def inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return (...,) bool: which of the points (..., 2) are on the pixels of a `width` x `height` image.

    >>> inside(np.array([[0, 0], [-0.6, 0], [9.4, 0]]), 10, 10).tolist()
    [True, False, True]
    """
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
