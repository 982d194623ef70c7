"""The cascade's parts, trained alike and compared: benchmarks/ablation.py --data=lspet:DIR --output=runs/ablation.

Trains every variant with every seed by `posecascade-train --recipe=ablation` (seed 0 of all, then seed 1, ...; what is
finished is not done again, what was killed goes on), measures what there is on the people kept for it, on synthetic
people, whose flags are exact, and with objects of growing size pasted over people, and writes benchmarks/ablation.json,
docs/ablation_occlusion.png and docs/ablation_calibration.png (all of them into DIR with --results=DIR).
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

VARIANTS = {  # name -> what differs from the recipe
    "cascade": (),
    "detector": ("model.stages=detector",),            # the sigmoid loss alone
    "regressor": ("model.stages=regressor",),          # image to maps, the L2 loss alone
    "l2_only": ("loss.detection_weight=0",),           # the cascade without the detector's loss
    "no_image": ("model.regressor_sees_image=false",),          # the regressor reads the part maps alone
}
SYNTHETIC = "synthetic:1500@7"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
JOINTS = ("head_top", "neck", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
RIGHT = 0.2  # of the torso
FLAGS = flags.FlagValues()
flags.DEFINE_string("data", None, "TYPE:ROOT of real people", required=True, flag_values=FLAGS)
flags.DEFINE_string("output", "runs/ablation", "folder of the runs", flag_values=FLAGS)
flags.DEFINE_string("results", None, "folder for figures and plots; else benchmarks/ and docs/", flag_values=FLAGS)
flags.DEFINE_list("seeds", ["0", "1", "2"], "of the trainings", flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "KEY=VALUE of the recipe, for every variant", flag_values=FLAGS)
flags.DEFINE_integer("people", 250, "measured on, of each kind, at most", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_enum("only", None, ["train", "measure"],
                  "train alone, or measure anew what is trained; else both, as far as not done yet", flag_values=FLAGS)


def command(variant: str, seed: str, data: str, folder: Path, overrides: list[str]) -> list[str]:
    """The training of a variant."""
    sets = [*overrides, *VARIANTS[variant], f"training.seed={seed}"]
    return ["posecascade-train", "--recipe=ablation", f"--data={data}", f"--data={SYNTHETIC}",
            *(f"--set={item}" for item in sets), f"--model_dir={folder}"]


@dataclass(frozen=True)
class Pasted:
    """The picture of `hidden`, made anew whenever it is read: all people and sizes at once would fill the memory."""

    record: Record
    share: float
    seed: int
    number: int

    @property
    def name(self) -> str:
        """Of the picture below."""
        return self.record.image.name

    def read(self, shrink: int = 1) -> np.ndarray:
        """(H, W, 3) uint8 RGB, shrunk `shrink` times."""
        return hidden(self.record, self.share, self.seed, self.number).image.read(shrink)


def spread(items: list, count: int) -> list:
    """At most `count` items, evenly chosen."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else items


def occluded_sets(records: list, shares=SHARES, seed: int = 1) -> dict[str, list]:
    """Share in per cent -> the people for whom an object of every share was found, with one of that size."""
    rows = [[_lazy(record, share, seed, number) for share in shares] for number, record in enumerate(records)]
    whole = [row for row in rows if all(row)]
    return {f"{100 * share:.0f}": [row[i] for row in whole] for i, share in enumerate(shares)}


def _lazy(record, share, seed, number):
    found = hidden(record, share, seed, number)
    return found and replace(found, image=Pasted(record, share, seed, number))


def calibration(scores: np.ndarray, right: np.ndarray) -> dict:
    """Expected calibration error of scores (N,) in 0..1 against being right (N,), and its bins.

    Returns:
        "ece" in 0..1; "bins", rows of mean score, share right, count, of the bins that have any.
    """
    found = reliability(scores, right)
    return {"ece": round(found.error, 4), "bins": [[round(score, 3), round(share, 3), n]
                                                   for score, share, n in found.bins]}


def measured(predict, records: list) -> dict:
    """PCK by stage, visibility and joint with intervals; AUC of visibility and of scores; calibration of scores."""
    found = evaluate.predicted(predict, records)
    report = evaluate.score(found, records, metric="pck")
    stages = {stage: {row: [_rounded(value["value"]), _rounded(value["low"]), _rounded(value["high"]), value["count"]]
                      for row, value in rows.items()} for stage, rows in report.rows.items()}
    known = ~np.isnan(report.result)
    visible = report.codes[known] == Visibility.VISIBLE
    scores = found.scores[known]
    return {"stages": stages, "calibration": calibration(scores, report.result[known] <= RIGHT),
            "auc_visibility": _rounded(report.visibility_auc, 3),
            "auc_scores": _rounded(metrics.roc_auc(scores, visible), 3) if (report.codes[known] > 0).all() else None}


