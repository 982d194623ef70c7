"""Images and boxes to poses in the images' own pixels; evaluation, commands and certificates all predict with it."""

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
CHECKPOINTS = ("best.keras", "last.keras")  # what is looked for in a run's folder, in this order
OUTPUTS = ("parts", "heatmaps", "keypoints", "scores", "visibility")  # what a run may give
_RUNNING = Lock()    # a Keras model serves one thread at a time; cropping and decoding need not wait for each other


@dataclass(frozen=True)
class Predictor:
    """A model ready for pictures; call it, or `predict` where boxes are unknown.

    Attributes:
        run: (B, S, S, 3) uint8 RGB -> "parts" and "heatmaps", confidences, each (B, S / stride, S / stride, K), as far
            as the model has them; or, of an artifact that decodes by itself, "keypoints" (B, K, 2) in pixels of the
            crop, "scores" and "visibility" (B, K). `run_of` makes one of a network.
        schema: names the K channels.
        input_size: S.
        stride: input pixels per cell.
        decoder: one of `codec.DECODERS`; the paper's protocol takes "argmax".
        flip_test: average with the mirrored picture's maps.
        protocol: one of PROTOCOLS. "paper": always flip-averaged, negatives clamped to 0, maps brought to full
            resolution bilinearly, argmax (docs/paper.md, "Test time").
        batch_size: people that go through the model at once, at most.
        calibration: from the maps' peaks to scores; an artifact that decodes by itself has done it.
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
        """The pose in each box; images (H, W, 3) uint8 RGB, one box each, in their pixels."""
        poses = []
        for start in range(0, len(images), self.batch_size):
            some = slice(start, start + self.batch_size)
            crops, transforms = self.crops(images[some], boxes[some])
            stages, scores, visibility = self._joints(crops)
            poses += self._poses(stages, scores, visibility, transforms, boxes[some])
        return poses

    def crops(self, images: Sequence[np.ndarray], boxes: Sequence[Box]) -> tuple[np.ndarray, list[Affine]]:
        """(B, S, S, 3) uint8 RGB, what the model sees, and for each the way from its image's pixels to the crop's."""
        transforms = [crop_transform(box, self.input_size) for box in boxes]
        return np.stack([crop(image, transform, self.input_size)
                         for image, transform in zip(images, transforms, strict=True)]), transforms

    def maps(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """The model's outputs for crops (B, S, S, 3), flip-averaged where asked: "parts" in 0..1, "heatmaps" finite."""
        found = self._run(crops)
        if self.flip_test or self.protocol == "paper":
            # Cell u has its center at s u + (s - 1) / 2, which x -> S - 1 - x sends to the center of cell W - 1 - u:
            # mirrored maps lie on the same cells, without a shift.
            order = self.schema.flip_order
            mirrored = {name: maps[:, :, ::-1][..., order] for name, maps in self._run(crops[:, :, ::-1]).items()}
            found = {name: (maps + mirrored[name]) / 2 for name, maps in found.items()}
        return found

    def predict(self, image: np.ndarray | str | Path, box: Box | Sequence[float] | None = None) -> Pose:
        """The pose of one person.

        Args:
            image: (H, W, 3) uint8 RGB, or what `images.from_array` takes, or a file's path (turned upright).
            box: the person, tight round the joints, in the image's pixels; without it the person is looked for.
        """
        return self.predict_batch([image], [box])[0]

    def predict_batch(self, images: Sequence, boxes: Sequence | None = None) -> list[Pose]:
        """`predict` for several pictures, in batches; `boxes` may be None, or hold None where a person is unknown.

        How an unknown person is found: `posecascade.inference.search`.
        """
        pictures = [ImageFile(Path(i), upright=True).read() if isinstance(i, (str, Path)) else from_array(i)
                    for i in images]
        given = [None] * len(pictures) if boxes is None else [box_from(box) for box in boxes]
        if len(given) != len(pictures):
            raise InputError(f"predict_batch: got {len(pictures)} images and {len(given)} boxes, expected one each")
        poses = self(pictures, [box or search.whole_box(picture) for box, picture in zip(given, pictures, strict=True)])
        unknown = [i for i, box in enumerate(given) if box is None]
        return search.refined(self, pictures, poses, unknown, self.calibration)

    def _run(self, crops):
        """The model's outputs, finite; batches are filled up, so that few sizes occur."""
        people = len(crops)
        size = min(1 << (people - 1).bit_length(), max(self.batch_size, people))
        batch = np.concatenate([crops, np.zeros((size - people, *crops.shape[1:]), crops.dtype)])
        with _RUNNING:
            outputs = {name: np.asarray(values, np.float32)[:people] for name, values in self.run(batch).items()}
        # A diverged model must not make NaN of a result that goes to a file.
        return {name: values if np.isfinite(values).all() else np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
                for name in OUTPUTS if (values := outputs.get(name)) is not None}

    def _joints(self, crops):
        """Joints in the crops' pixels, by stage; scores and visibility."""
        found = self.maps(crops)
        if "keypoints" in found:
            return {"keypoints": found["keypoints"]}, found["scores"], found["visibility"]
        decoded = {name: self._decoded(values) for name, values in found.items()}
        places, peaks = list(decoded.values())[-1]
        peaks = np.clip(peaks, 0, 1)
        visibility = peaks
        if "parts" in found:
            visibility = np.clip(decoders.value_at(found["parts"], places, self.stride), 0, 1)
        return {name: points for name, (points, _) in decoded.items()}, self.calibration(peaks), visibility

    def _poses(self, stages, scores, visibility, transforms, boxes):
        poses = []
        for i, (transform, box) in enumerate(zip(transforms, boxes, strict=True)):
            back = transform.inverse()
            placed = {name: back(points[i]) for name, points in stages.items()}
            poses.append(Pose(list(placed.values())[-1], scores[i], visibility[i], self.schema, box, placed))
        return poses

    def _decoded(self, maps):
        if self.protocol != "paper":
            return decoders.DECODERS[self.decoder](maps, self.stride)
        each = [decoders.argmax(full_resolution(person, self.stride)[None], 1) for person in maps]
        return tuple(np.concatenate(parts) for parts in zip(*each, strict=True))


