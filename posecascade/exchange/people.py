"""Labeled people of any tool: what its reader returns and what its writer takes, in pixels of the labeled image."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posecascade import files
from posecascade.datasets.image_search import spellings
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.geometry import Box
from posecascade.image_headers import read_header
from posecascade.poses_io import BOX_LIMITS
from posecascade.records import Visibility
from posecascade.schema import SCHEMAS, Schema

Points = Mapping[str, tuple[float, float, int]]  # name -> x and y in pixels, code of `Visibility`
_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


@dataclass(frozen=True)
class Options:
    """What the user states about a source.

    Attributes:
        images: folder of the images; None to look for them where the tool keeps them.
        category: name of the skeleton or class to convert; "" if there is only one.
        schema: order and names of the keypoints; None for the tool's own.
        data: the data set, "coco:ROOT", that a list of results belongs to; "" for the images.json next to it.
    """

    images: Path | None = None
    category: str = ""
    schema: Schema | None = None
    data: str = ""


@dataclass(frozen=True)
class Person:
    """One labeled person.

    Attributes:
        points: the labeled keypoints by the tool's names.
        box: in pixels, or None if the tool has none.
        score: of a prediction, or None for a label.
    """

    points: Points
    box: Box | None = None
    score: float | None = None


@dataclass(frozen=True)
class LabeledImage:
    """An image and its people.

    Attributes:
        path: the file, or the path in the tool's file if it was not found.
        size: width and height in pixels; None if unknown.
        people: in the order of the tool's file.
    """

    path: str
    size: tuple[int, int] | None
    people: tuple[Person, ...] = ()


@dataclass(frozen=True)
class People:
    """Everybody in a source.

    Attributes:
        schema: names of the keypoints.
        images: in the order of the source.
        category: name of the skeleton or class.
        excluded: what was not converted -> how many there are.
    """

    schema: Schema
    images: tuple[LabeledImage, ...]
    category: str = "person"
    excluded: Mapping[str, int] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Return the number of people."""
        return sum(len(image.people) for image in self.images)

    def table(self, person: Person) -> tuple[np.ndarray, np.ndarray]:
        """Return the person's keypoints (K, 2), NaN if unlabeled, and codes (K,) in the schema's order."""
        points, codes = np.full((self.schema.size, 2), np.nan), np.zeros(self.schema.size, np.int8)
        for name, (x, y, code) in person.points.items():
            k = self.schema.index(name)
            codes[k] = code
            if code != Visibility.UNLABELED:
                points[k] = x, y
        return points, codes


def people_of(origin: Path | str, names: Iterable[str], images: Iterable[LabeledImage], options: Options, *,
              category: str = "", limbs: Iterable[Sequence[str]] = (),
              excluded: Mapping[str, int] | None = None) -> People:
    """Return the people with plain names of keypoints, in the order of `names`, or of the user's schema if given.

    Names become lower case with underscores ("Left Wrist" becomes left_wrist), as data sets have them. Raises
    InputError if nobody has a keypoint, or if a name is not in the user's schema.
    """
    plain = {name: plain_name(name) for name in dict.fromkeys(names)}
    if not plain or not any(person.points for image in images for person in image.people):
        raise InputError(f"{origin}: has no labeled keypoint; expected people with keypoints. Give another file, or "
                         "choose another --category")
    if len(set(plain.values())) < len(plain):
        raise InputError(f"{origin}: its keypoints are {', '.join(plain)}; expected names that differ in more than "
                         "capitals and spaces. Rename them")
    edges = [(plain[a], plain[b]) for a, b in limbs if a in plain and b in plain and a != b]
    schema = options.schema or schema_of(plain.values(), edges, Path(str(origin)).stem)
    for name in plain.values():
        if name not in schema.keypoints:
            raise InputError(f"{origin}: has keypoint {name!r}, schema {schema.name!r} does not; "
                             f"{did_you_mean(name, schema.keypoints)}")
    renamed = tuple(LabeledImage(image.path, image.size if image.size and min(image.size) > 0 else None, tuple(
        Person({plain[name]: point for name, point in person.points.items()}, person.box, person.score)
        for person in image.people)) for image in images)
    return People(schema, renamed, category or "person", Counter(excluded or {}))


