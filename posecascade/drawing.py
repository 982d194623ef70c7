"""Draw poses and maps on images, arrange images on a sheet, and write image files."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from posecascade import files
from posecascade.errors import InputError
from posecascade.schema import Schema

LEFT, RIGHT, MIDDLE = (60, 140, 255), (255, 130, 40), (90, 220, 90)  # RGB: blue, orange, green
OUTLINE, BACKGROUND = (20, 20, 20), (40, 40, 40)
HIDDEN_BELOW = 0.5     # visibility in 0..1 below which a keypoint counts as occluded
LIMB_WIDTH = 1 / 60    # of the pose's longer side, within LIMB_LIMITS of the image's
LIMB_LIMITS = (1 / 400, 1 / 80)
TILE_GAP = 4           # px between the tiles of a sheet
_SHIFT = 4             # fractional bits of OpenCV's coordinates: 1/16 px
_FAR = 2 ** 20         # px: keeps the fixed-point coordinates within 32 bits


def keypoint_colors(schema: Schema) -> list[tuple[int, int, int]]:
    """Return K RGB colors: left keypoints blue, right ones orange, the others green."""
    sides = {a: LEFT for a, _ in schema.pairs} | {b: RIGHT for _, b in schema.pairs}
    return [sides.get(name, MIDDLE) for name in schema.keypoints]


def draw_pose(image: np.ndarray, keypoints: np.ndarray, schema: Schema, *, visibility: np.ndarray | None = None,
              scores: np.ndarray | None = None, min_score: float = 0.0) -> np.ndarray:
    """Return a copy of the image with limbs and keypoints; occluded keypoints are hollow, limbs to them thin.

    Args:
        image: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) in its pixels; those that are not finite are not drawn.
        schema: names the keypoints.
        visibility: (K,) floats in 0..1 (below HIDDEN_BELOW: occluded), booleans, or codes of `records.Visibility`
            (0 is not drawn).
        scores: (K,); keypoints below `min_score` are not drawn.
        min_score: see `scores`.
    """
    drawn = np.ascontiguousarray(image).copy()
    keypoints = np.asarray(keypoints, np.float64)
    shown, seen = _shown_and_seen(keypoints, visibility)
    if scores is not None:
        shown = shown & (np.asarray(scores) >= min_score)
    if not shown.any():
        return drawn
    width = _limb_width(keypoints[shown], image)
    fixed = np.rint(np.clip(np.nan_to_num(keypoints), -_FAR, _FAR) * 2 ** _SHIFT).astype(int)
    colors = keypoint_colors(schema)
    for start, end in ((schema.index(a), schema.index(b)) for a, b in schema.limbs):
        if shown[start] and shown[end]:
            thickness = width if seen[start] and seen[end] else (width + 1) // 2
            _line(drawn, fixed[start], fixed[end], _limb_color(colors[start], colors[end]), thickness)
    for keypoint in np.flatnonzero(shown):
        _dot(drawn, fixed[keypoint], colors[keypoint], width, bool(seen[keypoint]))
    return drawn


def draw_maps(image: np.ndarray, maps: np.ndarray, schema: Schema) -> np.ndarray:
    """Return the image darkened, with each keypoint's map over it in a hue of its own.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (h, w, K) of the same view; values are clipped to 0..1.
        schema: names the keypoints.
    """
    hues = np.array([[[int(180 * k / schema.size), 200, 255] for k in range(schema.size)]], np.uint8)
    colors = cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0].astype(np.float32)
    maps = np.clip(np.nan_to_num(np.asarray(maps, np.float32)), 0, 1)
    color = (maps @ colors) / np.maximum(maps.sum(-1, keepdims=True), 1e-6)
    size = (image.shape[1], image.shape[0])
    color = cv2.resize(color, size, interpolation=cv2.INTER_LINEAR)
    strength = cv2.resize(maps.max(-1), size, interpolation=cv2.INTER_LINEAR)[..., None]
    return np.clip(image * (0.6 * (1 - strength)) + color * strength, 0, 255).astype(np.uint8)


def sheet(images: Sequence[np.ndarray], columns: int, tile: int = 256) -> np.ndarray:
    """Return one RGB image with all images, row by row, each scaled to fit a square of `tile` pixels."""
    rows = max(-(-len(images) // columns), 1)
    step = tile + TILE_GAP
    canvas = np.full((rows * step + TILE_GAP, columns * step + TILE_GAP, 3), BACKGROUND, np.uint8)
    for number, image in enumerate(images):
        scale = tile / max(image.shape[:2])
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top = TILE_GAP + number // columns * step + (tile - height) // 2
        left = TILE_GAP + number % columns * step + (tile - width) // 2
        canvas[top:top + height, left:left + width] = small
    return canvas


def write_image(path: Path | str, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB to `path`, atomically, in the format of its suffix.

    Raises InputError if OpenCV cannot write files with this suffix.
    """
    try:
        written, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise InputError(f"{path}: cannot be written as an image; give a name that ends with .jpg or .png")
    with files.atomic_write(path) as draft:
        draft.write_bytes(data.tobytes())


def _shown_and_seen(keypoints, visibility):
    """Return two arrays (K,) bool: whether a keypoint is drawn at all, and whether it is drawn as visible."""
    shown = np.isfinite(keypoints).all(-1)
    if visibility is None:
        return shown, np.ones(len(keypoints), bool)
    visibility = np.asarray(visibility)
    if visibility.dtype.kind in "iu":
        return shown & (visibility > 0), visibility > 1
    return shown, visibility >= HIDDEN_BELOW


def _limb_width(points, image):
    low, high = (part * max(image.shape[:2]) for part in LIMB_LIMITS)
    return max(round(float(np.clip(np.ptp(points, axis=0).max() * LIMB_WIDTH, low, high))), 1)


def _limb_color(start, end):
    """Return the color of the side that one or both ends are on (as from the neck to the left shoulder), or MIDDLE."""
    sides = {color for color in (start, end) if color != MIDDLE}
    return sides.pop() if len(sides) == 1 else MIDDLE


def _line(image, start, end, color, width):
    ends = tuple(map(int, start)), tuple(map(int, end))
    cv2.line(image, *ends, OUTLINE, width + 2, cv2.LINE_AA, _SHIFT)
    cv2.line(image, *ends, color, width, cv2.LINE_AA, _SHIFT)


def _dot(image, point, color, width, filled):
    center, radius = tuple(map(int, point)), round((0.9 * width + 1) * 2 ** _SHIFT)
    outline = round(2 ** _SHIFT)
    cv2.circle(image, center, radius + outline, OUTLINE, -1, cv2.LINE_AA, _SHIFT)
    cv2.circle(image, center, radius, color, -1, cv2.LINE_AA, _SHIFT)
    if not filled:
        cv2.circle(image, center, max(radius - round(0.6 * width * 2 ** _SHIFT), outline), OUTLINE, -1, cv2.LINE_AA,
                   _SHIFT)
