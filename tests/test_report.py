"""Reports: rows, stages, visibility, images as the unit of chance, tables, JSON, and the paired comparison."""

import json
import math

import numpy as np
import pytest

from posecascade.errors import InputError
from posecascade.evaluation import metrics
from posecascade.evaluation.report import MEASURES, Report, compare, comparison_table
from posecascade.records import Visibility
from posecascade.schema import LSP14, MPII16, Schema

PAIR = Schema("pair", ("left_knee", "nose"))
V, O, U = Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.UNLABELED  # noqa: E741


def report(*stages, codes, schema=PAIR, measure="pck", visibility=None, images=None, draws=50, **more):
    names = ("parts", "heatmaps")[-len(stages):]
    count = len(codes)
    return Report(MEASURES[measure], schema, dict(zip(names, map(np.array, stages), strict=True)), np.array(codes),
                  visibility, np.arange(count) if images is None else np.array(images), draws=draws, **more)


@pytest.fixture
def small():
    """Three people: parts right in 2 of 5 joints, heatmaps in 3 of 5; one joint unlabeled."""
    return report([[0.1, 0.3], [0.3, np.inf], [np.nan, 0.2]], [[0.1, 0.1], [0.3, np.inf], [np.nan, 0.2]],
                  codes=[[V, O], [V, O], [U, V]], visibility=np.array([[0.9, 0.1], [0.8, 0.9], [0.0, 0.4]]))


def test_rows_are_those_counted_by_hand(small):
    found = {name: (row["value"], row["count"]) for name, row in small.rows["heatmaps"].items()}
    assert found["total"] == (60, 5)
    assert found["limbs"] == (50, 2)
    assert found["visible"] == (pytest.approx(200 / 3), 3)
    assert found["occluded"] == (50, 2)
    assert found["@0.05"] == (0, 5) and found["@0.1"] == (40, 5) and found["@0.2"] == (60, 5)
    assert found["left_knee"] == (50, 2) and found["nose"] == (pytest.approx(200 / 3), 3)
    # A joint at 0.1 earns the area from 0.1 to 0.2 and half a step; one at 0.2 half a step; 20 steps in all.
    assert found["auc"] == (pytest.approx(100 * (2 * 10.5 + 0.5) / 20 / 5), 5)


def test_each_stage_has_its_own_figures_and_the_last_is_the_result(small):
    assert small.value("total", "parts") == pytest.approx(40)
    assert small.value("total") == small.total == pytest.approx(60)
    assert small.rows["parts"]["total"]["value"] == pytest.approx(40)


def test_visibility_is_judged_by_its_order_on_labeled_joints(small):
    """Visible joints have 0.9, 0.8, 0.4, occluded ones 0.1 and 0.9: 3.5 of 6 pairs in order, a tie counting half."""
    assert small.visibility_auc == pytest.approx(3.5 / 6)
    assert math.isnan(report([[0.1, 0.1]], codes=[[V, O]]).visibility_auc)


def test_pckh_shows_pelvis_and_thorax_but_leaves_them_out_of_the_mean():
    parts = np.full((1, 16), 0.5)
    parts[0, [MPII16.index("pelvis"), MPII16.index("thorax")]] = np.inf
    found = report(parts, codes=np.full((1, 16), V), schema=MPII16, measure="pckh")
    assert found.total == 100
    assert found.rows["heatmaps"]["total"]["count"] == 14
    assert found.value("pelvis") == 0 and found.value("visible") == 100
    assert found.value("@0.1") == 0


def test_people_of_one_picture_are_drawn_together():
    """Ten people in one picture leave no chance at all: every draw is that picture."""
    parts = [[0.1, 0.3]] * 5 + [[0.3, 0.3]] * 5
    together = report(parts, codes=[[V, V]] * 10, images=[0] * 10).rows["heatmaps"]["total"]
    assert together["low"] == together["high"] == together["value"] == 25
    apart = report(parts, codes=[[V, V]] * 10).rows["heatmaps"]["total"]
    assert apart["low"] < 25 < apart["high"]


def test_the_json_layout_is_this_one(small):
    """A promise to whoever reads the file: changing it is a decision."""
    content = json.loads(json.dumps(small.as_dict(), allow_nan=False))
    figures = ["total", "limbs", "auc", "at", "visibility", "joints", "curve"]
    assert list(content) == ["metric", "reference", "threshold", "people", "counted", "without_reference", "missing",
                             "skipped", "thresholds", *figures, "visibility_roc_auc", "stages", "oks", "bootstrap"]
    assert list(content["total"]) == ["value", "low", "high", "count"]
    assert list(content["at"]) == ["0.05", "0.1", "0.2"]
    assert list(content["visibility"]) == ["visible", "occluded"]
    assert list(content["joints"]) == ["left_knee", "nose"]
    assert list(content["stages"]) == ["parts", "heatmaps"]
    assert list(content["stages"]["parts"]) == figures
    assert content["stages"]["heatmaps"]["total"] == content["total"]
    assert len(content["curve"]) == len(content["thresholds"]) == 21
    assert content["curve"][20] == content["at"]["0.2"]["value"] == 60
    assert content["bootstrap"] == {"draws": 50, "seed": 0, "confidence": 95.0}


