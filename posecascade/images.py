"""Read, convert, shrink and warp images: any depth and channel count, EXIF rotation, huge files."""

import os
from dataclasses import dataclass
from pathlib import Path

# Larger images are refused before memory is allocated: OpenCV's own limit is 2**30 pixels. Read on cv2's first import.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2 ** 30))
# Our InputError replaces what OpenCV would print about a damaged image; also read on the first import.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
import cv2
import numpy as np

from posecascade import image_formats
from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.geometry import Affine, shrink_transform
from posecascade.image_headers import image_header, jpeg_segments, read_header

SHRINK_LIMIT = 64  # times, in `crop`: beyond it, padding to complete blocks would distort a thin image
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


@dataclass(frozen=True)
class ImageFile:
    """An image on disk, and the frame that its labels count pixels in.

    Attributes:
        path: the file.
        upright: labels count pixels of the image rotated by its EXIF tag, as viewers show it; False: stored pixels.
        size: width and height of the image that was labeled, if they are known. `read` refuses an image that has this
            size neither upright nor stored.
        by_size: `size` overrules `upright` if the image has this size in the other frame alone.
        tried: where the image was looked for; "" if it was found.
    """

    path: Path
    upright: bool = False
    size: tuple[int, int] | None = None
    by_size: bool = False
    tried: str = ""

    @property
    def name(self) -> str:
        """Return the path as given."""
        return str(self.path)

    def read(self, shrink: int = 1) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB in the labels' frame; `shrink` in 1, 2, 4, 8 divides both sides (rounded up).

        Raises InputError if the file is missing, cannot be decoded or does not have the size that was labeled.
        """
        if self.tried and not self.path.is_file():
            raise InputError(f"image {self.path}: is missing; {self.tried}")
        data = read_bytes(self.path, "image")
        if self.size is None:
            return decode(data, self.name, shrink=shrink, upright=self.upright)
        header = image_header(data)
        if header:
            upright = self.is_upright(header.stored, header.upright)
            image = decode(data, self.name, shrink=shrink, upright=upright)
            size = header.upright if upright else header.stored
            if image.shape[1::-1] == tuple(-(-side // shrink) for side in size):
                return image
        # An unknown kind of file, or the decoder reads another rotation than the header says: compare decoded sizes.
        stored, turned = (decode(data, self.name, upright=upright) for upright in (False, True))
        return shrunk(turned if self.is_upright(_size(stored), _size(turned)) else stored, shrink)

    def is_upright(self, stored: tuple[int, int], upright: tuple[int, int]) -> bool:
        """Return whether the labels count upright pixels, for the sizes (width, height) of the file in both frames.

        Raises InputError if neither is the size that was labeled.
        """
        own, other = (upright, stored) if self.upright else (stored, upright)
        if self.size in (None, own):
            return self.upright
        if self.size == other:
            return self.upright is not self.by_size
        raise InputError(self._wrong_size(stored, upright))

    def to_upright(self) -> Affine | None:
        """Return the map from the labels' pixels to those of the upright image; None if they are the same.

        Reads the file's header only; a file that is missing or of an unknown kind is taken as upright. Raises
        InputError if the file does not have the size that was labeled.
        """
        if self.upright and self.size is None:
            return None
        header = read_header(self.path) if self.path.is_file() else None
        if not header or self.is_upright(header.stored, header.upright) or header.orientation == 1:
            return None
        return header.to_upright()

    def _wrong_size(self, stored, upright):
        width, height = self.size or (0, 0)
        turned = f", {_by(stored)} as stored" if stored != upright else ""
        factor = scale_factor((width, height), upright) or scale_factor((width, height), stored)
        if factor:
            fix = (f"It was scaled by {factor:.4g}: give the original image, or add resized=yes to scale the labels "
                   "(coco:FILE#resized=yes)")
        elif (height, width) == upright:
            fix = "It was rotated after labeling, or the list exchanges the two: give the original image, or correct it"
        else:
            fix = "Give the image that was labeled, or correct its width and height in the list"
        return (f"image {self.path}: is {_by(upright)} pixels{turned}; expected {_by((width, height))}, the size given "
                f"with its labels (images[].width and height). {fix}")


def scale_factor(labeled: tuple[int, int], found: tuple[int, int]) -> float | None:
    """Return by what an image of the size `labeled` (width, height) was scaled to `found`; None if sides disagree.

    Sides agree within the pixel that is lost in rounding.

    >>> scale_factor((640, 480), (320, 240)), scale_factor((640, 427), (300, 200)), scale_factor((640, 480), (480, 640))
    (0.5, 0.46875, None)
    """
    factors = [side / given for side, given in zip(found, labeled, strict=True)]
    fits = any(all(abs(side - given * factor) <= 1 for side, given in zip(found, labeled, strict=True))
               for factor in factors)
    return factors[0] if fits else None


def _size(image):
    return image.shape[1::-1]


def _by(size):
    return "{} x {}".format(*size)


def decode(data: bytes, name: str, *, shrink: int = 1, upright: bool = False) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB from the bytes of an image file.

    Gray is repeated, transparency is blended with white, 16 bits are scaled to 8 by the full range.
    Raises InputError with `name` if the data are not an image or end too early.
    """
    if data[:3] == b"\xff\xd8\xff":
        if not _is_complete_jpeg(data):  # libjpeg would only warn, and fill the missing rows with gray
            raise InputError(f"image {name}: the JPEG data end too early; copy the file again")
        flags = _REDUCED.get(shrink, cv2.IMREAD_COLOR) | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
        return cv2.cvtColor(_decoded(data, flags, name), cv2.COLOR_BGR2RGB)
    image = None if data[4:8] == b"ftyp" else _by_opencv(data, cv2.IMREAD_UNCHANGED)[0]
    if image is None:  # the rotation of HEIC and AVIF is not in EXIF alone: Pillow knows it
        return shrunk(from_array(image_formats.decoded(data, name, upright)), shrink)
    if upright and image.shape[2:] != (4,):  # IMREAD_UNCHANGED keeps transparency but ignores EXIF
        image = _decoded(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, name)
    elif upright and (header := image_header(data)):
        image = _turned(image, header.orientation)
    return shrunk(to_rgb(image), shrink)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB from OpenCV's gray, BGR or BGRA image of 8 or 16 bits or float in 0..1."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the image with both sides divided by `factor` (rounded up), blocks averaged; itself if `factor` is 1.

    >>> shrunk(np.array([[[0] * 3, [90] * 3, [7] * 3]], np.uint8), 2)[..., 0].tolist()
    [[45, 7]]
    """
    if factor == 1:
        return image
    height, width = (-(-side // factor) for side in image.shape[:2])
    padded = cv2.copyMakeBorder(image, 0, height * factor - image.shape[0], 0, width * factor - image.shape[1],
                                cv2.BORDER_REPLICATE)  # so that every cell averages a complete block
    return cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)


def warp(image: np.ndarray, transform: Affine, size: int) -> np.ndarray:
    """Return `size` x `size` pixels of the image mapped by `transform`, bilinear, gray outside the image.

    Training, evaluation and prediction all use this function. The backbones' normalization maps gray (127) to 0.
    """
    return cv2.warpAffine(image, transform.matrix, (size, size), flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_CONSTANT, borderValue=(127, 127, 127))


def crop(image: np.ndarray, transform: Affine, size: int) -> np.ndarray:
    """Return a crop as `warp` does; if the image has at least twice its resolution, from a copy shrunk 2, 4, ... times.

    Training makes the same crop while decoding. Only the part of the image that the crop shows is read, so a huge
    image costs no more than its crop, and its sides may exceed OpenCV's limit of 32767 px.

    Args:
        image: (H, W, 3) uint8 RGB.
        transform: from its pixels to those of the crop.
        size: side of the crop in pixels.
    Returns:
        (size, size, 3) uint8 RGB.
    """
    factor = 1
    while factor < SHRINK_LIMIT and 1 / transform.zoom >= 2 * factor:
        factor *= 2
    corners = transform.inverse()(np.array([[x, y] for x in (0, size - 1) for y in (0, size - 1)]))
    limits = np.array(image.shape[1::-1])
    # Two blocks more than the crop's corners, for bilinear interpolation; from a multiple of the factor, so that the
    # blocks are those of the complete image.
    low = np.clip(np.floor(corners.min(0) / factor).astype(int) - 2, 0, None) * factor
    high = np.clip((np.ceil(corners.max(0) / factor).astype(int) + 3) * factor, 0, limits)
    if (high <= low).any():
        return np.full((size, size, 3), 127, np.uint8)
    part = np.ascontiguousarray(image[low[1]:high[1], low[0]:high[0]])
    back = Affine(np.column_stack([np.eye(2), low])).after(shrink_transform(factor).inverse())
    return warp(shrunk(part, factor), transform.after(back), size)


def from_array(image: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB from an array: (H, W), (H, W, 1), RGB or RGBA; uint8, uint16 or float in 0..1.

    A Pillow image is turned upright by its EXIF tag and converted by Pillow's rules. Whether three channels are RGB or
    BGR cannot be seen in the numbers: OpenCV's arrays must be reversed (`image[..., ::-1]`).
    Raises InputError for another shape, an empty image, another type, or floats beyond 0..1.

    >>> from_array(np.full((1, 1), 0.5))[0, 0].tolist()
    [128, 128, 128]
    """
    if image_formats.is_pillow(image):
        try:
            image = image_formats.array_of(image)
        except InputError as error:
            raise InputError(f"image array: {error}") from None
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,), (4,)) or 0 in image.shape:
        raise InputError(f"image array: has shape {image.shape}, expected (H, W, 3) RGB, (H, W, 4) or (H, W)"
                         + (". Move the channels to the end" if image.ndim == 3 and image.shape[0] in (1, 3) else ""))
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise InputError(f"image array: holds {image.dtype}, expected uint8, uint16 or floats in 0..1")
    if image.dtype.kind == "f" and not (np.nanmin(image) >= 0 and np.nanmax(image) <= 1):
        low, high = float(np.nanmin(image)), float(np.nanmax(image))
        found, fix = (f"from {low:g} to {high:g}", "undo the normalization") if low < 0 else \
            (f"up to {high:g}", "divide by 255")
        raise InputError(f"image array: holds floats {found}, expected 0..1; {fix} or give uint8")
    if image.dtype == np.uint8 and image.shape[2:] == (3,):
        return image
    order = {(3,): [2, 1, 0], (4,): [2, 1, 0, 3]}.get(image.shape[2:])
    return to_rgb(image[..., order] if order else image)


