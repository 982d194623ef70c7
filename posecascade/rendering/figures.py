"""Project a clothed body into an image: the named outlines of its parts in the order in which they are painted.

Painting and the test for hidden keypoints use the same outlines. Parts are ordered by the depth of their middle (the
painter's algorithm).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from posecascade.rendering import painting
from posecascade.rendering.bodies import FRAMES, KEYPOINTS, POINTS, Camera, Skeleton
from posecascade.rendering.painting import Light, Surfaces
from posecascade.rendering.wardrobe import MATERIALS, POWERS, Outfit, tables_of

# The parts a keypoint belongs to; any other part in front of it hides it.
_OF_SIDE = {"shoulder": ("upper_arm", "sleeve"), "elbow": ("upper_arm", "forearm", "sleeve", "cuff"),
            "wrist": ("forearm", "hand", "cuff"), "hip": ("thigh", "leg"), "knee": ("thigh", "shin", "leg"),
            "ankle": ("shin", "foot")}
_OF_MIDDLE = {"pelvis": {"torso", "hips", "skirt", "left_thigh", "right_thigh", "left_leg", "right_leg"},
              "thorax": {"torso", "neck"}, "neck": {"neck", "head", "hair", "torso"},
              "head_top": {"head", "hair", "hat"}}
OWN = _OF_MIDDLE | {
    f"{side}_{name}": {f"{side}_{part}" for part in parts} | (
        {"torso"} if name == "shoulder" else {"torso", "hips", "skirt"} if name == "hip" else
        {"skirt"} if name == "knee" else set())
    for side in ("left", "right") for name, parts in _OF_SIDE.items()}

_FAR_SIDE = 0.8  # the trunk hides a shoulder or hip that is this share of its half width behind the middle
_TO_CHEST = 0.12  # smallest cosine between the view and the normal of a visible decoration


@dataclass(frozen=True)
class Figure:
    """A person in an image: S parts, numbered from the farthest to the nearest.

    Attributes:
        parts: (S) names that `OWN` uses; materials: (S,) int, rows of `wardrobe.MATERIALS`.
        polygons: (part's number, outline) as in `painting.Surfaces`.
        start, end, half, scale, roundness: as in `painting.Surfaces`.
        axis: (S, 3) unit vectors along the parts in the camera's frame.
        keypoints: (16, 2) float64 pixels in MPII's order, inside the image or not.
        far: (16,) bool, shoulders and hips behind the trunk.
        head: (3, 3) rotation from the head's frame to the camera's; head_center in pixels; head_scale in pixels per
            stature.
    """

    parts: list[str]
    materials: np.ndarray
    polygons: list[tuple[int, np.ndarray]]
    start: np.ndarray
    end: np.ndarray
    half: np.ndarray
    scale: np.ndarray
    roundness: np.ndarray
    axis: np.ndarray
    keypoints: np.ndarray
    far: np.ndarray
    outfit: Outfit
    head: np.ndarray
    head_center: np.ndarray
    head_scale: float

    @property
    def face(self) -> int:
        """Return the number of the part with the face."""
        return int(np.flatnonzero(self.materials == MATERIALS.index("face"))[0])


def see(skeleton: Skeleton, camera: Camera, outfit: Outfit) -> Figure:
    """Return the person as seen by that camera."""
    tables = tables_of(outfit)
    solids = [solid for table in tables for solid in table.solids]
    first = np.cumsum([0] + [size for table in tables for size in table.sizes])[:-1]
    balls, radii = _balls(skeleton, np.concatenate([t.places for t in tables]),
                          np.concatenate([t.numbers for t in tables]))
    pixels, depth, scale = camera.project(balls)
    radii = radii * scale
    start, end = pixels[first], pixels[first + 1]
    across = (end - start)[:, ::-1] * (-1, 1)
    across /= np.maximum(np.sqrt((across * across).sum(axis=1, keepdims=True)), 1e-6)
    reach = np.abs(((pixels - np.repeat(start, np.diff(first, append=len(balls)), axis=0)) * np.repeat(
        across, np.diff(first, append=len(balls)), axis=0)).sum(axis=1)) + radii
    half = np.maximum.reduceat(reach, first)
    axis = (balls[first + 1] - balls[first]) @ camera.rotation.T
    axis /= np.maximum(np.sqrt((axis * axis).sum(axis=1, keepdims=True)), 1e-9)
    depths = (depth[first] + depth[first + 1]) / 2 + [solid.bias for solid in solids]
    facing = (camera.rotation @ skeleton.frames[FRAMES.index("chest")])[2, 2]
    order = [k for k in np.argsort(-depths, kind="stable").tolist()
             if not solids[k].facing or solids[k].facing * facing > _TO_CHEST]
    polygons = _outlines([solids[k] for k in order], first[order].tolist(), pixels, radii)
    keypoints, keypoint_depths, _ = camera.project(skeleton.points[:len(KEYPOINTS)])
    head = POINTS.index("head")
    center, _, head_scale = camera.project(skeleton.points[head])
    return Figure(
        [solids[k].part for k in order], np.array([MATERIALS.index(solids[k].material) for k in order]), polygons,
        start[order], end[order], half[order], (scale[first] / 2 + scale[first + 1] / 2)[order],
        np.array([solids[k].roundness for k in order]), axis[order], keypoints, _far(keypoint_depths, skeleton), outfit,
        camera.rotation @ skeleton.frames[FRAMES.index("head")], center, float(head_scale) * skeleton.build.stature)


def surfaces_of(figure: Figure, light: Light) -> Surfaces:
    """Return the parts as surfaces for `painting.paint`, lit as cylinders."""
    along = figure.end - figure.start
    along /= np.maximum(np.sqrt((along * along).sum(axis=1, keepdims=True)), 1e-6)
    across = -along[:, 1] * light.direction[0] - along[:, 0] * light.direction[1]  # y points up in the camera's frame
    facing = np.array([0.0, 0.0, 1.0]) - figure.axis[:, 2:] * figure.axis
    facing /= np.maximum(np.sqrt((facing * facing).sum(axis=1, keepdims=True)), 1e-6)
    return Surfaces(figure.polygons, figure.start, figure.end, figure.half, figure.scale, figure.materials, across,
                    facing @ light.direction, figure.roundness)


def hidden_by_self(figure: Figure, pixels: np.ndarray, within: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return (16,) bool: keypoints that another part of the same body hides, as painted.

    Args:
        pixels: (16, 2) int, the keypoints' pixels; only those of `within` (16,) are checked, the others are False.
        shape: height and width of the image.
    """
    ids = painting.numbered(figure.polygons, shape)
    hidden = np.zeros(len(KEYPOINTS), bool)
    for k in np.flatnonzero(within).tolist():
        number = int(ids[pixels[k, 1], pixels[k, 0]])
        part = figure.parts[number - 1] if number else None
        hidden[k] = part is not None and (part not in OWN[KEYPOINTS[k]] or (
            bool(figure.far[k]) and part in ("torso", "hips", "skirt")))
    return hidden


def _balls(skeleton, places, numbers):
    """Return (N, 3) centers and (N,) radii of the balls in meters."""
    build = skeleton.build
    logs = np.log([getattr(build, power) for power in POWERS])
    factors = np.exp(numbers[:, 5:].reshape(-1, 3, 4) @ logs)  # of x, z and the radius
    share, offset, radius = numbers[:, :1], numbers[:, 1:4].copy(), numbers[:, 4]
    offset[:, 0] *= factors[:, 0]
    offset[:, 2] *= factors[:, 1]
    here, there = skeleton.points[places[:, 0]], skeleton.points[places[:, 1]]
    moved = (skeleton.frames[places[:, 2]] @ offset[:, :, None])[:, :, 0]
    return here + share * (there - here) + build.stature * moved, build.stature * radius * factors[:, 2]


def _outlines(solids, first, pixels, radii):
    """Return (number, convex outline) of every hull, in the order of the solids."""
    circles = painting.fixed(pixels[:, None] + radii[:, None, None] * painting.CIRCLE)
    polygons = []
    for number, (solid, at) in enumerate(zip(solids, first, strict=True)):
        at += 2  # the ends of the axis come first
        for hull in solid.hulls:
            points = circles[at:at + len(hull)]
            flat = points[:, 0].copy() if hull[0].radius == hull[-1].radius == 0 else points.reshape(-1, 2)
            polygons.append((number, cv2.convexHull(flat)[:, 0]))
            at += len(hull)
    return polygons


def _far(depths, skeleton):
    far = np.zeros(len(KEYPOINTS), bool)
    for middle, name in ((KEYPOINTS.index("thorax"), "shoulder"), (KEYPOINTS.index("pelvis"), "hip")):
        for side in ("left", "right"):
            at = KEYPOINTS.index(f"{side}_{name}")
            half = float(np.linalg.norm(skeleton.points[at] - skeleton.points[middle]))
            far[at] = depths[at] - depths[middle] > _FAR_SIDE * half
    return far
