"""Read the header of a JPEG or PNG by TensorFlow operations: size, depth, transparency, orientation.

Nothing here fails, whatever the bytes: every read is limited to the data and padded with zeros, every loop is bounded.
`Header.problem` describes what is wrong; its texts are part of exported graphs, so they do not change. The walk over a
JPEG's segments steps exactly as libjpeg does or refuses the data, so that no file can show a small size here and a
large one to the decoder.
"""

from typing import NamedTuple

import tensorflow as tf

JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Limit of steps, for a bound on time (< 1 s): more segments than cameras write, and the 8 KB chunks of a 128 MB PNG.
MAX_STEPS = 2 ** 14

_WITH_ALPHA, _WITH_TRANSPARENT_COLOR = (4, 6), (2, 3)  # PNG color types; OpenCV drops the transparent level of gray
_ORIENTATION_TAG, _ENTRY = 0x0112, 12  # EXIF; an entry has tag, type, count, value in 12 bytes


class Header(NamedTuple):
    """Hold scalar tensors of one image; the others are meaningless unless `problem` is empty.

    Attributes:
        problem: string, one line that describes what is wrong, or empty.
        width, height: int64, of the stored image, before it is rotated upright.
        png: bool, a PNG, not a JPEG.
        deep: bool, 16 bits per channel.
        alpha: bool, has transparency.
        orientation: int64, EXIF's 1..8.
    """

    problem: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    png: tf.Tensor
    deep: tf.Tensor
    alpha: tf.Tensor
    orientation: tf.Tensor


SIGNATURE = Header(*(tf.TensorSpec((), kind) for kind in (tf.string, tf.int64, tf.int64, tf.bool, tf.bool, tf.bool,
                                                          tf.int64)))


def header(data: tf.Tensor, max_pixels: int) -> Header:
    """Return the header of `data` (a scalar string); more than `max_pixels` pixels are a problem too."""
    unknown = Header(tf.constant("the data are no JPEG or PNG"), *_int64(1, 1), *[tf.constant(False)] * 3, *_int64(1))
    parsed = tf.case([(_substr(data, 0, 8) == PNG_START, lambda: _png(data)),
                     (_substr(data, 0, 3) == JPEG_START, lambda: _jpeg(data))], default=lambda: unknown)
    large = tf.strings.join(["the picture has ", tf.strings.as_string(parsed.width), " x ",
                             tf.strings.as_string(parsed.height), f" pixels, more than {max_pixels}"])
    # By division, as the product of two 32-bit sides may overflow.
    is_large = parsed.width > max_pixels // tf.maximum(parsed.height, 1)
    problem = tf.where((parsed.problem == "") & is_large, large, parsed.problem)
    orientation = tf.where((parsed.orientation >= 1) & (parsed.orientation <= 8), parsed.orientation, 1)
    return parsed._replace(problem=problem, orientation=orientation)


def _jpeg(data):
    length = _length(data)

    def step(at, size, orientation, scan):
        word, span = tf.unstack(_numbers(data, at, tf.uint16, 2))
        marker = word - 0xFF00
        # Fill bytes (0xFF) are skipped one by one; a marker below 0xC0 or without a length (0xD0..0xD9) is
        # not allowed before the scan.
        fill = marker == 0xFF
        known = (marker >= 0xC0) & ((marker < 0xD0) | (marker > 0xD9)) & (span >= 2) & (at + 4 <= length)
        frame = (marker >= 0xC0) & (marker <= 0xCF) & (marker != 0xC4) & (marker != 0xC8) & (marker != 0xCC)
        size = tf.cond(frame & (size[0] == 0), lambda: _numbers(data, at + 5, tf.uint16, 2), lambda: size)
        orientation = tf.cond((marker == 0xE1) & (orientation == 0),
                              lambda: _orientation(_substr(data, at + 10, span - 8)), lambda: orientation)
        after = tf.where(fill, at + 1, tf.where(known, at + 2 + span, length))
        return after, size, orientation, tf.where(known & (marker == 0xDA), after, scan)

    _, size, orientation, scan = tf.while_loop(
        lambda at, size, orientation, scan: (at + 4 <= length) & (scan == 0), step,
        (*_int64(2), tf.zeros((2,), tf.int64), *_int64(0, 0)), maximum_iterations=MAX_STEPS, parallel_iterations=1)
    complete = (scan > 0) & _has_end_mark(data, scan)
    problem = tf.where(complete & tf.reduce_all(size > 0), "", "the JPEG data are damaged or end too early")
    return Header(problem, size[1], size[0], tf.constant(False), tf.constant(False), tf.constant(False), orientation)


