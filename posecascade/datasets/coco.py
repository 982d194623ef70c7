"""Read COCO keypoints JSON, and other files of that layout with a custom schema.

Coordinates are kept unchanged: COCO counts pixels from 0.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from posecascade.datasets.sources import checked_split, existing, hold_out, load_json
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.records import Record
from posecascade.schema import COCO17, Schema

LAYOUT = "a COCO folder (annotations/*.json and the images) or the .json file itself"


def read_coco(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return everybody who has a labeled keypoint and is not a crowd, in the order of the annotations.

    ROOT is the .json file, or a folder with person_keypoints_train*.json and person_keypoints_val*.json, or with a
    single .json file, in annotations/ or directly. Images are in a folder named like the end of the file's name
    (train2017/), in images/, or next to the file. The box is the annotated one if it is valid, else the tight box
    around the keypoints.

    The keypoints are those of `schema`, or of COCO17 if the file itself names these. If there are a train and a val
    file, they are the splits ("test" is the val file); otherwise see `hold_out`. Pseudo-labels (annotations with
    "pseudo": true) do not distinguish occluded from visible keypoints.
    """
    files, official = annotation_files(root, split)
    records = [record for file in files for record in _people(file, schema or COCO17)]
    return records if official else hold_out(records, split)


def annotation_files(root: str, split: str) -> tuple[list[Path], bool]:
    """Return the files of a split, and whether they are an official split; otherwise people are still to be held out.

    Raises InputError if ROOT does not exist or holds no file that `read_coco` reads.
    """
    path = existing(root, "coco", LAYOUT)
    split_files = _split_files(path) if path.is_dir() else {}
    if len(split_files) < 2:
        return [path if path.is_file() else next(iter(split_files.values()), None) or _single_file(path)], False
    chosen = {"train": ("train",), "val": ("val",), "test": ("val",), "all": ("train", "val")}[checked_split(split)]
    return [split_files[name] for name in chosen], True


def images_of(path: Path, content: dict) -> dict[int | str, ImageFile]:
    """Return the images that a file lists, by id."""
    return _images(path, content["images"])


def _split_files(root: Path) -> dict[str, Path]:
    """Return the files of "train" and "val", those of the two that exist."""
    split_files = {}
    for name in ("train", "val"):
        files = sorted([*root.glob(f"annotations/person_keypoints_{name}*.json"),
                        *root.glob(f"person_keypoints_{name}*.json")])
        if len(files) > 1:
            raise InputError(f"coco: {root} holds {', '.join(f.name for f in files)}; give one of them as ROOT")
        if files:
            split_files[name] = files[0]
    return split_files


def _single_file(root: Path) -> Path:
    files = sorted(root.glob("annotations/*.json")) or sorted(root.glob("*.json"))
    if len(files) != 1:
        names = f"{len(files)} .json files ({', '.join(f.name for f in files[:5])})" if files else "no .json file"
        raise InputError(f"coco: {root} holds {names}, expected one in annotations/ or directly; "
                         "give the .json file itself as ROOT")
    return files[0]


def _people(path: Path, schema: Schema) -> list[Record]:
    content = load_json(path)
    for field in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise InputError(f"{path}: has no list {field!r}, expected COCO's keypoints layout; give another file")
    schema = _schema_of(path, content.get("categories") or [], schema)
    images = _images(path, content["images"])
    records = (_record(path, number, annotation, images, schema)
               for number, annotation in enumerate(content["annotations"]))
    return [record for record in records if record]


def _schema_of(path: Path, categories: list, schema: Schema) -> Schema:
    """Return `schema`, or COCO17 if the file names COCO17's keypoints: custom data may include people of COCO.

    Names are compared without case, and with blanks as underscores (AI Challenger's "Head top"). Raises InputError if
    the file names other keypoints.
    """
    for category in categories:
        names: Any = category.get("keypoints") if isinstance(category, dict) else None
        keypoints = tuple(str(n).strip().lower().replace(" ", "_") for n in names) if names else schema.keypoints
        if keypoints == COCO17.keypoints:
            return COCO17
        if keypoints != schema.keypoints:
            raise InputError(f"{path}: its keypoints are {', '.join(map(str, names[:4]))}, ... ({len(names)}), but "
                             f"schema {schema.name!r} has {', '.join(schema.keypoints[:4])}, ... ({schema.size}); "
                             "pass --schema=FILE.yaml with the file's keypoints in its order (training: data.schema)")
    return schema


def _images(path: Path, entries: list) -> dict[int | str, ImageFile]:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)) \
                or not isinstance(entry.get("file_name"), str):
            raise InputError(f"{path}: images[{number}] has no 'id' or 'file_name'; add them")
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    tail = path.stem.rsplit("_", 1)[-1]
    folders = [f for f in (base / tail, base / "images" / tail, base / "images", base) if f.is_dir()]
    holding = [f for f in folders if entries and (f / entries[0]["file_name"]).is_file()]
    folder = (holding or folders)[0]
    return {entry["id"]: ImageFile(folder / entry["file_name"]) for entry in entries}


def _record(path: Path, number: int, annotation: object, images: dict, schema: Schema) -> Record | None:
    origin = f"{path}, annotations[{number}]"
    if not isinstance(annotation, dict):
        raise InputError(f"{origin}: is not an object; fix the file")
    if annotation.get("iscrowd") or not annotation.get("keypoints"):
        return None
    points, codes = _keypoints(origin, annotation["keypoints"], schema)
    if not codes.any():
        return None
    image_id = annotation.get("image_id")
    if not isinstance(image_id, (int, str)) or image_id not in images:
        raise InputError(f"{origin}: 'image_id' {image_id!r} is not among the images; fix the file")
    box = _box(annotation.get("bbox")) or Box.around(points[codes > 0])
    area: Any = annotation.get("area")
    return Record(images[image_id], origin, schema, box, points, codes,
                  area=float(area) if _positive(area) else box.w * box.h,
                  image_id=_number(image_id), person_id=_number(annotation.get("id")),
                  occlusion_known=not annotation.get("pseudo", False))


def _keypoints(origin: str, values: object, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, 2) float64 and codes (K,), checked."""
    if not isinstance(values, list) or len(values) != 3 * schema.size:
        content = f"{len(values)} numbers" if isinstance(values, list) else type(values).__name__
        raise InputError(f"{origin}: 'keypoints' holds {content}, schema {schema.name!r} needs {3 * schema.size} "
                         f"(x, y, v for {schema.size} keypoints); pass --schema=FILE.yaml "
                         "(training: data.schema) or fix the file")
    try:
        table = np.array(values, np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        raise InputError(f"{origin}: 'keypoints' holds a value that is not a number; fix the file") from None
    points, codes = table[:, :2], table[:, 2]
    if not np.isin(codes, (0, 1, 2)).all():
        raise InputError(f"{origin}: a visibility is not among 0 (unlabeled), "
                         "1 (occluded) or 2 (visible); fix the file")
    if not np.isfinite(points[codes > 0]).all():
        raise InputError(f"{origin}: a labeled keypoint has no finite coordinates; fix the file")
    return points, codes.astype(np.int8)


def _box(bbox: Any) -> Box | None:
    numeric = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(v, (int, float)) for v in bbox)
    return Box(*map(float, bbox)) if numeric and all(map(math.isfinite, bbox)) and min(bbox[2:]) > 0 else None


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1