def png(image: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 RGB as the bytes of a PNG file."""
    return cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()  # fast, not small


def shrink_for(side: float, size: int) -> int:
    """Return the factor (1, 2, 4, 8) by which to shrink an image whose crop of `side` pixels becomes `size` pixels.

    The crop keeps at least its final resolution. Without shrinking, warping a huge image would alias.

    >>> shrink_for(1000, 192)
    4
    """
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or side / factor >= size)


def _is_complete_jpeg(data):
    """Return whether the end mark follows the scan; one in a thumbnail, and bytes after the image, do not count."""
    # After the start of scan, 0xFF 0xD9 can only be the end of the image.
    return any(marker == 0xDA and data.find(b"\xff\xd9", end) >= 0 for marker, _, end in jpeg_segments(data))


def _turned(image, orientation):
    """Return the stored pixels as viewers show them, by EXIF's orientation."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return np.ascontiguousarray(image[::-1] if orientation in (3, 4, 7, 8) else image)


def _decoded(data, flags, name):
    image, problem = _by_opencv(data, flags)
    if image is None:
        problem = f"cannot be decoded ({problem})" if problem else "is not an image that can be decoded"
        raise InputError(f"image {name}: {problem}; save it again as JPEG or PNG")
    return image


def _by_opencv(data, flags):
    """Return the image, or None, and OpenCV's message about it."""
    try:
        return (cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None), ""
    except cv2.error as error:
        return None, error.err
