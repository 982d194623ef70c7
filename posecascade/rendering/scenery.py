"""Paint backgrounds and textured objects; paste an object over a photograph and return the exact mask of it."""

from dataclasses import dataclass

import cv2
import numpy as np

from posecascade.rendering import painting
from posecascade.rendering.painting import Light, Material, Surfaces

# Share of each kind of object; a "limb" looks like another person's arm.
_KINDS = {"box": .2, "ball": .12, "blob": .17, "pole": .14, "limb": .13, "plant": .09, "railing": .06, "board": .09}
_SIDES = np.linspace(0, 2 * np.pi, 8, endpoint=False)
_METER = 150.0  # pixels per meter, for the size of the patterns on objects


@dataclass(frozen=True)
class Thing:
    """An object in an image, its S parts from the back to the front.

    Attributes:
        kind: a key of `_KINDS`.
        polygons, start, end, half, roundness: as in `painting.Surfaces`.
    """

    kind: str
    polygons: list[tuple[int, np.ndarray]]
    start: np.ndarray
    end: np.ndarray
    half: np.ndarray
    roundness: np.ndarray


def random_thing(rng: np.random.Generator, center: np.ndarray, size: float, kind: str | None = None) -> Thing:
    """Return an object of about `size` pixels around `center` (x, y), of random kind, shape and angle."""
    kind = kind or painting.pick(rng, tuple(_KINDS), tuple(_KINDS.values()))
    shapes = {"box": _box, "ball": _ball, "blob": _blob, "pole": _pole, "limb": _limb, "plant": _plant,
              "railing": _railing, "board": _board}
    outlines, start, end, half, roundness = zip(*shapes[kind](rng, np.asarray(center, float), float(size)), strict=True)
    return Thing(kind, list(enumerate(outlines)), np.array(start), np.array(end), np.array(half), np.array(roundness))


def paint_things(canvas: np.ndarray, things: list[Thing], light: Light, rng: np.random.Generator) -> None:
    """Paint objects, the farthest first, into `canvas` (H, W, 3) uint8 in place; see `painting.paint`."""
    counts = [len(thing.half) for thing in things]
    first = np.cumsum([0, *counts]).tolist()
    polygons = [(base + row, polygon) for base, thing in zip(first, things, strict=False)
                for row, polygon in thing.polygons]
    start, end, half, roundness = (np.concatenate([getattr(thing, name) for thing in things])
                                   for name in ("start", "end", "half", "roundness"))
    along = end - start
    along /= np.maximum(np.sqrt((along * along).sum(axis=1, keepdims=True)), 1e-6)
    across = -along[:, 1] * light.direction[0] - along[:, 0] * light.direction[1]  # y points up in the light's frame
    # Faces of a box and leaves have random orientations, and so a random brightness each.
    facing = np.where(roundness > 0, light.direction[2], rng.uniform(.15, 1, first[-1]))
    surfaces = Surfaces(polygons, start, end, half, np.full(first[-1], _METER),
                        np.repeat(np.arange(len(things)), counts), across, facing, roundness)
    painting.paint(canvas, surfaces, [_material_of(thing.kind, rng) for thing in things], light.ambient, rng)