def _has_end_mark(data, at):
    """Return whether 0xFF 0xD9 follows `at`: after the start of the scan it can only be the end of the image."""
    def search():
        codes = tf.io.decode_raw(_substr(data, at, _length(data)), tf.uint8)
        return tf.reduce_any((codes[:-1] == 0xFF) & (codes[1:] == 0xD9))

    last = _length(data) - 2
    return tf.cond((last >= at) & (_substr(data, last, 2) == b"\xff\xd9"), lambda: tf.constant(True), search)


def _png(data):
    length = _length(data)
    width, height = tf.unstack(_numbers(data, 16, tf.uint32, 2))
    depth, color = tf.unstack(_numbers(data, 24, tf.uint8, 2))

    def step(at, orientation, marked, pixels):
        span = _numbers(data, at, tf.uint32, 1)[0]
        kind = _substr(data, at + 4, 4)
        orientation = tf.cond((kind == b"eXIf") & (orientation == 0),
                              lambda: _orientation(_substr(data, at + 8, span)), lambda: orientation)
        return (at + 12 + span, orientation, marked | ((kind == b"tRNS") & ~pixels & (span > 0)),
                pixels | (kind == b"IDAT"))

    _, orientation, marked, pixels = tf.while_loop(
        lambda at, *_: at + 12 <= length, step, (*_int64(8, 0), tf.constant(False), tf.constant(False)),
        maximum_iterations=MAX_STEPS, parallel_iterations=1)
    alpha = _is_one_of(color, _WITH_ALPHA) | (_is_one_of(color, _WITH_TRANSPARENT_COLOR) & marked)
    good = pixels & (_substr(data, 12, 4) == b"IHDR") & (width > 0) & (height > 0)
    problem = tf.where(good, "", "the PNG data are damaged or end too early")
    return Header(problem, width, height, tf.constant(True), depth == 16, alpha, orientation)


def _orientation(tiff):
    """Return EXIF's orientation, int64, unchecked; 0 if it is missing or the bytes are not EXIF."""
    head = _substr(tiff, 0, 4)
    big = head == b"MM\0*"

    def number(codes):
        """Return the last axis of bytes as one number, in the byte order of the file."""
        powers = 256 ** tf.range(tf.shape(codes)[-1], dtype=tf.int64)
        return tf.reduce_sum(codes * tf.where(big, tf.reverse(powers, [0]), powers), -1)

    start = number(_numbers(tiff, 4, tf.uint8, 4))
    room = tf.maximum(_length(tiff) - start, 0) // _ENTRY  # the count takes 2 bytes, too few for an entry
    count = tf.minimum(number(_numbers(tiff, start, tf.uint8, 2)), room)
    entries = tf.reshape(_numbers(tiff, start + 2, tf.uint8, count * _ENTRY), (-1, _ENTRY))
    values = tf.boolean_mask(number(entries[:, 8:10]), number(entries[:, :2]) == _ORIENTATION_TAG)
    first = tf.reduce_sum(values[:1])  # 0 if there is none
    return tf.where(big | (head == b"II*\0"), first, 0)


def _numbers(data, at, kind, count):
    """Return `count` big-endian numbers of the unsigned type `kind` from byte `at`, int64; zeros beyond the data."""
    if kind == tf.uint32:  # decode_raw does not support it
        halves = tf.reshape(_numbers(data, at, tf.uint16, 2 * count), (count, 2))
        return halves[:, 0] * 2 ** 16 + halves[:, 1]
    size = tf.cast(count, tf.int32) * kind.size
    # `fixed_length` pads with zeros; it must not be 0 itself.
    piece = _substr(data, at, tf.cast(size, tf.int64))
    codes = tf.io.decode_raw(piece, kind, little_endian=False, fixed_length=tf.maximum(size, kind.size))
    return tf.cast(codes, tf.int64)[:count]


def _substr(data, at, count):
    """Return at most `count` bytes from `at`; fewer, or none, if the data end before."""
    length = _length(data)
    at = tf.clip_by_value(tf.cast(at, tf.int64), 0, length)
    return tf.strings.substr(data, at, tf.clip_by_value(tf.cast(count, tf.int64), 0, length))


def _length(data):
    return tf.cast(tf.strings.length(data), tf.int64)


def _int64(*numbers):
    return tuple(tf.constant(number, tf.int64) for number in numbers)


def _is_one_of(number, choices):
    return tf.reduce_any(number == tf.constant(choices, tf.int64))
