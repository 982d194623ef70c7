"""Smooth keypoints over time with the One-Euro filter (Casiez, Roussel and Vogel 2012).

It removes jitter from keypoints at rest and adds little lag to moving ones.
"""

import math
from dataclasses import dataclass

import numpy as np

MIN_CUTOFF = 1.0      # Hz, for a keypoint at rest: the authors' initial value
CUTOFF_GROWTH = 10.0  # Hz per body length per second: a wrist that moves one body length per second lags < 1/69 s
SPEED_CUTOFF = 1.0    # Hz, for the speed itself: the authors' value


@dataclass(frozen=True)
class Smoothed:
    """The filter's state after a frame.

    Attributes:
        points: (K, 2) float64, the smoothed keypoints, pixels.
        speed: (K, 2) float64, their smoothed velocity, pixels per second.
    """

    points: np.ndarray
    speed: np.ndarray


def one_euro(last: Smoothed | None, points: np.ndarray, seconds: float, size: float, *,
             min_cutoff: float = MIN_CUTOFF, growth: float = CUTOFF_GROWTH) -> Smoothed:
    """Return the filter's next state; its `points` are the keypoints of this frame.

    Each keypoint's cutoff frequency grows with the length of its velocity vector, so rotating the input rotates the
    result.

    Args:
        last: state after the previous frame; None for the first frame, which is returned unchanged.
        points: (K, 2) keypoints predicted in this frame, pixels, finite.
        seconds: time since the previous frame, positive.
        size: size of the person in pixels. Speed is measured in body lengths, so that the filter does not depend on
            the distance to the camera.
        min_cutoff, growth: Hz, and Hz per body length per second.
    """
    points = np.asarray(points, np.float64)
    if last is None:
        return Smoothed(points, np.zeros_like(points))
    speed = last.speed + _weight(SPEED_CUTOFF, seconds) * ((points - last.points) / seconds - last.speed)
    cutoff = min_cutoff + growth * np.linalg.norm(speed, axis=-1, keepdims=True) / size
    return Smoothed(last.points + _weight(cutoff, seconds) * (points - last.points), speed)


def _weight(cutoff, seconds):
    """Return the weight of the new value in a first-order low-pass filter with this cutoff in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * seconds))
