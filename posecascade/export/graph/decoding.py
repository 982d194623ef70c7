"""The decoders and `value_at` of `codec.decoders` as TensorFlow operations, for graphs that return keypoints.

Axes: B people, H rows, W columns, K keypoints, N offsets around a cell. B may be unknown; H, W and K are fixed. With
B = 1 each decoder converts to TensorFlow Lite with builtin operations alone, and no array has more than four axes.
Products are summed by `reduce_sum`, not by `matmul`, which GPUs may compute to ten bits only. So float32 agrees with
`codec.decoders`, which computes in float64, within 0.001 px at strides up to 8, unless a map has no distinct peak.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from posecascade.codec import decoders
from posecascade.codec.score_calibration import EDGE, IDENTITY

Decoded = tuple[tf.Tensor, tf.Tensor]


def _square(first: int, last: int) -> np.ndarray:
    """Return the offsets (N, 2) int32 as (x, y) from `first` to `last` on both axes, row by row."""
    reach = np.arange(first, last + 1, dtype=np.int32)
    return np.stack(np.meshgrid(reach, reach), -1).reshape(-1, 2)


_FORWARD_AND_BACK = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.int32)
_NEIGHBORS = _square(-1, 1)


def argmax(maps: tf.Tensor, stride: int) -> Decoded:
    """Compute `codec.decoders.argmax`: each keypoint at the center of its map's highest cell.

    Args:
        maps: (B, H, W, K) float32, finite.
        stride: input pixels per cell.
    Returns:
        Keypoints (B, K, 2) float32 as (x, y) in input pixels, and the highest values (B, K) float32.
    """
    cells, scores = _peaks(maps)
    return decoders.cells_to_pixels(tf.cast(cells, tf.float32), stride), scores


def quarter_offset(maps: tf.Tensor, stride: int) -> Decoded:
    """Compute `codec.decoders.quarter_offset`: `argmax`, then a quarter of a cell towards the higher neighbor."""
    cells, scores = _peaks(maps)
    forward, back = tf.split(_window(maps, cells, _FORWARD_AND_BACK), 2, axis=-1)
    return _moved(maps, cells, decoders.QUARTER * tf.sign(forward - back), stride), scores


def dark(maps: tf.Tensor, stride: int) -> Decoded:
    """Compute `codec.decoders.dark`: `argmax`, then a Newton step on the smoothed map's logarithm."""
    cells, scores = _peaks(maps)
    smooth = tf.maximum(_smoothed_neighbors(maps, cells), decoders.MIN_LOGARITHM)
    # Logarithms relative to the middle cell: equal cells then differ by exactly 0. A difference of two rounded
    # logarithms would not, and on a ridge float32's rounding suffices for a determinant above MIN_DETERMINANT.
    logs = tf.math.log(smooth / smooth[:, :, 4:5])
    north_west, north, north_east, west, _, east, south_west, south, south_east = tf.unstack(logs, axis=-1)
    dx, dy = (east - west) / 2, (south - north) / 2
    dxx, dyy, dxy = east + west, south + north, (south_east - south_west - north_east + north_west) / 4
    determinant = dxx * dyy - dxy * dxy
    peaked = (determinant > decoders.MIN_DETERMINANT) & (dxx < 0)
    step = tf.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1) / tf.where(peaked, determinant, 1.0)[..., None]
    step = tf.clip_by_value(step, -decoders.DARK_STEP, decoders.DARK_STEP) * tf.cast(peaked, tf.float32)[..., None]
    return _moved(maps, cells, step, stride), scores


def soft_argmax(maps: tf.Tensor, stride: int) -> Decoded:
    """Compute `codec.decoders.soft_argmax`: the mean position under the squared map times a window that follows it."""
    cells, scores = _peaks(maps)
    offsets = _square(-decoders.SOFT_REACH, decoders.SOFT_REACH)
    room = tf.minimum(cells, _last(maps) - cells)  # offsets up to here have their mirror image on the map
    counted = tf.reduce_all(np.abs(offsets) <= room[:, :, None], -1)
    weights = tf.square(tf.nn.relu(_window(maps, cells, offsets))) * tf.cast(counted, tf.float32)
    reach = np.arange(-decoders.SOFT_REACH, decoders.SOFT_REACH + 1, dtype=np.float32)
    rows = tf.reshape(weights, (-1, maps.shape[3], len(reach), len(reach)))
    # The window is a product of one along x and one along y, which takes a third of the time of one over both. `along`
    # (B, 2K, N, N) holds the weights twice: first transposed, for x, then as they are, for y.
    along = tf.concat([tf.transpose(rows, (0, 1, 3, 2)), rows], 1)
    center = tf.zeros_like(along[:, :, 0, :1])
    for _ in range(decoders.SOFT_ROUNDS):  # in Python: the graph has no loop
        window = tf.exp(tf.math.squared_difference(reach, center) * (-0.5 / decoders.SOFT_WINDOW ** 2))
        across = tf.concat(tf.split(window, 2, axis=1)[::-1], 1)
        here = window * tf.reduce_sum(along * across[:, :, None], 3)
        total = tf.maximum(tf.reduce_sum(here, -1, keepdims=True), decoders.MIN_TOTAL)
        mean = tf.reduce_sum(here * reach, -1, keepdims=True) / total
        center = tf.clip_by_value(mean, -decoders.SOFT_STEP, decoders.SOFT_STEP)
    step = tf.concat(tf.split(center, 2, axis=1), -1)
    return decoders.cells_to_pixels(tf.cast(cells, tf.float32) + step, stride), scores


