"""The signatures of a SavedModel, from images or crops to keypoints in pixels of the image.

They compute what `inference.predictor.Predictor` and `inference.search` do, as TensorFlow operations. B people, K
keypoints.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from posecascade.export.graph import images as graph_images
from posecascade.export.graph.network import Maps, Network
from posecascade.geometry import CROP_PADDING
from posecascade.inference.search import (
    CONFIDENT,
    CONVERGED_IOU,
    GRID,
    MIN_CONFIDENT,
    MIN_SCORE_RATIO,
    MIN_SIDE,
    ROUNDS,
    TILES,
    UNSURE,
)


class Answer(NamedTuple):
    """Hold the poses of B people: (B, K, 2), (B, K), (B, K) and (B, 4) float32; all 0 for unreadable images."""

    keypoints: tf.Tensor
    scores: tf.Tensor
    visibility: tf.Tensor
    box: tf.Tensor


class Serving:
    """Implement the signatures, which take and return tensors by name."""

    def __init__(self, network: Network):
        """`network` predicts the crops."""
        self.network = network
        self.size = network.metadata.input_size
        curve = network.metadata.calibration
        self.min_score, self.unsure = (float(curve(np.float64(score))) for score in (CONFIDENT, UNSURE))
        # Separate functions, which the graph holds once, however often the signatures call them.
        crops = tf.TensorSpec((None, self.size, self.size, 3), tf.uint8)
        self._maps = tf.function(self._finite_maps, input_signature=[crops])
        self._keypoints = tf.function(lambda crops: network.keypoints(self._maps(crops)), input_signature=[crops])

    def signatures(self, metadata: str) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Trace the signatures (`formats.bundle.SIGNATURES`) with a free batch dimension.

        `metadata` is the JSON text that `model_card` returns.
        """
        encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
        boxes = tf.TensorSpec((None, 4), tf.float32, name="boxes")
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        crops = tf.TensorSpec((None, self.size, self.size, 3), tf.uint8, name="crops")
        query = tf.TensorSpec((None,), tf.string, name="query")
        functions = {"serving_default": (self.serving_default, [encoded]), "images": (self.images, [images, boxes]),
                     "with_boxes": (self.with_boxes, [encoded, boxes]), "heatmaps": (self.heatmaps, [crops]),
                     "model_card": (functools.partial(self.model_card, metadata), [query])}
        return {name: tf.function(function, input_signature=specs).get_concrete_function()
                for name, (function, specs) in functions.items()}

    def serving_default(self, image_bytes: tf.Tensor) -> Maps:
        """Predict the pose of the person in each of (B,) JPEG or PNG files, found as by `Predictor.predict_batch`."""
        return self._without_boxes(graph_images.decode_all(image_bytes))._asdict()

    def with_boxes(self, image_bytes: tf.Tensor, boxes: tf.Tensor) -> Maps:
        """Predict the pose in each of the boxes (B, 4) x, y, w, h in pixels of the upright images, (B,) files."""
        return self._in_boxes(graph_images.decode_all(image_bytes), boxes)._asdict()

    def images(self, images: tf.Tensor, boxes: tf.Tensor) -> Maps:
        """Predict the pose in each of the boxes (B, 4) of (B, H, W, 3) uint8 RGB."""
        return self._in_boxes(graph_images.from_images(images), boxes)._asdict()

    def heatmaps(self, crops: tf.Tensor) -> Maps:
        """Return the maps (B, S/stride, S/stride, K) of both stages, in 0..1, of (B, S, S, 3) uint8 RGB crops."""
        return self._maps(crops)

    def model_card(self, metadata: str, query: tf.Tensor) -> Maps:
        """Return the metadata and the K names of keypoints, (B,) and (B, K) strings, for any (B,) strings.

        Clients learn the keypoints' names from it. It has B equal rows and two outputs, since a server that batches
        splits answers by rows, and its REST API drops the name of a single output.
        """
        rows = tf.shape(query)[0]
        names = tf.constant(self.network.metadata.schema.keypoints)
        return {"card": tf.fill([rows], metadata), "joints": tf.repeat(names[None], rows, 0)}

    def _finite_maps(self, crops):
        # A diverged model must not return NaN, which JSON lacks.
        return {name: tf.where(tf.math.is_finite(maps), maps, tf.cast(maps > 0, tf.float32))
                for name, maps in self.network.maps(crops).items()}

    def _in_boxes(self, images, boxes, rows=None):
        """Return the poses in boxes of `images`, or of its `rows`."""
        rows = tf.range(tf.shape(boxes)[0]) if rows is None else rows
        answer = self._keypoints(graph_images.crops(images, boxes, self.size, rows))
        pixel = CROP_PADDING * tf.reduce_max(boxes[:, 2:], -1)[:, None, None] / self.size
        middle = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
        keypoints = (answer["keypoints"] - (self.size - 1) / 2) * pixel + middle
        valid = tf.reduce_all(tf.math.is_finite(keypoints), (1, 2)) & tf.reduce_all(boxes[:, 2:] > 0, 1)
        answered = tf.gather(images.readable, rows) & valid
        poses = Answer(keypoints, answer["scores"], answer["visibility"], boxes)
        return Answer(*(tf.where(tf.reshape(answered, [-1] + [1] * (value.shape.rank - 1)), value, 0.0)
                        for value in poses))

    def _without_boxes(self, images):
        """Return the poses found in the complete images, in tiles of them, then in boxes around the keypoints."""
        sizes = tf.cast(images.sizes, tf.float32)
        answer = self._in_boxes(images, _box_in(tf.zeros_like(sizes), sizes))
        unsure = (tf.reduce_mean(answer.scores, 1) < self.unsure) & (sizes[:, 0] != sizes[:, 1])
        rows = tf.cast(tf.where(images.readable & unsure)[:, 0], tf.int32)
        answer = tf.cond(tf.size(rows) > 0, lambda: self._best_of_tiles(images, answer, sizes, rows), lambda: answer)
        moving = images.readable
        for _ in range(ROUNDS):
            boxes, changed = self._confident(answer, sizes)
            rows = tf.cast(tf.where(moving & changed)[:, 0], tf.int32)
            answer, moving = tf.cond(
                tf.size(rows) > 0,
                lambda answer=answer, boxes=boxes, rows=rows: self._closer(images, answer, boxes, rows),
                lambda answer=answer: (answer, tf.zeros_like(images.readable)))
        return answer

    def _best_of_tiles(self, images, answer, sizes, rows):
        """Return the answer, `rows` replaced by the best of their image's tiles if its mean score is higher."""
        sizes, before = tf.gather(sizes, rows), tf.reduce_mean(tf.gather(answer.scores, rows), 1)
        shorter = tf.reduce_min(sizes, 1, keepdims=True)
        low = (sizes - shorter)[:, None] * tf.linspace(0.0, 1.0, TILES)[:, None]
        boxes = _box_in(tf.reshape(low, (-1, 2)), tf.repeat(tf.tile(shorter, (1, 2)), TILES, 0))
        tiles = self._in_boxes(images, boxes, tf.repeat(rows, TILES))
        means = tf.reshape(tf.reduce_mean(tiles.scores, 1), (-1, TILES))
        better = tf.reduce_max(means, 1) > before
        best = tf.range(tf.size(rows)) * TILES + tf.argmax(means, 1, tf.int32)
        return _with_rows(answer, rows[better], Answer(*(tf.gather(value, best[better]) for value in tiles)))

    def _closer(self, images, answer, boxes, rows):
        """Return the answer, `rows` replaced by the poses in `boxes` if these are not much worse; and which were."""
        new = self._in_boxes(images, tf.gather(boxes, rows), rows)
        before = tf.reduce_mean(tf.gather(answer.scores, rows), 1)
        better = tf.reduce_mean(new.scores, 1) >= MIN_SCORE_RATIO * before
        rows, new = rows[better], Answer(*(tf.boolean_mask(value, better) for value in new))
        moved = tf.scatter_nd(rows[:, None], tf.ones_like(rows), tf.shape(images.readable)) > 0
        return _with_rows(answer, rows, new), moved

    def _confident(self, answer, sizes):
        """Return what `search.confident_box` does: boxes (B, 4), and (B,) whether there is a new box."""
        confident = (answer.scores >= self.min_score)[..., None]
        low = tf.reduce_min(tf.where(confident, answer.keypoints, float("inf")), 1)
        high = tf.reduce_max(tf.where(confident, answer.keypoints, -float("inf")), 1)
        min_size = tf.maximum(1.0, MIN_SIDE * tf.reduce_max(sizes, 1, keepdims=True))
        size = tf.maximum(high - low, min_size)
        low, high = (low + high) / 2 - size / 2, (low + high) / 2 + size / 2
        step = 2 ** tf.floor(tf.math.log(tf.reduce_max(size, 1, keepdims=True) / GRID) / math.log(2))
        low, high = tf.floor(low / step) * step, tf.math.ceil(high / step) * step
        boxes = tf.concat([low, high - low], 1)
        enough = tf.reduce_sum(tf.cast(confident[..., 0], tf.int32), 1) >= \
            min(MIN_CONFIDENT, self.network.metadata.schema.size)
        return boxes, enough & (_iou(boxes, answer.box) < CONVERGED_IOU)


def _box_in(low, sizes):
    """Return boxes (N, 4) whose crops are squares around areas at `low` of `sizes` (N, 2), like `search._box_in`."""
    side = tf.math.ceil(tf.reduce_max(sizes, 1, keepdims=True) / CROP_PADDING)
    return tf.concat([low - 0.5 + (sizes - side) / 2, tf.tile(side, (1, 2))], 1)


def _with_rows(answer, rows, new):
    return Answer(*(tf.tensor_scatter_nd_update(value, rows[:, None], more)
                    for value, more in zip(answer, new, strict=True)))


def _iou(a, b):
    """Return the intersection over union of boxes (B, 4) each."""
    both = tf.reduce_prod(tf.maximum(tf.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) -
                                     tf.maximum(a[:, :2], b[:, :2]), 0.0), 1)
    return both / tf.maximum(tf.reduce_prod(a[:, 2:], 1) + tf.reduce_prod(b[:, 2:], 1) - both, 1e-6)
