"""Pictures and boxes -> poses in the pictures' own pixels: the one road of evaluation, command line and exports."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from posecascade import codec, pretrained, shipped
from posecascade.calibration import AS_THEY_ARE, Calibration
from posecascade.errors import InputError
from posecascade.export import runtime
from posecascade.files import nearest
from posecascade.geometry import CROP_PADDING, Affine, Box, crop_transform
from posecascade.images import ImageFile, crop, from_array
from posecascade.poses import Pose
from posecascade.poses_io import box_from
from posecascade.schema import Schema

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
Predict = Callable[[list[np.ndarray], list[Box]], list[Pose]]

PROTOCOLS = ("default", "paper")
CHECKPOINTS = ("best.keras", "last.keras")  # what is looked for in a run's folder, in this order
CONFIDENT = 0.3      # a score from which a joint counts when a person is looked for
LEAST_CONFIDENT = 3  # joints that a new crop needs: fewer say little of where the person is
LEAST_SIDE = 0.05    # of the picture's longer side: no new crop is smaller
UNSURE = 0.4         # mean score of the look at the whole picture below which its parts are looked at too
PARTS = 3            # squares along the longer side
ROUNDS = 2           # crops after that
WORSE = 0.8          # of the mean score before: a new crop with less is dropped; a peak between cells loses some
SETTLED = 0.9        # intersection over union of two boxes that count as the same
GRID = 32            # a new crop's edges lie on a grid of its longer side by this (and less than twice as fine)
OUTPUTS = ("parts", "heatmaps", "keypoints", "scores", "visibility")  # what a run may give
_RUNNING = Lock()    # a Keras model serves one thread at a time; cropping and decoding need not wait for each other


@dataclass(frozen=True)
class Predictor:
    """A model ready for pictures; call it, or `predict` where boxes are unknown.

    Attributes:
        run: (B, S, S, 3) uint8 RGB -> "parts" and "heatmaps", confidences, each (B, S / stride, S / stride, K), as far
            as the model has them; or, of an artefact that decodes by itself, "keypoints" (B, K, 2) in pixels of the
            crop, "scores" and "visibility" (B, K). `run_of` makes one of a network.
        schema: names the K channels.
        input_size: S.
        stride: input pixels per cell.
        decoder: one of `codec.DECODERS`; the paper's protocol takes "argmax".
        flip_test: average with the mirrored picture's maps.
        protocol: one of PROTOCOLS. "paper": always flip-averaged, negatives clamped to 0, maps brought to full
            resolution bilinearly, argmax (docs/paper.md, "Test time").
        batch_size: people that go through the model at once, at most.
        calibration: from the maps' peaks to scores; an artefact that decodes by itself has done it.
    """

    run: Run
    schema: Schema
    input_size: int
    stride: int
    decoder: str = "soft"
    flip_test: bool = False
    protocol: str = "default"
    batch_size: int = 32
    calibration: Calibration = AS_THEY_ARE

    def __post_init__(self):
        for name, value, choices in (("decoder", self.decoder, codec.DECODERS), ("protocol", self.protocol, PROTOCOLS)):
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}; {nearest(value, choices)}")

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[Box]) -> list[Pose]:
        """The pose in each box; images (H, W, 3) uint8 RGB, one box each, in their pixels."""
        poses = []
        for start in range(0, len(images), self.batch_size):
            some = slice(start, start + self.batch_size)
            crops, transforms = self.crops(images[some], boxes[some])
            poses += self._poses(*self._joints(crops), transforms, boxes[some])
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
            # Cell u has its centre at s u + (s - 1) / 2, which x -> S - 1 - x sends to the centre of cell W - 1 - u:
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

        A person is looked for in the whole picture first and, where the mean score is below UNSURE, in PARTS squares
        of the shorter side along the longer one, whichever score highest; then in the box of the joints with a score
        of CONFIDENT or more, up to ROUNDS times, until the box settles. With fewer than LEAST_CONFIDENT such joints,
        or where the mean score falls below WORSE times that before, the pose before stands.
        """
        pictures = [ImageFile(Path(i), upright=True).read() if isinstance(i, (str, Path)) else from_array(i)
                    for i in images]
        given = [None] * len(pictures) if boxes is None else [box_from(box) for box in boxes]
        if len(given) != len(pictures):
            raise InputError(f"predict_batch: got {len(pictures)} images and {len(given)} boxes, expected one each")
        poses = self(pictures, [box or whole_box(picture) for box, picture in zip(given, pictures, strict=True)])
        unknown = [i for i, box in enumerate(given) if box is None]
        least, unsure = (float(self.calibration(np.float64(score))) for score in (CONFIDENT, UNSURE))
        parts = [(i, box) for i in unknown if poses[i].scores.mean() < unsure for box in part_boxes(pictures[i])]
        for (i, _), pose in zip(parts, self([pictures[i] for i, _ in parts], [box for _, box in parts]), strict=True):
            poses[i] = max(poses[i], pose, key=lambda found: found.scores.mean())
        for _ in range(ROUNDS):
            wanted = {i: box for i in unknown if (box := confident_box(poses[i], pictures[i], least))}
            again = self([pictures[i] for i in wanted], list(wanted.values()))
            better = {i: pose for i, pose in zip(wanted, again, strict=True)
                      if pose.scores.mean() >= WORSE * poses[i].scores.mean()}
            poses = [better.get(i, pose) for i, pose in enumerate(poses)]
            unknown = list(better)
        return poses

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
        visibility = np.clip(codec.value_at(found["parts"], places, self.stride), 0, 1) if "parts" in found else peaks
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
            return codec.DECODERS[self.decoder](maps, self.stride)
        each = [codec.argmax(full_resolution(person, self.stride)[None], 1) for person in maps]
        return tuple(np.concatenate(parts) for parts in zip(*each, strict=True))


