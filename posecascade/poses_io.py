"""Poses as JSON lines and CSV, and the people asked for in JSON lines."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.poses import Pose

PIXEL_DIGITS, SCORE_DIGITS = 3, 4  # after the point: far below what a model can tell
BOX_LIMITS = (1e-3, 1e7)  # px: least longer side, largest number; beyond them arithmetic fails, and nobody is
COLUMNS = ("x", "y", "score", "visibility")


@dataclass(frozen=True)
class Request:
    """A picture to predict on.

    Attributes:
        image: its name as given; what the answer says.
        path: where it is.
        box: the person in its upright pixels, or None to look for one.
        origin: where it was asked for, for messages; "" where the picture itself was given.
        in_folder: whether it was found in a folder, and so not asked for by its name.
    """

    image: str
    path: Path
    box: Box | None = None
    origin: str = ""
    in_folder: bool = False

    def told(self, error: InputError) -> InputError:
        """What is wrong with the picture, and where it was asked for."""
        return InputError(f"{self.origin}: {error}") if self.origin else error


def requests(lines: Iterable[str], origin: str, folder: Path) -> Iterator[Request | InputError]:
    """Of each line `{"image": PATH, "box": [x, y, w, h]}` a request, or what is wrong with it; blank lines are none.

    Other keys are passed over, so that a file of predictions can be asked again.

    Args:
        lines: of JSON.
        origin: the file's name.
        folder: of the file. A relative PATH counts from the working folder, as on the command line, or where nothing
            is there from this one.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _request(line, f"{origin}, line {number}", folder)
            except InputError as error:
                yield error


def _request(line: str, origin: str, folder: Path) -> Request:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}: is no JSON ({error}); mend or remove the line") from None
    if not isinstance(value, dict) or not isinstance(value.get("image"), str) or not value["image"]:
        raise InputError(f'{origin}: expected {{"image": PATH, "box": [x, y, w, h]}}, found {line.strip()[:80]}')
    path = Path(value["image"])
    return Request(value["image"], path if path.exists() else folder / path, _box(value.get("box"), origin), origin)


def _box(value, origin: str) -> Box | None:
    try:
        return box_from(value)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def box_from(value: Box | Sequence[float] | None) -> Box | None:
    """A Box from [x, y, w, h]; None as it is.

    Raises InputError where it is empty, no four numbers, or beyond BOX_LIMITS.
    """
    if value is None or isinstance(value, Box):
        return value
    try:
        if isinstance(value, str):
            raise TypeError
        box = Box(*map(float, value))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"box {value!r}: expected [x, y, w, h] in pixels with w, h > 0") from None
    least, most = BOX_LIMITS
    if max(box.w, box.h) < least or max(map(abs, box.as_list())) > most:
        raise InputError(f"box {value!r}: expected pixels, a longer side of at least {least:g} and no number beyond "
                         f"{most:g}")
    return box


def answer(image: str, pose: Pose, box: Box | None = None) -> dict:
    """A line's object: `image` as given, the box as given or as found, and each joint by name."""
    found = [round(v, PIXEL_DIGITS) for v in pose.box.as_list()]
    return {"image": image, "box": box.as_list() if box else found,
            "keypoints": {name: [round(x, PIXEL_DIGITS), round(y, PIXEL_DIGITS), round(score, SCORE_DIGITS),
                                 round(visibility, SCORE_DIGITS)]
                          for name, (x, y, score, visibility) in pose.as_dict().items()}}


def as_line(line: dict) -> str:
    """One `answer` as a line of JSON."""
    return json.dumps(line, allow_nan=False) + "\n"


class PoseWriter:
    """Writes the same answers to a file of JSON lines and to a CSV table, one row per person."""

    def __init__(self, lines: TextIO, table: TextIO, names: tuple[str, ...]):
        """`names` are the joints, which head the table's columns; both files are open for text."""
        self._lines, self._table = lines, csv.writer(table, lineterminator="\n")
        self._table.writerow(["image", "box_x", "box_y", "box_w", "box_h",
                              *(f"{name}_{column}" for name in names for column in COLUMNS)])

    def write(self, line: dict) -> None:
        """One `answer`."""
        self._lines.write(as_line(line))
        values = [value for joint in line["keypoints"].values() for value in joint]
        self._table.writerow([line["image"], *line["box"], *values])