def test_what_does_not_exist_is_null_and_not_in_the_table():
    found = report([[0.1, np.nan]], codes=[[U, U]])
    content = found.as_dict()
    assert content["visibility"]["occluded"] == {"value": None, "low": None, "high": None, "count": 0}
    assert content["visibility_roc_auc"] is None and content["oks"] is None
    assert "occluded" not in found.table() and "nose" not in found.table()


def test_the_table_shows_the_result_beside_the_stages_before_it(small):
    lines = small.table().splitlines()
    assert lines[0] == "PCK@0.2 of the torso, 3 of 3 people"
    assert lines[1].split() == ["heatmaps", "95", "%", "joints", "parts"]
    name, value, ends, count, before = lines[2].replace("- ", "-").split()
    assert (name, value, count, before) == ("total", "60.00", "5", "40.00")
    low, high = map(float, ends.split("-"))
    assert low < 60 < high
    assert lines[-1] == "visibility tells visible from occluded joints: ROC AUC 0.583"


def test_the_table_tells_who_was_left_out():
    found = report([[0.1, 0.1], [np.nan, np.nan]], codes=[[V, V], [U, U]], without_reference=1, missing=2,
                   skipped=("a.jpg",), oks={"mean": 0.5, "AP": None})
    assert found.table().splitlines()[0] == (
        "PCK@0.2 of the torso, 1 of 2 people; 1 without a labeled torso left out; 2 not predicted (missed); "
        "1 unreadable pictures skipped")
    assert found.table().splitlines()[-1] == "OKS  mean 50.0"


def test_a_comparison_takes_the_joints_that_both_count(rng):
    one = rng.uniform(0, 0.4, (40, 14))
    other = one.copy()
    other[:, 0] = np.nan  # the second model lacks this joint
    other[:20, 1] = np.inf
    codes = np.full((40, 14), V)
    rows = compare(report(one, codes=codes, schema=LSP14), report(other, codes=codes, schema=LSP14))
    hits = one <= 0.2
    lost = hits[:20, 1].sum()
    assert rows["total"]["first"] == pytest.approx(100 * hits[:, 1:].mean())
    assert rows["total"]["difference"] == pytest.approx(100 * lost / (40 * 13))
    assert rows["right_ankle"]["difference"] is None
    assert rows["right_hip"]["difference"] == rows["right_hip"]["low"] == rows["right_hip"]["high"] == 0
    assert 0 < rows["right_knee"]["low"] <= rows["right_knee"]["difference"] <= rows["right_knee"]["high"]
    shown = comparison_table(rows, ("a", "b")).splitlines()
    assert shown[:2] == ["first: a", "second: b"]
    starred = {row.split()[0] for row in shown[3:] if row.endswith("*")}
    assert {"total", "limbs", "right_knee", "auc"} <= starred and "right_hip" not in starred
    assert "right_ankle" not in {row.split()[0] for row in shown[3:]}


def test_comparing_is_antisymmetric(rng):
    codes = np.full((30, 14), V)
    first, second = (report(rng.uniform(0, 0.4, (30, 14)), codes=codes, schema=LSP14) for _ in range(2))
    there, back = compare(first, second), compare(second, first)
    assert there["occluded"]["difference"] is None
    for name in there.keys() - {"occluded"}:
        assert there[name]["difference"] == pytest.approx(-back[name]["difference"])
        assert there[name]["low"] == pytest.approx(-back[name]["high"])


def test_other_people_or_measures_are_not_compared(small):
    with pytest.raises(InputError, match=r"cannot compare PCK of 3 people .pair. with PCK of 1 .pair.; evaluate both"):
        compare(small, report([[0.1, 0.1]], codes=[[V, V]]))


def test_the_same_seed_gives_the_same_intervals_another_one_others(rng):
    parts, codes = rng.uniform(0, 0.4, (50, 14)), np.full((50, 14), V)
    ends = [report(parts, codes=codes, schema=LSP14, seed=s).rows["heatmaps"]["auc"]["low"] for s in (0, 0, 1)]
    assert ends[0] == ends[1] != ends[2]


def test_a_curve_never_falls_and_ends_at_the_headline(rng):
    found = report(rng.uniform(0, 0.4, (20, 14)), codes=np.full((20, 14), V), schema=LSP14)
    curve = found.curve(found.result)
    assert curve == sorted(curve) and curve[-1] == found.total
    assert len(curve) == len(metrics.thresholds(0.2))
