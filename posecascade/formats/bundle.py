"""Write an export's folder under the next version number, all at once; check every byte when it is read."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from posecascade import files
from posecascade.errors import InputError
from posecascade.formats.metadata import METADATA_FILE

TFLITE = "tflite"  # subfolder of the TFLite files
# The SavedModel's signatures. The export writes one warm-up request for each signature and batch size; TF Serving
# refuses more than MAX_WARMUP_REQUESTS (WarmupConsts::kMaxNumRecords, saved_model_warmup_util.h).
SIGNATURES = ("serving_default", "with_boxes", "images", "heatmaps", "model_card")
MAX_WARMUP_REQUESTS = 1000
_FIX = "copy the folder again, or export the model again"


@contextlib.contextmanager
def new_version(base: Path) -> Iterator[Path]:
    """Yield a draft folder in `base`; rename it to BASE/N, N the next free number, if the block succeeds.

    A server that watches BASE never sees a partial version, since it ignores names that are not numbers. The draft is
    removed if the block fails, and drafts of killed exports before.
    """
    base.mkdir(parents=True, exist_ok=True)
    with files.draft_folder(base, "draft") as draft:
        yield draft
        for path in draft.rglob("*"):  # on disk before the name points at it
            path.chmod(0o755 if path.is_dir() else 0o644)
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        draft.chmod(0o755)  # mkdtemp makes it private; the server runs as another user
        _rename(draft, base)


def _rename(draft: Path, base: Path) -> None:
    number = max(versions(base), default=0) + 1
    while True:
        try:
            os.rename(draft, base / str(number))
            return
        except FileExistsError:  # another export was faster
            number += 1
        except OSError:
            if not (base / str(number)).exists():
                raise
            number += 1


def versions(base: Path) -> list[int]:
    """Return the version numbers in a folder, ascending."""
    if not base.is_dir():
        return []
    return sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal() and path.is_dir())


def newest(base: Path) -> Path:
    """Return the folder of the highest version, which TF Serving loads."""
    return base / str(versions(base)[-1])


def folder_of(path: Path) -> Path:
    """Return the folder of one version: `path` itself, or the newest version in it."""
    return path if (path / METADATA_FILE).is_file() or not versions(path) else newest(path)


def is_bundle(path: Path) -> bool:
    """Return whether `path` is the folder of a version, or holds versions; damaged ones count."""
    return any(_looks_exported(folder) for folder in (path, *(path / str(n) for n in versions(path))))


def _looks_exported(folder):
    return (folder / METADATA_FILE).is_file() or (folder / "saved_model.pb").is_file()


def write_metadata(folder: Path, content: Mapping) -> None:
    """Write METADATA_FILE: `content`, size and SHA-256 of every other file in the folder, and its own SHA-256."""
    listed = {name: {"size": path.stat().st_size, "sha256": files.sha256(path)}
              for name, path in _files(folder).items() if name != METADATA_FILE}
    value = {**content, "files": listed}
    files.write_json(folder / METADATA_FILE, value | {"sha256": _digest(value)})


def check(folder: Path) -> dict:
    """Return the content of METADATA_FILE after checking it and every file that it lists.

    Raises InputError naming the first file that is missing or differs. Files added later are ignored.
    """
    try:
        value = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        digest = value.pop("sha256")
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in value["files"].items()}
    except OSError as error:
        raise InputError(f"{folder}: {METADATA_FILE} cannot be read ({error.strerror}); {_FIX}") from None
    except (ValueError, TypeError, AttributeError, KeyError):
        raise InputError(f"{folder}: {METADATA_FILE} is damaged; {_FIX}") from None
    if digest != _digest(value):
        raise InputError(f"{folder}: {METADATA_FILE} is damaged or was altered (checksum differs); {_FIX}")
    for name, (size, expected) in listed.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder}: {name} is missing; {_FIX}")
        if path.stat().st_size != size:
            raise InputError(f"{folder}: {name} has {path.stat().st_size} bytes, expected {size}; {_FIX}")
        if files.sha256(path) != expected:
            raise InputError(f"{folder}: {name} is damaged (checksum differs); {_FIX}")
    return value


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _digest(value) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
