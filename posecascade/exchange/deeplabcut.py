"""Read the labels of DeepLabCut: CollectedData_SCORER as .csv, or as .h5 in pandas' fixed layout."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from posecascade import files
from posecascade.errors import InputError
from posecascade.exchange.people import (
    LabeledImage,
    Options,
    People,
    Person,
    csv_rows,
    found_image,
    image_size,
    people_of,
)
from posecascade.records import Visibility

LEVELS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
HDF5 = (".h5", ".hdf5")


def read_deeplabcut(source: Path, options: Options) -> People:
    """Return the people of a file of labels. A keypoint with x and y is visible, one without is unlabeled.

    Raises InputError for files of predictions, whose rows are numbers of video frames.
    """
    columns, rows = (_hdf5 if source.suffix.lower() in HDF5 else _csv)(source)
    bodyparts = dict.fromkeys(part for _, part, _ in columns)
    images = []
    for name, values in rows:
        if name.isdecimal():
            raise InputError(f"{source}: has the frame number {name} for an image; expected paths such as "
                             "labeled-data/video/img01.png. Give CollectedData_*.csv of the folder labeled-data")
        people: dict[str, dict[str, dict[str, float]]] = {}
        for (individual, part, axis), value in zip(columns, values, strict=True):
            people.setdefault(individual, {}).setdefault(part, {})[axis] = value
        # The project's folder holds labeled-data/VIDEO/IMAGE, and the file of labels is next to the images.
        path = found_image(name, (options.images, source.parent.parent.parent, source.parent))
        images.append(LabeledImage(str(path or name), image_size(path), tuple(
            Person(points) for parts in people.values() if (points := _labeled(parts)))))
    return people_of(source, bodyparts, images, options, limbs=_limbs(source))


def _labeled(parts: dict[str, dict[str, float]]) -> dict[str, tuple[float, float, int]]:
    return {part: (xy["x"], xy["y"], Visibility.VISIBLE) for part, xy in parts.items()
            if np.isfinite([xy["x"], xy["y"]]).all()}


def _limbs(source: Path) -> list[Sequence[str]]:
    """Return the skeleton of the project's config.yaml, if it is where DeepLabCut puts it."""
    config = source.parent.parent.parent / "config.yaml"
    content = files.read_yaml(config, "project") if config.is_file() else None
    listed = content.get("skeleton") if isinstance(content, dict) else None
    return [list(map(str, edge)) for edge in listed or [] if isinstance(edge, list) and len(edge) == 2]


def _csv(source: Path) -> tuple[list[tuple[str, str, str]], Iterator[tuple[str, list[float]]]]:
    """Return (individual, bodypart, coordinate) of each column, and the rows; "" for a single individual."""
    table = csv_rows(source)
    first_cells = [row[0][:40] for row in table[:4] if row]
    heads = next((table[:len(names)] for names in LEVELS if first_cells[:len(names)] == names), None)
    if not heads:
        raise InputError(f"{source}: begins with {', '.join(first_cells) or 'nothing'}; expected rows scorer, "
                         "(individuals,) bodyparts, coords as in CollectedData_*.csv")
    # The image's path is in the first column, or its three parts are in the first three.
    first = next((i for i, cell in enumerate(heads[-1]) if cell in ("x", "y")), len(heads[-1]))
    if len({len(row) for row in heads}) > 1:
        raise InputError(f"{source}: the rows of its header have {', '.join(str(len(row)) for row in heads)} cells; "
                         "expected as many in each. Fix the header")
    columns = [(head[1] if len(heads) == 4 else "", head[-2], head[-1])
               for head in zip(*(row[first:] for row in heads), strict=True)]
    rows = (row for row in table[len(heads):] if any(row))
    return _checked(source, columns), (("/".join(filter(None, row[:first])), _values(source, row, first, columns))
                                       for row in rows)


def _values(source: Path, row: list[str], first: int, columns: list) -> list[float]:
    cells = row[first:]
    try:
        values = [float(cell) if cell.strip() else np.nan for cell in cells]
    except ValueError:
        values = []
    if len(values) != len(columns):
        raise InputError(f"{source}, row {','.join(row[:first])}: holds {len(cells)} values; expected {len(columns)} "
                         "numbers or blanks. Fix the row")
    return values


def _checked(source: Path, columns: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for individual, part, axis in columns:
        found.setdefault((individual, part), set()).add(axis)
    wrong = [part for (_, part), axes in found.items() if not {"x", "y"} <= axes <= {"x", "y", "likelihood"}]
    if wrong or len(set(columns)) < len(columns):
        raise InputError(f"{source}: bodypart {(wrong or ['?'])[0]!r} has not one column x and one y; expected both "
                         "for each bodypart. Fix the header")
    return columns


def _hdf5(source: Path) -> tuple[list[tuple[str, str, str]], Iterator[tuple[str, list[float]]]]:
    """Read pandas' fixed layout. Its table layout stores the names as pickled objects, which are not loaded."""
    try:
        with h5py.File(io.BytesIO(files.read_bytes(source)), "r") as file:
            group = next((g for g in file.values() if isinstance(g, h5py.Group) and "pandas_type" in g.attrs), None)
            if group is None:
                raise InputError(f"{source}: has {', '.join(file) or 'nothing'}; expected a table that pandas wrote, "
                                 "as CollectedData_*.h5")
            if "block0_values" not in group or "block1_values" in group or "axis0_level0" not in group:
                raise InputError(f"{source}: is pandas' table layout, in which the names are pickled Python objects; "
                                 f"expected the .csv. Give {source.with_suffix('.csv').name}, which DeepLabCut writes "
                                 "next to it")
            levels = _axis(source, group, "axis0")
            names = _axis(source, group, "axis1")
            values = np.asarray(group["block0_values"], np.float64)
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: is not a complete HDF5 file ({error}); copy it again") from None
    columns = [(level[1] if len(level) == 4 else "", level[-2], level[-1]) for level in levels]
    if values.shape != (len(names), len(columns)) or not levels or len(levels[0]) not in (3, 4):
        raise InputError(f"{source}: holds values of shape {values.shape} for {len(names)} images and {len(columns)} "
                         "columns; expected them to agree. Give the .csv next to it")
    return _checked(source, columns), (("/".join(name), row.tolist()) for name, row in zip(names, values, strict=True))


def _axis(source: Path, group: Any, axis: str) -> list[tuple[str, ...]]:
    """Return the labels of an axis, one tuple per row or column: of several levels, or plain text."""
    count = int(group.attrs.get(f"{axis}_nlevels", 0))
    if not count:
        return [(text,) for text in _texts(source, group[axis])]
    levels = [_texts(source, group[f"{axis}_level{n}"]) for n in range(count)]
    codes = [np.asarray(group[f"{axis}_label{n}"]) for n in range(count)]
    return [tuple(level[code] for level, code in zip(levels, row, strict=True)) for row in zip(*codes, strict=True)]


def _texts(source: Path, dataset: Any) -> list[str]:
    if dataset.dtype.kind == "i":  # frame numbers of a video
        return [str(value) for value in dataset[()]]
    if dataset.dtype.kind != "S":
        raise InputError(f"{source}: its names are pickled Python objects, which are not loaded; give the .csv next to "
                         "it")
    return [value.decode("utf-8") for value in dataset[()]]
