"""Reports: rows, stages, visibility, resampling of images, tables, JSON, and the paired comparison."""

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
    """Three people with 5 labeled keypoints, of which parts hits 2 and heatmaps hits 3."""
    return report([[0.1, 0.3], [0.3, np.inf], [np.nan, 0.2]], [[0.1, 0.1], [0.3, np.inf], [np.nan, 0.2]],
                  codes=[[V, O], [V, O], [U, V]], visibility=np.array([[0.9, 0.1], [0.8, 0.9], [0.0, 0.4]]))


def test_rows_equal_figures_counted_by_hand(small):
    figures = {name: (row["value"], row["count"]) for name, row in small.rows["heatmaps"].items()}
    assert figures["total"] == (60, 5)
    assert figures["limbs"] == (50, 2)
    assert figures["visible"] == (pytest.approx(200 / 3), 3)
    assert figures["occluded"] == (50, 2)
    assert figures["@0.05"] == (0, 5) and figures["@0.1"] == (40, 5) and figures["@0.2"] == (60, 5)
    assert figures["left_knee"] == (50, 2) and figures["nose"] == (pytest.approx(200 / 3), 3)
    # A keypoint at 0.1 adds the area from 0.1 to 0.2 and half a step, one at 0.2 half a step, of 20 steps.
    assert figures["auc"] == (pytest.approx(100 * (2 * 10.5 + 0.5) / 20 / 5), 5)


def test_each_stage_has_figures_and_the_last_one_is_the_result(small):
    assert small.value("total", "parts") == pytest.approx(40)
    assert small.value("total") == small.total == pytest.approx(60)
    assert small.rows["parts"]["total"]["value"] == pytest.approx(40)


def test_visibility_auc_counts_ordered_pairs_of_labeled_keypoints(small):
    """Visible keypoints have 0.9, 0.8, 0.4, occluded ones 0.1 and 0.9: 3.5 of 6 pairs are ordered, ties count half."""
    assert small.visibility_auc == pytest.approx(3.5 / 6)
    assert math.isnan(report([[0.1, 0.1]], codes=[[V, O]]).visibility_auc)


def test_pckh_reports_pelvis_and_thorax_but_excludes_them_from_the_mean():
    distances = np.full((1, 16), 0.5)
    distances[0, [MPII16.index("pelvis"), MPII16.index("thorax")]] = np.inf
    pckh = report(distances, codes=np.full((1, 16), V), schema=MPII16, measure="pckh")
    assert pckh.total == 100
    assert pckh.rows["heatmaps"]["total"]["count"] == 14
    assert pckh.value("pelvis") == 0 and pckh.value("visible") == 100
    assert pckh.value("@0.1") == 0


def test_people_in_one_image_are_resampled_together():
    """With ten people in one image, every resample is that image, and the interval has no width."""
    distances = [[0.1, 0.3]] * 5 + [[0.3, 0.3]] * 5
    together = report(distances, codes=[[V, V]] * 10, images=[0] * 10).rows["heatmaps"]["total"]
    assert together["low"] == together["high"] == together["value"] == 25
    apart = report(distances, codes=[[V, V]] * 10).rows["heatmaps"]["total"]
    assert apart["low"] < 25 < apart["high"]


def test_layout_of_the_json_is_unchanged(small):
    """Scripts read this file: a change of its layout belongs in the changelog."""
    content = json.loads(json.dumps(small.as_dict(), allow_nan=False))
    figures = ["total", "limbs", "auc", "at", "visibility", "keypoints", "curve"]
    assert list(content) == ["metric", "reference", "threshold", "people", "counted", "without_reference", "missing",
                             "skipped", "thresholds", *figures, "visibility_roc_auc", "stages", "oks", "bootstrap"]
    assert list(content["total"]) == ["value", "low", "high", "count"]
    assert list(content["at"]) == ["0.05", "0.1", "0.2"]
    assert list(content["visibility"]) == ["visible", "occluded"]
    assert list(content["keypoints"]) == ["left_knee", "nose"]
    assert list(content["stages"]) == ["parts", "heatmaps"]
    assert list(content["stages"]["parts"]) == figures
    assert content["stages"]["heatmaps"]["total"] == content["total"]
    assert len(content["curve"]) == len(content["thresholds"]) == 21
    assert content["curve"][20] == content["at"]["0.2"]["value"] == 60
    assert content["bootstrap"] == {"draws": 50, "seed": 0, "confidence": 95.0}


