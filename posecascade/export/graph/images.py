"""Pictures of a request, as TensorFlow operations: decoded upright, kept apart from damaged ones, cropped.

The same pixels as `images.decode(data, name, upright=True)` and `images.crop` give, for models that leave Python:
everything is part of the graph, and a picture that cannot be decoded costs no other its answer.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from posecascade.export.graph.image_headers import SIGNATURE, header
from posecascade.export.graph.image_pixels import GRAY, bilinear, means, on_white, side_lengths, to_8_bits
from posecascade.geometry import CROP_PADDING
from posecascade.images import SHRINK_LIMIT

MAX_PIXELS = 2 ** 26  # a larger picture is refused from its header, before memory is taken
# A larger one is kept shrunk by a power of two. Who fills half of it still has 4 to 10 times a crop's side.
STORED_PIXELS = 2 ** 24

# Memory, by the numbers above: a request keeps at most 48 MB a picture. One picture at a time is being decoded, which
# takes up to MAX_PIXELS * 8 bytes (512 MB: a PNG of 16 bits with transparency; a progressive JPEG's coefficients),
# and a crop at a time is being cut, which takes up to 48 MB for its part of the picture.

_SHRINKS = (1, 2, 4, 8)  # what libjpeg offers while decoding
_PIXELS = tf.TensorSpec((None, None, 3), tf.uint8)


class Picture(NamedTuple):
    """One decoded picture.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, upright.
        shrink: () int32, its pixels are blocks of `shrink` x `shrink` of the full picture.
        size: (2,) int32, width and height of the full picture, upright.
        origin: (2,) int32, x and y of the first block's corner in the full picture: 0, or a little less where blocks
            were counted from the other side before the picture was turned.
    """

    pixels: tf.Tensor
    shrink: tf.Tensor
    size: tf.Tensor
    origin: tf.Tensor


class Pictures(NamedTuple):
    """A batch of B pictures, each of its own size.

    Attributes:
        pixels: a TensorArray; `pixels.read(row)` gives (h, w, 3) uint8 RGB without a copy.
        shrinks, sizes, origins: (B,), (B, 2), (B, 2) int32; see `Picture`.
        readable: (B,) bool; where False the picture is one gray pixel.
    """

    pixels: tf.TensorArray
    shrinks: tf.Tensor
    sizes: tf.Tensor
    origins: tf.Tensor
    readable: tf.Tensor


class _Kind(NamedTuple):
    """A way of decoding.

    `read` makes (h, w, channels) of the bytes and is all that can fail; `rgb` makes uint8 RGB of such pixels;
    `shrunk` says that the decoder has shrunk them already.
    """

    read: object
    rgb: object
    shrunk: bool


def decode(data: tf.Tensor) -> Picture:
    """The picture in `data`, a scalar string: the bytes of a JPEG or PNG.

    Raises InvalidArgumentError, when run, for anything else, for more than MAX_PIXELS and for damaged data.
    """
    found = header(data, MAX_PIXELS)
    with tf.control_dependencies([tf.debugging.Assert(found.problem == "", [found.problem])]):
        data = tf.identity(data)  # no memory is taken before the header is known to be good
    shrink = 2 ** _halvings(found)
    pixels = tf.switch_case(_kind_of(found), [
        lambda kind=kind: _finished(kind, kind.read(data), shrink) for kind in _kinds()])
    return _upright(pixels, shrink, found)


def decode_all(image_bytes: tf.Tensor) -> Pictures:
    """The pictures in `image_bytes`, (B,) strings; a row that `decode` would refuse is one gray pixel instead.

    A graph cannot catch an error, but a tf.data pipeline can drop the rows that failed. Setting up its function costs
    milliseconds that grow with the function, so headers are read and pixels finished outside, each pipeline holds one
    decoding operation, and only those run whose kind occurs.
    """
    count = tf.shape(image_bytes)[0]
    headers = tf.map_fn(lambda data: header(data, MAX_PIXELS), image_bytes, fn_output_signature=SIGNATURE,
                        parallel_iterations=1)
    kinds = tf.where(headers.problem == "", _kind_of(headers), -1)
    ones, zeros = tf.ones((count, 2), tf.int32), tf.zeros((count, 2), tf.int32)
    pictures = Pictures(_all_gray(count), ones[:, 0], ones, zeros, tf.zeros((count,), tf.bool))
    for number, kind in enumerate(_kinds()):
        rows = tf.where(kinds == number)[:, 0]
        pictures = tf.cond(tf.size(rows) > 0,
                           functools.partial(_with_rows, pictures, kind, rows, image_bytes, headers),
                           lambda pictures=pictures: pictures)
    return pictures


def from_images(images: tf.Tensor) -> Pictures:
    """The pictures in `images`, (B, H, W, 3) uint8 RGB, as they are."""
    count, height, width = tf.unstack(tf.shape(images)[:3])
    pixels = tf.TensorArray(tf.uint8, count, infer_shape=False, clear_after_read=False).unstack(images)
    sizes = tf.tile([[width, height]], (count, 1))
    return Pictures(pixels, tf.ones((count,), tf.int32), sizes, tf.zeros_like(sizes), tf.ones((count,), tf.bool))


def crops(pictures: Pictures, boxes: tf.Tensor, size: int, rows: tf.Tensor | None = None) -> tf.Tensor:
    """(B, size, size, 3) uint8 RGB: of every picture the square round its box, as `images.crop` cuts it.

    Args:
        pictures: B of them; or more, of which `rows` (B,) int32 are meant.
        boxes: (B, 4) float32 x, y, w, h in pixels of the full upright pictures. One that is no box (w or h not above
            0, something not finite) gives gray, like one wholly outside.
        size: side of a crop in pixels.
    """
    boxes = tf.cast(boxes, tf.float64)
    real = tf.reduce_all(tf.math.is_finite(boxes), 1) & tf.reduce_all(boxes[:, 2:] > 0, 1)
    gray = tf.fill((size, size, 3), tf.constant(GRAY, tf.uint8))

    def cut(number):
        row = number if rows is None else rows[number]
        picture = Picture(pictures.pixels.read(row), pictures.shrinks[row], pictures.sizes[row], pictures.origins[row])
        return tf.cond(real[number], lambda: _crop(picture, boxes[number], size), lambda: gray)

    return tf.map_fn(cut, tf.range(tf.shape(boxes)[0]), fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
                     parallel_iterations=1)


def _crop(picture, box, size):
    pixel = CROP_PADDING * tf.maximum(box[2], box[3]) / size  # side of a crop's pixel in the full picture
    middle = box[:2] + box[2:] / 2
    places = (tf.range(size, dtype=tf.float64) - (size - 1) / 2)[:, None] * pixel + middle  # (size, 2) x, y
    shrink = tf.cast(picture.shrink, tf.float64)
    places = (places - tf.cast(picture.origin, tf.float64) - (shrink - 1) / 2) / shrink  # in stored pixels
    steps = [2 ** power for power in range(SHRINK_LIMIT.bit_length() - 1)]
    factor = 2 ** tf.reduce_sum(tf.cast([pixel >= 2 * step for step in steps], tf.int32))
    factor = tf.maximum(factor // picture.shrink, 1)
    # As in `images.crop`: two blocks more than the crop's corners, from a multiple of the factor.
    limits = side_lengths(picture.pixels)
    block, last = tf.cast(factor, tf.float64), tf.cast(-(-limits // factor), tf.float64)
    low = factor * tf.cast(tf.clip_by_value(tf.floor(places[0] / block) - 2, 0, last), tf.int32)
    high = factor * tf.cast(tf.clip_by_value(tf.math.ceil(places[-1] / block) + 3, 0, last), tf.int32)
    high = tf.minimum(high, limits)

    def sample():
        # Blocks of one pixel, the usual ones, need no averaging, which takes as long as all the rest.
        part = tf.cond(factor == 1, lambda: picture.pixels[low[1]:high[1], low[0]:high[0]],
                       lambda: means(picture.pixels, low, high, factor))
        return bilinear(part, (places - tf.cast(low, tf.float64) - (block - 1) / 2) / block)

    return tf.cond(tf.reduce_all(low < high), sample,
                   lambda: tf.fill((size, size, 3), tf.constant(GRAY, tf.uint8)))


def _with_rows(pictures, kind, rows, image_bytes, headers):
    """`pictures` with those of `rows` in place that `kind` can read."""
    data = tf.data.Dataset.from_tensor_slices((rows, tf.gather(image_bytes, rows)))
    options = tf.data.Options()  # each would cost more than it brings, again in every request
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    read = data.map(lambda row, content: (row, kind.read(content))).ignore_errors().with_options(options)
    iterator = iter(read)

    def put(entry, pictures):
        row, raw = entry.get_value()
        found = tf.nest.map_structure(lambda column: column[row], headers)
        shrink = 2 ** _halvings(found)
        picture = _upright(_finished(kind, raw, shrink), shrink, found)
        place = [[row]]
        return Pictures(pictures.pixels.write(tf.cast(row, tf.int32), picture.pixels),
                        tf.tensor_scatter_nd_update(pictures.shrinks, place, [picture.shrink]),
                        tf.tensor_scatter_nd_update(pictures.sizes, place, [picture.size]),
                        tf.tensor_scatter_nd_update(pictures.origins, place, [picture.origin]),
                        tf.tensor_scatter_nd_update(pictures.readable, place, [True]))

    def step(_, pictures):
        entry = iterator.get_next_as_optional()
        more = entry.has_value()
        return more, tf.cond(more, lambda: put(entry, pictures), lambda: pictures)

    return tf.while_loop(lambda more, _: more, step, (tf.constant(True), pictures), parallel_iterations=1)[1]


def _kinds():
    """Every way of decoding, in the order of `_kind_of`."""
    jpegs = [_Kind(functools.partial(tf.io.decode_jpeg, channels=3, ratio=shrink, dct_method="INTEGER_ACCURATE"),
                   tf.identity, True) for shrink in _SHRINKS]  # the accurate method is OpenCV's
    # Transparency is asked for only where it is: TensorFlow fills up with 1, not 255, where a PNG has 1 bit.
    pngs = [_Kind(functools.partial(tf.io.decode_png, channels=channels, dtype=kind), rgb, False)
            for channels, kind, rgb in ((3, tf.uint8, tf.identity), (3, tf.uint16, to_8_bits), (4, tf.uint8, on_white),
                                        (4, tf.uint16, lambda pixels: on_white(to_8_bits(pixels))))]
    return jpegs + pngs


def _halvings(found):
    """int32, how often to halve the sides of what a header (or a batch of them) announces, before it is kept."""
    pixels = found.width * found.height
    return tf.add_n([tf.cast(pixels > STORED_PIXELS * shrink ** 2, tf.int32) for shrink in _SHRINKS[:-1]])


def _kind_of(found):
    """int32, which of `_kinds` a header (or a batch of them) asks for."""
    png = len(_SHRINKS) + 2 * tf.cast(found.alpha, tf.int32) + tf.cast(found.deep, tf.int32)
    return tf.where(found.png, png, _halvings(found))


def _finished(kind, raw, shrink):
    if kind.shrunk:
        return raw
    whole = side_lengths(raw)
    averaged = functools.partial(means, raw, tf.zeros_like(whole), whole, shrink, kind.rgb)
    if kind.rgb is tf.identity:
        return tf.cond(shrink == 1, lambda: raw, averaged)
    return averaged()


def _upright(pixels, shrink, found):
    """The Picture of stored pixels, turned as EXIF asks."""
    turned = found.orientation >= 5
    mirrored = [tf.reduce_any(found.orientation == tf.constant(which, tf.int64))
                for which in ((2, 3, 6, 7), (3, 4, 7, 8))]  # along x, along y, after the turn
    pixels = tf.cond(turned, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    for axis, mirror in ((1, mirrored[0]), (0, mirrored[1])):
        pixels = tf.cond(mirror, functools.partial(tf.reverse, pixels, [axis]), lambda pixels=pixels: pixels)
    size = tf.cast(tf.stack([found.width, found.height]), tf.int32)
    size = tf.where(turned, tf.reverse(size, [0]), size)
    beyond = shrink * side_lengths(pixels) - size  # by which the last blocks leave the picture
    return Picture(pixels, shrink, size, -beyond * tf.cast(tf.stack(mirrored), tf.int32))


def _all_gray(count):
    """A TensorArray of one gray pixel for each of `count` pictures."""
    gray = tf.fill((1, 1, 3), tf.constant(GRAY, tf.uint8))
    pixels = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=_PIXELS.shape, clear_after_read=False)
    return tf.while_loop(lambda row, _: row < count, lambda row, pixels: (row + 1, pixels.write(row, gray)),
                         (0, pixels), parallel_iterations=1)[1]
