"""Images decoded in a graph have the pixels of `images.decode`, and damaged ones do not affect the others."""

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
    """Return `decode_all` as a graph whose rows are (readable, shrink, size, origin, pixels)."""
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def run(image_bytes):
        decoded = graph_images.decode_all(image_bytes)
        pixels = tf.map_fn(lambda row: tf.io.serialize_tensor(decoded.pixels.read(row)),
                           tf.range(tf.shape(image_bytes)[0]), fn_output_signature=tf.string)
        return decoded.readable, decoded.shrinks, decoded.sizes, decoded.origins, pixels

    def rows(*files):
        *numbers, pixels = (tensor.numpy() for tensor in run(tf.constant(files, tf.string)))
        return [(*row, tf.io.parse_tensor(data, tf.uint8).numpy()) for *row, data in zip(*numbers, pixels, strict=True)]

    return rows


@pytest.fixture(scope="module")
def decode_all():
    return compiled()


def expected(data):
    """Return the pixels by OpenCV, None if it refuses the data."""
    try:
        return images.decode(data, "an image", upright=True)
    except InputError:
        return None


def assert_same(decode_all, files, levels=0):
    """Assert that every file decodes to OpenCV's pixels, within `levels`, and has their size."""
    for data, (readable, shrink, size, origin, pixels) in zip(files, decode_all(*files), strict=True):
        reference = expected(data)
        assert readable and shrink == 1 and (origin == 0).all()
        assert pixels.shape == reference.shape and tuple(size) == reference.shape[1::-1]
        assert np.abs(pixels.astype(int) - reference).max() <= levels


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("depth", "color"), PNG_KINDS)
def test_every_kind_of_png_agrees_with_opencv(decode_all, rng, depth, color, interlaced):
    transparencies = (False, True) if color in (GRAY, RGB, PALETTE) else (False,)
    assert_same(decode_all, [random_png(*size, depth, color, rng, transparent=transparent, interlaced=interlaced)
                             for size in SIZES for transparent in transparencies])


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 95])
def test_every_kind_of_jpeg_agrees_with_opencv(decode_all, rng, progressive, subsampling, quality):
    options = {"progressive": progressive, "quality": quality}
    assert_same(decode_all, [jpeg(scene(*size, rng), subsampling=subsampling, **options) for size in SIZES])
    assert_same(decode_all, [jpeg(scene(*size, rng)[..., 0], **options) for size in SIZES])


def test_cmyk_jpeg_differs_by_rounding(decode_all, rng):
    # OpenCV divides by 256, TensorFlow by 255, and both truncate.
    assert_same(decode_all, [jpeg(Image.fromarray(rng.integers(0, 256, (203, 301, 4), np.uint8), "CMYK"))], levels=2)


@pytest.mark.parametrize("order", [">", "<"], ids=["big-endian", "little-endian"])
@pytest.mark.parametrize("orientation", range(11))
def test_exif_rotation_agrees_with_opencv(decode_all, rng, orientation, order):
    block = tiff(orientation, order)
    color, clear = scene(13, 5, rng), rng.integers(0, 256, (5, 13, 4))
    assert_same(decode_all, [
        jpeg(color, segment(b"Exif\0\0" + block)), png(color, 8, RGB, before=chunk(b"eXIf", block)),
        png(color, 8, RGB, after=chunk(b"eXIf", block)), png(color[..., :1], 8, GRAY, before=chunk(b"eXIf", block)),
        png(clear, 8, RGBA, before=chunk(b"eXIf", block))])


