"""posecascade-train: its output, resuming after a kill, and its errors."""

import contextlib
import csv
import io
import os
import pty
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml
from small_runs import (
    COMMAND,
    SMALL,
    assert_same_weights,
    cut,
    environment,
    finished,
    state_arrays,
    stub_cascade,
    write_people,
)

import posecascade
from posecascade import datasets
from posecascade.cli import app, train
from posecascade.formats import keras_file
from posecascade.training import build, checkpoints, trainer
from posecascade.training.learner import Learner

BAD_INPUT, DONE, INTERRUPTED = 2, 0, 130
EPOCH_STEPS, STEPS = 12, 24


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    """The command with a recipe of two epochs, without --model_dir."""
    recipe = {name: dict(values) for name, values in SMALL.items()}
    recipe["data"]["sources"] = [f"synthetic:{4 * EPOCH_STEPS}"]
    recipe["training"] |= {"checkpoint_every_steps": 5}
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return [COMMAND, f"--recipe={path}", "--set=training.workers=1"]


@pytest.fixture(scope="module")
def uninterrupted(command_line, tmp_path_factory):
    """A run in the background; call it to wait for its folder, standard output, and the text on its terminal."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    terminal, other_end = pty.openpty()  # standard error is a terminal
    with open(folder / "out.txt", "w") as out:
        process = subprocess.Popen([*command_line, f"--model_dir={folder / 'run'}"], stdout=out, stderr=other_end,
                                   env=environment())
    os.close(other_end)

    def terminal_output():
        with open(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # Linux: raised at the end
            while chunk := screen.read(4096):
                yield chunk

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: b"".join(terminal_output()).decode())
        yield lambda: (folder / "run", (process.wait(), (folder / "out.txt").read_text())[1], reading.result())
    assert process.wait() == DONE


@pytest.fixture(scope="module")
def resumed(uninterrupted, command_line, tmp_path_factory):
    """A run killed within its first epoch and started again: folder, step it resumed from, standard output.

    Nobody reads the output of the killed one, as in `posecascade-train ... | head -1`.
    """
    folder = tmp_path_factory.mktemp("resumed") / "run"
    reader, output = os.pipe()
    os.close(reader)
    process = subprocess.Popen([*command_line, f"--model_dir={folder}"], stdout=output, env=environment())
    os.close(output)
    while process.poll() is None and checkpoints.read_header(folder) is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    step = checkpoints.read_header(folder)[0].step
    ended = finished([*command_line, f"--model_dir={folder}", "--set=training.checkpoint_every_steps=4"])
    assert (ended.returncode, ended.stderr) == (DONE, ""), ended.stderr
    return folder, step, ended.stdout


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one(uninterrupted, resumed):
    """Bit for bit: weights, averages, the optimizer and its schedule, the log, the results."""
    one, (other, step, printed) = uninterrupted()[0], resumed
    assert 0 < step < EPOCH_STEPS and f"resuming after step {step} of {STEPS}\n" in printed
    for name in ("best.keras", "last.keras"):
        assert_same_weights(one / name, other / name)
    for piece in ("network", "optimizer"):
        for mine, theirs in zip(*(state_arrays(f / "state.npz", piece) for f in (one, other)), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for name in ("log.csv", "metrics.json"):
        assert (one / name).read_text() == (other / name).read_text()
    assert not list(other.glob(".*"))


def test_train_prints_sizes_progress_and_results(uninterrupted):
    folder, printed, terminal = uninterrupted()
    lines = printed.splitlines()
    assert lines[:2] == ["parameters 46,188 (detector 41,854, regressor 4,334); about 0.0 GiB to train",
                         "48 people for training, 64 for validation"]
    assert [line.split("  loss")[0] for line in lines[2:4]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[-1] == (f"{folder}: best.keras is the best of 2 epochs; results are in metrics.json, curve.png, "
                         "predictions.jpg and log.csv")
    bars = [line for line in re.split(r"[\r\n]+", terminal) if line.strip()]
    assert bars and all("/24 [" in line and len(line) <= 80 for line in bars)
    assert any(re.match(r"epoch [01]\.\d\d/2: .*step/s, loss=", line) for line in bars)
    with open(folder / "log.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["step"] for row in rows] == [str(EPOCH_STEPS), str(STEPS)]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_trained_models_load_by_file_and_by_folder(uninterrupted):
    """test_keras_file loads models in a process without the package."""
    folder = uninterrupted()[0]
    for name in ("best", "last"):
        model, metadata = keras_file.load(folder / f"{name}.keras")
        assert metadata.schema.name == "lsp14" and {v.dtype for v in model.variables} == {"float32"}
    record = datasets.read("synthetic:1", "test")[0]
    pose = posecascade.load(folder).predict(record.image.read(), record.box)
    assert pose.keypoints.shape == (14, 2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the command in this process and returns its exit status and lines of standard error.

    The network is a stub whose training steps do nothing.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "cascade", stub_cascade)
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})  # the final evaluation would take longer than the run
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    real = Learner.step

    def command(*arguments, step=lambda *_: {"loss": 1.0}):
        train.FLAGS.unparse_flags()
        monkeypatch.setattr(Learner, "step", step or real)
        errors = io.StringIO()
        with pytest.raises(SystemExit) as exited, contextlib.redirect_stderr(errors), \
                contextlib.redirect_stdout(io.StringIO()):
            app.run(train.main, train.FLAGS, train.__doc__,
                    ["posecascade-train", "--model_dir=run", *map(str, arguments)])
        return exited.value.code, errors.getvalue().splitlines()

    return command


def damaged(folder):
    """Write data sets that cannot be trained on, in folders named by their defect."""
    for name, count, changes in (("five", 3, {"keypoints": [1, 2, 2] * 5}), ("nobody", 3, {"keypoints": [0] * 51}),
                                 ("cut", 30, {}), ("missing", 30, {})):
        write_people(folder / name, count, **changes)
    for path in (folder / "cut").glob("*.jpg"):
        cut(path)
    for path in (folder / "missing").glob("*.jpg"):
        path.unlink()
    (folder / "lspet").mkdir()
    (folder / "lspet" / "joints.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut short")
    (folder / "text.keras").write_text("no zip")
    (folder / "broken.yaml").write_text("training: [")


SMALL_RECIPE, QUICK = "--recipe=small.yaml", "--recipe=quickstart"


@pytest.mark.parametrize(("arguments", "problem"), [
    (["--recipe="], "--recipe: is missing; pass --recipe=..., quickstart, or a .yaml file"),
    ([QUICK, "--model_dir="], "--model_dir: is missing; pass --model_dir=..., a folder for the run"),
    ([QUICK, "extra"], "unexpected argument 'extra'; options begin with --"),
    ([QUICK, "--modeldir=x"], "Unknown command line flag 'modeldir'. Did you mean: model_dir ?"),
    (["--recipe=quikstart"], "unknown recipe 'quikstart'; did you mean 'quickstart'? (or give a .yaml file)"),
    (["--recipe=broken.yaml"], "recipe broken.yaml: is not YAML ("),
    ([QUICK, "--set=training.epoch=3"], "--set=training.epoch=3: unknown key 'training.epoch'; did you mean "
                                        "'training.epochs'?"),
    ([QUICK, "--set=training.phases=[{frozen_blocks: 9}]"],
     "training.phases[0].frozen_blocks: 9 blocks, but backbone 'tiny' has 5; give 0 to 5"),
    ([QUICK, "--data=lspet:/nowhere"], "lspet: '/nowhere' does not exist; give "),
    ([QUICK, "--data=lspet:lspet"], "lspet/joints.mat: is not a complete MATLAB file ("),
    ([QUICK, "--data=coco:five"],
     "five/people.json, annotations[0]: 'keypoints' holds 15 numbers, schema 'coco17' needs 51 (x, y, v for 17 "
     "keypoints); pass --schema=FILE.yaml (training: data.schema) or fix the file"),
    ([QUICK, "--data=coco:nobody"],
     "--data=coco:nobody: split 'train' has nobody with a labeled keypoint; choose another split"),
    ([SMALL_RECIPE, "--data=coco:cut"],
     "image cut/0000.jpg: the JPEG data end too early; copy the file again (29 of 29 images opened cannot be read; "
     "run posecascade-data check)"),
    ([SMALL_RECIPE, "--data=coco:missing"],
     "image missing/0000.jpg: is missing; tried '0000.jpg' in missing, and its name below missing. Put it there, or "
     "give the folder of the images (coco:FILE#images=FOLDER) (29 of 29 images opened cannot be read; run "
     "posecascade-data check)"),
    ([SMALL_RECIPE, "--set=model.init_from=text.keras"],
     "text.keras: is not a .keras file, or is truncated or damaged (File is not a zip file); copy or download it "
     "again"),
    ([SMALL_RECIPE, "--model_dir=small.yaml/run"],
     "--model_dir=small.yaml/run: cannot be written (Not a directory); free disk space or choose another folder")],
    ids=str)
def test_bad_input_is_one_line_and_nothing_is_written(run, arguments, problem, tmp_path):
    damaged(tmp_path)
    code, errors = run(*arguments)
    assert (code, len(errors)) == (BAD_INPUT, 1)
    assert errors[0].startswith(f"posecascade-train: error: {problem}")
    assert problem.endswith(("(", "give ")) or errors[0] == f"posecascade-train: error: {problem}"
    assert not (tmp_path / "run").exists()


def test_diverging_run_is_reported_and_keeps_the_last_good_checkpoint(run, tmp_path):
    assert run("--recipe=small.yaml", "--set=training.epochs=1") == (DONE, [])
    before = {name: (tmp_path / "run" / name).read_bytes() for name in ("best.keras", "last.keras", "state.npz")}
    diverging = ["--recipe=small.yaml", "--set=optimizer.name=sgd", "--set=optimizer.learning_rate=1e30",
                 "--set=optimizer.clip_norm=0", "--set=training.checkpoint_every_steps=1", "--model_dir=diverging"]
    code, [error] = run(*diverging, step=None)
    assert code == BAD_INPUT
    assert re.fullmatch(r"posecascade-train: error: step [12]: the loss or a weight is NaN or infinite \(loss .*\); "
                        r"likely cause: optimizer.learning_rate 1e\+30 is high for sgd; try 0.1; "
                        r"(diverging/state.npz holds the last good step|nothing had been saved yet)", error), error
    code, [error] = run(*diverging[:-1])  # in the folder of the other run
    assert code == BAD_INPUT and error.startswith("posecascade-train: error: run: holds a run that differs (optimizer.")
    assert before == {name: (tmp_path / "run" / name).read_bytes() for name in before}


def test_empty_box_is_replaced_by_the_box_around_the_keypoints(run, tmp_path):
    write_people(tmp_path / "data", 20, bbox=[3, 3, 0, 0])
    assert run("--recipe=small.yaml", "--data=coco:data", "--set=data.schema=coco17") == (DONE, [])


def test_interrupted_run_is_reported_and_can_be_resumed(run, tmp_path):
    count = iter(range(100))

    def step(*_):
        if next(count) == 5:
            raise KeyboardInterrupt
        return {"loss": 1.0}

    assert run("--recipe=small.yaml", step=step) == (INTERRUPTED, ["posecascade-train: interrupted"])
    assert checkpoints.read_header(tmp_path / "run")[0].step == 4
    assert run("--recipe=small.yaml") == (DONE, [])
    assert checkpoints.read_header(tmp_path / "run")[0].step == 8
