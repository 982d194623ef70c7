"""Dataclasses built from plain values: limits, nested and optional fields, and what each message says."""

from dataclasses import dataclass, field

import pytest

from posecascade.checks import dataclass_from, value_from
from posecascade.errors import InputError


@dataclass(frozen=True)
class Ear:
    side: str = field(metadata={"choices": ("left", "right")})
    length: float = field(default=1.0, metadata={"low": 0, "high": 9})

    def __post_init__(self):
        if self.length == 8:
            raise InputError("length is 8, expected any other number")


@dataclass(frozen=True)
class Mouse:
    ears: tuple[Ear, ...]
    weight: int = field(default=20, metadata={"low": 1})
    tail: tuple[int, int] | None = None
    notes: dict = field(default_factory=dict)
    path: tuple[tuple[float, float], ...] = ()
    awake: bool = True


def test_lists_mappings_and_whole_numbers_become_tuples_dataclasses_and_floats():
    mouse = dataclass_from(Mouse, {"ears": [{"side": "left", "length": 2}, {"side": "right", "length": "1e-1"}],
                                   "tail": [1, 2], "notes": {"a": [1]}, "path": [[1, 2.5]], "awake": False}, "in")
    assert mouse == Mouse((Ear("left", 2.0), Ear("right", 0.1)), 20, (1, 2), {"a": [1]}, ((1.0, 2.5),), False)
    assert type(mouse.ears[0].length) is type(mouse.path[0][0]) is float
    assert dataclass_from(Mouse, {"ears": [], "tail": None}, "in") == Mouse(())


@pytest.mark.parametrize(("value", "problem"), [
    (None, "the mouse holds None, expected a mapping of keys"),
    ({}, "ears is missing; add it"),
    ({"ears": [], "taill": [1, 2]}, "unknown key 'taill'; did you mean 'tail'?"),
    ({"ears": [3]}, "ears[0] holds 3, expected a mapping of keys"),
    ({"ears": [{}]}, "ears[0].side is missing; add it"),
    ({"ears": [{"size": 1}]}, "unknown key 'ears[0].size'; did you mean 'side'?"),
    ({"ears": [{"side": "lift"}]}, "ears[0].side is 'lift'; did you mean 'left'?"),
    ({"ears": [{"side": "left", "length": 8}]}, "ears[0].length is 8, expected any other number"),
    ({"ears": [{"side": "left", "length": 10}]}, "ears[0].length is 10.0, expected 0 to 9"),
    ({"ears": [{"side": "left", "length": "nan"}]}, "ears[0].length is nan, expected a number"),
    ({"ears": [{"side": "left", "length": 10 ** 400}]}, f"ears[0].length is {10 ** 400}, expected a number"),
    ({"ears": 3}, "ears is 3, expected a list of mappings"),
    ({"ears": [], "weight": 0}, "weight is 0, expected at least 1"),
    ({"ears": [], "weight": True}, "weight is True, expected a whole number"),
    ({"ears": [], "tail": [1]}, "tail is [1], expected a list of 2 whole numbers"),
    ({"ears": [], "notes": []}, "notes is [], expected a mapping of keys"),
    ({"ears": [], "path": "ab"}, "path is 'ab', expected a list of lists of 2 numbers"),
    ({"ears": [], "path": [[1, 2], [3]]}, "path[1] is [3], expected a list of 2 numbers"),
    ({"ears": [], "awake": "no"}, "awake is 'no', expected true or false")], ids=lambda value: str(value)[:60])
def test_wrong_value_is_refused_with_its_path(value, problem):
    with pytest.raises(InputError) as caught:
        dataclass_from(Mouse, value, "in")
    assert str(caught.value) == f"in: {problem}"


def test_unknown_keys_can_have_a_message_of_their_own():
    with pytest.raises(InputError, match=r"^in: no a.b of \['side', 'length'\]$"):
        dataclass_from(Ear, {"b": 1}, "in", "a.", lambda path, key, known: f"no {path} of {[*known]}")


def test_single_values_are_checked_alike():
    assert value_from(tuple[float, float], [1, 0.5], "in", "curve") == (1.0, 0.5)
    with pytest.raises(InputError) as caught:
        value_from(int, -1, "in", "size", {"low": 1})
    assert str(caught.value) == "in: size is -1, expected at least 1"
