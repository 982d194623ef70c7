"""PCK relative to the box or to pixels, and OKS without sigmas: schemas of one keypoint can be measured."""

from dataclasses import replace

import numpy as np
import pytest

from posecascade.evaluation import metrics
from posecascade.evaluation.evaluate import check_measurable, score
from posecascade.evaluation.predictions import Predictions
from posecascade.geometry import Box
from posecascade.records import Record
from posecascade.schema import COCO17, Schema


def person(count, schema):
    points = np.linspace((0, 0), (40, 90), schema.size)
    return [Record(None, str(i), schema, Box(0, 0, 50, 100), points, [2] * schema.size) for i in range(count)]


def missed_by(pixels, schema, count=4):
    points = np.stack([record.keypoints for record in person(count, schema)]) + [pixels, 0]
    return Predictions({"keypoints": points}, None, None, np.ones(schema.size, bool), np.ones(count, bool))


def test_schema_without_sigmas_has_a_stated_default_in_oks():
    bare = Schema("bare", ("left_shoulder", "right_hip"), torso=("left_shoulder", "right_hip"))
    stated = Schema("stated", bare.keypoints, torso=bare.torso, sigmas=(metrics.DEFAULT_SIGMA,) * 2)
    reports = [score(missed_by(5, schema), person(4, schema), metric="oks", draws=5) for schema in (bare, stated)]
    assert reports[0].oks == reports[1].oks
    assert reports[0].table().endswith("(sigma 0.067, schema has none)")
    assert np.mean(COCO17.sigmas) == pytest.approx(metrics.DEFAULT_SIGMA, abs=5e-4)


@pytest.mark.parametrize(("reference", "length", "title"), [
    (None, 100, "PCK@0.05 of the longer side of the box"), ("box", 100, "PCK@0.05 of the longer side of the box"),
    ("pixels", 100, "PCK@0.05 of 100 pixels")])
def test_schema_of_one_keypoint_is_measured_by_the_box_or_pixels(reference, length, title):
    schema = Schema("tip", ("tip",), reference=reference)
    records = [Record(None, str(i), schema, Box(0, 0, 50, 100), [[10, 10]], [2]) for i in range(4)]
    points = np.array([[[10, 10]], [[15, 10]], [[10, 30]], [[10, 31]]], float)  # 0, 5, 20 and 21 pixels away
    found = Predictions({"keypoints": points}, None, None, np.array([True]), np.ones(4, bool))
    check_measurable(records, "pck", "mine")
    report = score(found, records, metric="pck", draws=5)
    assert report.result[:, 0].tolist() == [0, 5 / length, 20 / length, 21 / length]
    assert (report.total, report.value("@0.2")) == (50, 75)
    assert report.table().startswith(title)
    assert report.as_dict()["reference"] == (reference or "box")


def test_reference_of_the_schema_replaces_its_torso():
    schema = replace(COCO17, reference="box")
    assert score(missed_by(5, schema), person(4, schema), metric="pck", draws=5).measure.reference == "box"
