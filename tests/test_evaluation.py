"""Evaluation with toy predictors: matching keypoints by name, stages, skipped images, COCO's AP, the paper's crops."""

import builtins
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest

from posecascade.datasets import read
from posecascade.errors import InputError
from posecascade.evaluation.evaluate import (
    annotated_box,
    average_precision,
    evaluate,
    paper_box,
    paper_lsp_box,
    predicted,
    score,
)
from posecascade.evaluation.predictions import read_predictions
from posecascade.geometry import Box
from posecascade.records import Record, converted
from posecascade.schema import COCO17, LSP14, MPII16, Schema


@dataclass(frozen=True)
class ToyImage:
    """A gray image; reading it fails if `broken`."""

    name: str
    size: tuple[int, int] = (120, 80)
    broken: bool = False

    def read(self, shrink=1):
        if self.broken:
            raise InputError(f"image {self.name}: the JPEG data end too early; copy the file again")
        return np.full((self.size[1], self.size[0], 3), 127, np.uint8)


@dataclass(frozen=True)
class ToyPose:
    """The attributes of `poses.Pose` that an evaluation reads."""

    keypoints: np.ndarray
    scores: np.ndarray
    visibility: np.ndarray
    schema: Schema
    box: Box
    stages: dict


def people(rng, count, schema=LSP14, **more):
    """People with a torso of 10 px, one per image; their boxes differ, so that a toy predictor can identify them."""
    made = []
    for number in range(count):
        points = rng.uniform(0, 70, (schema.size, 2))
        left, right = schema.segment("torso")
        points[right] = points[left] + [0, 10]
        made.append(Record(ToyImage(f"{number}.jpg"), f"person {number}", schema, Box(number, 0, 5, 5), points,
                           rng.integers(1, 3, schema.size), **more))
    return made


def knowing(records, schema=None, off=0.0, off_parts=5.0):
    """A predictor of true keypoints and visibility, shifted by `off` px in heatmaps and `off_parts` px in parts."""
    schema = schema or records[0].schema
    known = {record.box: converted(record, schema) for record in records}

    def predict(images, boxes):
        assert len(images) == len(boxes)
        poses = []
        for box in boxes:
            record = known[box]
            true = np.nan_to_num(record.keypoints)
            stages = {"parts": true + [off_parts, 0], "heatmaps": true + [off, 0]}
            poses.append(ToyPose(stages["heatmaps"], np.ones(schema.size), (record.visibility == 2) * 0.8, schema,
                                 box, stages))
        return poses

    return predict


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_perfect_predictor_has_100_and_its_shifted_stage_0(rng, batch_size):
    records = people(rng, 7)
    report = evaluate(knowing(records), records, metric="pck", batch_size=batch_size, draws=20)
    assert report.total == 100 and report.value("total", "parts") == 0
    assert report.visibility_auc == 1
    assert list(report.stages) == ["parts", "heatmaps"]
    assert report.as_dict()["counted"] == 7


def test_keypoint_within_the_threshold_is_a_hit_and_one_beyond_is_not(rng):
    records = people(rng, 2)
    assert evaluate(knowing(records, off=1.999), records, metric="pck").total == 100
    assert evaluate(knowing(records, off=2.001), records, metric="pck").total == 0


def test_keypoints_are_matched_by_name_and_others_are_not_counted(rng):
    records = people(rng, 3, COCO17)
    report = evaluate(knowing(records, MPII16), records, metric="pck", draws=20)
    rows = report.rows["heatmaps"]
    assert rows["total"] == {"value": 100, "low": 100, "high": 100, "count": 3 * 12}
    assert rows["nose"]["count"] == 0 and rows["left_wrist"]["value"] == 100


def test_model_without_a_keypoint_of_the_data_is_refused(rng):
    records = people(rng, 1)
    with pytest.raises(InputError, match=r"^the model's keypoints \(tail\) and the data's \(lsp14\) have no name in "
                                         r"common; choose another --data or --schema$"):
        predicted(knowing(records, Schema("tail", ("tip",))), records)


