"""What goes wrong during a run is told in one line with its place and likely cause, and what was good stays on disk."""

import numpy as np
import pytest
from small_runs import EPOCH_STEPS, cut, small, state_arrays, stub_cascade, write_people

from posecascade import checkpoints, construction, pretrained
from posecascade.errors import InputError
from posecascade.learner import Learner
from posecascade.training import train

LOSSES = {"loss": 3.0, "detection": 20.0, "regression": 5.0}


@pytest.fixture(scope="module", autouse=True)
def _stub():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(construction, "cascade", stub_cascade)
        yield


@pytest.fixture
def telling(monkeypatch):
    """Sets what every step tells, which learns nothing."""
    def set_losses(losses):
        monkeypatch.setattr(Learner, "step", lambda learner, images, targets: dict(losses))
    return set_losses


def refusal(*arguments, **options):
    with pytest.raises(InputError) as error:
        train(*arguments, **{"tell": lambda line: None} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


CULPRITS = [
    ({"name": "sgd", "learning_rate": 5.0}, "float32", "optimizer.learning_rate 5 is high for sgd; try 0.1"),
    ({"name": "adam", "learning_rate": 0.01}, "float32", "optimizer.learning_rate 0.01 is high for adam; try 0.003"),
    ({"clip_norm": 0}, "float32", "optimizer.clip_norm is 0; try 5"),
    ({"warmup_steps": 0}, "float32", "optimizer.warmup_steps is 0; try 300"),
    ({}, "float32", "optimizer.learning_rate 0.003; try a third of it"),
    ({}, "mixed_float16", "training.precision mixed_float16 overflows; try mixed_bfloat16 or float32")]


@pytest.mark.parametrize(("optimizer", "precision", "culprit"), CULPRITS)
def test_a_loss_that_is_no_number_stops_the_run_with_step_and_culprit(optimizer, precision, culprit, tmp_path, telling):
    telling({"loss": float("nan"), "detection": 1.0, "regression": float("inf")})
    recipe = small(optimizer=optimizer, training={"precision": precision})
    assert refusal(recipe, tmp_path) == (
        "step 1: the loss or a weight is NaN or infinite (loss nan, detection 1, regression inf); likely culprit: "
        f"{culprit}; nothing had been saved yet")


@pytest.mark.parametrize("where", ["network", "optimizer"])
def test_a_broken_weight_is_found_before_it_is_saved_and_the_last_good_state_and_models_stay(
        where, tmp_path, monkeypatch):
    count = iter(range(1, 100))

    def step(learner, images, targets):
        if next(count) == 6:
            owner = learner.network if where == "network" else learner.optimizer
            broken = [v for v in owner.variables if v.shape][-1]
            broken.assign(np.full(broken.shape, np.inf, "float32"))
        return {"loss": 1.0}

    monkeypatch.setattr(Learner, "step", step)
    assert refusal(small(), tmp_path) == (
        "step 6: the loss or a weight is NaN or infinite (loss 1); likely culprit: optimizer.learning_rate 0.003; try "
        f"a third of it; {tmp_path / 'state.npz'} holds the last good step")
    progress, _ = checkpoints.read_header(tmp_path)
    assert progress.step == EPOCH_STEPS
    assert all(np.isfinite(array).all() for array in state_arrays(tmp_path / "state.npz", where))
    for name in ("best.keras", "last.keras"):
        assert pretrained.load(tmp_path / name)[1].result["epoch"] == 1


def test_a_picture_cut_short_is_skipped_told_once_and_counted_and_more_than_one_in_a_hundred_are_an_error(
        tmp_path, telling):
    telling(LOSSES)
    source = f"coco:{write_people(tmp_path / 'data', 240)}"  # 227 to train on: two may be lost
    recipe, told = small(data={"schema": "coco17"}, training={"batch_size": 32, "epochs": 3}), []
    for name in ("0001.jpg", "0002.jpg"):  # none of those that are opened before the run
        cut(tmp_path / "data" / name)
    train(recipe, tmp_path / "run", [source], tell=told.append)
    fault = "the JPEG data end too early; copy the file again"
    assert sorted(line for line in told if line.startswith("skipped")) == [
        f"skipped: image {tmp_path / 'data' / name}: {fault}" for name in ("0001.jpg", "0002.jpg")]
    assert "2 pictures could not be read and were skipped" in told
    cut(tmp_path / "data" / "0003.jpg")
    message = refusal(recipe, tmp_path / "again", [source])
    assert message.startswith(f"image {tmp_path / 'data'}/000")
    assert message.endswith(f".jpg: {fault} (3 of 227 pictures unreadable so far, at most 1% are skipped; run "
                            "posecascade-data check)")


def test_a_file_in_the_folder_s_place_is_told(tmp_path):
    (tmp_path / "run").write_text("x")
    assert refusal(small(), tmp_path / "run") == f"--model_dir={tmp_path / 'run'}: is a file, expected a folder"
