"""Measure how far scores are from the share of keypoints that are right, and fit a curve that calibrates them."""

from dataclasses import dataclass

import numpy as np

BINS = 10
EDGE = 1e-4            # scores are clipped to EDGE .. 1 - EDGE, which keeps their logits finite
MIN_KEYPOINTS = 100    # with fewer no curve is fitted
_MIN_SLOPE = 0.05      # with a flatter curve, scores are unrelated to what is right
_STEPS = 30
_MAX_LOGIT = 10.0      # keypoints that are all right or all wrong would give infinite ones


@dataclass(frozen=True)
class Calibration:
    """A rising curve from scores to probabilities: sigmoid(slope x logit(score) + offset) (Platt 1999).

    The default, IDENTITY, does not change scores.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the probabilities of scores in 0..1, of any shape."""
        if self == IDENTITY:
            return scores
        return 0.5 * (1 + np.tanh(0.5 * (self.slope * _logit(scores) + self.offset)))


IDENTITY = Calibration()


@dataclass(frozen=True)
class Reliability:
    """The distance of scores from the share of keypoints that are right.

    Attributes:
        error: the expected calibration error in 0..1 (Guo et al. 2017): the distance between a bin's mean score and
            the share of keypoints in it that are right, averaged over keypoints. NaN without keypoints.
        bins: (mean score, share right, number of keypoints) of each of BINS equal score intervals that is not empty.
    """

    error: float
    bins: tuple[tuple[float, float, int], ...]


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Return the reliability of scores (N,) in 0..1; `right` (N,) bool says whether their keypoints are right."""
    bin_of = np.minimum((scores * bins).astype(int), bins - 1)
    rows = tuple((float(scores[bin_of == b].mean()), float(right[bin_of == b].mean()), int((bin_of == b).sum()))
                 for b in range(bins) if (bin_of == b).any())
    error = sum(n * abs(score - share) for score, share, n in rows) / len(scores) if len(scores) else float("nan")
    return Reliability(error, rows)


def fitted(scores: np.ndarray, right: np.ndarray) -> Calibration:
    """Return the maximum-likelihood curve of scores (N,) and whether they were right, by Newton's method.

    It is IDENTITY for fewer than MIN_KEYPOINTS scores, and if higher scores are not more often right.
    """
    if len(scores) < MIN_KEYPOINTS:
        return IDENTITY
    features = np.stack([_logit(scores), np.ones(len(scores))], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        chance = 0.5 * (1 + np.tanh(0.5 * np.clip(features @ weights, -_MAX_LOGIT, _MAX_LOGIT)))
        # A prior, worth one keypoint, that the curve is the identity; without it perfect scores have no finite curve.
        slope = features.T @ (right - chance) - (weights - [1.0, 0.0])
        weights = weights + np.linalg.solve((features * (chance * (1 - chance))[:, None]).T @ features + np.eye(2),
                                            slope)
    return Calibration(*map(float, weights)) if weights[0] > _MIN_SLOPE else IDENTITY


def error_after(scores: np.ndarray, right: np.ndarray, groups: np.ndarray) -> float:
    """Return the expected calibration error of scores under curves fitted on other people.

    `groups` (N,) int is each keypoint's person: odd persons get the curve fitted on even ones, and vice versa.
    """
    odd = groups % 2 == 1
    calibrated = np.empty(len(scores))
    for half in (odd, ~odd):
        calibrated[half] = fitted(scores[~half], right[~half])(scores[half])
    return reliability(calibrated, right).error


def _logit(scores):
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)
