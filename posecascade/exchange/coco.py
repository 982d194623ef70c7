"""Read people from COCO's layout and from predictions, and write COCO's layout with a schema."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from posecascade import datasets, files
from posecascade.datasets.coco_background import read_background
from posecascade.datasets.sources import load_json
from posecascade.errors import InputError
from posecascade.evaluation import coco_results, json_lines
from posecascade.exchange.people import (
    LabeledImage,
    Options,
    People,
    Person,
    found_image,
    image_size,
    number,
    people_of,
    schema_of,
)
from posecascade.geometry import Affine, moved_box
from posecascade.images import ImageFile
from posecascade.poses_io import box_from
from posecascade.records import Visibility
from posecascade.schema import Schema, find_schema

SCHEMA = ".yaml"  # suffix of the schema, next to the labels
IMAGES = "images.json"  # next to a list of results: the images with their numbers


def read_coco(source: Path, options: Options) -> People:
    """Return the people of a COCO file or folder, in all images that it lists."""
    root = f"{source}#{options.category}" if options.category else str(source)
    records = datasets.read(f"coco:{root}", "all", options.schema)
    background = read_background(root, "all", records)
    images = {image.name: image for image in background.images.values()}
    people: dict[str, list[Person]] = {name: [] for name in images}
    to_upright = {name: image.to_upright() for name, image in images.items()}
    for record in records:
        to = to_upright.get(record.image_name)
        points = {name: (x, y, int(code)) for name, (x, y), code in zip(
            record.schema.keypoints, (to(record.keypoints) if to else record.keypoints).tolist(), record.visibility,
            strict=True) if code}
        people.setdefault(record.image_name, []).append(Person(points, moved_box(record.box, to) if to else record.box))
    schema = records[0].schema
    return People(schema, tuple(_image(name, options, of_image) for name, of_image in people.items()),
                  options.category or "person",
                  {"crowds and people without keypoints": len(background.ignored)} if background.ignored else {})


def _image(name: str, options: Options, people: list[Person]) -> LabeledImage:
    path = found_image(name, (Path(), options.images))
    return LabeledImage(str(path or name), image_size(path), tuple(people))


def read_predictions(source: Path, options: Options) -> People:
    """Return the people of predictions.jsonl, or of a list of COCO results with its images.

    All predicted keypoints count as visible. The images of a list of results are those of `options.data` ("coco:ROOT"),
    otherwise of the file images.json next to it.
    """
    return (_lines if source.suffix.lower() == ".jsonl" else _results)(source, options)


def _lines(source: Path, options: Options) -> People:
    lines = json_lines.read_lines(source)
    people: dict[str, list[Person]] = {}
    for line in lines:
        points = {name: (values[0], values[1], int(Visibility.VISIBLE)) for name, values in line["keypoints"].items()
                  if values is not None and np.isfinite(values[:2]).all()}
        scores = [values[2] for values in line["keypoints"].values() if values is not None and len(values) > 2]
        score = float(np.mean(scores)) if scores else None
        people.setdefault(line["image"], []).append(Person(points, box_from(line.get("box")), score))
    images = []
    for name, of_image in people.items():
        path = found_image(name, (Path(), source.parent, options.images))
        images.append(LabeledImage(str(path or name), image_size(path), tuple(of_image)))
    names = dict.fromkeys(name for line in lines for name in line["keypoints"])
    return people_of(source, names, images, options)


def _results(source: Path, options: Options) -> People:
    content = load_json(source)
    if not coco_results.are_results(content):
        raise InputError(f"{source}: is no list of COCO's keypoint results; expected results.json or predictions.jsonl")
    images, schema = _images_of_data(options) if options.data else _images_next_to(source, options)
    excluded, people = Counter[str](), {number: list[Person]() for number in images}
    for instance in coco_results.results_from(source, content, schema):
        if instance.image_id not in people:
            excluded["people in images that are not listed"] += 1
            continue
        to = images[instance.image_id][2]
        xy, box = instance.keypoints[:, :2], instance.box
        points = {name: (x, y, int(Visibility.VISIBLE))
                  for name, (x, y) in zip(schema.keypoints, (to(xy) if to else xy).tolist(), strict=True)
                  if np.isfinite([x, y]).all()}
        if not points:
            excluded["people without a predicted keypoint"] += 1
            continue
        people[instance.image_id].append(Person(points, moved_box(box, to) if to and box else box, instance.score))
    return people_of(source, schema.keypoints, [LabeledImage(path, size, tuple(people[number]))
                                                for number, (path, size, _) in images.items()],
                     Options(schema=schema), excluded=excluded)


Images = dict[int, tuple[str, tuple[int, int] | None, Affine | None]]  # number -> path, upright size, map to upright


def _images_of_data(options: Options) -> tuple[Images, Schema]:
    kind, root = datasets.parse(options.data)
    if kind != "coco":
        raise InputError(f"--data={options.data}: is of type {kind}; expected coco:ROOT, the data set of the results")
    records = datasets.read(options.data, "all", options.schema)
    found: dict[int, ImageFile] = read_background(root, "all", records).images
    return {number: (image.name, image_size(found_image(image.name, (Path(), options.images))), image.to_upright())
            for number, image in found.items()}, records[0].schema


def _images_next_to(source: Path, options: Options) -> tuple[Images, Schema]:
    path = source.parent / IMAGES
    if not path.is_file():
        raise InputError(f"{source}: has numbers of images, and there is no {IMAGES} next to it; expected their list. "
                         "Give the data set of the results, such as --data=coco:people.json")
    content = load_json(path)
    try:
        names = tuple(map(str, content["categories"][0]["keypoints"]))
        images: Images = {}
        for image in content["images"]:
            file = found_image(image["file_name"], (source.parent, options.images))
            sides = [int(number(image[side], f"{path}: {side}")) for side in ("width", "height") if image.get(side)]
            size = (sides[0], sides[1]) if len(sides) == 2 else image_size(file)
            images[image["id"]] = (str(file or image["file_name"]), size, None)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no list of images as posecascade-predict writes it ({error!r}); predict again "
                         "with --format=coco") from None
    fits = options.schema is not None and options.schema.keypoints == names
    return images, options.schema if fits and options.schema else schema_of(names)


def write_coco(people: People, output: Path) -> list[Path]:
    """Write COCO's layout, and next to it the schema (.yaml) of its keypoints; return both paths.

    Images are named relative to the folder of `output` if they are in it. An existing schema of the same keypoints is
    kept, since users complete it; raises InputError if it has others.
    """
    base = output.parent.parent if output.parent.name == "annotations" else output.parent
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(people.images, 1):
        entry: dict[str, Any] = {"id": image_id, "file_name": files.relative_if_inside(image.path, base)}
        images.append(entry | (dict(zip(("width", "height"), image.size, strict=True)) if image.size else {}))
        annotations += (_annotation(people, person, image_id) for person in image.people)
    for annotation_id, annotation in enumerate(annotations, 1):
        annotation["id"] = annotation_id
    schema = _write_schema(people.schema, output.with_suffix(SCHEMA))
    files.write_json(output, {"images": images, "annotations": annotations,
                              "categories": [coco_results.category(people.schema, people.category)]})
    return [output, schema]


def _annotation(people: People, person: Person, image_id: int) -> dict[str, Any]:
    points, codes = people.table(person)
    values = np.column_stack([np.nan_to_num(points), codes])
    # What the tool has no box for gets none: the reader draws it around the keypoints.
    box = {"bbox": person.box.as_list(), "area": person.box.w * person.box.h} if person.box else {}
    return {"id": 0, "image_id": image_id, "category_id": coco_results.PERSON, "iscrowd": 0, **box,
            "num_keypoints": int((codes > 0).sum()),
            "keypoints": [int(v) if i % 3 == 2 else v for i, v in enumerate(values.ravel().tolist())]}


def _write_schema(schema: Schema, path: Path) -> Path:
    if path.exists():
        other = find_schema(str(path))
        if other.keypoints != schema.keypoints:
            raise InputError(f"{path}: is a schema of {_some(other.keypoints)}, the labels have "
                             f"{_some(schema.keypoints)}; remove it, or choose another --output")
        return path
    with files.atomic_write(path) as draft:
        draft.write_text(yaml.safe_dump(schema.as_dict(), sort_keys=False, default_flow_style=None, width=110),
                         encoding="utf-8")
    return path


def _some(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:4]) + ", ..."
