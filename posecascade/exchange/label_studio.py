"""Read and write the JSON of Label Studio: keypoints in per cent of the image's sides, tied to a person's rectangle."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from posecascade import files
from posecascade.datasets.sources import load_json
from posecascade.errors import InputError
from posecascade.exchange.people import (
    LabeledImage,
    Options,
    People,
    Person,
    chosen,
    found_image,
    image_size,
    number,
    people_of,
)
from posecascade.geometry import Box
from posecascade.image_formats import SUFFIXES
from posecascade.records import Visibility

LOCAL = "/data/local-files/?d="  # how Label Studio names files of a local storage
OCCLUDED = "occluded"
INTERFACE = ".interface.xml"  # suffix of the labeling interface, next to the tasks
POINT_WIDTH = 0.6  # per cent: size of a drawn point


def read_label_studio(source: Path, options: Options) -> People:
    """Return the people of an export in the format JSON (not JSON-MIN).

    A keypoint belongs to the rectangle that it is nested in (parentID) or related to; without any rectangle all
    keypoints of an image are one person. A keypoint is occluded if its per-region choice is "occluded" or if it is
    hidden, otherwise visible. Of several annotations of a task the last one that was not skipped is read.
    """
    tasks = _mappings(load_json(source), f"{source}: the export")
    excluded = Counter[str]()
    found = [_task(f"{source}, task {task.get('id', index)}", task, excluded) for index, task in enumerate(tasks)]
    labels = Counter(label for _, _, people in found for label, _ in people if label)
    category = chosen(source, labels, options.category, "rectangle label")
    excluded.update({f"people of label {label}": n for label, n in labels.items() if label != category})
    names: dict[str, None] = {}
    images = []
    for name, size, people in found:
        kept = [person for label, person in people if label in ("", category)]
        names |= dict.fromkeys(point for person in kept for point in person.points)
        path = found_image(name, (options.images, source.parent, source.parent / "images"))
        images.append(LabeledImage(str(path or name), size or image_size(path), tuple(kept)))
    return people_of(source, names, images, options, category=category, excluded=excluded)


def _task(origin: str, task: dict, excluded: Counter[str]) -> tuple[str, tuple[int, int] | None, list]:
    """Return the image's name, its size and (label of the rectangle, person) of each person."""
    data = task.get("data")
    if not isinstance(data, dict):
        raise InputError(f"{origin}: has no 'data'; expected Label Studio's export in the format JSON, not JSON-MIN")
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    name = texts.get("image") or texts.get("img") or next(
        (text for text in texts.values() if text.lower().partition("?")[0].endswith(SUFFIXES)
         or text.lower().endswith(SUFFIXES)), None)
    if not name:
        raise InputError(f"{origin}: 'data' has no image ({', '.join(data)}); expected its path, as in \"image\"")
    listed = _mappings(task.get("annotations", task.get("completions")) or [], f"{origin}: 'annotations'")
    annotations = [annotation for annotation in listed if not annotation.get("was_cancelled")]
    if not annotations:
        excluded["tasks without annotation"] += 1
        return name, None, []
    excluded.update({"further annotations of a task": len(annotations) - 1} if len(annotations) > 1 else {})
    latest = max(annotations, key=lambda a: (bool(a.get("ground_truth")), str(a.get("updated_at", ""))))
    return name, *_people(origin, _mappings(latest.get("result") or [], f"{origin}: 'result'"), excluded)


def _mappings(value: Any, what: str) -> list[dict]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{what} is no list of mappings; expected Label Studio's export in the format JSON")
    return value


def _key(region: dict, field: str = "id") -> str:
    value = region.get(field)
    return "" if value is None else str(value)


