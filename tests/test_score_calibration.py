"""Test the calibration error of scores, the fitted curve, and its effect on other people."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.codec.score_calibration import (
    EDGE,
    IDENTITY,
    MIN_KEYPOINTS,
    Calibration,
    error_after,
    fitted,
    reliability,
)

curves = st.builds(Calibration, st.floats(0.1, 5), st.floats(-4, 4))


def drawn(rng, curve, count=20_000):
    """Return scores, and whether each keypoint is right, with the probability that the curve gives."""
    scores = rng.uniform(0.02, 0.98, count)
    return scores, rng.uniform(size=count) < curve(scores)


def test_error_is_the_mean_distance_of_bins_weighted_by_keypoints():
    scores = np.array([0.95] * 40 + [0.55] * 60)
    right = np.array([1] * 30 + [0] * 10 + [1] * 45 + [0] * 15, bool)
    result = reliability(scores, right)
    assert result.error == pytest.approx(0.4 * 0.2 + 0.6 * 0.2)
    assert result.bins == (pytest.approx((0.55, 0.75, 60)), pytest.approx((0.95, 0.75, 40)))
    assert reliability(np.ones(4), np.ones(4, bool)).bins == ((1.0, 1.0, 4),)
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)


@given(curves, st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(deadline=None)
def test_curve_rises_within_0_and_1(curve, scores):
    scores = np.sort(np.array(scores))
    result = curve(scores)
    assert ((result >= 0) & (result <= 1)).all() and (np.diff(result) >= 0).all()


def test_identity_returns_scores_unchanged():
    scores = np.array([0.0, EDGE / 2, 0.3, 1.0])
    assert IDENTITY(scores) is scores
    np.testing.assert_allclose(Calibration(1.0, 1e-12)(scores), np.clip(scores, EDGE, 1 - EDGE))


@pytest.mark.parametrize("curve", [Calibration(1.0, 0.8), Calibration(2.5, -1.0), Calibration(0.4, 0.0), IDENTITY])
def test_fit_recovers_the_curve_of_the_data(curve, rng):
    scores, right = drawn(rng, curve)
    result = fitted(scores, right)
    assert (result.slope, result.offset) == pytest.approx((curve.slope, curve.offset), abs=0.08)
    before, after = reliability(scores, right).error, error_after(scores, right, np.arange(len(scores)) // 14)
    assert after < 0.02 and (curve == IDENTITY or before > 0.05)


@pytest.mark.parametrize("right", [0, 1])
def test_keypoints_all_right_or_all_wrong_give_a_finite_curve(right):
    scores = np.linspace(0, 1, 500)
    result = fitted(scores, np.full(500, right, bool))
    assert np.isfinite([result.slope, result.offset]).all()
    assert abs(result(scores) - right).mean() < 0.1 or result == IDENTITY


def test_uninformative_scores_and_few_keypoints_get_no_curve(rng):
    scores = rng.uniform(size=5000)
    assert fitted(scores, rng.uniform(size=5000) > scores) == IDENTITY  # higher scores are more often wrong
    few = MIN_KEYPOINTS - 1
    assert fitted(scores[:few], scores[:few] > 0.7) == IDENTITY


def test_no_keypoint_is_scored_by_a_curve_fitted_on_its_person(rng):
    """Even persons are always right, odd ones never: a curve of the other half is wrong on everyone."""
    scores = rng.uniform(0.2, 0.8, 4000)
    person = np.arange(4000) // 10
    assert error_after(scores, person % 2 == 0, person) > 0.9
