"""Draw the figures of a run: the learning curve, and a sheet of poses with the maps of both stages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from posecascade import files
from posecascade.drawing import draw_maps, draw_pose, sheet
from posecascade.errors import InputError
from posecascade.inference.predictor import Predictor
from posecascade.records import Record

CURVE, SHEET, METRICS = "curve.png", "predictions.jpg", "metrics.json"
TILE = 192  # px
LOSSES = ("loss", "detection", "regression")


def curve_figure(history: Sequence[Mapping], measures: Sequence[str]) -> Figure:
    """Draw losses and validation results over the epochs and return the figure.

    Args:
        history: rows of the log; `measures` are the columns that hold results in percent.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, columns, title in ((left, LOSSES, "training loss"), (right, measures, "validation, percent")):
        for name in columns:
            values = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
            if values:
                axes.plot(*zip(*values, strict=True), marker=".", label=name)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    left.set_yscale("log")
    return figure


def learning_curve(path: Path, history: Sequence[Mapping], measures: Sequence[str]) -> None:
    """Write `curve_figure` as an image."""
    with files.atomic_write(path) as draft:
        curve_figure(history, measures).savefig(draft)


def poses_sheet(predictor: Predictor, people: Sequence[Record]) -> tuple[np.ndarray, dict[str, float]]:
    """Draw people in their crops, one row of tiles each: labels, predicted pose, and the maps of each stage.

    People whose image cannot be read are skipped.

    Returns:
        (H, W, 3) uint8 RGB, and each stage's map maximum averaged over people and keypoints: near 0 the stage has
        learned nothing yet, whatever its loss.
    """
    readable = [(record, image) for record in people if (image := _read(record)) is not None]
    if not readable:
        return sheet([], 1, TILE), {}
    records, images = zip(*readable, strict=True)
    crops, transforms = predictor.crops(images, [record.box for record in records])
    maps = predictor.maps(crops)
    tiles = []
    for i, pose in enumerate(predictor(images, [record.box for record in records])):
        tiles.append(draw_pose(crops[i], transforms[i](records[i].keypoints), records[i].schema,
                               visibility=records[i].visibility))
        tiles.append(draw_pose(crops[i], transforms[i](pose.keypoints), pose.schema, visibility=pose.visibility))
        tiles += [draw_maps(crops[i], stage[i], pose.schema) for stage in maps.values()]
    columns = (2 + len(maps)) * (2 if len(records) > 4 else 1)
    return sheet(tiles, columns, TILE), {name: float(stage.max((1, 2)).mean()) for name, stage in maps.items()}


def _read(record):
    try:
        return record.image.read()
    except InputError:
        return None