def _people(origin: str, results: list[dict], excluded: Counter[str]) -> tuple[tuple[int, int] | None, list]:
    sizes = {(int(number(r["original_width"], f"{origin}: original_width")),
              int(number(r["original_height"], f"{origin}: original_height"))) for r in results
             if r.get("original_width") and r.get("original_height")}
    if len(sizes) > 1 or any(r.get("image_rotation") for r in results):
        raise InputError(f"{origin}: its image was rotated in Label Studio, or replaced by one of another size; "
                         "expected labels of one upright image. Rotate the file and label it again")
    size = next(iter(sizes), None)
    turned = next((r for r in results if r.get("type") == "rectanglelabels" and _value(r).get("rotation")), None)
    if turned:
        raise InputError(f"{origin}: rectangle {_label(turned, 'rectanglelabels')!r} is rotated by "
                         f"{str(_value(turned)['rotation'])[:20]} degrees; expected upright rectangles. Draw it again")
    rectangles = {_key(r): r for r in results if r.get("type") == "rectanglelabels"}
    points = [r for r in results if r.get("type") == "keypointlabels"]
    if points and not size:
        raise InputError(f"{origin}: its keypoints have no original_width and original_height, which numbers in per "
                         "cent need; export it with a newer Label Studio")
    excluded.update(Counter(f"regions of type {r.get('type')}" for r in results
                            if r.get("type") not in ("rectanglelabels", "keypointlabels", "relation", "choices")))
    owners = _owners(origin, points, rectangles, results, size)
    hidden = {_key(r) for r in results if r.get("type") == "choices" and _label(r, "choices") == OCCLUDED}
    people: dict[Any, dict[str, tuple[float, float, int]]] = {key: {} for key in rectangles}
    for point, owner in zip(points, owners, strict=True):
        label, x, y = _point(origin, point, size)
        person = people.setdefault(owner, {})
        if label in person:
            raise InputError(f"{origin}: has keypoint {label!r} twice for one person; expected one. Draw a rectangle "
                             "around each person, and relate the keypoints to it")
        is_hidden = _key(point) in hidden or point.get("hidden") or _value(point).get("hidden")
        person[label] = (x, y, Visibility.OCCLUDED if is_hidden else Visibility.VISIBLE)
    return size, [(_label(rectangles.get(key), "rectanglelabels"),
                   Person(person, _box(origin, rectangles.get(key), size))) for key, person in people.items()]


def _owners(origin: str, points: list[dict], rectangles: dict, results: list[dict], size: Any) -> list:
    """Return the id of the rectangle of each keypoint; None without rectangles."""
    related: dict[str, str] = {}
    for relation in (r for r in results if r.get("type") == "relation"):
        ends = _key(relation, "from_id"), _key(relation, "to_id")
        related |= {one: other for one, other in (ends, ends[::-1]) if other in rectangles}
    owners = []
    for point in points:
        parent = _key(point, "parentID")
        owner = parent if parent in rectangles else related.get(_key(point))
        if owner is None and rectangles:
            around = [key for key, r in rectangles.items() if _is_inside(_value(point), _value(r))]
            if len(around) != 1 and len(rectangles) > 1:
                raise InputError(f"{origin}: keypoint {_label(point, 'keypointlabels')!r} is in {len(around)} "
                                 "rectangles and related to none; expected one person. Relate it to a rectangle")
            owner = around[0] if around else next(iter(rectangles))
        owners.append(owner)
    return owners


def _is_inside(point: dict, box: dict) -> bool:
    try:
        return 0 <= point["x"] - box["x"] <= box["width"] and 0 <= point["y"] - box["y"] <= box["height"]
    except (KeyError, TypeError):
        return False


def _point(origin: str, region: dict, size: Any) -> tuple[str, float, float]:
    label, value = _label(region, "keypointlabels"), _value(region)
    if not label:
        raise InputError(f"{origin}: a keypoint has no label; label it, or remove it")
    return label, *(number(value.get(axis), f"{origin}: {axis} of {label!r}") * side / 100
                    for axis, side in zip("xy", size, strict=True))


def _box(origin: str, region: dict | None, size: Any) -> Box | None:
    if region is None or not size:
        return None
    x, y, w, h = (number(_value(region).get(key), f"{origin}: {key} of a rectangle") * side / 100
                  for key, side in zip(("x", "y", "width", "height"), (*size, *size), strict=True))
    return Box(x, y, w, h) if min(w, h) > 0 else None


