"""Choose the colors of people and their faces, and paint a figure into an image, from the farthest part to the nearest.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from posecascade.rendering import painting
from posecascade.rendering.figures import Figure, surfaces_of
from posecascade.rendering.painting import Light, Material
from posecascade.rendering.wardrobe import MATERIALS, SKULL

_SKINS = np.array([(246, 214, 190), (233, 190, 160), (217, 164, 128), (190, 134, 96), (141, 92, 62), (92, 60, 44)])
_HAIRS = np.array([(28, 22, 20), (58, 40, 28), (104, 70, 42), (176, 134, 78), (222, 190, 130), (130, 128, 126),
                   (140, 60, 30)])
_SHOES = np.array([(30, 28, 28), (70, 50, 36), (235, 235, 232), (120, 122, 126), (40, 60, 120), (170, 40, 40)])
_TROUSERS = np.array([(42, 56, 92), (70, 92, 130), (28, 28, 32), (90, 84, 76), (160, 142, 112), (205, 200, 190)])


@dataclass(frozen=True)
class Look:
    """Materials in the order of `wardrobe.MATERIALS`, and the face: (3,) colors of skin and hair, beard, glasses."""

    materials: list[Material]
    skin: np.ndarray
    hair: np.ndarray
    beard: bool
    glasses: bool


def random_look(rng: np.random.Generator, figure: Figure) -> Look:
    """Return random colors: natural skin and hair, clothes of any color, trousers mostly of muted ones."""
    skin, hair = _tinted(_SKINS, rng, 8), _tinted(_HAIRS, rng, 8)
    sober = rng.random() < .7 and not figure.outfit.skirt
    bottom = Material(tuple(_tinted(_TROUSERS, rng, 14)), grain=.006) if sober else painting.random_material(rng)
    top, hat, bag, accent = (painting.random_material(rng) for _ in range(4))
    materials = {"skin": Material(tuple(skin), grain=.0015), "face": Material(tuple(skin), grain=.0015), "top": top,
                 "bottom": bottom, "hair": Material(tuple(hair), grain=.006),
                 "shoes": Material(tuple(_tinted(_SHOES, rng, 14))), "hat": hat, "bag": bag, "accent": accent}
    beard, glasses = rng.random(2) < (.3, .15)
    return Look([materials[name] for name in MATERIALS], skin, hair, bool(beard and not figure.outfit.feminine),
                bool(glasses))


def paint_figure(canvas: np.ndarray, figure: Figure, look: Look, light: Light, rng: np.random.Generator) -> None:
    """Paint the person into `canvas` (H, W, 3) uint8 in place; see `painting.paint`."""
    face = figure.face

    def special(rows, x, y):
        of_face = np.flatnonzero(rows == face)
        return of_face, _head_colors(figure, look, light, x[of_face], y[of_face])

    painting.paint(canvas, surfaces_of(figure, light), look.materials, light.ambient, rng, special)


def _tinted(colors, rng, spread):
    """Return a mixture of two neighboring colors of the list, with some noise."""
    at = rng.uniform(0, len(colors) - 1)
    low = int(at)
    mixed = colors[low] + (at - low) * (colors[min(low + 1, len(colors) - 1)] - colors[low])
    return np.clip(mixed + rng.normal(0, spread, 3), 5, 250)


def _head_colors(figure, look, light, x, y):
    """Return (n, 3) colors of the head's pixels: parallel rays hit an ellipsoid, which is colored by position."""
    center, scale = figure.head_center, figure.head_scale
    offsets = np.stack([(x - center[0]) / scale, (center[1] - y) / scale], axis=1)
    to_head = figure.head.T  # the camera's frame to the head's
    start, ray = offsets @ to_head[:, :2].T / SKULL, to_head[:, 2] / SKULL
    a, b = float(ray @ ray), start @ ray
    c = (start * start).sum(axis=1) - 1
    hit = start + ((np.sqrt(np.maximum(b * b - a * c, 0)) - b) / a)[:, None] * ray
    normal = hit / SKULL
    normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True)) + 1e-6
    lit = light.ambient + (1.05 - light.ambient) * np.maximum(normal @ (to_head @ light.direction), 0)
    return _face(hit.T, look, figure.outfit.hair == "bald") * lit[:, None]


def _face(hit, look, bald):
    """Return (n, 3) colors of points (3, n) on the unit sphere, whose axes are left, up, forwards."""
    aside, up, forward = np.abs(hit[0]), hit[1], hit[2]
    color = np.repeat(look.skin[None], len(up), axis=0)
    front = forward > 0
    if look.beard:
        color[front & (up < -.25) & (up < .45 - .7 * forward)] = .35 * look.skin + .65 * look.hair
    color[front & (up > -.60) & (up < -.46) & (aside < .30)] = look.skin * (.66, .42, .42)
    color[front & (up > .20) & (up < .32) & (aside > .16) & (aside < .58)] = .25 * look.skin + .75 * look.hair * .8
    away = (aside - .37) ** 2 + ((up - .05) * 1.3) ** 2
    if look.glasses:
        color[front & (away < .10) & (away > .035)] = (40, 36, 36)
    color[front & (away < .035)] = (240, 236, 232)
    color[front & (away < .016)] = (36, 26, 24)
    if bald:
        scalp = (forward < .05) & (up > -.4) & (up < .3)
    else:
        scalp = (up > .58) | ((forward < .1) & (up > -.4)) | ((forward < .32) & (up > -.02))
    color[scalp] = look.hair
    return color


def cast_shadow(canvas: np.ndarray, figure: Figure, light: Light) -> None:
    """Darken the ground under the feet of an upright person, in place."""
    ankles = figure.keypoints[[0, 5]]
    hips = figure.keypoints[[2, 3]].mean(axis=0)
    reach = float(np.linalg.norm(hips - ankles.mean(axis=0)))
    if ankles[:, 1].min() < hips[1] + .3 * reach or reach < 8:
        return
    height, width = canvas.shape[:2]
    middle = ankles.mean(axis=0) - (light.direction[0] * .25 * reach, -.08 * reach)
    half = np.array([abs(ankles[0, 0] - ankles[1, 0]) / 2 + .35 * reach, .12 * reach])
    left, top = np.maximum(0, middle - 1.2 * half).astype(int).tolist()
    right, bottom = np.minimum((width, height), middle + 1.2 * half + 1).astype(int).tolist()
    if right <= left or bottom <= top:
        return
    columns, rows = np.arange(left, right) - middle[0], np.arange(top, bottom) - middle[1]
    far = np.clip((columns[None] / half[0]) ** 2 + (rows[:, None] / half[1]) ** 2, .4, 1.3)
    dim = (150 + 105 * (far - .4) / .9).astype(np.uint8)
    part = canvas[top:bottom, left:right]
    part[:] = cv2.multiply(part, cv2.merge([dim] * 3), scale=1 / 255)
