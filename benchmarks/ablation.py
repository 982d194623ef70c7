"""The cascade's parts, trained alike and compared: benchmarks/ablation.py --data=lspet:DIR --output=runs/ablation.

Trains every variant with every seed by `posecascade-train --recipe=ablation` (seed 0 of all, then seed 1, ...; what is
finished is not done again, what was killed goes on), measures what there is on the people kept for it, on synthetic
people, whose flags are exact, and with objects of growing size pasted over people, and writes DIR/ablation.json.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import app, flags
from hidden_people import hidden

from posecascade import datasets, evaluation, files, metrics, predictor
from posecascade.records import Visibility, checked_conversion
from posecascade.schema import LSP14

VARIANTS = {  # name -> what differs from the recipe
    "cascade": (),
    "detector": ("model.pieces=detector",),            # the sigmoid loss alone
    "regressor": ("model.pieces=regressor",),          # image to maps, the L2 loss alone
    "l2_only": ("loss.detection_weight=0",),           # the cascade without the detector's loss
    "no_image": ("model.reads_image=false",),          # the regressor reads the part maps alone
}
SYNTHETIC = "synthetic:1500@7"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
BINS = 10
RIGHT = 0.2  # of the torso
DATA = flags.DEFINE_string("data", None, "TYPE:ROOT of real people", required=True)
OUTPUT = flags.DEFINE_string("output", "runs/ablation", "folder of the runs")
RESULTS = flags.DEFINE_string("results", "benchmarks", "folder for ablation.json")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "of the trainings")
SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE of the recipe, for every variant")
PEOPLE = flags.DEFINE_integer("people", 250, "measured on, of each kind, at most", lower_bound=1)
TRAIN = flags.DEFINE_bool("train", True, "train what is not trained yet; else measure what there is")


def command(variant: str, seed: str, data: str, folder: Path, overrides: list[str]) -> list[str]:
    """The training of a variant."""
    sets = [*overrides, *VARIANTS[variant], f"training.seed={seed}"]
    return ["posecascade-train", "--recipe=ablation", f"--data={data}", f"--data={SYNTHETIC}",
            *(f"--set={item}" for item in sets), f"--model_dir={folder}"]


def spread(items: list, count: int) -> list:
    """At most `count` items, evenly chosen."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else items


def occluded_sets(records: list, shares=SHARES, seed: int = 1) -> dict[str, list]:
    """Share in per cent -> the people for whom an object of every share was found, with one of that size."""
    rows = [[hidden(record, share, seed, number) for share in shares] for number, record in enumerate(records)]
    whole = [row for row in rows if all(row)]
    return {f"{100 * share:.0f}": [row[i] for row in whole] for i, share in enumerate(shares)}


def calibration(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> dict:
    """Expected calibration error of scores (N,) in 0..1 against being right (N,), and its bins.

    Returns:
        "ece" in 0..1; "bins", rows of mean score, share right, count, of the bins that have any.
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    rows = [(float(scores[place == b].mean()), float(right[place == b].mean()), int((place == b).sum()))
            for b in range(bins) if (place == b).any()]
    return {"ece": sum(n * abs(score - share) for score, share, n in rows) / len(scores),
            "bins": [[round(score, 3), round(share, 3), n] for score, share, n in rows]}


def measured(predict, records: list) -> dict:
    """PCK by stage, visibility and joint with intervals; AUC of visibility and of scores; calibration of scores."""
    found = evaluation.predicted(predict, records)
    report = evaluation.score(found, records, metric="pck")
    stages = {stage: {row: [_rounded(value["value"]), _rounded(value["low"]), _rounded(value["high"]), value["count"]]
                      for row, value in rows.items()} for stage, rows in report.rows.items()}
    known = ~np.isnan(report.result)
    visible = report.codes[known] == Visibility.VISIBLE
    scores = found.scores[known]
    return {"stages": stages, "calibration": calibration(scores, report.result[known] <= RIGHT),
            "auc_visibility": _rounded(report.visibility_auc, 3),
            "auc_scores": _rounded(metrics.roc_auc(scores, visible), 3) if (report.codes[known] > 0).all() else None}


def measured_all(model: Path, real: list, synthetic: list, occluded: dict[str, list]) -> dict:
    """Everything of one trained model."""
    predict = predictor.load(model)
    return {"real": measured(predict, real), "synthetic": measured(predict, synthetic),
            "occluded": {share: measured(predict, people) for share, people in occluded.items()}}


def table(results: dict) -> str:
    """Markdown: a row per variant, mean over its seeds (range)."""
    columns = {"real": ("real", "total"), "synthetic": ("synthetic", "total"), "visible": ("synthetic", "visible"),
               "occluded": ("synthetic", "occluded")}
    lines = [f"| variant | seeds | {' | '.join(columns)} | covered, 30 % | AUC | ECE |", "|" + "---|" * 9]
    for variant in (v for v in VARIANTS if results.get(v)):
        runs = list(results[variant].values())
        cells = [[_last(run[kind])[row][0] for run in runs] for kind, row in columns.values()]
        cells.append([_last(run["occluded"]["30"])["occluded"][0] for run in runs if "30" in run["occluded"]])
        cells += [[run["synthetic"]["auc_visibility"] for run in runs],
                  [run["real"]["calibration"]["ece"] for run in runs]]
        lines.append(f"| {variant} | {len(runs)} | {' | '.join(map(_shown, cells))} |")
    return "\n".join(lines)


def _last(found):
    return list(found["stages"].values())[-1]


def _shown(values):
    values = [value for value in values if value is not None]
    if not values:
        return ""
    digits = 1 if max(values) > 1 else 2
    ends = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{ends}"


def _rounded(value, digits=2):
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def main(_) -> None:
    """Train, measure after each training, write, print."""
    file = Path(RESULTS.value) / "ablation.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    real, synthetic = (spread(checked_conversion(datasets.read(source, "val"), LSP14), PEOPLE.value)
                       for source in (DATA.value, SYNTHETIC))
    occluded = None
    for seed in SEEDS.value:
        for variant in VARIANTS:
            folder = Path(OUTPUT.value) / f"{variant}_{seed}"
            if TRAIN.value and not (folder / "metrics.json").is_file():
                subprocess.run(command(variant, seed, DATA.value, folder, SET.value), check=True)
            if not (folder / "metrics.json").is_file() or seed in results.get(variant, {}):
                continue
            occluded = occluded or occluded_sets(real)
            results.setdefault(variant, {})[seed] = measured_all(folder, real, synthetic, occluded)
            files.write_json(file, results)
            print(table(results), flush=True)
    print(table(results))


if __name__ == "__main__":
    app.run(main, sys.argv)