def test_exif_among_other_segments_and_truncated_exif(decode_all, rng):
    image = scene(13, 5, rng)
    rotated, plain = (segment(b"Exif\0\0" + tiff(orientation)) for orientation in (6, 1))
    xmp, comment = segment(b"http://ns.adobe.com/xap/1.0/\0<x/>"), segment(b"by hand", 0xFE)
    assert_same(decode_all, [jpeg(image, before) for before in (
        xmp + rotated, comment + b"\xff" + rotated, rotated * 2, plain + rotated, rotated + plain)])
    assert_same(decode_all, [jpeg(image, segment((b"Exif\0\0" + tiff(6))[:length])) for length in range(42)])
    assert_same(decode_all, [jpeg(image, segment(b"Exif\0\0MM\0*" + struct.pack(">IH", start, 0xFFFF)))
                             for start in (0, 8, 2 ** 16, 2 ** 31, 2 ** 32 - 1)])


@pytest.mark.parametrize("shrink", [2, 8])  # 4: test_export_image_crops
def test_large_image_is_stored_shrunk_like_opencv(monkeypatch, rng, shrink):
    monkeypatch.setattr(graph_images, "STORED_PIXELS", 301 * 203 // shrink ** 2 + 1)
    image = scene(301, 203, rng)
    files = [jpeg(image), png(image, 8, RGB), png(image * np.uint16(257), 16, RGB),
             random_png(301, 203, 8, RGBA, rng), random_png(301, 203, 16, GRAY_ALPHA, rng)]
    for data, (readable, factor, size, origin, pixels) in zip(files, compiled()(*files), strict=True):
        np.testing.assert_array_equal(pixels, images.decode(data, "an image", shrink=shrink))
        assert readable and factor == shrink and tuple(size) == (301, 203) and (origin == 0).all()


def test_shrunk_and_rotated_image_has_the_origin_of_its_blocks(monkeypatch, rng):
    monkeypatch.setattr(graph_images, "STORED_PIXELS", 301 * 203 // 16 + 1)
    files = [png(scene(301, 203, rng), 8, RGB, before=chunk(b"eXIf", tiff(orientation))) for orientation in range(1, 9)]
    for data, (_, shrink, size, origin, pixels) in zip(files, compiled()(*files), strict=True):
        full = expected(data)
        assert shrink == 4 and tuple(size) == full.shape[1::-1]
        left, top = origin + 4  # of the second block: the first may be cut, like the last
        height, width = (side - 2 for side in pixels.shape[:2])
        blocks = full[top:top + 4 * height, left:left + 4 * width].reshape(height, 4, width, 4, 3)
        assert np.abs(blocks.mean((1, 3)) - pixels[1:-1, 1:-1]).max() <= 0.5  # rounding


def damaged(data, rng):
    """Return the data with some bytes lost or changed at random."""
    changed, at = bytearray(data), rng.integers(len(data))
    match rng.integers(5):
        case 0:
            del changed[at:]
        case 1:
            del changed[at:at + rng.integers(1, 9)]
        case 2:
            changed[at:at] = rng.bytes(rng.integers(1, 9))
        case 3:
            changed[at] ^= 1 << rng.integers(8)
        case 4:
            changed[at:at + 4] = rng.bytes(4)
    return bytes(changed)


def test_damaged_files_do_not_affect_the_others(decode_all, rng):
    image = scene(37, 24, rng)
    exif = segment(b"Exif\0\0" + tiff(6))
    intact = [jpeg(image, exif), jpeg(image, exif, progressive=True),
              png(image, 8, RGB, before=chunk(b"eXIf", tiff(3))),
              random_png(37, 24, 4, PALETTE, rng, transparent=True), random_png(37, 24, 16, RGBA, rng)]
    alone = [decode_all(data)[0][-1] for data in intact]
    for _ in range(40):
        bad = [damaged(data, rng) for data in intact for _ in range(4)] + [rng.bytes(rng.integers(40))]
        rows = decode_all(*(file for pair in zip(intact, bad[:5], strict=True) for file in pair), *bad[5:])
        for (readable, *_, pixels), reference in zip(rows[:10:2], alone, strict=True):
            assert readable
            np.testing.assert_array_equal(pixels, reference)
        for readable, _, size, _, pixels in rows:
            assert readable or (pixels.shape == (1, 1, 3) and (pixels == 127).all() and (size == 1).all())


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png"])
def test_truncated_file_is_refused(decode_all, rng, name):
    image = scene(13, 5, rng)
    data = png(image, 8, RGB) if name == "png" else jpeg(image, progressive=name == "progressive")
    rows = decode_all(*(data[:length] for length in range(len(data))), data, data + b"appended")
    assert [readable for readable, *_ in rows] == [False] * len(data) + [True] * 2


def test_only_bad_files_and_no_files(decode_all):
    assert [row[0] for row in decode_all(b"", b"none")] == [False, False]
    assert decode_all() == []


GRAPH = tf.function(graph_images.decode, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
HUGE = "the picture has {} x {} pixels, more than 67108864"


@pytest.mark.parametrize(("make", "problem"), [
    (lambda image: b"", "the data are no JPEG or PNG"),
    (lambda image: b"GIF89a, another image", "the data are no JPEG or PNG"),
    (lambda image: jpeg(image)[:-9], "the JPEG data are damaged or end too early"),
    (lambda image: jpeg_of(8, 0, image), "the JPEG data are damaged or end too early"),
    (lambda image: png(image, 8, RGB)[:40], "the PNG data are damaged or end too early"),
    (lambda image: png_of(0, 8, 8, RGB, b""), "the PNG data are damaged or end too early"),
    (lambda image: png(image, 8, RGB)[:-20], "Invalid PNG data"),  # TensorFlow's own message
    (lambda image: jpeg_of(65_000, 65_001, image), HUGE.format(65_000, 65_001)),
    (lambda image: png_of(30_000, 30_001, 8, RGB, zlib.compress(bytes(10 ** 6))), HUGE.format(30_000, 30_001)),
    (lambda image: png_of(2 ** 32 - 1, 2 ** 32 - 1, 1, GRAY, b""), HUGE.format(2 ** 32 - 1, 2 ** 32 - 1)),
], ids=["nothing", "another kind", "cut JPEG", "JPEG without rows", "cut PNG", "PNG without columns", "cut pixels",
        "huge JPEG", "huge PNG", "PNG beyond all numbers"])
@pytest.mark.parametrize("run", [graph_images.decode, GRAPH], ids=["eager", "graph"])
def test_decode_refuses_bad_data(rng, make, problem, run):
    with pytest.raises(tf.errors.InvalidArgumentError, match=problem):
        run(tf.constant(make(scene(13, 5, rng))))


def test_decode_agrees_with_decode_all(decode_all, rng):
    data = jpeg(scene(13, 5, rng), segment(b"Exif\0\0" + tiff(6)))
    image = graph_images.decode(tf.constant(data))
    for value, tensor in zip(decode_all(data)[0][1:], (image.shrink, image.size, image.origin, image.pixels),
                              strict=True):
        np.testing.assert_array_equal(tensor, value)


# A marker without a length, bytes between segments, an invalid length: libjpeg skips each in its own way, so one of the
# two walks could miss a segment behind it. After the first, a length read from the next bytes (0xFFE1) leads to the
# next segment.
@pytest.mark.parametrize("decoy", [b"\xff\xd0" + segment(bytes(0xFFE1 - 4)), b"\xff\x01" + segment(bytes(0xFFE1 - 4)),
                                   b"\0\0\0", b"\xff\0", b"\xff\xe1\0\1", b"\xff\xe1\0\0"],
                         ids=["restart", "temporary", "bytes", "stuffed", "length 1", "length 0"])
def test_header_with_other_segments_for_libjpeg_is_refused(decode_all, rng, decoy):
    image = scene(13, 5, rng)
    rows = decode_all(jpeg(image, decoy), jpeg(image, decoy + segment(bytes(9))), jpeg(image))
    assert [readable for readable, *_ in rows] == [False, False, True]
