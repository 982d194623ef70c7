"""Find the images of a list made elsewhere: by the path as given, else by the file's name below the root.

The order, for each image on its own (docs/data.md says the same):
1. an absolute path that exists;
2. the path below each folder of images, in the spellings of `spellings`;
3. all files below the root that have its name: the one that shares most trailing folders with the path.
"""

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from posecascade.datasets.sources import splits_in
from posecascade.errors import InputError

MAX_FILES = 500_000  # below the root; more are not searched
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of uploaded files
_PLAIN = re.compile(r"[\\%:?]|(^|/)\.\.?/")     # a path without these has one spelling


class Found(NamedTuple):
    """The file of an image; `tried` says where it was looked for if it was not found, otherwise it is ""."""

    path: Path
    tried: str = ""


class ImageSearch:
    """The files below a root, listed once when they are needed.

    Args:
        names: the paths of all images in the list.
        root: nothing outside of it is found, except by an absolute path. Links in the root's own folders are followed.
        folders: where images usually are, all in the root; paths are relative to each of them, in this order.
        subsets: names of the list's subset ("My_Train"): of files that share as many folders with the path, the one
            in a folder of such a name is chosen.
        splits: of the list ("train"); files in folders of other splits are not found by their names.

    Attributes:
        by_name_alone: image -> file, for images whose complete path was nowhere.
    """

    def __init__(self, names: Iterable[str], root: Path, folders: Sequence[Path], subsets: Sequence[str] = (),
                 splits: Collection[str] = ()) -> None:
        self._root, self._folders, self._subsets = root, [str(folder) for folder in folders], subsets
        self._splits, self.by_name_alone = splits, dict[str, str]()
        self._listed: dict[str, frozenset[str]] = {}       # folder -> names of its files
        self._by_name: dict[str, list[str]] | None = None  # normalized name -> files below the root
        self._searched: dict[str, str] = {}                # file found by its name -> the image's name in the list
        self._given = {name: next(filter(None, map(self._exact, spellings(name))), None) for name in names}
        self._taken = set(self._given.values())

    def find(self, name: str) -> Found:
        """Return the file of one of the images, or the first place where it was expected.

        Raises InputError if several files fit, or if two images of the list lead to one file by its name alone.
        """
        path = self._given[name] or self._by_suffix(name)
        if path:
            return Found(Path(path))
        spelled = spellings(name)
        first = self._inside(self._folders[0], spelled[-1]) or os.path.join(self._folders[0], _parts(spelled[-1])[-1])
        return Found(Path(first), self._tried(spelled))

    def _exact(self, name: str) -> str | None:
        if name.startswith("/"):
            return name if os.path.isfile(name) else None
        for folder in self._folders:
            path = self._inside(folder, name)
            if path and self._exists(path):
                return path
        return None

    def _inside(self, folder: str, name: str) -> str | None:
        """Return the path below the folder, None if it leaves the root; ".." is resolved without following links."""
        if not _PLAIN.search(name) and not name.startswith("/"):
            return f"{folder}/{name}"
        path = os.path.normpath(f"{folder}/{name}")
        return path if Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self._root)) else None

    def _exists(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))
            except (OSError, ValueError):
                self._listed[folder] = frozenset()
        return name in self._listed[folder]

    def _by_suffix(self, name: str) -> str | None:
        """Return the file below the root that shares most trailing parts with the path; None if there is none.

        Files that belong to another image of the list by their complete path are excluded.
        """
        spelled, index = [_parts(spelling) for spelling in spellings(name)], self._index()
        names = {part for parts in spelled for part in (parts[-1], _UPLOADED.sub("", parts[-1]))}
        files = {os.path.normpath(file) for part in names for file in index.get(part.casefold(), ())} - self._taken
        files = {file for file in files if not self._is_of_another_split(file)}
        shared = {file: max(_shared(parts, _parts(file)) for parts in spelled) for file in files}
        # A file that is listed twice because of a link counts once.
        best = list({os.path.realpath(file): file for file in sorted(files) if shared[file] == max(shared.values())}
                    .values())
        for subset in self._subsets if len(best) > 1 else ():
            best = [file for file in best if subset in _parts(file)[:-1]] or best
        best = [file for file in best if os.path.basename(file) in names] or best  # names in equal case first
        if len(best) > 1:
            raise InputError(f"image {name!r}: {len(best)} files below {self._root} fit: {', '.join(sorted(best)[:3])}"
                             f"{', ...' if len(best) > 3 else ''}; expected one. Give the folder of the right ones "
                             "(coco:FILE#images=FOLDER), or remove the others")
        if best and self._searched.setdefault(best[0], name) != name:
            raise InputError(f"image {name!r}: {self._searched[best[0]]!r} of the same list also leads to {best[0]}; "
                             "expected one image per file. Give the folder in which both paths exist "
                             "(coco:FILE#images=FOLDER)")
        if best:
            self.by_name_alone[name] = best[0]
        return best[0] if best else None

    def _is_of_another_split(self, file: str) -> bool:
        folders = Path(os.path.relpath(file, self._root)).parts[:-1]
        named = {split for folder in folders for split in splits_in(folder)}
        return bool(self._splits and named and not named & set(self._splits))

    def _index(self) -> dict[str, list[str]]:
        """Return the files below the root by their normalized names; nothing if they are too many to search."""
        if self._by_name is None:
            self._by_name, count = {}, 0
            linked = [folder for folder in self._folders if os.path.islink(folder)]
            for folder, folders, names in (entry for top in [str(self._root), *linked] for entry in os.walk(top)):
                folders[:] = [name for name in folders if not name.startswith(".")]
                count += len(names)
                if count > MAX_FILES:
                    self._by_name = {}
                    break
                for name in names:
                    if not os.path.islink(path := f"{folder}/{name}") or self._stays_inside(path):
                        self._by_name.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(path)
        return self._by_name

    def _stays_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))

    def _tried(self, spelled: Sequence[str]) -> str:
        names = " or ".join(repr(spelling) for spelling in spelled)
        hint = "; paths that lead out of it are not followed" if ".." in _parts(spelled[-1]) else ""
        return (f"tried {names} in {', '.join(self._folders)}, and its name below {self._root}{hint}. Put it there, "
                "or give the folder of the images (coco:FILE#images=FOLDER)")


def spellings(name: str) -> list[str]:
    r"""Return the path as given, with slashes, without what browsers add, and without URL escapes.

    >>> spellings("D:\\data\\a%20b.jpg")
    ['D:\\data\\a%20b.jpg', 'D:/data/a%20b.jpg', 'D:/data/a b.jpg']
    >>> spellings("/data/local-files/?d=images/a.jpg")[-1], spellings("https://x.org/images/a.jpg?size=1")[-1]
    ('images/a.jpg', 'images/a.jpg')
    """
    if not _PLAIN.search(name):
        return [name]
    found = [name, name.replace("\\", "/")]
    if "/local-files/?d=" in found[-1]:
        found.append(found[-1].partition("?d=")[2].partition("&")[0])
    elif url := re.match(r"([a-z][a-z0-9+.-]+)://[^/]*(/[^?#]*)", found[-1]):
        found.append(url[2] if url[1] == "file" else url[2].lstrip("/"))
    return list(dict.fromkeys([*found, unquote(found[-1])]))


def _parts(path: str) -> list[str]:
    return unicodedata.normalize("NFC", path).split("/")


def _shared(parts: Sequence[str], others: Sequence[str]) -> int:
    """Return the number of trailing parts that are equal."""
    count = 0
    for one, other in zip(reversed(parts), reversed(others), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count
