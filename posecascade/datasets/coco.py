"""Read COCO keypoints JSON, and other files of that layout with a custom schema.

Coordinates are kept unchanged: COCO counts pixels from 0.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from posecascade.datasets.boxes import Boxes, is_finite
from posecascade.datasets.coco_categories import Categories
from posecascade.datasets.coco_images import CocoImages
from posecascade.datasets.coco_options import Options, split_options
from posecascade.datasets.sources import checked_split, existing, hold_out, load_json, splits_in
from posecascade.errors import InputError
from posecascade.records import Record
from posecascade.schema import COCO17, Schema

FAR = 20  # pixels from the corner: people within it may have several keypoints there
LAYOUT = "a COCO folder (annotations/*.json and the images) or the .json file itself"
_WITHOUT_KEYPOINTS = ("captions_", "instances_", "stuff_", "panoptic_", "image_info_")  # COCO's other files


def read_coco(root: str, split: str, schema: Schema | None = None, notes: list[str] | None = None) -> list[Record]:
    """Return everybody who has a labeled keypoint and is not a crowd, in the order of the annotations.

    ROOT is the .json file, or a folder with a file per split, such as person_keypoints_train2017.json and
    person_keypoints_val2017.json, or with a single .json file, in annotations/ or directly. After "#" come options
    (`coco_options.Options`). `image_search` says where images are looked for. The box is the annotated one if it is
    sensible, else see `boxes`; people without a sensible box are excluded.

    The keypoints are those of `schema`, or of COCO17 if the file itself names these; annotations of other categories
    are excluded. A "train", a "val" and a "test" file are the splits ("test" is the val file if there is none);
    otherwise see `hold_out`. Pseudo-labels (annotations with "pseudo": true) do not distinguish occluded from visible
    keypoints. A line about everything that was excluded or looks doubtful is appended to `notes`.
    """
    files, held_out = annotation_files(root, split)
    options, notes = split_options(root)[1], notes if notes is not None else []
    people = [record for file in files for record in _people(file, schema or COCO17, options, notes)]
    return hold_out(people, split) if held_out else people


def annotation_files(root: str, split: str) -> tuple[list[Path], bool]:
    """Return the files of a split, and whether the split is still to be held out of them.

    Raises InputError if ROOT does not exist or holds no file that `read_coco` reads.
    """
    path = existing(split_options(root)[0], "coco", LAYOUT)
    files = {} if path.is_file() else _split_files(path)
    if not files:
        return [path if path.is_file() else _single_file(path)], True
    if checked_split(split) == "all":
        return list(files.values()), False
    if split == "test" and "test" in files:
        return [files["test"]], False
    if "train" in files and "val" in files:
        return [files["train" if split == "train" else "val"]], False
    return [next(iter(files.values()))], True


def _split_files(root: Path) -> dict[str, Path]:
    """Return the files of "train", "val" and "test", those of the three that exist, in this order."""
    named = [*root.glob("annotations/person_keypoints_*.json"), *root.glob("person_keypoints_*.json")]
    others = list(root.glob("annotations/*.json")) or list(root.glob("*.json"))
    found: dict[str, list[Path]] = {name: [] for name in ("train", "val", "test")}
    for file in sorted(named or (file for file in others if not file.name.startswith(_WITHOUT_KEYPOINTS))):
        for name in sorted(splits_in(file.stem)):
            found[name].append(file)
    if not named and not (found["train"] and found["val"]):  # names of any files
        return {}
    for same in found.values():
        if len(same) > 1:
            raise InputError(f"coco: {root} holds {', '.join(f.name for f in same)}; give one of them as ROOT")
    return {name: same[0] for name, same in found.items() if same}


def _single_file(root: Path) -> Path:
    files = sorted(root.glob("annotations/*.json")) or sorted(root.glob("*.json"))
    if len(files) != 1:
        names = f"{len(files)} .json files ({', '.join(f.name for f in files[:5])})" if files else "no .json file"
        raise InputError(f"coco: {root} holds {names}, expected one in annotations/ or directly; "
                         "give the .json file itself as ROOT")
    return files[0]


def _people(path: Path, schema: Schema, options: Options, notes: list[str]) -> list[Record]:
    content = load_json(path)
    for field in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise InputError(f"{path}: has no list {field!r}, expected COCO's keypoints layout; give another file")
    categories = Categories(path, content, schema, options.category)
    images = CocoImages(path, content["images"], options)
    boxes = Boxes(path)
    records = [record for number, annotation in enumerate(content["annotations"])
               if (record := _record(path, number, annotation, images, categories, boxes))]
    boxes.check_pixels()
    if options.resized:
        records = images.scaled(records)
    notes += filter(None, [categories.note(), *images.notes(), *boxes.notes(),
                           _repeated(path, content["annotations"])])
    if not records and categories.excluded:
        raise InputError(f"{categories.note()}; nobody is left. Choose another category (coco:FILE#NAME)")
    return records


def _record(path: Path, number: int, annotation: object, images: CocoImages, categories: Categories,
            boxes: Boxes) -> Record | None:
    origin = f"{path}, annotations[{number}]"
    if not isinstance(annotation, dict):
        raise InputError(f"{origin}: is not an object; fix the file")
    for flag in ("iscrowd", "pseudo"):
        if annotation.get(flag) not in (None, 0, 1):
            raise InputError(f"{origin}: {flag!r} is {annotation[flag]!r}; expected 0 or 1. Fix the file")
    if annotation.get("iscrowd") or not annotation.get("keypoints") or not categories.reads(origin, annotation):
        return None
    points, codes = _keypoints(origin, annotation["keypoints"], categories.schema)
    at_corner = (codes > 0) & (points == 0).all(axis=1)
    if at_corner.sum() > 1 and points[codes > 0].max() > FAR:  # tools that write 0, 0, 2 for what is not labeled
        codes = np.where(at_corner, 0, codes).astype(np.int8)
        boxes.at_corner += int(at_corner.sum())
    if not codes.any():
        return None
    image = images.of(origin, annotation.get("image_id"))
    box = boxes.of(origin, annotation, points, codes > 0, image)
    if box is None:
        return None
    area: Any = annotation.get("area")
    return Record(image, origin, categories.schema, box, points, codes,
                  area=float(area) if _positive(area) else box.w * box.h,
                  image_id=_number(annotation.get("image_id")), person_id=_number(annotation.get("id")),
                  occlusion_known=not annotation.get("pseudo", False))


def _keypoints(origin: str, values: object, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, 2) float64 and codes (K,), checked."""
    if not isinstance(values, list) or len(values) != 3 * schema.size or isinstance(values[0], (list, dict)):
        raise InputError(f"{origin}: {_wrong_keypoints(values, schema)}")
    try:
        table = np.array(values, np.float64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{origin}: 'keypoints' holds a value that is not a number; fix the file") from None
    points, codes = table[:, :2], table[:, 2]
    if not ((codes == 0) | (codes == 1) | (codes == 2)).all():
        raise InputError(f"{origin}: a visibility is not among 0 (unlabeled), "
                         "1 (occluded) or 2 (visible); fix the file")
    if not np.isfinite(points[codes > 0]).all():
        raise InputError(f"{origin}: a labeled keypoint has no finite coordinates; fix the file")
    return points, codes.astype(np.int8)


def _wrong_keypoints(values: Any, schema: Schema) -> str:
    """Return what is wrong with keypoints that are not a list of three numbers each."""
    expected = f"x, y, v for {schema.size} keypoints"
    if isinstance(values, (list, dict)) and any(isinstance(value, (list, dict)) for value in values):
        each = next(value for value in values if isinstance(value, (list, dict)))
        return (f"'keypoints' is nested, {len(values)} times {str(each)[:40]}; expected one flat list of "
                f"{3 * schema.size} numbers ({expected}). Flatten it, [[x, y, v], ...] to [x, y, v, ...]")
    content = f"{len(values)} numbers" if isinstance(values, list) else type(values).__name__
    if isinstance(values, list) and len(values) == 2 * schema.size:
        return (f"'keypoints' holds {content}, two per keypoint; expected {3 * schema.size} ({expected}). "
                "Add the visibility v: 2 visible, 1 occluded, 0 unlabeled")
    return (f"'keypoints' holds {content}, schema {schema.name!r} needs {3 * schema.size} ({expected}); "
            "pass --schema=FILE.yaml (training: data.schema) or fix the file")


def _repeated(path: Path, annotations: list) -> str:
    """Return a line about ids that several annotations have; "" if there are none."""
    counts = Counter(repr(annotation["id"]) for annotation in annotations if annotation.get("id") is not None)
    repeated = [number for number, count in counts.items() if count > 1]
    return f"{path}: {len(repeated)} annotation ids occur more than once, such as {repeated[0]}" if repeated else ""


def _positive(value: Any) -> bool:
    return is_finite(value) and value > 0


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1
