"""A folder of exported files that appears whole under the next version number, and is checked byte for byte."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from posecascade import files
from posecascade.errors import InputError

TFLITE = "tflite"  # its folder of TFLite files
# What its SavedModel is asked by. TF Serving refuses more warm-up requests (WarmupConsts::kMaxNumRecords,
# saved_model_warmup_util.h), of which the export writes one for each signature and batch size.
SIGNATURES = ("serving_default", "with_boxes", "images", "heatmaps", "model_card")
MAX_WARMUP_REQUESTS = 1000
SIDECAR = "posecascade.json"  # what the folder holds, and of which model; also what `is_bundle` looks for
_MEND = "copy the folder again, or export the model again"


@contextlib.contextmanager
def new_version(base: Path) -> Iterator[Path]:
    """A draft folder in `base` that becomes BASE/N, N the next free number, when the block ends well.

    A server that watches BASE never sees half a version: names that are no numbers are nothing to it. The draft is
    removed when the block fails.
    """
    base.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=base))
    try:
        yield draft
        for path in draft.rglob("*"):  # on disk before the name points at it
            path.chmod(0o755 if path.is_dir() else 0o644)
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        draft.chmod(0o755)  # mkdtemp makes it private; the server is another user
        _rename(draft, base)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
    """The version numbers in a folder, ascending."""
    if not base.is_dir():
        return []
    return sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal() and path.is_dir())


def newest(base: Path) -> Path:
    """The folder of the highest version, which is the one that TF Serving loads."""
    return base / str(versions(base)[-1])


def folder_of(path: Path) -> Path:
    """The folder of one version: `path` itself, or the newest in it."""
    return path if (path / SIDECAR).is_file() or not versions(path) else newest(path)


def is_bundle(path: Path) -> bool:
    """Whether `path` is a version's folder, or one that has versions in it; damaged ones count."""
    return any(_looks_exported(folder) for folder in (path, *(path / str(n) for n in versions(path))))


def _looks_exported(folder):
    return (folder / SIDECAR).is_file() or (folder / "saved_model.pb").is_file()


def write_sidecar(folder: Path, content: Mapping) -> None:
    """Write SIDECAR: `content`, and size and SHA-256 of every other file in the folder; last, the SHA-256 of it all."""
    listed = {name: {"size": path.stat().st_size, "sha256": files.sha256(path)}
              for name, path in _files(folder).items() if name != SIDECAR}
    value = {**content, "files": listed}
    files.write_json(folder / SIDECAR, value | {"sha256": _digest(value)})


def check(folder: Path) -> dict:
    """SIDECAR's content, when it and every file it lists are as they were written.

    Raises InputError naming the first file that is missing or differs. Files that were added are passed over.
    """
    try:
        value = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        digest = value.pop("sha256")
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in value["files"].items()}
    except OSError as error:
        raise InputError(f"{folder}: {SIDECAR} cannot be read ({error.strerror}); {_MEND}") from None
    except (ValueError, TypeError, AttributeError, KeyError):
        raise InputError(f"{folder}: {SIDECAR} is damaged; {_MEND}") from None
    if digest != _digest(value):
        raise InputError(f"{folder}: {SIDECAR} is damaged or was altered (checksum differs); {_MEND}")
    for name, (size, expected) in listed.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder}: {name} is missing; {_MEND}")
        if path.stat().st_size != size:
            raise InputError(f"{folder}: {name} has {path.stat().st_size} bytes, expected {size}; {_MEND}")
        if files.sha256(path) != expected:
            raise InputError(f"{folder}: {name} is damaged (checksum differs); {_MEND}")
    return value


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _digest(value) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
