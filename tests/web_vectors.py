"""Write inputs and the package's results for the page's unit tests (export/web/test/golden.json).

    python tests/web_vectors.py

A Python test compares the file with the package, the page's own tests compare the page with the file.
"""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np

from posecascade import drawing
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
WIDTH, HEIGHT = 23, 17  # of the image
# Inside, over the edges, outside, shrunk by two and by four, enlarged.
CROPS = [((3, 2, 9, 8), 12), ((-6, -5, 20, 30), 16), ((40, 40, 5, 5), 8), ((1, 1, 20, 15), 10), ((0, 0, 22, 16), 5),
         ((7.3, 4.9, 2.5, 3.1), 9)]


def vectors() -> dict:
    """Return the content of the file."""
    rng = np.random.default_rng(7)
    return {"crops": crops(rng), "boxes": boxes(rng), "smoothing": smoothing(rng),
            "search": search(), "calibration": calibration(), "answer": line(rng), "colors": colors(),
            "model_file": model_file()}


def crops(rng) -> dict:
    """Return an image and its crops."""
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cases = []
    for box, size in CROPS:
        transform = crop_transform(Box(*box), size)
        cases.append({"box": box, "size": size, "transform": transform.matrix.ravel(),
                      "inverse": transform.inverse().matrix.ravel(), "crop": _bytes(crop(image, transform, size))})
    return {"width": WIDTH, "height": HEIGHT, "image": _bytes(image), "cases": cases}


def boxes(rng) -> list[dict]:
    """Return poses and the next box: in the same image, and in the next frame of a video."""
    cases = []
    for spread, least, factor in ((300, 0.3, 1), (40, 0.3, 1), (3, 0.3, 1), (200, 0.9, 1), (120, 0.55, 1),
                                  (0, 0.1, 1), (80, 0.3, 0.1)):
        points = np.array([320.0, 240.0]) + spread * rng.uniform(-1, 1, (LSP14.size, 2))
        scores = factor * rng.uniform(0.05, 0.95, LSP14.size)
        box = Box(*rng.uniform(0, 50, 2), *rng.uniform(300, 600, 2))
        pose = Pose(points, scores, scores, LSP14, box)
        image = np.empty((480, 640, 3), np.uint8)
        cases.append({"keypoints": points, "scores": scores, "box": box.as_list(), "least": least, "width": 640,
                      "height": 480, "confident": _box(confident_box(pose, image, least)),
                      "followed": least / 2, "next": _box(next_box(pose, image, least / 2))})
    settled = Pose(np.array([[100.0, 100], [300, 120], [200, 400]] * 5)[:LSP14.size], np.ones(LSP14.size),
                   np.ones(LSP14.size), LSP14, Box(100, 100, 200, 300))
    image = np.empty((500, 500, 3), np.uint8)
    return [*cases, {"keypoints": settled.keypoints, "scores": settled.scores, "box": settled.box.as_list(),
                     "least": 0.3, "width": 500, "height": 500, "confident": _box(confident_box(settled, image)),
                     "followed": 0.15, "next": _box(next_box(settled, image))}]


def search() -> list[dict]:
    """Return the first boxes of a search in images of several sizes."""
    images = [np.broadcast_to(np.uint8(0), (height, width, 3))
              for height, width in ((480, 640), (641, 480), (7, 1), (33, 33), (1080, 1921))]
    return [{"width": image.shape[1], "height": image.shape[0], "image": _box(whole_box(image)),
             "tiles": [_box(box) for box in tile_boxes(image)]} for image in images]


def smoothing(rng) -> list[dict]:
    """Return frames of two keypoints, and the smoothed ones."""
    frames, state = [], None
    for seconds in (0.04, 0.04, 0.2, 0.033, 0.01):
        points = rng.uniform(0, 100, (2, 2))
        state = one_euro(state, points, seconds, 150.0)
        frames.append({"keypoints": points, "seconds": seconds, "size": 150, "smoothed": state.points})
    return frames


def calibration() -> list[dict]:
    """Return calibrations and scores."""
    scores = np.array([0.0, 1e-6, 0.1, 0.5, 0.73, 1.0])
    return [{"curve": curve, "scores": scores, "calibrated": Calibration(*curve)(scores)}
            for curve in ((1.0, 0.0), (0.7, 1.2), (2.0, -0.4))]


def line(rng) -> dict:
    """Return a pose and its line of predictions.jsonl."""
    pose = Pose(rng.uniform(-20, 700, (LSP14.size, 2)), rng.random(LSP14.size), rng.random(LSP14.size), LSP14,
                Box(-0.5, 12.34567, 640, 480.00049))
    return {"image": "photos/ann & bob.jpg", "keypoints": pose.keypoints, "scores": pose.scores,
            "visibility": pose.visibility, "box": pose.box.as_list(), "names": LSP14.keypoints,
            "line": answer("photos/ann & bob.jpg", pose)}


def colors() -> list[dict]:
    """Return schemas and their keypoints' colors."""
    return [{"schema": schema.as_dict(), "colors": drawing.keypoint_colors(schema)} for schema in (LSP14, COCO17)]


def model_file() -> dict:
    """Return an exported file, with other bytes in place of its models, and its content."""
    metadata = Metadata(LSP14, 160, 4, decoder="dark", calibration=Calibration(1.5, -0.25))
    card = {"model": metadata_dict(metadata), "license": "CC0", "source": {"file": "some.keras"}, "kind": "heatmaps",
            "precision": "float16"}
    model = b"\x1c\0\0\0TFL3" + bytes(range(64))
    decoder = bytes(range(100, 164))
    data = tflite_file._with_files(model, {"joints.txt": "\n".join(LSP14.keypoints),
                                           "posecascade.json": json.dumps(card), "decoder.tflite": decoder})
    return {"file": _bytes(np.frombuffer(data + hashlib.sha256(data).hexdigest().encode(), np.uint8)),
            "model": _bytes(np.frombuffer(model, np.uint8)), "decoder": _bytes(np.frombuffer(decoder, np.uint8)),
            "card": card}


def text(value: dict) -> str:
    """Return the file's text; numbers are rounded, since processors differ in the last bit."""
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
    print(f"wrote {FILE}")