def plain_name(name: object) -> str:
    """Return the name of a keypoint in lower case and with underscores.

    >>> plain_name(" Left Wrist")
    'left_wrist'
    """
    return str(name).strip().lower().replace(" ", "_")


def schema_of(names: Iterable[str], limbs: Iterable[tuple[str, str]] = (), name: str = "keypoints") -> Schema:
    """Return a schema of these names: a built-in one if it has the same, otherwise with what the names tell.

    Names that differ in "left" and "right" (or "l" and "r") are pairs. The torso is left_shoulder to right_hip.

    >>> schema_of(["nose", "l_eye", "r_eye"]).pairs
    (('l_eye', 'r_eye'),)
    """
    names = tuple(names)
    for known in SCHEMAS.values():
        if known.keypoints == names:
            return known
    pairs = [(one, other) for one in names if (other := _other_side(one)) in names and re.search(r"l", _side(one))
             and one != other]
    sigmas = {k: sigma for known in reversed(SCHEMAS.values())
              for k, sigma in zip(known.keypoints, known.sigmas or (), strict=True)}
    torso = ("left_shoulder", "right_hip")
    return Schema(plain_name(re.sub(r"\W+", "_", name)) or "keypoints", names, tuple(pairs),
                  tuple(dict.fromkeys(limbs)), torso=torso if set(torso) <= set(names) else None,
                  sigmas=tuple(sigmas[k] for k in names) if set(names) <= set(sigmas) else None)


def _side(name: str) -> str:
    """Return the word of a name that says the side, "" without one."""
    return next((word for word in re.split(r"[\W_]+", name) if word in _SIDES),
                next((side for side in ("left", "right") if side in name), ""))


def _other_side(name: str) -> str:
    side = _side(name)
    if not side:
        return ""
    whole = rf"(?<![^\W_]){side}(?![^\W_])"
    return re.sub(whole if re.search(whole, name) else side, _SIDES[side], name, count=1)


def csv_rows(source: Path) -> list[list[str]]:
    """Return the rows of a CSV file, blank ones included. Raises InputError if it is none."""
    text = files.read_bytes(source).decode("utf-8-sig", "replace")
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(f"{source}: is no CSV file ({error}); export it again") from None


def found_image(name: str, folders: Iterable[Path | None]) -> Path | None:
    """Return the file of an image: the path itself, or the path or its name in one of the folders; None if missing.

    What is not found here keeps its path, and is searched for when the labels are read (`datasets.image_search`).
    """
    spelled = spellings(name)
    candidates = [Path(path) for path in spelled if Path(path).is_absolute()]
    for folder in filter(None, folders):
        candidates += [folder / path.lstrip("/") for path in spelled] + [folder / Path(spelled[-1]).name]
    return next((path.resolve() for path in candidates if path.is_file()), None)


def image_size(path: Path | None) -> tuple[int, int] | None:
    """Return width and height of the upright image, None if there is no such image."""
    header = read_header(path) if path else None
    return header.upright if header else None


def chosen(origin: Path | str, counts: Mapping[str, int], option: str, what: str) -> str:
    """Return the one category to convert. Raises InputError if there are several and none is chosen, or a wrong one."""
    names = list(counts)
    if option:
        if option not in counts:
            raise InputError(f"{origin}: has no {what} {option!r}; {did_you_mean(option, names)}")
        return option
    if len(names) > 1:
        raise InputError(f"{origin}: has several {what}{'e' * what.endswith('s')}s, "
                         f"{', '.join(f'{n} ({c})' for n, c in counts.items())}; choose one with --category")
    return names[0] if names else ""


def number(value: Any, origin: str) -> float:
    """Return a number of pixels or a share, also from text. Raises InputError, beginning with `origin`, otherwise."""
    try:
        if isinstance(value, bool) or not abs(result := float(value)) <= BOX_LIMITS[1]:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{origin} is {str(value)[:60]!r}; expected a finite number. Fix the file") from None
    return result
