"""Scores with a curve: whether an export fits one, and that the model and every artifact then give the same ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import spots
import tensorflow as tf
from test_export_serving import assert_same, files, looked_for, rounds

from posecascade.codec.score_calibration import IDENTITY, MIN_KEYPOINTS, Calibration
from posecascade.export import artifacts, certificate, exporting, tflite
from posecascade.export.graph.network import Network
from posecascade.export.graph.serving import Serving
from posecascade.formats import runtime
from posecascade.formats.metadata import metadata_dict, metadata_from
from posecascade.inference import predictor
from posecascade.training.augment import NONE
from posecascade.training.recipe import Data, Export, Recipe

CURVE = Calibration(1.5, 0.8)
PEOPLE = 48  # of five joints: two halves of more than MIN_KEYPOINTS


@pytest.fixture(scope="module")
def road():
    return replace(spots.road_of(spots.network()), calibration=CURVE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model's file whose recipe names its people, and these, read."""
    folder = tmp_path_factory.mktemp("spots")
    source, schema = spots.write_data(folder / "data", train=4, val=PEOPLE)
    recipe = Recipe(data=Data((source,), schema=schema), augmentation=NONE,
                    export=Export(people=PEOPLE, calibration_crops=4, batch_sizes=(1,), max_calibration_error=0.05))
    file = spots.save(folder / "best.keras", recipe)
    return file, *exporting.prepared(file, (), [])


def test_who_is_looked_for_is_the_same_person_and_has_the_same_scores(road):
    pictures = [image for image, _ in looked_for()]
    serving = Serving(Network(spots.network(), replace(spots.metadata(), calibration=CURVE)))
    poses = road.predict_batch(pictures)
    assert_same(serving.serving_default(files(pictures)), poses)
    assert [rounds(road, image) for image in pictures] == [count for _, count in looked_for()]
    for pose, plain in zip(poses, replace(road, calibration=IDENTITY).predict_batch(pictures), strict=True):
        np.testing.assert_array_equal(pose.keypoints, plain.keypoints)
        np.testing.assert_allclose(pose.scores, CURVE(plain.scores))
        np.testing.assert_array_equal(pose.visibility, plain.visibility)


def test_a_tflite_file_of_joints_gives_them_too(road):
    one = spots.person()
    crops, _ = road.crops([one.image], [one.box])
    network = Network(spots.network(), replace(spots.metadata(), calibration=CURVE))
    models = tflite.models(network, tflite.decoder(network), crops)
    made = {kind: model for kind, precision, model in models if precision == "float32"}
    joints = runtime.tflite(made["keypoints"])(crops)
    [pose] = road([one.image], [one.box])
    np.testing.assert_allclose(joints["scores"][0], pose.scores, atol=1e-5)
    [by_maps] = replace(road, run=runtime.tflite(made["heatmaps"]))([one.image], [one.box])
    np.testing.assert_allclose(by_maps.scores, pose.scores, atol=1e-5)
    assert np.abs(pose.scores - CURVE(pose.scores)).max() > 1e-3  # it matters whether the curve is taken once or twice


def test_a_curve_comes_back_from_metadata_and_files_without_one_have_none():
    given = replace(spots.metadata(), calibration=CURVE)
    value = json.loads(json.dumps(metadata_dict(given)))
    assert metadata_from(value, "file") == given
    del value["calibration"]
    assert metadata_from(value, "file").calibration == IDENTITY


def test_poor_scores_get_a_curve_and_good_ones_keep_theirs(trained):
    _, _, people = trained
    records, plain = exporting.chosen(people, PEOPLE), spots.road_of(spots.network())
    curve, told = exporting.curve_of(plain, IDENTITY, records, "pck", 0.05)
    raw = np.concatenate([pose.scores for pose in plain([r.image.read() for r in records], [r.box for r in records])])
    assert told["error"] == pytest.approx(1 - raw.mean())  # all joints are right
    assert told["error_after"] < 0.5 * told["error"]
    assert (told["slope"], told["offset"]) == (curve.slope, curve.offset) and curve(raw).mean() > raw.mean()
    assert exporting.curve_of(plain, IDENTITY, records, "pck", told["error"] + 1e-9) == (
        IDENTITY, {"error": told["error"], "error_after": None, "slope": 1.0, "offset": 0.0})
    kept, again = exporting.curve_of(plain, curve, records, "pck", 0.05)
    assert kept == curve and again["error"] < 0.05 and again["error_after"] is None
    few = records[:2 * MIN_KEYPOINTS // len(spots.JOINTS) - 1]
    assert exporting.curve_of(plain, CURVE, few, "pck", 0.0) == (
        CURVE, {"error": None, "error_after": None, "slope": 1.5, "offset": 0.8})


def test_an_export_tells_of_the_curve_and_all_it_writes_has_it(trained, tmp_path, monkeypatch):
    file, recipe, people = trained
    told = []
    for name in ("of_saved_model", "of_tflite"):  # what they measure is measured in other tests
        monkeypatch.setattr(artifacts, name, lambda *_: [])
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))
    folder = exporting.export(file, tmp_path / "out", people, recipe, license="test", manifest=None, tell=told.append)
    written = json.loads((folder / exporting.CERTIFICATE).read_text())
    scores = written["scores"]
    curve = Calibration(scores["slope"], scores["offset"])
    assert curve != IDENTITY and scores["error_after"] < scores["error"]
    assert certificate.scores_line(scores) in told[-1] and told[-1] in (folder / exporting.TABLE).read_text()
    images, boxes = map(list, zip(*((r.image.read(), r.box) for r in exporting.chosen(people, 4)), strict=True))
    expected = replace(spots.road_of(spots.network()), calibration=curve)(images, boxes)
    for place in (folder, folder / "tflite" / "heatmaps_float32.tflite",
                  folder / "tflite" / "keypoints_float32.tflite"):
        loaded = predictor.load(place)
        assert loaded.calibration == curve
        for pose, mine in zip(loaded(images, boxes), expected, strict=True):
            np.testing.assert_allclose(pose.scores, mine.scores, atol=1e-3)
    answer = tf.saved_model.load(str(folder)).signatures["with_boxes"](
        image_bytes=files(images), boxes=tf.constant([box.as_list() for box in boxes], tf.float32))
    np.testing.assert_allclose(answer["scores"], [pose.scores for pose in expected], atol=1e-3)


@pytest.mark.parametrize(("told", "line"), [
    ({"error": 0.13, "error_after": 0.034, "slope": 1.2, "offset": -0.6},
     "scores lie 0.130 from the share of joints that are right (expected calibration error), 0.034 on people whom "
     "their curve does not know; they are sigmoid(1.200 logit(peak) -0.600)"),
    ({"error": 0.05, "error_after": None, "slope": 1.0, "offset": 0.0},
     "scores lie 0.050 from the share of joints that are right (expected calibration error); they stay as they are"),
    ({"error": None, "error_after": None, "slope": 1.0, "offset": 0.0},
     "scores: too few joints can be judged to say how often they are right")])
def test_the_line_to_read(told, line):
    assert certificate.scores_line(told) == line
