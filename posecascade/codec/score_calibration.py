"""Scores beside how often their joints are right: how far the two lie apart, and a curve that brings them together."""

from dataclasses import dataclass

import numpy as np

BINS = 10
EDGE = 1e-4        # scores count as at least this, and at most 1 less this: their logits stay finite
MIN_JOINTS = 100  # fewer tell nothing
_MIN_SLOPE = 0.05  # flatter, scores say nothing of what is right, and no curve helps
_STEPS = 30
_FLAT = 10.0  # logits of joints that are all right or all wrong would run away beyond


@dataclass(frozen=True)
class Calibration:
    """A rising curve from scores to probabilities: sigmoid(slope x logit(score) + offset) (Platt 1999).

    (1, 0), IDENTITY, leaves scores as they are.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of scores in 0..1, of any shape."""
        if self == IDENTITY:
            return scores
        return 0.5 * (1 + np.tanh(0.5 * (self.slope * _logit(scores) + self.offset)))


IDENTITY = Calibration()


@dataclass(frozen=True)
class Reliability:
    """How far scores lie from the share of joints that are right.

    Attributes:
        error: the expected calibration error in 0..1 (Guo et al. 2017): the distance between a bin's mean score and
            the share that is right in it, averaged over the joints. NaN without joints.
        bins: (mean score, share right, joints) of each of BINS equal intervals of scores that has any.
    """

    error: float
    bins: tuple[tuple[float, float, int], ...]


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Of scores (N,) in 0..1 and whether their joints are right, (N,) bool."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    rows = tuple((float(scores[place == b].mean()), float(right[place == b].mean()), int((place == b).sum()))
                 for b in range(bins) if (place == b).any())
    error = sum(n * abs(score - share) for score, share, n in rows) / len(scores) if len(scores) else float("nan")
    return Reliability(error, rows)


def fitted(scores: np.ndarray, right: np.ndarray) -> Calibration:
    """The curve under which what was right of scores (N,) is likeliest, by Newton's method.

    Where there are fewer than MIN_JOINTS, or higher scores are no more often right, scores stay as they are.
    """
    if len(scores) < MIN_JOINTS:
        return IDENTITY
    features = np.stack([_logit(scores), np.ones(len(scores))], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        chance = 0.5 * (1 + np.tanh(0.5 * np.clip(features @ weights, -_FLAT, _FLAT)))
        # As if one joint more said that the curve is the identity: else a perfect score has no finite curve.
        slope = features.T @ (right - chance) - (weights - [1.0, 0.0])
        weights = weights + np.linalg.solve((features * (chance * (1 - chance))[:, None]).T @ features + np.eye(2),
                                            slope)
    return Calibration(*map(float, weights)) if weights[0] > _MIN_SLOPE else IDENTITY


def error_after(scores: np.ndarray, right: np.ndarray, groups: np.ndarray) -> float:
    """The expected calibration error of scores under curves that other people gave.

    `groups` (N,) int, the joint's person: people of odd numbers are scored under the curve of the even ones, and the
    other way round.
    """
    odd = groups % 2 == 1
    calibrated = np.empty(len(scores))
    for half in (odd, ~odd):
        calibrated[half] = fitted(scores[~half], right[~half])(scores[half])
    return reliability(calibrated, right).error


def _logit(scores):
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)
