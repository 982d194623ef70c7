"""Report: what an evaluation found, its tables and JSON, and the paired comparison of two reports.

Figures are per cent of the joints that count. Intervals are drawn over images, each with all its people, because
people in one picture are not independent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from posecascade.errors import InputError
from posecascade.evaluation import metrics
from posecascade.records import Visibility
from posecascade.schema import Schema

LIMBS = tuple(f"{side}_{part}" for side in ("left", "right")
              for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))


@dataclass(frozen=True)
class Measure:
    """A protocol: which length is the unit, and at which parts of it a joint counts as found.

    Attributes:
        name: as printed.
        reference: "torso" (the schema's segment) or "head" (the data set's head size, else the schema's segment).
        at: the headline threshold, in parts of the reference.
        also: further thresholds that are reported.
        limit: the curve and its area go from 0 to here.
        left_out: joints that are shown alone but enter no mean.
    """

    name: str
    reference: str
    at: float
    also: tuple[float, ...]
    limit: float
    left_out: tuple[str, ...] = ()


MEASURES = {
    "pck": Measure("PCK", "torso", 0.2, (0.05, 0.1), 0.2),  # docs/paper.md "Evaluation": LSP
    # The official MPII evaluation leaves pelvis and thorax out of the mean.
    "pckh": Measure("PCKh", "head", 0.5, (0.1,), 0.5, ("pelvis", "thorax")),
}


@dataclass(frozen=True)
class Report:
    """Distances of N people's joints, and everything that is told of them.

    Attributes:
        measure: the protocol.
        schema: names the K joints.
        stages: name -> (N, K) distances as `metrics.distances` gives them; the last stage is the result.
        codes: (N, K) int8 of `Visibility`; UNLABELED too where a data set does not tell occluded from visible.
        visibility: (N, K) predicted visibility in 0..1, or None.
        images: (N,) int, the same number for people of one picture.
        without_reference: people who cannot be counted, their torso or head being unlabeled.
        missing: people for whom the predictions have nothing.
        skipped: names of unreadable pictures.
        oks: COCO's figures (`evaluation.average_precision`), or None where they were not asked for.
        draws, seed: of the bootstrap.
    """

    measure: Measure
    schema: Schema
    stages: Mapping[str, np.ndarray]
    codes: np.ndarray
    visibility: np.ndarray | None
    images: np.ndarray
    without_reference: int = 0
    missing: int = 0
    skipped: tuple[str, ...] = ()
    oks: Mapping[str, float | None] | None = None
    draws: int = 1000
    seed: int = 0

    @property
    def result(self) -> np.ndarray:
        """(N, K) distances of the last stage."""
        return self.stages[list(self.stages)[-1]]

    @property
    def total(self) -> float:
        """Per cent at the headline threshold, all joints of the mean; NaN where none counts. Draws no interval."""
        return self.value("total")

    def value(self, row: str, stage: str | None = None) -> float:
        """One figure (a row of `rows`, such as "limbs") of a stage, the last by default, without its interval."""
        parts = self.stages[stage] if stage else self.result
        hits, counts = self._columns(parts)[row]
        return float(metrics.rate(hits, counts))

    @property
    def visibility_auc(self) -> float:
        """ROC AUC in 0..1 of the predicted visibility against the flags; NaN where either is not known."""
        known = (self.codes > 0) & ~np.isnan(self.result)
        if self.visibility is None:
            return math.nan
        return metrics.roc_auc(self.visibility[known], self.codes[known] == Visibility.VISIBLE)

    @cached_property
    def rows(self) -> dict[str, dict[str, dict]]:
        """Stage -> row -> {"value", "low", "high", "count"}; None for what does not exist."""
        return {stage: self._with_intervals(self._columns(parts)) for stage, parts in self.stages.items()}

    def curve(self, parts: np.ndarray) -> list[float]:
        """Per cent at each of `metrics.thresholds(measure.limit)`."""
        scored = parts[:, self._scored]
        return [float(metrics.rate(*map(np.ravel, metrics.pck(scored, at)))) for at in
                metrics.thresholds(self.measure.limit)]

    def as_dict(self) -> dict:
        """The report as JSON holds it; figures that do not exist are None."""
        stages = {name: _nested(rows, self.schema) | {"curve": [_or_none(v) for v in self.curve(self.stages[name])]}
                  for name, rows in self.rows.items()}
        return {
            "metric": self.measure.name, "reference": self.measure.reference, "threshold": self.measure.at,
            "people": len(self.codes), "counted": int((~np.isnan(self.result)).any(axis=1).sum()),
            "without_reference": self.without_reference, "missing": self.missing, "skipped": list(self.skipped),
            "thresholds": metrics.thresholds(self.measure.limit).tolist(),
            **stages[list(stages)[-1]],
            "visibility_roc_auc": _or_none(self.visibility_auc),
            "stages": stages, "oks": None if self.oks is None else dict(self.oks),
            "bootstrap": {"draws": self.draws, "seed": self.seed, "confidence": metrics.CONFIDENCE},
        }

    def table(self) -> str:
        """The report as text: the result with its intervals, the stages before it beside."""
        *before, last = self.rows
        lines = [self._heading(), f"{'':16}{last:>10}  {'95 %':>13}{'joints':>9}" + "".join(f"{s:>10}" for s in before)]
        for row, found in self.rows[last].items():
            if found["value"] is None:
                continue
            ends = "" if found["low"] is None else f"{found['low']:6.1f}-{found['high']:.1f}"
            lines.append(f"{row:16}{found['value']:10.2f}  {ends:>13}{found['count']:>9}"
                         + "".join(_shown(self.rows[stage][row]["value"]) for stage in before))
        if not math.isnan(self.visibility_auc):
            lines.append(f"visibility tells visible from occluded joints: ROC AUC {self.visibility_auc:.3f}")
        if self.oks is not None:
            lines.append("OKS  " + "  ".join(f"{k} {100 * v:.1f}" for k, v in self.oks.items() if v is not None))
        return "\n".join(line.rstrip() for line in lines)

    def _heading(self) -> str:
        counted = int((~np.isnan(self.result)).any(axis=1).sum())
        notes = [f"{self.without_reference} without a labeled {self.measure.reference} left out"] * \
            bool(self.without_reference) + [f"{self.missing} not predicted (missed)"] * bool(self.missing) \
            + [f"{len(self.skipped)} unreadable pictures skipped"] * bool(self.skipped)
        return (f"{self.measure.name}@{self.measure.at:g} of the {self.measure.reference}, {counted} of "
                f"{len(self.codes)} people" + "".join(f"; {note}" for note in notes))

    @cached_property
    def _scored(self) -> np.ndarray:
        return np.array([name not in self.measure.left_out for name in self.schema.keypoints])

    def _columns(self, parts: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Row -> hits and counts per person, (N,) each."""
        measure, scored = self.measure, self._scored
        limbs = np.isin(self.schema.keypoints, LIMBS)
        hits, counts = metrics.pck(parts, measure.at)

        def over(chosen, found=(hits, counts)):
            return tuple((values * chosen).sum(axis=1) for values in found)

        rows = {"total": over(scored), "limbs": over(limbs),
                "visible": over(scored & (self.codes == Visibility.VISIBLE)),
                "occluded": over(scored & (self.codes == Visibility.OCCLUDED))}
        rows |= {f"@{at:g}": over(scored, metrics.pck(parts, at)) for at in sorted({*measure.also, measure.at})}
        rows["auc"] = over(scored, metrics.area(parts, measure.limit))
        return rows | {name: (hits[:, k], counts[:, k]) for k, name in enumerate(self.schema.keypoints)}

    def _with_intervals(self, columns):
        hits, counts = self._by_image(columns)
        low, high = metrics.interval(hits, counts, np.random.default_rng(self.seed), self.draws)
        value, count = metrics.rate(hits, counts), counts.sum(axis=0)
        return {name: {"value": _or_none(value[m]), "low": _or_none(low[m]), "high": _or_none(high[m]),
                       "count": int(count[m])} for m, name in enumerate(columns)}

    def _by_image(self, columns):
        """Hits and counts (images, M), summed over the people of each picture."""
        _, place = np.unique(self.images, return_inverse=True)
        sums = np.zeros((2, place.max(initial=-1) + 1, len(columns)))
        for m, pair in enumerate(columns.values()):
            for total, values in zip(sums, pair, strict=True):
                np.add.at(total[:, m], place, values)
        return sums[0], sums[1]


def compare(first: Report, second: Report) -> dict[str, dict]:
    """Row -> {"first", "second", "difference", "low", "high"}: the same joints of the same people in both.

    The difference is first minus second in per cent, its interval a paired bootstrap over images.
    Raises InputError where the reports are not of the same people, joints and measure.
    """
    if first.measure != second.measure or first.schema != second.schema or first.codes.shape != second.codes.shape:
        raise InputError(f"cannot compare {first.measure.name} of {first.codes.shape[0]} people ({first.schema.name}) "
                         f"with {second.measure.name} of {second.codes.shape[0]} ({second.schema.name}); "
                         "evaluate both on the same data")
    either = np.isnan(first.result) | np.isnan(second.result)
    pairs = [report._by_image(report._columns(np.where(either, np.nan, report.result)))
             for report in (first, second)]
    low, high = metrics.paired_interval(pairs[0], pairs[1], np.random.default_rng(first.seed), first.draws)
    one, other = (metrics.rate(*pair) for pair in pairs)
    return {name: {"first": _or_none(one[m]), "second": _or_none(other[m]),
                   "difference": _or_none(one[m] - other[m]), "low": _or_none(low[m]), "high": _or_none(high[m])}
            for m, name in enumerate(first._columns(first.result))}


def comparison_table(rows: Mapping[str, Mapping], names: Sequence[str]) -> str:
    """`compare`'s rows as text; a star marks a difference whose interval leaves out zero."""
    lines = [f"first: {names[0]}", f"second: {names[1]}",
             f"{'':16}{'first':>10}{'second':>10}{'difference':>12}  {'95 %':>15}"]
    for row, found in rows.items():
        if found["difference"] is not None:
            ends = "" if found["low"] is None else f"{found['low']:+.1f} to {found['high']:+.1f}"
            sure = found["low"] is not None and found["low"] * found["high"] > 0
            lines.append(f"{row:16}{found['first']:10.2f}{found['second']:10.2f}{found['difference']:+12.2f}  "
                         f"{ends:>15}{' *' if sure else ''}")
    return "\n".join(line.rstrip() for line in lines)


def _nested(rows, schema):
    """Flat rows as JSON holds them: single figures, then "at", "visibility" and "joints" by their keys."""
    return {
        **{name: rows[name] for name in ("total", "limbs", "auc")},
        "at": {name[1:]: row for name, row in rows.items() if name.startswith("@")},
        "visibility": {name: rows[name] for name in ("visible", "occluded")},
        "joints": {name: rows[name] for name in schema.keypoints},
    }


def _or_none(value):
    return float(value) if math.isfinite(value) else None


def _shown(value):
    return f"{'-':>10}" if value is None else f"{value:10.2f}"
