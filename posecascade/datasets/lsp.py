"""Leeds Sports Pose and its extended training set: `joints.mat` and `images/` -> records.

Both files hold x, y and a flag for 14 joints, but with the axes in another order and with opposite flags: 1 says
"occluded" in LSP (7 % of the joints) and "annotated" in LSPET (88 %). The declared type settles the flag's meaning,
the shape the order of the axes, and a file whose flags contradict its type is refused.

Coordinates are kept as they are. Both sets were annotated in a browser, which counts pixels from 0, and LSPET's
labels agree: they go from 0.0 to W - 1.2, which as counted from 1 would leave the picture on one side only.
"""

from pathlib import Path

import numpy as np

from posecascade.datasets.sources import checked_split, existing, hold_out, load_mat
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.records import Record, Visibility
from posecascade.schema import LSP14, Schema

LAYOUT = "the folder with joints.mat (and images/), or the .mat file itself"


def read_lsp(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """LSP, person-centric, occlusion known; `schema` is not used, the file has its own (LSP14).

    "test" is the second half of the file (the official images 1001-2000). "train" and "val" divide the first half
    (1-1000), its last eighteenth being "val", so that choosing a checkpoint never looks at the test half.
    Without images/ the records have no picture and serve to score predictions.
    """
    path, points, flags = _joints("lsp", root)
    if flags.mean() > 0.5:
        raise InputError(f"{path}: {flags.mean():.0%} of the flags are 1, but LSP's flag means 'occluded' (7 %); "
                         "this looks like LSPET, whose flag means 'annotated': use --data=lspet:ROOT")
    visibility = np.where(flags == 1, Visibility.OCCLUDED, Visibility.VISIBLE)
    records = _records(path, points, visibility, digits=4, occlusion_known=True)
    half = len(records) // 2
    parts = {"test": records[half:], "all": records}
    return parts.get(checked_split(split)) or hold_out(records[:half], split)


def read_lspet(root: str, split: str, schema: Schema | None = None) -> list[Record]:
    """LSPET, of any length; the flags do not tell occluded joints. `schema` is not used (LSP14).

    It has no official split: see `hold_out`. Labels outside the picture stay; the crop decides about them.
    """
    path, points, flags = _joints("lspet", root)
    if flags.mean() < 0.5:
        raise InputError(f"{path}: only {flags.mean():.0%} of the flags are 1, but LSPET's flag means 'annotated' "
                         "(88 %); this looks like LSP, whose flag means 'occluded': use --data=lsp:ROOT")
    visibility = np.where(flags == 1, Visibility.VISIBLE, Visibility.UNLABELED)
    return hold_out(_records(path, points, visibility, digits=5, occlusion_known=False), split)


def _joints(kind: str, root: str) -> tuple[Path, np.ndarray, np.ndarray]:
    """The file, coordinates (N, 14, 2) float64 in pixels and flags (N, 14) of 0 and 1."""
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
        raise InputError(f"{path}: 'joints' of shape {shape} holds nobody; give the release's joints.mat")
    flags = people[..., 2].astype(np.float64)
    if not np.isin(flags, (0, 1)).all():
        raise InputError(f"{path}: the flags (third row) go from {flags.min():g} to {flags.max():g}, expected only "
                         "0 and 1; give the release's joints.mat")
    return path, people[..., :2].astype(np.float64), flags


def _records(path, points, visibility, *, digits, occlusion_known):
    """One record per person, in the file's order, numbered from 1 as the images are."""
    folder = path.parent / "images"
    has_images = folder.is_dir()

    def record(number, joints, codes):
        origin = f"{path}, person {number}"
        labeled = joints[codes > 0]
        if not len(labeled) or not np.isfinite(labeled).all():
            raise InputError(f"{origin}: has {'no labeled joint' if not len(labeled) else 'a joint that is NaN'}; "
                             "mend the file")
        image = ImageFile(folder / f"im{number:0{digits}d}.jpg") if has_images else None
        box = Box.around(labeled)
        return Record(image, origin, LSP14, box, joints, codes, area=box.w * box.h, image_id=number,
                      person_id=number, occlusion_known=occlusion_known)

    return [record(i + 1, *person) for i, person in enumerate(zip(points, visibility, strict=True))]
