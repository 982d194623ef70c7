"""Write poses as JSON lines and CSV, and read requests for images and boxes from JSON lines."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from posecascade.errors import InputError
from posecascade.files import name_from_text, name_to_text
from posecascade.geometry import Affine, Box
from posecascade.poses import Pose

PIXEL_DIGITS, SCORE_DIGITS = 3, 4  # decimals; far finer than any model is exact
BOX_LIMITS = (1e-3, 1e7)  # px: minimum longer side, largest number; no person is beyond them, and arithmetic fails
COLUMNS = ("x", "y", "score", "visibility")


@dataclass(frozen=True)
class Request:
    """An image to predict on.

    Attributes:
        image: the name as given, which the answer repeats.
        path: of the file.
        box: the person in pixels of the upright image, or None to search for the person.
        origin: the file and line of the request, for messages; "" if the image itself was given.
        in_folder: whether the image was found in a folder rather than given by name.
        image_id: the image's number in a COCO file, or None.
        score: of the detection of the box; 1 without a detector.
        to_upright: the map from the pixels that the COCO file counts to those of the upright image, if they differ.
    """

    image: str
    path: Path
    box: Box | None = None
    origin: str = ""
    in_folder: bool = False
    image_id: int | None = None
    score: float = 1.0
    to_upright: Affine | None = None

    def with_origin(self, error: InputError) -> InputError:
        """Return the error with the request's origin before its message."""
        return InputError(f"{self.origin}: {error}") if self.origin else error


def requests(lines: Iterable[str], origin: str, folder: Path) -> Iterator[Request | InputError]:
    """Yield a Request per line `{"image": PATH, "box": [x, y, w, h]}`, or an InputError if the line is malformed.

    Blank lines are skipped. Other keys are ignored, so that a file of predictions is also a file of requests.

    Args:
        lines: of JSON.
        origin: the file's name, for messages.
        folder: of the file. A relative PATH is relative to the working folder, as on the command line, or to this
            folder if there is no such file.

    >>> [request] = requests(['{"image": "/a.jpg", "box": [1, 2, 30, 40]}'], "people.jsonl", Path())
    >>> request.image, request.box, request.origin
    ('/a.jpg', Box(x=1.0, y=2.0, w=30.0, h=40.0), 'people.jsonl, line 1')
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
        raise InputError(f"{origin}: is not JSON ({error}); fix or remove the line") from None
    if not isinstance(value, dict) or not isinstance(value.get("image"), str) or not value["image"]:
        raise InputError(f'{origin}: expected {{"image": PATH, "box": [x, y, w, h]}}, found {line.strip()[:80]}')
    names = dict.fromkeys((value["image"], name_from_text(value["image"])))
    paths = [path for name in names for path in (Path(name), folder / name)]
    path = next((path for path in paths if path.exists()), paths[1])
    return Request(value["image"], path, _box(value.get("box"), origin), origin)


def _box(value, origin: str) -> Box | None:
    try:
        return box_from(value)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def box_from(value: Box | Sequence[float] | None) -> Box | None:
    """Return a Box from [x, y, w, h]; a Box and None are returned as they are.

    Raises InputError if the value is empty, is not four numbers, or is beyond BOX_LIMITS.

    >>> box_from([1, 2, 30, 40])
    Box(x=1.0, y=2.0, w=30.0, h=40.0)
    """
    if value is None or isinstance(value, Box):
        return value
    try:
        if isinstance(value, str):
            raise TypeError
        box = Box(*map(float, value))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"box {value!r}: expected [x, y, w, h] in pixels with w, h > 0") from None
    min_side, limit = BOX_LIMITS
    if max(box.w, box.h) < min_side or max(map(abs, box.as_list())) > limit:
        raise InputError(f"box {value!r}: expected pixels, a longer side of at least {min_side:g} and no number beyond "
                         f"{limit:g}")
    return box


def answer(image: str, pose: Pose, box: Box | None = None) -> dict:
    """Return the object of a line: `image` as given, the box given or used, and each keypoint by name."""
    used = [round(v, PIXEL_DIGITS) for v in pose.box.as_list()]
    return {"image": name_to_text(image), "box": box.as_list() if box else used,
            "keypoints": {name: [round(x, PIXEL_DIGITS), round(y, PIXEL_DIGITS), round(score, SCORE_DIGITS),
                                 round(visibility, SCORE_DIGITS)]
                          for name, (x, y, score, visibility) in pose.as_dict().items()}}


def as_line(line: dict) -> str:
    """Return an `answer` as a line of JSON."""
    return json.dumps(line, allow_nan=False) + "\n"


class PoseWriter:
    """Write the same answers to a file of JSON lines and to a CSV table, one row per person."""

    def __init__(self, lines: TextIO, table: TextIO, names: tuple[str, ...]):
        """Write the table's header for the keypoints `names`; both files are open for text."""
        self._lines, self._table = lines, csv.writer(table, lineterminator="\n")
        self._table.writerow(["image", "box_x", "box_y", "box_w", "box_h",
                              *(f"{name}_{column}" for name in names for column in COLUMNS)])

    def write(self, line: dict) -> None:
        """Write one `answer`."""
        self._lines.write(as_line(line))
        values = [value for keypoint in line["keypoints"].values() for value in keypoint]
        self._table.writerow([line["image"], *line["box"], *values])
