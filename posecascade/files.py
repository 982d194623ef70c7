"""Atomic writes, locked folders, JSON and YAML files, and the nearest valid name for error messages."""

import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from posecascade.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where the drafts of killed processes stay
    fcntl = None  # type: ignore[assignment]

# Everything that zipfile and zlib raise for damaged bytes: wrong signatures, sizes, checksums, methods, offsets.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError, KeyError)

LOCK = ".lock"  # the name of the lock file in a locked folder


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a draft's path; the draft replaces `path` when the block ends, or is removed if the block raises.

    The draft is in the same folder and has the suffix of `path`, by which Keras and OpenCV choose the format. It is
    locked while this process lives; `remove_drafts` removes those that are not.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "notes.txt") as draft:
    ...         _ = draft.write_text("done")
    ...     (Path(folder) / "notes.txt").read_text()
    'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = _draft_name(path)
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # not the draft's
        raise
    draft = Path(name)
    try:
        _hold(handle)
        yield draft
        with open(draft, "rb") as file:  # written to disk before the rename, so that a power cut loses neither file
            os.fsync(file.fileno())
        draft.chmod(0o644)  # mkstemp creates private files
        os.replace(draft, path)
    finally:
        os.close(handle)
        draft.unlink(missing_ok=True)


def is_unicode(path: Path | str) -> bool:
    """Return whether the path is UTF-8; Python represents the other bytes of a file's name by lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


@contextlib.contextmanager
def unicode_path(path: Path) -> Iterator[Path]:
    """Yield a path of the file that every library can open: OpenCV crashes on names that are not UTF-8."""
    if is_unicode(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"file{path.suffix if is_unicode(path.suffix) else ''}"
        link.symlink_to(path.absolute())
        yield link


def name_to_text(name: str) -> str:
    r"""Return a file's name as text: itself, or, if it is not UTF-8, with \xNN for such bytes and \\ for backslashes.

    >>> print(name_to_text("caf\udce9.jpg"), name_to_text("café.jpg"))
    caf\xe9.jpg café.jpg
    """
    if is_unicode(name):
        return name
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c
                   for c in name.replace("\\", "\\\\"))


def name_from_text(text: str) -> str:
    r"""Return the name that `name_to_text` wrote as `text`.

    >>> name_from_text(r"caf\xe9.jpg") == "caf\udce9.jpg", name_from_text(r"a\b.jpg")
    (True, 'a\\b.jpg')
    """
    if not re.search(r"\\x[89a-f][0-9a-f]", text):
        return text
    return re.sub(r"\\(\\|x[89a-f][0-9a-f])", lambda found: "\\" if found[1] == "\\" else
                  chr(0xDC00 + int(found[1][1:], 16)), text)


def expanded(path: str) -> str:
    """Return the path with the home folder for a leading `~`. Raises InputError if it is unknown.

    >>> expanded("runs/a"), expanded("~backup.jpg")
    ('runs/a', '~backup.jpg')
    """
    user, slash, _ = path.partition("/")
    if user[:1] != "~":
        return path
    whole = os.path.expanduser(path)
    if whole == path and (slash or user == "~"):
        raise InputError(f"{path}: the home folder of {user[1:] or 'this user'} is unknown; set HOME, or give the "
                         "complete path")
    return whole


def _draft_name(path: Path) -> tuple[str, str]:
    """Return the beginning and the end of the names of a path's drafts."""
    stem = path.stem[:40] if is_unicode(path) else "draft"  # libraries crash on others; names have a largest length
    return f".{stem}.", path.suffix if is_unicode(path.suffix) else ""


@contextlib.contextmanager
def draft_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield the path of an empty folder in `folder`, a draft of the folder `name`; remove it unless it was renamed.

    Drafts of it that killed processes left are removed before.
    """
    remove_drafts(folder, [name])
    prefix, suffix = _draft_name(folder / name)
    draft = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=folder))
    handle = os.open(draft, os.O_RDONLY)
    try:
        _hold(handle)
        yield draft
    finally:
        os.close(handle)
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path, names: Iterable[str]) -> None:
    """Remove the drafts of these files and folders that killed processes left; not those of a process that lives.

    A name may be a pattern, such as "*.jpg".
    """
    for name in names:
        prefix, suffix = _draft_name(folder / name)
        for draft in folder.glob(f"{prefix}{'?' * 8}{suffix}".replace("[", "[[]")):
            with contextlib.suppress(OSError):  # another process was faster
                if _abandoned(draft):
                    shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _abandoned(draft: Path) -> bool:
    """Return whether a draft is as tempfile makes it, private, and no process holds it."""
    if fcntl is None or draft.is_symlink() or stat.S_IMODE(draft.stat().st_mode) & 0o077:
        return False
    handle = os.open(draft, os.O_RDONLY)
    try:
        return _hold(handle)
    finally:
        os.close(handle)


def _hold(handle: int) -> bool:
    """Lock an open file or folder until it is closed or the process ends; return whether nobody else had locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or a file system without locks, where drafts stay
        return False
    return True


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Lock the folder against other processes until the block ends or this process is killed.

    A missing folder is created, and removed again if it stays empty. Raises InputError, beginning with `what` the
    folder is ("--model_dir"), if another process has locked it.
    """
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{what}={folder}: another process is using this folder; wait until it has ended, stop it, or "
                         "give another folder") from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if created and not any(folder.iterdir()):
            folder.rmdir()


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as indented JSON, atomically. Raises ValueError for NaN, which JSON does not have."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def relative_if_inside(path: Path | str, folder: Path | str) -> str:
    """Return `path` relative to the folder, with slashes, if the file is in it; otherwise the path as it is.

    >>> relative_if_inside("/data/a/b.jpg", "/data"), relative_if_inside("/data/a/b.jpg", "/data/c")
    ('a/b.jpg', '/data/a/b.jpg')
    """
    absolute, top = Path(path).absolute(), Path(folder).resolve()
    for candidate in (absolute, absolute.parent.resolve() / absolute.name):
        if candidate.is_relative_to(top):
            return candidate.relative_to(top).as_posix()
    return str(path)


def sha256(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(file.read()).hexdigest()


def read_bytes(path: Path, what: str = "", limit: int = -1) -> bytes:
    """Return the file's bytes, the first `limit` of them unless it is negative.

    Raises InputError, beginning with `what` the file is ("image"), if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError as error:
        name = f"{what} {path}" if what else path
        raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from None


def read_yaml(path: Path, what: str) -> Any:
    """Return the value in a YAML file of plain data.

    Raises InputError, beginning with `what` the file is ("recipe"), if the file cannot be read, is not YAML, or has a
    key twice (YAML itself would silently use the last).
    """
    try:
        return yaml.load(read_bytes(path, what).decode("utf-8"), _SingleKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path}: is not YAML ({' '.join(str(error).split())})") from None


class _SingleKeys(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.YAMLError(f"key {key.value!r} is given twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return the end of a message about an unknown `word`: the nearest of the choices, or all of them.

    >>> did_you_mean("adm", ["adam", "sgd"])
    "did you mean 'adam'?"
    >>> did_you_mean("x", ["adam", "sgd"])
    'choose from adam, sgd'
    """
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices)}"
