"""Calibrated scores: an export fits a curve if needed, and the model and every artifact return the same scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
import spots
import tensorflow as tf
from test_export_serving import assert_same, files, images_without_boxes, rounds

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
PEOPLE = 48  # of five keypoints: two halves of more than MIN_KEYPOINTS


@pytest.fixture(scope="module")
def predictor_with_curve():
    return replace(spots.predictor_of(spots.network()), calibration=CURVE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a model's file, its recipe and the people that the recipe names."""
    folder = tmp_path_factory.mktemp("spots")
    source, schema = spots.write_data(folder / "data", train=4, val=PEOPLE)
    recipe = Recipe(data=Data((source,), schema=schema), augmentation=NONE,
                    export=Export(people=PEOPLE, calibration_crops=4, batch_sizes=(1,), max_calibration_error=0.05))
    file = spots.save(folder / "best.keras", recipe)
    return file, *exporting.prepared(file, (), [])


def test_search_finds_the_same_people_with_calibrated_scores(predictor_with_curve):
    images = [image for image, _ in images_without_boxes()]
    serving = Serving(Network(spots.network(), replace(spots.metadata(), calibration=CURVE)))
    poses = predictor_with_curve.predict_batch(images)
    assert_same(serving.serving_default(files(images)), poses)
    assert [rounds(predictor_with_curve, image) for image in images] == [count for _, count in images_without_boxes()]
    uncalibrated = replace(predictor_with_curve, calibration=IDENTITY).predict_batch(images)
    for pose, plain in zip(poses, uncalibrated, strict=True):
        np.testing.assert_array_equal(pose.keypoints, plain.keypoints)
        np.testing.assert_allclose(pose.scores, CURVE(plain.scores))
        np.testing.assert_array_equal(pose.visibility, plain.visibility)


def test_tflite_file_returns_calibrated_scores(predictor_with_curve):
    one = spots.person()
    crops, _ = predictor_with_curve.crops([one.image], [one.box])
    network = Network(spots.network(), replace(spots.metadata(), calibration=CURVE))
    models = tflite.models(network, tflite.decoder(network), crops)
    by_kind = {kind: model for kind, precision, model in models if precision == "float32"}
    outputs = runtime.tflite(by_kind["keypoints"])(crops)
    [pose] = predictor_with_curve([one.image], [one.box])
    np.testing.assert_allclose(outputs["scores"][0], pose.scores, atol=1e-5)
    [by_maps] = replace(predictor_with_curve, run=runtime.tflite(by_kind["heatmaps"]))([one.image], [one.box])
    np.testing.assert_allclose(by_maps.scores, pose.scores, atol=1e-5)
    assert np.abs(pose.scores - CURVE(pose.scores)).max() > 1e-3  # applying the curve twice would differ


def test_curve_is_read_from_metadata_and_defaults_to_identity():
    given = replace(spots.metadata(), calibration=CURVE)
    value = json.loads(json.dumps(metadata_dict(given)))
    assert metadata_from(value, "file") == given
    del value["calibration"]
    assert metadata_from(value, "file").calibration == IDENTITY


def test_poorly_calibrated_scores_get_a_curve(trained):
    _, _, people = trained
    records, plain = exporting.chosen(people, PEOPLE), spots.predictor_of(spots.network())
    curve, entry = exporting.curve_of(plain, IDENTITY, records, "pck", 0.05)
    raw = np.concatenate([pose.scores for pose in plain([r.image.read() for r in records], [r.box for r in records])])
    assert entry["error"] == pytest.approx(1 - raw.mean())  # all keypoints are right
    assert entry["error_after"] < 0.5 * entry["error"]
    assert (entry["slope"], entry["offset"]) == (curve.slope, curve.offset) and curve(raw).mean() > raw.mean()
    assert exporting.curve_of(plain, IDENTITY, records, "pck", entry["error"] + 1e-9) == (
        IDENTITY, {"error": entry["error"], "error_after": None, "slope": 1.0, "offset": 0.0})
    kept, second = exporting.curve_of(plain, curve, records, "pck", 0.05)
    assert kept == curve and second["error"] < 0.05 and second["error_after"] is None
    few = records[:2 * MIN_KEYPOINTS // len(spots.JOINTS) - 1]
    assert exporting.curve_of(plain, CURVE, few, "pck", 0.0) == (
        CURVE, {"error": None, "error_after": None, "slope": 1.5, "offset": 0.8})


@pytest.mark.slow
def test_every_exported_artifact_has_the_curve(trained, tmp_path, monkeypatch):
    file, recipe, people = trained
    lines = []
    for name in ("of_saved_model", "of_tflite"):  # measured in other tests
        monkeypatch.setattr(artifacts, name, lambda *_: [])
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))
    folder = exporting.export(file, tmp_path / "out", people, recipe, license="test", manifest=None, log=lines.append)
    written = json.loads((folder / exporting.CERTIFICATE).read_text())
    scores = written["scores"]
    curve = Calibration(scores["slope"], scores["offset"])
    assert curve != IDENTITY and scores["error_after"] < scores["error"]
    assert certificate.scores_line(scores) in lines[-1] and lines[-1] in (folder / exporting.TABLE).read_text()
    images, boxes = map(list, zip(*((r.image.read(), r.box) for r in exporting.chosen(people, 4)), strict=True))
    expected = replace(spots.predictor_of(spots.network()), calibration=curve)(images, boxes)
    for path in (folder, folder / "tflite" / "heatmaps_float32.tflite",
                 folder / "tflite" / "keypoints_float32.tflite"):
        loaded = predictor.load(path)
        assert loaded.calibration == curve
        for pose, reference in zip(loaded(images, boxes), expected, strict=True):
            np.testing.assert_allclose(pose.scores, reference.scores, atol=1e-3)
    answer = tf.saved_model.load(str(folder)).signatures["with_boxes"](
        image_bytes=files(images), boxes=tf.constant([box.as_list() for box in boxes], tf.float32))
    np.testing.assert_allclose(answer["scores"], [pose.scores for pose in expected], atol=1e-3)


@pytest.mark.parametrize(("scores", "line"), [
    ({"error": 0.13, "error_after": 0.034, "slope": 1.2, "offset": -0.6},
     "scores: expected calibration error 0.130, 0.034 after recalibration (cross-validated over people); score = "
     "sigmoid(1.200 logit(peak) -0.600)"),
    ({"error": 0.05, "error_after": None, "slope": 1.0, "offset": 0.0},
     "scores: expected calibration error 0.050; not recalibrated"),
    ({"error": None, "error_after": None, "slope": 1.0, "offset": 0.0},
     "scores: too few keypoints can be judged to measure the calibration")])
def test_scores_line(scores, line):
    assert certificate.scores_line(scores) == line
