"""benchmarks/ablation.py: pasted objects, figures of known predictions, variants, tables and plots."""

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
from posecascade.training.recipe import load_recipe

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
def test_pasted_object_covers_its_share_and_occludes_the_keypoints_below(ablation, people, share):
    covered_color, occluded, fitting = [], 0, 0
    for number, record in enumerate(people):
        person = ablation.hidden(record, share, 1, number)
        if person is None:
            continue
        fitting += 1
        changed = (person.image.read() != record.image.read()).any(-1)
        box = record.box
        inner = changed[max(round(box.y), 0):round(box.y + box.h) + 1, max(round(box.x), 0):round(box.x + box.w) + 1]
        assert inner.mean() == pytest.approx(share, abs=0.06)  # some painted pixels have the color of the image
        below = person.visibility == Visibility.OCCLUDED
        cells = np.rint(record.keypoints[below]).astype(int)
        covered_color.extend(changed[cells[:, 1], cells[:, 0]])
        occluded += below.sum()
        assert person.occlusion_known
        np.testing.assert_array_equal(person.keypoints, record.keypoints)
        again = ablation.hidden(record, share, 1, number)
        np.testing.assert_array_equal(again.image.read(), person.image.read())
    assert fitting >= len(people) - 1
    if share:
        assert occluded >= fitting * share and np.mean(covered_color) > 0.9
    else:
        assert occluded == 0


def test_sets_of_all_shares_have_the_same_people(ablation, people):
    sets = ablation.occluded_sets(people, (0.0, 0.3))
    assert list(sets) == ["0", "30"]
    assert [r.origin for r in sets["0"]] == [r.origin for r in sets["30"]] and sets["0"]
    with_objects = [ablation.hidden(record, 0.3, 1, number) for number, record in enumerate(people)]
    for lazy, other in zip(sets["30"], filter(None, with_objects), strict=True):
        assert isinstance(lazy.image, ablation.Pasted)  # holds no pixels
        np.testing.assert_array_equal(lazy.image.read(), other.image.read())
        np.testing.assert_array_equal(lazy.visibility, other.visibility)


def test_missing_only_covered_keypoints_gives_100_and_0(ablation, people):
    records = ablation.occluded_sets(people, (0.0, 0.3))["30"]
    waiting = iter(records)

    def predict(images, boxes):
        poses = []
        for box in boxes:
            record = next(waiting)
            seen = record.visibility == Visibility.VISIBLE
            keypoints = np.where(seen[:, None], record.keypoints, -1e4)
            poses.append(Pose(keypoints, seen * 0.9, seen * 0.8, LSP14, box, {"heatmaps": keypoints}))
        return poses

    figures = ablation.measured(predict, records)
    rows = figures["stages"]["heatmaps"]
    assert rows["visible"][0] == 100 and rows["occluded"][0] == 0 and rows["occluded"][3] > 0
    assert figures["auc_visibility"] == 1 and figures["auc_scores"] == 1
    assert figures["calibration"]["ece"] == pytest.approx(0.1 * rows["visible"][3] / rows["total"][3], abs=1e-4)


def test_calibration_of_known_scores(ablation):
    correct = np.arange(1000) % 4 > 0  # three of four
    mixed = np.where(np.arange(1000) < 400, 0.95, 0.55)  # 300 of 400 and 450 of 600 are correct: 0.4 x 0.2 + 0.6 x 0.2
    assert ablation.calibration(mixed, correct)["ece"] == pytest.approx(0.2)
    assert ablation.calibration(np.full(1000, 0.75), correct)["ece"] == pytest.approx(0)
    certain = ablation.calibration(np.full(1000, 1.0), correct)
    assert certain == {"ece": pytest.approx(0.25), "bins": [[1.0, 0.75, 1000]]}


def test_each_variant_differs_from_the_cascade_by_its_own_settings(ablation):
    commands = {variant: ablation.command(variant, "2", "lspet:DIR", Path("out"), ["training.epochs=1"])
                for variant in ablation.VARIANTS}
    for variant, line in commands.items():
        assert line[0] == "posecascade-train" and line[-1] == "--model_dir=out" and "--set=training.seed=2" in line
        assert [argument for argument in line if argument not in commands["cascade"]] == [
            f"--set={item}" for item in ablation.VARIANTS[variant]]
    assert len({tuple(line) for line in commands.values()}) == len(commands)


def test_settings_of_the_variants_are_accepted_by_the_recipe(ablation):
    plain = load_recipe("ablation", [])
    for variant, settings in ablation.VARIANTS.items():
        assert (load_recipe("ablation", settings) == plain) == (variant == "cascade")


def test_table_has_a_row_per_variant_with_the_range_over_its_seeds(ablation, people):
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


