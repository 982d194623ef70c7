"""The closer crops of the search have their edges on a grid, so that all runtimes use the same ones."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posecascade.geometry import Box
from posecascade.inference.search import GRID, MIN_SIDE, confident_box
from posecascade.poses import Pose
from posecascade.schema import Schema

SCHEMA = Schema("toy", ("head", "right_hand", "left_hand"), pairs=(("left_hand", "right_hand"),))


@given(st.lists(st.tuples(st.floats(-2000, 6000), st.floats(-2000, 6000)), min_size=3, max_size=3),
       st.tuples(st.integers(1, 5000), st.integers(1, 5000)))
def test_new_crop_contains_the_keypoints_and_its_edges_are_on_the_grid(keypoints, sides):
    image = np.broadcast_to(np.uint8(0), (*sides, 3))
    pose = Pose(np.array(keypoints), np.ones(3), np.ones(3), SCHEMA, Box(9e6, 9e6, 1, 1))
    box, tight = confident_box(pose, image), Box.around(pose.keypoints, min_size=max(1.0, MIN_SIDE * max(sides)))
    longer = max(tight.w, tight.h)
    step = 2.0 ** np.floor(np.log2(longer / GRID))
    edges = np.array([box.x, box.y, box.x + box.w, box.y + box.h])
    np.testing.assert_array_equal(edges / step, np.rint(edges / step))
    out = np.array([tight.x, tight.y, -tight.x - tight.w, -tight.y - tight.h]) - edges * [1, 1, -1, -1]
    assert (out >= -1e-6).all() and (out < step + 1e-6).all() and longer / GRID / 2 < step <= longer / GRID


def test_tiny_differences_between_runtimes_do_not_change_the_crop():
    image = np.broadcast_to(np.uint8(0), (480, 640, 3))
    keypoints = np.array([[101.3, 70.2], [203.1, 333.7], [150.0, 190.0]])
    pose = Pose(keypoints, np.ones(3), np.ones(3), SCHEMA, Box(9e6, 9e6, 1, 1))
    assert confident_box(pose, image) == confident_box(replace(pose, keypoints=keypoints + 0.05), image)
    assert confident_box(pose, image) != confident_box(replace(pose, keypoints=keypoints + 8), image)
