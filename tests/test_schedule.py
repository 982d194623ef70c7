"""Test that the spans of phases leave no gap and that the learning rate follows its formula at every step."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from posecascade.training.schedule import SCHEDULES, TRAINS, Phase, Span, learning_rate, spans

PHASES = st.lists(st.builds(Phase, train=st.sampled_from(TRAINS), share=st.floats(0, 10),
                            frozen_blocks=st.integers(0, 2), input_size=st.sampled_from([0, 64, 96])),
                  min_size=1, max_size=6)
STEPS = st.integers(1, 500)
WHOLE = Span(0, 100, 0, 64, "joint", 0, 1.0)


def rate(step, steps=100, span=WHOLE, **options):
    return learning_rate(step, steps, span, **{"rate": 0.4, "schedule": "constant", "warmup_steps": 0} | options)


@given(PHASES, STEPS)
def test_spans_cover_the_run_by_shares_without_gaps(phases, steps):
    total = sum(phase.share for phase in phases)
    assume(total > 1e-6)
    laid = spans(phases, steps, 128)
    assert laid[0].start == 0 and laid[-1].end == steps
    assert all(one.end == other.start for one, other in pairwise(laid))
    assert all(span.start < span.end for span in laid)
    # Each end is rounded to the nearest step, so each length is off by at most one step; so is that of a skipped phase.
    for train, freeze, size in {(s.train, s.frozen_blocks, s.input_size or 128) for s in phases}:
        like = [s for s in phases if (s.train, s.frozen_blocks, s.input_size or 128) == (train, freeze, size)]
        length = sum(s.end - s.start for s in laid if (s.train, s.frozen_blocks, s.size) == (train, freeze, size))
        assert abs(length - steps * sum(s.share for s in like) / total) <= len(like) + 1e-6


@given(PHASES, STEPS)
def test_optimizer_is_new_exactly_when_other_weights_are_trained(phases, steps):
    assume(sum(phase.share for phase in phases) > 1e-6)
    laid = spans(phases, steps, 128)
    assert laid[0].fresh == 0
    for one, other in pairwise(laid):
        same = (one.train, one.frozen_blocks) == (other.train, other.frozen_blocks)
        assert other.fresh == (one.fresh if same else other.start)


def test_phase_shorter_than_a_step_is_skipped():
    phases = [Phase(share=1), Phase("detector", share=0.01), Phase(share=1, input_size=64, lr_factor=0.5)]
    assert spans(phases, 10, 96) == [Span(0, 5, 0, 96, "joint", 0, 1.0), Span(5, 10, 0, 64, "joint", 0, 0.5)]


def test_constant_schedule_is_constant():
    assert {rate(step) for step in range(100)} == {0.4}


@given(st.integers(1, 1000), st.floats(1e-6, 10))
def test_cosine_schedule_falls_to_zero_and_is_half_in_the_middle(half, highest):
    rates = [rate(step, 2 * half, rate=highest, schedule="cosine") for step in range(2 * half)]
    assert rates[0] == highest
    assert rates[half] == pytest.approx(highest / 2)
    assert all(one > other > 0 for one, other in pairwise(rates))
    # The curve is point symmetric about the middle.
    assert all(rates[half + i] + rates[half - i] == pytest.approx(highest) for i in range(half))


@given(st.lists(st.floats(0.01, 0.99), max_size=4), st.floats(0.01, 1), st.integers(1, 300))
def test_step_schedule_multiplies_at_each_milestone(milestones, factor, steps):
    for step in range(steps):
        passed = len([m for m in milestones if step / steps >= m])
        assert rate(step, steps, schedule="step", milestones=milestones, step_factor=factor) == \
            pytest.approx(0.4 * math.prod([factor] * passed))


@given(st.sampled_from(SCHEDULES), st.integers(1, 60), st.integers(0, 40))
def test_warm_up_is_linear_after_every_new_optimizer(schedule, warm, begin):
    span = Span(begin, 100, begin, 64, "joint", 0, 1.0)
    options = {"schedule": schedule, "milestones": (0.3,)}
    for step in range(begin, 100):
        plain = rate(step, span=span, **options)
        assert rate(step, span=span, warmup_steps=warm, **options) == \
            pytest.approx(plain * min(1, (step - begin + 1) / warm))


def test_phase_factor_multiplies_and_a_continued_phase_does_not_warm_up():
    span = Span(50, 100, 0, 64, "joint", 0, 0.25)
    assert rate(50, span=span, warmup_steps=20) == pytest.approx(0.1)
    assert rate(50, span=Span(50, 100, 50, 64, "joint", 0, 0.25), warmup_steps=20) == pytest.approx(0.1 / 20)
