"""Say what a file is that is not the JSON or MATLAB file that was expected, and what to do with it."""

import json
import re

_COCO = "export or convert it to COCO's keypoints JSON"
_HEAD = 4096  # bytes that are looked at
# How a file begins, its kind, what it is in words, and what to do. First those that may be binary.
_BEGINNINGS = (
    (rb"$", "empty", "is empty", "copy or download it again"),
    (rb"version https://git-lfs", "pointer", "is a pointer of Git LFS", "run: git lfs pull"),
    (rb"MATLAB 5\.0", "MATLAB", "is a MATLAB file", "give a JSON file"),
    (rb"(.{512})?\x89HDF\r\n\x1a\n", "HDF5", "is an HDF5 file", "save it in MATLAB with -v7, or as JSON"),
    (rb"# Created by Octave", "Octave", "is a text file of Octave", "save it again with: save -v7 FILE VARIABLE"),
    (rb"PK\x03\x04", "zip", "is a zip archive", "unpack it"),
    (rb"\x1f\x8b", "gzip", "is compressed by gzip", "unpack it: gunzip FILE"),
    (rb"\x93NUMPY", "NumPy", "is a NumPy array", "save it as JSON: json.dump(array.tolist(), file)"),
    (rb"\x80[\x02-\x05]", "pickle", "is a Python pickle", "save its values as JSON"),
)
_TEXTS = (
    (rb"(?i)\s*<(!doctype )?html", "page", "is a web page, as a failed download leaves", "download the file again"),
    (rb"\s*<", "XML", "is XML", _COCO),
    (rb"\s*[\[{]", "JSON", "is JSON", "give a MATLAB file, or the type of data set that has JSON"),
    (rb"(---|%YAML|\s*#[^\n]*\n|\s)*[\w.-]+:(\s|$)", "YAML", "is YAML", _COCO),
    (rb"[^\n]*[,;\t][^\n]*\n", "table", "is a table (CSV)", _COCO),
)


def other_than(expected: str, data: bytes) -> str:
    """Return "is KIND, expected EXPECTED. FIX" for a file of another kind, "" if it is `expected` or not recognized.

    Args:
        expected: "JSON" or "MATLAB".
        data: the file's bytes.
    """
    head = data[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    for pattern, kind, found, fix in (*_BEGINNINGS, *(() if b"\0" in head else _TEXTS)):
        if re.match(pattern, head, re.DOTALL):
            return "" if kind == expected else f"{found}; expected {expected}. {fix[0].upper()}{fix[1:]}"
    return ""


def json_fault(data: bytes, error: ValueError) -> str:
    """Return what is wrong with a file that begins like JSON: its encoding, several values, or where it breaks."""
    if isinstance(error, UnicodeDecodeError):
        line = data.count(b"\n", 0, error.start) + 1
        return (f"is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}); expected UTF-8. Save it as UTF-8; "
                "if it is Latin-1: iconv -f LATIN1 -t UTF-8 FILE > NEW")
    text = data.decode(json.detect_encoding(data), "replace")
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and text[:error.pos].strip():
        return (f"holds more than one value, the second in line {error.lineno}; expected one JSON value. JSON lines "
                "have the suffix .jsonl, and are read as predictions and inputs only")
    if text.rstrip().endswith(("}", "]")) and not error.args[0].startswith("Unterminated"):
        return f"is not JSON ({error}); fix the file there"
    return f"is not a complete JSON file ({error}); copy or unpack it again"
