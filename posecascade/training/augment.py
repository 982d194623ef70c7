"""Crop people from records and vary the crops: scale, rotation, shift, flip, colors, half bodies and occluders."""

from dataclasses import dataclass

import cv2
import numpy as np

from posecascade.errors import InputError
from posecascade.geometry import Affine, Box, crop_transform, inside, shrink_transform
from posecascade.images import shrink_for, warp
from posecascade.records import Record, Sample, Visibility
from posecascade.rendering.scenery import paste_occluder
from posecascade.schema import Schema

MIN_HALF_BODY_KEYPOINTS = 3  # labeled keypoints that a half body must have to become the crop
MAX_1 = ("flip_prob", "rotation_prob", "color_jitter", "half_body_prob", "occluder_prob")  # settings of at most 1


@dataclass(frozen=True)
class Augmentation:
    """The strength of each variation; the defaults are those of the light recipes (BUILD_NOTES, "First trials").

    Attributes:
        flip_prob: share of samples mirrored.
        scale_log_std: standard deviation of the logarithm of the person's size in the crop.
        scale_range: limits of that size; 1 is the crop used for evaluation.
        rotation_std_deg: standard deviation of the rotation, in degrees, limited to +-`rotation_max_deg`.
        rotation_prob: share of samples rotated.
        shift_max: largest shift of the crop's center, as a share of its side.
        color_jitter: strength of brightness, contrast and color gain (0: none).
        half_body_prob: share of samples cropped to the upper or the lower body.
        occluder_prob: share of samples with an object pasted on; `occluder_size` is its range as a share of the crop.
    """

    flip_prob: float = 0.5
    scale_log_std: float = 0.2
    scale_range: tuple[float, float] = (0.7, 1.4)
    rotation_std_deg: float = 30.0
    rotation_max_deg: float = 70.0
    rotation_prob: float = 0.6
    shift_max: float = 0.08
    color_jitter: float = 0.25
    half_body_prob: float = 0.1
    occluder_prob: float = 0.3
    occluder_size: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
                raise InputError(f"{name} is {list(value)}, expected [LOW, HIGH] with 0 < LOW <= HIGH")
            if not isinstance(value, tuple) and not 0 <= value <= (1 if name in MAX_1 else np.inf):
                raise InputError(f"{name} is {value}, expected {'0 to 1' if name in MAX_1 else 'at least 0'}")


NONE = Augmentation(flip_prob=0, scale_log_std=0, rotation_prob=0, shift_max=0, color_jitter=0, half_body_prob=0,
                    occluder_prob=0)


def load_sample(record: Record, size: int, rng: np.random.Generator | None = None,
                augmentation: Augmentation = NONE) -> Sample:
    """Return the person cropped to `size` x `size` pixels and varied by `augmentation`.

    The image is decoded and warped once. Without `rng` the crop is the one that evaluation and prediction use.
    Keypoints that leave the crop become unlabeled; those hidden by an occluder become occluded. Raises InputError if
    the image cannot be read.
    """
    transform = crop_transform(record.box, size) if rng is None else random_transform(record, size, rng, augmentation)
    shrink = shrink_for(1 / transform.zoom, 1)
    image = warp(record.image.read(shrink), transform.after(shrink_transform(shrink).inverse()), size)
    sample = transformed(record, image, transform)
    if rng is None:
        return sample
    return occluded(colored(sample, rng, augmentation.color_jitter), rng, augmentation)


def random_transform(record: Record, size: int, rng: np.random.Generator, augmentation: Augmentation) -> Affine:
    """Return a random crop transform of the record's box, or of half its body: scale, rotation, shift and flip."""
    a = augmentation
    box = half_body_box(record, rng) if rng.random() < a.half_body_prob else record.box
    zoom = float(np.clip(np.exp(rng.normal(0, a.scale_log_std)), *a.scale_range)) if a.scale_log_std else 1.0
    rotates = rng.random() < a.rotation_prob
    angle = rng.normal(0, a.rotation_std_deg) if rotates else 0.0
    rotation = float(np.clip(angle, -a.rotation_max_deg, a.rotation_max_deg))
    shift = tuple(rng.uniform(-a.shift_max, a.shift_max, 2))
    return crop_transform(box, size, rotation=rotation, zoom=zoom, shift=shift, flip=bool(rng.random() < a.flip_prob))


