"""The One-Euro filter at rest and in steady motion, compared with SciPy's low-pass and the authors' algorithm."""

import math

import numpy as np
import pytest
import scipy.signal

from posecascade.inference.smoothing import CUTOFF_GROWTH, MIN_CUTOFF, SPEED_CUTOFF, one_euro

STEP, SIZE = 1 / 25, 200.0


def filtered(track, step=STEP, size=SIZE, **options):
    """The smoothed keypoints (T, K, 2) of a track (T, K, 2)."""
    state, out = None, []
    for points in track:
        state = one_euro(state, points, step, size, **options)
        out.append(state.points)
    return np.array(out)


def weight(cutoff, step=STEP):
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))


def test_first_frame_and_keypoints_at_rest_are_unchanged(rng):
    points = rng.uniform(0, 500, (14, 2))
    np.testing.assert_array_equal(filtered([points])[0], points)
    np.testing.assert_allclose(filtered([points] * 20)[-1], points)


def test_without_growth_it_is_a_first_order_low_pass(rng):
    track = rng.normal(0, 10, (60, 3, 2))
    a = weight(2.0)
    zero = scipy.signal.lfiltic([a], [1, a - 1], y=[1.0])
    expected = scipy.signal.lfilter([a], [1, a - 1], track[1:], axis=0, zi=zero * track[:1])[0]
    np.testing.assert_allclose(filtered(track, min_cutoff=2.0, growth=0)[1:], expected, atol=1e-9)


def test_one_coordinate_follows_the_authors_algorithm(rng):
    """Casiez et al. 2012, algorithm 1, for a keypoint that moves along x only, so that its speed is |dx|."""
    track = np.cumsum(rng.normal(0, 8, 50))
    smooth, slope, expected = track[0], 0.0, [track[0]]
    for value in track[1:]:
        slope = weight(SPEED_CUTOFF) * (value - smooth) / STEP + (1 - weight(SPEED_CUTOFF)) * slope
        a = weight(MIN_CUTOFF + CUTOFF_GROWTH * abs(slope) / SIZE)
        smooth = a * value + (1 - a) * smooth
        expected.append(smooth)
    moved = np.stack([track, np.full(50, 7.0)], -1)[:, None]
    np.testing.assert_allclose(filtered(moved)[:, 0, 0], expected)
    np.testing.assert_allclose(filtered(moved)[:, 0, 1], 7.0)


def test_jitter_is_reduced_as_the_weight_predicts(rng):
    track = rng.normal(0, 1, (20_000, 1, 2))
    a = weight(MIN_CUTOFF)
    variance = filtered(track, growth=0)[100:].var()
    assert variance == pytest.approx(a / (2 - a), rel=0.1)  # variance of an exponential mean of white noise
    # Jitter of a pixel is small relative to the person: the growth of the cutoff has little effect.
    assert filtered(track, size=2000.0)[100:].var() < 2 * variance


def test_moving_keypoint_lags_by_less_than_the_time_constant_of_its_cutoff():
    speed = np.array([SIZE, 0.0])  # one body length per second
    track = np.arange(200)[:, None, None] * STEP * speed
    lag = (track - filtered(track))[-1, 0, 0]
    # The authors measure speed from the last smoothed position, so the lag adds to the speed: a fixed point.
    a = weight(MIN_CUTOFF + CUTOFF_GROWTH * (1 + lag / STEP / SIZE))
    assert lag == pytest.approx((1 - a) / a * STEP * SIZE, rel=1e-3)
    assert lag < SIZE / (2 * math.pi * (MIN_CUTOFF + CUTOFF_GROWTH))


def test_filter_commutes_with_rotation_scaling_and_shift(rng):
    track = np.cumsum(rng.normal(0, 5, (40, 4, 2)), axis=0)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = 3 * track @ turn.T + [50, -20]
    np.testing.assert_allclose(filtered(moved, size=3 * SIZE), 3 * filtered(track) @ turn.T + [50, -20], atol=1e-6)


def test_keypoints_are_filtered_independently(rng):
    track = rng.normal(0, 5, (30, 2, 2))
    np.testing.assert_allclose(filtered(track)[:, :1], filtered(track[:, :1]))
