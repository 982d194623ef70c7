"""Helper: a network of plain layers that detects colored spots, images of people made of spots, and their data sets.

Each keypoint has a color; its map is the amount of that color in the image, averaged over cells and blurred. So each
map has one distinct peak, a fraction of a cell from the keypoint, and keypoints are missed if the spots are small.
"""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import yaml
from keras import layers

from posecascade.formats import keras_file
from posecascade.formats.keras_file import Metadata
from posecascade.geometry import Box
from posecascade.inference.predictor import Predictor, run_of
from posecascade.schema import Schema
from posecascade.training.recipe import Recipe

JOINTS = ("head_top", "left_shoulder", "right_shoulder", "left_hip", "right_hip")
SPOTS = Schema("spots", JOINTS, (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
               torso=("left_shoulder", "right_hip"), sigmas=(0.08,) * 5)
COLORS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1)])
BODY = np.array([(0.05, -1), (0.6, -0.45), (-0.6, -0.4), (0.5, 0.95), (-0.45, 1)])  # in units of the reach
SPOT = 0.15  # sigma of a spot in units of the reach
SIZE, STRIDE = 128, 4
PEAK = 0.9       # of the map of a person in the crop of the box around the keypoints
BLUR = 0.7       # sigma in cells
LOGITS = (16, 4)  # part map = sigmoid(first * heatmap - second)


class Person(NamedTuple):
    """Hold an image (H, W, 3) uint8 RGB, its keypoints (5, 2), and the tight box around them."""

    image: np.ndarray
    keypoints: np.ndarray
    box: Box


def network(outputs: tuple[str, ...] = ("parts", "heatmaps")) -> keras.Model:
    """Return a model from "image" (B, H, W, 3) in 0..255 to `outputs`; part maps are logits; (B, H / 4, W / 4, 5)."""
    count = len(JOINTS)
    image = keras.Input((None, None, 3), name="image")
    x = layers.AveragePooling2D(STRIDE, name="cells")(layers.Rescaling(1 / 255, name="scale")(image))
    x = layers.Conv2D(9, 1, activation="relu", use_bias=False, name="channels")(x)
    x = layers.Conv2D(count, 1, activation="relu", use_bias=False, name="colors")(x)
    x = layers.DepthwiseConv2D(5, padding="same", use_bias=False, name="blur")(x)
    maps = {"parts": layers.Conv2D(count, 1, name="parts")(x), "heatmaps": layers.Conv2D(count, 1, name="maps")(x)}
    model = keras.Model(image, {name: maps[name] for name in outputs}, name="cascade")
    for name, weights in _weights().items():
        if name in [layer.name for layer in model.layers]:
            model.get_layer(name).set_weights(weights)
    return model


def _weights():
    """Return the weights by layer; a 1x1 convolution's kernel is the transpose of its matrix."""
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    channels = np.vstack([np.eye(3), [np.eye(3)[a] - np.eye(3)[b] for a, b in pairs]])
    colors = np.stack([_share(np.flatnonzero(color), np.flatnonzero(color == 0), pairs) for color in COLORS])
    taps = np.exp(-0.5 * (np.arange(-2, 3) / BLUR) ** 2)
    taps = np.outer(taps, taps) / taps.sum() ** 2
    sigma = SPOT * SIZE / 1.25 / 2 / STRIDE  # of a spot, in cells: a person is two reaches high
    maps = PEAK * (1 + (BLUR ** 2 + 1 / 12) / sigma ** 2) * np.eye(len(JOINTS))  # 1 / 12 from averaging over cells
    gain, away = LOGITS
    return {"channels": [channels.T[None, None]], "colors": [colors.T[None, None]],
            "blur": [np.tile(taps[..., None, None], (1, 1, len(JOINTS), 1))],
            "parts": [gain * maps[None, None], np.full(len(JOINTS), -away)],
            "maps": [maps[None, None], np.zeros(len(JOINTS))]}


