"""Times of exported files: a fair order of rounds, correct intervals, temperature and clock."""

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

# A delegate that supports no operator: LiteRT loads it, calls it, and runs everything itself.
IDLE_DELEGATE = """
#include <cstdint>
#include <cstdio>
struct Delegate {
  void* data; int (*prepare)(void*, Delegate*); void *from, *to, *release; int64_t flags; void* builder;
};
static int prepare(void*, Delegate*) { std::fputs("called\\n", stderr); return 0; }
static Delegate idle = {nullptr, prepare, nullptr, nullptr, nullptr, 0, nullptr};
typedef const char* const* Words;
extern "C" Delegate* tflite_plugin_create_delegate(Words, Words, size_t, void (*)(const char*)) { return &idle; }
extern "C" void tflite_plugin_destroy_delegate(Delegate*) {}
"""


@pytest.fixture
def timed(monkeypatch):
    """Return a function that replaces the timing process by a function of cell and call number, and lists the cells."""
    timed_cells = []

    def install(milliseconds):
        def stand_in(cell, calls):
            timed_cells.append(cell)
            value = milliseconds(cell, len(timed_cells) - 1)
            return value if isinstance(value, str) else {
                "times_ms": [value] * calls, "load_ms": 10 * value, "agrees": 1.0, "whole": None,
                "celsius": 40.0 + len(timed_cells), "megahertz": 1000.0 - len(timed_cells)}

        monkeypatch.setattr(benchmark, "timed", stand_in)
        return timed_cells

    return install


