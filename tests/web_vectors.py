"""Inputs and what the package makes of them, as the page's unit tests read them (export/web/test/golden.json).

    python tests/web_vectors.py

writes the file anew; a test holds it to the package, and those of the page hold the page to it.
"""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np

from posecascade import drawing
from posecascade.codec import decoders, targets
from posecascade.codec.score_calibration import Calibration
from posecascade.formats import tflite_file
from posecascade.formats.metadata import Metadata, metadata_dict
from posecascade.geometry import Box, crop_transform
from posecascade.images import crop
from posecascade.inference.search import confident_box, tile_boxes, whole_box
from posecascade.inference.smoothing import one_euro
from posecascade.inference.video import next_box
from posecascade.poses import Pose
from posecascade.poses_io import answer
from posecascade.schema import COCO17, LSP14

FILE = Path(__file__).resolve().parents[1] / "export" / "web" / "test" / "golden.json"
DIGITS = 9
WIDTH, HEIGHT = 23, 17  # of the picture
# Within, over the edges, outside, shrunk by two and by four, enlarged.
CROPS = [((3, 2, 9, 8), 12), ((-6, -5, 20, 30), 16), ((40, 40, 5, 5), 8), ((1, 1, 20, 15), 10), ((0, 0, 22, 16), 5),
         ((7.3, 4.9, 2.5, 3.1), 9)]
MAP_WIDTH, MAP_HEIGHT, STRIDE, JOINTS = 12, 9, 4, 7


def vectors() -> dict:
    """The content of the file."""
    rng = np.random.default_rng(7)
    return {"crops": crops(rng), "maps": maps(rng), "boxes": boxes(rng), "smoothing": smoothing(rng),
            "looks": looks(), "calibration": calibration(), "answer": line(rng), "colours": colours(),
            "sealed": sealed_file()}


def crops(rng) -> dict:
    """A picture and its crops."""
    picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cases = []
    for box, size in CROPS:
        transform = crop_transform(Box(*box), size)
        cases.append({"box": box, "size": size, "transform": transform.matrix.ravel(),
                      "inverse": transform.inverse().matrix.ravel(), "crop": _bytes(crop(picture, transform, size))})
    return {"width": WIDTH, "height": HEIGHT, "picture": _bytes(picture), "cases": cases}


def maps(rng) -> dict:
    """Maps with peaks within, near edges, none and two alike; what each decoder finds; values at points."""
    places = np.array([[20.3, 17.9], [1.0, 20.0], [45.5, 33.0], [30.2, 2.1], [24.4, 11.6]])
    peaks = np.asarray(targets.confidence_maps(places[None].astype(np.float32), MAP_HEIGHT, MAP_WIDTH, stride=STRIDE,
                                             sigma=6.0))
    values = np.zeros((1, MAP_HEIGHT, MAP_WIDTH, JOINTS), np.float32)
    values[..., :5] = 0.8 * peaks + 0.05 * rng.random(peaks.shape)
    values[0, 2, 3, 6] = values[0, 6, 8, 6] = 0.5
    points = rng.uniform(-10, 60, (1, JOINTS, 2))
    found = {name: decode(values, STRIDE) for name, decode in decoders.DECODERS.items()}
    return {"width": MAP_WIDTH, "height": MAP_HEIGHT, "joints": JOINTS, "stride": STRIDE, "data": values.ravel(),
            "decoded": {name: {"points": joints[0], "peaks": scores[0]} for name, (joints, scores) in found.items()},
            "points": points[0], "values": decoders.value_at(values, points, STRIDE)[0]}


