"""What an export wrote, as the certificate measures it: how to ask it, how large and how fast it is."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from posecascade import files
from posecascade.export import latency, saved_model
from posecascade.export.certificate import Artifact
from posecascade.formats import runtime, tflite_graphs
from posecascade.formats.tflite_metadata import DECODER_FILE
from posecascade.geometry import Box
from posecascade.images import png
from posecascade.inference.predictor import Predictor
from posecascade.poses import Pose


@dataclass(frozen=True)
class _Asked:
    """A SavedModel's signature as a road from pictures and boxes to poses.

    Attributes:
        signature: of the loaded model.
        inputs: pictures, boxes -> requests, each the signature's inputs for one or more people.
        reference: the model, for its schema.
    """

    signature: Callable
    inputs: Callable[[Sequence[np.ndarray], Sequence[Box]], Iterator[dict]]
    reference: Predictor

    def __call__(self, images, boxes) -> list[Pose]:
        poses = []
        for request in self.inputs(images, boxes):
            answer = {name: value.numpy() for name, value in self.signature(**request).items()}
            for points, scores, seen in zip(answer["keypoints"], answer["scores"], answer["visibility"], strict=True):
                poses.append(Pose(points.astype(np.float64), scores, seen, self.reference.schema, boxes[len(poses)]))
        return poses


def of_saved_model(folder: Path, reference: Predictor, picture: np.ndarray) -> Iterator[Artifact]:
    """Each signature of the SavedModel in `folder`; `picture` (S, S, 3) is what its latency is measured on."""
    run = runtime.saved_model(folder)
    milliseconds = latency.of_saved_model(folder, picture)
    facts = {"bytes": sum(path.stat().st_size for path in _parts(folder)), "sha256": _together(folder),
             "operators": saved_model.operators(folder), "gpu_blocking": None}
    by_maps = replace(reference, run=run)

    def asked(name, inputs):
        return _Asked(run.loaded.signatures[name], inputs, reference)

    def looked_for(images, _):
        return reference.predict_batch(images)

    def artifact(name, predict, **more):
        return Artifact(f"saved_model/{name}", "float32", predict,
                        facts={**facts, "latency_ms": milliseconds[name]}, **more)

    yield artifact("heatmaps", by_maps, maps=by_maps.maps)
    yield artifact("images", asked("images", _one_by_one))
    yield artifact("with_boxes", asked("with_boxes", _encoded))
    yield artifact("serving_default", asked("serving_default", _without_boxes), reference=looked_for)


def of_tflite(folder: Path, models: Mapping[str, tuple[str, bytes]], reference: Predictor) -> Iterator[Artifact]:
    """Each TFLite file in `folder`; `models` gives its precision and the model in it by its name."""
    for name, (precision, model) in models.items():
        predict = replace(reference, run=_decoded(models, model) if name == DECODER_FILE else runtime.tflite(model))
        operators = tflite_graphs.operators(model)
        facts = {"bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name), "operators": operators,
                 "gpu_blocking": [operator for operator in operators if operator not in tflite_graphs.GPU_OPERATORS],
                 "latency_ms": latency.of_tflite(model)}
        yield Artifact(f"{folder.name}/{name}", precision, predict,
                       predict.maps if name.startswith(runtime.MAPS) else None, facts)


def _decoded(models: Mapping[str, tuple[str, bytes]], decoder: bytes) -> runtime.Run:
    """The float32 maps, and `decoder` on them."""
    to_maps = runtime.tflite(models[f"{runtime.MAPS}_float32{runtime.SUFFIX}"][1])
    to_keypoints = runtime.interpreter(decoder).get_signature_runner()

    def run(crops):
        maps = to_maps(crops)
        rows = [to_keypoints(**{name: values[i:i + 1] for name, values in maps.items()}) for i in range(len(crops))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return run


def _one_by_one(images, boxes):
    for image, box in zip(images, boxes, strict=True):  # of different sizes
        yield {"images": tf.constant(image[None]), "boxes": _boxes([box])}


def _encoded(images, boxes):
    yield {"image_bytes": _files(images), "boxes": _boxes(boxes)}


def _without_boxes(images, _):
    yield {"image_bytes": _files(images)}


def _files(images):
    """PNG, which loses nothing; and no EXIF tag that would turn a picture whose boxes count stored pixels."""
    return tf.constant([png(image) for image in images])


def _boxes(boxes):
    return tf.constant([box.as_list() for box in boxes], tf.float32)


def _parts(folder: Path) -> list[Path]:
    """The SavedModel's own files."""
    return sorted(path for path in [folder / "saved_model.pb", *(folder / "variables").rglob("*"),
                                    *(folder / "assets").rglob("*")] if path.is_file())


def _together(folder: Path) -> str:
    """SHA-256 over names and contents of the SavedModel's files."""
    digest = hashlib.sha256()
    for path in _parts(folder):
        digest.update(f"{path.relative_to(folder).as_posix()} {files.sha256(path)}\n".encode())
    return digest.hexdigest()
