"""Read a data set in the layout of Ultralytics' YOLO pose models: data.yaml and a text file per image."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from posecascade.errors import InputError
from posecascade.exchange.people import (
    LabeledImage,
    Options,
    People,
    Person,
    chosen,
    image_size,
    number,
    people_of,
)
from posecascade.files import read_bytes, read_yaml
from posecascade.geometry import Box
from posecascade.image_formats import SUFFIXES
from posecascade.records import Visibility

LIMITS = (-0.01, 1.01)  # of a normalized number; what is beyond is in pixels
_SPLITS = ("train", "val", "test")


def read_yolo(source: Path, options: Options) -> People:
    """Return the people of all splits of a data.yaml.

    Each row of a label file is a class, a normalized box (center, width, height) and K keypoints of x, y and, if
    `kpt_shape` says 3, a flag as in COCO. Without flags, a keypoint at 0, 0 is unlabeled. The names of the keypoints
    are `kpt_names`, or the user's schema.
    """
    source = source / "data.yaml" if source.is_dir() else source
    content = read_yaml(source, "data set")
    count, values = _shape(source, content)
    classes = _classes(source, content)
    names = _keypoints(source, content, count, options)
    images, used = [], Counter[str]()
    read = {}
    for image in _images(source, content, options):
        rows = list(_rows(_labels_of(image), classes, 5 + count * values))
        used.update(row[0] for row in rows)
        read[image] = rows
    category = chosen(source, used or Counter(dict.fromkeys(classes.values(), 0)), options.category, "class")
    for image, rows in read.items():
        size = image_size(image) if rows else None
        if rows and not size:
            raise InputError(f"image {image}: cannot be read, so its size is unknown, which normalized labels need; "
                             "copy the file again")
        images.append(LabeledImage(str(image), size or image_size(image), tuple(
            _person(origin, row, names, values, size) for name, origin, row in rows if size and name == category)))
    excluded = {f"rows of class {name}": n for name, n in used.items() if name != category}
    if without := sum(not _labels_of(image).is_file() for image in read):
        excluded["images without a label file"] = without
    return people_of(source, names, images, options, category=category, excluded=excluded)


def _shape(source: Path, content: Any) -> tuple[int, int]:
    shape = content.get("kpt_shape") if isinstance(content, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or not isinstance(shape[0], int) or shape[1] not in (2, 3):
        raise InputError(f"{source}: kpt_shape is {shape!r}; expected [number of keypoints, 2 or 3], as in a data set "
                         "of YOLO pose models. Add it")
    return shape[0], shape[1]


def _classes(source: Path, content: dict) -> dict[int, str]:
    names = content.get("names")
    if isinstance(names, list):
        return {number: str(name) for number, name in enumerate(names)}
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        return {key: str(name) for key, name in names.items()}
    raise InputError(f"{source}: names is {names!r}; expected a list of classes, or a mapping of number to name. Add "
                     "it")


def _keypoints(source: Path, content: dict, count: int, options: Options) -> list[str]:
    names = content.get("kpt_names")
    if isinstance(names, dict):  # by class
        names = next(iter(names.values()), None)
    if names is None and options.schema:
        names = list(options.schema.keypoints)
    if not isinstance(names, list) or len(names) != count:
        listed = len(names) if isinstance(names, list) else "no"
        raise InputError(f"{source}: kpt_shape says {count} keypoints, and there are {listed} names; pass "
                         "--schema with their names in order, such as --schema=coco17")
    return [str(name) for name in names]


def _images(source: Path, content: dict, options: Options) -> Iterator[Path]:
    """Yield the image files of all splits: of folders, and of text files that list images."""
    root = options.images or source.parent / str(content.get("path") or "")
    root = root if root.is_dir() else source.parent  # `path` is often that of another machine
    given = [entry for split in _SPLITS for entry in _list(content.get(split))]
    if not given:
        raise InputError(f"{source}: has none of train, val and test; expected folders of images. Add one")
    seen = set()
    for entry in given:
        place = next((path for path in (root / entry, source.parent / entry, source.parent / entry.removeprefix("../"))
                      if path.exists()), None)
        if place is None:
            raise InputError(f"{source}: {entry!r} does not exist below {root}; give the folder that holds it as "
                             "--images")
        listed = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES) if place.is_dir() else \
            [place.parent / line for line in _lines(place)]
        for path in (Path(os.path.abspath(path)) for path in listed):  # links are kept: labels are next to the link
            if (file := path.resolve()) not in seen:
                seen.add(file)
                yield path


def _list(value: Any) -> list[str]:
    return [str(entry) for entry in (value if isinstance(value, list) else [value]) if entry]


def _labels_of(image: Path) -> Path:
    """Return the label file: the last folder `images` of the path becomes `labels`."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _lines(path: Path) -> list[str]:
    return [line for line in read_bytes(path).decode("utf-8", "replace").splitlines() if line.strip()]


def _rows(path: Path, classes: dict[int, str], width: int) -> Iterator[tuple[str, str, list[float]]]:
    """Yield class, origin and numbers of each row; an image without a label file has nobody."""
    for line, text in enumerate(_lines(path) if path.is_file() else [], 1):
        origin = f"{path}, line {line}"
        values = [number(word, f"{origin}: {word!r}") for word in text.split()]
        if len(values) != width:
            raise InputError(f"{origin}: has {len(values)} numbers; expected {width} (class, box, keypoints). Fix the "
                             "line, or kpt_shape")
        if values[0] not in classes:
            raise InputError(f"{origin}: class {values[0]:g} is not among the names ({', '.join(map(str, classes))}); "
                             "fix the line")
        yield classes[int(values[0])], origin, values[1:]


def _person(origin: str, row: Sequence[float], names: Sequence[str], values: int, size: tuple[int, int]) -> Person:
    width, height = size
    points: dict[str, tuple[float, float, int]] = {}
    for k, name in enumerate(names):
        x, y, *flag = row[4 + k * values:4 + (k + 1) * values]
        code = int(flag[0]) if flag else Visibility.VISIBLE if max(x, y) > 0 and min(x, y) >= 0 else 0
        if flag and flag[0] not in (0, 1, 2):
            raise InputError(f"{origin}: the flag of {name} is {flag[0]:g}; expected 0 (unlabeled), 1 (occluded) or 2 "
                             "(visible). Fix the line")
        if code:
            points[name] = (_normalized(x, origin) * width, _normalized(y, origin) * height, code)
    x, y, w, h = (_normalized(value, origin) for value in row[:4])
    box = Box((x - w / 2) * width, (y - h / 2) * height, w * width, h * height) if min(w, h) > 0 else None
    return Person(points, box)


def _normalized(value: float, origin: str) -> float:
    if not LIMITS[0] <= value <= LIMITS[1]:
        raise InputError(f"{origin}: holds {value:g}; expected numbers from 0 to 1, shares of the image's sides. "
                         "Divide pixels by them")
    return value
