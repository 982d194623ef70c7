"""What a SavedModel answers: signatures from pictures or crops to joints in the pictures' own pixels.

The same road as `predictor.Predictor`, as TensorFlow operations. B people, K joints.
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
    """What is said of B people: (B, K, 2), (B, K), (B, K) and (B, 4) float32; all 0 where nothing can be said."""

    keypoints: tf.Tensor
    scores: tf.Tensor
    visibility: tf.Tensor
    box: tf.Tensor


class Serving:
    """The functions behind the signatures; each takes and gives tensors by name."""

    def __init__(self, network: Network):
        """`network` is what the crops go through."""
        self.network = network
        self.size = network.metadata.input_size
        curve = network.metadata.calibration
        self.least, self.unsure = (float(curve(np.float64(score))) for score in (CONFIDENT, UNSURE))
        # Functions of their own, so that the graph holds them once, however often a signature calls them.
        crops = tf.TensorSpec((None, self.size, self.size, 3), tf.uint8)
        self._maps = tf.function(self._finite_maps, input_signature=[crops])
        self._joints = tf.function(lambda crops: network.joints(self._maps(crops)), input_signature=[crops])

    def signatures(self, card: str) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Trace the signatures (`formats.bundle.SIGNATURES`) with a free batch dimension.

        `card` is the text that `model_card` answers.
        """
        encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
        boxes = tf.TensorSpec((None, 4), tf.float32, name="boxes")
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        crops = tf.TensorSpec((None, self.size, self.size, 3), tf.uint8, name="crops")
        query = tf.TensorSpec((None,), tf.string, name="query")
        given = {"serving_default": (self.serving_default, [encoded]), "images": (self.images, [images, boxes]),
                 "with_boxes": (self.with_boxes, [encoded, boxes]), "heatmaps": (self.heatmaps, [crops]),
                 "model_card": (functools.partial(self.model_card, card), [query])}
        return {name: tf.function(function, input_signature=specs).get_concrete_function()
                for name, (function, specs) in given.items()}

    def serving_default(self, image_bytes: tf.Tensor) -> Maps:
        """(B,) JPEG or PNG files to the pose of the person in each, looked for as `Predictor.predict_batch` does."""
        return self._found(graph_images.decode_all(image_bytes))._asdict()

    def with_boxes(self, image_bytes: tf.Tensor, boxes: tf.Tensor) -> Maps:
        """The same, of the person in each of the boxes (B, 4) x, y, w, h in pixels of the upright picture."""
        return self._in_boxes(graph_images.decode_all(image_bytes), boxes)._asdict()

    def images(self, images: tf.Tensor, boxes: tf.Tensor) -> Maps:
        """The same, of (B, H, W, 3) uint8 RGB."""
        return self._in_boxes(graph_images.from_images(images), boxes)._asdict()

    def heatmaps(self, crops: tf.Tensor) -> Maps:
        """(B, S, S, 3) uint8 RGB crops to the maps (B, S/stride, S/stride, K) of both stages, in 0..1."""
        return self._maps(crops)

    def model_card(self, card: str, query: tf.Tensor) -> Maps:
        """The model's card and its K joints, (B,) and (B, K) strings, for any (B,) strings.

        So that a client need not be told the joints besides. A row each, and two outputs, because a server that
        batches splits answers by rows, and its REST API drops the name of an only output.
        """
        rows = tf.shape(query)[0]
        names = tf.constant(self.network.metadata.schema.keypoints)
        return {"card": tf.fill([rows], card), "joints": tf.repeat(names[None], rows, 0)}

    def _finite_maps(self, crops):
        # A diverged model must not make NaN, which is no JSON.
        return {name: tf.where(tf.math.is_finite(maps), maps, tf.cast(maps > 0, tf.float32))
                for name, maps in self.network.maps(crops).items()}

    def _in_boxes(self, people, boxes, rows=None):
        """The poses in boxes; `rows` of the pictures where not all."""
        rows = tf.range(tf.shape(boxes)[0]) if rows is None else rows
        answer = self._joints(graph_images.crops(people, boxes, self.size, rows))
        pixel = CROP_PADDING * tf.reduce_max(boxes[:, 2:], -1)[:, None, None] / self.size
        middle = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
        keypoints = (answer["keypoints"] - (self.size - 1) / 2) * pixel + middle
        real = tf.reduce_all(tf.math.is_finite(keypoints), (1, 2)) & tf.reduce_all(boxes[:, 2:] > 0, 1)
        good = tf.gather(people.readable, rows) & real
        found = Answer(keypoints, answer["scores"], answer["visibility"], boxes)
        return Answer(*(tf.where(tf.reshape(good, [-1] + [1] * (value.shape.rank - 1)), value, 0.0) for value in found))

    def _found(self, people):
        """The poses, looked for: in the whole picture, in its parts, then round what was found, while it settles."""
        sizes = tf.cast(people.sizes, tf.float32)
        answer = self._in_boxes(people, _box_in(tf.zeros_like(sizes), sizes))
        unsure = (tf.reduce_mean(answer.scores, 1) < self.unsure) & (sizes[:, 0] != sizes[:, 1])
        rows = tf.cast(tf.where(people.readable & unsure)[:, 0], tf.int32)
        answer = tf.cond(tf.size(rows) > 0, lambda: self._of_parts(people, answer, sizes, rows), lambda: answer)
        moving = people.readable
        for _ in range(ROUNDS):
            boxes, wanted = self._confident(answer, sizes)
            rows = tf.cast(tf.where(moving & wanted)[:, 0], tf.int32)
            answer, moving = tf.cond(
                tf.size(rows) > 0,
                lambda answer=answer, boxes=boxes, rows=rows: self._again(people, answer, boxes, rows),
                lambda answer=answer: (answer, tf.zeros_like(people.readable)))
        return answer

    def _of_parts(self, people, answer, sizes, rows):
        """The answer with those of `rows` from the part of their picture that scores highest, where one does."""
        sizes, before = tf.gather(sizes, rows), tf.reduce_mean(tf.gather(answer.scores, rows), 1)
        shorter = tf.reduce_min(sizes, 1, keepdims=True)
        low = (sizes - shorter)[:, None] * tf.linspace(0.0, 1.0, TILES)[:, None]
        boxes = _box_in(tf.reshape(low, (-1, 2)), tf.repeat(tf.tile(shorter, (1, 2)), TILES, 0))
        found = self._in_boxes(people, boxes, tf.repeat(rows, TILES))
        means = tf.reshape(tf.reduce_mean(found.scores, 1), (-1, TILES))
        better = tf.reduce_max(means, 1) > before
        best = tf.range(tf.size(rows)) * TILES + tf.argmax(means, 1, tf.int32)
        return _with_rows(answer, rows[better], Answer(*(tf.gather(value, best[better]) for value in found)))

    def _again(self, people, answer, boxes, rows):
        """The answer with those of `rows` from a crop of their boxes, where it is not much worse; and where it is."""
        new = self._in_boxes(people, tf.gather(boxes, rows), rows)
        before = tf.reduce_mean(tf.gather(answer.scores, rows), 1)
        better = tf.reduce_mean(new.scores, 1) >= MIN_SCORE_RATIO * before
        rows, new = rows[better], Answer(*(tf.boolean_mask(value, better) for value in new))
        moved = tf.scatter_nd(rows[:, None], tf.ones_like(rows), tf.shape(people.readable)) > 0
        return _with_rows(answer, rows, new), moved

    def _confident(self, answer, sizes):
        """As `predictor.confident_box`: boxes (B, 4) of the confident joints, and (B,) where they are worth a crop."""
        confident = (answer.scores >= self.least)[..., None]
        low = tf.reduce_min(tf.where(confident, answer.keypoints, float("inf")), 1)
        high = tf.reduce_max(tf.where(confident, answer.keypoints, -float("inf")), 1)
        least = tf.maximum(1.0, MIN_SIDE * tf.reduce_max(sizes, 1, keepdims=True))
        size = tf.maximum(high - low, least)
        low, high = (low + high) / 2 - size / 2, (low + high) / 2 + size / 2
        step = 2 ** tf.floor(tf.math.log(tf.reduce_max(size, 1, keepdims=True) / GRID) / math.log(2))
        low, high = tf.floor(low / step) * step, tf.math.ceil(high / step) * step
        boxes = tf.concat([low, high - low], 1)
        enough = tf.reduce_sum(tf.cast(confident[..., 0], tf.int32), 1) >= \
            min(MIN_CONFIDENT, self.network.metadata.schema.size)
        return boxes, enough & (_overlap(boxes, answer.box) < CONVERGED_IOU)


def _box_in(low, sizes):
    """As in `predictor`: boxes (N, 4) whose crops are the squares round what begins at `low` and has `sizes` (N, 2)."""
    side = tf.math.ceil(tf.reduce_max(sizes, 1, keepdims=True) / CROP_PADDING)
    return tf.concat([low - 0.5 + (sizes - side) / 2, tf.tile(side, (1, 2))], 1)


def _with_rows(answer, rows, new):
    return Answer(*(tf.tensor_scatter_nd_update(value, rows[:, None], more)
                    for value, more in zip(answer, new, strict=True)))


def _overlap(a, b):
    """Area of the intersection over that of the union, of boxes (B, 4) each."""
    both = tf.reduce_prod(tf.maximum(tf.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) -
                                     tf.maximum(a[:, :2], b[:, :2]), 0.0), 1)
    return both / tf.maximum(tf.reduce_prod(a[:, 2:], 1) + tf.reduce_prod(b[:, 2:], 1) - both, 1e-6)
