"""The certificate of artificial artifacts; and an export of a network whose maps have distinct peaks."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import spots

from posecascade.errors import InputError
from posecascade.export import artifacts, certificate, exporting, latency, saved_model, stopwatch, tflite
from posecascade.export.certificate import Artifact, Row
from posecascade.formats.bundle import SIGNATURES
from posecascade.geometry import Box
from posecascade.inference.predictor import Predictor
from posecascade.records import Record
from posecascade.schema import Schema
from posecascade.training.augment import NONE, load_sample
from posecascade.training.data import Splits, Validation
from posecascade.training.recipe import Data, Export, Recipe

FOUR = Schema("four", ("a", "b", "c", "d"), torso=("a", "b"))
SIZE, DECODER = 64, "tflite/decoder.tflite"
CELLS = [(2, 3), (12, 3), (2, 12), (12, 12)]  # the toy model's keypoints, for every image


def toy_maps(crops):
    maps = np.zeros((len(crops), 16, 16, 4), np.float32)
    for keypoint, (x, y) in enumerate(CELLS):
        maps[:, y, x, keypoint] = 0.8
    return {"heatmaps": maps}


MODEL = Predictor(toy_maps, FOUR, SIZE, 4, "argmax")

IMAGE = np.zeros((50, 60, 3), np.uint8)


def people(sides=(51.2, 51.2), off=(0, 0, 0, 0), head_size=None):
    """Return people in boxes of these sides (51.2: a pixel of the image is a pixel of the crop).

    Their keypoints are `off` pixels of the image to the right of the model's.
    """
    records = []
    for number, side in enumerate(sides):
        box = Box(3, 4, side, side)
        [pose] = MODEL([IMAGE], [box])
        image = SimpleNamespace(name=f"{number}", read=lambda: IMAGE)
        records.append(Record(image, "test", FOUR, box, pose.keypoints + np.outer(off, [1, 0]), [2] * 4, head_size))
    return records


def shifted(by, keypoints=slice(None)):
    """Return the model with these keypoints moved by a number of pixels of the image."""
    def predict(images, boxes):
        poses = []
        for pose in MODEL(images, boxes):
            moved = pose.keypoints.copy()
            moved[keypoints] += by
            poses.append(replace(pose, keypoints=moved, stages={}))
        return poses

    return predict


def row_of(artifact, records, metric="pck"):
    [row] = certificate.measure(MODEL, [artifact], records, metric)
    return row


def test_model_itself_has_no_distance_and_no_loss():
    row = row_of(Artifact("same", "float32", MODEL, MODEL.maps, {"bytes": 7}), people())
    assert row == Row("same", "float32", {"p50": 0, "p99": 0, "max": 0}, {"name": "a", "p99": 0}, 100, 100, 0,
                      {"bytes": 7})
    assert row.loss == 0
    assert row_of(Artifact("same", "int8", MODEL), people()).map_difference is None


@pytest.mark.parametrize(("side", "zoom"), [(51.2, 1), (102.4, 0.5), (25.6, 2)])
def test_distances_are_in_pixels_of_the_crop(side, zoom):
    row = row_of(Artifact("off", "float32", shifted([3, 4])), people([side] * 3))
    assert row.distance == pytest.approx({"p50": 5 * zoom, "p99": 5 * zoom, "max": 5 * zoom})
    assert row.worst_keypoint == {"name": "a", "p99": pytest.approx(5 * zoom)}


def test_percentiles_are_over_all_keypoints_of_all_people():
    """Crops at a scale of 1 / 2, 1 and 2 have distances of 5 / 2, 5 and 10, four of each."""
    row = row_of(Artifact("off", "float32", shifted([3, 4])), people([102.4, 51.2, 25.6]))
    assert row.distance == pytest.approx({"p50": 5, "p99": 10, "max": 10})


def test_the_worst_keypoint_is_named():
    row = row_of(Artifact("off", "float32", shifted([0, 2], 2)), people())
    assert row.worst_keypoint == {"name": "c", "p99": pytest.approx(2)}
    assert row.distance["p50"] == 0


TORSO = 40  # px of the crop between a and b: ten cells


@pytest.mark.parametrize(("off", "moved", "scores"), [(0, 0.19, (100, 100)), (0, 0.21, (100, 75)),
                                                      (0.25, 0.25, (75, 100))])  # better than the model
def test_score_is_the_share_of_keypoints_within_a_fifth_of_the_torso(off, moved, scores):
    row = row_of(Artifact("off", "int8", shifted([moved * TORSO, 0], 3)), people(off=(0, 0, 0, off * TORSO)))
    assert (row.model_score, row.score) == scores and row.loss == scores[0] - scores[1]


@pytest.mark.parametrize(("metric", "head", "scores"), [
    ("pck", None, (75, 50)),      # the model misses d; the artifact also c, moved by 0.21 torsos
    ("oks", None, (75, 50)),      # measured by PCK
    ("pckh", 16, (75, 50)),       # within half a head, 8 px
    ("pckh", 17.2, (75, 75)),
    ("pckh", 40, (100, 100))])
def test_model_is_scored_by_the_metric_of_the_data(metric, head, scores):
    records = people(off=(0, 0, 0, 0.25 * TORSO), head_size=head)
    row = row_of(Artifact("off", "dynamic", shifted([0, 0.21 * TORSO], 2)), records, metric)
    assert (row.model_score, row.score) == scores


def test_artifact_is_compared_with_its_own_reference():
    def elsewhere(images, boxes):  # in other boxes, which set the scale of the distances
        return shifted([3, 4])(images, [Box(3, 4, 102.4, 102.4)] * len(boxes))

    row = row_of(Artifact("other", "float32", MODEL, reference=elsewhere), people())
    expected = np.linalg.norm(elsewhere([IMAGE], [0])[0].keypoints - people()[0].keypoints, axis=1) / 2
    assert row.distance["max"] == pytest.approx(expected.max())
    assert (row.score, row.model_score) == (100, 0)
    assert row_of(Artifact("same", "float32", elsewhere, reference=elsewhere), people()).distance["max"] == 0


def test_maps_of_the_first_people_are_compared():
    counts = []

    def maps(crops):
        counts.append(len(crops))
        changed = MODEL.maps(crops)
        changed["heatmaps"][-1, 5, 6, 1] -= 0.25
        return changed

    count = certificate.BATCH + 3
    asked = []
    artifact = Artifact("maps", "int8", lambda images, boxes: asked.append(len(images)) or MODEL(images, boxes), maps)
    assert row_of(artifact, people([51.2] * count)).map_difference == pytest.approx(0.25)
    assert counts == [certificate.MAP_PEOPLE] and asked == [certificate.BATCH, 3]


def row(name="x", precision="float32", p99=0.01, score=90.0, model_score=90.0, difference=None, **facts):
    return Row(name, precision, {"p50": p99 / 2, "p99": p99, "max": 2 * p99}, {"name": "left_hip", "p99": p99}, score,
               model_score, difference, facts)


LIMITS = {"max_float_error_px": 0.1, "max_pck_drop": 1.0}


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(("p99", "shown"), [(0.0999, None), (0.1, "0.100"), (0.1004, "0.100"), (2.5, "2.500"),
                                           (np.nan, "nan"), (np.inf, "inf")])
def test_float_artifacts_are_refused_by_distance(precision, p99, shown):
    refused = certificate.refusals([row("tflite/a.tflite", precision, p99, score=10)], **LIMITS)
    assert refused == ([] if shown is None else [
        f"tflite/a.tflite: keypoints differ from the model's by {shown} px of the crop (99th percentile, worst "
        "left_hip), expected less than 0.1"])


@pytest.mark.parametrize("precision", ["dynamic", "int8"])
@pytest.mark.parametrize(("score", "shown"), [(89.01, None), (95, None), (89, "1.00 points of PCK (90.00 to 89.00)"),
                                             (88.9, "1.10 points of PCK (90.00 to 88.90)"),
                                             (np.nan, "nan points of PCK (90.00 to nan)")])
def test_quantized_artifacts_are_refused_by_loss(precision, score, shown):
    refused = certificate.refusals([row("b", precision, 99.0, score)], **LIMITS)
    assert refused == ([] if shown is None else [f"b: loses {shown}, expected less than 1"])


def test_table_is_aligned_and_complete():
    rows = [row("saved_model/serving_default", score=88.25, bytes=1_234_567, gpu_blocking=None),
            row("tflite/a.tflite", "int8", 12.3456, 89, difference=0.0123, bytes=12, gpu_blocking=[],
                latency_ms={"1": 101.26, "2": 3.0}), row("c", gpu_blocking=["TOPK", "GATHER_ND"])]
    lines = certificate.table(rows, "PCK@0.2").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split("  ")[0] for line in lines] == ["artifact", *(row.name for row in rows)]
    assert lines[0].split() == ["artifact", "p50", "px", "p99", "px", "max", "px", "PCK@0.2", "loss", "maps", "MB", "1",
                                "thread", "2", "threads", "not", "on", "GPU"]
    assert [line.split()[1:] for line in lines[1:]] == [
        ["0.0050", "0.010", "0.02", "88.25", "+1.75", "-", "1.23", "-", "-", "-"],
        ["6.1728", "12.346", "24.69", "89.00", "+1.00", "1.2e-02", "0.00", "101.3", "ms", "3.0", "ms", "0"],
        ["0.0050", "0.010", "0.02", "90.00", "+0.00", "-", "0.00", "-", "-", "2"]]


def test_rows_are_json_values():
    rows = certificate.measure(MODEL, [Artifact("x", "int8", shifted([1, 0]), MODEL.maps, {"bytes": 3})], people(),
                               "pck")
    [entry] = json.loads(json.dumps(certificate.as_dict(rows), allow_nan=False))
    assert entry.pop("distance_px_of_crop") == pytest.approx({"p50": 1, "p99": 1, "max": 1})
    assert entry == {"name": "x", "precision": "int8", "worst_keypoint": {"name": "a", "p99": pytest.approx(1)},
                     "score": 100, "model_score": 100, "loss": 0, "largest_map_difference": 0, "bytes": 3}


def test_latency_is_measured_after_warm_up_calls():
    calls = []
    assert stopwatch.median_ms(lambda: calls.append(1)) >= 0
    assert len(calls) == stopwatch.WARM + stopwatch.CALLS


# The export of the network that finds spots.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a model's file whose recipe names its data, and the data's TYPE:ROOT."""
    folder = tmp_path_factory.mktemp("spots")
    source, schema = spots.write_data(folder / "data", train=12, val=10)
    recipe = Recipe(data=Data((source,), schema=schema), augmentation=NONE,
                    export=Export(people=8, calibration_crops=6, batch_sizes=(1,)))
    return spots.save(folder / "best.keras", recipe), source