def test_unreadable_image_is_skipped_and_reported(rng):
    records = people(rng, 100)
    records[41] = replace(records[41], image=ToyImage("41.jpg", broken=True))
    report = evaluate(knowing(records), records, metric="pck", batch_size=8, draws=20)
    assert report.skipped == ("41.jpg",)
    assert report.total == 100 and report.as_dict()["counted"] == 99
    assert "1 unreadable images skipped" in report.table()


def test_too_many_unreadable_images_are_an_error(rng):
    records = people(rng, 99)
    records[98] = replace(records[98], image=ToyImage("98.jpg", broken=True))
    with pytest.raises(InputError, match=r"image 98.jpg: the JPEG data end too early.*1 of 99 images are unreadable"):
        evaluate(knowing(records), records, metric="pck")


def test_exception_of_the_predictor_is_raised(rng):
    def failing(images, boxes):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(failing, people(rng, 200), metric="pck")


def test_next_images_are_read_while_a_batch_is_predicted(rng):
    """Prediction of the first batch waits until an image of the second one is read."""
    second_batch_read = threading.Event()
    records = people(rng, 4)
    records[2] = replace(records[2], image=SignalingImage("2.jpg", second_batch_read))
    predict = knowing(records)

    def waiting(images, boxes):
        assert second_batch_read.wait(30)
        return predict(images, boxes)

    assert evaluate(waiting, records, metric="pck", batch_size=2, draws=5).total == 100


@dataclass(frozen=True)
class SignalingImage:
    """An image that sets an event when it is read."""

    name: str
    event: threading.Event

    def read(self, shrink=1):
        self.event.set()
        return np.zeros((80, 120, 3), np.uint8)


def test_people_without_a_torso_are_excluded_and_reported(rng):
    records = people(rng, 3)
    codes = records[1].visibility.copy()
    codes[LSP14.index("left_shoulder")] = 0
    records[1] = replace(records[1], visibility=codes)
    report = evaluate(knowing(records), records, metric="pck", draws=20)
    assert report.without_reference == 1 and report.as_dict()["counted"] == 2
    assert "1 without a labeled torso excluded" in report.table()
    with pytest.raises(InputError) as error:
        evaluate(knowing(records[1:2]), records[1:2], metric="pck")
    assert str(error.value) == ("none of 1 people can be counted for PCK: 1 have no torso size; choose another "
                                "--metric (one of pck, pckh, oks)")


def test_pckh_uses_the_annotated_head_size_or_the_head_segment(rng):
    records = people(rng, 2, MPII16, head_size=10.0)
    assert evaluate(knowing(records, off=4.999), records, metric="pckh").total == 100
    assert evaluate(knowing(records, off=5.001), records, metric="pckh").total == 0
    bare = people(rng, 1, MPII16)
    half = bare[0].length("head") / 2
    assert evaluate(knowing(bare, off=0.999 * half), bare, metric="pckh").total == 100
    assert evaluate(knowing(bare, off=1.001 * half), bare, metric="pckh").total == 0


def test_visible_and_occluded_are_counted_only_if_the_data_set_distinguishes_them(rng):
    records = people(rng, 2, occlusion_known=False)
    report = evaluate(knowing(records), records, metric="pck", draws=20)
    content = report.as_dict()
    assert content["visibility"]["visible"]["count"] == content["visibility"]["occluded"]["count"] == 0
    assert content["visibility_roc_auc"] is None
    assert content["total"]["count"] == 28


def test_records_without_images_cannot_be_predicted(rng):
    record = Record(None, "joints.mat, person 1", LSP14, Box(0, 0, 1, 1), np.zeros((14, 2)), np.full(14, 2))
    with pytest.raises(InputError, match=r"^joints.mat, person 1: has no image to predict on; add the images or pass "
                                         r"--predictions$"):
        predicted(knowing([record]), [record])


def test_unknown_metric_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="unknown metric 'pkch'; did you mean 'pckh'"):
        score(None, [], metric="pkch")


