"""Keras' own settings: keras.json and KERAS_BACKEND change no result, and what cannot be used is one line."""

import json
import os
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from small_runs import finished, small, state_arrays

import posecascade
from posecascade.backend import keras_settings
from posecascade.drawing import write_image
from posecascade.training import trainer

# Runs commands in processes that are forked before any of them imports Keras: argv[1] is a file of
# [[environment, command, words], ...]; prints [exit status, standard error] per command as JSON.
RUN = """
import importlib, json, os, sys, tempfile
from pathlib import Path
from posecascade.cli import app, data, demo, evaluate, export, predict, train
modules = {"data": data, "demo": demo, "evaluate": evaluate, "export": export, "predict": predict, "train": train}
for environment, command, words in json.loads(Path(sys.argv[1]).read_text()):
    with tempfile.TemporaryFile() as text:
        process = os.fork()
        if not process:
            os.dup2(text.fileno(), 2)
            os.environ.update(environment)
            module = modules[command]
            app.run(module.main, module.FLAGS, "", [f"posecascade-{command}", *words])
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        text.seek(0)
        print(json.dumps([status, text.read().decode()]))
"""


def ended(cases, folder) -> list:
    """Return the exit status and the lines of standard error of each case."""
    (folder / "cases.json").write_text(json.dumps(cases))
    done = finished([sys.executable, "-c", RUN, folder / "cases.json"], KERAS_BACKEND="", KERAS_HOME=str(folder))
    assert done.returncode == 0, done.stderr
    return [(status, text.splitlines()) for status, text in map(json.loads, done.stdout.splitlines())]


def test_every_command_reports_a_backend_that_cannot_be_used_in_one_line(tmp_path):
    photo = tmp_path / "photo.png"
    write_image(photo, np.zeros((64, 48, 3), np.uint8))
    commands = {"train": ["--recipe=quickstart", f"--model_dir={tmp_path / 'run'}"],
                "predict": [str(photo), "--model=lite", f"--output={tmp_path / 'poses'}"],
                "evaluate": ["--model=lite", "--data=synthetic:2"],
                "data": ["show", "--data=synthetic:2", f"--output={tmp_path / 'samples.png'}"]}
    outcomes = ended([[{"KERAS_BACKEND": "theano"}, *command] for command in commands.items()], tmp_path)
    assert outcomes == [(2, [f"posecascade-{command}: error: KERAS_BACKEND=theano: unknown backend; did you mean "
                             "'tensorflow'?"]) for command in commands]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.json", "keras.json", "photo.png"]


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_backend_that_is_not_installed_is_reported(backend, tmp_path):
    if shutil.which(backend) or any((Path(folder) / backend).exists() for folder in sys.path):
        pytest.skip(f"{backend} is installed")
    [(status, [line])] = ended([[{"KERAS_BACKEND": backend}, "predict", ["x.jpg"]]], tmp_path)
    assert (status, line) == (2, f"posecascade-predict: error: KERAS_BACKEND={backend}: cannot be imported (No module "
                                 f"named '{backend}'); install {backend}, or unset the variable")


def test_a_keras_json_that_cannot_be_used_is_named(tmp_path):
    cases, expected = [], []
    for name, content, problem in (
            ("unknown", {"backend": "mxnet"},
             "backend is 'mxnet': unknown backend; choose from jax, tensorflow, torch"),
            ("list", [], "holds list; expected a mapping of keys. Delete the file"),
            ("floatx", {"floatx": "half"}, "Keras refuses it (Invalid `floatx` configuration. Expected one of ")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keras.json").write_text(json.dumps(content))
        environment = {"KERAS_HOME": str(tmp_path / name)}
        cases.append([environment, "predict", ["x.jpg"]])
        if name == "floatx":
            cases += [[environment, "export", ["--model=lite", "--output=x"]],
                      [environment, "demo", [f"--output={tmp_path / 'site'}"]]]
        expected += [f"{tmp_path / name / 'keras.json'}: {problem}"] * (len(cases) - len(expected))
    for case, (status, lines), problem in zip(cases, ended(cases, tmp_path), expected, strict=True):
        assert (status, len(lines)) == (2, 1), lines
        assert lines[0].startswith(f"posecascade-{case[1]}: error: {problem}")


@pytest.fixture
def half_precision_and_channels_first():
    """Settings that a keras.json may hold."""
    before = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("float16")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_image_data_format(before[1])
    keras.config.set_dtype_policy(before[2])


@pytest.fixture
def run(stub_networks, monkeypatch):
    """A function that trains the small recipe in a folder and returns the arrays of its state and a pose."""
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})

    def train(folder):
        trainer.train(small(training={"epochs": 1}), folder, log=lambda line: None)
        image = np.random.default_rng(7).integers(0, 256, (200, 150, 3), np.uint8)
        poses = [posecascade.load(model).predict(image, (10, 10, 100, 150))
                 for model in ("lite", folder / "best.keras")]
        return [*state_arrays(folder / "state.npz", "network"), *state_arrays(folder / "state.npz", "optimizer"),
                *(pose.keypoints for pose in poses)]

    return train


def test_keras_settings_change_neither_training_nor_poses(run, tmp_path, request):
    plain = run(tmp_path / "plain")
    request.getfixturevalue("half_precision_and_channels_first")
    for mine, theirs in zip(run(tmp_path / "other"), plain, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_the_user_s_settings_are_restored(half_precision_and_channels_first):
    with keras_settings("mixed_float16"):
        assert (keras.config.floatx(), keras.config.image_data_format()) == ("float32", "channels_last")
        assert keras.config.dtype_policy().name == "mixed_float16"
    assert (keras.config.floatx(), keras.config.image_data_format()) == ("float16", "channels_first")
    assert keras.config.dtype_policy().name == "float16"


def test_training_on_a_backend_without_gradients_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(posecascade.InputError) as raised:
        trainer.train(small(), tmp_path / "run")
    assert str(raised.value) == ("backend: numpy cannot train; set KERAS_BACKEND to tensorflow, jax or torch")
    assert not os.listdir(tmp_path)
