"""Paste objects over a known share of a person's box, and label the keypoints below as occluded."""

import dataclasses

import numpy as np

from posecascade.geometry import inside
from posecascade.images import shrunk
from posecascade.records import Record, Visibility
from posecascade.rendering.scenery import paste_occluder

TRIES = 12        # objects tried per person: some, such as railings, cannot cover large shares
HALVINGS = 8      # of the interval of the object's size
TOLERANCE = 0.02  # of the covered share


@dataclasses.dataclass(frozen=True)
class Painted:
    """An image in memory, a `records.ImageSource`."""

    name: str
    pixels: np.ndarray

    def read(self, shrink: int = 1) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB, shrunk `shrink` times."""
        return shrunk(self.pixels, shrink)


def hidden(record: Record, share: float, seed: int, number: int) -> Record | None:
    """Return the person with an object over `share` of its box (cut to the image), None if no object fits.

    Labeled keypoints below the object are occluded, all others visible. The object depends on `seed` and `number` only.
    """
    image = record.image.read()
    mask = np.zeros(image.shape[:2], bool)
    if share:
        pasted = _pasted(image, _inside_box(record, mask.shape), share, seed, number)
        if pasted is None:
            return None
        image, mask = pasted
    labeled = record.labeled & inside(np.nan_to_num(record.keypoints, nan=-9), mask.shape[1], mask.shape[0])
    cells = np.rint(np.where(labeled[:, None], record.keypoints, 0)).astype(int)
    cells = np.minimum(cells, [mask.shape[1] - 1, mask.shape[0] - 1])
    covered = labeled & mask[cells[:, 1], cells[:, 0]]
    codes = np.where(covered, Visibility.OCCLUDED, np.where(record.labeled, Visibility.VISIBLE, record.visibility))
    return dataclasses.replace(record, image=Painted(record.image.name, image), visibility=codes.astype(np.int8),
                               occlusion_known=True)


def _inside_box(record, shape):
    box = record.box
    rows = slice(max(round(box.y), 0), min(round(box.y + box.h) + 1, shape[0]))
    columns = slice(max(round(box.x), 0), min(round(box.x + box.w) + 1, shape[1]))
    return rows, columns


def _pasted(image, box, share, seed, number):
    """Return image and mask with an object of the share, whose size is found by bisection, or None."""
    rows, columns = box
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height < 2 or width < 2:
        return None
    for attempt in range(TRIES):
        center = np.random.default_rng((seed, number, attempt)).uniform(
            (columns.start, rows.start), (columns.stop, rows.stop))
        low, high = 0.0, 3.0 * max(height, width)
        for _ in range(HALVINGS):
            size = (low + high) / 2
            pasted, mask = paste_occluder(image, np.random.default_rng((seed, number, attempt, 1)), center, size)
            covered = mask[rows, columns].mean()
            if abs(covered - share) <= TOLERANCE:
                return pasted, mask
            low, high = (size, high) if covered < share else (low, size)
    return None
