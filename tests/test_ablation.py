"""benchmarks/ablation.py: objects cover what they should, figures tell right from wrong, variants differ in a knob."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from posecascade.datasets.synthetic import record_of
from posecascade.evaluation import evaluate
from posecascade.poses import Pose
from posecascade.records import Visibility, checked_conversion
from posecascade.schema import LSP14

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def ablation():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("ablation")
        for name in ("ablation", "ablation_plots", "hidden_people"):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def people():
    return checked_conversion([record_of(5, number) for number in range(6)], LSP14)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_the_object_covers_its_share_and_hides_the_joints_under_it(ablation, people, share):
    done = 0
    for number, record in enumerate(people):
        found = ablation.hidden(record, share, 1, number)
        if found is None:
            continue
        done += 1
        changed = (found.image.read() != record.image.read()).any(-1)
        box = record.box
        inner = changed[max(round(box.y), 0):round(box.y + box.h) + 1, max(round(box.x), 0):round(box.x + box.w) + 1]
        assert inner.mean() == pytest.approx(share, abs=0.06)  # a few painted pixels have the color that was there
        under = found.visibility == Visibility.OCCLUDED
        cells = np.rint(record.keypoints[under]).astype(int)
        assert changed[cells[:, 1], cells[:, 0]].mean() > 0.9 if under.any() else True
        assert found.occlusion_known and not under.any() if share == 0 else True
        np.testing.assert_array_equal(found.keypoints, record.keypoints)
        again = ablation.hidden(record, share, 1, number)
        np.testing.assert_array_equal(again.image.read(), found.image.read())
    assert done >= len(people) - 1


def test_the_sets_of_all_sizes_hold_the_same_people(ablation, people):
    sets = ablation.occluded_sets(people, (0.0, 0.3))
    assert list(sets) == ["0", "30"]
    assert [r.origin for r in sets["0"]] == [r.origin for r in sets["30"]] and sets["0"]
    whole = [ablation.hidden(record, 0.3, 1, number) for number, record in enumerate(people)]
    for lazy, other in zip(sets["30"], [found for found in whole if found], strict=True):  # pictures are not kept
        np.testing.assert_array_equal(lazy.image.read(), other.image.read())
        np.testing.assert_array_equal(lazy.visibility, other.visibility)


def test_who_misses_covered_joints_alone_has_100_and_0(ablation, people):
    records = ablation.occluded_sets(people, (0.0, 0.3))["30"]
    waiting = iter(records)

    def predict(images, boxes):
        poses = []
        for box in boxes:
            record = next(waiting)
            seen = record.visibility == Visibility.VISIBLE
            joints = np.where(seen[:, None], record.keypoints, -1e4)
            poses.append(Pose(joints, seen * 0.9, seen * 0.8, LSP14, box, {"heatmaps": joints}))
        return poses

    found = ablation.measured(predict, records)
    rows = found["stages"]["heatmaps"]
    assert rows["visible"][0] == 100 and rows["occluded"][0] == 0 and rows["occluded"][3] > 0
    assert found["auc_visibility"] == 1 and found["auc_scores"] == 1
    assert found["calibration"]["ece"] == pytest.approx(0.1 * rows["visible"][3] / rows["total"][3], abs=1e-4)


def test_calibration_of_known_scores(ablation):
    right = np.arange(1000) % 4 > 0  # three of four
    mixed = np.where(np.arange(1000) < 400, 0.95, 0.55)  # 300 of 400 and 450 of 600 are right: 0.4 x 0.2 + 0.6 x 0.2
    assert ablation.calibration(mixed, right)["ece"] == pytest.approx(0.2)
    assert ablation.calibration(np.full(1000, 0.75), right)["ece"] == pytest.approx(0)
    assert ablation.calibration(np.full(1000, 1.0), right) == {"ece": pytest.approx(0.25), "bins": [[1.0, 0.75, 1000]]}


def test_each_variant_changes_its_own_knob(ablation):
    commands = {variant: ablation.command(variant, "2", "lspet:DIR", Path("out"), ["training.epochs=1"])
                for variant in ablation.VARIANTS}
    for variant, words in commands.items():
        assert words[0] == "posecascade-train" and words[-1] == "--model_dir=out" and "--set=training.seed=2" in words
        assert [word for word in words if word not in commands["cascade"]] == [f"--set={item}" for item in
                                                                              ablation.VARIANTS[variant]]
    assert len({tuple(words) for words in commands.values()}) == len(commands)


def test_the_table_has_a_row_per_variant_and_the_range_of_its_seeds(ablation, people):
    def predict(images, boxes):
        return [Pose(np.zeros((14, 2)), np.ones(14), np.linspace(0, 1, 14), LSP14, box, {"heatmaps": np.zeros((14, 2))})
                for box in boxes]

    run = {"real": ablation.measured(predict, people), "synthetic": ablation.measured(predict, people),
           "occluded": {}}
    other = {**run, "real": {**run["real"], "calibration": {"ece": 0.5, "bins": []}}}
    lines = ablation.table({"cascade": {"0": run, "1": other}, "detector": {"0": run}}).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| cascade | 2 |") and lines[3].startswith("| detector | 1 |")
    assert lines[2].endswith("(0.50-1.00) |")
    assert {line.count("|") for line in lines} == {11 + 1}


def test_joints_of_both_sides_are_one_column_and_weigh_by_their_number(ablation):
    def run(knees, total):
        rows = {name: [50.0, 0, 0, 10] for name in LSP14.keypoints} | {"total": [total, 0, 0, 140]}
        rows |= {f"{side}_knee": list(knee) for side, knee in zip(("left", "right"), knees, strict=True)}
        return {"real": {"stages": {"heatmaps": rows}}}

    runs = {"0": run(((90.0, 0, 0, 30), (10.0, 0, 0, 10)), 52.0), "1": run(((60.0, 0, 0, 1), (60.0, 0, 0, 3)), 54.0)}
    head, _, line = ablation.joints_table({"detector": {}, "cascade": runs}).splitlines()
    found = dict(zip(*([cell.strip() for cell in row.split("|")[1:-1]] for row in (head, line)), strict=True))
    assert found == {"variant": "cascade", "knee": "65.0", "total": "53.0"} | dict.fromkeys(
        ("head_top", "neck", "shoulder", "elbow", "wrist", "hip", "ankle"), "50.0")


def test_evaluation_is_the_package_s_own(ablation, people):
    """The figures of `measured` are those of the evaluate command."""
    def predict(images, boxes):
        joints = np.tile([[40.0, 60.0]], (14, 1))
        return [Pose(joints, np.ones(14), np.linspace(0, 1, 14), LSP14, box, {"heatmaps": joints}) for box in boxes]

    report = evaluate.evaluate(predict, people, metric="pck")
    assert ablation.measured(predict, people)["stages"]["heatmaps"]["total"][0] == round(report.total, 2)


def _run(covered, ece=0.1):
    rows = {"total": [80.0, 70.0, 90.0, 9], "visible": [90.0, 80.0, 95.0, 6], "occluded": [covered, 0.0, 60.0, 3]}
    people = {"stages": {"parts": {**rows, "total": [1.0, 0.0, 2.0, 9]}, "heatmaps": rows}, "auc_visibility": 0.7,
              "calibration": {"ece": ece, "bins": [[0.25, 0.1, 10], [0.85, 0.6, 30]]}}
    nobody = {"stages": {"heatmaps": {**rows, "occluded": [None, None, None, 0]}}, "auc_visibility": None}
    return {"real": people, "synthetic": people, "occluded": {"0": nobody, "30": people}}


def test_seeds_are_averaged_and_what_does_not_exist_is_left_out(ablation):
    runs = {"0": _run(40.0), "1": _run(50.0)}
    found = ablation.over_seeds({"cascade": runs, "detector": {}})
    assert list(found) == ["cascade"]
    assert found["cascade"]["covered, 30 %"] == [45.0, 40.0, 50.0] and found["cascade"]["real"] == [80.0] * 3
    plots = sys.modules["ablation_plots"]
    assert plots.curve(runs, "occluded").tolist() == [[30, 45.0, 0.0, 60.0]]
    assert plots.curve(runs, "total")[:, 0].tolist() == [0, 30]
    assert plots.reliability(runs, "real", "calibration").tolist() == [[0.25, 0.1, 20], [0.85, 0.6, 60]]
    assert plots.reliability(runs, "real", "calibration_parts").shape == (0, 3)


def test_figures_are_read_back_unless_measured_on_others(ablation, tmp_path):
    results = {"detector": {"0": _run(30.0)}, "cascade": {"0": _run(40.0)}}
    ablation.write(tmp_path / "ablation.json", {"real_people": 9}, results)
    assert ablation.written(tmp_path / "ablation.json", {"real_people": 9}) == results
    assert ablation.written(tmp_path / "ablation.json", {"real_people": 8}) == {}
    assert "[80.0, 70.0, 90.0, 9]" in (tmp_path / "ablation.json").read_text()
    again = ablation.written(tmp_path / "ablation.json", {"real_people": 9})
    assert ablation.table(again) == ablation.table(results)  # sorted keys change no stage


def test_the_plots_are_small(ablation, tmp_path):
    sys.modules["ablation_plots"].draw({variant: {"0": _run(40.0)} for variant in ablation.VARIANTS}, tmp_path)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) == 2 and max(sizes) <= 60_000
