"""Compare every exported artifact with its model on the same people; the result is the export's certificate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from posecascade.evaluation import evaluate
from posecascade.geometry import Box, crop_transform
from posecascade.inference.predictor import Predictor
from posecascade.poses import Pose
from posecascade.records import Record

BATCH = 32       # people predicted at once
MAP_PEOPLE = 32  # people whose maps are compared
FLOATS = ("float32", "float16")  # precisions limited by distance; the others, with int8 weights, by the loss of PCK

Predict = Callable[[list[np.ndarray], list[Box]], list[Pose]]


@dataclass(frozen=True)
class Artifact:
    """Describe an artifact to measure.

    Attributes:
        name: FOLDER/FILE, or "saved_model/SIGNATURE".
        precision: "float32", "float16", "dynamic" or "int8".
        predict: images and boxes in their pixels -> poses in the same pixels.
        maps: crops (B, S, S, 3) uint8 -> maps by name; None if it returns keypoints alone.
        facts: bytes, SHA-256, operators and latency, as JSON values.
        reference: the model's predictions to compare with, if not those in the people's boxes.
    """

    name: str
    precision: str
    predict: Predict
    maps: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None
    facts: Mapping = field(default_factory=dict)
    reference: Predict | None = None


@dataclass(frozen=True)
class Row:
    """Hold what was measured on an artifact.

    Attributes:
        distance: "p50", "p99" and "max" of the distance between a keypoint and the model's, in pixels of the crop.
        worst_keypoint: the keypoint with the largest 99th percentile, and that percentile.
        score, model_score: PCK (or PCKh) in percent, of the artifact and of the model.
        map_difference: the largest difference of a cell of the maps; None without maps.
        facts: the artifact's.
    """

    name: str
    precision: str
    distance: dict[str, float]
    worst_keypoint: dict[str, float | str]
    score: float
    model_score: float
    map_difference: float | None
    facts: Mapping

    @property
    def loss(self) -> float:
        """Return the points of PCK that the artifact loses."""
        return self.model_score - self.score


def measure(model: Predictor, artifacts: Sequence[Artifact], records: Sequence[Record], metric: str) -> list[Row]:
    """Return a row for every artifact, after it and the model have predicted the same people.

    Args:
        model: the artifacts were made from it.
        records: people with images, all of one schema.
        metric: one of `evaluate.METRICS`; "oks" is measured by PCK.
    """
    poses: dict[str, list[Pose]] = {}
    differences: dict[str, float] = {}
    for start in range(0, len(records), BATCH):
        images = [record.image.read() for record in records[start:start + BATCH]]
        boxes = [record.box for record in records[start:start + BATCH]]
        poses.setdefault("", []).extend(model(images, boxes))
        for artifact in artifacts:
            poses.setdefault(artifact.name, []).extend(artifact.predict(images, boxes))
            if artifact.reference:
                poses.setdefault(artifact.name + "?", []).extend(artifact.reference(images, boxes))
        if start == 0:
            crops = model.crops(images[:MAP_PEOPLE], boxes[:MAP_PEOPLE])[0]
            differences = _map_differences(model, artifacts, crops)
    return [_row(artifact, poses[artifact.name], poses.get(artifact.name + "?", poses[""]), records, metric,
                 model.input_size, differences.get(artifact.name)) for artifact in artifacts]


def _map_differences(model, artifacts, crops):
    expected, differences = model.maps(crops), {}
    for artifact in artifacts:
        if artifact.maps:
            maps = artifact.maps(crops)
            differences[artifact.name] = max(float(np.abs(maps[name] - expected[name]).max()) for name in expected)
    return differences


def _row(artifact, poses, expected, records, metric, size, difference) -> Row:
    away = np.linalg.norm(np.stack([pose.keypoints for pose in poses]) -
                          np.stack([pose.keypoints for pose in expected]), axis=-1)
    # In pixels of the crop, so that a person's size in the photograph does not matter.
    away *= np.array([crop_transform(pose.box, size).zoom for pose in expected])[:, None]
    worst = np.percentile(away, 99, axis=0)
    at = int(worst.argmax())
    return Row(artifact.name, artifact.precision,
               {"p50": float(np.percentile(away, 50)), "p99": float(np.percentile(away, 99)), "max": float(away.max())},
               {"name": poses[0].names[at], "p99": float(worst[at])},
               _score(poses, records, metric), _score(expected, records, metric), difference, artifact.facts)


def _score(poses, records, metric) -> float:
    report = evaluate.score(evaluate.collected(poses, records[0].schema), records,
                            metric="pck" if metric == "oks" else metric, draws=1)
    return report.total


def refusals(rows: Sequence[Row], *, max_float_error_px: float, max_pck_drop: float) -> list[str]:
    """Return a message for every artifact past a limit.

    Args:
        max_float_error_px: limit of "float32" and "float16" for the 99th percentile of the distance, in pixels of the
            crop.
        max_pck_drop: limit of "dynamic" and "int8" for the loss, in points of PCK.
    """
    messages = []
    for row in rows:
        if row.precision in FLOATS and not row.distance["p99"] < max_float_error_px:
            messages.append(f"{row.name}: keypoints differ from the model's by {row.distance['p99']:.3f} px of the "
                            f"crop (99th percentile, worst {row.worst_keypoint['name']}), expected less than "
                            f"{max_float_error_px:g}")
        if row.precision not in FLOATS and not row.loss < max_pck_drop:
            messages.append(f"{row.name}: loses {row.loss:.2f} points of PCK ({row.model_score:.2f} to "
                            f"{row.score:.2f}), expected less than {max_pck_drop:g}")
    return messages


def as_dict(rows: Sequence[Row]) -> list[dict]:
    """Return the rows as in certificate.json."""
    return [{"name": row.name, "precision": row.precision, "distance_px_of_crop": row.distance,
             "worst_keypoint": row.worst_keypoint, "score": row.score, "model_score": row.model_score, "loss": row.loss,
             "largest_map_difference": row.map_difference, **row.facts} for row in rows]


def scores_line(scores: Mapping) -> str:
    """Return a line about the calibration of the scores; `scores` is what `exporting.curve_of` returns."""
    if scores["error"] is None:
        return "scores: too few keypoints can be judged to measure the calibration"
    line = f"scores: expected calibration error {scores['error']:.3f}"
    if scores["error_after"] is None:
        return f"{line}; not recalibrated"
    return (f"{line}, {scores['error_after']:.3f} after recalibration (cross-validated over people); score = sigmoid("
            f"{scores['slope']:.3f} logit(peak) {scores['offset']:+.3f})")


def table(rows: Sequence[Row], metric: str) -> str:
    """Return the rows as text: distances in pixels of the crop, points lost, map differences, size, latency.

    The last column is the number of kinds of operators that a GPU delegate does not run.
    """
    heads = ("artifact", "p50 px", "p99 px", "max px", metric, "loss", "maps", "MB", "1 thread", "2 threads",
             "not on GPU")
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        latency = row.facts.get("latency_ms") or {}
        blocking = row.facts.get("gpu_blocking")
        away = row.distance
        lines.append((row.name, f"{away['p50']:.4f}", f"{away['p99']:.3f}", f"{away['max']:.2f}",
                      f"{row.score:.2f}", f"{row.loss:+.2f}",
                      "-" if row.map_difference is None else f"{row.map_difference:.1e}",
                      f"{row.facts.get('bytes', 0) / 1e6:.2f}",
                      *(f"{latency[n]:.1f} ms" if n in latency else "-" for n in ("1", "2")),
                      "-" if blocking is None else str(len(blocking))))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)
