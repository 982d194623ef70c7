"""Every exported artifact beside the model it was made from, on the same people: the proof that goes with an export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from posecascade.evaluation import evaluate
from posecascade.geometry import Box, crop_transform
from posecascade.inference.predictor import Predictor
from posecascade.poses import Pose
from posecascade.records import Record

BATCH = 32       # people measured at once
MAP_PEOPLE = 32  # on whose maps the largest difference is looked for
FLOATS = ("float32", "float16")  # precisions whose joints lie where the model's do; the others have int8 weights

Predict = Callable[[list[np.ndarray], list[Box]], list[Pose]]


@dataclass(frozen=True)
class Artifact:
    """One thing to measure.

    Attributes:
        name: of its row: a file's, or "saved_model/SIGNATURE".
        precision: "float32", "float16", "dynamic" or "int8".
        predict: pictures and boxes in their pixels -> poses in the same pixels.
        maps: crops (B, S, S, 3) uint8 -> maps by name; None where it gives joints alone.
        facts: what is known of it besides (bytes, SHA-256, operators, latency), as JSON has it.
        reference: poses of the same people by the model, where the usual ones in their boxes do not compare.
    """

    name: str
    precision: str
    predict: Predict
    maps: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None
    facts: Mapping = field(default_factory=dict)
    reference: Predict | None = None


@dataclass(frozen=True)
class Row:
    """What was measured on an artifact.

    Attributes:
        distance: "p50", "p99" and "max" of how far a joint lies from the model's, in pixels of the crop.
        worst_joint: the joint with the largest 99th percentile, and that.
        score, model_score: PCK (or PCKh) in per cent, of the artifact and of the model.
        map_difference: the largest difference of a map's cell; None where there are no maps.
        facts: the artifact's.
    """

    name: str
    precision: str
    distance: dict[str, float]
    worst_joint: dict[str, float | str]
    score: float
    model_score: float
    map_difference: float | None
    facts: Mapping

    @property
    def loss(self) -> float:
        """Points of PCK that the artifact has less than the model."""
        return self.model_score - self.score


def measure(model: Predictor, artifacts: Sequence[Artifact], records: Sequence[Record], metric: str) -> list[Row]:
    """A row for every artifact: both predict the same people, each by the road of its own.

    Args:
        model: what the artifacts were made from.
        records: people with pictures, all of one schema.
        metric: one of `evaluation.METRICS`; "oks" is measured by PCK.
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
    expected, found = model.maps(crops), {}
    for artifact in artifacts:
        if artifact.maps:
            maps = artifact.maps(crops)
            found[artifact.name] = max(float(np.abs(maps[name] - expected[name]).max()) for name in expected)
    return found


def _row(artifact, poses, expected, records, metric, size, difference) -> Row:
    away = np.linalg.norm(np.stack([pose.keypoints for pose in poses]) -
                          np.stack([pose.keypoints for pose in expected]), axis=-1)
    # In crops of the size the model sees, so that a person's size in the photograph does not matter.
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
    """What is wrong with the artifacts that are past a limit: those of float weights lie too far, others lose too much.

    Args:
        max_float_error_px: pixels of the crop, for the 99th percentile of "float32" and "float16".
        max_pck_drop: points of PCK, for "dynamic" and "int8".
    """
    found = []
    for row in rows:
        if row.precision in FLOATS and not row.distance["p99"] < max_float_error_px:
            found.append(f"{row.name}: joints lie {row.distance['p99']:.3f} px of the crop from the model's (99th "
                         f"percentile, worst {row.worst_joint['name']}), the limit is {max_float_error_px:g}")
        if row.precision not in FLOATS and not row.loss < max_pck_drop:
            found.append(f"{row.name}: loses {row.loss:.2f} points of PCK ({row.model_score:.2f} to {row.score:.2f}), "
                         f"the limit is {max_pck_drop:g}")
    return found


def as_dict(rows: Sequence[Row]) -> list[dict]:
    """The rows as certificate.json holds them."""
    return [{"name": row.name, "precision": row.precision, "distance_px_of_crop": row.distance,
             "worst_joint": row.worst_joint, "score": row.score, "model_score": row.model_score, "loss": row.loss,
             "largest_map_difference": row.map_difference, **row.facts} for row in rows]


def scores_line(told: Mapping) -> str:
    """What `exporting.curve_of` tells of the scores, as a line to read."""
    if told["error"] is None:
        return "scores: too few joints can be judged to say how often they are right"
    line = f"scores lie {told['error']:.3f} from the share of joints that are right (expected calibration error)"
    if told["error_after"] is None:
        return f"{line}; they stay as they are"
    return (f"{line}, {told['error_after']:.3f} on people whom their curve does not know; they are sigmoid("
            f"{told['slope']:.3f} logit(peak) {told['offset']:+.3f})")


def table(rows: Sequence[Row], metric: str) -> str:
    """The rows to read: distances in pixels of the crop, points lost, largest difference of a map, size, latency.

    The last column says how many kinds of operators a GPU delegate does not take.
    """
    heads = ("artifact", "p50 px", "p99 px", "max px", metric, "lost", "maps", "MB", "1 thread", "2 threads", "GPU")
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
                      "-" if blocking is None else f"not {len(blocking)}" if blocking else "all"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)
