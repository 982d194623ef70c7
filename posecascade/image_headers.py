"""Read an image's size and EXIF rotation from its header, without decoding it."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from posecascade import image_formats
from posecascade.files import read_bytes
from posecascade.geometry import Affine

HEAD = 2 ** 16  # bytes: the header of nearly every JPEG file
_SWAPPING = (5, 6, 7, 8)  # orientations that exchange width and height
# Orientation -> signs of stored x and y in upright x and y, for those without and with an exchange of the axes.
_LINEAR = {1: [[1, 0], [0, 1]], 2: [[-1, 0], [0, 1]], 3: [[-1, 0], [0, -1]], 4: [[1, 0], [0, -1]],
           5: [[0, 1], [1, 0]], 6: [[0, -1], [1, 0]], 7: [[0, -1], [-1, 0]], 8: [[0, 1], [-1, 0]]}


@dataclass(frozen=True)
class Header:
    """Size and rotation of an image file.

    Attributes:
        stored: width and height of the stored pixels.
        orientation: value of the EXIF tag, 1 to 8; 1 is upright.
    """

    stored: tuple[int, int]
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Return width and height of the image as viewers show it.

        >>> Header((640, 480), orientation=6).upright
        (480, 640)
        """
        return self.stored[::-1] if self.orientation in _SWAPPING else self.stored

    def to_upright(self) -> Affine:
        """Return the map from stored pixels to those of the upright image.

        >>> Header((640, 480), orientation=6).to_upright()([[0, 0], [639, 0]]).tolist()
        [[479.0, 0.0], [479.0, 639.0]]
        """
        linear = np.array(_LINEAR[self.orientation], np.float64)
        last = np.array(self.upright) - 1.0
        return Affine(np.column_stack([linear, np.where(linear.sum(1) < 0, last, 0.0)]))


def read_header(path: Path) -> Header | None:
    """Return the header of an image file, None if its kind is unknown or the header is damaged.

    Raises InputError if the file cannot be read.
    """
    data = read_bytes(path, "image", HEAD)
    header = image_header(data) if _is_jpeg(data) else None  # other kinds may hold the rotation at their end
    return header or image_header(data if len(data) < HEAD else read_bytes(path, "image"))


def image_header(data: bytes) -> Header | None:
    """Return the header in the bytes of an image file, as `images.decode` applies it; None if it is unknown."""
    if not _is_jpeg(data):
        return _other(data)
    size, orientation = jpeg_facts(data)
    return Header((size[1], size[0]), orientation) if size else None


def jpeg_facts(data: bytes) -> tuple[tuple[int, int] | None, int]:
    """Return (height, width) in stored pixels, None if `data` is no JPEG, and the EXIF orientation (1: upright)."""
    size, orientation = None, 1
    for marker, start, end in jpeg_segments(data) if data[:2] == b"\xff\xd8" else ():
        body = data[start:end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:  # start of frame
            size = (int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"))
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = _orientation(body[6:])
    return size, orientation


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG file's header; the start of scan (0xDA) is the last.

    `data[start:end]` is the segment's content. It ends early, without an error, if the header is damaged.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2:at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, at + 4, end
        if marker == 0xDA:
            return
        at = end


def _is_jpeg(data):
    return data[:3] == b"\xff\xd8\xff"


def _orientation(tiff: bytes) -> int:
    """Return tag 0x0112 of the first directory of an EXIF block; 1 if it is missing or invalid."""
    orders: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
    order = orders.get(tiff[:2])
    if order is None:
        return 1
    start = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[start:start + 2], order)
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        if int.from_bytes(tiff[entry:entry + 2], order) == 0x0112:
            value = int.from_bytes(tiff[entry + 8:entry + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _other(data: bytes) -> Header | None:
    """Return the header of another kind of image than JPEG, by Pillow."""
    try:
        with image_formats.WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about huge images, which are not decoded here, and damaged EXIF data
            image = image_formats.opened(data)
            # Pillow would decode a PNG to search behind its pixels; the rotation is before them.
            read = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(0x0112, 1) if read else 1
    except image_formats.DAMAGED:
        return None
    if image.format == "TIFF":  # libtiff turns the pixels itself, whether asked or not
        stored = image.tag_v2[256], image.tag_v2[257]
        return Header(Header(stored, orientation if orientation in _LINEAR else 1).upright)
    return Header(image.size, orientation if orientation in _LINEAR else 1)