def _value(region: dict) -> dict:
    value = region.get("value")
    return value if isinstance(value, dict) else {}


def _label(region: dict | None, kind: str) -> str:
    labels = _value(region or {}).get(kind)
    return str(labels[0]) if isinstance(labels, list) and labels else ""


def write_label_studio(people: People, output: Path) -> list[Path]:
    """Write tasks to import, and next to them the labeling interface of the project (INTERFACE); return both paths.

    Predicted people become predictions, which an annotator accepts and corrects; others become annotations. An image
    has the name of a file in a local storage, relative to the folder of `output`. Raises InputError if the size of an
    image is unknown.
    """
    tasks = []
    predicted = any(person.score is not None for image in people.images for person in image.people)
    for number_, image in enumerate(people.images, 1):
        if not image.size:
            raise InputError(f"image {image.path}: its size is unknown, which numbers in per cent need; expected the "
                             "file, or width and height in the list. Give the folder of the images with --images")
        name = LOCAL + quote(files.relative_if_inside(image.path, output.parent))
        task: dict[str, Any] = {"id": number_, "data": {"image": image.path if LOCAL in image.path else name}}
        result = [region for n, person in enumerate(image.people) for region in _regions(people, person, n, image.size)]
        scores = [person.score for person in image.people if person.score is not None]
        if predicted:  # an empty annotation would say that somebody looked and found nobody
            task["predictions"] = [{"model_version": "posecascade", "score": sum(scores) / len(scores),
                                    "result": result}] if scores else []
        else:
            task["annotations"] = [{"result": result, "was_cancelled": False, "ground_truth": False}]
        tasks.append(task)
    interface = output.with_suffix(INTERFACE)
    with files.atomic_write(output) as draft:
        draft.write_text(json.dumps(tasks, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with files.atomic_write(interface) as draft:
        draft.write_text(_interface(people), encoding="utf-8")
    return [output, interface]


def _regions(people: People, person: Person, index: int, size: tuple[int, int]) -> Sequence[dict]:
    """Return the rectangle of a person, the keypoints nested in it and related to it, and their occlusion."""
    points, codes = people.table(person)
    labeled = codes > 0
    box = person.box or (Box.around(points[labeled]) if labeled.any() else None)
    if box is None:
        return []
    common = {"original_width": size[0], "original_height": size[1], "image_rotation": 0, "to_name": "image"}
    width, height = size
    owner = f"person{index}"
    regions = [common | {"id": owner, "type": "rectanglelabels", "from_name": "people", "value": {
        "x": 100 * box.x / width, "y": 100 * box.y / height, "width": 100 * box.w / width,
        "height": 100 * box.h / height, "rotation": 0, "rectanglelabels": [people.category]}}]
    for k in labeled.nonzero()[0]:
        name, key = people.schema.keypoints[k], f"{owner}_{k}"
        place = {"x": 100 * points[k, 0] / width, "y": 100 * points[k, 1] / height, "width": POINT_WIDTH}
        regions.append(common | {"id": key, "type": "keypointlabels", "from_name": "keypoints", "parentID": owner,
                                 "value": place | {"keypointlabels": [name]}})
        if codes[k] == Visibility.OCCLUDED:
            regions.append(common | {"id": key, "type": "choices", "from_name": "visibility",
                                     "value": place | {"choices": [OCCLUDED]}})
        regions.append({"from_id": key, "to_id": owner, "type": "relation", "direction": "right"})
    return regions


def _interface(people: People) -> str:
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in people.schema.keypoints)
    return f"""<View>
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="people" toName="image">
    <Label value={quoteattr(people.category)}/>
  </RectangleLabels>
  <KeyPointLabels name="keypoints" toName="image">
{labels}
  </KeyPointLabels>
  <Choices name="visibility" toName="image" perRegion="true" choice="single">
    <Choice value="{OCCLUDED}"/>
  </Choices>
</View>
"""
