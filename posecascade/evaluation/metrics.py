"""Distances, hits, areas, intervals, ROC and OKS: arrays in, counts out, every threshold a value.

Axes: N people, K joints. All arrays are float64. A distance is NaN where a joint does not count (unlabeled, or no
reference length) and infinite where it counts but was not predicted, which no threshold forgives.
"""

from collections.abc import Iterator

import numpy as np

CONFIDENCE = 95.0  # per cent; of every bootstrap interval
AREA_STEP = 0.01   # docs/paper.md "Evaluation": the curve's area is a trapezoid in steps of 0.01
_CHUNK = 2_000_000  # resampled people held in memory at once


def distances(predicted: np.ndarray, true: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """How far each joint was missed, in parts of the person's reference length.

    Args:
        predicted: (N, K, 2) pixels; anything not finite was not predicted.
        true: (N, K, 2) pixels; NaN where a joint does not count.
        reference: (N,) pixels, not negative; NaN where a person has none. At 0 only an exact hit has a distance, 0.
    Returns:
        (N, K): NaN where not counted, infinite where not predicted.
    """
    true, reference = np.asarray(true, np.float64), np.asarray(reference, np.float64)[:, None]
    off = np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(off == 0, 0.0, off / reference)
    parts = np.where(np.isfinite(predicted).all(-1), parts, np.inf)
    return np.where(np.isfinite(true).all(-1) & ~np.isnan(reference), parts, np.nan)


def pck(parts: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray]:
    """Per person and joint whether the distance (N, K) is `<= at`, and whether it counts: hits, counts (N, K).

    Sum them over whatever is to be reported. Division came first, so a joint exactly on the threshold is a hit.
    """
    return (parts <= at).astype(np.float64), (~np.isnan(parts)).astype(np.float64)


def thresholds(limit: float) -> np.ndarray:
    """0, 0.01, ... up to `limit`, each the decimal number itself."""
    return np.arange(round(limit / AREA_STEP) + 1) / round(1 / AREA_STEP)


def area(parts: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """As `pck`, but each joint's share of the area under its curve from 0 to `limit` (trapezoid), in 0..1."""
    steps = thresholds(limit)
    trapezoid = np.full(len(steps), 1.0 / (len(steps) - 1))
    trapezoid[[0, -1]] /= 2
    # Thresholds rise, so the share a distance earns is the sum of the weights from the first one it satisfies.
    earned = np.append(np.cumsum(trapezoid[::-1])[::-1], 0.0)
    counts = ~np.isnan(parts)
    first = np.searchsorted(steps, np.where(counts, parts, np.inf), side="left")
    return earned[first], counts.astype(np.float64)


def rate(hits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Hits per count in 0..100, each summed over the first axis; NaN where nothing counts."""
    return _percent(np.sum(hits, axis=0), np.sum(counts, axis=0))


def interval(hits: np.ndarray, counts: np.ndarray, rng: np.random.Generator,
             draws: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of `rate`: people are drawn with replacement, all columns from the same draws.

    Args:
        hits, counts: (N, M), one row per unit that is drawn (a person, or an image with all its people).
    Returns:
        low and high (M,), the middle CONFIDENCE per cent; NaN where nothing counts.
    """
    return _middle([_percent(w @ hits, w @ counts) for w in _resamples(len(hits), rng, draws)], hits.shape[1])


def paired_interval(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray],
                    rng: np.random.Generator, draws: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of the difference `rate(*first) - rate(*second)`, both on the same people in every draw.

    `first` and `second` are the hits and counts (N, M) of two models on the same people; result as `interval`.
    """
    rows = [_percent(w @ first[0], w @ first[1]) - _percent(w @ second[0], w @ second[1])
            for w in _resamples(len(first[0]), rng, draws)]
    return _middle(rows, first[0].shape[1])


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability in 0..1 that a positive has the higher score, a tie counting half; NaN where one kind is absent.

    Args:
        scores: (N,) finite.
        positive: (N,) bool.
    """
    positive = np.asarray(positive, bool)
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]  # from 1; equal scores share their middle rank
    yes, no = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else float("nan")


def oks(predicted: np.ndarray, true: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """COCO's object keypoint similarity (N,) in 0..1; NaN where a person has no joint that counts.

    Args:
        predicted, true: (N, K, 2) pixels, as in `distances`.
        areas: (N,) square pixels, positive.
        sigmas: (K,) fall-offs as `Schema.sigmas`; COCO uses twice the sigma as standard deviation.
    """
    counted = np.isfinite(true).all(-1)
    square = np.where(np.isfinite(predicted).all(-1), ((predicted - true) ** 2).sum(-1), np.inf)
    spread = 2 * np.asarray(areas, np.float64)[:, None] * (2 * np.asarray(sigmas, np.float64)) ** 2
    likeness = np.where(counted, np.exp(-np.where(counted, square, 0.0) / spread), 0.0).sum(-1)
    count = counted.sum(-1)
    return np.where(count > 0, likeness / np.maximum(count, 1), np.nan)


def _percent(hits, counts):
    return 100 * np.divide(hits, counts, out=np.full(np.shape(hits), np.nan), where=np.asarray(counts) > 0)


def _resamples(units: int, rng: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn, (d, units) for some draws at a time."""
    step = max(_CHUNK // max(units, 1), 1)
    for start in range(0, draws if units else 0, step):
        some = min(step, draws - start)
        drawn = rng.integers(units, size=(some, units)) + units * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * units).reshape(some, units).astype(np.float64)


def _middle(rows: list[np.ndarray], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The percentiles of (draws, columns), leaving out draws in which nothing counted."""
    values = np.concatenate(rows) if rows else np.empty((0, columns))
    tail = (100 - CONFIDENCE) / 2
    ends = np.full((2, columns), np.nan)
    for column in np.flatnonzero(~np.isnan(values).all(axis=0) if len(values) else []):
        ends[:, column] = np.nanpercentile(values[:, column], [tail, 100 - tail])
    return ends[0], ends[1]
