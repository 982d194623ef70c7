"""Scores beside how often their joints are right: the error, the curve, and what it does to people it does not know."""

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
    """Scores, and joints that are right as often as the curve says of them."""
    scores = rng.uniform(0.02, 0.98, count)
    return scores, rng.uniform(size=count) < curve(scores)


def test_the_error_is_the_bins_distance_weighed_by_their_joints():
    scores = np.array([0.95] * 40 + [0.55] * 60)
    right = np.array([1] * 30 + [0] * 10 + [1] * 45 + [0] * 15, bool)
    found = reliability(scores, right)
    assert found.error == pytest.approx(0.4 * 0.2 + 0.6 * 0.2)
    assert found.bins == (pytest.approx((0.55, 0.75, 60)), pytest.approx((0.95, 0.75, 40)))
    assert reliability(np.ones(4), np.ones(4, bool)).bins == ((1.0, 1.0, 4),)
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)


@given(curves, st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(deadline=None)
def test_a_curve_rises_and_stays_within_0_and_1(curve, scores):
    scores = np.sort(np.array(scores))
    found = curve(scores)
    assert ((found >= 0) & (found <= 1)).all() and (np.diff(found) >= 0).all()


def test_scores_as_they_are_come_back_untouched_even_at_the_ends():
    scores = np.array([0.0, EDGE / 2, 0.3, 1.0])
    assert IDENTITY(scores) is scores
    np.testing.assert_allclose(Calibration(1.0, 1e-12)(scores), np.clip(scores, EDGE, 1 - EDGE))


@pytest.mark.parametrize("curve", [Calibration(1.0, 0.8), Calibration(2.5, -1.0), Calibration(0.4, 0.0), IDENTITY])
def test_the_curve_that_made_the_data_is_found_and_holds_for_other_people(curve, rng):
    scores, right = drawn(rng, curve)
    found = fitted(scores, right)
    assert (found.slope, found.offset) == pytest.approx((curve.slope, curve.offset), abs=0.08)
    before, after = reliability(scores, right).error, error_after(scores, right, np.arange(len(scores)) // 14)
    assert after < 0.02 and (curve == IDENTITY or before > 0.05)


@pytest.mark.parametrize("right", [0, 1])
def test_joints_that_are_all_right_or_all_wrong_have_a_finite_curve(right):
    scores = np.linspace(0, 1, 500)
    found = fitted(scores, np.full(500, right, bool))
    assert np.isfinite([found.slope, found.offset]).all()
    assert abs(found(scores) - right).mean() < 0.1 or found == IDENTITY


def test_scores_that_say_nothing_and_too_few_joints_get_no_curve(rng):
    scores = rng.uniform(size=5000)
    assert fitted(scores, rng.uniform(size=5000) > scores) == IDENTITY  # the higher, the more often wrong
    few = MIN_KEYPOINTS - 1
    assert fitted(scores[:few], scores[:few] > 0.7) == IDENTITY


def test_no_joint_is_scored_by_a_curve_that_its_own_person_gave(rng):
    """People of even numbers are always right, the others never: curves of the other half are wrong on all."""
    scores = rng.uniform(0.2, 0.8, 4000)
    person = np.arange(4000) // 10
    assert error_after(scores, person % 2 == 0, person) > 0.9
