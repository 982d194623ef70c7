"""Test target maps against NumPy in float64, and every decoder within the bound that its method allows."""

import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from posecascade.codec.decoders import DECODERS, SOFT_WINDOW, argmax, cells_to_pixels, pixels_to_cells, value_at
from posecascade.codec.targets import MIN_RADIUS, MIN_SIGMA, confidence_maps, part_discs

SUBPIXEL = 0.05  # cells: the bound of the sub-pixel decoders in the docstring of `confidence_maps`
ROUNDING = 1e-4  # cells: float32 of coordinates up to 512 px
# A decoder's largest error in cells, and the distance from the map's edge at which it is guaranteed.
BOUNDS = {"argmax": (0.5, 0), "quarter": (0.25, 0.51), "dark": (SUBPIXEL, 2), "soft": (SUBPIXEL, 6)}

strides = st.sampled_from([1, 2, 4, 8])
sides = st.integers(16, 40)
DECODER = pytest.mark.parametrize("decoder", DECODERS)
KERAS = settings(max_examples=40, deadline=None)


@st.composite
def keypoints(draw, margin, count=3):
    """Draw keypoints at least `margin` cells from the edges of a map: cells (1, K, 2), height, width, stride."""
    height, width, stride = draw(sides), draw(sides), draw(strides)
    axis = [arrays(np.float64, (1, count, 1), elements=st.floats(margin, edge - 1 - margin)) for edge in
            (width, height)]
    return np.concatenate([draw(values) for values in axis], -1), height, width, stride


def encoded(cells, height, width, stride, sigma):
    """Return confidence maps of keypoints at these cells; `sigma` is in cells."""
    points = cells_to_pixels(cells, stride).astype(np.float32)
    return np.asarray(confidence_maps(points, height, width, stride=stride, sigma=sigma * stride))


def centers(height, width, stride):
    """Return (H, W, 2) cell centers, each the mean of the input pixels that the cell covers."""
    x, y = (np.arange(side * stride).reshape(side, stride).mean(1) for side in (width, height))
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), -1)


def test_every_decoder_has_a_bound():
    assert set(BOUNDS) == set(DECODERS)


@DECODER
@given(data=st.data())
@KERAS
def test_decoder_inverts_the_encoding_within_its_bound(decoder, data):
    bound, margin = BOUNDS[decoder]
    cells, height, width, stride = data.draw(keypoints(margin))
    sigma = data.draw(st.floats(0.5, 2.5 * SOFT_WINDOW))  # values below MIN_SIGMA are raised to it
    decoded, scores = DECODERS[decoder](encoded(cells, height, width, stride, sigma), stride)
    assert np.abs(pixels_to_cells(decoded, stride) - cells).max() <= bound + ROUNDING
    # The highest cell's center is at most half a cell away on each axis.
    assert (scores <= 1).all()
    assert (scores >= math.exp(-0.25 / max(sigma, MIN_SIGMA) ** 2) - ROUNDING).all()


@DECODER
@given(data=st.data())
@KERAS
def test_decoder_is_never_worse_than_the_highest_cell(decoder, data):
    cells, height, width, stride = data.draw(keypoints(-0.5))
    decoded, _ = DECODERS[decoder](encoded(cells, height, width, stride, data.draw(st.floats(0.5, 5))), stride)
    assert np.abs(pixels_to_cells(decoded, stride) - cells).max() <= 0.5 + ROUNDING


@DECODER
@given(data=st.data())
@KERAS
def test_mirrored_map_gives_the_mirrored_keypoint(decoder, data):
    """Averaging with the mirrored image relies on this, without a shift."""
    cells, height, width, stride = data.draw(keypoints(0))
    # Not in the middle between two cells, where both are equally high.
    cells = np.floor(cells) + 0.5 + np.where(cells % 1 < 0.5, -1, 1) * np.clip(np.abs(cells % 1 - 0.5), 0.01, None)
    maps = encoded(cells, height, width, stride, 2.0).astype(np.float64)
    plain, scores = DECODERS[decoder](maps, stride)
    mirrored, same = DECODERS[decoder](maps[:, :, ::-1], stride)
    off_center = np.abs(cells % 1 - np.round(cells % 1)) > 0.01  # at a cell's center both neighbors are equally high
    np.testing.assert_allclose(mirrored[..., 0][off_center[..., 0]],
                               (width * stride - 1 - plain[..., 0])[off_center[..., 0]], atol=1e-5 * stride)
    np.testing.assert_allclose(mirrored[..., 1], plain[..., 1], atol=1e-5 * stride)
    np.testing.assert_array_equal(same, scores)


