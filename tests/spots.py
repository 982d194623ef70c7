"""A network of plain layers that finds colored spots, pictures of people made of such spots, and data sets of these.

Each joint has a color; its map is how much the picture shows of just that color, averaged over cells and blurred.
So maps have one clear peak each, a fraction of a cell from its joint, and joints are missed where spots are small.
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
BODY = np.array([(0.05, -1), (0.6, -0.45), (-0.6, -0.4), (0.5, 0.95), (-0.45, 1)])  # in parts of the reach
SPOT = 0.15  # sigma of a spot in parts of the reach
SIZE, STRIDE = 128, 4
PEAK = 0.9       # of the map of a person who fills the crop as a box round the joints makes them
BLUR = 0.7       # sigma in cells
LOGITS = (16, 4)  # the part map is the sigmoid of the first times the heatmap less the second


class Person(NamedTuple):
    """A picture (H, W, 3) uint8 RGB, the joints (5, 2) in it, and the tight box round them."""

    image: np.ndarray
    joints: np.ndarray
    box: Box


def network(outputs: tuple[str, ...] = ("parts", "heatmaps")) -> keras.Model:
    """"image" (B, H, W, 3) in 0..255 to those of "parts" (logits) and "heatmaps" (B, H / 4, W / 4, 5) asked for."""
    joints = len(JOINTS)
    image = keras.Input((None, None, 3), name="image")
    x = layers.AveragePooling2D(STRIDE, name="cells")(layers.Rescaling(1 / 255, name="scale")(image))
    x = layers.Conv2D(9, 1, activation="relu", use_bias=False, name="channels")(x)
    x = layers.Conv2D(joints, 1, activation="relu", use_bias=False, name="colors")(x)
    x = layers.DepthwiseConv2D(5, padding="same", use_bias=False, name="blur")(x)
    found = {"parts": layers.Conv2D(joints, 1, name="parts")(x), "heatmaps": layers.Conv2D(joints, 1, name="maps")(x)}
    model = keras.Model(image, {name: found[name] for name in outputs}, name="cascade")
    for name, weights in _weights().items():
        if name in [layer.name for layer in model.layers]:
            model.get_layer(name).set_weights(weights)
    return model


def _weights():
    """By layer; a 1x1 convolution's kernel is the transpose of its matrix."""
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
    """The least of a color's own channels less the largest of the others, of channels and positive differences (9,).

    min(a, b) is a - relu(a - b), max(a, b) is a + relu(b - a).
    """
    weights = np.zeros(3 + len(pairs))
    for some, sign in ((own, 1), (others, -1)):
        weights[some[0]] += sign
        if len(some) == 2:
            weights[3 + pairs.index(tuple(some[::sign]))] -= 1
    return weights


def picture(height: int, width: int, joints: np.ndarray, sigma: float | np.ndarray,
            strength: float | np.ndarray = 1.0) -> np.ndarray:
    """Spots at the joints on a gray ramp; `sigma` in pixels and `strength` in 0..1 may be of each joint."""
    y, x = np.mgrid[:height, :width]
    gray = 40 + 60 * (x + 2 * y) / (width + 2 * height)
    image = np.repeat(gray[..., None], 3, axis=-1)
    sigma, strength = np.broadcast_to(sigma, len(joints)), np.broadcast_to(strength, len(joints))
    for place, color, wide, strong in zip(joints, COLORS, sigma, strength, strict=True):
        share = strong * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * wide ** 2))[..., None]
        image = image * (1 - share) + 255 * color * share
    return np.rint(image).astype(np.uint8)


def person(height: int = 240, width: int = 320, middle=(150, 120), reach: float = 60, rng=None,
           wide: float | np.ndarray = 1.0, strength: float | np.ndarray = 1.0) -> Person:
    """Somebody `reach` pixels up and down from the middle; `rng` moves each joint by up to a tenth of that."""
    off = 0 if rng is None else rng.uniform(-0.1, 0.1, BODY.shape)
    joints = np.array(middle) + reach * (BODY + off)
    return Person(picture(height, width, joints, SPOT * reach * np.asarray(wide), strength), joints,
                  Box.around(joints))


def png(image: np.ndarray) -> bytes:
    """The bytes of a PNG of (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) gray."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}[image.shape[2]] if image.ndim == 3 else ...
    return cv2.imencode(".png", image[..., order] if image.ndim == 3 else image)[1].tobytes()


def write_data(folder: Path, train: int, val: int, seed: int = 1) -> tuple[str, str]:
    """A data set of type coco with so many people, one in each picture; its TYPE:ROOT and the file of its schema."""
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
            points = np.column_stack([one.joints, np.full(len(JOINTS), 2)])
            images.append({"id": number, "file_name": name})
            people.append({"image_id": number, "id": number, "keypoints": points.ravel().tolist(),
                           "bbox": one.box.as_list()})
        (folder / f"person_keypoints_{part}.json").write_text(json.dumps({"images": images, "annotations": people}))
    schema = folder / "schema.yaml"
    schema.write_text(yaml.safe_dump(SPOTS.as_dict()))
    return f"coco:{folder}", str(schema)


def metadata(decoder: str = "soft", recipe: Recipe | None = None) -> Metadata:
    """What a file of the network says of it."""
    return Metadata(SPOTS, SIZE, STRIDE, recipe.as_dict() if recipe else {}, {}, decoder)


def road_of(model: keras.Model, decoder: str = "soft") -> Predictor:
    """The predictor of a network."""
    return Predictor(run_of(model.predict_on_batch), SPOTS, SIZE, STRIDE, decoder)


def save(path: Path, recipe: Recipe | None = None, decoder: str = "soft") -> Path:
    """The network as a trained model's file, with the recipe it says it was trained by; the file."""
    keras_file.save(network(), path, metadata(decoder, recipe))
    return path
