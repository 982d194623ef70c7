"""Find keypoints in a wrong order: another order, or two keypoints exchanged, that fits people's bodies better.

Each two keypoints have a usual distance and direction (PROPORTIONS). An order is judged by all pairs that a person has
labeled, so people may sit, be cut off by the image or have few keypoints labeled. Only comparisons count: rare poses
fit badly in every order. Exchanging left and right of everything fits equally well: see `inspection.right_on_left`.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from posecascade.datasets.proportions import PROPORTIONS
from posecascade.records import Record
from posecascade.schema import SCHEMAS, Schema

MIN_SCORE = 2.0    # of `_score`: at most -3 in six right data sets, at least 3 with any two keypoints exchanged
MAX_PEOPLE = 400   # evenly chosen; more would take longer and change nothing
UNKNOWN = "unknown"

# Orders of data sets other than those of the built-in schemas.
_CROWDPOSE = ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
              "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head_top", "neck")
_AI_CHALLENGER = ("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
                  "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck")
ORDERS = {name: schema.keypoints for name, schema in SCHEMAS.items()} | {
    "crowdpose": _CROWDPOSE, "ai_challenger": _AI_CHALLENGER}


def likely_order(records: Sequence[Record]) -> str | None:
    """Return what the order of the keypoints probably is if it is not that of the schema; None if nothing fits better.

    This is a key of ORDERS, "A and B exchanged", or UNKNOWN if the order is wrong, but neither explains it.
    """
    schema = records[0].schema
    points = people(records)
    scores = {name: order_score(points, schema, order) for name, order in ORDERS.items() if len(order) <= schema.size}
    for name in sorted(scores, key=scores.__getitem__, reverse=True):
        if scores[name] > MIN_SCORE and not _best(_reordered(points, schema, ORDERS[name]), schema):
            return name
    exchanged = _best(points, schema)
    if not exchanged:
        return None
    rest = points.copy()
    rest[:, exchanged] = points[:, exchanged[::-1]]
    return UNKNOWN if _best(rest, schema) else " and ".join(schema.keypoints[k] for k in exchanged) + " exchanged"


def people(records: Sequence[Record]) -> np.ndarray:
    """Return (N, K, 2): keypoints of at most MAX_PEOPLE, with the longer side of each person as the unit."""
    chosen = np.unique(np.linspace(0, len(records) - 1, min(MAX_PEOPLE, len(records))).astype(int))
    points = np.stack([records[i].keypoints for i in chosen if records[i].labeled.any()])
    sides = (np.nanmax(points, axis=1) - np.nanmin(points, axis=1)).max(axis=-1)
    scaled: np.ndarray = points / np.maximum(sides, 1.0)[:, None, None]
    return scaled


def order_score(points: np.ndarray, schema: Schema, order: Sequence[str]) -> float:
    """Return how much better `points` fit if they are in `order` (names) than in that of the schema (see `_score`)."""
    pairs = list(combinations(range(schema.size), 2))
    return _score(_misfit(points, schema, pairs), _misfit(_reordered(points, schema, order), schema, pairs))


def exchange_scores(points: np.ndarray, schema: Schema) -> dict[tuple[int, int], float]:
    """Return how much better `points` fit if two keypoints are exchanged (see `_score`), for each two."""
    scores = {}
    for a, b in combinations(range(schema.size), 2):
        others = [k for k in range(schema.size) if k not in (a, b)]
        pairs = [(end, k) for end in (a, b) for k in others]
        exchanged = points.copy()
        exchanged[:, [a, b]] = points[:, [b, a]]
        scores[a, b] = _score(_misfit(points, schema, pairs), _misfit(exchanged, schema, pairs))
    return scores


def _best(points: np.ndarray, schema: Schema) -> list[int]:
    scores = exchange_scores(points, schema)
    best = max(scores, key=scores.__getitem__, default=None)
    return list(best) if best and scores[best] > MIN_SCORE else []


def _reordered(points: np.ndarray, schema: Schema, order: Sequence[str]) -> np.ndarray:
    """Return the points as the schema has them, if they are in `order`; NaN for keypoints that it does not name."""
    result = np.full_like(points, np.nan)
    for k, name in enumerate(schema.keypoints):
        if name in order:
            result[:, k] = points[:, order.index(name)]
    return result


def _score(given: np.ndarray, other: np.ndarray) -> float:
    """Return how much better the misfits (N, P) of `other` are than `given`, in standard deviations from no difference.

    Positive is better. Only pairs that both have count, and each person counts as one.
    """
    gains = np.nansum(given - other, axis=1)
    norm = float(np.sqrt((gains ** 2).sum()))
    return float(gains.sum()) / norm if norm else 0.0


def _misfit(points: np.ndarray, schema: Schema, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return (N, P): how unusual the distance and the direction of each pair is; NaN if unlabeled or not known."""
    known = [found for a, b in pairs if (found := _usual(schema.keypoints[a], schema.keypoints[b], a, b))]
    if not known:
        return np.zeros((len(points), 0))
    start, end = (np.array([ends[i] for ends, _ in known]) for i in (0, 1))
    length, length_spread, down, down_spread = np.array([values for _, values in known]).T
    steps = points[:, end] - points[:, start]
    lengths = np.maximum(np.linalg.norm(steps, axis=-1), 0.005)
    # Heavy tails: one wrong label or rare pose does not decide.
    total: np.ndarray = np.log1p(((np.log(lengths) - length) / length_spread) ** 2 / 2) + \
        np.log1p(((steps[..., 1] / lengths - down) / down_spread) ** 2 / 2)
    return total


def _usual(first: str, second: str, a: int, b: int) -> tuple[tuple[int, int], tuple[float, ...]] | None:
    """Return the indices in the table's order, and the entry of PROPORTIONS; None if there is none."""
    (side, kind), (other_side, other_kind) = _parts(first), _parts(second)
    if kind > other_kind:
        kind, other_kind, a, b = other_kind, kind, b, a
    values = PROPORTIONS.get((kind, other_kind, "one" if side == other_side else "two"))
    return ((a, b), values) if values else None


def _parts(name: str) -> tuple[str, str]:
    side, _, kind = name.partition("_")
    return (side, kind) if side in ("left", "right") else ("", name)
