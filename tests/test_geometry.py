"""The pixel convention: boxes, crops and their inverses, mirrors, shrunk copies, and points inside an image."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from posecascade.codec.decoders import cells_to_pixels
from posecascade.geometry import CROP_PADDING, Affine, Box, crop_transform, inside, mirror_transform, shrink_transform

coordinates = st.floats(-5000, 5000)
points = arrays(np.float64, (7, 2), elements=coordinates)
boxes = st.builds(Box, coordinates, coordinates, st.floats(1, 5000), st.floats(1, 5000))
variations = st.fixed_dictionaries({
    "rotation": st.floats(-360, 360), "zoom": st.floats(0.2, 5), "flip": st.booleans(),
    "shift": st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))})
sizes = st.integers(1, 512)
TINY = 1e-6  # pixels: 1e-16 of rounding x 1e4 of coordinates x 2.5e4 of enlargement, with a margin


@given(boxes, sizes, variations, points)
@settings(deadline=None)
def test_inverse_of_a_crop_restores_the_points(box, size, how, some):
    crop = crop_transform(box, size, **how)
    np.testing.assert_allclose(crop.inverse()(crop(some)), some, atol=TINY)


@given(boxes, sizes)
@settings(deadline=None)
def test_plain_crop_is_the_padded_square(box, size):
    """Its edges, half a pixel outside the outermost centers, are those of the square around the box."""
    corners = np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]])
    low, high = crop_transform(box, size).inverse()(corners)
    half = CROP_PADDING * max(box.w, box.h) / 2
    np.testing.assert_allclose(low, [box.x + box.w / 2 - half, box.y + box.h / 2 - half], atol=TINY)
    np.testing.assert_allclose(high, [box.x + box.w / 2 + half, box.y + box.h / 2 + half], atol=TINY)


@given(boxes, sizes, variations)
@settings(deadline=None)
def test_crop_has_the_shifted_center_and_the_zoom(box, size, how):
    crop = crop_transform(box, size, **how)
    middle = np.array(box.center) + np.array(how["shift"]) * box.side
    np.testing.assert_allclose(crop(middle), [(size - 1) / 2] * 2, atol=TINY)
    assert crop.zoom == pytest.approx(how["zoom"] * size / box.side)


@given(boxes, sizes, variations, points)
@settings(deadline=None)
def test_flipped_crop_is_the_mirror_image_of_the_crop(box, size, how, some):
    plain = crop_transform(box, size, **(how | {"flip": False}))(some)
    flipped = crop_transform(box, size, **(how | {"flip": True}))(some)
    np.testing.assert_allclose(flipped[:, 0], size - 1 - plain[:, 0], atol=TINY)
    np.testing.assert_allclose(flipped[:, 1], plain[:, 1], atol=TINY)


@given(st.integers(1, 4000), points)
@settings(deadline=None)
def test_mirror_is_its_own_inverse_and_maps_the_first_pixel_to_the_last(width, some):
    mirror = mirror_transform(width)
    np.testing.assert_array_equal(mirror(np.array([0.0, 7.0])), [width - 1, 7])
    np.testing.assert_allclose(mirror(mirror(some)), some, atol=TINY)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_mirror_agrees_with_a_reversed_array(width):
    row = np.arange(width)
    for x in row:
        assert row[::-1][int(mirror_transform(width)(np.array([x, 0]))[0])] == x


def test_positive_rotation_is_clockwise():
    box = Box(0, 0, 100, 100)
    middle = np.array(box.center)
    turned = crop_transform(box, 125, rotation=90)
    # A point above the middle moves to the right of it, and one to the right moves below.
    np.testing.assert_allclose(turned(middle + [0, -10]) - turned(middle), [10, 0], atol=TINY)
    np.testing.assert_allclose(turned(middle + [10, 0]) - turned(middle), [0, 10], atol=TINY)


@given(st.lists(st.tuples(boxes, sizes, variations), min_size=3, max_size=3), points)
@settings(deadline=None)
def test_composition_is_associative(some, where):
    a, b, c = (crop_transform(box, size, **how) for box, size, how in some)
    near = a.inverse()(where / 100)  # keeps numbers in the range of image coordinates
    unit = np.abs(c(b(a(near)))).max() + 1
    np.testing.assert_allclose(c.after(b).after(a)(near) / unit, c(b(a(near))) / unit, atol=1e-7)
    np.testing.assert_allclose(c.after(b.after(a))(near) / unit, c(b(a(near))) / unit, atol=1e-7)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_shrunk_pixel_and_cell_of_a_map_are_at_the_mean_of_their_block(factor, u, v):
    block = np.array([[u * factor + i, v * factor + j] for i in range(factor) for j in range(factor)], float)
    np.testing.assert_allclose(shrink_transform(factor)(block.mean(0)), [u, v], atol=TINY)
    np.testing.assert_allclose(cells_to_pixels(np.array([u, v]), factor), block.mean(0), atol=TINY)


@given(points, st.floats(0.5, 50))
@settings(deadline=None)
def test_box_around_points_is_tight_and_not_smaller_than_the_minimum(some, min_size):
    box = Box.around(some, min_size)
    low, high = some.min(0), some.max(0)
    for at, length, near, far in ((box.x, box.w, low[0], high[0]), (box.y, box.h, low[1], high[1])):
        assert length == pytest.approx(max(far - near, min_size))
        assert at + length / 2 == pytest.approx((near + far) / 2, abs=TINY)


def test_crop_of_a_center_and_scale_is_the_papers_square():
    box = Box.from_center_scale((100.0, 50.0), 0.89)
    assert box.center == (100.0, 50.0)
    assert box.side == pytest.approx(200 * 0.89)
    # Crop pixel u has its center at (u + 1/2) / 256 of the square's side.
    first = crop_transform(box, 256).inverse()(np.zeros(2))
    np.testing.assert_allclose(first, [100 - 89 + 0.5 * 178 / 256, 50 - 89 + 0.5 * 178 / 256])


@pytest.mark.parametrize("values", [(0, 0, 0, 5), (0, 0, 5, -1), (math.nan, 0, 5, 5), (0, 0, 5, math.inf)], ids=str)
def test_empty_box_is_refused(values):
    with pytest.raises(ValueError, match=r"is empty; expected x, y, w > 0, h > 0"):
        Box(*values)


def test_inside_means_on_a_pixel_of_the_image():
    edges = np.array([[-0.5, -0.5], [-0.51, 0], [0, -0.51], [3.49, 1.49], [3.5, 0], [0, 1.5], [np.nan, 0], [0, np.nan]])
    np.testing.assert_array_equal(inside(edges, 4, 2), [True, False, False, True, False, False, False, False])


def test_arguments_are_not_changed():
    some = np.arange(14.0).reshape(7, 2)
    matrix = np.array([[2.0, 0, 1], [0, 3, 5]])
    before, map_before = some.copy(), matrix.copy()
    affine = Affine(matrix)
    affine(some), affine.inverse(), affine.after(affine), Box.around(some), inside(some, 9, 9)
    np.testing.assert_array_equal(some, before)
    np.testing.assert_array_equal(matrix, map_before)
