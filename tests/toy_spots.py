"""Draw images of people who consist of three spots, and a toy model that finds the spots."""

import cv2
import numpy as np
import scipy.ndimage

from posecascade.codec import targets
from posecascade.geometry import Box
from posecascade.inference.predictor import Predictor, run_of
from posecascade.schema import Schema

TOY = Schema("toy", ("head", "right_hand", "left_hand"), pairs=(("left_hand", "right_hand"),),
             limbs=(("head", "left_hand"), ("head", "right_hand")))
SIZE = 128
HIDDEN = 0  # index of the head, for which the toy model's part maps are empty
CODEC = 0.05     # cells: largest error of the codec (codec.targets.confidence_maps)
MEASURED = 0.1   # pixels of the crop: largest error of the toy model in finding a spot of 8 bits


class Spots:
    """Find the head as a red spot and the hands as green ones; the one further left in the image is the right hand.

    Attributes:
        batches: the size of every batch so far.
        off: pixels by which the maps are shifted to the right.
    """

    def __init__(self, stride=4, peak=0.9, off=0.0):
        self.stride, self.peak, self.off, self.batches = stride, peak, off, []

    def __call__(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (SIZE, SIZE, 3)
        self.batches.append(len(batch))
        points = np.stack([self.keypoints(image) for image in batch]).astype(np.float32)
        cells = SIZE // self.stride
        discs = np.array(targets.part_discs(points, cells, cells, stride=self.stride, radius=8))
        discs[..., HIDDEN] = 0
        maps = targets.confidence_maps(points, cells, cells, stride=self.stride, sigma=2 * self.stride)
        peak = self.peak(self) if callable(self.peak) else self.peak
        return {"heatmaps": peak * np.asarray(maps), "parts": 20 * discs - 10}

    def keypoints(self, image):
        """Return the keypoints (3, 2) in pixels, all at the center of the image if it does not have three spots."""
        head, hands = spots(image[..., 0]), sorted(spots(image[..., 1]), key=lambda center: center[0])
        if len(head) != 1 or len(hands) != 2:
            return np.full((3, 2), SIZE / 2)
        return np.array([head[0], *hands]) + [self.off, 0]


def spots(channel):
    """Return the centroids of all regions that are brighter than the gray of padding."""
    bright = np.maximum(channel.astype(float) - 140, 0)
    number, labels = cv2.connectedComponents((bright > 0).astype(np.uint8))
    return [np.array(scipy.ndimage.center_of_mass(bright, labels, i))[::-1] for i in range(1, number)]


def spots_image(height, width, keypoints, sigma):
    """Return an image with a red spot at the head and green ones at the hands."""
    image = np.zeros((height, width, 3))
    y, x = np.mgrid[:height, :width]
    for center, channel in zip(keypoints, (0, 1, 1), strict=True):
        image[..., channel] += 255 * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma ** 2))
    return np.rint(np.minimum(image, 255)).astype(np.uint8)


def predictor(run=None, **options):
    """Return a predictor of the toy model, or of another `run`."""
    run = run or Spots()
    return Predictor(run_of(run), TOY, SIZE, getattr(run, "stride", 4), **options)


def person(height=300, width=400, middle=(200, 150), reach=60):
    """Return an image of one person, head above, hands at the sides; the keypoints; and the box around them."""
    keypoints = np.array(middle) + reach * np.array([[0.1, -1], [-1, 0.4], [0.9, 1]])
    return spots_image(height, width, keypoints, sigma=max(reach / 15, 1.5)), keypoints, Box.around(keypoints)
