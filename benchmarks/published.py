"""Check the paper's claim on LSP with its published predictions: benchmarks/published.py --data=DIR [--json=FILE].

DIR contains LSP's `joints.mat` and `predictions/*.mat` as released: this paper's (bulat2016) and DeeperCut's
(insafutdinov2016), for the test half. The metric is PCK@0.2 of the torso; intervals are bootstrapped over images, and
differences are paired: both methods use the same images in each draw.
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
flags.DEFINE_string("json", None, "file to write the figures to", flag_values=FLAGS)


def reports(folder: str) -> dict[str, Report]:
    """Return the report on each method's predictions."""
    records = datasets.read(f"lsp:{folder}", "test")
    of_methods = {}
    for method, name in METHODS.items():
        published = predictions.read_predictions(Path(folder) / "predictions" / f"{name}.mat", records,
                                                 first_pixel=datasets.FIRST_PIXEL["lsp"])
        of_methods[method] = evaluate.score(published, records, metric="pck")
    return of_methods


def figures(first: Report, second: Report) -> dict[str, dict]:
    """Return row -> PCK of both methods in per cent, number of keypoints, paired difference, all with intervals."""
    rows = {}
    one, other = (report.rows[list(report.stages)[-1]] for report in (first, second))
    for row, paired in compare(first, second).items():
        rows[row] = {"keypoints": one[row]["count"], "difference": _rounded(paired["difference"]),
                     "difference_95": [_rounded(paired["low"]), _rounded(paired["high"])]}
        for method, figure in zip(METHODS, (one[row], other[row]), strict=True):
            rows[row][method] = {"value": _rounded(figure["value"]),
                                 "interval_95": [_rounded(figure["low"]), _rounded(figure["high"])]}
    return rows


def table(rows: dict[str, dict]) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| | keypoints | {' | '.join(METHODS)} | difference |", "|---|---|---|---|---|"]
    for row, figure in rows.items():
        shown = [f"{figure[m]['value']:.1f} ({figure[m]['interval_95'][0]:.1f}-{figure[m]['interval_95'][1]:.1f})"
                 for m in METHODS]
        low, high = figure["difference_95"]
        lines.append(f"| {row} | {figure['keypoints']} | {' | '.join(shown)} | "
                     f"{figure['difference']:+.1f} ({low:+.1f} to {high:+.1f}) |")
    return "\n".join(lines)


def verdict(rows: dict[str, dict], row: str = "occluded") -> str:
    """Return a sentence on whether the row's difference is significant: whether its interval excludes zero."""
    low, high = rows[row]["difference_95"]
    significant = "is significant" if low * high > 0 else "is not significant"
    return (f"On {row} keypoints, the difference of {rows[row]['difference']:+.1f} points ({low:+.1f} to {high:+.1f}) "
            f"{significant}.")


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
