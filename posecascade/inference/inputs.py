"""Resolve a command-line INPUT to images: one file, a folder of files, or JSON lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from posecascade import images
from posecascade.errors import InputError
from posecascade.poses_io import Request, requests


def requests_from(argument: str, standard_input: TextIO) -> Iterator[Request | InputError]:
    """Yield a Request per image, or an InputError for an argument or line that cannot be used.

    Args:
        argument: the path of an image; a folder, for the images directly in it, sorted by name; a `.jsonl` file of
            lines in the format of `poses_io.requests`; or "-" for such lines on `standard_input`.
    """
    path = Path(argument)
    if argument == "-":
        yield from _requests_in(standard_input, "standard input", Path())
    elif path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in images.SUFFIXES and p.is_file())
        if not files:
            yield InputError(f"folder {argument}: has no images; expected {', '.join(images.SUFFIXES)} files directly "
                             "in it. Subfolders are not searched")
        yield from (Request(str(p), p, in_folder=True) for p in files)
    elif path.suffix.lower() == ".jsonl":
        try:
            with open(path, encoding="utf-8-sig") as lines:
                yield from _requests_in(lines, argument, path.parent)
        except OSError as error:
            yield InputError(f"{argument}: cannot be read ({error.strerror}); check the path")
    else:
        yield Request(argument, path)


def _requests_in(lines, origin, folder):
    count = 0
    try:
        for count, request in enumerate(requests(lines, origin, folder), 1):  # noqa: B007
            yield request
    except UnicodeDecodeError as error:
        yield InputError(f"{origin}: is not UTF-8 text ({error.reason}); expected JSON lines")
    else:
        if not count:
            yield InputError(f'{origin}: is empty; expected lines {{"image": PATH, "box": [x, y, w, h]}}')
