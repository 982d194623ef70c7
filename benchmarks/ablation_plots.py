"""Plots of benchmarks/ablation.py: accuracy by the covered share of the person, and reliability of the scores."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from posecascade import files

COLORS = {"cascade": "tab:blue", "detector": "tab:orange", "regressor": "tab:green", "l2_only": "tab:red",
           "no_image": "tab:purple"}
PANELS = {"occluded": "covered keypoints", "visible": "uncovered keypoints", "total": "all keypoints"}
SOURCES = {("real", "calibration"): "result, real people", ("synthetic", "calibration"): "result, synthetic people",
           ("real", "calibration_parts"): "part maps, real people"}
BINS = 10
MIN_COUNT = 10  # keypoints: bins with fewer are not drawn


def draw(results: dict, folder: Path) -> None:
    """Write both plots of results (variant -> seed -> figures) to the folder."""
    for name, plot in (("ablation_occlusion.png", _occlusion), ("ablation_calibration.png", _calibration)):
        figure = Figure(figsize=(11, 3.8), dpi=80, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        plot(results, figure)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        with files.atomic_write(folder / name) as draft:
            pixels.quantize(64).save(draft, optimize=True)  # half the bytes of full color


def curve(runs: dict, row: str) -> np.ndarray:
    """Return (shares, 4): per cent covered, accuracy, and the ends of its interval, each the mean over the seeds.

    Excludes seeds and shares without keypoints of that kind.
    """
    shares = sorted({int(share) for run in runs.values() for share in run["occluded"]})
    points = []
    for share in shares:
        results = [stages.get("heatmaps") or stages["parts"] for run in runs.values()
                   if (stages := run["occluded"].get(str(share), {}).get("stages"))]
        values = [rows[row][:3] for rows in results if None not in rows[row][:3]]
        if values:
            points.append([share, *np.mean(values, axis=0)])
    return np.array(points).reshape(-1, 4)


def reliability(runs: dict, kind: str, which: str) -> np.ndarray:
    """Return (bins, 3): mean score, share of correct keypoints, and count of each bin, over all seeds."""
    rows = np.array([row for run in runs.values() for row in run[kind].get(which, {}).get("bins", ())]).reshape(-1, 3)
    index = np.minimum((rows[:, 0] * BINS).astype(int), BINS - 1)
    pooled = [rows[index == b] for b in range(BINS) if (index == b).any()]
    return np.array([[*np.average(of_bin[:, :2], axis=0, weights=of_bin[:, 2]), of_bin[:, 2].sum()]
                     for of_bin in pooled]).reshape(-1, 3)


def _variants(results):
    return [(variant, color) for variant, color in COLORS.items() if results.get(variant)]


def _occlusion(results, figure):
    for axes, (row, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for number, (variant, color) in enumerate(_variants(results)):
            share, mean, low, high = curve(results[variant], row).T
            shifted = share + 0.6 * (number - 2)  # so that intervals do not overlap
            axes.errorbar(shifted, mean, np.maximum([mean - low, high - mean], 0), marker=".", color=color,
                          elinewidth=0.8, label=variant)
        axes.set(title=f"{title}: PCK@0.2, 95 %", xlabel="box covered, per cent", xlim=(-2, 62))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _calibration(results, figure):
    for axes, ((kind, which), title) in zip(figure.subplots(1, len(SOURCES)), SOURCES.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
        for variant, color in _variants(results):
            rows = reliability(results[variant], kind, which)
            rows = rows[rows[:, 2] >= MIN_COUNT]
            axes.plot(rows[:, 0], rows[:, 1], marker=".", color=color, label=variant)
        axes.set(title=title, xlabel="score", ylabel="keypoints within 0.2 torso", xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
