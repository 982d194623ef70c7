"""A run that stops at any step and is started again ends as one that never stopped: bit for bit on one CPU thread."""

import importlib.util

import numpy as np
import pytest
from small_runs import assert_same_weights, called, state_arrays
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from posecascade.training import checkpoints


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def runs(request, tmp_path_factory, kept):
    """The folders of a run in one go and of one that was interrupted three times."""
    if not importlib.util.find_spec(request.param):
        pytest.skip(f"needs {request.param}, which is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    ended = called("whole_and_interrupted", folder, kept / "jax", request.param)
    assert ended.returncode == 0, ended.stderr
    starts = [line for line in ended.stdout.splitlines() if line.startswith("resuming")]
    assert starts == [f"resuming after step {step} of 12" for step in (5, 8, 10)]
    return folder / "whole", folder / "parts"


@pytest.mark.parametrize("piece", ["network", "optimizer"])
def test_every_array_of_the_state_is_the_same(runs, piece):
    whole, parts = (state_arrays(folder / checkpoints.STATE, piece) for folder in runs)
    assert len(whole) == len(parts) > 5
    for mine, theirs in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_progress_and_log_are_the_same(runs):
    whole, parts = runs
    assert checkpoints.read_header(whole) == checkpoints.read_header(parts)
    assert (whole / "log.csv").read_text() == (parts / "log.csv").read_text()


@pytest.mark.parametrize("name", ["best.keras", "last.keras"])
def test_the_models_are_the_same(runs, name):
    assert_same_weights(*(folder / name for folder in runs))


def test_tensorboard_s_curves_are_the_same_each_step_once(runs):
    curves = []
    for folder in runs:
        found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
        found.Reload()
        curves.append({tag: [(event.step, event.value) for event in found.Scalars(tag)]
                       for tag in found.Tags()["scalars"] if "per_second" not in tag})
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]["train/loss"]] == list(range(1, 13))
