"""Resolve a command-line INPUT to images: one file, a folder of files, or JSON lines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from posecascade import image_formats
from posecascade.errors import InputError
from posecascade.poses_io import Request, requests

SHOWN = 5  # names of skipped files in a message


def requests_from(argument: str, standard_input: TextIO,
                  note: Callable[[str], None] = lambda line: None) -> Iterator[Request | InputError]:
    """Yield a Request per image, or an InputError for an argument or line that cannot be used.

    Args:
        argument: the path of an image; a folder, for the images directly in it, sorted by name; a `.jsonl` file of
            lines in the format of `poses_io.requests`; or "-" for such lines on `standard_input`.
        note: called with a line about files of a folder that are not images.
    """
    path = Path(argument)
    if argument == "-":
        yield from _requests_in(standard_input, "standard input", Path())
    elif path.is_dir():
        yield from _requests_of_folder(path, note)
    elif path.suffix.lower() == ".jsonl":
        try:
            with open(path, encoding="utf-8-sig") as lines:
                yield from _requests_in(lines, argument, path.parent)
        except OSError as error:
            yield InputError(f"{argument}: cannot be read ({error.strerror}); check the path")
    elif path.is_file() and not image_formats.kind_of_file(path):
        yield InputError(f"{argument}: is neither an image nor a video that can be recognized; expected a JPEG or PNG "
                         "image, a folder, a video or a .jsonl file")
    else:
        yield Request(argument, path)


def _requests_of_folder(folder: Path, note: Callable[[str], None]) -> Iterator[Request | InputError]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        yield InputError(f"folder {folder}: cannot be read ({error.strerror}); check its permissions")
        return
    by_kind: dict[str, list[Path]] = {"image": [], "video": [], "": []}
    for path in files:
        by_kind[image_formats.kind_of_file(path)].append(path)
    others = [path for path in by_kind[""] if not path.name.startswith(".")]  # as .DS_Store
    skipped = "; ".join(f"{len(paths)} skipped {what} ({_names(paths)})" for paths, what in (
        (by_kind["video"], "that are videos, to be given by name"), (others, "that are not images")) if paths)
    if by_kind["image"] and skipped:
        note(f"folder {folder}: {skipped}")
    elif not by_kind["image"]:
        yield InputError(f"folder {folder}: has no images{': ' if skipped else ''}{skipped}; expected image files "
                         "directly in it, such as .jpg or .png. Subfolders are not searched")
    yield from (Request(str(path), path, in_folder=True) for path in by_kind["image"])


def _names(paths: list[Path]) -> str:
    return ", ".join([*(path.name for path in paths[:SHOWN]), *["..."] * (len(paths) > SHOWN)])


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
