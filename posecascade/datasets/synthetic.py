"""People that the package renders itself: articulated, clothed, lit, before and behind things and other people.

Everything follows from (seed, index): the geometry from one generator, background and colors from others, so that
annotations are made without painting. A joint is

- UNLABELED where it falls outside the picture;
- OCCLUDED where an object or another person in front covers its pixel, even partly, or another part of the own body
  does (an arm across the chest; the trunk before a shoulder or hip on the far side). What a part wears is part of it:
  a knee in trousers is visible;
- VISIBLE otherwise.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np

from posecascade.datasets.sources import checked_split
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

SIZE = 256  # longer side of the pictures in pixels
HEAD_SIZE_FACTOR = 0.6  # MPII toolkit: head size over the diagonal of the head box
MOST = 10 ** 6  # people of a data set; their annotations are made at once, a thousand or so a second
_FIRST = {"train": 0, "val": 10 ** 9, "test": 2 * 10 ** 9, "all": 2 * 10 ** 9}
_MIN_VAL, _VAL_SHARE = 64, 10
_PAINT, _BEHIND = 1, 2  # third numbers of the seeds of the other generators


@dataclass(frozen=True)
class Rendered:
    """The picture of one synthetic person, painted anew whenever it is read; an `ImageSource`."""

    seed: int
    index: int
    size: int = SIZE

    @property
    def name(self) -> str:
        """Seed and number."""
        return f"synthetic:seed {self.seed}, person {self.index}"

    def read(self, shrink: int = 1) -> np.ndarray:
        """(H, W, 3) uint8 RGB, the longer side `size` pixels, divided by `shrink` (rounded up)."""
        rng = np.random.default_rng([self.seed, self.index, _PAINT])
        picture = painted(scene_of(self.seed, self.index, self.size), rng, self.seed, self.index)
        return shrunk(developed(picture, rng), shrink)


@dataclass(frozen=True)
class Scene:
    """Where everything is: the picture's size in pixels, the person, and what stands in front of them, near last."""

    width: int
    height: int
    person: Figure
    front: tuple[Figure | Thing, ...]


def read_synthetic(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """The synthetic people of "COUNT" or "COUNT@SEED" (seed 0 where none is given), in MPII's schema.

    "train" is COUNT people, "val" max(64, COUNT // 10) others, "test" and "all" COUNT others again; no two splits of a
    seed share anybody. `schema` is not used. Raises InputError for any other `root`, or an unknown split.
    """
    found = re.fullmatch(r"([0-9]{1,9})(?:@([0-9]{1,9}))?", root)
    count = int(found[1]) if found else 0
    if not found or not 1 <= count <= MOST:
        raise InputError(f"synthetic: {root!r} is no number of people; give COUNT or COUNT@SEED, as in 2000 or 2000@7 "
                         f"(COUNT from 1 to {MOST}, SEED below a thousand million)")
    people = max(_MIN_VAL, count // _VAL_SHARE) if checked_split(split) == "val" else count
    return [record_of(int(found[2] or 0), _FIRST[split] + number) for number in range(people)]


def record_of(seed: int, index: int, size: int = SIZE) -> Record:
    """One person with box, visibility, head size and area, without painting the picture."""
    scene = scene_of(seed, index, size)
    visibility = visibility_of(scene)
    points = scene.person.keypoints
    box = Box.around(points[visibility > Visibility.UNLABELED], min_size=8.0)
    source = Rendered(seed, index, size)
    return Record(source, source.name, MPII16, box, points, visibility, head_size=_head_size(scene.person),
                  area=box.w * box.h, image_id=index, person_id=index)


def visibility_of(scene: Scene) -> np.ndarray:
    """(16,) int8 codes of `Visibility`, by the rules at the top of this module."""
    points = scene.person.keypoints
    within = inside(points, scene.width, scene.height)
    pixels = np.where(within[:, None], np.rint(points), 0).astype(int)
    shape = (scene.height, scene.width)
    hidden = figures.hidden_by_self(scene.person, pixels, within, shape)
    for item in scene.front:
        hidden |= painting.coverage(shape, item.polygons)[pixels[:, 1], pixels[:, 0]] > 0
    return np.where(within, np.where(hidden, Visibility.OCCLUDED, Visibility.VISIBLE), 0).astype(np.int8)


def scene_of(seed: int, index: int, size: int = SIZE) -> Scene:
    """The geometry of one picture, its longer side `size` pixels."""
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
        joint = person.keypoints[rng.integers(len(KEYPOINTS))]
        place = np.clip(joint, 0, (width, height)) + rng.normal(0, .06, 2) * (high - low).max()
        front.append(scenery.random_thing(rng, place, rng.uniform(.1, .42) * min(size, (high - low).max())))
    return Scene(width, height, person, tuple(front))


def painted(scene: Scene, rng: np.random.Generator, seed: int, index: int, front: bool = True) -> np.ndarray:
    """(H, W, 3) uint8: the scene before light, blur and noise of the photograph; without `front`, nothing in front.

    Pixels that nothing in front covers are the same with and without it.
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


def developed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture as a camera takes it: exposure, color cast and contrast, sometimes blur or few pixels, and noise."""
    if rng.random() < .25:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(.5, 1.3)))
    elif rng.random() < .12:
        height, width = picture.shape[:2]
        few = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR)
    gain = rng.uniform(.75, 1.2) * rng.normal(1, .05, 3)
    levels = 255 * np.clip((np.arange(256)[:, None] / 255 * gain), 0, 1) ** rng.uniform(.8, 1.25)
    picture = cv2.LUT(picture, levels.astype(np.uint8).reshape(256, 1, 3))
    amount = float(rng.uniform(0, .09))
    noise = np.frombuffer(rng.bytes(picture.size), np.uint8).reshape(picture.shape)
    return cv2.addWeighted(picture, 1.0, noise, amount, -127.5 * amount)


def _paint(canvas, item, light, rng):
    if isinstance(item, Thing):
        scenery.paint_things(canvas, [item], light, rng)
    else:
        looks.paint_figure(canvas, item, looks.random_look(rng, item), light, rng)


def _extent(figure):
    return figure.keypoints.min(axis=0), figure.keypoints.max(axis=0)


def _framed(rng, skeleton, rotation, distance, size):
    """Width, height and the camera that brings the body, or for some only the upper part of it, into the picture."""
    left_out = ()
    if rng.random() < .16:  # cut off somewhere below the hips
        left_out = ("ankle", "knee") if rng.random() < .5 else ("ankle",)
    kept = [k for k, name in enumerate(KEYPOINTS) if not name.endswith(left_out)]
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
    """Another person, beside the first one, nearer and larger or farther and smaller."""
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
    """Row where the ground begins: between the person's hips and feet, mostly."""
    low, high = _extent(scene.person)
    return float(np.clip(high[1] - rng.uniform(.05, .6) * (high[1] - low[1]), .2 * scene.height, scene.height))


def _head_size(figure):
    """MPII's: of the upright box round the head, here from chin and top and as wide as a head is."""
    neck, top = figure.keypoints[[KEYPOINTS.index("neck"), KEYPOINTS.index("head_top")]]
    skull = [outline / (1 << painting.FRACTION) for part, outline in figure.polygons if part == figure.face]
    outline = np.concatenate([*skull, np.stack([neck, top])])
    return float(HEAD_SIZE_FACTOR * np.hypot(*(outline.max(axis=0) - outline.min(axis=0))))
