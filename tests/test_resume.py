"""Test that an interrupted and resumed run equals an uninterrupted one bit for bit, on one CPU thread."""

import importlib.util

import numpy as np
import pytest
from small_runs import assert_same_weights, called, state_arrays
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from posecascade.training import checkpoints


@pytest.fixture(scope="module", params=["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def runs(request, tmp_path_factory, kept):
    """The folders of an uninterrupted run and of one that was interrupted three times."""
    if not importlib.util.find_spec(request.param):
        pytest.skip(f"needs {request.param}, which is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    ended = called("whole_and_interrupted", folder, kept / "jax", request.param)
    assert ended.returncode == 0, ended.stderr
    starts = [line for line in ended.stdout.splitlines() if line.startswith("resuming")]
    assert starts == [f"resuming after step {step} of 12" for step in (5, 8, 10)]
    return folder / "whole", folder / "parts"


@pytest.mark.parametrize("piece", ["network", "optimizer"])
def test_every_array_of_the_state_is_equal(runs, piece):
    whole, parts = (state_arrays(folder / checkpoints.STATE, piece) for folder in runs)
    assert len(whole) == len(parts) > 5
    for mine, theirs in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_progress_and_log_are_equal(runs):
    whole, parts = runs
    assert checkpoints.read_header(whole) == checkpoints.read_header(parts)
    assert (whole / "log.csv").read_text() == (parts / "log.csv").read_text()


@pytest.mark.parametrize("name", ["best.keras", "last.keras"])
def test_models_are_equal(runs, name):
    assert_same_weights(*(folder / name for folder in runs))


def test_tensorboard_curves_are_equal_and_have_each_step_once(runs):
    curves = []
    for folder in runs:
        events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
        events.Reload()
        curves.append({tag: [(event.step, event.value) for event in events.Scalars(tag)]
                       for tag in events.Tags()["scalars"] if "per_second" not in tag})
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]["train/loss"]] == list(range(1, 13))