def full_resolution(maps: np.ndarray, stride: int) -> np.ndarray:
    """(H, W, K) maps, negatives clamped to 0, bilinearly at one cell per input pixel.

    OpenCV's linear resize puts cell u at stride * u + (stride - 1) / 2, as the codec does.
    """
    positive = np.maximum(maps, 0)
    size = (maps.shape[1] * stride, maps.shape[0] * stride)
    return np.stack([cv2.resize(positive[..., k], size, interpolation=cv2.INTER_LINEAR)
                     for k in range(maps.shape[2])], axis=-1)


def whole_box(image: np.ndarray) -> Box:
    """The box whose crop is the square round the whole picture."""
    height, width = image.shape[:2]
    return _box_in(-0.5, -0.5, width, height)


def part_boxes(image: np.ndarray) -> list[Box]:
    """The boxes whose crops are PARTS squares of the shorter side, side by side along the longer; none in a square."""
    height, width = image.shape[:2]
    shorter = min(width, height)
    return [_box_in((width - shorter) * part / (PARTS - 1) - 0.5, (height - shorter) * part / (PARTS - 1) - 0.5,
                    shorter, shorter) for part in range(PARTS) if width != height]


def _box_in(x, y, width, height):
    # In whole pixels, so that single precision has the same box, and the same crop, as double.
    side = math.ceil(max(width, height) / CROP_PADDING)
    return Box(x + (width - side) / 2, y + (height - side) / 2, side, side)


def confident_box(pose: Pose, image: np.ndarray, least: float = CONFIDENT) -> Box | None:
    """The box of the joints with a score of `least` or more; None where they are few, or where it was just that box.

    Its edges lie on a grid of a power of two pixels, the next outwards: else the thousandth of a pixel by which two
    runtimes differ in the first look would be another crop, and other joints, in the second.
    """
    confident = pose.scores >= least
    if confident.sum() < min(LEAST_CONFIDENT, pose.schema.size):
        return None
    tight = Box.round_points(pose.keypoints[confident], least=max(1.0, LEAST_SIDE * max(image.shape[:2])))
    step = 2.0 ** math.floor(math.log2(max(tight.w, tight.h) / GRID))
    low = np.floor(np.array([tight.x, tight.y]) / step) * step
    size = np.ceil(np.array([tight.x + tight.w, tight.y + tight.h]) / step) * step - low
    box = Box(*map(float, low), *map(float, size))
    return None if overlap(box, pose.box) >= SETTLED else box


def overlap(a: Box, b: Box) -> float:
    """Area of the intersection over that of the union."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    both = max(width, 0.0) * max(height, 0.0)
    return both / (a.w * a.h + b.w * b.h - both)


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
    `pretrained.load`, and where an artefact that decodes by itself is asked for another decoder, flips or protocol.
    """
    path = Path(path_or_name)
    if not shipped.is_shipped(path_or_name) and runtime.is_artefact(path):
        run, metadata = runtime.load(path, maps=flip_test or protocol != "default" or decoder is not None)
    else:
        model, metadata = pretrained.load(model_file(path_or_name))
        run = run_of(model.predict_on_batch)
    return Predictor(run, metadata.schema, metadata.input_size, metadata.stride, decoder or metadata.decoder,
                     flip_test, protocol, batch_size, metadata.calibration)


def model_file(path_or_name: str | Path) -> Path:
    """The file of a model: of a name, the one in the package; itself; of a run's folder its best or last.

    Raises InputError where there is none.
    """
    if shipped.is_shipped(path_or_name):
        return shipped.file_of(path_or_name)
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
                     f"({nearest(str(path), shipped.names())})")
