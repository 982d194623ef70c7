"""Read the files of labelme: one JSON per image, with a point per keypoint and the person's number as group_id."""

from collections import Counter
from pathlib import Path
from typing import Any

from posecascade.datasets.sources import load_json
from posecascade.errors import InputError
from posecascade.exchange.people import LabeledImage, Options, People, Person, found_image, number, people_of
from posecascade.geometry import Box
from posecascade.records import Visibility

OCCLUDED = ("occluded", "hidden", "invisible")  # flags of a point


def read_labelme(source: Path, options: Options) -> People:
    """Return the people of a file, or of all .json files in a folder.

    Shapes of type point are keypoints; those with the same group_id are a person, and a rectangle with this group_id is
    the person's box. A point with the flag "occluded" is occluded, any other visible. Other shapes are excluded.
    """
    paths = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not paths:
        raise InputError(f"{source}: has no .json file; expected labelme's files, one per image")
    excluded, images, names = Counter[str](), [], dict[str, None]()
    for path in paths:
        content = load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            if source.is_dir():
                excluded["files that are not labelme's"] += 1
                continue
            raise InputError(f"{path}: has no list 'shapes'; expected a file of labelme")
        people = _people(path, content["shapes"], options, excluded)
        names |= dict.fromkeys(name for person in people for name in person.points)
        images.append(_image(path, content, people, options))
    return people_of(source, names, images, options, excluded=excluded)


def _image(path: Path, content: dict, people: list[Person], options: Options) -> LabeledImage:
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: 'imagePath' is {name!r}; expected the image's path. Add it")
    file = found_image(name, (path.parent, options.images))
    sides = content.get("imageWidth"), content.get("imageHeight")
    size = None if None in sides else tuple(int(number(side, f"{path}: image's size")) for side in sides)
    return LabeledImage(str(file or name), size, tuple(people))  # type: ignore[arg-type]


def _people(path: Path, shapes: list, options: Options, excluded: Counter[str]) -> list[Person]:
    points: dict[Any, dict[str, tuple[float, float, int]]] = {}
    boxes: dict[Any, Box] = {}
    for index, shape in enumerate(shapes):
        origin = f"{path}, shapes[{index}]"
        kind, label, xy = _shape(origin, shape)
        group = shape.get("group_id")
        if kind == "point":
            person = points.setdefault(group, {})
            if label in person:
                which = "without group_id" if group is None else f"with group_id {group}"
                raise InputError(f"{origin}: is the second point {label!r} {which}; expected one per person. Give each "
                                 "person a group_id of its own in labelme")
            flags = shape.get("flags") or {}
            hidden = any(flags.get(flag) for flag in OCCLUDED)
            person[label] = (*xy[0], Visibility.OCCLUDED if hidden else Visibility.VISIBLE)
        elif kind == "rectangle" and len(xy) == 2 and (not options.category or label == options.category):
            if group in boxes:
                raise InputError(f"{origin}: is the second rectangle of group_id {group}; expected one per person. "
                                 "Give each person a group_id of its own in labelme")
            (x0, x1), (y0, y1) = (sorted(values) for values in zip(*xy, strict=True))
            if x1 > x0 and y1 > y0:
                boxes[group] = Box(x0, y0, x1 - x0, y1 - y0)
        else:
            excluded[f"shapes of type {kind}"] += 1
    excluded.update({"rectangles without keypoints": n} if (n := len(set(boxes) - set(points))) else {})
    return [Person(person, boxes.get(group)) for group, person in points.items()]


def _shape(origin: str, shape: Any) -> tuple[str, str, list[tuple[float, float]]]:
    """Return type, label and points of a shape, checked."""
    points = shape.get("points") if isinstance(shape, dict) else None
    if not isinstance(points, list) or not points or not isinstance(shape.get("label"), str) \
            or not isinstance(shape.get("group_id"), (int, str, type(None))) \
            or not isinstance(shape.get("flags") or {}, dict) \
            or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise InputError(f'{origin}: is {str(shape)[:80]}; expected {{"label", "points": [[x, y]], "shape_type", '
                         '"group_id"}. Fix the file')
    kind = str(shape.get("shape_type") or "polygon")
    return kind, shape["label"], [(number(x, f"{origin}: x"), number(y, f"{origin}: y")) for x, y in points]
