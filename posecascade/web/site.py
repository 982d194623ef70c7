"""Builds the site that runs a model in a browser: the built page and a model, served or written for a static host.

The built files are in `page/`; the sources are in export/web (not installed). The page unpacks the model itself, so
that the host needs no compression.
"""

import gzip
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from posecascade.errors import InputError

FOLDER = Path(__file__).resolve().parent / "page"
MODEL = "model.tflite.gz"  # next to the page, which fetches it
SOURCES = "sources.json"   # hashes of the page's sources; not part of the site
INDEX = "index.html"


def website(model: bytes) -> dict[str, bytes]:
    """Return content by relative path, "/" between folders: the page and a sealed .tflite `model` that gives maps."""
    built = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(FOLDER.rglob("*"))
             if path.is_file() and path.name != SOURCES}
    return built | {MODEL: gzip.compress(model, mtime=0)}


def write(site: Mapping[str, bytes], folder: Path) -> None:
    """Write the complete site to `folder`, or nothing; a site that is there is replaced.

    Raises InputError if the folder holds anything else, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder")
    strangers = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))
                 if path.is_file() and path.relative_to(folder).as_posix() not in site]
    if strangers:
        raise InputError(f"{folder}: holds {strangers[0]}, which is no part of the site; give a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in site.items():
            path = draft / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
                os.fsync(file.fileno())
        if folder.exists():
            os.rename(folder, draft / "old")
        os.rename(draft / "new", folder)
    finally:
        if (draft / "old").exists() and not folder.exists():
            os.rename(draft / "old", folder)
        shutil.rmtree(draft, ignore_errors=True)
