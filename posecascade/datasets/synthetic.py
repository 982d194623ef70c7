"""Render synthetic people: articulated, clothed and lit, in front of and behind objects and other people.

Everything is determined by (seed, index): one random generator makes the geometry, others make the background and the
colors, so that annotations do not need the rendered image. A keypoint is

- UNLABELED if it is outside the image;
- OCCLUDED if an object or another person in front covers its pixel, even partly, or if another part of the person's own
  body does (an arm across the chest; the trunk in front of a shoulder or hip on the far side). Clothes belong to the
  part that wears them: a knee in trousers is visible;
- VISIBLE otherwise.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np

from posecascade.datasets.sources import HEAD_SIZE_FACTOR, checked_split
from posecascade.errors import InputError
from posecascade.geometry import Box, inside
from posecascade.images import shrunk
from posecascade.records import Record, Visibility
from posecascade.rendering import bodies, figures, looks, painting, scenery
from posecascade.rendering.bodies import KEYPOINTS, Camera
from posecascade.rendering.figures import Figure
from posecascade.rendering.scenery import Thing
from posecascade.rendering.wardrobe import random_outfit
from posecascade.schema import MPII16, Schema

SIZE = 256  # longer side of the images in pixels
MAX_PEOPLE = 10 ** 6  # of a data set; all are annotated when it is read, about a thousand per second
_FIRST = {"train": 0, "val": 10 ** 9, "test": 2 * 10 ** 9, "all": 2 * 10 ** 9}
_MIN_VAL, _VAL_SHARE = 64, 10
_PAINT, _BEHIND = 1, 2  # third numbers in the seeds of the other generators


@dataclass(frozen=True)
class Rendered:
    """The image of one synthetic person, rendered whenever it is read; an `ImageSource`."""

    seed: int
    index: int
    size: int = SIZE

    @property
    def name(self) -> str:
        """Return where the person comes from: the seed and the person's number, for error messages."""
        return f"synthetic:seed {self.seed}, person {self.index}"

    def read(self, shrink: int = 1) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB, the longer side `size` pixels; both sides divided by `shrink` (rounded up)."""
        rng = np.random.default_rng([self.seed, self.index, _PAINT])
        image = painted(scene_of(self.seed, self.index, self.size), rng, self.seed, self.index)
        return shrunk(developed(image, rng), shrink)


@dataclass(frozen=True)
class Scene:
    """Geometry of an image: its size in pixels, the person, and the figures and things in front, the nearest last."""

    width: int
    height: int
    person: Figure
    front: tuple[Figure | Thing, ...]


def read_synthetic(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return the synthetic people of "COUNT" or "COUNT@SEED" (default seed 0), in MPII's schema.

    "train" is COUNT people, "val" max(64, COUNT // 10) other people, "test" and "all" COUNT other people again; splits
    of the same seed share nobody. `schema` is ignored. Raises InputError for any other `root`, or an unknown split.
    """
    match = re.fullmatch(r"([0-9]{1,9})(?:@([0-9]{1,9}))?", root)
    count = int(match[1]) if match else 0
    if not match or not 1 <= count <= MAX_PEOPLE:
        raise InputError(f"synthetic: {root!r} is not a number of people; give COUNT or COUNT@SEED, as in 2000 or "
                         f"2000@7 (COUNT from 1 to {MAX_PEOPLE}, SEED from 0 to 999999999)")
    people = max(_MIN_VAL, count // _VAL_SHARE) if checked_split(split) == "val" else count
    return [record_of(int(match[2] or 0), _FIRST[split] + number) for number in range(people)]


def record_of(seed: int, index: int, size: int = SIZE) -> Record:
    """Return one person with box, visibility, head size and area, without rendering the image."""
    scene = scene_of(seed, index, size)
    visibility = visibility_of(scene)
    points = scene.person.keypoints
    box = Box.around(points[visibility > Visibility.UNLABELED], min_size=8.0)
    source = Rendered(seed, index, size)
    return Record(source, source.name, MPII16, box, points, visibility, head_size=_head_size(scene.person),
                  area=box.w * box.h, image_id=index, person_id=index)


def visibility_of(scene: Scene) -> np.ndarray:
    """Return (16,) int8 codes of `Visibility`, by the rules at the top of this module."""
    points = scene.person.keypoints
    within = inside(points, scene.width, scene.height)
    pixels = np.where(within[:, None], np.rint(points), 0).astype(int)
    shape = (scene.height, scene.width)
    hidden = figures.hidden_by_self(scene.person, pixels, within, shape)
    for item in scene.front:
        hidden |= painting.coverage(shape, item.polygons)[pixels[:, 1], pixels[:, 0]] > 0
    return np.where(within, np.where(hidden, Visibility.OCCLUDED, Visibility.VISIBLE), 0).astype(np.int8)


def scene_of(seed: int, index: int, size: int = SIZE) -> Scene:
    """Return the geometry of one image, its longer side `size` pixels."""
    rng = np.random.default_rng([seed, index])
    rotation, distance = bodies.random_view(rng)
    pose, build, outfit = bodies.random_pose(rng), bodies.random_build(rng), random_outfit(rng)
    skeleton = bodies.pose_skeleton(pose, build)
    width, height, camera = _framed(rng, skeleton, rotation, distance, size)
    person = figures.see(skeleton, camera, outfit)
    front = []
    if rng.random() < .14:
        front.append(_somebody(rng, person, width, height, nearer=True))
    low, high = _extent(person)
    for _ in range(int(rng.choice(4, p=(.4, .34, .18, .08)))):
        keypoint = person.keypoints[rng.integers(len(KEYPOINTS))]
        center = np.clip(keypoint, 0, (width, height)) + rng.normal(0, .06, 2) * (high - low).max()
        front.append(scenery.random_thing(rng, center, rng.uniform(.1, .42) * min(size, (high - low).max())))
    return Scene(width, height, person, tuple(front))


def painted(scene: Scene, rng: np.random.Generator, seed: int, index: int, front: bool = True) -> np.ndarray:
    """Return (H, W, 3) uint8: the scene before the exposure, blur and noise of `developed`.

    Without `front`, whatever is in front of the person is not painted; the pixels it does not cover stay the same.
    """
    light = painting.random_light(rng)
    behind = np.random.default_rng([seed, index, _BEHIND])
    canvas = scenery.backdrop(behind, scene.width, scene.height, _horizon(scene, behind), light)
    for _ in range(int(behind.choice(4, p=(.55, .25, .12, .08)))):
        _paint(canvas, _somebody(behind, scene.person, scene.width, scene.height, nearer=False), light, behind)
    looks.cast_shadow(canvas, scene.person, light)
    _paint(canvas, scene.person, light, rng)
    for item in scene.front if front else ():
        _paint(canvas, item, light, rng)
    return canvas


def developed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image as from a camera: exposure, color cast, contrast and noise, sometimes blur or low resolution."""
    if rng.random() < .25:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(.5, 1.3)))
    elif rng.random() < .12:
        height, width = image.shape[:2]
        few = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        image = cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR)
    gain = rng.uniform(.75, 1.2) * rng.normal(1, .05, 3)
    levels = 255 * np.clip((np.arange(256)[:, None] / 255 * gain), 0, 1) ** rng.uniform(.8, 1.25)
    image = cv2.LUT(image, levels.astype(np.uint8).reshape(256, 1, 3))
    amount = float(rng.uniform(0, .09))
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    return cv2.addWeighted(image, 1.0, noise, amount, -127.5 * amount)


def _paint(canvas, item, light, rng):
    if isinstance(item, Thing):
        scenery.paint_things(canvas, [item], light, rng)
    else:
        looks.paint_figure(canvas, item, looks.random_look(rng, item), light, rng)


def _extent(figure):
    return figure.keypoints.min(axis=0), figure.keypoints.max(axis=0)


def _framed(rng, skeleton, rotation, distance, size):
    """Return width, height and a camera that sees the complete body or, for some people, only the upper part of it."""
    cut_off = ()
    if rng.random() < .16:
        cut_off = ("ankle", "knee") if rng.random() < .5 else ("ankle",)
    kept = [k for k, name in enumerate(KEYPOINTS) if not name.endswith(cut_off)]
    pixels, _, _ = Camera(rotation, distance, 1.0, (0.0, 0.0)).project(skeleton.points[kept])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    span = np.maximum(high - low, .25 * (high - low).max())
    shape = np.clip(span / span.max() * rng.uniform(1, 1.5, 2), .62, 1)
    width, height = (int(side) for side in np.rint(size * shape / shape.max()))
    focal = rng.uniform(.62, .98) * min(width / span[0], height / span[1])
    middle = np.array([width - 1, height - 1]) / 2 - focal * (low + high) / 2
    spare = np.maximum(np.array([width, height]) - focal * span, 0)
    center = middle + np.clip(rng.normal(0, .22, 2), -.5, .5) * spare + rng.normal(0, .012, 2) * size
    return width, height, Camera(rotation, distance, float(focal), (float(center[0]), float(center[1])))


def _somebody(rng, person, width, height, nearer):
    """Return another person to the side of the first, nearer and larger or farther and smaller."""
    rotation, distance = bodies.random_view(rng)
    skeleton = bodies.pose_skeleton(bodies.random_pose(rng), bodies.random_build(rng))
    low, high = _extent(person)
    scale = float((high - low).max()) * (rng.uniform(.85, 1.35) if nearer else rng.uniform(.35, .9))
    aside = rng.choice((-1, 1)) * (rng.uniform(.3, .6) * scale if nearer else rng.uniform(.1, .7) * width)
    center = (low + high) / 2 + (aside, rng.normal(.05 if nearer else -.03, .1) * height)
    focal = scale * distance / 1.75
    return figures.see(skeleton, Camera(rotation, distance, focal, (float(center[0]), float(center[1]))),
                       random_outfit(rng))


def _horizon(scene, rng):
    """Return the row at which the ground begins, usually between the person's hips and feet."""
    low, high = _extent(scene.person)
    return float(np.clip(high[1] - rng.uniform(.05, .6) * (high[1] - low[1]), .2 * scene.height, scene.height))


def _head_size(figure):
    """Return MPII's head size, that of the upright box around the head: here the face's outline, neck and head top."""
    neck, top = figure.keypoints[[KEYPOINTS.index("neck"), KEYPOINTS.index("head_top")]]
    skull = [outline / (1 << painting.FRACTION) for part, outline in figure.polygons if part == figure.face]
    outline = np.concatenate([*skull, np.stack([neck, top])])
    return float(HEAD_SIZE_FACTOR * np.hypot(*(outline.max(axis=0) - outline.min(axis=0))))
