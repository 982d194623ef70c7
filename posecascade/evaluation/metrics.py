"""Keypoint metrics on arrays: distances, PCK, area under its curve, bootstrap intervals, ROC AUC and OKS.

Axes: N people, K keypoints. All arrays are float64. A distance is NaN if the keypoint does not count (unlabeled, or the
person has no reference length), and infinite if it counts but was not predicted: a miss at every threshold.
"""

from collections.abc import Iterator

import numpy as np

CONFIDENCE = 95.0   # per cent, of all bootstrap intervals
AREA_STEP = 0.01    # docs/paper.md "Evaluation": the area is computed by the trapezoidal rule in steps of 0.01
DEFAULT_SIGMA = 0.067  # of OKS, for every keypoint of a schema without sigmas: the mean of COCO's
_CHUNK = 2_000_000  # maximum number of resampled people in memory


def distances(predicted: np.ndarray, true: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the distance of each predicted keypoint from the labeled one, divided by the person's reference length.

    Args:
        predicted: (N, K, 2) pixels; not finite if not predicted.
        true: (N, K, 2) pixels; NaN if a keypoint does not count.
        reference: (N,) pixels, not negative; NaN if a person has no reference length. With a reference of 0, an exact
            hit has the distance 0, and everything else an infinite one.
    Returns:
        (N, K); NaN if not counted, infinite if not predicted.

    >>> distances([[[3, 4], [0, 0]]], [[[0, 0], [np.nan, np.nan]]], [10]).tolist()
    [[0.5, nan]]
    """
    true, reference = np.asarray(true, np.float64), np.asarray(reference, np.float64)[:, None]
    pixels = np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(pixels == 0, 0.0, pixels / reference)
    relative = np.where(np.isfinite(predicted).all(-1), relative, np.inf)
    return np.where(np.isfinite(true).all(-1) & ~np.isnan(reference), relative, np.nan)


def pck(distances: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return hits (N, K), 1 if a distance is `<= threshold`, and counts (N, K), 1 if the keypoint counts.

    Sum both over the people and keypoints to report. A keypoint at exactly the threshold is a hit.

    >>> hits, counts = pck(np.array([[0.1, 0.2], [0.3, np.nan]]), 0.2)
    >>> hits.tolist(), counts.tolist()
    ([[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]])
    """
    return (distances <= threshold).astype(np.float64), (~np.isnan(distances)).astype(np.float64)


def thresholds(limit: float) -> np.ndarray:
    """Return 0, 0.01, ... up to `limit`, each the float nearest to the decimal number.

    >>> thresholds(0.03).tolist()
    [0.0, 0.01, 0.02, 0.03]
    """
    return np.arange(round(limit / AREA_STEP) + 1) / round(1 / AREA_STEP)


def area(distances: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the same as `pck`, with each keypoint's area (0..1) under its curve from 0 to `limit` instead of hits.

    >>> area(np.array([[0.0, 0.1, 0.3]]), 0.2)[0].round(3).tolist()
    [[1.0, 0.525, 0.0]]
    """
    steps = thresholds(limit)
    trapezoid = np.full(len(steps), 1.0 / (len(steps) - 1))
    trapezoid[[0, -1]] /= 2
    # A distance is a hit at every threshold from the first one that is not below it: sum the weights from there.
    earned = np.append(np.cumsum(trapezoid[::-1])[::-1], 0.0)
    counts = ~np.isnan(distances)
    first = np.searchsorted(steps, np.where(counts, distances, np.inf), side="left")
    return earned[first], counts.astype(np.float64)


def rate(hits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return per cent of hits among counts, each summed over the first axis; NaN if nothing counts.

    >>> rate(np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [1.0, 0.0]])).tolist()
    [50.0, 100.0]
    """
    return _percent(np.sum(hits, axis=0), np.sum(counts, axis=0))


def interval(hits: np.ndarray, counts: np.ndarray, rng: np.random.Generator,
             draws: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Return the bootstrap interval of `rate`; all columns use the same draws.

    Args:
        hits, counts: (N, M), one row per unit that is drawn with replacement (a person, or an image with its people).
        rng: source of the draws.
        draws: number of resamples.
    Returns:
        low and high (M,), the ends of the middle CONFIDENCE per cent; NaN if nothing counts.

    >>> low, high = interval(np.array([[1.0], [1.0], [0.0]] * 20), np.ones((60, 1)), np.random.default_rng(0))
    >>> bool(low[0] < 200 / 3 < high[0])
    True
    """
    return _middle([_percent(w @ hits, w @ counts) for w in _resamples(len(hits), rng, draws)], hits.shape[1])


def paired_interval(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray],
                    rng: np.random.Generator, draws: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Return the bootstrap interval of `rate(*first) - rate(*second)`, with the same people for both in every draw.

    `first` and `second` are the hits and counts (N, M) of two models on the same people; returns the same as
    `interval`.

    >>> better, worse, counts = np.ones((9, 1)), np.zeros((9, 1)), np.ones((9, 1))
    >>> low, high = paired_interval((better, counts), (worse, counts), np.random.default_rng(0))
    >>> low.tolist(), high.tolist()
    ([100.0], [100.0])
    """
    rows = [_percent(w @ first[0], w @ first[1]) - _percent(w @ second[0], w @ second[1])
            for w in _resamples(len(first[0]), rng, draws)]
    return _middle(rows, first[0].shape[1])


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area (0..1) under the ROC curve; NaN if all samples are positive, or all negative.

    This is the probability that a positive sample has a higher score than a negative one; ties count half.

    Args:
        scores: (N,) finite.
        positive: (N,) bool.

    >>> roc_auc([0.9, 0.8, 0.3], [True, False, False])
    1.0
    """
    positive = np.asarray(positive, bool)
    _, index, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[index]  # from 1; equal scores share their mean rank
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def oks(predicted: np.ndarray, true: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return COCO's object keypoint similarity (N,) in 0..1; NaN if no keypoint of the person counts.

    Args:
        predicted, true: (N, K, 2) pixels, as in `distances`.
        areas: (N,) square pixels, positive.
        sigmas: (K,) fall-offs, as in `Schema.sigmas`; the standard deviation is twice the sigma, as in COCO.

    >>> oks(np.array([[[0.0, 0.0]], [[0.0, 20.0]]]), np.zeros((2, 1, 2)), [1e4, 1e4], [0.1]).round(3).tolist()
    [1.0, 0.607]
    """
    counted = np.isfinite(true).all(-1)
    square = np.where(np.isfinite(predicted).all(-1), ((predicted - true) ** 2).sum(-1), np.inf)
    spread = 2 * np.asarray(areas, np.float64)[:, None] * (2 * np.asarray(sigmas, np.float64)) ** 2
    similarity = np.where(counted, np.exp(-np.where(counted, square, 0.0) / spread), 0.0).sum(-1)
    count = counted.sum(-1)
    return np.where(count > 0, similarity / np.maximum(count, 1), np.nan)


def _percent(hits, counts):
    return 100 * np.divide(hits, counts, out=np.full(np.shape(hits), np.nan), where=np.asarray(counts) > 0)


def _resamples(units: int, rng: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn, (d, units) for the next d draws."""
    step = max(_CHUNK // max(units, 1), 1)
    for start in range(0, draws if units else 0, step):
        count = min(step, draws - start)
        drawn = rng.integers(units, size=(count, units)) + units * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def _middle(rows: list[np.ndarray], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the middle CONFIDENCE per cent of (draws, columns), without draws in which nothing counts."""
    values = np.concatenate(rows) if rows else np.empty((0, columns))
    tail = (100 - CONFIDENCE) / 2
    ends = np.full((2, columns), np.nan)
    for column in np.flatnonzero(~np.isnan(values).all(axis=0) if len(values) else []):
        ends[:, column] = np.nanpercentile(values[:, column], [tail, 100 - tail])
    return ends[0], ends[1]