def measured_all(predict: predictor.Predictor, real: list, synthetic: list, occluded: dict[str, list]) -> dict:
    """Everything of one trained model; of people with an object over them, not each joint."""
    found = {"real": measured(predict, real), "synthetic": measured(predict, synthetic),
             "occluded": {share: _brief(measured(predict, people)) for share, people in occluded.items()}}
    if len(found["real"]["stages"]) > 1:
        alone = replace(predict, run=lambda crops: {"parts": predict.run(crops)["parts"]})
        for kind, people in (("real", real), ("synthetic", synthetic)):
            found[kind]["calibration_parts"] = measured(alone, people)["calibration"]
    return found


def _brief(found):
    rows = ("total", "visible", "occluded")
    return {**found, "calibration": {"ece": found["calibration"]["ece"]},
            "stages": {stage: {row: values[row] for row in rows} for stage, values in found["stages"].items()}}


def result(found: dict) -> dict:
    """The rows of the last stage."""
    return found["stages"].get("heatmaps") or found["stages"]["parts"]


def headline(run: dict) -> dict[str, float | None]:
    """The columns of the table, of one training; PCK but for AUC and ECE."""
    real, synthetic, covered = run["real"], run["synthetic"], run["occluded"].get("30")
    return {"real": result(real)["total"][0], "synthetic": result(synthetic)["total"][0],
            "visible": result(synthetic)["visible"][0], "occluded": result(synthetic)["occluded"][0],
            "uncovered, 30 %": result(covered)["visible"][0] if covered else None,
            "covered, 30 %": result(covered)["occluded"][0] if covered else None,
            "AUC, synthetic": synthetic["auc_visibility"],
            "AUC, 30 %": covered["auc_visibility"] if covered else None, "ECE, real": real["calibration"]["ece"]}


def over_seeds(results: dict) -> dict[str, dict[str, list[float] | None]]:
    """Variant -> column of `headline` -> mean, least and greatest over the seeds there are."""
    return {variant: {column: _range([headline(run)[column] for run in runs.values()])
                      for column in headline(next(iter(runs.values())))} for variant, runs in results.items() if runs}


def table(results: dict) -> str:
    """Markdown: a row per variant, mean over its seeds (range)."""
    found = over_seeds(results)
    columns = list(next(iter(found.values()), ()))
    lines = ["| " + " | ".join(["variant", "seeds", *columns]) + " |", "|" + "---|" * (2 + len(columns))]
    for variant in (v for v in VARIANTS if v in found):
        cells = [_shown(column, ends) for column, ends in found[variant].items()]
        lines.append(f"| {variant} | {len(results[variant])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def joints_table(results: dict) -> str:
    """Markdown: PCK of real people joint by joint, left and right together, mean over the seeds; a row per variant."""
    lines = [f"| {' | '.join(['variant', *JOINTS, 'total'])} |", "|" + "---|" * (2 + len(JOINTS))]
    for variant in (v for v in VARIANTS if results.get(v)):
        rows = [result(run["real"]) for run in results[variant].values()]
        means = [np.mean([_of_both_sides(row, joint) for row in rows]) for joint in (*JOINTS, "total")]
        lines.append(f"| {variant} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)


def _of_both_sides(row, joint):
    sides = [values for name, values in row.items() if name == joint or name in (f"left_{joint}", f"right_{joint}")]
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
    """The figures as JSON with sorted keys, a list of numbers in a line."""
    text = json.dumps({"setting": setting, "runs": results, "over_seeds": over_seeds(results)}, indent=1,
                      sort_keys=True, allow_nan=False)
    flat = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    with files.atomic_write(file) as draft:
        draft.write_text(flat + "\n", encoding="utf-8")


def written(file: Path, setting: dict) -> dict:
    """Variant -> seed -> figures that lie in the file, or none where they were measured on other people."""
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found["runs"] if found.get("setting") == setting else {}


def main(_) -> None:
    """Train, measure after each training, write, print."""
    file = Path(FLAGS.results or "benchmarks") / "ablation.json"
    real, synthetic = (spread(checked_conversion(datasets.read(source, "val"), LSP14), FLAGS.people)
                       for source in (FLAGS.data, SYNTHETIC))
    setting = {"real": datasets.parse(FLAGS.data)[0], "real_people": len(real), "synthetic_people": len(synthetic)}
    results = written(file, setting)
    occluded = None
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # of the same environment
    for seed in FLAGS.seeds:
        for variant in VARIANTS:
            folder = Path(FLAGS.output) / f"{variant}_{seed}"
            done = seed in results.get(variant, {}) and FLAGS.only is None  # its figures are here, its run may not be
            if FLAGS.only != "measure" and not done and not (folder / "metrics.json").is_file():
                subprocess.run(command(variant, seed, FLAGS.data, folder, FLAGS["set"].value), check=True,
                               env={**os.environ, "PATH": path})
            if FLAGS.only == "train" or done or not (folder / "metrics.json").is_file():
                continue
            occluded = occluded or occluded_sets(real)
            found = measured_all(predictor.load(folder), real, synthetic, occluded)
            results.setdefault(variant, {})[seed] = found
            write(file, setting, results)
            print(table(results), flush=True)
    if results:
        print(f"{table(results)}\n\nJoint by joint, real people\n\n{joints_table(results)}")
        draw(results, Path(FLAGS.results or "docs"))


if __name__ == "__main__":
    app.run(main, FLAGS, __doc__)
