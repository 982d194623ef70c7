"""People with an object pasted over a known share of their box, and which joints it hides."""

import dataclasses

import numpy as np

from posecascade.geometry import inside
from posecascade.images import shrunk
from posecascade.records import Record, Visibility
from posecascade.rendering.scenery import paste_occluder

TRIES = 12      # objects tried for a person, since a railing never hides half of anybody
HALVINGS = 8    # of the object's size
CLOSE = 0.02    # how far the share may lie from the one asked for


@dataclasses.dataclass(frozen=True)
class Painted:
    """A picture in memory, as `records.ImageSource` has it."""

    name: str
    pixels: np.ndarray

    def read(self, shrink: int = 1) -> np.ndarray:
        """(H, W, 3) uint8 RGB, shrunk `shrink` times."""
        return shrunk(self.pixels, shrink)


def hidden(record: Record, share: float, seed: int, number: int) -> Record | None:
    """The person with an object over `share` of its box: joints under it are occluded, the other labeled ones visible.

    The box is cut to the picture. The same seed and number give the same object. None where no object fits.
    """
    image = record.image.read()
    picture, mask = image, np.zeros(image.shape[:2], bool)
    if share:
        found = _pasted(image, _inside_box(record, mask.shape), share, seed, number)
        if found is None:
            return None
        picture, mask = found
    labeled = record.labeled & inside(np.nan_to_num(record.keypoints, nan=-9), mask.shape[1], mask.shape[0])
    cells = np.rint(np.where(labeled[:, None], record.keypoints, 0)).astype(int)
    cells = np.minimum(cells, [mask.shape[1] - 1, mask.shape[0] - 1])
    covered = labeled & mask[cells[:, 1], cells[:, 0]]
    codes = np.where(covered, Visibility.OCCLUDED, np.where(record.labeled, Visibility.VISIBLE, record.visibility))
    return dataclasses.replace(record, image=Painted(record.image.name, picture), visibility=codes.astype(np.int8),
                               occlusion_known=True)


def _inside_box(record, shape):
    box = record.box
    rows = slice(max(round(box.y), 0), min(round(box.y + box.h) + 1, shape[0]))
    columns = slice(max(round(box.x), 0), min(round(box.x + box.w) + 1, shape[1]))
    return rows, columns


def _pasted(image, place, share, seed, number):
    """Image and mask, by halving the size of each object that can be large enough, until one covers the share."""
    rows, columns = place
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height < 2 or width < 2:
        return None
    for attempt in range(TRIES):
        center = np.random.default_rng((seed, number, attempt)).uniform(
            (columns.start, rows.start), (columns.stop, rows.stop))
        low, high = 0.0, 3.0 * max(height, width)
        for _ in range(HALVINGS):
            size = (low + high) / 2
            picture, mask = paste_occluder(image, np.random.default_rng((seed, number, attempt, 1)), center, size)
            covers = mask[rows, columns].mean()
            if abs(covers - share) <= CLOSE:
                return picture, mask
            low, high = (size, high) if covers < share else (low, size)
    return None
