"""Read predictions.jsonl: a line per person, with keypoints by name."""

import json
from pathlib import Path

import numpy as np

from posecascade.errors import InputError
from posecascade.files import read_bytes


def read_lines(path: Path) -> list[dict]:
    """Return the lines as `posecascade-predict` writes them, {"image", "box", "keypoints"}; blank lines are skipped.

    Raises InputError, naming the line, if one is malformed.
    """
    return [_line(f"{path}, line {number}", text)
            for number, text in enumerate(_text(path).splitlines(), 1) if text.strip()]


def _text(path):
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); "
                         "expected JSON lines") from None


def _line(origin: str, text: str) -> dict:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}: is not JSON ({error}); fix or remove the line") from None
    if not isinstance(line, dict) or not isinstance(line.get("image"), str) \
            or not isinstance(line.get("keypoints"), dict):
        raise InputError(f'{origin}: expected {{"image": PATH, "box": [x, y, w, h], "keypoints": '
                         "{NAME: [x, y, score, visibility]}}. Fix the line")
    for name, values in line["keypoints"].items():
        if values is not None and not (_numbers(values) and 2 <= len(values) <= 4):
            raise InputError(f"{origin}: keypoint {name!r} is {values!r}; expected [x, y, score, visibility]. "
                             "Fix the line")
    box = line.get("box")
    if box is not None and not (_numbers(box) and len(box) == 4 and np.isfinite(box).all() and min(box[2:]) > 0):
        raise InputError(f"{origin}: 'box' is {box!r}; expected [x, y, w, h] with w, h > 0. Fix the line")
    return line


def _numbers(values) -> bool:
    return isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
