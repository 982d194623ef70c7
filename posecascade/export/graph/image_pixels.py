"""Convert, average and sample pixels by TensorFlow operations that round as OpenCV does."""

import tensorflow as tf

GRAY = 127  # beyond the image, as in `images.warp`
# Pixels averaged at a time: a copy in 32 bits (12 bytes per pixel) takes 12 MB.
BAND_PIXELS = 2 ** 20


def side_lengths(pixels):
    """Return (2,) int32, width and height of (h, w, c)."""
    return tf.reverse(tf.shape(pixels)[:2], [0])  # a reversed slice would cause a warning of TensorFlow's optimizer


def to_8_bits(pixels):
    """Convert (h, w, c) from uint16 to uint8: 65535 becomes 255, rounded."""
    return tf.cast((tf.cast(pixels, tf.uint32) * 255 + 32767) // 65535, tf.uint8)


def on_white(pixels):
    """Convert (h, w, 4) to (h, w, 3) uint8 on a white background."""
    pixels = tf.cast(pixels, tf.int32)
    color, alpha = pixels[..., :3], pixels[..., 3:]
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def means(pixels, low, high, factor, rgb=tf.identity):
    """Return (h, w, 3) uint8: the part from `low` to `high` (x, y), converted by `rgb`, its blocks averaged.

    The result is that of `images.shrunk`, whose blocks at the edges repeat the last pixels. It is computed in bands, so
    that no 32-bit copy of all pixels is made.
    """
    width = -(-(high[0] - low[0]) // factor)
    band = factor * tf.maximum(BAND_PIXELS // (factor * factor * width), 1)  # rows of pixels

    def average(top):
        part = rgb(pixels[top:tf.minimum(top + band, high[1]), low[0]:high[0]])
        height = -(-tf.shape(part)[0] // factor)
        part = _filled(_filled(part, 0, height * factor), 1, width * factor)
        rows = tf.reduce_sum(tf.reshape(tf.cast(part, tf.int32), (height, factor, width * factor * 3)), 1)
        sums = tf.reduce_sum(tf.reshape(rows, (height, width, factor, 3)), 2)
        exact = tf.cast(sums, tf.float32) / tf.cast(factor * factor, tf.float32)  # below 2**24, by a power of two
        # OpenCV rounds halves up for blocks of 2 x 2, to even for other sizes.
        return tf.cast(tf.where(factor == 2, tf.floor(exact + 0.5), tf.round(exact)), tf.uint8)

    def add(number, bands):
        return number + 1, bands.write(number, average(low[1] + number * band))

    count = -(-(high[1] - low[1]) // band)
    bands = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=(None, None, 3))
    _, bands = tf.while_loop(lambda number, _: number < count, add, (0, bands), parallel_iterations=1)
    return bands.concat()


def bilinear(part, positions):
    """Return (S, S, 3) uint8: `part` (h, w, 3) at all pairs of `positions` (S, 2) x, y; gray beyond its edges."""
    framed = tf.pad(part, [[1, 1], [1, 1], [0, 0]], constant_values=GRAY)
    last = tf.cast(side_lengths(part), tf.float64)
    positions = tf.clip_by_value(positions, -1, last) + 1  # in the framed part, limited to its border
    before = tf.minimum(tf.floor(positions), last)
    weights, before = tf.cast(positions - before, tf.float32), tf.cast(before, tf.int32)
    for axis, (where, weight) in enumerate(((before[:, 1], weights[:, 1, None, None]),
                                            (before[:, 0], weights[:, 0, None]))):
        near, far = (tf.cast(tf.gather(framed, where + step, axis=axis), tf.float32) for step in (0, 1))
        framed = near * (1 - weight) + far * weight
    return tf.cast(tf.round(framed), tf.uint8)


def _filled(part, axis, length):
    """Return `part` with its last row (axis 0) or column (axis 1) repeated up to `length`."""
    rest = length - tf.shape(part)[axis]
    last = part[-1:] if axis == 0 else part[:, -1:]
    return tf.cond(rest > 0, lambda: tf.concat([part, tf.repeat(last, rest, axis)], axis), lambda: part)
