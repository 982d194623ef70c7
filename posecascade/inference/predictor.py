"""Predict poses in images' own pixels from images and boxes; used by evaluation, commands and certificates alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from posecascade.codec import decoders
from posecascade.codec.score_calibration import IDENTITY, Calibration
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.formats import runtime, zoo
from posecascade.geometry import Affine, Box, crop_transform
from posecascade.images import ImageFile, crop, from_array
from posecascade.inference import search
from posecascade.poses import Pose
from posecascade.poses_io import box_from
from posecascade.schema import Schema

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
Predict = Callable[[list[np.ndarray], list[Box]], list[Pose]]

PROTOCOLS = ("default", "paper")
CHECKPOINTS = ("best.keras", "last.keras")  # files of a run's folder, in order of preference
OUTPUTS = ("parts", "heatmaps", "keypoints", "scores", "visibility")  # names that `Predictor.run` may return
_RUNNING = Lock()    # a Keras model runs in one thread at a time; cropping and decoding run in parallel


@dataclass(frozen=True)
class Predictor:
    """A model with its pre- and postprocessing. Call it with images and boxes, or use `predict` without boxes.

    Attributes:
        run: (B, S, S, 3) uint8 RGB -> the outputs that the model has. Maps: "parts" and "heatmaps", confidences, each
            (B, S / stride, S / stride, K). A model with a built-in decoder returns "keypoints" (B, K, 2) in pixels of
            the crop, "scores" and "visibility" (B, K) instead. `run_of` makes a `run` from a network.
        schema: names of the K keypoints.
        input_size: S, the side of the crops in pixels.
        stride: input pixels per cell of the maps.
        decoder: one of `decoders.DECODERS`; the protocol "paper" always uses "argmax".
        flip_test: average the maps with those of the mirrored image.
        protocol: one of PROTOCOLS. "paper" averages with the mirrored image, clamps negatives to 0, resizes the maps
            to full resolution bilinearly and decodes by argmax (docs/paper.md, "Test time").
        batch_size: maximum number of people per call of `run`.
        calibration: from peaks of the maps to scores; not applied if the model has a built-in decoder.
    """

    run: Run
    schema: Schema
    input_size: int
    stride: int
    decoder: str = "soft"
    flip_test: bool = False
    protocol: str = "default"
    batch_size: int = 32
    calibration: Calibration = IDENTITY

    def __post_init__(self):
        for name, value, choices in (("decoder", self.decoder, decoders.DECODERS),
                                     ("protocol", self.protocol, PROTOCOLS)):
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}; {did_you_mean(value, choices)}")

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[Box]) -> list[Pose]:
        """Return the pose in each box, for images (H, W, 3) uint8 RGB and one box per image, in its pixels."""
        poses = []
        for start in range(0, len(images), self.batch_size):
            batch = slice(start, start + self.batch_size)
            crops, transforms = self.crops(images[batch], boxes[batch])
            stages, scores, visibility = self._keypoints(crops)
            poses += self._poses(stages, scores, visibility, transforms, boxes[batch])
        return poses

    def crops(self, images: Sequence[np.ndarray], boxes: Sequence[Box]) -> tuple[np.ndarray, list[Affine]]:
        """Return the model's input (B, S, S, 3) uint8 RGB, and the transform from each image's pixels to its crop's."""
        transforms = [crop_transform(box, self.input_size) for box in boxes]
        return np.stack([crop(image, transform, self.input_size)
                         for image, transform in zip(images, transforms, strict=True)]), transforms

    def maps(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Return the model's outputs for crops (B, S, S, 3): "parts" in 0..1, "heatmaps" finite.

        They are averaged with those of the mirrored crops if `flip_test` is set or `protocol` is "paper".
        """
        outputs = self._run(crops)
        if self.flip_test or self.protocol == "paper":
            # Cell u has its center at s u + (s - 1) / 2, which x -> S - 1 - x sends to the center of cell W - 1 - u:
            # mirrored maps have the same cells, without a shift.
            order = self.schema.flip_order
            mirrored = {name: maps[:, :, ::-1][..., order] for name, maps in self._run(crops[:, :, ::-1]).items()}
            outputs = {name: (maps + mirrored[name]) / 2 for name, maps in outputs.items()}
        return outputs

    def predict(self, image: np.ndarray | str | Path, box: Box | Sequence[float] | None = None) -> Pose:
        """Return the pose of one person.

        Args:
            image: (H, W, 3) uint8 RGB, another array that `images.from_array` accepts, or the path of a file, which
                is turned upright.
            box: the person's box, tight around the keypoints, in the image's pixels. Without it the person is searched
                for.
        """
        return self.predict_batch([image], [box])[0]

    def predict_batch(self, images: Sequence, boxes: Sequence | None = None) -> list[Pose]:
        """Return the pose in each image, like `predict`, in batches.

        `boxes` is None, or has one item per image, None if the person's box is unknown. `posecascade.inference.search`
        describes how a person without a box is found.
        """
        arrays = [ImageFile(Path(i), upright=True).read() if isinstance(i, (str, Path)) else from_array(i)
                  for i in images]
        given = [None] * len(arrays) if boxes is None else [box_from(box) for box in boxes]
        if len(given) != len(arrays):
            raise InputError(f"predict_batch: got {len(arrays)} images and {len(given)} boxes; expected one box per "
                             "image. Pass None for an unknown box")
        poses = self(arrays, [box or search.whole_box(array) for box, array in zip(given, arrays, strict=True)])
        unknown = [i for i, box in enumerate(given) if box is None]
        return search.refined(self, arrays, poses, unknown, self.calibration)

    def _run(self, crops):
        """Return the model's finite outputs. Batches are padded to powers of two, so that few shapes are compiled."""
        people = len(crops)
        size = min(1 << (people - 1).bit_length(), max(self.batch_size, people))
        batch = np.concatenate([crops, np.zeros((size - people, *crops.shape[1:]), crops.dtype)])
        with _RUNNING:
            outputs = {name: np.asarray(values, np.float32)[:people] for name, values in self.run(batch).items()}
        # A diverged model must not write NaN into result files.
        return {name: values if np.isfinite(values).all() else np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
                for name in OUTPUTS if (values := outputs.get(name)) is not None}

    def _keypoints(self, crops):
        """Return keypoints by stage in the crops' pixels, scores and visibility."""
        outputs = self.maps(crops)
        if "keypoints" in outputs:
            return {"keypoints": outputs["keypoints"]}, outputs["scores"], outputs["visibility"]
        decoded = {name: self._decoded(maps) for name, maps in outputs.items()}
        keypoints, peaks = list(decoded.values())[-1]
        peaks = np.clip(peaks, 0, 1)
        visibility = peaks
        if "parts" in outputs:
            visibility = np.clip(decoders.value_at(outputs["parts"], keypoints, self.stride), 0, 1)
        return {name: keypoints for name, (keypoints, _) in decoded.items()}, self.calibration(peaks), visibility

    def _poses(self, stages, scores, visibility, transforms, boxes):
        poses = []
        for i, (transform, box) in enumerate(zip(transforms, boxes, strict=True)):
            to_image = transform.inverse()
            in_image = {name: to_image(keypoints[i]) for name, keypoints in stages.items()}
            poses.append(Pose(list(in_image.values())[-1], scores[i], visibility[i], self.schema, box, in_image))
        return poses

    def _decoded(self, maps):
        if self.protocol != "paper":
            return decoders.DECODERS[self.decoder](maps, self.stride)
        decoded = [decoders.argmax(full_resolution(person, self.stride)[None], 1) for person in maps]
        return tuple(np.concatenate(values) for values in zip(*decoded, strict=True))


def full_resolution(maps: np.ndarray, stride: int) -> np.ndarray:
    """Return (H, W, K) maps with negatives clamped to 0, resized bilinearly to one cell per input pixel.

    OpenCV's linear resize puts cell u at stride * u + (stride - 1) / 2, as the codec does.
    """
    positive = np.maximum(maps, 0)
    size = (maps.shape[1] * stride, maps.shape[0] * stride)
    return np.stack([cv2.resize(positive[..., k], size, interpolation=cv2.INTER_LINEAR)
                     for k in range(maps.shape[2])], axis=-1)


def run_of(network: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Run:
    """Return the `Predictor.run` of a network (its `predict_on_batch`) whose "parts" are logits."""
    def run(crops):
        outputs = network(crops)
        if "parts" in outputs:
            half = 0.5 * np.asarray(outputs["parts"], np.float32)
            outputs = outputs | {"parts": 0.5 * (1 + np.tanh(half))}  # the sigmoid, without overflow
        return outputs

    return run


def load(path_or_name: str | Path, *, flip_test: bool = False, decoder: str | None = None, protocol: str = "default",
         batch_size: int = 32) -> Predictor:
    """Load a model and return its predictor.

    Args:
        path_or_name: "lite" or "base", which come with the package; a `.keras` file; the folder of a training run (its
            best checkpoint, otherwise its last); or an export: the folder of a version, the folder of all versions
            (the newest is loaded) or one of its `.tflite` files. Write "./lite" for a folder named like a model.
        flip_test: average the maps with those of the mirrored image.
        decoder: one of `decoders.DECODERS`; None for the one that the model was evaluated with.
        protocol: one of PROTOCOLS.
        batch_size: maximum number of people per call of the model.

    Raises InputError if nothing of the above is found, if the file is corrupt, or if `decoder`, `flip_test` or
    `protocol` is passed for a `.tflite` file with a built-in decoder.
    """
    path = Path(path_or_name)
    if not zoo.is_shipped(path_or_name) and runtime.is_artifact(path):
        run, metadata = runtime.load(path, maps=flip_test or protocol != "default" or decoder is not None)
    else:
        from posecascade.formats import keras_file  # not at the top: TFLite files do not need Keras

        model, metadata = keras_file.load(model_file(path_or_name))
        run = run_of(model.predict_on_batch)
    return Predictor(run, metadata.schema, metadata.input_size, metadata.stride, decoder or metadata.decoder,
                     flip_test, protocol, batch_size, metadata.calibration)


def model_file(path_or_name: str | Path) -> Path:
    """Return the file of a model of the package, the best (otherwise the last) file of a run's folder, or the path.

    Raises InputError if there is none.
    """
    if zoo.is_shipped(path_or_name):
        return zoo.file_of(path_or_name)
    path = Path(path_or_name)
    if path.is_dir():
        checkpoints = [path / name for name in CHECKPOINTS if (path / name).is_file()]
        if not checkpoints:
            raise InputError(f"{path}: contains neither {' nor '.join(CHECKPOINTS)} nor an export; expected the folder "
                             "of a training run or of posecascade-export, or a .keras file")
        return checkpoints[0]
    if path.suffix == ".keras" or path.exists():
        return path
    raise InputError(f"no model {str(path)!r}: no such file or folder; expected a .keras file, the folder of a "
                     "training run, an export, or a model of the package "
                     f"({did_you_mean(str(path), zoo.names())})")
