"""Paint textured, lit parts with OpenCV and NumPy, all parts of a figure in one pass.

A part is a union of convex polygons with a texture along an axis. All parts of a figure or an object are first written
into a buffer of part numbers from the farthest to the nearest; then every pixel's color is computed from its part's
row in a few tables. With one pass for all parts an image takes milliseconds.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

PATTERNS = ("plain", "hoops", "stripes", "checks", "dots", "blotches")
_SHARES = (.48, .13, .09, .1, .08, .12)
FRACTION = 4  # binary digits after the point in the polygons
_FAR = 4000  # pixels; coordinates are clipped to this, so that fixed point does not overflow
_ROW, _COLUMN = 150.0, 150.0  # pixels of grain per meter


@dataclass(frozen=True)
class Material:
    """The appearance of a surface.

    Attributes:
        color, second: base and second color of the pattern, RGB in 0..255.
        pattern: one of PATTERNS; period: of the pattern in meters.
        grain: change of brightness per gray level of the noise `grain()`.
    """

    color: tuple[float, float, float]
    second: tuple[float, float, float] = (255.0, 255.0, 255.0)
    pattern: str = "plain"
    period: float = 0.06
    grain: float = 0.004


@dataclass(frozen=True)
class Light:
    """(3,) direction towards the light in the camera's frame (x right, y up, z to the camera), and ambient share."""

    direction: np.ndarray
    ambient: float


@dataclass(frozen=True)
class Surfaces:
    """S parts, each a row of every array.

    Attributes:
        polygons: (row, (N, 2) int32 convex outline in pixels times 2 ** FRACTION), from the farthest to the nearest.
        start, end: (S, 2) pixels, the axis of the texture; half: (S,) pixels, its half width.
        scale: (S,) pixels per meter, for the size of patterns.
        material: (S,) int, rows of the materials that `paint` is given.
        across, facing: (S,) share of the light that arrives at the second edge and in the middle.
        roundness: (S,) 1 for a cylinder, 0 for something flat.
    """

    polygons: list[tuple[int, np.ndarray]]
    start: np.ndarray
    end: np.ndarray
    half: np.ndarray
    scale: np.ndarray
    material: np.ndarray
    across: np.ndarray
    facing: np.ndarray
    roundness: np.ndarray


@functools.cache
def grain() -> np.ndarray:
    """Return constant smooth noise of many scales, (512, 512) uint8 with mean near 128, from which textures are cut."""
    rng = np.random.default_rng(20160917)
    total = np.zeros((512, 512), np.float32)
    for cells, weight in ((8, 10), (24, 12), (64, 12), (170, 10), (512, 7)):
        total += weight * cv2.resize(rng.normal(size=(cells, cells)).astype(np.float32), (512, 512),
                                     interpolation=cv2.INTER_CUBIC)
    noise = np.clip(128 + total, 0, 255).astype(np.uint8)
    noise.setflags(write=False)
    return noise


def random_light(rng: np.random.Generator) -> Light:
    """Return a random light from above in front, more or less from one side, hard or soft."""
    direction = np.array([rng.uniform(-1, 1), rng.uniform(.2, 1), rng.uniform(.35, 1.2)])
    return Light(direction / np.linalg.norm(direction), float(rng.uniform(.35, .65)))


def random_color(rng: np.random.Generator, vividness: float = 1.0) -> tuple[float, float, float]:
    """Return a random RGB color as of objects and clothes: often gray, dark or light, sometimes vivid."""
    value, vivid, hue, power = rng.random(4).tolist()
    value, vivid, hue = 25 + 220 * value, vividness * vivid ** (1 + power), 6 * hue
    return tuple(value * (1 - vivid * (1 - min(1, max(0, abs((hue + turn) % 6 - 3) - 1)))) for turn in (0, 4, 2))


def random_material(rng: np.random.Generator, vividness: float = 1.0) -> Material:
    """Return a random material of clothes or objects; half of them are plain."""
    return Material(random_color(rng, vividness), random_color(rng, vividness), pick(rng, PATTERNS, _SHARES),
                    float(rng.uniform(.03, .13)), float(rng.uniform(.001, .006)))


def pick(rng: np.random.Generator, values: tuple, shares: tuple[float, ...]):
    """Return a random value, chosen by the shares."""
    at = float(rng.random()) * sum(shares)
    for value, share in zip(values, shares, strict=True):
        at -= share
        if at < 0:
            return value
    return values[-1]


def fixed(points: np.ndarray) -> np.ndarray:
    """Return points (..., 2) as int32 in the fixed point of `Surfaces.polygons`."""
    return np.rint(np.minimum(np.maximum(points, -_FAR), _FAR) * (1 << FRACTION)).astype(np.int32)


