"""Pictures decoded in a graph: pixel for pixel as `graph_images.decode`, and a bad one costs no other its answer."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from image_files import (
    GRAY,
    GRAY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    chunk,
    jpeg,
    jpeg_of,
    png,
    png_of,
    random_png,
    scene,
    segment,
    tiff,
)
from PIL import Image

from posecascade import images
from posecascade.errors import InputError
from posecascade.export.graph import images as graph_images

SIZES = [(1, 1), (1, 7), (13, 5), (301, 203)]  # width, height
PNG_KINDS = ([(depth, GRAY) for depth in (1, 2, 4, 8, 16)] + [(depth, PALETTE) for depth in (1, 2, 4, 8)]
             + [(depth, color) for depth in (8, 16) for color in (RGB, GRAY_ALPHA, RGBA)])


def compiled():
    """`decode_all` as a graph that gives its rows as (readable, shrink, size, origin, pixels)."""
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def run(image_bytes):
        found = graph_images.decode_all(image_bytes)
        pixels = tf.map_fn(lambda row: tf.io.serialize_tensor(found.pixels.read(row)),
                           tf.range(tf.shape(image_bytes)[0]), fn_output_signature=tf.string)
        return found.readable, found.shrinks, found.sizes, found.origins, pixels

    def rows(*files):
        *numbers, pixels = (tensor.numpy() for tensor in run(tf.constant(files, tf.string)))
        return [(*row, tf.io.parse_tensor(data, tf.uint8).numpy()) for *row, data in zip(*numbers, pixels, strict=True)]

    return rows


@pytest.fixture(scope="module")
def decode_all():
    return compiled()


def expected(data):
    """By OpenCV; None where it refuses."""
    try:
        return images.decode(data, "a picture", upright=True)
    except InputError:
        return None


def assert_same(decode_all, files, levels=0):
    """Every file decodes to the pixels that OpenCV finds, up to `levels`, and says its size."""
    for data, (readable, shrink, size, origin, pixels) in zip(files, decode_all(*files), strict=True):
        wanted = expected(data)
        assert readable and shrink == 1 and (origin == 0).all()
        assert pixels.shape == wanted.shape and tuple(size) == wanted.shape[1::-1]
        assert np.abs(pixels.astype(int) - wanted).max() <= levels


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("depth", "color"), PNG_KINDS)
def test_a_png_of_every_kind_is_as_opencv_reads_it(decode_all, rng, depth, color, interlaced):
    transparencies = (False, True) if color in (GRAY, RGB, PALETTE) else (False,)
    assert_same(decode_all, [random_png(*size, depth, color, rng, transparent=transparent, interlaced=interlaced)
                             for size in SIZES for transparent in transparencies])


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 95])
def test_a_jpeg_of_every_kind_is_as_opencv_reads_it(decode_all, rng, progressive, subsampling, quality):
    options = {"progressive": progressive, "quality": quality}
    assert_same(decode_all, [jpeg(scene(*size, rng), subsampling=subsampling, **options) for size in SIZES])
    assert_same(decode_all, [jpeg(scene(*size, rng)[..., 0], **options) for size in SIZES])


def test_a_cmyk_jpeg_differs_by_the_rounding_of_its_conversion(decode_all, rng):
    # OpenCV divides by 256 where TensorFlow divides by 255, and both cut off.
    assert_same(decode_all, [jpeg(Image.fromarray(rng.integers(0, 256, (203, 301, 4), np.uint8), "CMYK"))], levels=2)


@pytest.mark.parametrize("order", [">", "<"], ids=["big-endian", "little-endian"])
@pytest.mark.parametrize("orientation", range(11))
def test_exif_turns_a_picture_as_opencv_does(decode_all, rng, orientation, order):
    block = tiff(orientation, order)
    color, clear = scene(13, 5, rng), rng.integers(0, 256, (5, 13, 4))
    assert_same(decode_all, [
        jpeg(color, segment(b"Exif\0\0" + block)), png(color, 8, RGB, before=chunk(b"eXIf", block)),
        png(color, 8, RGB, after=chunk(b"eXIf", block)), png(color[..., :1], 8, GRAY, before=chunk(b"eXIf", block)),
        png(clear, 8, RGBA, before=chunk(b"eXIf", block))])


def test_exif_is_found_among_other_segments_and_is_cut_where_it_ends(decode_all, rng):
    image = scene(13, 5, rng)
    turned, plain = (segment(b"Exif\0\0" + tiff(orientation)) for orientation in (6, 1))
    xmp, comment = segment(b"http://ns.adobe.com/xap/1.0/\0<x/>"), segment(b"by hand", 0xFE)
    assert_same(decode_all, [jpeg(image, before) for before in (
        xmp + turned, comment + b"\xff" + turned, turned * 2, plain + turned, turned + plain)])
    assert_same(decode_all, [jpeg(image, segment((b"Exif\0\0" + tiff(6))[:length])) for length in range(42)])
    assert_same(decode_all, [jpeg(image, segment(b"Exif\0\0MM\0*" + struct.pack(">IH", start, 0xFFFF)))
                             for start in (0, 8, 2 ** 16, 2 ** 31, 2 ** 32 - 1)])


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_a_picture_of_many_pixels_is_kept_shrunk_as_opencv_shrinks(monkeypatch, rng, shrink):
    monkeypatch.setattr(graph_images, "STORED_PIXELS", 301 * 203 // shrink ** 2 + 1)
    image = scene(301, 203, rng)
    files = [jpeg(image), png(image, 8, RGB), png(image * np.uint16(257), 16, RGB),
             random_png(301, 203, 8, RGBA, rng), random_png(301, 203, 16, GRAY_ALPHA, rng)]
    for data, (readable, found, size, origin, pixels) in zip(files, compiled()(*files), strict=True):
        np.testing.assert_array_equal(pixels, images.decode(data, "a picture", shrink=shrink))
        assert readable and found == shrink and tuple(size) == (301, 203) and (origin == 0).all()


def test_a_turned_picture_that_is_kept_shrunk_says_where_its_blocks_begin(monkeypatch, rng):
    monkeypatch.setattr(graph_images, "STORED_PIXELS", 301 * 203 // 16 + 1)
    files = [png(scene(301, 203, rng), 8, RGB, before=chunk(b"eXIf", tiff(orientation))) for orientation in range(1, 9)]
    for data, (_, shrink, size, origin, pixels) in zip(files, compiled()(*files), strict=True):
        whole = expected(data)
        assert shrink == 4 and tuple(size) == whole.shape[1::-1]
        left, top = origin + 4  # of the second block: the first may be cut, like the last
        height, width = (side - 2 for side in pixels.shape[:2])
        blocks = whole[top:top + 4 * height, left:left + 4 * width].reshape(height, 4, width, 4, 3)
        assert np.abs(blocks.mean((1, 3)) - pixels[1:-1, 1:-1]).max() <= 0.5  # rounding


def damaged(data, rng):
    """One of many ways to lose or change some bytes of a file."""
    found, place = bytearray(data), rng.integers(len(data))
    match rng.integers(5):
        case 0:
            del found[place:]
        case 1:
            del found[place:place + rng.integers(1, 9)]
        case 2:
            found[place:place] = rng.bytes(rng.integers(1, 9))
        case 3:
            found[place] ^= 1 << rng.integers(8)
        case 4:
            found[place:place + 4] = rng.bytes(4)
    return bytes(found)


def test_damaged_files_cost_their_neighbors_nothing(decode_all, rng):
    image = scene(37, 24, rng)
    exif = segment(b"Exif\0\0" + tiff(6))
    whole = [jpeg(image, exif), jpeg(image, exif, progressive=True), png(image, 8, RGB, before=chunk(b"eXIf", tiff(3))),
             random_png(37, 24, 4, PALETTE, rng, transparent=True), random_png(37, 24, 16, RGBA, rng)]
    alone = [decode_all(data)[0][-1] for data in whole]
    for _ in range(40):
        bad = [damaged(data, rng) for data in whole for _ in range(4)] + [rng.bytes(rng.integers(40))]
        found = decode_all(*(file for pair in zip(whole, bad[:5], strict=True) for file in pair), *bad[5:])
        for (readable, *_, pixels), wanted in zip(found[:10:2], alone, strict=True):
            assert readable
            np.testing.assert_array_equal(pixels, wanted)
        for readable, _, size, _, pixels in found:
            assert readable or (pixels.shape == (1, 1, 3) and (pixels == 127).all() and (size == 1).all())


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png"])
def test_a_file_that_ends_early_is_refused_wherever_it_ends(decode_all, rng, name):
    image = scene(13, 5, rng)
    data = png(image, 8, RGB) if name == "png" else jpeg(image, progressive=name == "progressive")
    found = decode_all(*(data[:length] for length in range(len(data))), data, data + b"appended")
    assert [readable for readable, *_ in found] == [False] * len(data) + [True] * 2


def test_nothing_but_bad_files_and_nothing_at_all(decode_all):
    assert [row[0] for row in decode_all(b"", b"none")] == [False, False]
    assert decode_all() == []


GRAPH = tf.function(graph_images.decode, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
HUGE = "the picture has {} x {} pixels, more than 67108864"


@pytest.mark.parametrize(("make", "problem"), [
    (lambda image: b"", "the data are no JPEG or PNG"),
    (lambda image: b"GIF89a, some other picture", "the data are no JPEG or PNG"),
    (lambda image: jpeg(image)[:-9], "the JPEG data are damaged or end too early"),
    (lambda image: jpeg_of(8, 0, image), "the JPEG data are damaged or end too early"),
    (lambda image: png(image, 8, RGB)[:40], "the PNG data are damaged or end too early"),
    (lambda image: png_of(0, 8, 8, RGB, b""), "the PNG data are damaged or end too early"),
    (lambda image: png(image, 8, RGB)[:-20], "Invalid PNG data"),  # TensorFlow's own words
    (lambda image: jpeg_of(65_000, 65_001, image), HUGE.format(65_000, 65_001)),
    (lambda image: png_of(30_000, 30_001, 8, RGB, zlib.compress(bytes(10 ** 6))), HUGE.format(30_000, 30_001)),
    (lambda image: png_of(2 ** 32 - 1, 2 ** 32 - 1, 1, GRAY, b""), HUGE.format(2 ** 32 - 1, 2 ** 32 - 1)),
], ids=["nothing", "another kind", "cut JPEG", "JPEG without rows", "cut PNG", "PNG without columns", "cut pixels",
        "huge JPEG", "huge PNG", "PNG beyond all numbers"])
@pytest.mark.parametrize("run", [graph_images.decode, GRAPH], ids=["eager", "graph"])
def test_decode_says_what_is_wrong(rng, make, problem, run):
    with pytest.raises(tf.errors.InvalidArgumentError, match=problem):
        run(tf.constant(make(scene(13, 5, rng))))


def test_decode_gives_what_decode_all_gives(decode_all, rng):
    data = jpeg(scene(13, 5, rng), segment(b"Exif\0\0" + tiff(6)))
    found = graph_images.decode(tf.constant(data))
    for wanted, tensor in zip(decode_all(data)[0][1:], (found.shrink, found.size, found.origin, found.pixels),
                              strict=True):
        np.testing.assert_array_equal(tensor, wanted)


# A marker without a length, bytes between segments, a length that is none: libjpeg steps over each in its own way, so
# something could stand behind it that one of the two walks does not see. After the first, a length read from what
# follows (0xFFE1) leads to the next segment.
@pytest.mark.parametrize("decoy", [b"\xff\xd0" + segment(bytes(0xFFE1 - 4)), b"\xff\x01" + segment(bytes(0xFFE1 - 4)),
                                   b"\0\0\0", b"\xff\0", b"\xff\xe1\0\1", b"\xff\xe1\0\0"],
                         ids=["restart", "temporary", "bytes", "stuffed", "length 1", "length 0"])
def test_a_header_that_libjpeg_would_walk_otherwise_is_refused(decode_all, rng, decoy):
    image = scene(13, 5, rng)
    found = decode_all(jpeg(image, decoy), jpeg(image, decoy + segment(bytes(9))), jpeg(image))
    assert [readable for readable, *_ in found] == [False, False, True]
