"""The pictures that a word on the command line asks for: one, a folder's, or those of lines of JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from posecascade import images
from posecascade.errors import InputError
from posecascade.poses_io import Request, requests


def wanted(word: str, standard_input: TextIO) -> Iterator[Request | InputError]:
    """Each picture that `word` asks for, or what is wrong with the word or its line.

    Args:
        word: a picture's path; a folder: the pictures directly in it, sorted by name; a `.jsonl` file of lines as
            `poses_io.requests` takes them; "-" for such lines on `standard_input`.
    """
    path = Path(word)
    if word == "-":
        yield from _of_lines(standard_input, "standard input", Path())
    elif path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in images.SUFFIXES and p.is_file())
        if not found:
            yield InputError(f"folder {word}: has no picture directly in it ({', '.join(images.SUFFIXES)})")
        yield from (Request(str(p), p, in_folder=True) for p in found)
    elif path.suffix.lower() == ".jsonl":
        try:
            with open(path, encoding="utf-8") as lines:
                yield from _of_lines(lines, word, path.parent)
        except OSError as error:
            yield InputError(f"{word}: cannot be read ({error.strerror}); check the path")
    else:
        yield Request(word, path)


def _of_lines(lines, origin, folder):
    count = 0
    try:
        for count, found in enumerate(requests(lines, origin, folder), 1):  # noqa: B007
            yield found
    except UnicodeDecodeError as error:
        yield InputError(f"{origin}: is no UTF-8 text ({error.reason}); give JSON lines")
    else:
        if not count:
            yield InputError(f'{origin}: has no line; expected {{"image": PATH, "box": [x, y, w, h]}}')
