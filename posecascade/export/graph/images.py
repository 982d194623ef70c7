"""Decode a request's images upright and crop them, as TensorFlow operations; damaged ones do not fail the others.

The pixels are those of `images.decode(data, name, upright=True)` and `images.crop`, for models that leave Python:
everything is part of the graph.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from posecascade.export.graph.image_headers import SIGNATURE, header
from posecascade.export.graph.image_pixels import GRAY, bilinear, means, on_white, side_lengths, to_8_bits
from posecascade.geometry import CROP_PADDING
from posecascade.images import SHRINK_LIMIT

MAX_PIXELS = 2 ** 26  # a larger image is refused by its header, before memory is allocated
# A larger image is stored shrunk by a power of two. A person who fills half of it still has 4 to 10 times a crop's
# side.
STORED_PIXELS = 2 ** 24

# Memory, by the numbers above: a request stores at most 48 MB per image. One image at a time is decoded, which takes up
# to MAX_PIXELS * 8 bytes (512 MB: a PNG of 16 bits with transparency; a progressive JPEG's coefficients), and one crop
# at a time is cut, which takes up to 48 MB for its part of the image.

_SHRINKS = (1, 2, 4, 8)  # factors that libjpeg supports while decoding
_PIXELS = tf.TensorSpec((None, None, 3), tf.uint8)


class DecodedImage(NamedTuple):
    """Hold one decoded image.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, upright.
        shrink: () int32, a pixel is a block of `shrink` x `shrink` of the full image.
        size: (2,) int32, width and height of the full image, upright.
        origin: (2,) int32, x and y of the first block's corner in the full image: 0, or negative if blocks were counted
            from the other side before the image was rotated.
    """

    pixels: tf.Tensor
    shrink: tf.Tensor
    size: tf.Tensor
    origin: tf.Tensor


class DecodedImages(NamedTuple):
    """Hold a batch of B decoded images of any sizes.

    Attributes:
        pixels: a TensorArray; `pixels.read(row)` returns (h, w, 3) uint8 RGB without a copy.
        shrinks, sizes, origins: (B,), (B, 2), (B, 2) int32; see `DecodedImage`.
        readable: (B,) bool; if False, the image is one gray pixel.
    """

    pixels: tf.TensorArray
    shrinks: tf.Tensor
    sizes: tf.Tensor
    origins: tf.Tensor
    readable: tf.Tensor


class _Kind(NamedTuple):
    """Hold a way of decoding.

    `read` decodes the bytes to (h, w, channels); nothing else can fail. `rgb` converts these pixels to uint8 RGB.
    `shrunk` is whether `read` has shrunk them already.
    """

    read: object
    rgb: object
    shrunk: bool


def decode(data: tf.Tensor) -> DecodedImage:
    """Decode the image in `data`, a scalar string: the bytes of a JPEG or PNG.

    Raises InvalidArgumentError, when run, for anything else, for more than MAX_PIXELS and for damaged data.
    """
    head = header(data, MAX_PIXELS)
    with tf.control_dependencies([tf.debugging.Assert(head.problem == "", [head.problem])]):
        data = tf.identity(data)  # no memory is allocated before the header is checked
    shrink = 2 ** _halvings(head)
    pixels = tf.switch_case(_kind_of(head), [
        lambda kind=kind: _finished(kind, kind.read(data), shrink) for kind in _kinds()])
    return _upright(pixels, shrink, head)


def decode_all(image_bytes: tf.Tensor) -> DecodedImages:
    """Decode the images in `image_bytes`, (B,) strings; a row that `decode` would refuse is one gray pixel instead.

    A graph cannot catch an error, but a tf.data pipeline can drop the rows that failed. Setting up a pipeline takes
    milliseconds that grow with its function, so headers are read and pixels converted outside, each pipeline holds one
    decoding operation, and only those run whose kind occurs.
    """
    count = tf.shape(image_bytes)[0]
    headers = tf.map_fn(lambda data: header(data, MAX_PIXELS), image_bytes, fn_output_signature=SIGNATURE,
                        parallel_iterations=1)
    kinds = tf.where(headers.problem == "", _kind_of(headers), -1)
    ones, zeros = tf.ones((count, 2), tf.int32), tf.zeros((count, 2), tf.int32)
    images = DecodedImages(_all_gray(count), ones[:, 0], ones, zeros, tf.zeros((count,), tf.bool))
    for number, kind in enumerate(_kinds()):
        rows = tf.where(kinds == number)[:, 0]
        images = tf.cond(tf.size(rows) > 0,
                         functools.partial(_with_rows, images, kind, rows, image_bytes, headers),
                         lambda images=images: images)
    return images


def from_images(images: tf.Tensor) -> DecodedImages:
    """Return `images`, (B, H, W, 3) uint8 RGB, unchanged in a batch."""
    count, height, width = tf.unstack(tf.shape(images)[:3])
    pixels = tf.TensorArray(tf.uint8, count, infer_shape=False, clear_after_read=False).unstack(images)
    sizes = tf.tile([[width, height]], (count, 1))
    return DecodedImages(pixels, tf.ones((count,), tf.int32), sizes, tf.zeros_like(sizes), tf.ones((count,), tf.bool))


def crops(images: DecodedImages, boxes: tf.Tensor, size: int, rows: tf.Tensor | None = None) -> tf.Tensor:
    """Return (B, size, size, 3) uint8 RGB: of every image the square around its box, as `images.crop` cuts it.

    Args:
        images: B images, or more if `rows` (B,) int32 selects from them.
        boxes: (B, 4) float32 x, y, w, h in pixels of the full upright images. An invalid box (w or h not above 0,
            values that are not finite) gives gray, like one completely outside.
        size: side of a crop in pixels.
    """
    boxes = tf.cast(boxes, tf.float64)
    valid = tf.reduce_all(tf.math.is_finite(boxes), 1) & tf.reduce_all(boxes[:, 2:] > 0, 1)
    gray = tf.fill((size, size, 3), tf.constant(GRAY, tf.uint8))

    def cut(number):
        row = number if rows is None else rows[number]
        image = DecodedImage(images.pixels.read(row), images.shrinks[row], images.sizes[row], images.origins[row])
        return tf.cond(valid[number], lambda: _crop(image, boxes[number], size), lambda: gray)

    return tf.map_fn(cut, tf.range(tf.shape(boxes)[0]), fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
                     parallel_iterations=1)


def _crop(image, box, size):
    pixel = CROP_PADDING * tf.maximum(box[2], box[3]) / size  # side of a crop's pixel in the full image
    middle = box[:2] + box[2:] / 2
    positions = (tf.range(size, dtype=tf.float64) - (size - 1) / 2)[:, None] * pixel + middle  # (size, 2) x, y
    shrink = tf.cast(image.shrink, tf.float64)
    positions = (positions - tf.cast(image.origin, tf.float64) - (shrink - 1) / 2) / shrink  # in stored pixels
    steps = [2 ** power for power in range(SHRINK_LIMIT.bit_length() - 1)]
    factor = 2 ** tf.reduce_sum(tf.cast([pixel >= 2 * step for step in steps], tf.int32))
    factor = tf.maximum(factor // image.shrink, 1)
    # As in `images.crop`: two blocks beyond the crop's corners, from a multiple of the factor.
    limits = side_lengths(image.pixels)
    block, last = tf.cast(factor, tf.float64), tf.cast(-(-limits // factor), tf.float64)
    low = factor * tf.cast(tf.clip_by_value(tf.floor(positions[0] / block) - 2, 0, last), tf.int32)
    high = factor * tf.cast(tf.clip_by_value(tf.math.ceil(positions[-1] / block) + 3, 0, last), tf.int32)
    high = tf.minimum(high, limits)

    def sample():
        # Blocks of one pixel, the usual case, need no averaging, which would double the time.
        part = tf.cond(factor == 1, lambda: image.pixels[low[1]:high[1], low[0]:high[0]],
                       lambda: means(image.pixels, low, high, factor))
        return bilinear(part, (positions - tf.cast(low, tf.float64) - (block - 1) / 2) / block)

    return tf.cond(tf.reduce_all(low < high), sample,
                   lambda: tf.fill((size, size, 3), tf.constant(GRAY, tf.uint8)))


def _with_rows(images, kind, rows, image_bytes, headers):
    """Return `images` with those of `rows` decoded that `kind` can read."""
    data = tf.data.Dataset.from_tensor_slices((rows, tf.gather(image_bytes, rows)))
    options = tf.data.Options()  # each costs more than it saves, in every request
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    read = data.map(lambda row, content: (row, kind.read(content))).ignore_errors().with_options(options)
    iterator = iter(read)

    def put(entry, images):
        row, raw = entry.get_value()
        own_header = tf.nest.map_structure(lambda column: column[row], headers)
        shrink = 2 ** _halvings(own_header)
        image = _upright(_finished(kind, raw, shrink), shrink, own_header)
        index = [[row]]
        return DecodedImages(images.pixels.write(tf.cast(row, tf.int32), image.pixels),
                             tf.tensor_scatter_nd_update(images.shrinks, index, [image.shrink]),
                             tf.tensor_scatter_nd_update(images.sizes, index, [image.size]),
                             tf.tensor_scatter_nd_update(images.origins, index, [image.origin]),
                             tf.tensor_scatter_nd_update(images.readable, index, [True]))

    def step(_, images):
        entry = iterator.get_next_as_optional()
        more = entry.has_value()
        return more, tf.cond(more, lambda: put(entry, images), lambda: images)

    return tf.while_loop(lambda more, _: more, step, (tf.constant(True), images), parallel_iterations=1)[1]


def _kinds():
    """Return every way of decoding, in the order of `_kind_of`."""
    jpegs = [_Kind(functools.partial(tf.io.decode_jpeg, channels=3, ratio=shrink, dct_method="INTEGER_ACCURATE"),
                   tf.identity, True) for shrink in _SHRINKS]  # the accurate method is OpenCV's
    # Transparency is read only if the PNG has it: for a PNG of 1 bit TensorFlow would fill it with 1, not 255.
    pngs = [_Kind(functools.partial(tf.io.decode_png, channels=channels, dtype=kind), rgb, False)
            for channels, kind, rgb in ((3, tf.uint8, tf.identity), (3, tf.uint16, to_8_bits), (4, tf.uint8, on_white),
                                        (4, tf.uint16, lambda pixels: on_white(to_8_bits(pixels))))]
    return jpegs + pngs


def _halvings(head):
    """Return, int32, how often to halve the sides of the image of a header (or of a batch of headers)."""
    pixels = head.width * head.height
    return tf.add_n([tf.cast(pixels > STORED_PIXELS * shrink ** 2, tf.int32) for shrink in _SHRINKS[:-1]])


def _kind_of(head):
    """Return, int32, the index in `_kinds` of a header (or of a batch of headers)."""
    png = len(_SHRINKS) + 2 * tf.cast(head.alpha, tf.int32) + tf.cast(head.deep, tf.int32)
    return tf.where(head.png, png, _halvings(head))


def _finished(kind, raw, shrink):
    if kind.shrunk:
        return raw
    sides = side_lengths(raw)
    averaged = functools.partial(means, raw, tf.zeros_like(sides), sides, shrink, kind.rgb)
    if kind.rgb is tf.identity:
        return tf.cond(shrink == 1, lambda: raw, averaged)
    return averaged()


def _upright(pixels, shrink, head):
    """Return the DecodedImage of stored pixels, rotated according to EXIF."""
    turned = head.orientation >= 5
    mirrored = [tf.reduce_any(head.orientation == tf.constant(which, tf.int64))
                for which in ((2, 3, 6, 7), (3, 4, 7, 8))]  # along x, along y, after the rotation
    pixels = tf.cond(turned, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    for axis, mirror in ((1, mirrored[0]), (0, mirrored[1])):
        pixels = tf.cond(mirror, functools.partial(tf.reverse, pixels, [axis]), lambda pixels=pixels: pixels)
    size = tf.cast(tf.stack([head.width, head.height]), tf.int32)
    size = tf.where(turned, tf.reverse(size, [0]), size)
    beyond = shrink * side_lengths(pixels) - size  # by which the last blocks leave the image
    return DecodedImage(pixels, shrink, size, -beyond * tf.cast(tf.stack(mirrored), tf.int32))


def _all_gray(count):
    """Return a TensorArray of one gray pixel for each of `count` images."""
    gray = tf.fill((1, 1, 3), tf.constant(GRAY, tf.uint8))
    pixels = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=_PIXELS.shape, clear_after_read=False)
    return tf.while_loop(lambda row, _: row < count, lambda row, pixels: (row + 1, pixels.write(row, gray)),
                         (0, pixels), parallel_iterations=1)[1]
