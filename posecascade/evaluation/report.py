"""Reports of an evaluation: tables, JSON, and the paired comparison of two reports.

Figures are per cent of the counted keypoints. The bootstrap resamples images, each with all its people, because people
in one image are not independent.
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
    """A metric's protocol: the reference length, and the thresholds relative to it.

    Attributes:
        name: as printed.
        reference: "torso" (the schema's segment), "head" (the data set's head size, otherwise the schema's segment),
            "box" (the longer side of the person's box) or "pixels" (PIXELS, the same for everybody).
        at: main threshold, relative to the reference length.
        also: further thresholds that are reported.
        limit: largest threshold of the curve and its area.
        excluded: keypoints that are reported, but not counted in means.
    """

    name: str
    reference: str
    at: float
    also: tuple[float, ...]
    limit: float
    excluded: tuple[str, ...] = ()

    def title(self) -> str:
        """Return the metric with its main threshold and reference, as in "PCK@0.2 of the torso"."""
        lengths = {"box": "the longer side of the box", "pixels": f"{PIXELS:g} pixels"}
        return f"{self.name}@{self.at:g} of {lengths.get(self.reference, f'the {self.reference}')}"


PIXELS = 100.0  # reference length of "pixels": a threshold of 0.05 is 5 pixels
_BY_REFERENCE = {name: Measure("PCK", name, 0.05, (0.1, 0.2), 0.2) for name in ("box", "pixels")}
MEASURES = {
    "pck": Measure("PCK", "torso", 0.2, (0.05, 0.1), 0.2),  # docs/paper.md "Evaluation": LSP
    # The official MPII evaluation excludes pelvis and thorax from the mean.
    "pckh": Measure("PCKh", "head", 0.5, (0.1,), 0.5, ("pelvis", "thorax")),
}


def measure_of(metric: str, schema: Schema) -> Measure:
    """Return the protocol of a metric on keypoints of this schema; that of "oks" is PCK's.

    >>> measure_of("pck", Schema("tip", ("tip",))).title()
    'PCK@0.05 of the longer side of the box'
    """
    reference = schema.reference or ("torso" if schema.torso else "box")
    return MEASURES["pckh"] if metric == "pckh" else _BY_REFERENCE.get(reference, MEASURES["pck"])


@dataclass(frozen=True)
class Report:
    """Distances of N people's keypoints, and all figures computed from them.

    Attributes:
        measure: the protocol.
        schema: names of the K keypoints.
        stages: name -> (N, K) distances, from `metrics.distances`; the last stage is the result.
        codes: (N, K) int8 of `Visibility`; UNLABELED also if the data set does not distinguish occluded from visible.
        visibility: (N, K) predicted visibility in 0..1, or None.
        images: (N,) int, the same number for people in one image.
        without_reference: number of people who are not counted because their torso or head is unlabeled.
        missing: number of people without a prediction.
        skipped: names of unreadable images.
        oks: COCO's figures (`evaluate.average_precision`), or None if they were not computed.
        draws, seed: number of resamples and seed of the bootstrap.
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
        """Distances of the last stage, (N, K)."""
        return self.stages[list(self.stages)[-1]]

    @property
    def total(self) -> float:
        """Per cent at the main threshold, mean over all keypoints not excluded; NaN if none counts."""
        return self.value("total")

    def value(self, row: str, stage: str | None = None) -> float:
        """Return one figure (a row of `rows`, such as "limbs") of a stage, by default the last, without interval."""
        distances = self.stages[stage] if stage else self.result
        hits, counts = self._columns(distances)[row]
        return float(metrics.rate(hits, counts))

    @property
    def visibility_auc(self) -> float:
        """ROC AUC in 0..1 of the predicted visibility against the labels; NaN if either is unknown."""
        known = (self.codes > 0) & ~np.isnan(self.result)
        if self.visibility is None:
            return math.nan
        return metrics.roc_auc(self.visibility[known], self.codes[known] == Visibility.VISIBLE)

    @cached_property
    def rows(self) -> dict[str, dict[str, dict]]:
        """Stage -> row -> {"value", "low", "high", "count"}; figures that do not exist are None."""
        return {stage: self._with_intervals(self._columns(distances)) for stage, distances in self.stages.items()}

    def curve(self, distances: np.ndarray) -> list[float]:
        """Return per cent at each of `metrics.thresholds(measure.limit)`."""
        scored = distances[:, self._scored]
        return [float(metrics.rate(*map(np.ravel, metrics.pck(scored, threshold)))) for threshold in
                metrics.thresholds(self.measure.limit)]

    def as_dict(self) -> dict:
        """Return the content of metrics.json; figures that do not exist are None."""
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
        """Return the report as text: the last stage with intervals, then columns of the earlier stages."""
        *before, last = self.rows
        lines = [self._heading(),
                 f"{'':16}{last:>10}  {'95 %':>13}{'keypoints':>11}" + "".join(f"{s:>10}" for s in before)]
        for row, figure in self.rows[last].items():
            if figure["value"] is None:
                continue
            ends = "" if figure["low"] is None else f"{figure['low']:6.1f}-{figure['high']:.1f}"
            lines.append(f"{row:16}{figure['value']:10.2f}  {ends:>13}{figure['count']:>11}"
                         + "".join(_shown(self.rows[stage][row]["value"]) for stage in before))
        if not math.isnan(self.visibility_auc):
            lines.append(f"visibility, visible against occluded keypoints: ROC AUC {self.visibility_auc:.3f}")
        if self.oks is not None:
            lines.append("OKS  " + "  ".join(f"{k} {100 * v:.1f}" for k, v in self.oks.items() if v is not None)
                         + ("" if self.schema.sigmas else f"  (sigma {metrics.DEFAULT_SIGMA:g}, schema has none)"))
        return "\n".join(line.rstrip() for line in lines)

    def _heading(self) -> str:
        counted = int((~np.isnan(self.result)).any(axis=1).sum())
        notes = [f"{self.without_reference} without a labeled {self.measure.reference} excluded"] * \
            bool(self.without_reference) + [f"{self.missing} not predicted (counted as missed)"] * bool(self.missing) \
            + [f"{len(self.skipped)} unreadable images skipped"] * bool(self.skipped)
        return (f"{self.measure.title()}, {counted} of "
                f"{len(self.codes)} people" + "".join(f"; {note}" for note in notes))

    @cached_property
    def _scored(self) -> np.ndarray:
        return np.array([name not in self.measure.excluded for name in self.schema.keypoints])

    def _columns(self, distances: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return row -> hits and counts per person, (N,) each."""
        measure, scored = self.measure, self._scored
        limbs = np.isin(self.schema.keypoints, LIMBS)
        hits, counts = metrics.pck(distances, measure.at)

        def over(keypoints, hits_and_counts=(hits, counts)):
            return tuple((values * keypoints).sum(axis=1) for values in hits_and_counts)

        rows = {"total": over(scored), "limbs": over(limbs),
                "visible": over(scored & (self.codes == Visibility.VISIBLE)),
                "occluded": over(scored & (self.codes == Visibility.OCCLUDED))}
        rows |= {f"@{at:g}": over(scored, metrics.pck(distances, at)) for at in sorted({*measure.also, measure.at})}
        rows["auc"] = over(scored, metrics.area(distances, measure.limit))
        return rows | {name: (hits[:, k], counts[:, k]) for k, name in enumerate(self.schema.keypoints)}

    def _with_intervals(self, columns):
        hits, counts = self._by_image(columns)
        low, high = metrics.interval(hits, counts, np.random.default_rng(self.seed), self.draws)
        value, count = metrics.rate(hits, counts), counts.sum(axis=0)
        return {name: {"value": _or_none(value[m]), "low": _or_none(low[m]), "high": _or_none(high[m]),
                       "count": int(count[m])} for m, name in enumerate(columns)}

    def _by_image(self, columns):
        """Return hits and counts (images, M), summed over the people in each image."""
        _, index = np.unique(self.images, return_inverse=True)
        sums = np.zeros((2, index.max(initial=-1) + 1, len(columns)))
        for m, pair in enumerate(columns.values()):
            for total, values in zip(sums, pair, strict=True):
                np.add.at(total[:, m], index, values)
        return sums[0], sums[1]


def compare(first: Report, second: Report) -> dict[str, dict]:
    """Return row -> {"first", "second", "difference", "low", "high"}, over keypoints that count in both reports.

    The difference is first minus second in percentage points; its interval is a paired bootstrap over images.
    Raises InputError if the reports are not of the same people, keypoints and measure.
    """
    if first.measure != second.measure or first.schema != second.schema or first.codes.shape != second.codes.shape:
        raise InputError(f"cannot compare {first.measure.name} of {first.codes.shape[0]} people ({first.schema.name}) "
                         f"with {second.measure.name} of {second.codes.shape[0]} people ({second.schema.name}); "
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
    """Return the rows of `compare` as text; a star marks a difference whose interval excludes zero."""
    lines = [f"first: {names[0]}", f"second: {names[1]}",
             f"{'':16}{'first':>10}{'second':>10}{'difference':>12}  {'95 %':>15}"]
    for row, figure in rows.items():
        if figure["difference"] is not None:
            ends = "" if figure["low"] is None else f"{figure['low']:+.1f} to {figure['high']:+.1f}"
            significant = figure["low"] is not None and figure["low"] * figure["high"] > 0
            lines.append(f"{row:16}{figure['first']:10.2f}{figure['second']:10.2f}{figure['difference']:+12.2f}  "
                         f"{ends:>15}{' *' if significant else ''}")
    return "\n".join(line.rstrip() for line in lines)


def _nested(rows, schema):
    """Return flat rows in the layout of metrics.json: single figures, then "at", "visibility" and "keypoints"."""
    return {
        **{name: rows[name] for name in ("total", "limbs", "auc")},
        "at": {name[1:]: row for name, row in rows.items() if name.startswith("@")},
        "visibility": {name: rows[name] for name in ("visible", "occluded")},
        "keypoints": {name: rows[name] for name in schema.keypoints},
    }


def _or_none(value):
    return float(value) if math.isfinite(value) else None


def _shown(value):
    return f"{'-':>10}" if value is None else f"{value:10.2f}"
