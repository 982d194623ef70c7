"""Load what an export wrote for the certificate's measurements: how to call it, its size and its latency."""

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
class _SignaturePredict:
    """Predicts poses in images by a signature of a SavedModel.

    Attributes:
        signature: a signature of the loaded model.
        inputs: images, boxes -> requests, each the signature's inputs for one or more people.
        reference: the model, for its schema.
    """

    signature: Callable
    inputs: Callable[[Sequence[np.ndarray], Sequence[Box]], Iterator[dict]]
    reference: Predictor

    def __call__(self, images, boxes) -> list[Pose]:
        poses = []
        for request in self.inputs(images, boxes):
            answer = {name: value.numpy() for name, value in self.signature(**request).items()}
            for keypoints, scores, visibility in zip(*(answer[name] for name in ("keypoints", "scores", "visibility")),
                                                     strict=True):
                poses.append(Pose(keypoints.astype(np.float64), scores, visibility, self.reference.schema,
                                  boxes[len(poses)]))
        return poses


def of_saved_model(folder: Path, reference: Predictor, image: np.ndarray) -> Iterator[Artifact]:
    """Yield each signature of the SavedModel in `folder`; `image` (S, S, 3) is used to measure its latency."""
    run = runtime.saved_model(folder)
    milliseconds = latency.of_saved_model(folder, image)
    facts = {"bytes": sum(path.stat().st_size for path in _saved_model_files(folder)), "sha256": _digest(folder),
             "operators": saved_model.operators(folder), "gpu_blocking": None}
    by_maps = replace(reference, run=run)

    def by_signature(name, inputs):
        return _SignaturePredict(run.loaded.signatures[name], inputs, reference)

    def without_boxes(images, _):
        return reference.predict_batch(images)

    def artifact(name, predict, **more):
        return Artifact(f"saved_model/{name}", "float32", predict,
                        facts={**facts, "latency_ms": milliseconds[name]}, **more)

    yield artifact("heatmaps", by_maps, maps=by_maps.maps)
    yield artifact("images", by_signature("images", _one_by_one))
    yield artifact("with_boxes", by_signature("with_boxes", _encoded))
    yield artifact("serving_default", by_signature("serving_default", _without_boxes), reference=without_boxes)


def of_tflite(folder: Path, models: Mapping[str, tuple[str, bytes]], reference: Predictor) -> Iterator[Artifact]:
    """Yield each TFLite file in `folder`; `models` gives the precision and the model in it by file name."""
    for name, (precision, model) in models.items():
        run = _with_decoder(models, model) if name == DECODER_FILE else runtime.tflite(model)
        predict = replace(reference, run=run)
        operators = tflite_graphs.operators(model)
        facts = {"bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name), "operators": operators,
                 "gpu_blocking": [operator for operator in operators if operator not in tflite_graphs.GPU_OPERATORS],
                 "latency_ms": latency.of_tflite(model)}
        yield Artifact(f"{folder.name}/{name}", precision, predict,
                       predict.maps if name.startswith(runtime.MAPS) else None, facts)


def _with_decoder(models: Mapping[str, tuple[str, bytes]], decoder: bytes) -> runtime.Run:
    """Return the run of the float32 maps followed by `decoder`."""
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
    """Encode as PNG, without loss and without an EXIF tag, since the boxes count stored pixels."""
    return tf.constant([png(image) for image in images])


def _boxes(boxes):
    return tf.constant([box.as_list() for box in boxes], tf.float32)


def _saved_model_files(folder: Path) -> list[Path]:
    """Return the SavedModel's own files."""
    return sorted(path for path in [folder / "saved_model.pb", *(folder / "variables").rglob("*"),
                                    *(folder / "assets").rglob("*")] if path.is_file())


def _digest(folder: Path) -> str:
    """Return the SHA-256 over names and contents of the SavedModel's files."""
    digest = hashlib.sha256()
    for path in _saved_model_files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()} {files.sha256(path)}\n".encode())
    return digest.hexdigest()
