"""Read the analysis files of SLEAP, CSV and HDF5: keypoints of tracks in the frames of a video."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from posecascade import files
from posecascade.errors import InputError
from posecascade.exchange.people import LabeledImage, Options, People, Person, csv_rows, image_size, number, people_of
from posecascade.image_formats import SUFFIXES
from posecascade.records import Visibility

MATLAB = ("track", "xy", "node", "frame")  # order of the axes of "tracks" if the file does not say it
Frames = dict[int, list[dict[str, tuple[float, float, int]]]]


def read_sleap(source: Path, options: Options) -> People:
    """Return the people of an analysis file. A keypoint with x and y is visible, one without is unlabeled.

    The file names frames of a video by number; `options.images` is the folder of these frames as images, whose names
    end in the number of the frame.
    """
    if source.suffix.lower() == ".slp":
        raise InputError(f"{source}: is a project of SLEAP; expected an analysis file. Use File > Export Analysis HDF5 "
                         "or CSV in SLEAP")
    names, limbs, frames = (_csv if source.suffix.lower() == ".csv" else _hdf5)(source)
    if not frames:
        raise InputError(f"{source}: has no labeled keypoint in any frame; give another file")
    if options.images is None:
        raise InputError(f"{source}: labels frames of a video; expected them as images. Extract them, and give their "
                         "folder with --images; each name ends in the frame's number, as in frame_000012.png")
    paths = _frame_images(options.images)
    if len(paths) > 1 and set(paths) == set(range(1, len(paths) + 1)):
        raise InputError(f"--images={options.images}: its images count from 1, SLEAP's frames from 0; expected the "
                         "frame 0, or the labeled frames alone. Extract them again (ffmpeg: -start_number 0)")
    missing = [frame for frame in frames if frame not in paths]
    if len(missing) == len(frames):
        raise InputError(f"--images={options.images}: has no image of the labeled frames ({missing[0]}, ...); expected "
                         "names that end in the frame's number, as in frame_000012.png")
    images = [LabeledImage(str(paths[frame]), image_size(paths[frame]), tuple(map(Person, people)))
              for frame, people in sorted(frames.items()) if frame in paths]
    return people_of(source, names, images, options, limbs=limbs,
                     excluded={"labeled frames without an image": len(missing)} if missing else {})


def _frame_images(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        digits = re.search(r"(\d+)$", path.stem)
        if digits and path.suffix.lower() in SUFFIXES:
            other = found.setdefault(int(digits[1]), path.resolve())
            if other != path.resolve():
                raise InputError(f"--images={folder}: {other.name} and {path.name} both are frame {int(digits[1])}; "
                                 "expected one image per frame. Give a folder of one video's frames")
    return found


def _csv(source: Path) -> tuple[list[str], list[tuple[str, str]], Frames]:
    columns, *table = csv_rows(source) or [[]]
    rows = [(line, dict(zip(columns, row, strict=False))) for line, row in enumerate(table, 2) if row]
    names = [column[:-2] for column in columns if column.endswith(".x") and f"{column[:-2]}.y" in columns]
    if "frame_idx" not in columns or not names:
        raise InputError(f"{source}: has the columns {', '.join(map(str, columns[:4])) or 'none'}, ...; expected "
                         "track, frame_idx, instance.score, NODE.x, NODE.y, ... as in SLEAP's analysis CSV")
    frames: Frames = {}
    for line, row in rows:
        origin = f"{source}, line {line}"
        points = {name: _point(row, name, origin) for name in names if _is_given(row, name)}
        if points:
            frames.setdefault(int(number(row.get("frame_idx"), f"{origin}: frame_idx")), []).append(points)
    return names, [], frames


def _point(row: dict[str, str], name: str, origin: str) -> tuple[float, float, int]:
    x, y = (number(row[f"{name}.{axis}"], f"{origin}: {name}.{axis}") for axis in "xy")
    return x, y, Visibility.VISIBLE


def _is_given(row: dict[str, str], name: str) -> bool:
    return all(row.get(f"{name}.{axis}", "").strip().lower() not in ("", "nan") for axis in "xy")


def _hdf5(source: Path) -> tuple[list[str], list[tuple[str, str]], Frames]:
    try:
        with h5py.File(io.BytesIO(files.read_bytes(source)), "r") as file:
            if "tracks" not in file or "node_names" not in file:
                raise InputError(f"{source}: has {', '.join(sorted(file)[:6]) or 'nothing'}; expected tracks and "
                                 "node_names, as in SLEAP's analysis HDF5")
            names = [name.decode("utf-8") for name in file["node_names"][()]]
            edges = file["edge_names"][()] if "edge_names" in file else ()
            limbs = [(a.decode("utf-8"), b.decode("utf-8")) for a, b in edges]
            axes = _axes(file["tracks"])
            tracks = np.asarray(file["tracks"], np.float64)
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: is not a complete analysis HDF5 of SLEAP ({error}); export it again") from None
    if tracks.ndim != 4 or sorted(axes) != sorted(MATLAB):
        raise InputError(f"{source}: 'tracks' has shape {tracks.shape}; expected tracks, 2, nodes and frames")
    table = tracks.transpose([axes.index(axis) for axis in ("frame", "track", "node", "xy")])
    if table.shape[2:] != (len(names), 2):
        raise InputError(f"{source}: 'tracks' has shape {tracks.shape} with axes {', '.join(axes)}; expected 2 and "
                         f"{len(names)} nodes. Export it again")
    return names, limbs, dict(_people(names, table))


def _axes(dataset: Any) -> list[str]:
    dims = dataset.attrs.get("dims")
    return list(map(str, json.loads(dims))) if dims is not None else list(MATLAB)


def _people(names: list[str], table: np.ndarray) -> Iterator[tuple[int, list[dict[str, tuple[float, float, int]]]]]:
    for frame, tracks in enumerate(table):
        people = [{name: (float(x), float(y), int(Visibility.VISIBLE))
                   for name, (x, y) in zip(names, track, strict=True) if np.isfinite([x, y]).all()} for track in tracks]
        if any(people):
            yield frame, [person for person in people if person]
