"""Images from bytes and arrays, and crops: colors, EXIF rotation, positions of spots."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.errors import InputError
from posecascade.geometry import Affine, Box, crop_transform, shrink_transform
from posecascade.images import ImageFile, crop, decode, from_array, shrink_for, shrunk, to_rgb, warp

# What viewers do with stored pixels, by EXIF orientation (the standard's table, in NumPy).
UPRIGHT = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
           5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
           7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a)}


def encoded(image, suffix=".png", *options):
    return cv2.imencode(suffix, image, options)[1].tobytes()


def scene(height=37, width=52):
    """Return a smooth BGR image that differs in each corner and channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x // width, 255 * y // height, 255 - 127 * x // width - 127 * y // height],
                    -1).astype(np.uint8)


def exif(orientation=1, thumbnail=b""):
    """Return an APP1 segment: TIFF header, one entry (orientation), then any bytes."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0) + thumbnail
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def jpeg(orientation=1, thumbnail=b"", *options):
    data = encoded(scene(), ".jpg", *options)
    return data[:2] + exif(orientation, thumbnail) + data[2:]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied_only_on_request(orientation):
    stored = decode(jpeg(), "a.jpg")
    data = jpeg(orientation)
    np.testing.assert_array_equal(decode(data, "a.jpg"), stored)
    np.testing.assert_array_equal(decode(data, "a.jpg", upright=True), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_rotated_jpeg_can_be_shrunk_while_decoding(shrink):
    result = decode(jpeg(6), "a.jpg", shrink=shrink, upright=True)
    assert result.shape[:2] == (-(-52 // shrink), -(-37 // shrink))


PNG_HEAD = 8 + 25  # signature and IHDR


def test_exif_rotation_of_a_png_is_applied():
    tiff = exif(6)[10:]
    body = b"eXIf" + tiff
    chunk = struct.pack(">I", len(tiff)) + body + struct.pack(">I", zlib.crc32(body))
    plain = encoded(scene())
    data = plain[:PNG_HEAD] + chunk + plain[PNG_HEAD:]
    np.testing.assert_array_equal(decode(data, "a.png"), scene()[..., ::-1])
    np.testing.assert_array_equal(decode(data, "a.png", upright=True), np.rot90(scene()[..., ::-1], -1))


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_jpeg_is_refused_even_with_a_complete_thumbnail(progressive, kept):
    data = jpeg(1, encoded(scene(8, 8), ".jpg"), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    decode(data, "a.jpg")
    with pytest.raises(InputError, match=r"image a.jpg: the JPEG data end too early; copy the file again"):
        decode(data[:int(kept * len(data))], "a.jpg")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_truncated_files_of_other_formats_are_refused(suffix):
    data = encoded(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8), suffix)
    decode(data, "a")
    with pytest.raises(InputError, match=r"^image a: "):
        decode(data[:int(0.9 * len(data))], "a")


def test_bytes_after_the_image_are_ignored():
    data = jpeg(1, encoded(scene(8, 8), ".jpg"))
    np.testing.assert_array_equal(decode(data + b"\0appended by a phone" * 50, "a.jpg"), decode(data, "a.jpg"))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"hello, no image at all", b"\x89PNG\r\n\x1a\n" + bytes(40)],
                         ids=["empty", "jpeg start alone", "text", "png start alone"])
def test_data_that_are_no_image_are_refused_in_one_line(data):
    with pytest.raises(InputError, match=r"^image a/b.png: ") as caught:
        decode(data, "a/b.png")
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.png: cannot be read \(No such file"):
        ImageFile(tmp_path / "none.png").read()
    with pytest.raises(InputError, match="cannot be read"):
        ImageFile(tmp_path).read()


def test_image_file_has_its_name_and_rgb_pixels(tmp_path):
    (tmp_path / "ä b.png").write_bytes(encoded(scene()))
    file = ImageFile(tmp_path / "ä b.png")
    assert file.name == str(tmp_path / "ä b.png")
    np.testing.assert_array_equal(file.read(), scene()[..., ::-1])


@pytest.mark.parametrize("upright", [False, True])
def test_gray_transparent_and_16_bit_pngs_become_rgb(upright):
    gray = scene()[..., 0]
    np.testing.assert_array_equal(decode(encoded(gray), "g.png", upright=upright), np.dstack([gray] * 3))
    wide = np.array([[0, 65535, 257 * 100, 32768]], np.uint16)
    np.testing.assert_array_equal(decode(encoded(wide), "w.png", upright=upright)[..., 0], [[0, 255, 100, 128]])
    wide_color = scene().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(encoded(wide_color), "w.png", upright=upright), scene()[..., ::-1])
    alpha = np.dstack([scene(), np.full(gray.shape, 255, np.uint8)])
    alpha[:5, :, 3], alpha[5:10, :, 3] = 0, 51
    result = decode(encoded(alpha), "t.png", upright=upright)
    np.testing.assert_array_equal(result[:5], 255)
    np.testing.assert_allclose(result[5:10], scene()[5:10, :, ::-1] * 0.2 + 255 * 0.8, atol=0.5)
    np.testing.assert_array_equal(result[10:], scene()[10:, :, ::-1])


def test_arrays_of_all_types_become_the_same_rgb():
    rgb = np.ascontiguousarray(scene()[..., ::-1])
    assert from_array(rgb) is rgb
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    for same in (opaque, rgb.astype(np.uint16) * 257, rgb / 255, (rgb / 255).astype(np.float32), opaque / 255):
        np.testing.assert_array_equal(from_array(same), rgb)
    for gray in (rgb[..., 0], rgb[..., :1]):
        np.testing.assert_array_equal(from_array(gray), np.dstack([rgb[..., 0]] * 3))


@pytest.mark.parametrize(("array", "problem"), [
    (np.zeros((4, 4, 2), np.uint8), "has shape \\(4, 4, 2\\), expected \\(H, W, 3\\) RGB"),
    (np.zeros((0, 4, 3), np.uint8), "has shape \\(0, 4, 3\\)"), (np.zeros(4, np.uint8), "has shape \\(4,\\)"),
    (np.zeros((4, 4, 3), int), "holds int64, expected uint8"),
    (np.full((4, 4, 3), 200.0), "floats up to 200, expected 0..1"),
    (np.full((4, 4, 3), np.nan), "expected 0..1")])
@pytest.mark.filterwarnings("ignore:All-NaN")
def test_other_arrays_are_refused(array, problem):
    with pytest.raises(InputError, match=problem):
        from_array(array)


def test_to_rgb_clips_floats_outside_the_range():
    np.testing.assert_array_equal(to_rgb(np.array([[-1.0, 0.5, 7.0, np.nan]]))[..., 0], [[0, 128, 255, 0]])


def blob(height, width, place, sigma):
    """Return a smooth spot on black at `place`, the same in all channels."""
    y, x = np.mgrid[:height, :width]
    spot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma ** 2))
    return np.rint(np.dstack([spot] * 3)).astype(np.uint8)


def centroid(image, threshold=0):
    weight = np.maximum(image[..., 0].astype(float) - threshold, 0)
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


# Pixels: error of a centroid of an 8-bit spot, over whose dozens of pixels rounding averages out.
MEASURED = 0.05


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(120, 160), (121, 163)])
def test_shrunk_image_agrees_with_shrink_transform(factor, size):
    place = np.array([71.3, 66.8])
    image = blob(*size, place, 12)
    small = shrunk(image, factor)
    assert small.shape[:2] == tuple(-(-side // factor) for side in size)
    np.testing.assert_allclose(centroid(small), shrink_transform(factor)(place), atol=MEASURED)
    decoded = decode(encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100), "a.jpg", shrink=factor)
    assert decoded.shape == small.shape
    np.testing.assert_allclose(centroid(decoded), shrink_transform(factor)(place), atol=2 * MEASURED)


@given(place=st.tuples(st.floats(20, 108), st.floats(20, 108)), side=st.floats(20, 900), rotation=st.floats(-180, 180),
       flip=st.booleans())
@settings(max_examples=60, deadline=None)
def test_crop_agrees_with_its_transform(place, side, rotation, flip):
    box = Box(450 - side / 2.5, 500 - side / 2.5, side / 1.25, side / 1.25)
    transform = crop_transform(box, 128, rotation=rotation, flip=flip)
    on_image = transform.inverse()(np.array(place))
    image = blob(1000, 900, on_image, max(3 / transform.zoom, 1.5))
    result = crop(image, transform, 128)
    # The image is black, the border gray (127): only brighter pixels count.
    rounding = transform.zoom / 64 if cv2.__version__ < "5" else 0  # OpenCV 4 interpolates at 32nds of a pixel
    np.testing.assert_allclose(centroid(result, threshold=130), place, atol=2 * MEASURED + rounding)


def test_crop_equals_the_warp_of_the_complete_image():
    image = np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)
    for box in (Box(100, 120, 80, 60), Box(-30, -20, 90, 90), Box(200, 250, 100, 90)):
        transform = crop_transform(box, 96, rotation=20)
        difference = crop(image, transform, 96).astype(int) - warp(image, transform, 96)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 50_000), (50_000, 2)], ids=str)
@pytest.mark.parametrize("box", [Box(-0.5, -0.5, 1, 1), Box(49_000, 0, 40, 40), Box(0, 0, 50_000, 50_000),
                                 Box(1e7, -1e7, 3, 3), Box(-1e7, -1e7, 1e7, 1e7)], ids=str)
def test_crops_of_thin_and_tiny_images_and_of_distant_boxes_are_gray(shape, box):
    result = crop(np.full((*shape, 3), 127, np.uint8), crop_transform(box, 64), 64)
    assert result.shape == (64, 64, 3)
    assert (result == 127).all()  # gray inside and outside


def test_crop_of_a_fine_pattern_has_no_moire():
    image = np.zeros((1600, 1600, 3), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 200
    result = crop(image, crop_transform(Box(200, 200, 1000, 1000), 64), 64)
    np.testing.assert_allclose(result, 100, atol=1)


@pytest.mark.parametrize("side,factor", [(1, 1), (191, 1), (383, 1), (384, 2), (767, 2), (768, 4), (5000, 8)])
def test_shrink_factor_keeps_at_least_the_final_size(side, factor):
    assert shrink_for(side, 192) == factor


def test_warp_is_gray_outside_the_image():
    assert (warp(np.zeros((4, 4, 3), np.uint8), Affine(np.array([[1.0, 0, 50], [0, 1, 50]])), 8) == 127).all()
