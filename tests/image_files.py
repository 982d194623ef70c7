"""Helper: the bytes of small image files of every kind, for tests of the graph's image decoding."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG's color types
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
# The passes of an interlaced PNG: first x and y, steps in x and y.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def scene(width, height, rng, grain=4):
    """Return (height, width, 3) uint8 RGB: smooth noise whose spots are `grain` pixels wide."""
    coarse = rng.integers(0, 256, (height // grain + 3, width // grain + 3, 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, None, fx=grain, fy=grain, interpolation=cv2.INTER_CUBIC)[
        grain:grain + height, grain:grain + width])


def tiff(orientation, order=">"):
    """Return an EXIF block: an entry of another tag, then the orientation; `order` is the byte order."""
    mark = {">": b"MM", "<": b"II"}[order]
    other, own = (struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
                  for tag, value in ((0x0106, 2), (0x0112, orientation)))
    return mark + struct.pack(order + "HIH", 42, 8, 2) + other + own + bytes(4)


def segment(body, marker=0xE1):
    """Return a segment of a JPEG; by default APP1."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(image, before=b"", **options):
    """Return a JPEG of an RGB or gray array or a PIL image; `before` holds segments to insert after its start."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "JPEG", **options)
    data = file.getvalue()
    return data[:2] + before + data[2:]


def jpeg_of(width, height, image):
    """Return a JPEG whose header has another size than its data."""
    data = jpeg(image)
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4:]


def chunk(kind, body):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, depth, color, *, before=b"", after=b"", interlaced=False):
    """Return a PNG of `samples` (h, w, channels), below 2**depth; `before` and `after` are chunks around the pixels."""
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    rows = b"".join(b"\0" + _packed(row, depth) for part in passes if part.size for row in part)
    return png_of(samples.shape[1], samples.shape[0], depth, color, zlib.compress(rows), before, after, interlaced)


def png_of(width, height, depth, color, compressed, before=b"", after=b"", interlaced=False):
    """Return a PNG with this header, whatever its compressed data hold."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", compressed) + after
            + chunk(b"IEND", b""))


def random_png(width, height, depth, color, rng, *, transparent=False, interlaced=False):
    """Return a PNG of random samples; `transparent` adds a tRNS chunk that some samples match."""
    samples = rng.integers(0, 2 ** depth, (height, width, CHANNELS[color]))
    before = b""
    if color == PALETTE:
        before = chunk(b"PLTE", rng.bytes(3 * 2 ** depth))
    if transparent:
        one = samples[0, 0].astype(">u2").tobytes()
        before += chunk(b"tRNS", rng.bytes(2 ** depth) if color == PALETTE else one)
    return png(samples, depth, color, before=before, interlaced=interlaced)


def _packed(row, depth):
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = row.reshape(-1, 1) >> np.arange(depth)[::-1] & 1
    return np.packbits(bits).tobytes()
