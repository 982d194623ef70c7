"""The One-Euro filter (Casiez, Roussel and Vogel 2012): joints that rest hold still, joints that move do not lag."""

import math
from dataclasses import dataclass

import numpy as np

MIN_CUTOFF = 1.0    # Hz, of a joint at rest: the authors' starting value
CUTOFF_GROWTH = 10.0  # Hz more per body length a second: a wrist at one body length a second lags less than 1/69 s
SPEED_CUTOFF = 1.0    # Hz, of the speed itself: the authors' value


@dataclass(frozen=True)
class Smoothed:
    """What the filter knows after a frame.

    Attributes:
        points: (K, 2) float64, the smoothed joints in the unit given, pixels.
        speed: (K, 2) float64, smoothed, pixels per second.
    """

    points: np.ndarray
    speed: np.ndarray


def one_euro(last: Smoothed | None, points: np.ndarray, seconds: float, size: float, *,
             least_cutoff: float = MIN_CUTOFF, growth: float = CUTOFF_GROWTH) -> Smoothed:
    """The filter's next state; its `points` are the answer for this frame.

    Each joint's cutoff frequency grows with the length of its velocity, so the result turns with the picture.

    Args:
        last: the state after the frame before, None for the first frame, which is left as it is.
        points: (K, 2) joints found in this frame, pixels, finite.
        seconds: since the frame before, positive.
        size: of the person, pixels: speed counts in body lengths, so that near and far people are treated alike.
        least_cutoff, growth: Hz, and Hz per body length a second.
    """
    points = np.asarray(points, np.float64)
    if last is None:
        return Smoothed(points, np.zeros_like(points))
    speed = last.speed + _weight(SPEED_CUTOFF, seconds) * ((points - last.points) / seconds - last.speed)
    cutoff = least_cutoff + growth * np.linalg.norm(speed, axis=-1, keepdims=True) / size
    return Smoothed(last.points + _weight(cutoff, seconds) * (points - last.points), speed)


def _weight(cutoff, seconds):
    """Of the new value, in the low-pass filter of first order with this cutoff in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * seconds))