def paste_occluder(image: np.ndarray, rng: np.random.Generator, center_xy: tuple[float, float],
                   size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the image with a random textured object painted over it, and the mask of the object.

    Args:
        image: (H, W, 3) uint8 RGB, not changed.
        center_xy: of the object, in pixels; it may be outside the image.
        size: of the object in pixels, roughly its longer side.
    Returns:
        a new image (H, W, 3) uint8, and (H, W) bool: exactly the pixels that the object covers entirely or partly;
        all others keep their value of `image`.
    """
    thing = random_thing(rng, np.array(center_xy, float), max(2.0, float(size)))
    pasted = image.copy()
    paint_things(pasted, [thing], painting.random_light(rng), rng)
    return pasted, painting.coverage(image.shape, thing.polygons) > 0


def _material_of(kind, rng):
    if kind == "limb" and rng.random() < .6:
        tone = rng.uniform(.35, 1.0)
        return Material((235 * tone, 190 * tone, 160 * tone), grain=.0015)
    if kind == "plant":
        return Material((rng.uniform(20, 90), rng.uniform(70, 150), rng.uniform(20, 70)), grain=.006)
    return painting.random_material(rng, .7)


def _turned(points, angle, center):
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points, float) @ np.array([[c, s], [-s, c]]) + center


def _box(rng, center, size):
    """Return two faces of a crate with the edge between them."""
    w, h = size * rng.uniform(.3, .5), size * rng.uniform(.25, .5)
    edge, slant = rng.uniform(-.6, .8) * w, rng.uniform(-.2, .2) * h
    angle = rng.normal(0, .25)
    faces = ([(-w, -h + slant), (edge, -h), (edge, h), (-w, h - slant)],
             [(edge, -h), (w, -h + slant), (w, h - slant), (edge, h)])
    return [(painting.fixed(corners), corners[:2].mean(axis=0), corners[2:].mean(axis=0), w, 0.0)
            for corners in (_turned(face, angle, center) for face in faces)]


def _board(rng, center, size):
    w, h = size * rng.uniform(.2, .5, 2)
    corners = _turned([(-w, -h), (w, -h), (w, h), (-w, h)], rng.normal(0, .4), center)
    return [(painting.fixed(corners), corners[:2].mean(axis=0), corners[2:].mean(axis=0), w, 0.0)]


def _ball(rng, center, size):
    radius = size * rng.uniform(.3, .5)
    angle = rng.uniform(0, 2 * np.pi)
    axis = radius * np.array([np.cos(angle), np.sin(angle)])
    outline = painting.round_hull(center[None], np.array([radius]))
    return [(outline, center - axis, center + axis, radius, 1.0)]


def _blob(rng, center, size):
    radii = size * rng.uniform(.22, .55, len(_SIDES))
    points = center + radii[:, None] * np.stack([np.cos(_SIDES), np.sin(_SIDES)], axis=1)
    outline = painting.round_hull(points, np.full(len(points), .06 * size))
    half = np.array([0, size / 2])
    return [(outline, center - half, center + half, size / 2, float(rng.uniform(.4, .95)))]


def _rod(start, end, first, second, roundness=1.0):
    outline = painting.round_hull(np.stack([start, end]), np.array([first, second]))
    return outline, start, end, max(first, second), roundness


def _pole(rng, center, size):
    angle = rng.normal(np.pi / 2, .35) if rng.random() < .7 else rng.uniform(0, np.pi)
    reach = size * rng.uniform(.5, .9) * np.array([np.cos(angle), np.sin(angle)])
    thick = size * rng.uniform(.05, .13)
    return [_rod(center - reach, center + reach, thick, thick)]


def _limb(rng, center, size):
    """Return two tapered rods at an angle."""
    first, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, .9)
    thick = size * rng.uniform(.08, .13)
    there = size * .48 * np.array([np.cos(first), np.sin(first)])
    back = size * .48 * np.array([np.cos(first + bend), np.sin(first + bend)])
    return [_rod(center - there, center, thick, .8 * thick), _rod(center, center + back, .8 * thick, .5 * thick)]


def _plant(rng, center, size):
    root = center + np.array([0, .4 * size])
    parts = []
    for angle in rng.normal(-np.pi / 2, .6, 7):
        tip = root + size * rng.uniform(.55, .95) * np.array([np.cos(angle), np.sin(angle)])
        parts.append(_rod((root + tip) / 2 + rng.normal(0, .03, 2) * size, tip, .09 * size, .01 * size, 0.0))
        parts.append(_rod(root, (root + tip) / 2, .015 * size, .03 * size, 0.0))
    return parts


def _railing(rng, center, size):
    thick, up = size * rng.uniform(.025, .05), np.array([0, size * rng.uniform(.3, .5)])
    feet = [center + np.array([x, 0]) for x in np.linspace(-.6 * size, .6 * size, 6)]
    bars = [_rod(foot - up, foot + up, thick * .7, thick * .7) for foot in feet]
    return bars + [_rod(feet[0] + end, feet[-1] + end, thick, thick) for end in (-up, up)]


def backdrop(rng: np.random.Generator, width: int, height: int, horizon: float, light: Light) -> np.ndarray:
    """Return (height, width, 3) uint8: a wall or landscape, the ground from row `horizon` on, and objects on both."""
    canvas = _gradient(rng, width, height)
    level = int(np.clip(horizon, 0, height))
    if level < height:
        canvas[level:] = _gradient(rng, width, height - level)
    _far_things(rng, canvas, level)
    left, top, right, bottom = (rng.random(4) * 200).astype(int).tolist()
    grain = cv2.resize(painting.grain()[top:300 + bottom, left:300 + right], (width, height))
    strength = float(rng.uniform(.1, .7))
    canvas = cv2.multiply(canvas, cv2.merge([cv2.convertScaleAbs(grain, None, strength, 128 * (1 - strength))] * 3),
                          scale=1 / 128)
    things = []
    for _ in range(int(rng.integers(3, 10))):
        size = float(rng.uniform(.08, .5) * height)
        center = rng.uniform((0, 0), (width, height))
        if rng.random() < .5:  # standing on the ground rather than hanging
            center[1] = level + .1 * size
        things.append(random_thing(rng, center, size))
    paint_things(canvas, things, light, rng)
    return cv2.GaussianBlur(canvas, (5, 5), 0) if rng.random() < .4 else canvas


def _gradient(rng, width, height):
    """Return a muted color of varying brightness."""
    shades = rng.normal(0, 18, (3, 3, 1)) + rng.normal(0, 7, (3, 3, 3))
    cells = np.clip(painting.random_color(rng, .6) + shades, 0, 255).astype(np.uint8)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def _far_things(rng, canvas, level):
    """Paint houses with windows, tree tops or panels on the wall, and seams on the ground."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(1, 6))):
        left, wide = int(rng.uniform(-.1, .9) * width), int(rng.uniform(.1, .4) * width)
        top = int(rng.uniform(0, .8) * level)
        color = painting.random_color(rng, .6)
        if rng.random() < .35:
            cv2.ellipse(canvas, (left, top), (wide, max(4, int(wide * rng.uniform(.4, 1)))), 0, 0, 360, color, -1)
            continue
        cv2.rectangle(canvas, (left, top), (left + wide, level), color, -1)
        glass, step = painting.random_color(rng, .6), max(6, wide // int(rng.integers(2, 6)))
        if rng.random() < .5:
            for y in range(top + 3, level - step, step):
                for x in range(left + 3, left + wide - step + 4, step):
                    cv2.rectangle(canvas, (x, y), (x + step * 6 // 10, y + step * 6 // 10), glass, -1)
    if level < height and rng.random() < .4:
        tone = painting.random_color(rng, .6)
        vanish = rng.uniform(0, width)
        for x in np.linspace(-width, 2 * width, 14):
            cv2.line(canvas, (int(vanish + (x - vanish) * .25), level), (int(x), height), tone, 1, cv2.LINE_AA)
