"""COCO's results layout: several people per image are scored as pycocotools does, in files and in detected boxes."""

import contextlib
import io
import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from in_process import printing

from posecascade import inference
from posecascade.cli import evaluate
from posecascade.datasets.coco import read_coco
from posecascade.datasets.coco_background import read_background
from posecascade.errors import InputError
from posecascade.evaluation.coco_results import read_detections, results_from
from posecascade.evaluation.predictions import read_predictions
from posecascade.geometry import Box
from posecascade.records import Record
from posecascade.schema import COCO17

ORDER = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


@pytest.fixture
def run(capsys):
    """A function that runs the command in this process and returns exit status, standard output and standard error."""
    return printing(evaluate, capsys)


def person(rng, number, image, box, **fields):
    """An annotated person with 17 keypoints in the box [x, y, w, h], the first of which is unlabeled."""
    x, y, w, h = box
    points = np.column_stack([rng.uniform(x, x + w, 17), rng.uniform(y, y + h, 17), np.full(17, 2)])
    points[0] = 0
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": list(box), "area": w * h * 0.6,
            "num_keypoints": 16, "keypoints": points.round(2).ravel().tolist()} | fields


@pytest.fixture
def crowded(tmp_path, rng):
    """A val file of 3 images with people, a crowd, a person without keypoints, and an image without people."""
    people = [person(rng, 1, 11, (10, 10, 60, 90)), person(rng, 2, 11, (80, 15, 50, 80)),
              person(rng, 3, 12, (5, 5, 120, 110)), person(rng, 4, 13, (30, 20, 40, 40)),
              person(rng, 5, 12, (130, 5, 25, 60), keypoints=[0] * 51, num_keypoints=0),
              person(rng, 6, 13, (90, 60, 60, 50), iscrowd=1, keypoints=[0] * 51, num_keypoints=0)]
    images = [{"id": i, "file_name": f"{i}.png", "width": 160, "height": 120} for i in (11, 12, 13, 14)]
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    for image in images:
        cv2.imwrite(str(folder / "val2017" / image["file_name"]), np.full((120, 160, 3), 99, np.uint8))
    for split, chosen in (("val", people), ("train", people[:1])):
        (folder / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(
            {"images": images, "annotations": chosen,
             "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}]}))
    return folder, people


def official(folder, results):
    """What pycocotools itself says about a list of results for the val file."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(folder / "annotations" / "person_keypoints_val2017.json"))
        figures = cocoeval.COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        figures.evaluate()
        figures.accumulate()
        figures.summarize()
    return dict(zip(ORDER, figures.stats, strict=True))


def reported(path):
    """The figures of a report on one data set."""
    [report] = json.loads(path.read_text())["data"].values()
    return report


def assert_same(ours, theirs):
    assert 0 < theirs["AP"] < 1
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6) if value >= 0 else ours[name] is None, name


def test_results_file_has_the_ap_of_pycocotools(run, crowded, rng, tmp_path):
    folder, people = crowded
    results = []
    for truth in [*people[:3], people[0], people[4], people[5]]:  # one is missed, one is found twice
        moved = np.array(people[0]["keypoints"] if not any(truth["keypoints"]) else truth["keypoints"]).reshape(17, 3)
        offset = np.array(truth["bbox"][:2]) - people[0]["bbox"][:2] if not any(truth["keypoints"]) else 0
        moved[:, :2] += rng.normal(0, 3, (17, 2)) + offset
        moved[:, 2] = 0.5
        results.append({"image_id": truth["image_id"], "category_id": 1, "keypoints": moved.ravel().tolist(),
                        "score": float(rng.uniform())})
    results.append(results[0] | {"image_id": 14, "score": 0.7})  # in the image without people
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    code, printed, errors = run(f"--predictions={file}", f"--data=coco:{folder}", "--split=val",
                                f"--json={tmp_path / 'r.json'}")
    assert (code, errors) == (0, "")
    report = reported(tmp_path / "r.json")
    assert_same(report["oks"], official(folder, file))
    assert report["missing"] == 1 and "1 not predicted (counted as missed)" in printed


def test_keypoints_of_0_0_0_are_not_predicted_and_count_as_pycocotools_counts_them(run, crowded, tmp_path):
    folder, people = crowded
    results = []
    for truth, offset in ((people[0], 3.0), (people[1], 0.2), (people[2], 0.1)):
        points = np.array(truth["keypoints"], float).reshape(17, 3)
        points[:, :2] += offset
        points[:, 2] = 0.5
        points[9:] = 0
        results.append({"image_id": truth["image_id"], "category_id": 1, "keypoints": points.ravel().tolist(),
                        "score": 0.5})
    results.append(results[0] | {"keypoints": [0] * 51, "score": 0.9})
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    run(f"--predictions={file}", f"--data=coco:{folder}", "--split=val", f"--json={tmp_path / 'r.json'}")
    assert_same(reported(tmp_path / "r.json")["oks"], official(folder, file))
    second, nobody = results_from(file, results, COCO17)[1::2]
    assert np.isnan(second.keypoints[9:, :2]).all() and nobody.box is None
    assert second.box == Box.around(second.keypoints[:9, :2])


def test_lines_that_are_nobody_s_count_against_ap(run, crowded, tmp_path):
    folder, people = crowded
    truths = [people[0], people[1], people[2], people[0]]  # the last one is found twice
    offsets = [5.0, 0.2, 0.1, 0.0]
    lines, results = [], []
    for truth, offset, score in zip(truths, offsets, (0.9, 0.8, 0.7, 0.95), strict=True):
        points = np.array(truth["keypoints"]).reshape(17, 3)[:, :2] + offset
        rows = np.column_stack([points, np.full(17, score)]).tolist()
        lines.append({"image": f"{truth['image_id']}.png", "box": truth["bbox"],
                      "keypoints": dict(zip(COCO17.keypoints, rows, strict=True))})
        results.append({"image_id": truth["image_id"], "category_id": 1, "keypoints": np.ravel(rows).tolist(),
                        "score": score})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "a.json").write_text(json.dumps(results))
    assert run(f"--predictions={tmp_path / 'a.jsonl'}", f"--data=coco:{folder}", "--split=val",
               f"--json={tmp_path / 'r.json'}")[0] == 0
    assert_same(reported(tmp_path / "r.json")["oks"], official(folder, tmp_path / "a.json"))


class Center:
    """Replaces `inference.predictor`; its model predicts the keypoints of `truth` in whose box the crop is, moved."""

    def __init__(self, people):
        self.people, self.boxes = people, []

    def load(self, path, **options):
        return self.predict

    def predict(self, images, boxes):
        self.boxes += boxes
        return [self._pose(box) for box in boxes]

    def _pose(self, box):
        best = max(self.people, key=lambda p: Box(*p["bbox"]).iou(box))
        points = np.array(best["keypoints"]).reshape(17, 3)[:, :2] + (4 if best["id"] % 2 else 0.5)
        return SimpleNamespace(keypoints=points, scores=np.full(17, 0.5), visibility=np.ones(17), schema=COCO17,
                               box=box, stages={"heatmaps": points})


@pytest.fixture
def toy(monkeypatch, crowded):
    toy = Center(crowded[1][:4])
    monkeypatch.setitem(sys.modules, "posecascade.inference.predictor", toy)
    monkeypatch.setattr(inference, "predictor", toy, raising=False)
    return toy


def test_results_of_a_model_are_read_by_pycocotools_and_read_back(run, crowded, toy, tmp_path):
    folder, people = crowded
    results = tmp_path / "results.json"
    assert run("--model=m", f"--data=coco:{folder}", "--split=val", f"--results={results}")[0] == 0
    entries = json.loads(results.read_text())
    assert [sorted(entry) for entry in entries] == [["category_id", "image_id", "keypoints", "score"]] * 4
    assert [entry["image_id"] for entry in entries] == [11, 11, 12, 13]
    expected = np.array(people[1]["keypoints"]).reshape(17, 3)[:, :2] + 0.5
    np.testing.assert_array_equal(np.array(entries[1]["keypoints"]).reshape(17, 3)[:, :2], expected)
    assert entries[0]["keypoints"][2::3] == [0.5] * 17 and entries[0]["score"] == 0.5
    run(f"--predictions={results}", f"--data=coco:{folder}", "--split=val", f"--json={tmp_path / 'r.json'}")
    assert_same(reported(tmp_path / "r.json")["oks"], official(folder, results))


def test_detected_boxes_count_missed_people_and_detections_without_a_person(run, crowded, toy, tmp_path):
    folder, people = crowded
    boxes = [(people[0], 0.9), (people[1], 0.8), (people[2], 0.3), (people[2], 0.95), (people[5], 0.6)]
    detections = [{"image_id": truth["image_id"], "bbox": truth["bbox"], "score": score, "category_id": 1}
                  for truth, score in boxes]
    detections += [{"image_id": 14, "bbox": [50, 50, 40, 40], "score": 0.85, "category_id": 1},
                   {"image_id": 11, "bbox": [1, 1, 20, 20], "score": 0.99, "category_id": 18},
                   {"image_id": 11, "bbox": [1, 1, 0, 20], "score": 0.99, "category_id": 1},
                   {"image_id": 999, "bbox": [1, 1, 9, 20], "score": 0.99, "category_id": 1}]
    file, results = tmp_path / "detections.json", tmp_path / "results.json"
    file.write_text(json.dumps(detections))
    code, printed, errors = run("--model=m", f"--data=coco:{folder}", "--split=val", f"--boxes={file}",
                                f"--results={results}", f"--json={tmp_path / 'r.json'}")
    assert (code, errors) == (0, f"{file}: excluded 1 of category 18, 1 boxes without a size\n")
    assert len(toy.boxes) == 6 and Box(50, 50, 40, 40) in toy.boxes
    report = reported(tmp_path / "r.json")
    assert report["missing"] == 1  # the person of image 13, where only the crowd was detected
    assert_same(report["oks"], official(folder, results))
    entries = json.loads(results.read_text())
    assert [entry["score"] for entry in entries] == [0.45, 0.4, 0.15, 0.475, 0.3, 0.425]
    assert "1 not predicted (counted as missed)" in printed


def test_results_for_data_without_image_numbers_are_refused(tmp_path):
    records = [Record(None, f"a.mat, person {i}", COCO17, Box(0, 0, 9, 9), np.ones((17, 2)), np.full(17, 2))
               for i in range(2)]
    (tmp_path / "a.json").write_text(json.dumps([{"image_id": 1, "keypoints": [1.0] * 51, "score": 1}]))
    with pytest.raises(InputError) as error:
        read_predictions(tmp_path / "a.json", records)
    assert str(error.value) == (
        f"{tmp_path / 'a.json'}: COCO's results name images by number, and the images of the data have none (the "
        "first: a.mat, person 0); expected whole numbers as their ids. Use predictions in JSON lines")


ENTRY = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5] * 17, "score": 0.5}
LAYOUT = '{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}'


@pytest.mark.parametrize(("entries", "message"), [
    ([ENTRY, {**ENTRY, "keypoints": [1, 2, 3]}],
     ", entry 1: 'keypoints' holds 3 values; expected 51 finite numbers (x, y, score for 17 keypoints of coco17). Fix "
     "the file, or pass --schema"),
    ([ENTRY | {"keypoints": [float("nan")] * 51}],
     ", entry 0: 'keypoints' holds 51 values; expected 51 finite numbers (x, y, score for 17 keypoints of coco17). Fix "
     "the file, or pass --schema"),
    ([ENTRY | {"image_id": "a"}], f", entry 0: is {str(ENTRY | {'image_id': 'a'})[:120]}; expected {LAYOUT}, with "
                                  "whole numbers as ids and a finite score. Fix the entry"),
    ([{"image_id": 1, "keypoints": []}], ", entry 0: is {'image_id': 1, 'keypoints': []}; expected " + LAYOUT +
     ", with whole numbers as ids and a finite score. Fix the entry"),
    ([ENTRY | {"category_id": 3}, ENTRY | {"category_id": 7}],
     ": has the categories 3, 7; expected 1, COCO's number of people. Remove the others, or write people as 1"),
    ([ENTRY | {"image_id": 5}],
     ": none of its 1 people (the first is in image 5) overlaps a person of the data (the first is in image 1); choose "
     "another --data or --split"),
])
def test_invalid_results_are_refused(tmp_path, entries, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(entries))
    records = [Record(None, "a.mat, person 0", COCO17, Box(0, 0, 9, 9), np.ones((17, 2)), np.full(17, 2),
                      image_id=1)]
    with pytest.raises(InputError) as error:
        read_predictions(path, records)
    assert str(error.value) == f"{path}{message}"


@pytest.mark.parametrize(("content", "message"), [
    ({"annotations": []}, ': is a mapping of keys; expected a list of {"image_id", "category_id", "bbox": '
                          '[x, y, w, h], "score"}. Give a detector\'s results, not annotations'),
    ([], ': has no box of a person; expected a list of {"image_id", "category_id", "bbox": [x, y, w, h], '
         '"score"}'),
    ([{"image_id": 1, "bbox": [1, 2, 3], "score": 1}],
     ", entry 0: 'bbox' is [1, 2, 3]; expected [x, y, w, h] in pixels. Fix the entry"),
])
def test_invalid_detections_are_refused(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        read_detections(path)
    assert str(error.value) == f"{path}{message}"


@pytest.mark.parametrize(("arguments", "message"), [
    (("--predictions=a.mat", "--data=lsp:x", "--boxes=b.json"),
     "--boxes: needs a --model to predict in them; add --model=MODEL"),
    (("--model=m", "--data=lsp:x", "--boxes=b.json", "--protocol=paper"),
     "--boxes: --protocol=paper has boxes of its own; remove one of them"),
    (("--model=m", "--data=lsp:x", "--data=lsp:y", "--results=r.json"),
     "--results=r.json: holds the results of one data set, 2 are given; evaluate each on its own"),
])
def test_wrong_flags_are_one_line_with_exit_status_2(run, arguments, message):
    code, printed, errors = run(*arguments)
    assert (code, printed, errors) == (2, "", f"posecascade-evaluate: error: {message}\n")


def test_annotations_of_other_categories_are_no_regions_to_ignore(crowded):
    folder, _ = crowded
    root, path = str(folder), folder / "annotations" / "person_keypoints_val2017.json"
    before = read_background(root, "val", read_coco(root, "val"))
    content = json.loads(path.read_text())
    content["categories"].append({"id": 3, "name": "car"})
    content["annotations"].append({"id": 90, "image_id": 14, "category_id": 3, "bbox": [1, 2, 30, 40], "area": 1200})
    path.write_text(json.dumps(content))
    assert read_background(root, "val", read_coco(root, "val")).ignored == before.ignored != ()
