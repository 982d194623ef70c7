"""Read and write the XML of CVAT for images 1.1: a skeleton per person, with a named point per keypoint."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from html import unescape
from pathlib import Path

from posecascade import files
from posecascade.errors import InputError, first_line
from posecascade.exchange.people import LabeledImage, Options, People, Person, chosen, found_image, number, people_of
from posecascade.geometry import Box
from posecascade.records import Visibility

LABELS = ".labels.json"  # suffix of the labels of the task, next to the annotations
PIXEL_FORMAT = "{:.2f},{:.2f}"  # CVAT's own


def read_cvat(source: Path, options: Options) -> People:
    """Return the people of an annotations.xml.

    A skeleton is a person; its points have the names of the keypoints, and are unlabeled if they are "outside",
    occluded if "occluded", else visible. A box with the group_id of a skeleton is the person's. Other shapes are
    excluded. Raises InputError for the layout "CVAT for video".
    """
    root = parsed_xml(source)
    if root.tag != "annotations":
        raise InputError(f"{source}: begins with <{root.tag}>; expected <annotations> of CVAT for images 1.1")
    if root.find("track") is not None:
        raise InputError(f"{source}: has <track>, so it is CVAT for video; expected CVAT for images 1.1. Export the "
                         "task in that format")
    skeletons = Counter(str(element.get("label")) for element in root.iterfind("image/skeleton"))
    category = chosen(source, skeletons, options.category, "skeleton")
    excluded = Counter({f"skeletons {label}": n for label, n in skeletons.items() if label != category})
    names, limbs = _template(root, category)
    images = [_image(source, element, category, options, excluded, names) for element in root.iterfind("image")]
    return people_of(source, names, images, options, category=category, limbs=limbs, excluded=excluded)


class _Builder(ET.TreeBuilder):
    def doctype(self, *_: object) -> None:
        """Refuse the declaration of a document type before its entities, which can explode, are read."""
        raise InputError("declares a document type; expected plain XML as CVAT writes it. Remove <!DOCTYPE>")


def parsed_xml(path: Path) -> ET.Element:
    """Return the root of an XML file. Raises InputError if it is not XML, or declares a document type."""
    parser = ET.XMLParser(target=_Builder())
    try:
        parser.feed(files.read_bytes(path))
        root: ET.Element = parser.close()
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None
    except (ET.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{path}: is not XML ({first_line(error)}); give annotations.xml of the export") from None
    return root


def _template(root: ET.Element, category: str) -> tuple[dict[str, None], list[tuple[str, str]]]:
    """Return the names of the skeleton's points in order, and its edges, as far as the file describes it."""
    names: dict[str, None] = {}
    limbs: list[tuple[str, str]] = []
    for label in root.iterfind("meta//label"):
        if label.findtext("parent") == category and (name := label.findtext("name")):
            names[name] = None
        elif label.findtext("name") == category:
            limbs = _edges(label.findtext("svg") or "")
    return names, limbs


