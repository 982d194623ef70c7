"""Read MPII Human Pose: the official .mat, the JSON lists of HRNet and MMPose, and the validation split without images.

All of them have MATLAB coordinates, which count pixels from 1 (FIRST_PIXEL; HRNet's own loader subtracts it too).
Boxes are tight around the keypoints; MPII's rough center and scale become `Record.square`, for the paper's protocol.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from posecascade.datasets.boxes import box_around
from posecascade.datasets.mpii_release import Person, annotated_people
from posecascade.datasets.sources import (
    HEAD_SIZE_FACTOR,
    checked_split,
    existing,
    hold_out,
    labeled_keypoints,
    load_json,
    load_mat,
    mat_numbers,
)
from posecascade.errors import InputError
from posecascade.files import expanded, read_bytes
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.records import Record, Visibility
from posecascade.schema import MPII16, Schema

FIRST_PIXEL = 1
# All MPII code shifts the rough center down and enlarges the square, to include the feet (Newell et al. 2016, HRNet).
CENTER_SHIFT = 15   # pixels x scale
SCALE_FACTOR = 1.25


def read_mpii(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return the official release's people who are well separated (`single_person`) and have annotated keypoints.

    ROOT has mpii_human_pose_v1_u12_1.mat (or one folder deeper, as unpacked) and images/. The release labels only its
    training images and does not split them. The standard validation split (Tompson et al. 2015) is a list of images,
    read from ROOT or the .mat's folder: valid_images.txt (one name per line), HRNet's annot/valid.json or valid.json.
    "val" and "test" are the people in the listed images, "train" the others. Without a list, see `hold_out`.
    `schema` is ignored (MPII16).
    """
    path = _find(existing(root, "mpii", "the folder with the official .mat and images/"), "*.mat",
                 "mpii_human_pose*.mat", "the official mpii_human_pose_v1_u12_1.mat")
    folder = next((f for f in (path.parent / "images", path.parent.parent / "images") if f.is_dir()),
                  path.parent / "images")
    records = [_record_of(path, folder, person) for person in annotated_people(path)]
    if not records:
        raise InputError(f"{path}: has nobody with annotated keypoints; give the official release")
    listed = _listed_images(path.parent, Path(expanded(root)))
    if listed is None or checked_split(split) == "all":
        return hold_out(records, split)
    return [record for record in records if (Path(record.image_name).name in listed) == (split != "train")]


