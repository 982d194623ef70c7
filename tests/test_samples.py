"""Test the sheet of samples: its rows, and that target maps are drawn at their keypoints in the color of the side."""

import numpy as np
import pytest

from posecascade.drawing import LEFT
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.records import Record
from posecascade.schema import LSP14
from posecascade.training.samples import COLUMNS, overlaid, samples_sheet


class Canvas:
    """An image in memory, or one that cannot be read."""

    def __init__(self, name, broken=False):
        self.name, self.broken = name, broken

    def read(self, shrink=1):
        if self.broken:
            raise InputError(f"image {self.name}: cannot be read")
        return np.full((100 // shrink, 100 // shrink, 3), 40, np.uint8)


def record(name, broken=False):
    points = np.random.default_rng(len(name)).uniform(20, 80, (14, 2))
    return Record(Canvas(name, broken), name, LSP14, Box(10, 10, 80, 80), points, np.full(14, 2))


def make(sets, count, seed=0):
    return samples_sheet(sets, count, np.random.default_rng(seed), size=96, stride=4, disc_radius=5, sigma=4)


def test_sets_are_used_in_turn_and_unreadable_people_are_skipped():
    sets = [[record(f"a{i}") for i in range(50)], [record("b0"), record("b1"), record("b2", broken=True)]]
    image, origins = make(sets, 6)
    assert len(origins) == 6
    assert {"b0", "b1"} <= set(origins)
    assert "b2" not in origins
    assert image.dtype == np.uint8
    assert image.shape[0] >= 6 * 96
    assert image.shape[1] >= COLUMNS * 96


def test_first_fault_is_raised_if_nobody_is_readable():
    with pytest.raises(InputError, match="image b: cannot be read"):
        make([[record("b", broken=True)]], 3)


def test_map_is_drawn_on_its_own_cells():
    maps = np.zeros((24, 24, 14))
    maps[5, 7, LSP14.index("left_knee")] = 1
    image = overlaid(np.full((96, 96, 3), 100, np.uint8), maps, LSP14)
    expected = np.full((96, 96, 3), 60)
    expected[20:24, 28:32] = LEFT
    np.testing.assert_array_equal(image, expected)