def some(count, tmp_path, delegate="cpu"):
    return [Cell(tmp_path / f"{number}.tflite", delegate, 1) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_cell_is_timed_once_per_round_in_a_balanced_order(timed, tmp_path, count):
    """If each call is slower than the previous one, all means agree when rounds are a multiple of cells."""
    timed_cells = timed(lambda cell, number: 10.0 + number % count)
    cells = some(count, tmp_path)
    report = benchmark.measure(cells, rounds=2 * count, calls=3)
    rounds = [timed_cells[i:i + count] for i in range(0, len(timed_cells), count)]
    assert len(rounds) == 2 * count and all(sorted(one, key=str) == cells for one in rounds)
    assert [row.cell for row in report.rows] == cells
    np.testing.assert_allclose([np.mean(row.rounds) for row in report.rows], 10 + (count - 1) / 2)


def test_row_holds_medians_of_rounds_and_the_fastest_call(timed, tmp_path):
    timed(lambda cell, number: 1.0 + number)
    report = benchmark.measure(some(1, tmp_path), rounds=6, calls=2)
    [row] = report.rows
    assert (row.rounds, row.median, row.fastest, row.load) == ((1, 2, 3, 4, 5, 6), 3.5, 1, 35)
    assert row.interval == (1, 6) and report.drift == 5
    assert report.heat == tuple(Heat(41.0 + number, 999.0 - number) for number in range(6))


@pytest.mark.parametrize("slower", [0.0, 0.18])
def test_drift_is_the_slowdown_of_the_last_round(timed, tmp_path, slower):
    rounds = 4
    timed(lambda cell, number: (5.0 + int(cell.file.stem)) * (1 + slower * (number // 3) / (rounds - 1)))
    assert benchmark.measure(some(3, tmp_path), rounds=rounds, calls=1).drift == pytest.approx(slower)


def test_machine_cools_down_between_rounds(timed, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(benchmark.time, "sleep", pauses.append)
    timed(lambda cell, number: 1.0)
    benchmark.measure(some(2, tmp_path), rounds=3, calls=1, cooldown_s=1.5)
    assert pauses == [1.5, 1.5]


def test_cells_that_cannot_run_are_skipped(timed, tmp_path):
    timed_cells = timed(lambda cell, number: "no GPU" if cell.delegate == "gpu" else 2.0)
    cells = some(2, tmp_path) + some(2, tmp_path, "gpu")
    report = benchmark.measure(cells, rounds=3, calls=1)
    assert [row.cell for row in report.rows] == cells[:2]
    assert report.skipped == {("gpu", "no GPU"): [cell.file for cell in cells[2:]]}
    assert len(timed_cells) == 4 + 2 + 2  # skipped cells are not tried again
    with pytest.raises(InputError, match=r"^delegate gpu cannot run here \(no GPU\); choose another --delegates$"):
        benchmark.measure(cells[2:], rounds=3, calls=1)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40, unique=True))
def test_interval_is_the_smallest_with_95_percent_confidence(values):
    """Compare with SciPy's binomial distribution."""
    ordered, count = sorted(values), len(values)
    cuts = [cut for cut in range(count // 2) if 2 * binom.cdf(cut, count, 0.5) <= 0.05]
    expected = (ordered[cuts[-1]], ordered[-1 - cuts[-1]]) if cuts else None
    assert benchmark.median_interval(values) == expected
    assert (expected is None) == (count < 6)


def test_cells_are_all_combinations_with_one_number_of_threads_on_a_gpu(tmp_path):
    cells = benchmark.cells([tmp_path / "a", tmp_path / "b"], [1, 4], ["cpu", "gpu"])
    assert [(cell.file.name, cell.delegate, cell.threads) for cell in cells] == [
        ("a", "cpu", 1), ("a", "cpu", 4), ("a", "gpu", 4), ("b", "cpu", 1), ("b", "cpu", 4), ("b", "gpu", 4)]


# --- artifacts ------------------------------------------------------------------------------------------------------


def test_files_of_files_folders_and_exports(exported, tmp_path):
    all_files = sorted((exported.version / "tflite").glob("*_*.tflite"))  # without the decoder, which takes no image
    assert len(all_files) == 2 * len(PRECISIONS)
    for path in (exported.output, exported.version, exported.version / "tflite"):
        assert benchmark.files_of(path) == all_files
    assert benchmark.files_of(all_files[0]) == all_files[:1]
    (tmp_path / "copy").mkdir()
    shutil.copy(all_files[0], tmp_path / "copy" / "mine.tflite")
    assert benchmark.files_of(tmp_path / "copy") == [tmp_path / "copy" / "mine.tflite"]
    (tmp_path / "copy" / "cut.tflite").write_bytes(all_files[0].read_bytes()[:-3])
    with pytest.raises(InputError, match=r"cut\.tflite: is truncated or damaged"):
        benchmark.files_of(tmp_path / "copy")
    for path in (exported.run, exported.run / "best.keras", tmp_path / "nothing"):
        with pytest.raises(InputError, match=r": is neither a \.tflite file nor a folder of them; give what "):
            benchmark.files_of(path)


# --- delegates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delegate", ["cpu", "no_xnnpack", "compiled"])
@pytest.mark.parametrize("kind", ["heatmaps", "keypoints"])
def test_delegate_agrees_with_the_predictors_interpreter(exported, rng, delegate, kind):
    path = exported.tflite(kind, "float32")
    crop = rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    expected = runtime.tflite(tflite_file.read(path).model)(crop)
    model = delegates.opened(path, delegate, 2)
    assert model.shape == crop.shape and model.dtype == (np.float32 if kind == "heatmaps" else np.uint8)
    outputs = model.call(crop.astype(model.dtype))
    assert outputs.keys() == expected.keys()
    for name in outputs:
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-3)
    assert (model.whole is None) == (delegate != "compiled")


def test_delegate_uses_the_crop_of_each_call(exported, rng):
    model = delegates.opened(exported.tflite("keypoints", "int8"), "compiled", 1)
    one, two = rng.integers(0, 256, (2, *model.shape), np.uint8)
    first = {name: value.copy() for name, value in model.call(one).items()}
    assert any(np.abs(model.call(two)[name] - first[name]).max() > 0 for name in first)
    assert all((model.call(one)[name] == first[name]).all() for name in first)


def test_external_delegate_is_loaded_and_called(exported, tmp_path):
    if not (compiler := shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler, g++ or clang++")
    (tmp_path / "idle.cpp").write_text(IDLE_DELEGATE)
    library = tmp_path / "libidle.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "idle.cpp"], check=True)
    path = exported.tflite("keypoints", "float32")
    command = [benchmark.sys.executable, "-m", delegates.__name__, path, library, "1", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "called\n" in done.stderr
    assert json.loads(done.stdout)["agrees"] > 0.99


def test_failed_process_reports_why(exported, tmp_path):
    path, library = exported.tflite("keypoints", "int8"), tmp_path / "none.so"
    reason = benchmark.timed(Cell(path, str(library), 1), 1)
    assert isinstance(reason, str) and str(library) in reason and "\n" not in reason
    (tmp_path / "crashes.tflite").write_bytes(b"not a model")
    assert isinstance(benchmark.timed(Cell(tmp_path / "crashes.tflite", "cpu", 1), 1), str)


@pytest.mark.parametrize(("code", "errors", "expected"), [
    (delegates.UNAVAILABLE, "INFO: x\nERROR: [webgpu.cc:359] No adapters found\nmore", "No adapters found"),
    (delegates.UNAVAILABLE, "INFO: x", "what LiteRT raised"),
    (-11, "INFO: x\nlast words", "its process ended with -11: last words"),
    (1, "", "its process ended with 1: no message")])
def test_reason_is_the_runtimes_log_line(monkeypatch, tmp_path, code, errors, expected):
    output = json.dumps({"unavailable": "what LiteRT raised"}) if code == delegates.UNAVAILABLE else ""
    monkeypatch.setattr(benchmark.subprocess, "run",
                        lambda command, **_: subprocess.CompletedProcess(command, code, output, errors))
    assert benchmark.timed(Cell(tmp_path, "gpu", 1), 1) == expected


def test_agreement_separates_correct_and_broken_delegates(rng):
    maps = rng.uniform(0, 1, (1, 16, 16, 14)).astype(np.float32)
    assert delegates.agreement(maps, maps) == pytest.approx(1)
    assert delegates.agreement(maps + rng.normal(0, 0.05, maps.shape), maps) > 0.95
    assert abs(delegates.agreement(rng.uniform(0, 1, maps.shape), maps)) < 0.1
    assert delegates.agreement(np.zeros_like(maps), maps) == delegates.agreement(np.full_like(maps, np.nan), maps) == 0
    one = np.float32([[0.7]])  # of one keypoint
    assert (delegates.agreement(one + 0.01, one), delegates.agreement(one - 0.6, one)) == (1, 0)


# --- times and heat -------------------------------------------------------------------------------------------------


def test_warm_up_calls_are_not_counted(monkeypatch):
    clock = iter(np.cumsum([0.0, *[9.0, 0] * stopwatch.WARM, *[0.002, 0] * 3]).tolist())
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    called = []
    assert stopwatch.times_ms(lambda: called.append(1), 3) == pytest.approx([2, 2, 2])
    assert len(called) == stopwatch.WARM + 3


def put(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_hottest_sensor_and_fastest_core_are_read(tmp_path):
    assert thermals.read(tmp_path) == Heat(None, None)
    for number, text in enumerate(["48312\n", "61000\n", "-274000\n", "not a number", "200000\n"]):
        put(tmp_path, f"class/thermal/thermal_zone{number}/temp", text)
    for number, text in enumerate(["600000\n", "1800000\n"]):
        put(tmp_path, f"devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq", text)
    (tmp_path / "class/thermal/thermal_zone9/temp").mkdir(parents=True)  # cannot be read
    assert thermals.read(tmp_path) == Heat(61.0, 1800.0)


def test_name_of_board_or_processor_is_read(tmp_path):
    assert thermals.device(tmp_path)["name"]
    put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name\t: A Processor 9000\nmodel name : no\n")
    assert thermals.device(tmp_path)["name"] == "A Processor 9000"
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    device = thermals.device(tmp_path)
    assert device["name"] == "Raspberry Pi 5 Model B Rev 1.0" and device["cores"] >= 1