def test_people_are_chosen_evenly(trained):
    recipe, found = exporting.prepared(trained[0], (), ["export.people=4"])
    assert (recipe.export.people, recipe.export.calibration_crops) == (4, 6)
    assert found.sources == (trained[1],) and [len(records) for records in found.train] == [12]
    kept = found.validation[0].records
    assert exporting.chosen(found, 4) == [kept[0], kept[2], kept[5], kept[7]]
    assert exporting.chosen(found, 500) == kept
    expected = [load_sample(record, 128).image for record in found.train_records[::2]]
    np.testing.assert_array_equal(exporting.calibration(found, recipe, 128), expected)
    many = replace(recipe, export=Export(calibration_crops=500))
    assert exporting.calibration(found, many, 128).shape == (12, 128, 128, 3)


def test_people_without_an_image_are_not_measured():
    records = people([51.2] * 3)
    records[1] = replace(records[1], image=None)
    both = Splits(FOUR, ("x:1", "x:2"), [records], [Validation("x", "pck", records), Validation("x2", "pck", records)])
    assert exporting.chosen(both, 9) == [records[0], records[2]] * 2


def test_data_replaces_the_people_of_the_recipe(trained, tmp_path):
    source, _ = spots.write_data(tmp_path / "other", train=2, val=1)
    _, found = exporting.prepared(trained[0], [source], [])
    assert found.sources == (source,) and len(found.train_records) == 2
    bare = spots.save(tmp_path / "bare.keras", Recipe())
    with pytest.raises(InputError) as error:
        exporting.prepared(bare, (), [])
    assert str(error.value) == (f"{bare}: names no training data; give people to calibrate and measure on by "
                                "--data=TYPE:ROOT")


