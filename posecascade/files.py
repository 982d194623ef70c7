"""Files that appear whole or not at all, folders with one writer, YAML without surprises, nearest names for errors."""

import contextlib
import difflib
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from posecascade.errors import InputError

# All that zipfile and zlib raise for damaged bytes: wrong signatures, sizes, checksums, methods, offsets.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError, KeyError)

LOCK = ".lock"  # in a folder that a process holds


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """A draft beside `path` that replaces it when the block ends well, and is removed when it does not.

    The draft keeps the suffix of `path`, since Keras and OpenCV choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with open(draft, "rb") as file:  # on disk before the name points at it: a power cut loses neither
            os.fsync(file.fileno())
        draft.chmod(0o644)  # mkstemp makes it private
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Keeps other processes out of the folder until the block ends or this process is killed.

    A folder that is not there is made, and removed where it stays empty. Raises InputError, beginning with `what` the
    folder is ("--model_dir"), where another process holds it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{what}={folder}: another process is at work in this folder; wait until it has ended, stop "
                         "it, or give another folder") from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if made and not any(folder.iterdir()):
            folder.rmdir()


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused, being no JSON."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(file.read()).hexdigest()


def read_bytes(path: Path, what: str = "") -> bytes:
    """Return the file's bytes. Raises InputError, beginning with `what` the file is ("image"), if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        name = f"{what} {path}" if what else path
        raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from None


def read_yaml(path: Path, what: str) -> Any:
    """The value in a YAML file of plain data.

    Raises InputError, beginning with `what` it is ("recipe"), where the file cannot be read, is no YAML, or gives a key
    twice, of which YAML would silently take the last.
    """
    try:
        return yaml.load(read_bytes(path, what).decode("utf-8"), _SingleKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path}: is no YAML ({' '.join(str(error).split())})") from None


class _SingleKeys(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.YAMLError(f"key {key.value!r} is given twice, the second time in line "
                                     f"{key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of an error about `word`: the nearest valid name, or all of them."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices)}"