def test_missing_figures_are_null_and_not_in_the_table():
    incomplete = report([[0.1, np.nan]], codes=[[U, U]])
    content = incomplete.as_dict()
    assert content["visibility"]["occluded"] == {"value": None, "low": None, "high": None, "count": 0}
    assert content["visibility_roc_auc"] is None and content["oks"] is None
    assert "occluded" not in incomplete.table() and "nose" not in incomplete.table()


def test_table_has_the_result_and_the_earlier_stages(small):
    lines = small.table().splitlines()
    assert lines[0] == "PCK@0.2 of the torso, 3 of 3 people"
    assert lines[1].split() == ["heatmaps", "95", "%", "keypoints", "parts"]
    name, value, ends, count, before = lines[2].replace("- ", "-").split()
    assert (name, value, count, before) == ("total", "60.00", "5", "40.00")
    low, high = map(float, ends.split("-"))
    assert low < 60 < high
    assert lines[-1] == "visibility, visible against occluded keypoints: ROC AUC 0.583"


def test_table_reports_excluded_missing_and_skipped_people():
    table = report([[0.1, 0.1], [np.nan, np.nan]], codes=[[V, V], [U, U]], without_reference=1, missing=2,
                   skipped=("a.jpg",), oks={"mean": 0.5, "AP": None}).table()
    assert table.splitlines()[0] == (
        "PCK@0.2 of the torso, 1 of 2 people; 1 without a labeled torso excluded; 2 not predicted (counted as missed); "
        "1 unreadable images skipped")
    assert table.splitlines()[-1] == "OKS  mean 50.0  (sigma 0.067, schema has none)"


def test_comparison_uses_keypoints_that_count_in_both_reports(rng):
    one = rng.uniform(0, 0.4, (40, 14))
    other = one.copy()
    other[:, 0] = np.nan  # the second model does not predict this keypoint
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


def test_comparison_is_antisymmetric(rng):
    codes = np.full((30, 14), V)
    first, second = (report(rng.uniform(0, 0.4, (30, 14)), codes=codes, schema=LSP14) for _ in range(2))
    there, back = compare(first, second), compare(second, first)
    assert there["occluded"]["difference"] is None
    for name in there.keys() - {"occluded"}:
        assert there[name]["difference"] == pytest.approx(-back[name]["difference"])
        assert there[name]["low"] == pytest.approx(-back[name]["high"])


def test_reports_of_different_people_cannot_be_compared(small):
    with pytest.raises(InputError) as error:
        compare(small, report([[0.1, 0.1]], codes=[[V, V]]))
    assert str(error.value) == ("cannot compare PCK of 3 people (pair) with PCK of 1 people (pair); evaluate both on "
                                "the same data")


def test_intervals_depend_on_the_seed_only(rng):
    distances, codes = rng.uniform(0, 0.4, (50, 14)), np.full((50, 14), V)
    ends = [report(distances, codes=codes, schema=LSP14, seed=s).rows["heatmaps"]["auc"]["low"] for s in (0, 0, 1)]
    assert ends[0] == ends[1] != ends[2]


def test_curve_rises_to_the_figure_at_the_main_threshold(rng):
    pck = report(rng.uniform(0, 0.4, (20, 14)), codes=np.full((20, 14), V), schema=LSP14)
    curve = pck.curve(pck.result)
    assert curve == sorted(curve) and curve[-1] == pck.total
    assert len(curve) == len(metrics.thresholds(0.2))