def test_unreadable_images_are_skipped_and_refused_if_none_is_left(trained, tmp_path):
    source, _ = spots.write_data(tmp_path / "data", train=2, val=1)
    recipe, found = exporting.prepared(trained[0], [source], [])
    first, second = (tmp_path / "data" / "images" / f"train00{number}.png" for number in (0, 1))
    first.unlink()
    [crop] = exporting.calibration(found, recipe, 64)
    assert not (crop == 127).all()
    next((tmp_path / "data" / "images").glob("val*")).write_text("not an image")
    with pytest.raises(InputError, match="none of 1 validation people has a readable image; check --data"):
        exporting.chosen(found, 5)
    second.unlink()
    with pytest.raises(InputError, match="none of 2 images to calibrate on can be read"):
        exporting.calibration(found, recipe, 64)


@pytest.mark.slow
def test_network_with_distinct_peaks_is_within_the_default_limits(trained, tmp_path, monkeypatch):
    rows_measured, lines, measure = [], [], certificate.measure
    monkeypatch.setattr(latency, "of_saved_model", lambda *_: {name: {"1": 2.0, "2": 1.0} for name in SIGNATURES})
    monkeypatch.setattr(certificate, "measure", lambda *given: rows_measured.extend(measure(*given)) or rows_measured)
    recipe, everybody = exporting.prepared(trained[0], (), [])
    options = {"license": "test", "manifest": None, "log": lines.append}
    folder = exporting.export(trained[0], tmp_path / "out", everybody, recipe, **options)
    assert folder == tmp_path / "out" / "1"
    written = json.loads((folder / exporting.CERTIFICATE).read_text())
    assert written["limits"] == LIMITS and written["people"] == 8 and written["metric"] == "PCK@0.2"
    rows = written["artifacts"]
    assert [row["name"] for row in rows] == [
        *(f"saved_model/{name}" for name in ("heatmaps", "images", "with_boxes", "serving_default")),
        *(f"tflite/{kind}_{bits}.tflite" for bits in tflite.PRECISIONS for kind in tflite.KINDS), DECODER]
    for one in rows:
        assert one["model_score"] == 100
        if one["precision"] in certificate.FLOATS:
            assert one["distance_px_of_crop"]["p99"] < 0.1
        else:
            assert one["loss"] < 1
    assert lines[-1] in (folder / exporting.TABLE).read_text()
    monkeypatch.setattr(certificate, "measure", lambda *_: rows_measured)
    monkeypatch.setattr(saved_model, "write", lambda folder, *_: (folder / "saved_model.pb").write_bytes(b""))
    for module, name in ((exporting, "write_tflite"), (artifacts, "of_saved_model"), (artifacts, "of_tflite")):
        monkeypatch.setattr(module, name, lambda *_: [])
    strict = replace(recipe, export=replace(recipe.export, max_float_error_px=0.0))
    with pytest.raises(InputError) as error:
        exporting.export(trained[0], tmp_path / "other", everybody, strict, **options)
    floats = [one for one in rows_measured if one.precision in certificate.FLOATS]
    assert str(error.value) == (
        f"{len(floats)} artifacts are past a limit, so nothing is exported: "
        + "; ".join(f"{one.name}: keypoints differ from the model's by {one.distance['p99']:.3f} px of the crop (99th "
                    f"percentile, worst {one.worst_keypoint['name']}), expected less than 0" for one in floats)
        + ". Change the limits by --set=export.max_float_error_px or --set=export.max_pck_drop")
    assert len(floats) == 9 and list((tmp_path / "other").iterdir()) == []
