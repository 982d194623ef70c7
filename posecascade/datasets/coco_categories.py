"""Choose the categories of a COCO file whose annotations are read: those with the keypoints of the schema."""

from collections import Counter
from pathlib import Path
from typing import Any

from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.schema import COCO17, Schema


class Categories:
    """The categories of a file: which are read, in which schema, and how many annotations of others were met.

    Attributes:
        schema: of the annotations that are read.
        excluded: number of annotations with keypoints by name of their category, for those that are not read.
    """

    def __init__(self, path: Path, content: dict, schema: Schema, name: str = "") -> None:
        """Choose the categories of the file's `content`; `name` is the one that the user states, or its id.

        Raises InputError if no category has keypoints of the schema or of COCO17, if categories do not name their
        keypoints and several have annotations, or if there is no category `name`.
        """
        listed = content.get("categories")
        self._path = path
        self._all = _by_id(path, [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else [])
        self.excluded: Counter[str] = Counter()
        self.schema, self._read = self._chosen(content["annotations"], schema, name)

    def reads(self, origin: str, annotation: dict) -> bool:
        """Return whether the annotation is of a category that is read, and count it if it is not.

        Raises InputError if its category is not in the list, or is not given although there are several.
        """
        if self.is_read(annotation):
            return True
        given = annotation.get("category_id")
        if str(given) not in self._all:
            raise InputError(f"{origin}: 'category_id' is {given!r}; expected one of the categories "
                             f"({', '.join(f'{key} {_name(c)}' for key, c in self._all.items())}). Fix the file")
        self.excluded[_name(self._all[str(given)])] += 1
        return False

    def is_read(self, annotation: dict) -> bool:
        """Return whether the annotation is of a category that is read, without counting it."""
        given = annotation.get("category_id")
        return not self._all or (given is None and len(self._all) == 1) or str(given) in self._read

    def note(self) -> str:
        """Return a line about the annotations that were not read; "" if all were."""
        counts = ", ".join(f"{count} {name}" for name, count in self.excluded.most_common())
        read = ", ".join(_name(c) for key, c in self._all.items() if key in self._read)
        return f"{self._path}: reads category {read}; excluded annotations of others: {counts}" if counts else ""

    def _chosen(self, annotations: list, schema: Schema, name: str) -> tuple[Schema, set[str]]:
        named = {key: _keypoints(c) for key, c in self._all.items()
                 if isinstance(c.get("keypoints"), list) and c["keypoints"]}
        if name:
            key = self._key_of(name)
            return self._schema(key, named.get(key, schema.keypoints), schema), {key}
        for known in (schema, COCO17):
            if fitting := {key for key, keypoints in named.items() if keypoints == known.keypoints}:
                return known, fitting
        for key, keypoints in named.items():
            self._schema(key, keypoints, schema)
        return schema, self._unnamed(annotations)

    def _schema(self, key: str, keypoints: tuple[str, ...], schema: Schema) -> Schema:
        """Return the one of `schema` and COCO17 that has these keypoints."""
        for known in (schema, COCO17):
            if keypoints == known.keypoints:
                return known
        category = f"category {_name(self._all[key])!r}: " if len(self._all) > 1 else ""
        raise InputError(f"{self._path}: {category}its keypoints are {', '.join(keypoints[:4])}, ... "
                         f"({len(keypoints)}), but schema {schema.name!r} has {', '.join(schema.keypoints[:4])}, ... "
                         f"({schema.size}); pass --schema=FILE.yaml with the file's keypoints in its order "
                         "(training: data.schema)")

    def _key_of(self, name: str) -> str:
        found = [key for key, c in self._all.items() if name.casefold() in (key, _name(c).casefold())]
        if len(found) != 1:
            names = [_name(c) for c in self._all.values()]
            raise InputError(f"{self._path}: {len(found) or 'no'} categories are called {name!r}; "
                             f"{did_you_mean(name, names) if not found else 'give the id instead of the name'}")
        return found[0]

    def _unnamed(self, annotations: list) -> set[str]:
        """Return the one category that has annotations, or "person", if none names its keypoints."""
        used = {str(a.get("category_id")) for a in annotations if isinstance(a, dict) and a.get("keypoints")}
        used &= set(self._all)
        people = {key for key in used if _name(self._all[key]).casefold() == "person"}
        if len(used) > 1 and len(people) != 1:
            names = [_name(self._all[key]) for key in sorted(used)]
            raise InputError(f"{self._path}: categories {', '.join(names)} have annotations, but do not name their "
                             f"keypoints; expected one to read. Choose it, as in coco:FILE#{names[0]}")
        return (people if len(used) > 1 else used) or set(self._all)


def _by_id(path: Path, categories: list[dict]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for category in categories:
        other = found.setdefault(str(category.get("id")), category)
        if other != category:
            raise InputError(f"{path}: categories {_name(other)!r} and {_name(category)!r} both have the id "
                             f"{category.get('id')!r}; give each its own")
    return found


def _name(category: dict) -> str:
    return str(category.get("name", category.get("id")))


def _keypoints(category: dict) -> tuple[str, ...]:
    """Return the names of the keypoints in lower case and with underscores (AI Challenger has "Head top")."""
    names: Any = category["keypoints"]
    return tuple(str(n).strip().lower().replace(" ", "_") for n in names)