def _share(own, others, pairs):
    """Return weights (9,) of the minimum of a color's own channels minus the maximum of the others.

    They apply to the channels and their positive differences.

    min(a, b) is a - relu(a - b), max(a, b) is a + relu(b - a).
    """
    weights = np.zeros(3 + len(pairs))
    for some, sign in ((own, 1), (others, -1)):
        weights[some[0]] += sign
        if len(some) == 2:
            weights[3 + pairs.index(tuple(some[::sign]))] -= 1
    return weights


def draw(height: int, width: int, keypoints: np.ndarray, sigma: float | np.ndarray,
         strength: float | np.ndarray = 1.0) -> np.ndarray:
    """Draw spots at the keypoints on a gray ramp; `sigma` in pixels and `strength` in 0..1 may be arrays."""
    y, x = np.mgrid[:height, :width]
    gray = 40 + 60 * (x + 2 * y) / (width + 2 * height)
    image = np.repeat(gray[..., None], 3, axis=-1)
    sigma, strength = np.broadcast_to(sigma, len(keypoints)), np.broadcast_to(strength, len(keypoints))
    for (px, py), color, wide, strong in zip(keypoints, COLORS, sigma, strength, strict=True):
        share = strong * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * wide ** 2))[..., None]
        image = image * (1 - share) + 255 * color * share
    return np.rint(image).astype(np.uint8)


def person(height: int = 240, width: int = 320, middle=(150, 120), reach: float = 60, rng=None,
           wide: float | np.ndarray = 1.0, strength: float | np.ndarray = 1.0) -> Person:
    """Return a person `reach` pixels up and down from the middle; `rng` moves keypoints by up to a tenth of that."""
    off = 0 if rng is None else rng.uniform(-0.1, 0.1, BODY.shape)
    keypoints = np.array(middle) + reach * (BODY + off)
    return Person(draw(height, width, keypoints, SPOT * reach * np.asarray(wide), strength), keypoints,
                  Box.around(keypoints))


def png(image: np.ndarray) -> bytes:
    """Return the bytes of a PNG of (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) gray."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}[image.shape[2]] if image.ndim == 3 else ...
    return cv2.imencode(".png", image[..., order] if image.ndim == 3 else image)[1].tobytes()


def write_data(folder: Path, train: int, val: int, seed: int = 1) -> tuple[str, str]:
    """Write a data set of type coco, one person per image; return its TYPE:ROOT and the file of its schema."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        images, people = [], []
        for number in range(count):
            height, width = map(int, rng.integers(160, 320, 2))
            reach = rng.uniform(45, 0.4 * min(height, width))
            one = person(height, width, [rng.uniform(reach, side - reach) for side in (width, height)], reach, rng)
            name = f"{part}{number:03}.png"
            (folder / "images" / name).write_bytes(png(one.image))
            points = np.column_stack([one.keypoints, np.full(len(JOINTS), 2)])
            images.append({"id": number, "file_name": name})
            people.append({"image_id": number, "id": number, "keypoints": points.ravel().tolist(),
                           "bbox": one.box.as_list()})
        (folder / f"person_keypoints_{part}.json").write_text(json.dumps({"images": images, "annotations": people}))
    schema = folder / "schema.yaml"
    schema.write_text(yaml.safe_dump(SPOTS.as_dict()))
    return f"coco:{folder}", str(schema)


def metadata(decoder: str = "soft", recipe: Recipe | None = None) -> Metadata:
    """Return the metadata of the network."""
    return Metadata(SPOTS, SIZE, STRIDE, recipe.as_dict() if recipe else {}, {}, decoder)


def predictor_of(model: keras.Model, decoder: str = "soft") -> Predictor:
    """Return the predictor of a network."""
    return Predictor(run_of(model.predict_on_batch), SPOTS, SIZE, STRIDE, decoder)


def save(path: Path, recipe: Recipe | None = None, decoder: str = "soft") -> Path:
    """Save the network as a trained model's file with that recipe; return the file."""
    keras_file.save(network(), path, metadata(decoder, recipe))
    return path