DECODERS: dict[str, Callable[[tf.Tensor, int], Decoded]] = {
    "argmax": argmax, "quarter": quarter_offset, "dark": dark, "soft": soft_argmax}


def value_at(maps: tf.Tensor, points: tf.Tensor, stride: int) -> tf.Tensor:
    """Compute `codec.decoders.value_at`: each map interpolated bilinearly at one point.

    Args:
        maps: (B, H, W, K) float32.
        points: (B, K, 2) float32 as (x, y) in input pixels; points outside read the nearest edge cell.
        stride: input pixels per cell.
    Returns:
        (B, K) float32.
    """
    last = _last(maps)
    cells = tf.clip_by_value(decoders.pixels_to_cells(points, stride), 0.0, last.astype(np.float32))
    low = tf.cast(cells, tf.int32)  # towards 0, and none is negative
    corners = _square(0, 1)
    part = (cells - tf.cast(low, tf.float32))[:, :, None]
    shares = tf.reduce_prod(1 - tf.abs(corners.astype(np.float32) - part), -1)
    return tf.reduce_sum(shares * _window(maps, low, corners), -1)


def _last(maps):
    """Return (2,) int32: the map's last column and row."""
    return np.array([maps.shape[2] - 1, maps.shape[1] - 1], np.int32)


def calibrated(scores, calibration):
    """Compute what `Calibration` does: probabilities of scores in 0..1, of any shape."""
    if calibration == IDENTITY:
        return scores
    inside = tf.clip_by_value(scores, EDGE, 1 - EDGE)
    return tf.sigmoid(calibration.slope * (tf.math.log(inside) - tf.math.log(1 - inside)) + calibration.offset)


def _peaks(maps):
    """Return the highest cell (B, K, 2) int32 as (x, y), the first of equal ones, and its value (B, K)."""
    _, height, width, keypoints = maps.shape
    flat = tf.reshape(maps, (-1, height * width, keypoints))
    at = tf.argmax(flat, 1, output_type=tf.int32)
    return tf.stack([at % width, at // width], -1), tf.reduce_max(flat, 1)


def _window(maps, cells, offsets):
    """Return the maps (B, K, N) at cells (B, K, 2) plus offsets (N, 2); edge values repeat beyond the map."""
    _, height, width, keypoints = maps.shape
    at = tf.clip_by_value(cells[:, :, None] + offsets, 0, _last(maps))
    index = tf.reduce_sum(at * np.array([keypoints, width * keypoints], np.int32), -1)
    index += np.arange(keypoints, dtype=np.int32)[:, None]
    return tf.gather(tf.reshape(maps, (-1, height * width * keypoints)), index, batch_dims=1)


def _smoothed_neighbors(maps, cells):
    """Return (B, K, 9): the maps smoothed as in `dark`, at the cells and around them, row by row.

    Each of the nine is a sum of its own nine cells in the same order, so equal cells give equal sums to the last bit.
    """
    keypoints, count = maps.shape[3], len(_NEIGHBORS)
    offsets = (_NEIGHBORS[:, None] + _NEIGHBORS).reshape(-1, 2)
    taps = np.exp(-0.5 * (_NEIGHBORS ** 2).sum(-1) / decoders.DARK_SIGMA ** 2)
    window = tf.reshape(_window(maps, cells, offsets), (-1, keypoints, count, count))
    return tf.reduce_sum(window * (taps / taps.sum()).astype(np.float32), -1)


def _moved(maps, cells, step, stride):
    """Return cells plus a step (B, K, 2) in input pixels, without the step along axes where a neighbor is missing."""
    between = tf.cast((cells > 0) & (cells < _last(maps)), tf.float32)
    return decoders.cells_to_pixels(tf.cast(cells, tf.float32) + step * between, stride)
