"""Times of exported files: fair to all that are compared, with an interval that holds, and honest about heat."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from exported import PRECISIONS, SIZE
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from posecascade.benchmark import benchmark, delegates, thermals
from posecascade.benchmark.benchmark import Cell
from posecascade.benchmark.thermals import Heat
from posecascade.errors import InputError
from posecascade.export import stopwatch
from posecascade.formats import runtime, tflite_file

# A delegate that takes no operator: LiteRT loads it, asks it, and runs everything itself.
IDLE_DELEGATE = """
#include <cstdint>
#include <cstdio>
struct Delegate {
  void* data; int (*prepare)(void*, Delegate*); void *from, *to, *release; int64_t flags; void* builder;
};
static int prepare(void*, Delegate*) { std::fputs("asked\\n", stderr); return 0; }
static Delegate idle = {nullptr, prepare, nullptr, nullptr, nullptr, 0, nullptr};
typedef const char* const* Words;
extern "C" Delegate* tflite_plugin_create_delegate(Words, Words, size_t, void (*)(const char*)) { return &idle; }
extern "C" void tflite_plugin_destroy_delegate(Delegate*) {}
"""


@pytest.fixture
def timed(monkeypatch):
    """Puts a function of cell and number of the call in the place of a process that times; gives the cells asked."""
    asked = []

    def install(milliseconds):
        def stand_in(cell, calls):
            asked.append(cell)
            value = milliseconds(cell, len(asked) - 1)
            return value if isinstance(value, str) else {
                "times_ms": [value] * calls, "load_ms": 10 * value, "agrees": 1.0, "whole": None,
                "celsius": 40.0 + len(asked), "megahertz": 1000.0 - len(asked)}

        monkeypatch.setattr(benchmark, "timed", stand_in)
        return asked

    return install


def some(count, tmp_path, delegate="cpu"):
    return [Cell(tmp_path / f"{number}.tflite", delegate, 1) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_cell_is_timed_once_a_round_and_early_as_often_as_late(timed, tmp_path, count):
    """On a machine that slows down from call to call, all come out alike where rounds are a multiple of cells."""
    asked = timed(lambda cell, number: 10.0 + number % count)
    wanted = some(count, tmp_path)
    report = benchmark.measure(wanted, rounds=2 * count, calls=3)
    rounds = [asked[i:i + count] for i in range(0, len(asked), count)]
    assert len(rounds) == 2 * count and all(sorted(one, key=str) == wanted for one in rounds)
    assert [row.cell for row in report.rows] == wanted
    np.testing.assert_allclose([np.mean(row.rounds) for row in report.rows], 10 + (count - 1) / 2)


def test_a_row_holds_medians_of_rounds_the_fastest_call_and_the_heat(timed, tmp_path):
    timed(lambda cell, number: 1.0 + number)
    report = benchmark.measure(some(1, tmp_path), rounds=6, calls=2)
    [row] = report.rows
    assert (row.rounds, row.median, row.fastest, row.load) == ((1, 2, 3, 4, 5, 6), 3.5, 1, 35)
    assert row.interval == (1, 6) and report.drift == 5
    assert report.heat == tuple(Heat(41.0 + number, 999.0 - number) for number in range(6))


@pytest.mark.parametrize("slower", [0.0, 0.18])
def test_the_drift_is_how_much_slower_the_last_round_was(timed, tmp_path, slower):
    rounds = 4
    timed(lambda cell, number: (5.0 + int(cell.file.stem)) * (1 + slower * (number // 3) / (rounds - 1)))
    assert benchmark.measure(some(3, tmp_path), rounds=rounds, calls=1).drift == pytest.approx(slower)


def test_between_rounds_the_machine_rests(timed, tmp_path, monkeypatch):
    rests = []
    monkeypatch.setattr(benchmark.time, "sleep", rests.append)
    timed(lambda cell, number: 1.0)
    benchmark.measure(some(2, tmp_path), rounds=3, calls=1, rest=1.5)
    assert rests == [1.5, 1.5]


def test_what_cannot_run_is_passed_over_and_the_rest_is_timed(timed, tmp_path):
    asked = timed(lambda cell, number: "no GPU" if cell.delegate == "gpu" else 2.0)
    wanted = some(2, tmp_path) + some(2, tmp_path, "gpu")
    report = benchmark.measure(wanted, rounds=3, calls=1)
    assert [row.cell for row in report.rows] == wanted[:2]
    assert report.passed_over == {("gpu", "no GPU"): [cell.file for cell in wanted[2:]]}
    assert len(asked) == 4 + 2 + 2  # is not tried again
    with pytest.raises(InputError, match=r"^delegate gpu cannot run here \(no GPU\); choose another --delegates$"):
        benchmark.measure(wanted[2:], rounds=3, calls=1)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40, unique=True))
def test_the_interval_is_the_smallest_that_holds_the_median_with_95_percent(values):
    """By the binomial distribution of another hand."""
    ordered, count = sorted(values), len(values)
    cuts = [cut for cut in range(count // 2) if 2 * binom.cdf(cut, count, 0.5) <= 0.05]
    expected = (ordered[cuts[-1]], ordered[-1 - cuts[-1]]) if cuts else None
    assert benchmark.median_interval(values) == expected
    assert (expected is None) == (count < 6)


def test_cells_are_all_combinations_and_a_gpu_has_one_number_of_threads(tmp_path):
    found = benchmark.cells([tmp_path / "a", tmp_path / "b"], [1, 4], ["cpu", "gpu"])
    assert [(cell.file.name, cell.delegate, cell.threads) for cell in found] == [
        ("a", "cpu", 1), ("a", "cpu", 4), ("a", "gpu", 4), ("b", "cpu", 1), ("b", "cpu", 4), ("b", "gpu", 4)]


# --- artifacts ------------------------------------------------------------------------------------------------------


def test_files_folders_and_exports_give_their_files(exported, tmp_path):
    all_of_them = sorted((exported.version / "tflite").glob("*_*.tflite"))  # without the decoder, which takes no image
    assert len(all_of_them) == 2 * len(PRECISIONS)
    for path in (exported.output, exported.version, exported.version / "tflite"):
        assert benchmark.files_of(path) == all_of_them
    assert benchmark.files_of(all_of_them[0]) == all_of_them[:1]
    (tmp_path / "copy").mkdir()
    shutil.copy(all_of_them[0], tmp_path / "copy" / "mine.tflite")
    assert benchmark.files_of(tmp_path / "copy") == [tmp_path / "copy" / "mine.tflite"]
    (tmp_path / "copy" / "cut.tflite").write_bytes(all_of_them[0].read_bytes()[:-3])
    with pytest.raises(InputError, match=r"cut\.tflite: is truncated or damaged"):
        benchmark.files_of(tmp_path / "copy")
    for path in (exported.run, exported.run / "best.keras", tmp_path / "nothing"):
        with pytest.raises(InputError, match=r": is no \.tflite file, nor a folder that has some; give what "):
            benchmark.files_of(path)


# --- delegates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delegate", ["cpu", "no_xnnpack", "compiled"])
@pytest.mark.parametrize("kind", ["heatmaps", "keypoints"])
def test_a_delegate_gives_what_the_predictor_s_interpreter_gives(exported, rng, delegate, kind):
    path = exported.tflite(kind, "float32")
    crop = rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    expected = runtime.tflite(tflite_file.read(path).model)(crop)
    model = delegates.opened(path, delegate, 2)
    assert model.shape == crop.shape and model.dtype == (np.float32 if kind == "heatmaps" else np.uint8)
    found = model.call(crop.astype(model.dtype))
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-3)
    assert (model.whole is None) == (delegate != "compiled")


def test_a_delegate_takes_the_crop_of_each_call(exported, rng):
    model = delegates.opened(exported.tflite("keypoints", "int8"), "compiled", 1)
    one, two = rng.integers(0, 256, (2, *model.shape), np.uint8)
    first = {name: value.copy() for name, value in model.call(one).items()}
    assert any(np.abs(model.call(two)[name] - first[name]).max() > 0 for name in first)
    assert all((model.call(one)[name] == first[name]).all() for name in first)


def test_an_external_delegate_is_loaded_and_asked(exported, tmp_path):
    if not (compiler := shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler, g++ or clang++")
    (tmp_path / "idle.cpp").write_text(IDLE_DELEGATE)
    library = tmp_path / "libidle.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "idle.cpp"], check=True)
    path = exported.tflite("keypoints", "float32")
    command = [benchmark.sys.executable, "-m", delegates.__name__, path, library, "1", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "asked\n" in done.stderr
    assert json.loads(done.stdout)["agrees"] > 0.99


def test_a_process_that_fails_says_why(exported, tmp_path):
    path, library = exported.tflite("keypoints", "int8"), tmp_path / "none.so"
    said = benchmark.timed(Cell(path, str(library), 1), 1)
    assert isinstance(said, str) and str(library) in said and "\n" not in said
    (tmp_path / "crashes.tflite").write_bytes(b"no model")
    assert isinstance(benchmark.timed(Cell(tmp_path / "crashes.tflite", "cpu", 1), 1), str)


@pytest.mark.parametrize(("code", "errors", "expected"), [
    (delegates.UNAVAILABLE, "INFO: x\nERROR: [webgpu.cc:359] No adapters found\nmore", "No adapters found"),
    (delegates.UNAVAILABLE, "INFO: x", "what LiteRT raised"),
    (-11, "INFO: x\nlast words", "its process ended with -11: last words"),
    (1, "", "its process ended with 1: no message")])
def test_the_reason_is_what_the_runtime_logged(monkeypatch, tmp_path, code, errors, expected):
    told = json.dumps({"unavailable": "what LiteRT raised"}) if code == delegates.UNAVAILABLE else ""
    monkeypatch.setattr(benchmark.subprocess, "run",
                        lambda command, **_: subprocess.CompletedProcess(command, code, told, errors))
    assert benchmark.timed(Cell(tmp_path, "gpu", 1), 1) == expected


def test_agreement_tells_a_sound_delegate_from_a_broken_one(rng):
    maps = rng.uniform(0, 1, (1, 16, 16, 14)).astype(np.float32)
    assert delegates.agreement(maps, maps) == pytest.approx(1)
    assert delegates.agreement(maps + rng.normal(0, 0.05, maps.shape), maps) > 0.95
    assert abs(delegates.agreement(rng.uniform(0, 1, maps.shape), maps)) < 0.1
    assert delegates.agreement(np.zeros_like(maps), maps) == delegates.agreement(np.full_like(maps, np.nan), maps) == 0
    one = np.float32([[0.7]])  # of one joint
    assert (delegates.agreement(one + 0.01, one), delegates.agreement(one - 0.6, one)) == (1, 0)


# --- times and heat -------------------------------------------------------------------------------------------------


def test_the_first_calls_do_not_count(monkeypatch):
    clock = iter(np.cumsum([0.0, *[9.0, 0] * stopwatch.WARM, *[0.002, 0] * 3]).tolist())
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    called = []
    assert stopwatch.times_ms(lambda: called.append(1), 3) == pytest.approx([2, 2, 2])
    assert len(called) == stopwatch.WARM + 3


def put(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_hottest_sensor_and_the_fastest_core_are_told(tmp_path):
    assert thermals.read(tmp_path) == Heat(None, None)
    for number, text in enumerate(["48312\n", "61000\n", "-274000\n", "no number", "200000\n"]):
        put(tmp_path, f"class/thermal/thermal_zone{number}/temp", text)
    for number, text in enumerate(["600000\n", "1800000\n"]):
        put(tmp_path, f"devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq", text)
    (tmp_path / "class/thermal/thermal_zone9/temp").mkdir(parents=True)  # cannot be read
    assert thermals.read(tmp_path) == Heat(61.0, 1800.0)


def test_a_board_and_a_processor_have_their_names(tmp_path):
    assert thermals.device(tmp_path)["name"]
    put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name\t: A Processor 9000\nmodel name : no\n")
    assert thermals.device(tmp_path)["name"] == "A Processor 9000"
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    found = thermals.device(tmp_path)
    assert found["name"] == "Raspberry Pi 5 Model B Rev 1.0" and found["cores"] >= 1