def read_mpii_json(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return the people in the lists of HRNet and MMPose: annot/train.json and annot/valid.json, with images/.

    ROOT may also have the .json files directly, or a single list (`hold_out`), or be the list. `joints_vis` only says
    whether a keypoint is labeled. Head sizes are from gt_valid.mat next to valid.json, if there is one.
    `schema` is ignored (MPII16).
    """
    path = existing(root, "mpii_json", "the folder with annot/train.json, annot/valid.json and images/")
    train, valid = (next((f for f in (path / "annot" / name, path / name) if f.is_file()), None)
                    for name in ("train.json", "valid.json"))
    if path.is_file() or not (train or valid):
        return hold_out(_list_people(_find(path, "*.json", "*mpii.json", "train.json, valid.json or one list")), split)
    chosen = {"train": [train], "all": [train, valid]}.get(checked_split(split), [valid])
    if None in chosen:
        raise InputError(f"mpii_json: {path} has no {'train' if train is None else 'valid'}.json, which split "
                         f"{split!r} needs; add it or choose another split")
    return [record for file in chosen if file for record in _list_people(file)]


def read_mpii_val(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return the standard validation people in the order of published predictions: ground_truth.mat (or gt_valid.mat).

    That file has keypoints and head boxes. If present, valid.h5 says which keypoints are visible, and valid_images.txt
    has the images' names, which are used if ROOT has images/. "val", "test" and "all" are everybody, "train" nobody.
    `schema` is ignored (MPII16).
    """
    folder = existing(root, "mpii_val", "the folder with ground_truth.mat")
    path = next((f for name in ("ground_truth.mat", "gt_valid.mat") if (f := folder / name).is_file()),
                folder / "ground_truth.mat")
    variables = load_mat(path, "pos_gt_src")
    points = mat_numbers(path, variables, "pos_gt_src", (16, 2, None)).transpose(2, 0, 1) - FIRST_PIXEL
    missing = mat_numbers(path, variables, "jnt_missing", (16, len(points))).T > 0
    heads = _head_sizes(path, variables, len(points))
    visible = _visible(folder / "valid.h5", missing)
    squares = _squares(folder / "valid.h5", len(points))
    names = _names(folder / "valid_images.txt", len(points))
    hidden = np.zeros_like(missing) if visible is None else ~visible
    codes = np.select([missing, hidden], [Visibility.UNLABELED, Visibility.OCCLUDED], Visibility.VISIBLE)
    has_images = names and (folder / "images").is_dir()
    if checked_split(split) == "train":
        return []
    return [_record(f"{path}, person {i + 1}", ImageFile(folder / "images" / names[i]) if has_images else None,
                    points[i], codes[i], heads[i], i + 1, i + 1, visible is not None, squares[i])
            for i in range(len(points))]


def _record(origin, image, points, codes, head_size, image_id, person_id, occlusion_known, square):
    box = box_around(labeled_keypoints(origin, points, codes), square)
    return Record(image, origin, MPII16, box, points, codes, head_size=None if head_size is None else float(head_size),
                  area=box.w * box.h, image_id=image_id, person_id=person_id, occlusion_known=occlusion_known,
                  square=square)


def _square(values: Any, adjusted: bool = False) -> Box | None:
    """Return the box whose crop is MPII's square of 200 px x scale; None if `values` is not x, y and scale.

    `adjusted`: the values already include CENTER_SHIFT and SCALE_FACTOR, as in valid.h5.
    """
    numeric = isinstance(values, (list, tuple, np.ndarray)) and len(values) == 3 and all(
        isinstance(v, (int, float)) and np.isfinite(v) for v in values)
    if not numeric or values[2] <= 0:
        return None
    x, y, scale = values
    if not adjusted:
        y, scale = y + CENTER_SHIFT * scale, scale * SCALE_FACTOR
    return Box.from_center_scale((x - FIRST_PIXEL, y - FIRST_PIXEL), float(scale))


def _squares(path: Path, people: int) -> list[Box | None]:
    """Return one box per person from `center` and `scale` of valid.h5; None for all if it has none."""
    if not path.is_file():
        return [None] * people
    with h5py.File(io.BytesIO(read_bytes(path)), "r") as file:
        center, scale = (np.asarray(file.get(name, ())) for name in ("center", "scale"))
    if center.shape != (people, 2) or scale.shape != (people,) or {center.dtype.kind, scale.dtype.kind} - set("fiu"):
        return [None] * people
    return [_square(row, adjusted=True) for row in np.column_stack([center, scale]).tolist()]


def _record_of(path: Path, folder: Path, person: Person) -> Record:
    head = HEAD_SIZE_FACTOR * np.hypot(*person.head_box) if person.head_box else None
    return _record(f"{path}, {person.image}, person {person.number}", ImageFile(folder / person.image),
                   person.points - FIRST_PIXEL, person.visibility, head, person.image_number, person.number, True,
                   _square(person.center_and_scale))


def _find(path: Path, pattern: str, preferred: str, what: str) -> Path:
    """Return `path` itself if it is a file, else the only file of that name in it or one folder deeper."""
    if path.is_file():
        return path
    for names in (preferred, f"*/{preferred}", pattern):
        files = sorted(path.glob(names))
        if len(files) == 1:
            return files[0]
    raise InputError(f"{path}: holds {len(files)} files {pattern}, expected {what}; give the file itself as ROOT")


def _listed_images(*folders: Path) -> set[str] | None:
    """Return the names of the validation images, or None if there is no list."""
    for folder in folders:
        for name in ("valid_images.txt", "annot/valid_images.txt", "annot/valid.json", "valid.json"):
            path = folder / name
            if path.is_file() and path.suffix == ".txt":
                return set(_lines(path))
            if path.is_file():
                return {entry["image"] for entry in _entries(path)}
    return None


def _list_people(path: Path) -> list[Record]:
    base = path.parent.parent if path.parent.name == "annot" else path.parent
    folder = base / "images" if (base / "images").is_dir() else base
    entries = list(_entries(path))
    heads: Any = [None] * len(entries)
    truth = path.parent / "gt_valid.mat"
    if path.name == "valid.json" and truth.is_file():
        heads = _head_sizes(truth, load_mat(truth, "headboxes_src"), len(entries))
    return [record for i, entry in enumerate(entries) if (record := _listed(path, i, entry, folder, heads[i]))]


def _entries(path: Path) -> Iterator[dict]:
    content = load_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: holds {type(content).__name__}, expected a list of people; "
                         "for COCO's layout use --data=coco:ROOT")
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise InputError(f"{path}: entry {number} has no 'image'; give HRNet's train.json or valid.json")
        yield entry