def numbered(polygons: list[tuple[int, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """Return (H, W) uint8: at each pixel 1 + the row of the nearest part, or 0 if there is none."""
    ids = np.zeros(shape[:2], np.uint8)
    for row, polygon in polygons:
        cv2.fillConvexPoly(ids, polygon, row + 1, cv2.LINE_8, FRACTION)
    return ids


def coverage(shape: tuple[int, ...], polygons: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Return (H, W) uint8: how much painting the polygons covers each pixel; exactly 0 for unchanged pixels."""
    covered = np.zeros(shape[:2], np.uint8)
    area = _extent(polygons, shape)
    if area is not None:
        covered[area] = _soft(_numbered_in(area, polygons))
    return covered


def _soft(ids):
    """Return 255 inside the parts, less within a pixel of their edge."""
    return _softened((ids > 0).view(np.uint8) * np.uint8(255))


def _softened(image):
    return cv2.GaussianBlur(image, (3, 3), .6, borderType=cv2.BORDER_REPLICATE)


def paint(canvas: np.ndarray, surfaces: Surfaces, materials: list[Material], ambient: float, rng: np.random.Generator,
          special: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None) -> None:
    """Paint the parts into `canvas` (H, W, 3) uint8 in place; pixels whose `coverage` is 0 keep their values.

    Args:
        ambient: share of the light that arrives everywhere.
        special: function from the rows, x and y (n,) of the painted pixels to the indices (m,) of those that it
            colors itself, and their lit colors (m, 3).
    """
    area = _extent(surfaces.polygons, canvas.shape)
    if area is None:
        return
    patch, ids = canvas[area], _numbered_in(area, surfaces.polygons)
    inside = np.flatnonzero(ids > 0)
    if not len(inside):
        return
    y, x = np.divmod(inside.astype(np.int32), ids.shape[1])
    rows = ids.ravel()[inside].astype(np.intp) - 1
    x, y = (x + area[1].start).astype(np.float32), (y + area[0].start).astype(np.float32)
    colors = _colors(rows, x, y, surfaces, materials, ambient, rng)
    if special is not None:
        chosen, special_colors = special(rows, x, y)
        colors[chosen] = special_colors
    painted = np.zeros_like(patch)
    painted.reshape(-1, 3)[inside] = np.minimum(colors, 255)
    # Color and coverage are softened by the same filter, so that edges blend without a dark seam.
    rest = cv2.bitwise_not(cv2.merge([_soft(ids)] * 3))
    patch[:] = cv2.add(_softened(painted), cv2.multiply(patch, rest, scale=1 / 255))


def _extent(polygons, shape):
    """Return slices of the rows and columns that painting may change, or None if all are outside."""
    points = np.concatenate([polygon for _, polygon in polygons])
    low, high = (points.min(axis=0) >> FRACTION).tolist(), (points.max(axis=0) >> FRACTION).tolist()
    left, top = max(0, low[0] - 2), max(0, low[1] - 2)
    right, bottom = min(shape[1], high[0] + 4), min(shape[0], high[1] + 4)
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def _numbered_in(area, polygons):
    """Return `numbered` of that area of the image."""
    rows, columns = area
    shift = np.array([columns.start, rows.start], np.int32) << FRACTION
    return numbered([(row, polygon - shift) for row, polygon in polygons],
                    (rows.stop - rows.start, columns.stop - columns.start))


def _colors(rows, x, y, surfaces, materials, ambient, rng):
    """Return the (n, 3) float32 colors of pixels, not below 0."""
    along = surfaces.end - surfaces.start
    ahead = along / (np.maximum(np.sqrt((along * along).sum(axis=1)), 1e-3) * surfaces.scale)[:, None]
    away = ahead[:, ::-1] * (-1, 1)
    # Meters across and along the part are affine functions of the pixel.
    middle = (surfaces.start * away).sum(axis=1)
    begin = (surfaces.start * ahead).sum(axis=1) - rng.uniform(.5, 1.5, len(along))
    turn = surfaces.roundness * surfaces.scale * .97 / np.maximum(surfaces.half, .5)
    kinds = np.array([PATTERNS.index(m.pattern) for m in materials])[surfaces.material]
    frequency = np.array([1 / m.period for m in materials])[surfaces.material]
    rough = np.array([m.grain for m in materials])[surfaces.material]
    tables = np.stack([*away.T, middle, *ahead.T, begin, turn, surfaces.across, surfaces.facing, frequency, rough])
    ax, ay, a0, bx, by, b0, turn, across, facing, frequency, rough = np.take(tables.astype(np.float32), rows, axis=1)
    u = ax * x + ay * y - a0
    v = bx * x + by * y - b0
    bend = np.minimum(np.maximum(u * turn, -.97), .97)
    lit = ambient + (1.05 - ambient) * np.maximum(bend * across + np.sqrt(1 - bend * bend) * facing, 0)
    u += 1
    fold = grain()[(v * _ROW).astype(np.int32) & 511, (u * _COLUMN).astype(np.int32) & 511].astype(np.float32)
    chosen = _second_color(rows, kinds, u, v, frequency, fold)
    lit *= 1 + (fold - 128) * rough
    palette = np.array([c for m in materials for c in (m.color, m.second)], np.float32)
    return np.take(palette, 2 * surfaces.material[rows] + chosen, axis=0) * lit[:, None]


def _second_color(rows, kinds, u, v, frequency, fold):
    """Return (n,) bool: pixels that have the pattern's second color."""
    chosen = np.zeros(len(rows), bool)
    if not kinds.any():
        return chosen
    kind = kinds[rows]
    at = np.flatnonzero(kind > 0)
    kind, along, across = kind[at], (v[at] * frequency[at]) % 1, (u[at] * frequency[at]) % 1
    hoop, stripe = along < .34, across < .34
    dot = (along - .5) ** 2 + (across - .5) ** 2 < .075
    chosen[at] = np.choose(kind - 1, (hoop, stripe, hoop | stripe, dot, fold[at] > 140))
    return chosen


def round_hull(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the convex outline, (N, 2) int32 fixed-point pixels, of circles at `centers` (n, 2) with `radii` (n,)."""
    return cv2.convexHull(fixed(centers[:, None] + np.asarray(radii)[:, None, None] * CIRCLE).reshape(-1, 2))[:, 0]


CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)
