"""Draw a sheet of training samples: as annotated, as augmented, and the two kinds of target maps made from them."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from posecascade.backend import keras_settings
from posecascade.codec.targets import confidence_maps, part_discs
from posecascade.drawing import draw_pose, keypoint_colors, sheet
from posecascade.errors import InputError
from posecascade.records import Record, Sample
from posecascade.schema import Schema
from posecascade.training.augment import Augmentation, load_sample, target

COLUMNS = 4  # annotated, augmented, discs, Gaussians


@keras_settings()
def samples_sheet(sets: Sequence[Sequence[Record]], count: int, rng: np.random.Generator, *, size: int, stride: int,
                  disc_radius: float, sigma: float) -> tuple[np.ndarray, list[str]]:
    """Draw `count` random people, one row each: the crop with its labels, augmented, its part discs, its Gaussians.

    Args:
        sets: data sets; people are taken from each in turn.
        size: of each crop in pixels; `disc_radius` and `sigma` are in these pixels too.
        stride: of the target maps; each cell is drawn `stride` pixels wide.
    Returns:
        the sheet, (H, W, 3) uint8 RGB, and the origin of the person in each row.
    Raises:
        InputError: the first person's fault, if nobody's image can be read. Otherwise unreadable people are skipped.
    """
    tiles, origins, faults = [], [], []
    for record in _by_turns(sets, rng):
        try:
            plain, varied = load_sample(record, size), load_sample(record, size, rng, Augmentation())
        except InputError as error:
            faults.append(str(error))
            continue
        tiles += [_drawn(plain), _drawn(varied), *_targets(varied, stride, disc_radius, sigma)]
        origins.append(record.origin)
        if len(origins) == count:
            break
    if not origins:
        raise InputError(faults[0])
    return sheet(tiles, COLUMNS), origins


def overlaid(image: np.ndarray, maps: np.ndarray, schema: Schema) -> np.ndarray:
    """Return the image darkened, with each keypoint's map drawn over it in the color of its side.

    Args:
        image: (S, S, 3) uint8 RGB.
        maps: (H, W, K) in 0..1, of the same square.
    """
    strength = cv2.resize(maps.max(-1).astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    colors = np.array(keypoint_colors(schema), np.float32)[maps.argmax(-1)]
    colors = cv2.resize(colors, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.clip(image * (0.6 - 0.6 * strength[..., None]) + colors * strength[..., None], 0, 255).astype(np.uint8)


def _by_turns(sets: Sequence[Sequence[Record]], rng: np.random.Generator) -> Iterator[Record]:
    """Yield every record once, one of each set in turn, each set in random order."""
    orders = [rng.permutation(len(records)) for records in sets]
    for turn in range(max(map(len, sets))):
        for records, order in zip(sets, orders, strict=True):
            if turn < len(order):
                yield records[order[turn]]


def _drawn(sample: Sample) -> np.ndarray:
    return draw_pose(sample.image, sample.keypoints, sample.schema, visibility=sample.visibility)


def _targets(sample: Sample, stride: int, disc_radius: float, sigma: float) -> list[np.ndarray]:
    table, cells = target(sample), sample.image.shape[0] // stride
    keypoints = table[None, :, :2]
    pair = (part_discs(keypoints, cells, cells, stride=stride, radius=disc_radius),
            confidence_maps(keypoints, cells, cells, stride=stride, sigma=sigma))
    return [overlaid(sample.image, np.asarray(maps)[0] * table[:, 2], sample.schema) for maps in pair]