def test_left_and_right_are_one_column_weighted_by_their_counts(ablation):
    def run(knees, total):
        rows = {name: [50.0, 0, 0, 10] for name in LSP14.keypoints} | {"total": [total, 0, 0, 140]}
        rows |= {f"{side}_knee": list(knee) for side, knee in zip(("left", "right"), knees, strict=True)}
        return {"real": {"stages": {"heatmaps": rows}}}

    runs = {"0": run(((90.0, 0, 0, 30), (10.0, 0, 0, 10)), 52.0), "1": run(((60.0, 0, 0, 1), (60.0, 0, 0, 3)), 54.0)}
    head, _, line = ablation.keypoints_table({"detector": {}, "cascade": runs}).splitlines()
    cells = dict(zip(*([cell.strip() for cell in row.split("|")[1:-1]] for row in (head, line)), strict=True))
    assert cells == {"variant": "cascade", "knee": "65.0", "total": "53.0"} | dict.fromkeys(
        ("head_top", "neck", "shoulder", "elbow", "wrist", "hip", "ankle"), "50.0")


def test_figures_equal_those_of_the_package_s_evaluation(ablation, people):
    """Predict keypoints at half the distance of the threshold for some, and beyond it for others."""
    by_box = {record.box: record for record in people}

    def predict(images, boxes):
        poses = []
        for box in boxes:
            off = np.where(np.arange(14) % 3 == 0, 0.1, 0.4) * by_box[box].length("torso")
            keypoints = np.nan_to_num(by_box[box].keypoints) + np.column_stack([off, np.zeros(14)])
            poses.append(Pose(keypoints, np.ones(14), np.linspace(0, 1, 14), LSP14, box, {"heatmaps": keypoints}))
        return poses

    report = evaluate.evaluate(predict, people, metric="pck")
    rows = ablation.measured(predict, people)["stages"]["heatmaps"]
    assert 0 < report.total < 100 and rows["total"][0] == round(report.total, 2)
    assert {name: figures[0] for name, figures in rows.items()} == pytest.approx(
        {name: row["value"] for name, row in report.rows["heatmaps"].items()}, abs=0.005)


def _run(covered, ece=0.1):
    rows = {"total": [80.0, 70.0, 90.0, 9], "visible": [90.0, 80.0, 95.0, 6], "occluded": [covered, 0.0, 60.0, 3]}
    people = {"stages": {"parts": {**rows, "total": [1.0, 0.0, 2.0, 9]}, "heatmaps": rows}, "auc_visibility": 0.7,
              "calibration": {"ece": ece, "bins": [[0.25, 0.1, 10], [0.85, 0.6, 30]]}}
    nobody = {"stages": {"heatmaps": {**rows, "occluded": [None, None, None, 0]}}, "auc_visibility": None}
    return {"real": people, "synthetic": people, "occluded": {"0": nobody, "30": people}}


def test_seeds_are_averaged_and_missing_figures_excluded(ablation):
    runs = {"0": _run(40.0), "1": _run(50.0)}
    columns = ablation.over_seeds({"cascade": runs, "detector": {}})
    assert list(columns) == ["cascade"]
    assert columns["cascade"]["covered, 30 %"] == [45.0, 40.0, 50.0] and columns["cascade"]["real"] == [80.0] * 3
    plots = sys.modules["ablation_plots"]
    assert plots.curve(runs, "occluded").tolist() == [[30, 45.0, 0.0, 60.0]]
    assert plots.curve(runs, "total")[:, 0].tolist() == [0, 30]
    assert plots.reliability(runs, "real", "calibration").tolist() == [[0.25, 0.1, 20], [0.85, 0.6, 60]]
    assert plots.reliability(runs, "real", "calibration_parts").shape == (0, 3)


def test_figures_are_read_back_unless_measured_on_other_people(ablation, tmp_path):
    results = {"detector": {"0": _run(30.0)}, "cascade": {"0": _run(40.0)}}
    ablation.write(tmp_path / "ablation.json", {"real_people": 9}, results)
    assert ablation.written(tmp_path / "ablation.json", {"real_people": 9}) == results
    assert ablation.written(tmp_path / "ablation.json", {"real_people": 8}) == {}
    assert "[80.0, 70.0, 90.0, 9]" in (tmp_path / "ablation.json").read_text()
    again = ablation.written(tmp_path / "ablation.json", {"real_people": 9})
    assert ablation.table(again) == ablation.table(results)  # the order of stages survives sorted keys


def test_plots_are_small_and_differ_with_the_figures(ablation, tmp_path):
    draw = sys.modules["ablation_plots"].draw
    for folder, covered in (("one", 40.0), ("same", 40.0), ("other", 10.0)):
        (tmp_path / folder).mkdir()
        draw({variant: {"0": _run(covered)} for variant in ablation.VARIANTS}, tmp_path / folder)
    plots = {folder: {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
             for folder in ("one", "same", "other")}
    assert set(plots["one"]) == {"ablation_occlusion.png", "ablation_calibration.png"}
    assert max(map(len, plots["one"].values())) <= 60_000
    assert plots["one"] == plots["same"]
    assert plots["one"]["ablation_occlusion.png"] != plots["other"]["ablation_occlusion.png"]
    assert plots["one"]["ablation_calibration.png"] == plots["other"]["ablation_calibration.png"]
