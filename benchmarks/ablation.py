"""Compare variants of the cascade, trained alike: benchmarks/ablation.py --data=lspet:DIR --output=runs/ablation.

Train every variant with every seed by `posecascade-train --recipe=ablation` (all variants with seed 0, then with seed
1, ...; finished runs are skipped, interrupted ones resumed). Evaluate them on validation people, on synthetic people,
whose visibility labels are exact, and on people with pasted objects of growing size. Write benchmarks/ablation.json,
docs/ablation_occlusion.png and docs/ablation_calibration.png (to DIR with --results=DIR), and print the tables of
docs/claims.md.
"""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ablation_plots import draw
from absl import flags
from hidden_people import hidden

from posecascade import datasets, files
from posecascade.cli import app
from posecascade.codec.score_calibration import reliability
from posecascade.evaluation import evaluate, metrics
from posecascade.inference import predictor
from posecascade.records import Record, Visibility, checked_conversion
from posecascade.schema import LSP14

VARIANTS = {  # name -> settings that differ from the recipe
    "cascade": (),
    "detector": ("model.stages=detector",),            # with the sigmoid loss only
    "regressor": ("model.stages=regressor",),          # image to maps, with the L2 loss only
    "l2_only": ("loss.detection_weight=0",),           # the cascade without the detector's loss
    "no_image": ("model.regressor_sees_image=false",),  # the regressor reads the part maps only
}
SYNTHETIC = "synthetic:1500@7"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
KEYPOINTS = ("head_top", "neck", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
THRESHOLD = 0.2  # of the torso: a keypoint within it is correct
FLAGS = flags.FlagValues()
flags.DEFINE_string("data", None, "TYPE:ROOT, a data set of real people", required=True, flag_values=FLAGS)
flags.DEFINE_string("output", "runs/ablation", "folder of the training runs", flag_values=FLAGS)
flags.DEFINE_string("results", None, "folder for figures and plots (default: benchmarks/ and docs/)",
                    flag_values=FLAGS)
flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the training runs", flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "KEY=VALUE, a setting of the recipe for all variants", flag_values=FLAGS)
flags.DEFINE_integer("people", 250, "maximum number of people of each kind to evaluate on", lower_bound=1,
                     flag_values=FLAGS)
flags.DEFINE_enum("only", None, ["train", "measure"], "train: do not evaluate; measure: evaluate all finished runs "
                  "again, do not train (default: train and evaluate what is missing)", flag_values=FLAGS)


def command(variant: str, seed: str, data: str, folder: Path, overrides: list[str]) -> list[str]:
    """Return the command line that trains a variant."""
    sets = [*overrides, *VARIANTS[variant], f"training.seed={seed}"]
    return ["posecascade-train", "--recipe=ablation", f"--data={data}", f"--data={SYNTHETIC}",
            *(f"--set={item}" for item in sets), f"--model_dir={folder}"]


@dataclass(frozen=True)
class Pasted:
    """The image of `hidden`, rendered whenever it is read: images of all people and sizes would not fit in memory."""

    record: Record
    share: float
    seed: int
    number: int

    @property
    def name(self) -> str:
        """Name of the original image."""
        return self.record.image.name

    def read(self, shrink: int = 1) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB, shrunk `shrink` times."""
        return hidden(self.record, self.share, self.seed, self.number).image.read(shrink)


def spread(items: list, count: int) -> list:
    """Return at most `count` items, evenly spaced."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else items


def occluded_sets(records: list, shares=SHARES, seed: int = 1) -> dict[str, list]:
    """Return share in per cent -> people with an object of that size, for people with objects of all sizes only."""
    rows = [[_lazy(record, share, seed, number) for share in shares] for number, record in enumerate(records)]
    complete = [row for row in rows if all(row)]
    return {f"{100 * share:.0f}": [row[i] for row in complete] for i, share in enumerate(shares)}


def _lazy(record, share, seed, number):
    with_object = hidden(record, share, seed, number)
    return with_object and replace(with_object, image=Pasted(record, share, seed, number))


def calibration(scores: np.ndarray, correct: np.ndarray) -> dict:
    """Return the expected calibration error of scores (N,) in 0..1 given whether each is correct (N,).

    Returns:
        "ece" in 0..1; "bins", rows of mean score, share of correct keypoints and count, for bins that are not empty.
    """
    curve = reliability(scores, correct)
    return {"ece": round(curve.error, 4), "bins": [[round(score, 3), round(share, 3), n]
                                                   for score, share, n in curve.bins]}


def measured(predict, records: list) -> dict:
    """Return PCK by stage, visibility and keypoint with intervals, AUC of visibility and scores, and calibration."""
    predictions = evaluate.predicted(predict, records)
    report = evaluate.score(predictions, records, metric="pck")
    stages = {stage: {row: [_rounded(value["value"]), _rounded(value["low"]), _rounded(value["high"]), value["count"]]
                      for row, value in rows.items()} for stage, rows in report.rows.items()}
    known = ~np.isnan(report.result)
    visible = report.codes[known] == Visibility.VISIBLE
    scores = predictions.scores[known]
    return {"stages": stages, "calibration": calibration(scores, report.result[known] <= THRESHOLD),
            "auc_visibility": _rounded(report.visibility_auc, 3),
            "auc_scores": _rounded(metrics.roc_auc(scores, visible), 3) if (report.codes[known] > 0).all() else None}


def measured_all(predict: predictor.Predictor, real: list, synthetic: list, occluded: dict[str, list]) -> dict:
    """Return all figures of one trained model; those for people with pasted objects without single keypoints."""
    figures = {"real": measured(predict, real), "synthetic": measured(predict, synthetic),
               "occluded": {share: _brief(measured(predict, people)) for share, people in occluded.items()}}
    if len(figures["real"]["stages"]) > 1:
        detector = replace(predict, run=lambda crops: {"parts": predict.run(crops)["parts"]})
        for kind, people in (("real", real), ("synthetic", synthetic)):
            figures[kind]["calibration_parts"] = measured(detector, people)["calibration"]
    return figures


def _brief(figures):
    rows = ("total", "visible", "occluded")
    return {**figures, "calibration": {"ece": figures["calibration"]["ece"]},
            "stages": {stage: {row: values[row] for row in rows} for stage, values in figures["stages"].items()}}


def result(figures: dict) -> dict:
    """Return the rows of the last stage."""
    return figures["stages"].get("heatmaps") or figures["stages"]["parts"]


def headline(run: dict) -> dict[str, float | None]:
    """Return the columns of `table` for one training run: PCK, or AUC or ECE as named."""
    real, synthetic, covered = run["real"], run["synthetic"], run["occluded"].get("30")
    return {"real": result(real)["total"][0], "synthetic": result(synthetic)["total"][0],
            "visible": result(synthetic)["visible"][0], "occluded": result(synthetic)["occluded"][0],
            "uncovered, 30 %": result(covered)["visible"][0] if covered else None,
            "covered, 30 %": result(covered)["occluded"][0] if covered else None,
            "AUC, synthetic": synthetic["auc_visibility"],
            "AUC, 30 %": covered["auc_visibility"] if covered else None, "ECE, real": real["calibration"]["ece"]}


def over_seeds(results: dict) -> dict[str, dict[str, list[float] | None]]:
    """Return variant -> column of `headline` -> mean, minimum and maximum over the seeds."""
    return {variant: {column: _range([headline(run)[column] for run in runs.values()])
                      for column in headline(next(iter(runs.values())))} for variant, runs in results.items() if runs}


def table(results: dict) -> str:
    """Return a Markdown table with a row per variant: mean over its seeds (range)."""
    columns_of = over_seeds(results)
    columns = list(next(iter(columns_of.values()), ()))
    lines = ["| " + " | ".join(["variant", "seeds", *columns]) + " |", "|" + "---|" * (2 + len(columns))]
    for variant in (v for v in VARIANTS if v in columns_of):
        cells = [_shown(column, ends) for column, ends in columns_of[variant].items()]
        lines.append(f"| {variant} | {len(results[variant])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def keypoints_table(results: dict) -> str:
    """Return a Markdown table of PCK on real people, mean over seeds: a row per variant, a column per pair of sides."""
    lines = [f"| {' | '.join(['variant', *KEYPOINTS, 'total'])} |", "|" + "---|" * (2 + len(KEYPOINTS))]
    for variant in (v for v in VARIANTS if results.get(v)):
        rows = [result(run["real"]) for run in results[variant].values()]
        means = [np.mean([_of_both_sides(row, name) for row in rows]) for name in (*KEYPOINTS, "total")]
        lines.append(f"| {variant} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)


def _of_both_sides(row, keypoint):
    sides = [values for name, values in row.items() if name in (keypoint, f"left_{keypoint}", f"right_{keypoint}")]
    return np.average([value for value, *_ in sides], weights=[count for *_, count in sides])


def _range(values):
    values = [value for value in values if value is not None]
    return [_rounded(v, 4) for v in (np.mean(values), min(values), max(values))] if values else None


def _shown(column, ends):
    if ends is None:
        return ""
    mean, low, high = ends
    digits = 2 if column.startswith(("AUC", "ECE")) else 1
    return f"{mean:.{digits}f}" + (f" ({low:.{digits}f}-{high:.{digits}f})" if low != high else "")


def _rounded(value, digits=2):
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def write(file: Path, setting: dict, results: dict) -> None:
    """Write the figures as JSON with sorted keys and one line per list of numbers."""
    text = json.dumps({"setting": setting, "runs": results, "over_seeds": over_seeds(results)}, indent=1,
                      sort_keys=True, allow_nan=False)
    flat = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)
    with files.atomic_write(file) as draft:
        draft.write_text(flat + "\n", encoding="utf-8")


def written(file: Path, setting: dict) -> dict:
    """Return variant -> seed -> figures of the file, empty if they were measured on other people."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content["runs"] if content.get("setting") == setting else {}


def main(_) -> None:
    """Train and evaluate what is missing; write the figures after each evaluation, print the tables."""
    file = Path(FLAGS.results or "benchmarks") / "ablation.json"
    real, synthetic = (spread(checked_conversion(datasets.read(source, "val"), LSP14), FLAGS.people)
                       for source in (FLAGS.data, SYNTHETIC))
    setting = {"real": datasets.parse(FLAGS.data)[0], "real_people": len(real), "synthetic_people": len(synthetic)}
    results = written(file, setting)
    occluded = None
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # commands of this venv
    for seed in FLAGS.seeds:
        for variant in VARIANTS:
            folder = Path(FLAGS.output) / f"{variant}_{seed}"
            done = seed in results.get(variant, {}) and FLAGS.only is None  # figures exist, the run may be deleted
            if FLAGS.only != "measure" and not done and not (folder / "metrics.json").is_file():
                subprocess.run(command(variant, seed, FLAGS.data, folder, FLAGS["set"].value), check=True,
                               env={**os.environ, "PATH": path})
            if FLAGS.only == "train" or done or not (folder / "metrics.json").is_file():
                continue
            occluded = occluded or occluded_sets(real)
            results.setdefault(variant, {})[seed] = measured_all(predictor.load(folder), real, synthetic, occluded)
            write(file, setting, results)
            print(table(results), flush=True)
    if results:
        print(f"{table(results)}\n\nPCK by keypoint, real people:\n\n{keypoints_table(results)}")
        draw(results, Path(FLAGS.results or "docs"))


if __name__ == "__main__":
    app.run(main, FLAGS, __doc__)
