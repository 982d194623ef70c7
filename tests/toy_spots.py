"""Pictures of people made of three spots, and a toy model that sees them."""

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
HIDDEN = 0  # the toy model's part maps never show the head
CODEC = 0.05     # cells: what the codec promises (codec.confidence_maps)
MEASURED = 0.1   # crop pixels: how well the toy model finds a spot of 8 bits


class Spots:
    """A model that finds the head as a red spot, and of two green ones calls the picture's left the right hand.

    It keeps the sizes of the batches it was given; its maps can be off by `off` pixels to the right.
    """

    def __init__(self, stride=4, peak=0.9, off=0.0):
        self.stride, self.peak, self.off, self.batches = stride, peak, off, []

    def __call__(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (SIZE, SIZE, 3)
        self.batches.append(len(batch))
        points = np.stack([self.joints(image) for image in batch]).astype(np.float32)
        cells = SIZE // self.stride
        discs = np.array(targets.part_discs(points, cells, cells, stride=self.stride, radius=8))
        discs[..., HIDDEN] = 0
        maps = targets.confidence_maps(points, cells, cells, stride=self.stride, sigma=2 * self.stride)
        peak = self.peak(self) if callable(self.peak) else self.peak
        return {"heatmaps": peak * np.asarray(maps), "parts": 20 * discs - 10}

    def joints(self, image):
        head, hands = spots(image[..., 0]), sorted(spots(image[..., 1]), key=lambda place: place[0])
        if len(head) != 1 or len(hands) != 2:
            return np.full((3, 2), SIZE / 2)
        return np.array([head[0], *hands]) + [self.off, 0]


def spots(channel):
    """Centroids of what is brighter than the border's gray."""
    bright = np.maximum(channel.astype(float) - 140, 0)
    number, labels = cv2.connectedComponents((bright > 0).astype(np.uint8))
    return [np.array(scipy.ndimage.center_of_mass(bright, labels, i))[::-1] for i in range(1, number)]


def picture(height, width, joints, sigma):
    """A red spot at the head, green ones at the hands."""
    image = np.zeros((height, width, 3))
    y, x = np.mgrid[:height, :width]
    for place, channel in zip(joints, (0, 1, 1), strict=True):
        image[..., channel] += 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma ** 2))
    return np.rint(np.minimum(image, 255)).astype(np.uint8)


def predictor(run=None, **options):
    run = run or Spots()
    return Predictor(run_of(run), TOY, SIZE, getattr(run, "stride", 4), **options)


def person(height=300, width=400, middle=(200, 150), reach=60):
    """A picture, its joints, and their box: head above, hands to the sides."""
    joints = np.array(middle) + reach * np.array([[0.1, -1], [-1, 0.4], [0.9, 1]])
    return picture(height, width, joints, sigma=max(reach / 15, 1.5)), joints, Box.around(joints)