def boxes(rng) -> list[dict]:
    """Poses and where to look next: in a picture, and in the next frame of a video."""
    cases = []
    for spread, least, sure in ((300, 0.3, 1), (40, 0.3, 1), (3, 0.3, 1), (200, 0.9, 1), (120, 0.55, 1), (0, 0.1, 1),
                                (80, 0.3, 0.1)):
        points = np.array([320.0, 240.0]) + spread * rng.uniform(-1, 1, (LSP14.size, 2))
        scores = sure * rng.uniform(0.05, 0.95, LSP14.size)
        box = Box(*rng.uniform(0, 50, 2), *rng.uniform(300, 600, 2))
        pose = Pose(points, scores, scores, LSP14, box)
        picture = np.empty((480, 640, 3), np.uint8)
        cases.append({"points": points, "scores": scores, "box": box.as_list(), "least": least, "width": 640,
                      "height": 480, "confident": _box(confident_box(pose, picture, least)),
                      "followed": least / 2, "next": _box(next_box(pose, picture, least / 2))})
    settled = Pose(np.array([[100.0, 100], [300, 120], [200, 400]] * 5)[:LSP14.size], np.ones(LSP14.size),
                   np.ones(LSP14.size), LSP14, Box(100, 100, 200, 300))
    picture = np.empty((500, 500, 3), np.uint8)
    return [*cases, {"points": settled.keypoints, "scores": settled.scores, "box": settled.box.as_list(), "least": 0.3,
                     "width": 500, "height": 500, "confident": _box(confident_box(settled, picture)),
                     "followed": 0.15, "next": _box(next_box(settled, picture))}]


def looks() -> list[dict]:
    """Where a person is looked for first, in pictures of several sizes."""
    pictures = [np.broadcast_to(np.uint8(0), (height, width, 3))
                for height, width in ((480, 640), (641, 480), (7, 1), (33, 33), (1080, 1921))]
    return [{"width": picture.shape[1], "height": picture.shape[0], "whole": _box(whole_box(picture)),
             "parts": [_box(box) for box in tile_boxes(picture)]} for picture in pictures]


def smoothing(rng) -> list[dict]:
    """Frames of two joints, and the smoothed ones."""
    frames, state = [], None
    for seconds in (0.04, 0.04, 0.2, 0.033, 0.01):
        points = rng.uniform(0, 100, (2, 2))
        state = one_euro(state, points, seconds, 150.0)
        frames.append({"points": points, "seconds": seconds, "size": 150, "smoothed": state.points})
    return frames


def calibration() -> list[dict]:
    """Curves and scores."""
    scores = np.array([0.0, 1e-6, 0.1, 0.5, 0.73, 1.0])
    return [{"curve": curve, "scores": scores, "calibrated": Calibration(*curve)(scores)}
            for curve in ((1.0, 0.0), (0.7, 1.2), (2.0, -0.4))]


def line(rng) -> dict:
    """A pose and its line of predictions.jsonl."""
    pose = Pose(rng.uniform(-20, 700, (LSP14.size, 2)), rng.random(LSP14.size), rng.random(LSP14.size), LSP14,
                Box(-0.5, 12.34567, 640, 480.00049))
    return {"image": "photos/ann & bob.jpg", "points": pose.keypoints, "scores": pose.scores,
            "visibility": pose.visibility, "box": pose.box.as_list(), "names": LSP14.keypoints,
            "line": answer("photos/ann & bob.jpg", pose)}


def colours() -> list[dict]:
    """Schemas and their joints' colours."""
    return [{"schema": schema.as_dict(), "colours": drawing.joint_colours(schema)} for schema in (LSP14, COCO17)]


def sealed_file() -> dict:
    """A sealed file, but of bytes that are no model, and what it says."""
    metadata = Metadata(LSP14, 160, 4, decoder="dark", calibration=Calibration(1.5, -0.25))
    card = {"model": metadata_dict(metadata), "license": "CC0", "source": {"file": "some.keras"}, "kind": "heatmaps",
            "precision": "float16"}
    model = b"\x1c\0\0\0TFL3" + bytes(range(64))
    data = tflite_file._with_files(model, {"joints.txt": "\n".join(LSP14.keypoints),
                                           "posecascade.json": json.dumps(card)})
    return {"file": _bytes(np.frombuffer(data + hashlib.sha256(data).hexdigest().encode(), np.uint8)),
            "model": _bytes(np.frombuffer(model, np.uint8)), "card": card}


def text(value: dict) -> str:
    """As in the file: numbers rounded, so that another processor's last bit is no difference."""
    lines = (f"{json.dumps(key)}: {json.dumps(_plain(item), allow_nan=False)}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return round(value, DIGITS) if isinstance(value, float) else value


def _bytes(image):
    return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()


def _box(box):
    return box.as_list() if box else None


if __name__ == "__main__":
    FILE.write_text(text(vectors()), encoding="utf-8")
    print(f"renewed {FILE}")
