"""Helper: images that show where their labels should be, with a square of its own color at each keypoint."""

import json

import numpy as np
from PIL import Image

from posecascade.schema import Schema

ARM = Schema("arm", ("shoulder", "elbow", "wrist"))
COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])  # of shoulder, elbow and wrist
RADIUS = 4
SIZE = (120, 60)  # width and height of an upright image
# EXIF orientation -> the stored pixels of an upright image, by definition of the tag.
STORED = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
          6: np.rot90, 7: lambda a: np.rot90(a.swapaxes(0, 1), 2), 8: lambda a: np.rot90(a, -1)}


def marked(points, size):
    """Return (H, W, 3) uint8 with a square at each of the points (3, 2), for `size` (W, H)."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    for (x, y), color in zip(np.asarray(points).astype(int), COLORS, strict=True):
        image[max(y - RADIUS, 0):y + RADIUS + 1, max(x - RADIUS, 0):x + RADIUS + 1] = color
    return image


def places(rng, size):
    """Return (3, 2) points of an image of `size` (W, H), one in each third of its longer side."""
    width, height = size
    points = np.array([[rng.integers(6 + k * width // 3, (k + 1) * width // 3 - 5),
                        rng.integers(6, height - 6)] for k in range(3)])
    return points[rng.permutation(3)]


def write_image(path, image, orientation=1):
    """Write the upright `image`, stored as its EXIF orientation says; the suffix decides the kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](image)))
    stored.save(path, exif=exif, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}))
    return path


def to_stored(points, size, orientation):
    """Return the points (N, 2) of an upright image of `size` (W, H) in the frame of its stored pixels."""
    grid = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), -1)  # (H, W, 2): each pixel's upright x, y
    stored = STORED[orientation](grid)
    return np.array([np.argwhere((stored == point).all(-1))[0][::-1] for point in np.asarray(points)])


def person(image, points, number=1, **fields):
    """Return the annotation of an arm with all keypoints visible."""
    flat = np.column_stack([points, np.full(3, 2)]).ravel().tolist()
    return {"id": number, "image_id": image, "category_id": 1, "keypoints": flat, **fields}


def write_list(path, images, people, categories=({"id": 1, "name": "arm", "keypoints": list(ARM.keypoints)},)):
    """Write a COCO file and return the data set's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": list(images), "annotations": list(people), "categories": list(categories)}))
    return f"coco:{path}"


def hits(record, shrink=1):
    """Return how many keypoints of the record lie on their own color in the image as it is read."""
    image = record.image.read(shrink).astype(int)
    spots = np.clip(np.rint((record.keypoints + 0.5) / shrink - 0.5).astype(int), 0, np.array(image.shape[1::-1]) - 1)
    return sum(np.abs(image[y, x] - color).max() < 90 for (x, y), color in zip(spots, COLORS, strict=True))


def write(folder, rng, orientation=1, *, upright=True, listed=None, size=SIZE, name="a.jpg", scale=1.0):
    """Write one image and its list, labeled in one of the frames at `scale` times its size; return the data set."""
    points = places(rng, size)
    write_image(folder / "images" / name, marked(points, size), orientation)
    labels = points if upright else to_stored(points, size, orientation)
    given = {} if listed is None else {"width": listed[0], "height": listed[1]}
    return write_list(folder / "people.json", [{"id": 1, "file_name": name, **given}],
                      [person(1, (labels + 0.5) * scale - 0.5)])
