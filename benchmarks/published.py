"""The paper's claim on LSP from its published predictions: benchmarks/published.py --data=DIR [--json=FILE].

DIR holds LSP's `joints.mat` and `predictions/*.mat`, as released: this paper's (bulat2016) and DeeperCut's
(insafutdinov2016), for the test half. PCK@0.2 of the torso; intervals are bootstrapped over images, the differences
paired: the same images in both.
"""

import json
from pathlib import Path

from absl import flags

from posecascade import datasets, files
from posecascade.cli import app
from posecascade.evaluation import evaluate, predictions
from posecascade.evaluation.report import Report, compare

METHODS = {"this paper": "bulat2016", "DeeperCut": "insafutdinov2016"}
FLAGS = flags.FlagValues()
flags.DEFINE_string("data", None, "folder with joints.mat and predictions/", required=True, flag_values=FLAGS)
flags.DEFINE_string("json", None, "write the figures to this file", flag_values=FLAGS)


def reports(folder: str) -> dict[str, Report]:
    """Both methods' predictions, scored."""
    records = datasets.read(f"lsp:{folder}", "test")
    found = {}
    for method, name in METHODS.items():
        answers = predictions.read_predictions(Path(folder) / "predictions" / f"{name}.mat", records,
                                             first_pixel=datasets.FIRST_PIXEL["lsp"])
        found[method] = evaluate.score(answers, records, metric="pck")
    return found


def figures(first: Report, second: Report) -> dict[str, dict]:
    """Row -> both figures in per cent with intervals, number of joints, paired difference with its interval."""
    rows = {}
    one, other = (report.rows[list(report.stages)[-1]] for report in (first, second))
    for row, paired in compare(first, second).items():
        rows[row] = {"joints": one[row]["count"], "difference": _rounded(paired["difference"]),
                     "difference_95": [_rounded(paired["low"]), _rounded(paired["high"])]}
        for method, found in zip(METHODS, (one[row], other[row]), strict=True):
            rows[row][method] = {"value": _rounded(found["value"]),
                                 "interval_95": [_rounded(found["low"]), _rounded(found["high"])]}
    return rows


def table(rows: dict[str, dict]) -> str:
    """Markdown."""
    lines = [f"| | joints | {' | '.join(METHODS)} | difference |", "|---|---|---|---|---|"]
    for row, found in rows.items():
        shown = [f"{found[m]['value']:.1f} ({found[m]['interval_95'][0]:.1f}-{found[m]['interval_95'][1]:.1f})"
                 for m in METHODS]
        low, high = found["difference_95"]
        lines.append(f"| {row} | {found['joints']} | {' | '.join(shown)} | "
                     f"{found['difference']:+.1f} ({low:+.1f} to {high:+.1f}) |")
    return "\n".join(lines)


def verdict(rows: dict[str, dict], row: str = "occluded") -> str:
    """Whether the row's difference can be told from zero, in a sentence."""
    low, high = rows[row]["difference_95"]
    told = "can be told from zero" if low * high > 0 else "cannot be told from zero"
    return (f"On {row} joints the difference of {rows[row]['difference']:+.1f} points ({low:+.1f} to {high:+.1f}) "
            f"{told}.")


def _rounded(value):
    return round(value, 2)


def main(_) -> None:
    """Print the table and write the figures."""
    rows = figures(*reports(FLAGS.data).values())
    print(table(rows))
    print("\n" + verdict(rows))
    if FLAGS.json:
        files.write_json(FLAGS.json, json.loads(json.dumps(rows, sort_keys=True)))


if __name__ == "__main__":
    app.run(main, FLAGS, __doc__)
