"""Test objects and backgrounds: an occluder changes exactly the pixels of its mask, at any position and size."""

import numpy as np
import pytest

from posecascade.rendering import painting, scenery
from posecascade.rendering.scenery import backdrop, paste_occluder, random_thing

KINDS = tuple(scenery._KINDS)
# Largest distance of a shape's pixels from its center over `size`: a pole's half length and cap, 0.9 + 0.13.
REACH = 1.05


def pasted(seed, shade, side=96, center=None, size=None):
    """Return `paste_occluder` of a uniform image, and center and size, which are random unless given."""
    rng = np.random.default_rng(seed)
    drawn_center, drawn_size = rng.uniform(-20, side + 20, 2), rng.uniform(0, .5) * side
    center, size = drawn_center if center is None else center, drawn_size if size is None else size
    image, mask = paste_occluder(np.full((side, side, 3), shade, np.uint8), rng, center, size)
    return image, mask, center, size


def touched(paint, shape):
    """Return (H, W) bool: pixels that `paint(canvas)` changes on black or white; any color changes one of them."""
    changed = np.zeros(shape, bool)
    for shade in (0, 255):
        canvas = np.full((*shape, 3), shade, np.uint8)
        paint(canvas)
        changed |= (canvas != shade).any(-1)
    return changed


@pytest.mark.parametrize("seed", range(30))
def test_mask_is_exactly_the_pixels_of_the_occluder(seed):
    black, mask, center, size = pasted(seed, 0)
    white, again, *_ = pasted(seed, 255)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, again)  # it does not depend on the image
    np.testing.assert_array_equal(mask, (black != 0).any(-1) | (white != 255).any(-1))
    rows, columns = np.nonzero(mask)
    far = np.hypot(columns - center[0], rows - center[1]).max(initial=0)
    assert far <= REACH * max(size, 2) + 2  # the soft edge and the rounding to pixels


def test_pixels_outside_the_mask_and_the_given_image_are_unchanged(rng):
    image = rng.integers(0, 256, (70, 110, 3), dtype=np.uint8)
    before = image.copy()
    for _ in range(100):
        result, mask = paste_occluder(image, rng, rng.uniform(-10, 120, 2), rng.uniform(1, 60))
        assert (result.shape, result.dtype, mask.shape) == (image.shape, np.uint8, (70, 110))
        np.testing.assert_array_equal(result[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)


def test_occluder_outside_the_image_changes_nothing():
    image, mask, *_ = pasted(3, 90, center=(400.0, -300.0), size=50.0)
    assert not mask.any()
    assert (image == 90).all()


def test_occluder_depends_only_on_the_generator():
    first, second, other = (pasted(seed, 128, center=(48, 48), size=40)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_object_has_its_center_and_size(kind):
    light = painting.random_light(np.random.default_rng(0))
    for seed in range(12):
        thing = random_thing(np.random.default_rng(seed), np.array([100.0, 80.0]), 60.0, kind)
        mask = touched(lambda canvas: scenery.paint_things(canvas, [thing], light, np.random.default_rng(1)),  # noqa: B023
                       (160, 200))
        np.testing.assert_array_equal(mask, painting.coverage((160, 200), thing.polygons) > 0)
        rows, columns = np.nonzero(mask)
        assert 20 <= max(np.ptp(rows), np.ptp(columns)) <= 2 * REACH * 60 + 4
        assert np.hypot(columns - 100, rows - 80).max() <= REACH * 60 + 2


def test_all_kinds_occur():
    drawn = {random_thing(np.random.default_rng(seed), np.zeros(2), 10).kind for seed in range(300)}
    assert drawn == set(KINDS)


def test_objects_painted_together_keep_materials_and_order(monkeypatch, rng):
    colors = {"board": (200.0, 0.0, 0.0), "ball": (0.0, 0.0, 200.0)}
    monkeypatch.setattr(scenery, "_material_of", lambda kind, rng: painting.Material(colors[kind]))
    light = painting.random_light(rng)
    far, near = random_thing(rng, np.full(2, 40.0), 70, "board"), random_thing(rng, np.full(2, 40.0), 30, "ball")
    canvas = np.zeros((80, 80, 3), np.uint8)
    scenery.paint_things(canvas, [far, near], light, rng)
    far_only, inner = (painting.coverage((80, 80), thing.polygons) for thing in (far, near))
    assert (canvas[inner == 255] * (1, 1, 0) == 0).all() and (canvas[inner == 255, 2] > 0).all()
    assert (canvas[(inner == 0) & (far_only == 255)] * (0, 1, 1) == 0).all()
    np.testing.assert_array_equal((far_only > 0) | (inner > 0), canvas.any(-1))


@pytest.mark.parametrize(("width", "height", "horizon"), [
    (256, 160, 90.0), (31, 47, -5.0), (64, 64, 1e4), (90, 40, 39.5)])
def test_backdrop_has_size_and_structure_for_any_horizon(width, height, horizon):
    light = painting.random_light(np.random.default_rng(0))
    images = [backdrop(np.random.default_rng(seed), width, height, horizon, light) for seed in (1, 1, 2)]
    assert images[0].shape == (height, width, 3)
    assert images[0].dtype == np.uint8
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()
    assert all(image.std() > 5 for image in images)


def test_grain_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        painting.grain()[0, 0] = 1
