"""Test the trainer on a stub of a network: phases, learning rates, logs, saved models and resumed runs."""

import csv
import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import yaml
from small_runs import EPOCH_STEPS, small, state_arrays, stub_cascade, weights_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from posecascade.drawing import TILE_GAP
from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.schema import LSP14, MPII16
from posecascade.training import build, checkpoints, figures, trainer
from posecascade.training.learner import Learner
from posecascade.training.recipe import load_recipe
from posecascade.training.schedule import learning_rate
from posecascade.training.trainer import train

pytestmark = pytest.mark.usefixtures("stub_networks")
PHASES = [{"train": "detector", "share": 5, "input_size": 32}, {"train": "regressor", "share": 7, "lr_factor": 0.5}]


@pytest.fixture
def steps(monkeypatch):
    """Steps that train nothing and record image size, learning rate and learner."""
    noted = []

    def step(learner, images, targets):
        noted.append((images.shape[1], float(learner.optimizer.learning_rate), learner))
        return {"loss": 3.0, "detection": 20.0, "regression": 5.0}

    monkeypatch.setattr(Learner, "step", step)
    return noted


@pytest.fixture
def brief(monkeypatch):
    """Skip the evaluation at the end, which takes longer than the run."""
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})


def quiet(line):
    pass


def refusal(*arguments, **options):
    with pytest.raises(InputError) as error:
        train(*arguments, **{"log": quiet} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


def log_of(folder):
    with open(folder / "log.csv", newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """A real run, detector for 5 steps and regressor for 7, with the state of every step."""
    folder, lines, flushed = tmp_path_factory.mktemp("staged"), [], []
    recipe = small(training={"epochs": 3, "phases": PHASES, "checkpoint_every_steps": 1}, optimizer={"ema_decay": 0.6})
    real = checkpoints.save_state

    def kept(place, network, optimizer, progress, identity):
        flushed.append(next((place / "tensorboard").iterdir()).read_bytes().count(b"train/loss"))
        real(place, network, optimizer, progress, identity)
        shutil.copy(place / checkpoints.STATE, folder / f"state_{progress.step}.npz")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save_state", kept)
        patch.setattr(trainer, "SCALARS_EVERY", 1)
        reports = train(recipe, folder / "run", log=lines.append)
    assert flushed == list(range(1, 13))  # events before a state must be on disk: they are not written again
    return folder, recipe, lines, reports


def test_run_writes_its_files_and_leaves_no_draft(staged):
    folder, recipe, lines, reports = staged
    assert sorted(path.name for path in (folder / "run").iterdir()) == [
        "best.keras", "curve.png", "last.keras", "log.csv", "manifest.json", "metrics.json", "predictions.jpg",
        "recipe.yaml", "state.npz", "tensorboard"]
    assert load_recipe(str(folder / "run" / "recipe.yaml")) == recipe
    assert json.loads((folder / "run" / "manifest.json").read_text())["recipe"] == recipe.as_dict()
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics == {source: report.as_dict() for source, report in reports.items()}
    assert metrics["synthetic:16"]["people"] == 64  # all of them, not only training.validation_people
    # Detector: convolutions 112 + 148, batch norms 2 x 16, parts 4 x 14 + 14. Regressor: 508, 16 and 70.
    assert lines[:2] == ["parameters 956 (detector 362, regressor 594); about 0.0 GiB to train",
                        "16 people for training, 64 for validation"]
    epochs = [line.split("  ")[0] for line in lines if line.startswith("epoch")]
    assert epochs == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


def test_log_has_a_row_per_epoch(staged):
    folder, _, _, _ = staged
    rows = log_of(folder / "run")
    assert [(row["epoch"], row["step"], row["trained"], row["size"]) for row in rows] == [
        ("1", "4", "detector", "32"), ("2", "8", "regressor", "64"), ("3", "12", "regressor", "64")]
    assert all(float(row[name]) > 0 for row in rows for name in ("loss", "detection", "regression"))
    assert all(row["result"] == row["synthetic_pck_heatmaps"] for row in rows)
    best = [int(row["best"]) for row in rows]
    results = [float(row["result"]) for row in rows]
    assert best == [int(result > max(results[:i], default=-1)) for i, result in enumerate(results)]


def test_phase_changes_weights_and_statistics_of_its_stage_only(staged):
    folder, _, _, _ = staged
    network = stub_cascade(LSP14.size)
    detector = {id(v) for v in network.get_layer("detector").variables}
    states = [state_arrays(folder / f"state_{step}.npz", "network") for step in range(1, 13)]
    for index, variable in enumerate(network.variables):
        values = [state[index] for state in states]
        mine, theirs = (values[:5], values[4:]) if id(variable) in detector else (values[5:], values[:5])
        assert all(np.array_equal(value, theirs[0]) for value in theirs), variable.path
        # Gradients of biases before a batch norm are rounding errors.
        assert variable.path.endswith(("conv/bias", "wide/bias")) or not np.array_equal(mine[0], mine[1]), variable.path


def test_phase_ends_with_its_averages_and_models_have_them(staged):
    folder, _, _, _ = staged
    network = stub_cascade(LSP14.size)
    states = [state_arrays(folder / f"state_{step}.npz", "network") for step in range(1, 6)]
    slots = [state_arrays(folder / f"state_{step}.npz", "optimizer") for step in range(1, 6)]
    trained = [i for i, v in enumerate(network.variables) if v.path.startswith(("stem", "block", "parts"))
               and "moving" not in v.path]
    names = [v.path for v in network.variables]
    for index in trained:
        # Of the optimizer's arrays, the average is the one equal to the weights after the first step.
        where = [i for i, slot in enumerate(slots[0]) if np.array_equal(slot, states[0][index])]
        assert len(where) == 1, names[index]
        np.testing.assert_array_equal(states[4][index], slots[4][where[0]])
        assert not np.array_equal(slots[3][where[0]], states[3][index]) or "bias" in names[index]
    last = weights_of(folder / "run" / "last.keras")
    final = state_arrays(folder / "state_12.npz", "network")
    for index in trained:
        assert any(value.shape == final[index].shape and np.array_equal(value, final[index]) for value in last.values())


def test_tensorboard_has_curves_and_a_sheet_per_epoch(staged):
    folder, recipe, _, _ = staged
    events = EventAccumulator(str(folder / "run" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    plan = build.plan_of(recipe, 12)
    for event in events.Scalars("train/learning_rate"):
        span = next(span for span in plan if event.step <= span.end)
        assert event.value == pytest.approx(learning_rate(event.step - 1, 12, span, rate=0.003, schedule="cosine",
                                                          warmup_steps=2), rel=1e-6)
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 13))
    assert set(events.Tags()["scalars"]) >= {"train/detection", "train/regression", "train/images_per_second",
                                            "validation/result", "validation/mean_peak_parts",
                                            "validation/mean_peak_heatmaps"}
    logged = [float(row["result"]) for row in log_of(folder / "run")]
    assert [event.value for event in events.Scalars("validation/result")] == pytest.approx(logged)
    [tag] = events.Tags()["images"]
    sheets = events.Images(tag)
    assert tag == "validation/labels, pose, maps of each stage" and [sheet.step for sheet in sheets] == [4, 8, 12]
    # Eight people, two per row, with labels, pose and two maps each.
    step = figures.TILE + TILE_GAP
    assert {(sheet.height, sheet.width) for sheet in sheets} == {(4 * step + TILE_GAP, 8 * step + TILE_GAP)}


def test_models_have_recipe_and_result_in_their_metadata(staged):
    folder, recipe, _, _ = staged
    rows = log_of(folder / "run")
    for name, row in (("last", rows[-1]), ("best", [row for row in rows if row["best"] == "1"][-1])):
        metadata = keras_file.load_metadata(folder / "run" / f"{name}.keras")
        assert (metadata.schema, metadata.input_size, metadata.stride, metadata.decoder) == (LSP14, 64, 4, "soft")
        assert metadata.recipe == recipe.as_dict()
        assert metadata.result == {key: yaml.safe_load(value) if key != "trained" else value
                                   for key, value in row.items() if value != ""}


def test_finished_run_started_again_trains_nothing(staged, tmp_path, steps):
    folder, recipe, _, reports = staged
    shutil.copytree(folder / "run", tmp_path / "run")
    again = train(recipe, tmp_path / "run", log=quiet)
    assert not steps
    assert {name: report.as_dict() for name, report in again.items()} == {
        name: report.as_dict() for name, report in reports.items()}
    for path in ("log.csv", "best.keras", "last.keras", "state.npz", "manifest.json"):
        assert (tmp_path / "run" / path).read_bytes() == (folder / "run" / path).read_bytes()
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_folder_of_another_run_is_refused_and_unchanged(staged, tmp_path, steps):
    folder, recipe, _, _ = staged
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    other = replace(recipe, model=replace(recipe.model, width=24), training=replace(recipe.training, workers=1))
    assert refusal(other, folder / "run") == (
        f"{folder / 'run'}: holds a run that differs (model.width: 16 -> 24); give the same settings to resume it, or "
        "another --model_dir")
    assert refusal(recipe, folder / "run", ["synthetic:17"]) == (
        f"{folder / 'run'}: holds a run that differs (data: other people, labels or order); give the same "
        "settings to resume it, or another --model_dir")
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}


def test_every_step_has_the_size_and_rate_of_its_phase(tmp_path, steps, brief):
    phases = [{"share": 1, "input_size": 32}, {"share": 1, "frozen_blocks": 1, "lr_factor": 0.1}]
    recipe = small(training={"phases": phases}, optimizer={"schedule": "step", "milestones": [0.75], "warmup_steps": 2})
    train(recipe, tmp_path, log=quiet)
    sides, rates, learners = zip(*steps, strict=True)
    assert sides == (32,) * 4 + (64,) * 4
    assert rates == pytest.approx([0.0015, 0.003, 0.003, 0.003, 0.00015, 0.0003, 0.00003, 0.00003])
    assert set(map(id, learners[:4])) == {id(learners[0])} and set(map(id, learners[4:])) == {id(learners[4])}
    assert learners[0] is not learners[4]


@pytest.mark.parametrize(("values", "flags"), [([10.0, 30.0, 20.0, 30.0], [1, 1, 0, 0]), ([0.0, 0.0], [1, 0])])
def test_best_model_is_from_the_first_best_epoch(values, flags, tmp_path, steps, brief, monkeypatch):
    results = iter(values)
    monkeypatch.setattr(trainer, "_validated", lambda *_: {"result": next(results)})
    train(small(training={"epochs": len(values)}), tmp_path, log=quiet)
    assert [int(row["best"]) for row in log_of(tmp_path)] == flags
    epoch = keras_file.load_metadata(tmp_path / "best.keras").result["epoch"]
    assert epoch == 1 + values.index(max(values))
    assert keras_file.load_metadata(tmp_path / "last.keras").result["epoch"] == len(values)


def test_epochs_without_evaluation_are_logged_and_the_last_is_evaluated(tmp_path, steps, brief):
    train(small(training={"epochs": 3, "evaluate_every_epochs": 2}), tmp_path, log=quiet)
    rows = log_of(tmp_path)
    assert [row["result"] != "" for row in rows] == [False, True, True] and rows[0]["best"] == "0"
    assert [float(row["loss"]) for row in rows] == [3.0] * 3


def test_run_starts_from_a_model_of_another_schema(tmp_path, steps, brief):
    keras.utils.set_random_seed(3)
    source, lines = stub_cascade(MPII16.size), []
    keras_file.save(source, tmp_path / "mpii.keras", keras_file.Metadata(MPII16, 64, 4))
    recipe = small(model={"init_from": str(tmp_path / "mpii.keras")}, training={"epochs": 1},
                   optimizer={"ema_decay": 0})  # the steps train nothing
    train(recipe, tmp_path / "run", log=lines.append)
    assert lines[0] == f"started from {tmp_path / 'mpii.keras'}: 7 layers copied, 0 in part, 1 new"
    model, _ = keras_file.load(tmp_path / "run" / "last.keras")
    order = [MPII16.index(name) for name in LSP14.keypoints]
    np.testing.assert_array_equal(model.get_layer("regressor").get_layer("maps").get_weights()[0],
                                  source.get_layer("regressor").get_layer("maps").get_weights()[0][..., order])
    (tmp_path / "mpii.keras").unlink()
    train(recipe, tmp_path / "run", log=quiet)


def test_drafts_of_an_interrupted_run_are_removed(tmp_path, steps, brief):
    draft = tmp_path / ".state.abcd1234.npz"
    draft.write_bytes(b"half")
    draft.chmod(0o600)  # as drafts are
    train(small(training={"epochs": 1}), tmp_path, log=quiet)
    assert not list(tmp_path.glob(".*"))
    assert len(steps) == EPOCH_STEPS


def test_input_size_may_grow_within_a_span_of_the_same_weights(tmp_path, brief):
    """Up-sampling needs known sides; TensorFlow would trace a second size without them."""
    phases = [{"share": 1, "input_size": 32}, {"share": 1}]
    train(small(training={"phases": phases, "validation_people": 2}), tmp_path, log=quiet)
    assert [row["size"] for row in log_of(tmp_path)] == ["32", "64"]