def test_boxes_are_annotated_or_the_paper_s(rng):
    [record], image = people(rng, 1), np.zeros((80, 121, 3), np.uint8)
    assert annotated_box(record, image) == record.box
    assert paper_box(record, image) == record.box
    assert paper_box(replace(record, square=Box(1, 2, 3, 4)), image) == Box(1, 2, 3, 4)
    box = paper_lsp_box(record, image)
    assert box.center == pytest.approx((60, 39.5))  # in pixel centers: column 60 of 0..120, between rows 39 and 40
    assert box.side == pytest.approx(178)  # 200 px x 0.89
    predict, used = knowing([record]), []

    def watching(images, boxes):
        used.extend(boxes)
        return predict(images, [record.box])

    evaluate(watching, [record], metric="pck", box_of=paper_lsp_box)
    assert used[0].side == pytest.approx(178) and used[0].center == pytest.approx((59.5, 39.5))


# --- COCO's AP ------------------------------------------------------------------------------------------------------


def test_coco_ap_is_1_for_perfect_and_0_for_distant_keypoints(rng):
    pytest.importorskip("pycocotools")
    records = people(rng, 5, COCO17, area=5000.0)
    assert evaluate(knowing(records), records, metric="oks", draws=5).oks["AP"] == pytest.approx(1)
    lost = evaluate(knowing(records, off=500.0), records, metric="oks", draws=5)
    assert lost.oks["AP"] == 0 and lost.oks["mean"] == pytest.approx(0, abs=1e-9)
    assert lost.as_dict()["oks"]["AP_large"] is None  # 5000 square pixels is COCO's medium


def test_coco_ap_is_the_share_of_thresholds_that_are_reached(rng):
    """All people have the same OKS s, so AP is the share of COCO's thresholds 0.50, 0.55, ..., 0.95 that are <= s."""
    pytest.importorskip("pycocotools")
    sigma, area = 0.1, 5000.0
    schema = Schema("even", ("left_shoulder", "right_hip"), torso=("left_shoulder", "right_hip"), sigmas=(sigma,) * 2)
    off = np.sqrt(-2 * area * (2 * sigma) ** 2 * np.log(0.72))
    records = people(rng, 4, schema, area=area)
    figures = evaluate(knowing(records, off=off), records, metric="oks", draws=5).oks
    assert figures["mean"] == pytest.approx(0.72)
    assert figures["AP"] == pytest.approx(0.5)  # 0.50, 0.55, 0.60, 0.65 and 0.70
    assert figures["AP50"] == pytest.approx(1) and figures["AP75"] == 0


def test_keypoints_that_the_model_does_not_have_do_not_lower_the_ap(rng):
    pytest.importorskip("pycocotools")
    records = people(rng, 3, COCO17, area=5000.0)
    assert evaluate(knowing(records, LSP14), records, metric="oks", draws=5).oks["AP"] == pytest.approx(1)


def test_oks_needs_pycocotools(rng, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **more):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return original(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    records = people(rng, 1, COCO17)
    with pytest.raises(InputError) as error:
        evaluate(knowing(records), records, metric="oks")
    assert str(error.value) == ("--metric=oks: needs pycocotools, which is not installed; pip install pycocotools, or "
                                "pass --metric=pck")


# --- published figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, expected",
                         [("bulat2016", (90.7, 63.4, 92.5, 67.7)), ("insafutdinov2016", (90.1, 66.1, 92.0, 67.2))])
def test_report_on_published_lsp_predictions_has_the_published_figures(shared_data, method, expected):
    records = read(f"lsp:{shared_data / 'lsp_test'}", "test")
    predictions = read_predictions(shared_data / "lsp_test" / "predictions" / f"{method}.mat", records)
    report = score(predictions, records, metric="pck", draws=20)
    assert [report.value(row) for row in ("total", "auc", "visible", "occluded")] == pytest.approx(expected, abs=0.05)
    assert report.without_reference == 0


def test_average_precision_without_predictions_is_0(rng):
    pytest.importorskip("pycocotools")
    records = people(rng, 2, COCO17, area=5000.0)
    perfect = predicted(knowing(records), records)
    nothing = type(perfect)({"keypoints": np.full((2, 17, 2), np.nan)}, None, None, perfect.known, perfect.readable, 2)
    assert average_precision(nothing, records)["AP"] == 0