def _listed(path: Path, number: int, entry: dict, folder: Path, head_size: float | None) -> Record | None:
    """Return the person in one entry of a list, or None if no keypoint is labeled."""
    try:
        points = np.array(entry["joints"], np.float64)
        labeled = np.array(entry["joints_vis"], np.float64) > 0
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: entry {number} has no numbers in 'joints' or 'joints_vis' ({error}); "
                         "MPII's test list has no labels: give train.json or valid.json") from None
    if points.shape != (MPII16.size, 2) or labeled.shape != (MPII16.size,):
        raise InputError(f"{path}: entry {number} has 'joints' of shape {points.shape} and 'joints_vis' of shape "
                         f"{labeled.shape}, expected (16, 2) and (16,); give HRNet's list, or COCO's layout as coco")
    if not labeled.any():
        return None
    codes = np.where(labeled, Visibility.VISIBLE, Visibility.UNLABELED)
    return _record(f"{path}, entry {number}", ImageFile(folder / entry["image"]), points - FIRST_PIXEL, codes,
                   head_size, -1, number, False, _square(_center_and_scale(entry)))


def _center_and_scale(entry: dict) -> list | None:
    """Return x, y and scale of an entry, or None if its center is not a list."""
    center = entry.get("center")
    return [*center, entry.get("scale")] if isinstance(center, list) else None


def _head_sizes(path: Path, variables: dict, people: int) -> np.ndarray:
    """Return (N,) in pixels, from headboxes_src (corner, axis, person)."""
    boxes = mat_numbers(path, variables, "headboxes_src", (2, 2, people))
    return HEAD_SIZE_FACTOR * np.linalg.norm(boxes[1] - boxes[0], axis=0)


def _visible(path: Path, missing: np.ndarray) -> np.ndarray | None:
    """Return (N, 16) bool from `visible` of valid.h5, or None if there is no such file."""
    if not path.is_file():
        return None
    try:
        with h5py.File(io.BytesIO(read_bytes(path)), "r") as file:
            visible = np.asarray(file["visible"]) > 0
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: has no readable 'visible' ({error}); copy it again or remove it") from None
    if visible.shape != missing.shape or (visible & missing).any():
        raise InputError(f"{path}: 'visible' of shape {visible.shape} does not fit the {len(missing)} people of the "
                         ".mat next to it (some visible keypoints are missing there); give files of one release")
    return visible


def _names(path: Path, people: int) -> list[str]:
    """Return the image's name of each person, or an empty list if there is no file."""
    names = _lines(path) if path.is_file() else []
    if names and len(names) != people:
        raise InputError(f"{path}: holds {len(names)} names, expected {people}, one for each person; fix the file")
    return names


def _lines(path: Path) -> list[str]:
    """Return the stripped lines of a text file, without blank ones."""
    lines: Iterable[str] = read_bytes(path).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
