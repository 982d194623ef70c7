"""The pixel convention there and back: boxes, crops, mirrors, shrunk copies, and points inside a picture."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from posecascade.codec.decoders import cells_to_pixels
from posecascade.geometry import CROP_PADDING, Affine, Box, crop_transform, inside, mirror_transform, shrink_transform

places = st.floats(-5000, 5000)
points = arrays(np.float64, (7, 2), elements=places)
boxes = st.builds(Box, places, places, st.floats(1, 5000), st.floats(1, 5000))
variations = st.fixed_dictionaries({
    "rotation": st.floats(-360, 360), "zoom": st.floats(0.2, 5), "flip": st.booleans(),
    "shift": st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))})
sizes = st.integers(1, 512)
TINY = 1e-6  # pixels: 1e-16 of rounding x 1e4 of coordinates x 2.5e4 of enlargement, with room


@given(boxes, sizes, variations, points)
@settings(deadline=None)
def test_a_crop_s_way_back_is_its_inverse(box, size, how, some):
    crop = crop_transform(box, size, **how)
    np.testing.assert_allclose(crop.inverse()(crop(some)), some, atol=TINY)


@given(boxes, sizes)
@settings(deadline=None)
def test_the_plain_crop_is_the_padded_square_edge_on_edge(box, size):
    """Its edges, half a pixel outside the outermost centers, are those of the square round the box."""
    corners = np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]])
    low, high = crop_transform(box, size).inverse()(corners)
    half = CROP_PADDING * max(box.w, box.h) / 2
    np.testing.assert_allclose(low, [box.x + box.w / 2 - half, box.y + box.h / 2 - half], atol=TINY)
    np.testing.assert_allclose(high, [box.x + box.w / 2 + half, box.y + box.h / 2 + half], atol=TINY)


@given(boxes, sizes, variations)
@settings(deadline=None)
def test_the_crop_s_middle_is_the_shifted_center_and_its_zoom_the_ratio_of_sides(box, size, how):
    crop = crop_transform(box, size, **how)
    middle = np.array(box.center) + np.array(how["shift"]) * box.side
    np.testing.assert_allclose(crop(middle), [(size - 1) / 2] * 2, atol=TINY)
    assert crop.zoom == pytest.approx(how["zoom"] * size / box.side)


@given(boxes, sizes, variations, points)
@settings(deadline=None)
def test_a_flipped_crop_is_the_mirror_image_of_the_crop(box, size, how, some):
    plain = crop_transform(box, size, **(how | {"flip": False}))(some)
    flipped = crop_transform(box, size, **(how | {"flip": True}))(some)
    np.testing.assert_allclose(flipped[:, 0], size - 1 - plain[:, 0], atol=TINY)
    np.testing.assert_allclose(flipped[:, 1], plain[:, 1], atol=TINY)


@given(st.integers(1, 4000), points)
@settings(deadline=None)
def test_a_mirror_is_its_own_inverse_and_sends_the_first_pixel_to_the_last(width, some):
    mirror = mirror_transform(width)
    np.testing.assert_array_equal(mirror(np.array([0.0, 7.0])), [width - 1, 7])
    np.testing.assert_allclose(mirror(mirror(some)), some, atol=TINY)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_mirrored_array_has_each_pixel_where_the_mirror_says(width):
    row = np.arange(width)
    for x in row:
        assert row[::-1][int(mirror_transform(width)(np.array([x, 0]))[0])] == x


def test_a_positive_rotation_turns_the_picture_clockwise_as_seen():
    box = Box(0, 0, 100, 100)
    middle = np.array(box.center)
    turned = crop_transform(box, 125, rotation=90)
    # What was above the middle lies to the right of it, what was to the right below.
    np.testing.assert_allclose(turned(middle + [0, -10]) - turned(middle), [10, 0], atol=TINY)
    np.testing.assert_allclose(turned(middle + [10, 0]) - turned(middle), [0, 10], atol=TINY)


@given(st.lists(st.tuples(boxes, sizes, variations), min_size=3, max_size=3), points)
@settings(deadline=None)
def test_maps_one_after_the_other_are_their_product_in_any_grouping(some, where):
    a, b, c = (crop_transform(box, size, **how) for box, size, how in some)
    near = a.inverse()(where / 100)  # so that numbers stay of the size of pictures
    unit = np.abs(c(b(a(near)))).max() + 1
    np.testing.assert_allclose(c.after(b).after(a)(near) / unit, c(b(a(near))) / unit, atol=1e-7)
    np.testing.assert_allclose(c.after(b.after(a))(near) / unit, c(b(a(near))) / unit, atol=1e-7)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_a_shrunk_pixel_is_the_mean_of_its_block_as_a_map_s_cell_is(factor, u, v):
    block = np.array([[u * factor + i, v * factor + j] for i in range(factor) for j in range(factor)], float)
    np.testing.assert_allclose(shrink_transform(factor)(block.mean(0)), [u, v], atol=TINY)
    np.testing.assert_allclose(cells_to_pixels(np.array([u, v]), factor), block.mean(0), atol=TINY)


@given(points, st.floats(0.5, 50))
@settings(deadline=None)
def test_the_round_box_holds_every_point_tightly_and_is_never_smaller_than_asked(some, least):
    box = Box.around(some, least)
    low, high = some.min(0), some.max(0)
    for at, length, near, far in ((box.x, box.w, low[0], high[0]), (box.y, box.h, low[1], high[1])):
        assert length == pytest.approx(max(far - near, least))
        assert at + length / 2 == pytest.approx((near + far) / 2, abs=TINY)


def test_the_box_of_a_scale_has_the_paper_s_square_as_its_crop():
    box = Box.from_center_scale((100.0, 50.0), 0.89)
    assert box.center == (100.0, 50.0)
    assert box.side == pytest.approx(200 * 0.89)
    # Crop pixel u has its center at (u + 1/2) / 256 of the square's side.
    first = crop_transform(box, 256).inverse()(np.zeros(2))
    np.testing.assert_allclose(first, [100 - 89 + 0.5 * 178 / 256, 50 - 89 + 0.5 * 178 / 256])


@pytest.mark.parametrize("values", [(0, 0, 0, 5), (0, 0, 5, -1), (math.nan, 0, 5, 5), (0, 0, 5, math.inf)], ids=str)
def test_an_empty_box_is_no_box(values):
    with pytest.raises(ValueError, match=r"is empty; expected x, y, w > 0, h > 0"):
        Box(*values)


def test_inside_is_on_a_pixel_of_the_picture():
    edges = np.array([[-0.5, -0.5], [-0.51, 0], [0, -0.51], [3.49, 1.49], [3.5, 0], [0, 1.5], [np.nan, 0], [0, np.nan]])
    np.testing.assert_array_equal(inside(edges, 4, 2), [True, False, False, True, False, False, False, False])


def test_nothing_given_is_changed():
    some = np.arange(14.0).reshape(7, 2)
    matrix = np.array([[2.0, 0, 1], [0, 3, 5]])
    before, map_before = some.copy(), matrix.copy()
    affine = Affine(matrix)
    affine(some), affine.inverse(), affine.after(affine), Box.around(some), inside(some, 9, 9)
    np.testing.assert_array_equal(some, before)
    np.testing.assert_array_equal(matrix, map_before)
