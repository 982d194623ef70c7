"""More epochs for a run that has ended: it goes on from its state, its last phase is longer, its best model stays."""

import csv
import math
import shutil

import numpy as np
import pytest
from small_runs import small, state_arrays, weights_of

from posecascade.errors import InputError
from posecascade.training import trainer
from posecascade.training.learner import Learner
from posecascade.training.trainer import train

pytestmark = pytest.mark.usefixtures("stub_networks", "steps")
PHASES = [{"train": "detector", "share": 5, "input_size": 32}, {"train": "regressor", "share": 7, "lr_factor": 0.5}]
STEPS, EPOCH_STEPS = 12, 4


@pytest.fixture
def steps(monkeypatch):
    """Steps that add 1 to every weight and every number of the optimizer, and record size and learning rate."""
    noted = []

    def step(learner, images, targets):
        noted.append((images.shape[1], float(learner.optimizer.learning_rate)))
        for variable in (*learner.network.trainable_variables, *learner.optimizer.variables[2:]):
            variable.assign_add(np.ones(variable.shape, np.float32))
        return {"loss": 3.0}

    monkeypatch.setattr(Learner, "step", step)
    for name in ("_preflight", "_finish"):  # they take longer than the run
        monkeypatch.setattr(trainer, name, lambda *_: {})
    monkeypatch.setattr(trainer, "_validated", lambda *arguments: {"result": 100.0 - arguments[-1]})  # minus the step
    return noted


def recipe(epochs):
    return small(training={"epochs": epochs, "phases": PHASES, "checkpoint_every_steps": 3},
                 optimizer={"warmup_steps": 0, "ema_decay": 0.5})


def trained(folder, epochs):
    """Train, and return the lines of the log."""
    lines = []
    train(recipe(epochs), folder, log=lines.append)
    return lines


def state(folder):
    return [array for piece in ("network", "optimizer") for array in state_arrays(folder / "state.npz", piece)]


def test_run_goes_on_in_its_last_phase_at_the_rate_of_the_longer_run(steps, tmp_path):
    trained(tmp_path, 3)
    before, best = state(tmp_path), (tmp_path / "best.keras").read_bytes()
    last = weights_of(tmp_path / "last.keras")
    steps.clear()
    lines = trained(tmp_path, 5)
    assert [line for line in lines if line.startswith(("resuming", "epochs were"))] == [
        "resuming after step 12 of 20", "epochs were added: the last phase (regressor) is longer, and the learning "
        "rate (cosine) goes on at 0.00052, as in a run of 5 epochs"]
    factors = [0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(12, 20)]
    assert steps == [(64, pytest.approx(0.003 * 0.5 * factor)) for factor in factors]
    changes = {round(float(change), 3) for mine, theirs in zip(state(tmp_path), before, strict=True)
               for change in np.unique(mine - theirs)}
    assert changes == {0, 8}  # from the saved state on: 8 more steps, of the regressor's weights alone
    assert best == (tmp_path / "best.keras").read_bytes()
    assert any((last[name] != value).any() for name, value in weights_of(tmp_path / "last.keras").items())
    with open(tmp_path / "log.csv", newline="") as text:
        rows = [(row["epoch"], row["trained"], row["best"]) for row in csv.DictReader(text)]
    assert rows == [("1", "detector", "1"), *((str(epoch), "regressor", "0") for epoch in (2, 3, 4, 5))]


def test_added_epochs_can_be_interrupted_and_added_to_again(steps, tmp_path, monkeypatch):
    trained(tmp_path / "once", 3)
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    trained(tmp_path / "once", 5)
    whole = steps[STEPS:]
    steps.clear()
    real = Learner.step

    def step(learner, images, targets):
        if len(steps) == 5:
            raise KeyboardInterrupt
        return real(learner, images, targets)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "step", step)
        trained(tmp_path / "twice", 5)
    del steps[4:]  # the last state was saved after 4 steps
    assert "resuming after step 16 of 20" in trained(tmp_path / "twice", 5)
    assert steps == whole
    for mine, theirs in zip(state(tmp_path / "once"), state(tmp_path / "twice"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    steps.clear()
    trained(tmp_path / "once", 6)
    assert [size for size, _ in steps] == [64] * EPOCH_STEPS


def test_fewer_epochs_and_other_settings_are_refused(tmp_path):
    trained(tmp_path, 2)
    for other, change in ((recipe(1), "training.epochs: 2 -> 1"),
                          (small(training={"epochs": 3, "phases": PHASES}), "optimizer.")):
        with pytest.raises(InputError) as raised:
            train(other, tmp_path, log=lambda line: None)
        assert f"holds a run that differs ({change}" in str(raised.value)