@DECODER
def test_decoder_accepts_any_map_and_does_not_change_it(decoder, rng):
    maps = rng.normal(size=(2, 9, 7, 3)).astype(np.float32)
    maps[0, ..., 0], maps[1, ..., 2] = 0, -1
    before = maps.copy()
    decoded, scores = DECODERS[decoder](maps, 4)
    np.testing.assert_array_equal(maps, before)
    assert (decoded.shape, scores.shape) == ((2, 3, 2), (2, 3))
    assert (decoded.dtype, scores.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(scores, maps.max((1, 2)))
    # A constant map gives its first cell; no decoder moves more than one and a half cells.
    np.testing.assert_allclose(decoded[0, 0], [1.5, 1.5], atol=4 * ROUNDING)
    highest, _ = argmax(maps, 4)
    assert np.abs(decoded - highest).max() <= 1.5 * 4
    thin = DECODERS[decoder](maps[:, :1, :1], 1)[0]
    np.testing.assert_array_equal(thin, 0)


def test_keypoints_and_people_are_decoded_independently(rng):
    cells = rng.uniform(7, 16, (3, 4, 2))
    maps = encoded(cells, 24, 24, 4, 1.5)
    for decode in DECODERS.values():
        whole, _ = decode(maps, 4)
        for person in range(3):
            for keypoint in range(4):
                alone, _ = decode(maps[person:person + 1, ..., keypoint:keypoint + 1], 4)
                np.testing.assert_allclose(alone[0, 0], whole[person, keypoint])


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_cell_center_is_the_middle_of_its_pixels(stride):
    covered = np.arange(5 * stride).reshape(5, stride)
    np.testing.assert_array_equal(cells_to_pixels(np.arange(5), stride), covered.mean(1))
    np.testing.assert_allclose(pixels_to_cells(covered.mean(1), stride), np.arange(5))


@given(arrays(np.float64, (4, 2), elements=st.floats(-1e4, 1e4)), strides)
@settings(deadline=None)
def test_pixels_and_cells_are_inverse(points, stride):
    np.testing.assert_allclose(cells_to_pixels(pixels_to_cells(points, stride), stride), points, atol=1e-9)


@given(case=keypoints(-3), radius=st.floats(0, 40))
@KERAS
def test_disc_is_every_cell_whose_center_is_within_the_radius(case, radius):
    cells, height, width, stride = case
    points = cells_to_pixels(cells, stride).astype(np.float32)
    discs = np.asarray(part_discs(points, height, width, stride=stride, radius=radius))
    away = np.linalg.norm(centers(height, width, stride)[None, :, :, None] - points[:, None, None].astype(float),
                          axis=-1)
    limit = max(radius, MIN_RADIUS * stride)
    clear = np.abs(away - limit) > 1e-3  # px; nearer, float32 decides
    np.testing.assert_array_equal(discs[clear], (away <= limit)[clear])
    assert set(np.unique(discs)) <= {0, 1}


@given(case=keypoints(0, count=1), radius=st.floats(0, 1))
@KERAS
def test_keypoint_on_the_map_never_has_an_empty_disc(case, radius):
    cells, height, width, stride = case
    points = cells_to_pixels(cells, stride).astype(np.float32)
    # Every keypoint has a cell center within half a diagonal, 0.71 cells.
    assert np.asarray(part_discs(points, height, width, stride=stride, radius=radius)).sum() >= 1


@given(case=keypoints(-3), sigma=st.floats(0, 30))
@KERAS
def test_confidence_map_is_the_gaussian_of_the_paper(case, sigma):
    cells, height, width, stride = case
    points = cells_to_pixels(cells, stride).astype(np.float32)
    maps = np.asarray(confidence_maps(points, height, width, stride=stride, sigma=sigma))
    away = np.linalg.norm(centers(height, width, stride)[None, :, :, None] - points[:, None, None].astype(float),
                          axis=-1)
    expected = np.exp(-0.5 * (away / max(sigma, MIN_SIGMA * stride)) ** 2)
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    assert maps.dtype == np.float32


def test_radii_are_in_input_pixels_at_every_stride():
    """A disc of 20 px covers pi 20^2 px at every stride; a Gaussian's sum is 2 pi sigma^2."""
    points = np.full((1, 1, 2), 63.5, np.float32)
    for stride in (1, 2, 4):
        side = 128 // stride
        disc = np.asarray(part_discs(points, side, side, stride=stride, radius=20)).sum() * stride ** 2
        # The number of cells is off by less than half of the rim's 2 pi r cells.
        assert disc == pytest.approx(math.pi * 20 ** 2, abs=2 * math.pi * 20 * stride / 2)
        gauss = np.asarray(confidence_maps(points, side, side, stride=stride, sigma=8)).sum() * stride ** 2
        assert gauss == pytest.approx(2 * math.pi * 8 ** 2, rel=1e-3)


def test_targets_do_not_change_their_arguments():
    points = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    before = points.copy()
    part_discs(points, 8, 8, stride=4, radius=5)
    confidence_maps(points, 8, 8, stride=4, sigma=5)
    np.testing.assert_array_equal(points, before)


@given(data=st.data())
@settings(deadline=None)
def test_value_is_read_bilinearly_and_outside_at_the_nearest_edge(data):
    height, width, stride = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)), data.draw(strides)
    maps = data.draw(arrays(np.float64, (1, height, width, 2), elements=st.floats(-2, 2)))
    points = data.draw(arrays(np.float64, (1, 2, 2), elements=st.floats(-9, 60)))
    cells = pixels_to_cells(points, stride)
    expected = [scipy.ndimage.map_coordinates(maps[0, ..., k], cells[0, k, ::-1, None], order=1, mode="nearest")[0]
              for k in range(2)]
    np.testing.assert_allclose(value_at(maps, points, stride)[0], expected, atol=1e-9)


def test_encoding_runs_in_a_graph_with_unknown_sizes():
    """The loss makes the targets, of models whose input size is unknown."""
    tf = pytest.importorskip("tensorflow")

    @tf.function(input_signature=[tf.TensorSpec((None, None, 2)), tf.TensorSpec((None, None, None, None))])
    def targets(points, like):
        shape = tf.shape(like)
        return (part_discs(points, shape[1], shape[2], stride=4, radius=tf.cast(shape[2], tf.float32)),
                confidence_maps(points, shape[1], shape[2], stride=4, sigma=tf.constant(9.0)))

    points = np.array([[[10, 20], [3, 4]]], np.float32)
    for encoded_maps, expected in zip(targets(points, np.zeros((1, 7, 9, 1), np.float32)),
                             (part_discs(points, 7, 9, stride=4, radius=9),
                              confidence_maps(points, 7, 9, stride=4, sigma=9)), strict=True):
        np.testing.assert_array_equal(encoded_maps, expected)
