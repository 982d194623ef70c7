"""Faults during a run are reported in one line with place and likely cause; the last good state stays on disk."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import EPOCH_STEPS, cut, small, state_arrays, write_people

from posecascade import files
from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.schema import COCO17
from posecascade.training import checkpoints, trainer
from posecascade.training.learner import Learner
from posecascade.training.trainer import train

pytestmark = pytest.mark.usefixtures("stub_networks")
LOSSES = {"loss": 3.0, "detection": 20.0, "regression": 5.0}


@pytest.fixture
def stub_losses(monkeypatch):
    """Set the losses that every step returns; steps train nothing."""
    def set_losses(losses):
        monkeypatch.setattr(Learner, "step", lambda learner, images, targets: dict(losses))
    return set_losses


def refusal(*arguments, **options):
    with pytest.raises(InputError) as error:
        train(*arguments, **{"log": lambda line: None} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


CAUSES = [
    ({"name": "sgd", "learning_rate": 5.0}, "float32", "optimizer.learning_rate 5 is high for sgd; try 0.1"),
    ({"name": "adam", "learning_rate": 0.01}, "float32", "optimizer.learning_rate 0.01 is high for adam; try 0.003"),
    ({"clip_norm": 0}, "float32", "optimizer.clip_norm is 0; try 5"),
    ({"warmup_steps": 0}, "float32", "optimizer.warmup_steps is 0; try 300"),
    ({}, "float32", "optimizer.learning_rate 0.003; try a third of it"),
    ({}, "mixed_float16", "training.precision mixed_float16 overflows; try mixed_bfloat16 or float32")]


@pytest.mark.parametrize(("optimizer", "precision", "cause"), CAUSES)
def test_loss_that_is_not_finite_stops_the_run_with_step_and_cause(optimizer, precision, cause, tmp_path, stub_losses):
    stub_losses({"loss": float("nan"), "detection": 1.0, "regression": float("inf")})
    recipe = small(optimizer=optimizer, training={"precision": precision})
    assert refusal(recipe, tmp_path) == (
        "step 1: the loss or a weight is NaN or infinite (loss nan, detection 1, regression inf); likely cause: "
        f"{cause}; nothing had been saved yet")


@pytest.mark.parametrize("where", ["network", "optimizer"])
def test_weight_that_is_not_finite_is_never_saved(
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
        "step 6: the loss or a weight is NaN or infinite (loss 1); likely cause: optimizer.learning_rate 0.003; try "
        f"a third of it; {tmp_path / 'state.npz'} holds the last good step")
    progress, _ = checkpoints.read_header(tmp_path)
    assert progress.step == EPOCH_STEPS
    assert all(np.isfinite(array).all() for array in state_arrays(tmp_path / "state.npz", where))
    for name in ("best.keras", "last.keras"):
        assert keras_file.load(tmp_path / name)[1].result["epoch"] == 1


def test_unreadable_images_are_skipped_up_to_one_percent(
        tmp_path, stub_losses):
    stub_losses(LOSSES)
    source = f"coco:{write_people(tmp_path / 'data', 240)}"  # 227 for training: two may be unreadable
    recipe, lines = small(data={"schema": "coco17"}, training={"batch_size": 32, "epochs": 3}), []
    for name in ("0001.jpg", "0002.jpg"):  # not among those checked before the run
        cut(tmp_path / "data" / name)
    train(recipe, tmp_path / "run", [source], log=lines.append)
    fault = "the JPEG data end too early; copy the file again"
    assert sorted(line for line in lines if line.startswith("skipped")) == [
        f"skipped: image {tmp_path / 'data' / name}: {fault}" for name in ("0001.jpg", "0002.jpg")]
    assert "2 images could not be read and were skipped" in lines
    cut(tmp_path / "data" / "0003.jpg")
    message = refusal(recipe, tmp_path / "again", [source])
    assert message.startswith(f"image {tmp_path / 'data'}/000")
    assert message.endswith(f".jpg: {fault} (3 of 227 images unreadable so far, at most 1% are skipped; run "
                            "posecascade-data check)")


def test_validation_data_are_checked_before_the_run(tmp_path, stub_losses):
    path = write_people(tmp_path / "data", 40)  # the last two are for validation
    recipe = small(data={"schema": "coco17"}, training={"validation_people": 1})
    content = json.loads(path.read_text())
    content["annotations"][38]["keypoints"][3 * COCO17.index("right_hip") + 2] = 0
    path.write_text(json.dumps(content))
    assert refusal(recipe, tmp_path / "run", [f"coco:{path}"]) == (
        f"coco:{path}: none of 1 people has a torso size, which PCK needs; set 'torso' in the schema to two keypoints, "
        "or label them")
    cut(tmp_path / "data" / "0039.jpg")
    assert refusal(recipe, tmp_path / "run", [f"coco:{path}"]) == (
        f"image {tmp_path / 'data' / '0039.jpg'}: the JPEG data end too early; copy the file again (1 of 2 images "
        "opened cannot be read; run posecascade-data check)")
    assert not (tmp_path / "run").exists()


def test_keypoints_without_any_label_are_reported(tmp_path, stub_losses, monkeypatch):
    stub_losses(LOSSES)
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})
    path, lines = write_people(tmp_path / "data", 20), []
    train(small(training={"epochs": 1}), tmp_path / "run", [f"coco:{path}"], log=lines.append)
    assert "warning: no person has neck, head_top labeled; these maps will stay empty" in lines


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_run_saves_float32_and_resumes_its_loss_scale(precision, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})
    recipe = small(training={"precision": precision, "epochs": 1, "checkpoint_every_steps": 2})
    real, count = Learner.step, iter(range(100))

    def step(learner, images, targets):
        if next(count) == 2:
            raise InputError("stop")
        return real(learner, images, targets)

    monkeypatch.setattr(Learner, "step", step)
    assert refusal(recipe, tmp_path) == "stop"
    if precision == "mixed_float16":
        # Change the number of good steps and the loss scale in the state; the resumed run must continue from these.
        with np.load(tmp_path / "state.npz") as archive:
            content = dict(archive)
        assert content["optimizer/3"] < 2 ** 15
        np.savez(tmp_path / "state.npz", **content | {"optimizer/2": np.int32(7), "optimizer/3": np.float32(8)})
    train(recipe, tmp_path, log=lambda line: None)
    assert checkpoints.read_header(tmp_path)[0].step == EPOCH_STEPS
    last = state_arrays(tmp_path / "state.npz", "optimizer")
    if precision == "mixed_float16":
        assert [float(value) for value in last[2:4]] == [7 + 2, 8]
    model, _ = keras_file.load(tmp_path / "last.keras")
    assert {v.dtype for v in model.variables} == {"float32"}
    assert {layer.compute_dtype for layer in model.get_layer("detector").layers} == {"float32"}


def test_folder_of_a_running_training_is_refused_and_unchanged(tmp_path, stub_losses):
    stub_losses(LOSSES)
    with files.locked(tmp_path / "run", "a test"):
        assert "another process is using this folder" in refusal(small(), tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [files.LOCK]
    train(small(), tmp_path / "run", log=lambda line: None)
    assert (tmp_path / "run" / "best.keras").exists() and not (tmp_path / "run" / files.LOCK).exists()


@pytest.fixture(scope="module")
def half_run(tmp_path_factory):
    """The folder of a run stopped after two of three epochs, and its recipe."""
    folder, recipe, save = tmp_path_factory.mktemp("half"), small(training={"epochs": 3}), trainer._save_models

    def save_two(twin, folder, progress, row, *rest):
        if row["epoch"] == 3:
            raise InputError("stop")
        save(twin, folder, progress, row, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", lambda learner, images, targets: dict(LOSSES))
        patch.setattr(trainer, "_save_models", save_two)
        assert refusal(recipe, folder) == "stop"
    return folder, recipe


@pytest.fixture
def half(half_run, tmp_path, stub_losses):
    """A copy of `half_run`, and its recipe."""
    stub_losses(LOSSES)
    return shutil.copytree(half_run[0], tmp_path / "run"), half_run[1]


@pytest.mark.parametrize(("damage", "fault"), [(Path.unlink, "no such model file"), (cut, "truncated or damaged")])
def test_lost_best_model_is_noticed_at_the_start_and_replaced_by_the_last_one(half, damage, fault, monkeypatch):
    folder, recipe = half
    result = keras_file.load_metadata(folder / "last.keras").result["result"]
    damage(folder / "best.keras")
    seen, lines = [], []
    monkeypatch.setattr(trainer, "_run", lambda recipe, folder, splits, progress, *_: seen.append(progress.best))
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})
    train(recipe, folder, log=lines.append)
    [warning] = lines
    assert warning.startswith(f"warning: {folder / 'best.keras'}: ") and fault in warning
    assert warning.endswith(". best.keras is now last.keras, the model of epoch 2")
    assert keras_file.load_metadata(folder / "best.keras").result["epoch"] == 2 and seen == [result]


def test_both_models_lost_do_not_block_the_run(half):
    folder, recipe = half
    (folder / "best.keras").unlink()
    cut(folder / "last.keras")
    lines = []
    train(recipe, folder, log=lines.append)
    assert "no such model file" in lines[0] and "last.keras: is not" in lines[0]
    assert lines[0].endswith(". The next validated epoch is the best")
    assert keras_file.load(folder / "best.keras")[1].result["epoch"] == 3
    (folder / "best.keras").unlink()  # of a run that has ended
    train(recipe, folder, log=lines.append)
    assert keras_file.load(folder / "best.keras")[1].result["epoch"] == 3
    (folder / "best.keras").unlink()
    (folder / "last.keras").unlink()
    assert refusal(recipe, folder) == (
        f"{folder}: best.keras and last.keras are missing or damaged; add an epoch, which goes on from state.npz "
        "(--set=training.epochs=4), or train into another --model_dir")
    train(small(training={"epochs": 4}), folder, log=lines.append)
    assert keras_file.load(folder / "best.keras")[1].result["epoch"] == 4


def test_drafts_of_a_killed_evaluation_are_removed_at_the_next_start(half, monkeypatch):
    folder, recipe = half
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})
    train(recipe, folder, log=lambda line: None)
    for name in (".metrics.k3_x9abc.json", ".predictions.k3_x9abc.jpg", ".best.k3_x9abc.keras"):
        (folder / name).touch(0o600)
    train(recipe, folder, log=lambda line: None)  # nothing is left to train
    assert not list(folder.glob(".*"))


def test_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    assert refusal(small(), tmp_path / "run") == f"--model_dir={tmp_path / 'run'}: is a file, expected a folder"
