"""Boxes, affine maps and mirrors, and the one pixel convention that everything keeps.

The convention: a point is (x, y), x to the right and y down, and the *center* of the top left pixel is (0, 0).
So an image of W x H pixels covers -0.5 <= x < W - 0.5, a mirror sends x to W - 1 - x, and the center of cell u
of a map at stride s lies at s * u + (s - 1) / 2 in input pixels. Coordinates on disk that count from 1
(MPII) are brought here by their readers.

The ladder, from a map's cell to the photograph:
    cell --(codec.cells_to_pixels)--> input pixel --(crop_transform(...).inverse())--> pixel of the original image
"""

import math
from dataclasses import dataclass

import numpy as np

CROP_PADDING = 1.25  # side of the square crop over the longer side of the person's box


@dataclass(frozen=True)
class Box:
    """A person's rectangle: left, top, width, height in image pixels (COCO's order); w and h are positive."""

    x: float
    y: float
    w: float
    h: float

    def __post_init__(self) -> None:
        if not (all(map(math.isfinite, (self.x, self.y, self.w, self.h))) and self.w > 0 and self.h > 0):
            raise ValueError(f"box {self.as_list()} is empty; expected x, y, w > 0, h > 0")

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the middle."""
        return self.x + self.w / 2, self.y + self.h / 2

    @property
    def side(self) -> float:
        """Side of the square crop in image pixels: CROP_PADDING times the longer side."""
        return CROP_PADDING * max(self.w, self.h)

    def as_list(self) -> list[float]:
        """[x, y, w, h]."""
        return [float(self.x), float(self.y), float(self.w), float(self.h)]

    def iou(self, other: "Box") -> float:
        """Return the area of the intersection with the other box divided by the area of the union."""
        width = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        height = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        both = max(width, 0.0) * max(height, 0.0)
        return both / (self.w * self.h + other.w * other.h - both)

    @staticmethod
    def around(points: np.ndarray, min_size: float = 1.0) -> "Box":
        """Return the tight box of (N, 2) finite points, N >= 1, at least `min_size` pixels wide and high."""
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        size = np.maximum(high - low, min_size)
        corner = (low + high) / 2 - size / 2
        return Box(*map(float, corner), *map(float, size))

    @staticmethod
    def from_center_scale(center: tuple[float, float], scale: float, unit: float = 200.0) -> "Box":
        """MPII's way: a person of `unit * scale` pixels round `center`, as the box whose crop is that square.

        The crop of the result (side `unit * scale`) is the paper's, docs/paper.md "Test time".
        """
        size = unit * scale / CROP_PADDING
        return Box(center[0] - size / 2, center[1] - size / 2, size, size)


@dataclass(frozen=True)
class Affine:
    """A map of the plane, p -> A p + t, as the 2 x 3 matrix [A | t] that OpenCV takes (float64)."""

    matrix: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) carried over, float64."""
        moved: np.ndarray = np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    def inverse(self) -> "Affine":
        """The way back; the linear part must be regular."""
        back = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([back, -back @ self.matrix[:, 2]]))

    def after(self, first: "Affine") -> "Affine":
        """This map applied to what `first` gives."""
        linear = self.matrix[:, :2] @ first.matrix[:, :2]
        return Affine(np.column_stack([linear, self(first.matrix[:, 2])]))

    @property
    def zoom(self) -> float:
        """Length after over length before (square root of the area ratio)."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


def crop_transform(box: Box, size: int, *, rotation: float = 0.0, zoom: float = 1.0,
                   shift: tuple[float, float] = (0.0, 0.0), flip: bool = False) -> Affine:
    """From image pixels to the pixels of a square crop of `size` x `size` round `box`.

    Args:
        box: the person; the crop without zoom is a square of `box.side` round its center.
        rotation: degrees by which the picture turns clockwise as seen (y down).
        zoom: above 1 the person appears larger.
        shift: of the crop's center, in parts of the crop's side, along image x and y.
        flip: mirror the crop; the caller exchanges left and right (`Schema.flip_order`).
    """
    angle, scale = math.radians(rotation), zoom * size / box.side
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    center = np.array(box.center) + np.array(shift) * box.side
    crop = Affine(np.column_stack([linear, (size - 1) / 2 - linear @ center]))
    return mirror_transform(size).after(crop) if flip else crop


def mirror_transform(width: int) -> Affine:
    """x -> width - 1 - x: the mirror of an image `width` pixels wide; its own inverse."""
    return Affine(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))


def shrink_transform(factor: int) -> Affine:
    """From the pixels of an image to those of its copy shrunk `factor` times (blocks of pixels averaged)."""
    return Affine(np.array([[1 / factor, 0, -(factor - 1) / 2 / factor], [0, 1 / factor, -(factor - 1) / 2 / factor]]))


def inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """(...,) bool: which of the points (..., 2) lie on the pixels of a `width` x `height` image."""
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