def half_body_box(record: Record, rng: np.random.Generator) -> Box:
    """Return the tight box of the upper or the lower body; the record's box if that half has too few keypoints."""
    lower = np.array([any(part in name for part in ("hip", "knee", "ankle")) for name in record.schema.keypoints])
    half = record.labeled & (lower if rng.random() < 0.5 else ~lower)
    if half.sum() < MIN_HALF_BODY_KEYPOINTS or half.sum() == record.labeled.sum():
        return record.box
    # At least 0.4 of the body's longer side: three keypoints in a line would give an empty crop.
    return Box.around(record.keypoints[half], min_size=0.4 * max(record.box.w, record.box.h))


def transformed(record: Record, image: np.ndarray, transform: Affine) -> Sample:
    """Return the sample with the record's keypoints in the crop; if `transform` mirrors, left and right are swapped."""
    keypoints, visibility = transform(record.keypoints), record.visibility
    if np.linalg.det(transform.matrix[:, :2]) < 0:
        order = record.schema.flip_order
        keypoints, visibility = keypoints[order], visibility[order]
    in_crop = inside(keypoints, image.shape[1], image.shape[0])
    return Sample(image, np.where(in_crop[:, None], keypoints, np.nan),
                  np.where(in_crop, visibility, Visibility.UNLABELED).astype(np.int8), record.schema)


def colored(sample: Sample, rng: np.random.Generator, strength: float) -> Sample:
    """Return the sample with other brightness, contrast and channel gains, changed by up to `strength` of the range."""
    if not strength:
        return sample
    contrast = 1 + rng.uniform(-strength, strength)
    gain = contrast * (1 + rng.uniform(-strength, strength, 3) / 3)
    brightness = 128 + 255 * rng.uniform(-strength, strength) / 2
    levels = (np.arange(256)[:, None] - 128) * gain + brightness
    table = np.clip(levels, 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return Sample(cv2.LUT(sample.image, table), sample.keypoints, sample.visibility, sample.schema)


def occluded(sample: Sample, rng: np.random.Generator, augmentation: Augmentation) -> Sample:
    """Return the sample with an object pasted on, with a chance of `occluder_prob`; what it hides becomes occluded."""
    if rng.random() >= augmentation.occluder_prob:
        return sample
    side = sample.image.shape[0]
    x, y = rng.uniform(0, side, 2)
    image, mask = paste_occluder(sample.image, rng, (x, y), side * rng.uniform(*augmentation.occluder_size))
    labeled = sample.visibility > Visibility.UNLABELED
    cells = np.rint(np.where(labeled[:, None], sample.keypoints, 0)).astype(int).clip(0, side - 1)
    hidden = labeled & mask[cells[:, 1], cells[:, 0]]
    return Sample(image, sample.keypoints,
                  np.where(hidden, Visibility.OCCLUDED, sample.visibility).astype(np.int8), sample.schema)


def target(sample: Sample) -> np.ndarray:
    """Return (K, 4) float32 rows x, y (crop pixels), weight, visible, from which the loss makes its target maps.

    Weight is 1 for keypoints that are labeled and inside the crop; for others it is 0, and x = y = 0.
    """
    labeled = sample.visibility > Visibility.UNLABELED
    visible = sample.visibility == Visibility.VISIBLE
    keypoints = np.where(labeled[:, None], sample.keypoints, 0)
    return np.column_stack([keypoints, labeled, visible]).astype(np.float32)


def empty_target(schema: Schema) -> np.ndarray:
    """Return the (K, 4) float32 target of a sample without labels: every weight is 0."""
    return np.zeros((schema.size, 4), np.float32)
