"""Files that appear whole or not at all, YAML without surprises, and nearest valid names for errors."""

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

import yaml

from posecascade.errors import InputError

# All that zipfile and zlib raise for damaged bytes: wrong signatures, sizes, checksums, methods, offsets.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError, KeyError)


@contextlib.contextmanager
def whole(path: Path | str) -> Iterator[Path]:
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


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused, being no JSON."""
    with whole(path) as draft:
        draft.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(file.read()).hexdigest()


def read_yaml(path: Path, what: str) -> object:
    """The value in a YAML file of plain data.

    Raises InputError, beginning with `what` it is ("recipe"), where the file cannot be read, is no YAML, or gives a key
    twice, of which YAML would silently take the last.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _SingleKeys)
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read ({error.strerror}); check the path") from None
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


def nearest(word: str, choices: Iterable[str]) -> str:
    """The end of an error about `word`: the nearest valid name, or all of them."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices)}"
