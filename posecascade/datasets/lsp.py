"""Read Leeds Sports Pose (LSP) and its extended training set (LSPET): `joints.mat` and `images/`.

Both files have x, y and a flag for 14 keypoints, but with a different order of axes and with opposite flags: 1 means
"occluded" in LSP (7 % of the keypoints) and "annotated" in LSPET (88 %). The type in --data decides what the flag
means, and the shape decides the order of axes. A file whose flags contradict its type is refused.

Coordinates are kept unchanged. Both sets were annotated in a browser, which counts pixels from 0. LSPET's labels agree:
they range from 0.0 to W - 1.2; if they counted from 1, they would leave the image on one side only.
"""

from pathlib import Path

import numpy as np

from posecascade.datasets.sources import checked_split, existing, hold_out, labeled_keypoints, load_mat
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.records import Record, Visibility
from posecascade.schema import LSP14, Schema

LAYOUT = "the folder with joints.mat (and images/), or the .mat file itself"


def read_lsp(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return LSP, person-centric, with known occlusion; `schema` is ignored, the file's own is LSP14.

    "test" is the second half of the file, the official images 1001-2000. "train" and "val" divide the first half,
    1-1000: "val" is its last eighteenth, so that the test half is never used to choose a checkpoint.
    Without images/, the records have no image and can only be used to evaluate predictions.
    """
    path, points, flags = _keypoints("lsp", root)
    if flags.mean() > 0.5:
        raise InputError(f"{path}: {flags.mean():.0%} of the flags are 1, but LSP's flag means 'occluded' (7 %); "
                         "this looks like LSPET, whose flag means 'annotated': use --data=lspet:ROOT")
    visibility = np.where(flags == 1, Visibility.OCCLUDED, Visibility.VISIBLE)
    records = _records(path, points, visibility, digits=4, occlusion_known=True)
    half = len(records) // 2
    halves = {"test": records[half:], "all": records}
    return halves.get(checked_split(split)) or hold_out(records[:half], split)


def read_lspet(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """Return LSPET, of any length; its flags do not distinguish occluded keypoints. `schema` is ignored (LSP14).

    It has no official split: see `hold_out`. Labels outside the image are kept; they count if they are in the crop.
    """
    path, points, flags = _keypoints("lspet", root)
    if flags.mean() < 0.5:
        raise InputError(f"{path}: only {flags.mean():.0%} of the flags are 1, but LSPET's flag means 'annotated' "
                         "(88 %); this looks like LSP, whose flag means 'occluded': use --data=lsp:ROOT")
    visibility = np.where(flags == 1, Visibility.VISIBLE, Visibility.UNLABELED)
    return hold_out(_records(path, points, visibility, digits=5, occlusion_known=False), split)


def _keypoints(kind: str, root: str) -> tuple[Path, np.ndarray, np.ndarray]:
    """Return the file, coordinates (N, 14, 2) float64 in pixels and flags (N, 14) of 0 and 1."""
    path = existing(root, kind, LAYOUT)
    path = path / "joints.mat" if path.is_dir() else path
    joints = np.asarray(load_mat(path, "joints")["joints"])
    shape = joints.shape
    joints = joints[..., None] if joints.ndim == 2 else joints  # MATLAB drops the last axis of a single person
    size = LSP14.size
    if joints.dtype.kind not in "fiub" or joints.ndim != 3 or joints.shape[:2] not in ((size, 3), (3, size)):
        raise InputError(f"{path}: 'joints' is {joints.dtype} of shape {shape}, expected numbers of shape "
                         f"({size}, 3, N) or (3, {size}, N); give the release's joints.mat")
    people = joints.transpose(2, 0, 1) if joints.shape[0] == size else joints.transpose(2, 1, 0)
    if not len(people):
        raise InputError(f"{path}: 'joints' of shape {shape} has no people; give the release's joints.mat")
    flags = people[..., 2].astype(np.float64)
    if not np.isin(flags, (0, 1)).all():
        raise InputError(f"{path}: the flags (third row) range from {flags.min():g} to {flags.max():g}, expected "
                         "only 0 and 1; give the release's joints.mat")
    return path, people[..., :2].astype(np.float64), flags


def _records(path, points, visibility, *, digits, occlusion_known):
    """Return one record per person, in the file's order, numbered from 1 like the images."""
    folder = path.parent / "images"
    has_images = folder.is_dir()

    def record(number, keypoints, codes):
        origin = f"{path}, person {number}"
        image = ImageFile(folder / f"im{number:0{digits}d}.jpg") if has_images else None
        box = Box.around(labeled_keypoints(origin, keypoints, codes))
        return Record(image, origin, LSP14, box, keypoints, codes, area=box.w * box.h, image_id=number,
                      person_id=number, occlusion_known=occlusion_known)

    return [record(i + 1, *person) for i, person in enumerate(zip(points, visibility, strict=True))]
