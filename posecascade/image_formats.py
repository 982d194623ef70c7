"""Recognize images and videos by their first bytes, and read by Pillow what OpenCV does not read."""

import functools
import io
import threading
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np

from posecascade.errors import InputError

HEAD = 400  # bytes that `kind_of` looks at: two packets of an MPEG transport stream
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".jp2",
            ".avif", ".heic", ".heif", ".hif")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".ts",
                  ".3gp", ".flv", ".ogv")
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8", b"\0\0\0\x0cjP",
           b"\xff\x4f\xff\x51", b"\x76\x2f\x31\x01", b"#?R", b"\x59\xa6\x6a\x95", b"8BPS", b"\xff\x0a",
           b"\0\0\0\x0cJXL")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1")
_STILLS = (*_HEIF, b"avif", b"avis")
_VIDEOS = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"FLV", b"OggS", b"\0\0\x01\xba",
           b"\0\0\x01\xb3", b".RMF", b"\x06\x0e\x2b\x34", b"YUV4MPEG2", b"\0\0\0\x01\x67", b"\0\0\0\x01\x40")

# What Pillow raises for damaged and unknown files; SyntaxError is its own choice for broken headers.
DAMAGED = (OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError, OverflowError, MemoryError)
WARNINGS = threading.RLock()  # Python's filters of warnings belong to the process


def kind_of(head: bytes) -> str:
    """Return "image", "video" or "" for the first HEAD bytes of a file.

    >>> kind_of(b"GIF89a"), kind_of(b"\\0\\0\\0\\x18ftypisom"), kind_of(b"GIFs of cats")
    ('image', 'video', '')
    """
    if head[4:8] == b"ftyp":
        return "image" if head[8:12] in _STILLS else "video"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image", b"AVI ": "video"}.get(head[8:12], "")
    bitmap = head[:2] == b"BM" and head[6:10] == bytes(4)
    netpbm = head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace()
    if head.startswith(_IMAGES) or bitmap or netpbm:
        return "image"
    stream = any(len(head) > first + step and head[first] == head[first + step] == 0x47
                 for first, step in ((0, 188), (4, 192)))
    return "video" if stream or head.startswith(_VIDEOS) or head[4:8] in (b"moov", b"mdat", b"wide") else ""


def kind_of_file(path: Path) -> str:
    """Return "image", "video" or "" for a file: by its first bytes, then by its name; a GIF that moves is a video.

    A file that is no ordinary one (a pipe) is not read, since what is read from it is gone.
    """
    head = b""
    if path.is_file():
        try:
            with open(path, "rb") as file:
                head = file.read(HEAD)
        except OSError:
            head = b""  # reported when the image is read
    suffix = path.suffix.lower()
    if head[:4] == b"GIF8":
        return "video" if frame_count(path) > 1 else "image"
    return kind_of(head) or ("image" if suffix in SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else "")


def frame_count(path: Path) -> int:
    """Return the number of images in a file, by its headers; 1 if it is a JPEG or cannot be read."""
    try:
        with open(path, "rb") as file, WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jpeg = file.read(3) == b"\xff\xd8\xff"
            file.seek(0)
            return 1 if jpeg else int(getattr(opened(file), "n_frames", 1))
    except DAMAGED:
        return 1


def opened(source: bytes | IO[bytes]) -> Any:
    """Return the Pillow image of bytes or a file, not yet decoded. Raises one of DAMAGED if it is none."""
    from PIL import Image  # not at the top: JPEG files, which nearly all images are, do not need it

    _register_heif()
    with WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about huge images, and damaged EXIF data
        try:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        except Image.DecompressionBombError as error:
            raise OSError(str(error)) from None
    if image.format in ("EPS", "WMF"):  # Pillow would start other programs
        raise OSError(image.format)
    return image


def decoded(data: bytes, name: str, upright: bool) -> np.ndarray:
    """Return the first image in the bytes, by Pillow, as `array_of` does. Raises InputError with `name`."""
    try:
        with WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return array_of(opened(data), upright)
    except InputError as error:
        raise InputError(f"image {name}: {error}") from None
    except DAMAGED:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF and not _register_heif():
            raise InputError(f"image {name}: is HEIC, which needs the package pillow-heif; python -m pip install "
                             "pillow-heif, or save it again as JPEG or PNG") from None
        raise InputError(f"image {name}: is not an image that can be decoded; save it again as JPEG or PNG") from None


def array_of(image: Any, upright: bool = True) -> np.ndarray:
    """Return a Pillow image as gray, RGB or RGBA that `images.from_array` accepts, by Pillow's own conversions.

    Raises InputError if its mode has no defined colors.
    """
    from PIL import ImageOps

    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F", "LAB"):
        raise InputError(f"has Pillow's mode {image.mode!r}, whose range of values is not defined; expected RGB. "
                         "Convert it, such as by image.convert('RGB')")
    transparent = image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def is_pillow(image: object) -> bool:
    """Return whether the object is a Pillow image."""
    return hasattr(image, "getexif") and hasattr(image, "convert")


@functools.cache
def _register_heif() -> bool:
    """Make Pillow read HEIC if pillow-heif is installed; return whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
