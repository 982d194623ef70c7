"""People in memory for the tests of samples: pictures of noise, joints anywhere, labels of every kind."""

import numpy as np

from posecascade import images
from posecascade.geometry import Box
from posecascade.records import Record, Sample
from posecascade.schema import LSP14

SIZE = 96


class Picture:
    """A picture in memory."""

    name = "picture"

    def __init__(self, image):
        self.image = image

    def read(self, shrink=1):
        return images.shrunk(self.image, shrink)


def person(schema=LSP14, image=None, seed=0, visibility=None, box=None):
    """Somebody in the middle of a picture of noise, labeled everywhere."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (200, 240, 3), np.uint8) if image is None else image
    points = rng.uniform(70, 150, (schema.size, 2))
    return Record(Picture(image), f"person {seed}", schema, box or Box(60, 60, 100, 100), points,
                  np.full(schema.size, 2) if visibility is None else visibility)


def sample_of(schema, rng, size=SIZE):
    """A sample of any labels, as a crop gives it."""
    visibility = rng.integers(0, 3, schema.size).astype(np.int8)
    points = np.where(visibility[:, None] > 0, rng.uniform(0, size - 1, (schema.size, 2)), np.nan)
    return Sample(rng.integers(0, 256, (size, size, 3), np.uint8), points, visibility, schema)