def full_resolution(maps: np.ndarray, stride: int) -> np.ndarray:
    """(H, W, K) maps, negatives clamped to 0, bilinearly at one cell per input pixel.

    OpenCV's linear resize puts cell u at stride * u + (stride - 1) / 2, as the codec does.
    """
    positive = np.maximum(maps, 0)
    size = (maps.shape[1] * stride, maps.shape[0] * stride)
    return np.stack([cv2.resize(positive[..., k], size, interpolation=cv2.INTER_LINEAR)
                     for k in range(maps.shape[2])], axis=-1)


def run_of(network: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Run:
    """The `Predictor.run` of a network (its `predict_on_batch`) whose "parts" are logits."""
    def run(crops):
        outputs = network(crops)
        if "parts" in outputs:
            half = 0.5 * np.asarray(outputs["parts"], np.float32)
            outputs = outputs | {"parts": 0.5 * (1 + np.tanh(half))}  # the sigmoid, without overflow
        return outputs

    return run


def load(path_or_name: str | Path, *, flip_test: bool = False, decoder: str | None = None, protocol: str = "default",
         batch_size: int = 32) -> Predictor:
    """The predictor of a model that comes with the package, by name ("lite", "base"), or of one trained or exported.

    That is a `.keras` file, a run's folder (its best checkpoint, else its last), or an export: a bundle's folder, its
    newest version in the folder above, or one of its `.tflite` files. A folder with the name of a model is given as
    "./lite". `decoder` None takes the one the model was measured with. Raises InputError for anything else, as
    `pretrained.load`, and where an artifact that decodes by itself is asked for another decoder, flips or protocol.
    """
    path = Path(path_or_name)
    if not zoo.is_shipped(path_or_name) and runtime.is_artifact(path):
        run, metadata = runtime.load(path, maps=flip_test or protocol != "default" or decoder is not None)
    else:
        from posecascade.formats import keras_file  # here, because it imports Keras, which TFLite files do not need

        model, metadata = keras_file.load(model_file(path_or_name))
        run = run_of(model.predict_on_batch)
    return Predictor(run, metadata.schema, metadata.input_size, metadata.stride, decoder or metadata.decoder,
                     flip_test, protocol, batch_size, metadata.calibration)


def model_file(path_or_name: str | Path) -> Path:
    """The file of a model: of a name, the one in the package; itself; of a run's folder its best or last.

    Raises InputError where there is none.
    """
    if zoo.is_shipped(path_or_name):
        return zoo.file_of(path_or_name)
    path = Path(path_or_name)
    if path.is_dir():
        found = [path / name for name in CHECKPOINTS if (path / name).is_file()]
        if not found:
            raise InputError(f"{path}: holds neither {' nor '.join(CHECKPOINTS)} nor an export; give a run's folder, "
                             "a .keras file, or what posecascade-export wrote")
        return found[0]
    if path.suffix == ".keras" or path.exists():
        return path
    raise InputError(f"no model {str(path)!r}: neither a file nor a folder of that name exists; give a .keras file, "
                     "the folder of a training run, an export, or a model of the package "
                     f"({did_you_mean(str(path), zoo.names())})")
