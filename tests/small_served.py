"""Helper: a SavedModel with the signatures of an export, written and loaded in a second; answers depend on requests."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from posecascade.export.warmup import WARMUP_FILE, write_warmup
from posecascade.schema import Schema

SIDE, STRIDE = 32, 4
JOINTS = ("left_wrist", "right_wrist", "head_top")
GOOD = b"\xff\xd8\xffgood"  # begins every readable image


def write(folder: Path, joints=JOINTS, offset: float = 0.0, warm: bool = True) -> Path:
    """Write a version: keypoint k of an image of N bytes is at (N + offset, k); rows of unreadable images are 0."""
    schema = Schema("small", tuple(joints))
    card = json.dumps({"model": {"schema": schema.as_dict()}, "license": "a test's"})

    def answer(data, boxes):
        good = tf.cast(tf.strings.substr(data, 0, len(GOOD)) == GOOD, tf.float32)[:, None]
        length = tf.cast(tf.strings.length(data), tf.float32)[:, None] + offset
        points = tf.stack([tf.repeat(length, schema.size, 1),
                           tf.tile(tf.range(schema.size, dtype=tf.float32)[None], (tf.shape(data)[0], 1))], -1)
        scores = tf.fill((tf.shape(data)[0], schema.size), 0.5) * good
        return {"keypoints": points * good[..., None], "scores": scores, "visibility": scores / 2, "box": boxes * good}

    def without_boxes(image_bytes):
        return answer(image_bytes, tf.tile([[-0.5, -0.5, 8.0, 6.0]], (tf.shape(image_bytes)[0], 1)))

    def in_boxes(image_bytes, boxes):
        return answer(image_bytes, boxes)

    def heatmaps(crops):
        maps = tf.nn.avg_pool2d(tf.cast(crops, tf.float32) / 255, STRIDE, STRIDE, "VALID")
        return {"parts": maps, "heatmaps": maps / 2}

    def model_card(query):
        rows = tf.shape(query)[0]
        return {"card": tf.fill([rows], card), "joints": tf.repeat(tf.constant(schema.keypoints)[None], rows, 0)}

    strings, boxes = tf.TensorSpec((None,), tf.string, name="image_bytes"), \
        tf.TensorSpec((None, 4), tf.float32, name="boxes")
    functions = {"serving_default": (without_boxes, [strings]), "with_boxes": (in_boxes, [strings, boxes]),
                 "heatmaps": (heatmaps, [tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="crops")]),
                 "model_card": (model_card, [tf.TensorSpec((None,), tf.string, name="query")])}
    tf.saved_model.save(tf.Module(), str(folder), signatures={
        name: tf.function(call, input_signature=specs) for name, (call, specs) in functions.items()})
    if warm:
        write_warmup(folder / WARMUP_FILE, [("serving_default", {"image_bytes": np.array([GOOD] * size, object)})
                                            for size in (1, 2)])
    return folder