def _edges(svg: str) -> list[tuple[str, str]]:
    tags = [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<(?:circle|line)\b[^>]*>", svg)]
    nodes = {tag["data-node-id"]: unescape(tag.get("data-label-name", "")) for tag in tags if "data-node-id" in tag}
    return [(nodes.get(tag["data-node-from"], ""), nodes.get(tag.get("data-node-to", ""), "")) for tag in tags
            if "data-node-from" in tag]


def _image(source: Path, element: ET.Element, category: str, options: Options, excluded: Counter,
           names: dict[str, None]) -> LabeledImage:
    name = element.get("name") or ""
    origin = f"{source}, image {name!r}"
    if not name:
        raise InputError(f"{source}: an <image> has no name; expected the path of its file. Fix the file")
    width, height = (number(element.get(side), f"{origin}: {side}") for side in ("width", "height"))
    folder, subset = source.parent, element.get("subset") or ""
    path = found_image(name, (options.images, folder / "images" / subset, folder / "images", folder))
    boxes = {group: _box(origin, box) for box in element.iterfind("box") if (group := box.get("group_id"))}
    people, used = [], set()
    for skeleton in element.iterfind("skeleton"):
        if skeleton.get("label") == category:
            group = skeleton.get("group_id")
            used.add(group)
            people.append(Person(_points(origin, skeleton, names), boxes.get(group or "")))
    for shape in element:
        if shape.tag not in ("skeleton", "tag") and not (shape.tag == "box" and shape.get("group_id") in used):
            excluded[f"shapes <{shape.tag}>"] += 1
    return LabeledImage(str(path or name), (int(width), int(height)), tuple(people))


def _points(origin: str, skeleton: ET.Element, names: dict[str, None]) -> dict[str, tuple[float, float, int]]:
    points: dict[str, tuple[float, float, int]] = {}
    for element in skeleton.iterfind("points"):
        label = element.get("label") or ""
        x, _, y = (element.get("points") or "").partition(",")
        if label in points or not label:
            raise InputError(f"{origin}: a skeleton has the point {label!r} {'twice' if label else 'without label'}; "
                             "expected each once. Fix the file")
        names.setdefault(label, None)
        if element.get("outside") != "1":
            code = Visibility.OCCLUDED if element.get("occluded") == "1" else Visibility.VISIBLE
            points[label] = (number(x, f"{origin}: x of {label!r}"), number(y, f"{origin}: y of {label!r}"), code)
    return points


def _box(origin: str, element: ET.Element) -> Box | None:
    x0, y0, x1, y1 = (number(element.get(key), f"{origin}: {key} of a box") for key in ("xtl", "ytl", "xbr", "ybr"))
    return Box(x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def write_cvat(people: People, output: Path) -> list[Path]:
    """Write annotations to upload, and next to them the labels of the task (.labels.json); return both paths.

    Raises InputError if the size of an image is unknown.
    """
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    svg = _svg(people)
    _label(labels, people.category, "skeleton", svg=svg)
    for name in people.schema.keypoints:
        _label(labels, name, "points", parent=people.category)
    group = 0
    for index, image in enumerate(people.images):
        if not image.size:
            raise InputError(f"image {image.path}: its size is unknown, which CVAT needs; expected the file, or width "
                             "and height in the list. Give the folder of the images with --images")
        element = ET.SubElement(root, "image", id=str(index), name=files.relative_if_inside(image.path, output.parent),
                                width=str(image.size[0]), height=str(image.size[1]))
        for person in image.people:
            group += 1
            _write_person(element, people, person, str(group))
    ET.indent(root)
    with files.atomic_write(output) as draft:
        ET.ElementTree(root).write(draft, encoding="utf-8", xml_declaration=True)
    task = output.with_suffix(LABELS)
    files.write_json(task, [{"name": people.category, "type": "skeleton", "attributes": [], "svg": svg, "sublabels": [
        {"name": name, "type": "points", "attributes": []} for name in people.schema.keypoints]},
        {"name": f"{people.category}_box", "type": "rectangle", "attributes": []}])
    return [output, task]


def _label(labels: ET.Element, name: str, kind: str, **more: str) -> None:
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = name
    ET.SubElement(label, "type").text = kind
    ET.SubElement(label, "attributes")
    for key, text in more.items():
        ET.SubElement(label, key).text = text


def _write_person(element: ET.Element, people: People, person: Person, group: str) -> None:
    points, codes = people.table(person)
    skeleton = ET.SubElement(element, "skeleton", label=people.category, source="manual", z_order="0", group_id=group)
    for name, (x, y), code in zip(people.schema.keypoints, points, codes, strict=True):
        outside = code == Visibility.UNLABELED  # CVAT wants all points of a skeleton
        ET.SubElement(skeleton, "points", label=name, source="manual", outside=str(int(outside)),
                      occluded=str(int(code == Visibility.OCCLUDED)),
                      points=PIXEL_FORMAT.format(*(0, 0) if outside else (x, y)))
    if person.box:
        box = person.box
        ET.SubElement(element, "box", label=f"{people.category}_box", source="manual", occluded="0", z_order="0",
                      group_id=group, xtl=f"{box.x:.2f}", ytl=f"{box.y:.2f}", xbr=f"{box.x + box.w:.2f}",
                      ybr=f"{box.y + box.h:.2f}")


def _svg(people: People) -> str:
    """Return the drawing of the skeleton in CVAT's own form: nodes in columns, and the limbs as edges."""
    names = people.schema.keypoints
    lines = [f'<line x1="0" y1="0" x2="0" y2="0" stroke="black" data-type="edge" data-node-from="{names.index(a) + 1}" '
             f'data-node-to="{names.index(b) + 1}" stroke-width="0.5"></line>' for a, b in people.schema.limbs]
    nodes = [f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{10 + 20 * (k % 5)}" cy="{10 + 15 * (k // 5)}" '
             f'stroke-width="0.1" data-type="element node" data-element-id="{k + 1}" data-node-id="{k + 1}" '
             f'data-label-name="{name}"></circle>' for k, name in enumerate(names)]
    return "".join(lines + nodes)
