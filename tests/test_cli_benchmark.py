"""posecascade-benchmark: the table and the JSON file, also if only LiteRT is installed; errors in one line."""

import json
import re
import shutil

import pytest
from exported import SCRIPTS, ended
from small_runs import finished

from posecascade.benchmark import benchmark
from posecascade.benchmark.thermals import Heat
from posecascade.cli import benchmark as command

BAD_INPUT, DONE = 2, 0
NUMBER = r"\d+\.\d\d"
BLOCKED = ("tensorflow", "keras", "cv2", "scipy", "h5py", "matplotlib", "tensorboard")  # not needed


def test_installed_command_prints_a_table_and_writes_a_file(exported, tmp_path):
    """The processes have no TensorFlow, and one library is not a delegate."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED}))\n")
    (tmp_path / "libbroken.so").write_text("not a library")
    files = [exported.tflite("keypoints", "int8"), exported.tflite("heatmaps", "float16")]
    done = finished([SCRIPTS / "posecascade-benchmark", *files, "--threads=1", "--num_rounds=2", "--num_runs=3",
                     f"--delegates=cpu,no_xnnpack,{tmp_path / 'libbroken.so'}", f"--json={tmp_path / 'times.json'}"],
                    PYTHONPATH=str(tmp_path))
    assert done.returncode == DONE
    [error] = done.stderr.splitlines()
    assert re.fullmatch(rf"posecascade-benchmark: delegate {re.escape(str(tmp_path / 'libbroken.so'))}: skipped for 2 "
                        r"of 2 files \(.+\)", error)
    machine, head, *lines = done.stdout.splitlines()
    assert re.search(r", \d+ cores, ", machine)
    assert head.split() == ["artifact", "delegate", "threads", "median", "ms", "95", "%", "fastest", "load", "agrees"]
    for line, (file, delegate) in zip(lines[:4], [(f, d) for f in files for d in ("cpu", "no_xnnpack")], strict=True):
        assert re.fullmatch(rf"{file.name} +{delegate} +1 +{NUMBER} +- +{NUMBER} +\d+ +{NUMBER}", line), line
    content = json.loads((tmp_path / "times.json").read_text())
    assert list(content) == ["device", "settings", "rows", "heat", "drift", "skipped"]
    assert content["settings"] == {"num_rounds": 2, "num_runs": 3, "cooldown_s": 0.0} and len(content["heat"]) == 2
    assert [(row["file"], row["delegate"]) for row in content["rows"]] == [
        (str(file), delegate) for file in files for delegate in ("cpu", "no_xnnpack")]
    assert all(len(row["rounds_ms"]) == 2 and 0 < row["fastest_ms"] <= row["median_ms"] and row["interval_ms"] is None
               and row["load_ms"] > 0 and row["agrees"] > 0.8 for row in content["rows"])
    assert content["rows"][1]["agrees"] == pytest.approx(1)  # with itself
    assert content["skipped"][0]["files"] == list(map(str, files))


@pytest.fixture
def stand_in(monkeypatch):
    """Return a function that replaces timing by given milliseconds, agreement and heat, by the number of the call."""
    def install(milliseconds=lambda number: 2.0, agrees=1.0, whole=None, heat=lambda number: Heat(None, None)):
        calls = iter(range(1000))

        def timed(cell, count):
            number = next(calls)
            return {"times_ms": [milliseconds(number)] * count, "load_ms": 30.0, "agrees": agrees, "whole": whole,
                    **heat(number)._asdict()}

        monkeypatch.setattr(benchmark, "timed", timed)

    return install


def test_throttling_is_reported_with_temperature_and_clock(exported, stand_in):
    path = exported.tflite("keypoints", "int8")
    stand_in(lambda number: 2.0 + 0.072 * number, heat=lambda number: Heat(48.0 + 2 * number, 1800.0 - 60 * number))
    code, lines, errors = ended(command, path, "--threads=2")
    assert (code, errors) == (DONE, [])
    assert lines[2].split() == ["keypoints_int8.tflite", "cpu", "2", "2.18", "2.00-2.36", "2.00", "30", "1.00"]
    assert lines[3:] == [
        "hottest sensor, first and last round: 48 and 58 °C", "clock rate, first and last round: 1800 and 1500 MHz",
        "the last round was 18 % slower than the first: the machine throttles, or other processes run on it; cool it, "
        "or wait between rounds with --cooldown_s=SECONDS"]
    stand_in()
    assert len(ended(command, path, "--threads=2")[1]) == 3  # steady times are not remarked


def test_broken_or_partial_delegate_is_reported(exported, stand_in):
    stand_in(agrees=0.03, whole=False)
    _, lines, _ = ended(command, exported.tflite("keypoints", "int8"), "--threads=1", "--delegates=gpu")
    assert lines[2].split()[1] == "gpu*"
    assert lines[3:] == ["* this delegate runs only a part of the graph; the rest runs on the CPU",
                         "keypoints_int8.tflite: the outputs on gpu correlate with the CPU's by only 0.03; do not use "
                         "this delegate"]


def test_files_of_one_name_are_shown_with_paths_and_timed_once(exported, stand_in, tmp_path):
    stand_in()
    path, other = exported.tflite("keypoints", "int8"), tmp_path / "keypoints_int8.tflite"
    shutil.copy(path, other)
    _, lines, _ = ended(command, exported.output, path, other, "--threads=1", "--num_rounds=1")
    names = [line.split()[0] for line in lines[2:]]
    assert len(names) == 9 and names.count(str(path)) == names.count(str(other)) == 1
    _, lines, _ = ended(command, path, path, "--threads=1", "--num_rounds=1")
    assert [line.split()[0] for line in lines[2:]] == ["keypoints_int8.tflite"]


def test_default_threads_depend_on_the_cores(exported, stand_in, monkeypatch):
    stand_in()
    monkeypatch.setattr(command.os, "cpu_count", lambda: 3)
    _, lines, _ = ended(command, exported.tflite("keypoints", "int8"))
    assert [line.split()[2] for line in lines[2:]] == ["1", "2"]
    _, lines, _ = ended(command, exported.tflite("keypoints", "int8"), "--threads=8,8,1")
    assert [line.split()[2] for line in lines[2:]] == ["8", "1"]


@pytest.mark.parametrize(("words", "problem"), [
    ([], "no ARTIFACT given; expected .tflite files, folders of them, or exports"),
    (["none.tflite"], "none.tflite: no such model file; give the path of a .tflite file"),
    (["lite"], "lite: is neither a .tflite file nor a folder of them; give what posecascade-export wrote (to export a "
               "model: posecascade-export --model=MODEL --output=DIR)"),
    (["x.tflite", "--threads=1,zwei"], "--threads=1,zwei: expected positive integers, such as --threads=1,2,4"),
    (["x.tflite", "--threads=0"], "--threads=0: expected positive integers, such as --threads=1,2,4"),
    (["x.tflite", "--threads="], "--threads=: expected positive integers, such as --threads=1,2,4"),
    (["x.tflite", "--delegates=gpus"],
     "--delegates: 'gpus' is neither a delegate nor a file; did you mean 'gpu'?"),
    (["x.tflite", "--delegates="],
     "--delegates: is empty; choose from compiled, cpu, gpu, no_xnnpack"),
    (["x.tflite", "--num_rounds=0"], "flag --num_rounds=0: 0 is not a positive integer")], ids=str)
def test_bad_input_is_reported_in_one_line(words, problem):
    code, lines, errors = ended(command, *words)
    assert (code, lines, len(errors)) == (BAD_INPUT, [], 1)
    assert errors[0].startswith("posecascade-benchmark: error: ") and problem in errors[0]
