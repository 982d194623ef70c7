"""Build dataclasses from the plain values of a YAML or JSON file; every key and value is checked against its field.

A field's type is one of int, float, str, bool, dict, another dataclass, a tuple of these, or one of these or None.
Its `metadata` may set limits: `choices` (the valid values), `low` and `high` (both inclusive).
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar

from posecascade.errors import InputError
from posecascade.files import did_you_mean

T = TypeVar("T")
_ONE = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a mapping of keys"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false values", dict: "mappings"}


def unknown_key(path: str, key: str, known: Iterable[str]) -> str:
    """Return the message about a key that no field has: `path` is the dotted path, `key` the last part of it."""
    return f"unknown key {path!r}; {did_you_mean(key, known)}"


def dataclass_from(cls: type[T], value: object, origin: str, prefix: str = "",
                   unknown: Callable[[str, str, Iterable[str]], str] = unknown_key) -> T:
    """Return `cls` built from a mapping; keys that are missing get the field's default.

    Args:
        cls: the dataclass.
        value: the mapping; raises InputError if it is something else, or if a key or value is wrong.
        origin: the first words of the message, such as the file's name.
        prefix: the dotted path of `value` in the file, with a dot at its end; "" at the top.
        unknown: returns the message about an unknown key.

    >>> @dataclasses.dataclass
    ... class Crop:
    ...     size: int = dataclasses.field(default=192, metadata={"low": 1})
    ...     padding: float = 1.25
    >>> dataclass_from(Crop, {"padding": 2}, "crop.yaml")
    Crop(size=192, padding=2.0)
    >>> dataclass_from(Crop, {"size": 0}, "crop.yaml")
    Traceback (most recent call last):
    posecascade.errors.InputError: crop.yaml: size is 0, expected at least 1
    """
    if not isinstance(value, Mapping):
        what = prefix.rstrip(".") or f"the {cls.__name__.lower()}"
        raise InputError(f"{origin}: {what} holds {value!r}, expected a mapping of keys")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in fields:
            raise InputError(f"{origin}: {unknown(f'{prefix}{key}', str(key), fields)}")
    for name, field in fields.items():
        if name not in value and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{origin}: {prefix}{name} is missing; add it")
    checked = {key: value_from(hints[key], item, origin, prefix + key, fields[key].metadata, unknown)
               for key, item in value.items()}
    try:
        return cls(**checked)
    except InputError as error:
        raise InputError(f"{origin}: {prefix}{error}") from None


def value_from(hint: Any, value: Any, origin: str, key: str, limits: Mapping[str, Any] = {},
               unknown: Callable[[str, str, Iterable[str]], str] = unknown_key) -> Any:
    """Return `value` as the type `hint`, within `limits`; lists become tuples, and whole numbers floats if needed.

    Raises InputError "ORIGIN: KEY is VALUE, expected ..." if it is of another type or outside the limits.

    >>> value_from(tuple[float, ...], [1, 2.5], "a.yaml", "shares")
    (1.0, 2.5)
    """
    if isinstance(hint, UnionType):
        if value is None:
            return None
        hint = next(inner for inner in typing.get_args(hint) if inner is not NoneType)
    if dataclasses.is_dataclass(hint):
        return dataclass_from(typing.cast(type, hint), value, origin, f"{key}.", unknown)
    if typing.get_origin(hint) is tuple:
        return _tuple_from(hint, value, origin, key, unknown)
    value = _converted(hint, value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise InputError(f"{origin}: {key} is {value!r}, expected {_ONE[hint]}")
    if "choices" in limits and value not in limits["choices"]:
        raise InputError(f"{origin}: {key} is {value!r}; {did_you_mean(str(value), map(str, limits['choices']))}")
    if "low" in limits and not limits["low"] <= value <= limits.get("high", math.inf):
        reach = f"{limits['low']} to {limits['high']}" if "high" in limits else f"at least {limits['low']}"
        raise InputError(f"{origin}: {key} is {value!r}, expected {reach}")
    return value


def _tuple_from(hint, value, origin, key, unknown):
    length = _length(hint)
    if not isinstance(value, (list, tuple)) or (length and len(value) != length):
        raise InputError(f"{origin}: {key} is {value!r}, expected a list of {_several(hint)}")
    inner = typing.get_args(hint)[0]
    return tuple(value_from(inner, item, origin, f"{key}[{i}]", unknown=unknown) for i, item in enumerate(value))


def _length(hint):
    """Return the length of a tuple type, None for any."""
    inner = typing.get_args(hint)
    return None if inner[-1] is Ellipsis else len(inner)


def _several(hint):
    """Return the contents of a tuple type in words, such as "2 numbers"."""
    inner, length = typing.get_args(hint)[0], _length(hint)
    words = f"lists of {_several(inner)}" if typing.get_origin(inner) is tuple else _SEVERAL.get(inner, "mappings")
    return f"{length} {words}" if length else words


def _converted(hint, value):
    """Return `value` as a plain dict or as a float if `hint` is that and it can be; YAML 1.1 reads 1e-3 as text."""
    if hint is dict and isinstance(value, Mapping):
        return dict(value)
    if hint is float and type(value) in (int, str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return value
    return value
