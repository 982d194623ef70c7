"""Assemble the page that runs a model in the browser, and write it to a folder.

Its built files are in `page/`; their sources are in export/web, which is not installed. The page decompresses the model
itself, so that the host does not need to support compression.
"""

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

from posecascade import files
from posecascade.errors import InputError

FOLDER = Path(__file__).resolve().parent / "page"
MODEL = "model.tflite.gz"  # path from which the page loads the model
SOURCES = "sources.json"   # hashes of the sources that the page was built from; not served
INDEX = "index.html"


def website(model: bytes) -> dict[str, bytes]:
    """Return the page's files by relative POSIX path, with `model`, a .tflite file of posecascade that returns maps."""
    built = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(FOLDER.rglob("*"))
             if path.is_file() and path.name != SOURCES}
    return built | {MODEL: gzip.compress(model, mtime=0)}


def write(site: Mapping[str, bytes], folder: Path) -> None:
    """Write the site to `folder`, completely or not at all; an earlier site in the folder is replaced.

    Raises InputError if the folder contains any other file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a folder")
    others = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))
              if path.is_file() and path.relative_to(folder).as_posix() not in site]
    if others:
        raise InputError(f"{folder}: contains {others[0]}, which is not part of the page; choose a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.draft_folder(folder.parent, folder.name) as draft:
        for name, data in site.items():
            path = draft / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
                os.fsync(file.fileno())
        try:
            if folder.exists():
                os.rename(folder, draft / "old")
            os.rename(draft / "new", folder)
        finally:
            if (draft / "old").exists() and not folder.exists():
                os.rename(draft / "old", folder)
