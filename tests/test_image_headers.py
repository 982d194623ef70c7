"""The sizes and rotations in headers are those of the decoded images, and rotation maps pixels where decoding does."""

import io

import numpy as np
import pytest
from PIL import Image

from posecascade.errors import InputError
from posecascade.image_headers import HEAD, Header, image_header, read_header
from posecascade.images import decode

WIDTH, HEIGHT = 24, 10


def encoded(kind="PNG", orientation=1, mode="RGB", **options):
    """Return an image file with a white spot near its stored top left corner, and that EXIF orientation."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[2, 5] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_sizes_are_those_of_the_decoded_image(kind, orientation, mode):
    data = encoded(kind, orientation, mode)
    header = image_header(data)
    assert header.stored == decode(data, kind).shape[1::-1]
    assert header.upright == decode(data, kind, upright=True).shape[1::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_pixels_are_mapped_to_where_decoding_turns_them(orientation):
    data = encoded("PNG", orientation)
    spot = np.argwhere(decode(data, "a", upright=True)[..., 0])[0, ::-1]
    header = image_header(data)
    np.testing.assert_allclose(header.to_upright()([5, 2]), spot)
    np.testing.assert_allclose(header.to_upright().inverse()(spot), [5, 2])


def test_header_behind_long_segments_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG", 6, icc_profile=bytes(2 * HEAD)))
    assert read_header(path) == Header((WIDTH, HEIGHT), 6)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_unknown_and_damaged_headers_are_none(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert read_header(tmp_path / "a") is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM"])
def test_truncated_headers_raise_nothing(kind):
    data = encoded(kind) if kind not in ("BMP", "PPM") else encoded(kind, 1)
    for length in range(0, len(data), 5):
        image_header(data[:length])


def test_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"image .*none\.jpg: cannot be read"):
        read_header(tmp_path / "none.jpg")
