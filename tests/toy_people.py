"""People in memory for the tests of samples: images of noise, random keypoints, all kinds of labels."""

import numpy as np

from posecascade import images
from posecascade.geometry import Box
from posecascade.records import Record, Sample
from posecascade.schema import LSP14

SIZE = 96


class Picture:
    """An image source in memory."""

    name = "image"

    def __init__(self, image):
        self.image = image

    def read(self, shrink=1):
        return images.shrunk(self.image, shrink)


def person(schema=LSP14, image=None, seed=0, visibility=None, box=None):
    """Return a person in the middle of an image of noise, by default with all keypoints labeled."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (200, 240, 3), np.uint8) if image is None else image
    points = rng.uniform(70, 150, (schema.size, 2))
    return Record(Picture(image), f"person {seed}", schema, box or Box(60, 60, 100, 100), points,
                  np.full(schema.size, 2) if visibility is None else visibility)


def sample_of(schema, rng, size=SIZE):
    """Return a sample of the size of a crop with random labels."""
    visibility = rng.integers(0, 3, schema.size).astype(np.int8)
    points = np.where(visibility[:, None] > 0, rng.uniform(0, size - 1, (schema.size, 2)), np.nan)
    return Sample(rng.integers(0, 256, (size, size, 3), np.uint8), points, visibility, schema)
