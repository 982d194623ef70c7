"""posecascade-predict with COCO's files: results and numbers of images that it writes, detected boxes that it reads."""

import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from image_files import jpeg, segment, tiff
from in_process import printing

from posecascade import inference
from posecascade.cli import predict
from posecascade.geometry import Box
from posecascade.poses import Pose
from posecascade.schema import Schema

PAIR = Schema("pair", ("left_wrist", "right_wrist"), limbs=(("left_wrist", "right_wrist"),))


def _pose(image, box):
    box = box or Box(0, 0, image.shape[1], image.shape[0])
    return Pose(np.array([[box.x, box.y], box.center]), np.array([0.5, 0.25]), np.array([1.0, 0.5]), PAIR, box)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs the command in a folder with a toy model, whose keypoints are the box's corner and center.

    It returns the exit status, standard output and standard error.
    """
    model = SimpleNamespace(schema=PAIR, predict_batch=lambda images, boxes: list(map(_pose, images, boxes)))
    toy = SimpleNamespace(load=lambda *_, **__: model)
    monkeypatch.setitem(sys.modules, "posecascade.inference.predictor", toy)
    monkeypatch.setattr(inference, "predictor", toy, raising=False)
    monkeypatch.chdir(tmp_path)

    run = printing(predict, capsys)

    def command(*arguments):
        return run(*arguments, "--output=out", "--nodraw")

    return command


def write_images(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((40, 60, 3), 99, np.uint8))


def written(tmp_path):
    return [json.loads((tmp_path / "out" / name).read_text()) for name in ("results.json", "images.json")]


def test_results_keep_the_numbers_of_coco_names_and_are_read_by_pycocotools(run, tmp_path):
    write_images(tmp_path / "val", "000000000785.jpg", "000000397133.jpg")
    assert run("val", "--format=coco")[0] == 0
    results, images = written(tmp_path)
    assert results[0] == {"image_id": 785, "category_id": 1, "keypoints": [0, 0, 0.5, 30, 20, 0.25], "score": 0.375}
    assert [image["id"] for image in images["images"]] == [785, 397133]
    assert images["images"][0] == {"id": 785, "file_name": str(tmp_path / "val" / "000000000785.jpg"),
                                   "width": 60, "height": 40}
    assert images["categories"] == [{"id": 1, "name": "person", "keypoints": list(PAIR.keypoints),
                                     "skeleton": [[1, 2]]}]
    coco = pytest.importorskip("pycocotools.coco")
    loaded = coco.COCO(str(tmp_path / "out" / "images.json")).loadRes(str(tmp_path / "out" / "results.json"))
    assert sorted(annotation["image_id"] for annotation in loaded.anns.values()) == [785, 397133]


def test_other_images_are_counted_from_1_and_named_from_the_list_if_they_are_in_its_folder(run, tmp_path):
    write_images(tmp_path / "out", "1.jpg", "beach.png")
    assert run("out", "out/1.jpg", "--format=coco")[0] == 0
    results, images = written(tmp_path)
    assert [entry["image_id"] for entry in results] == [1, 2, 1]
    assert [(image["id"], image["file_name"]) for image in images["images"]] == [(1, "1.jpg"), (2, "beach.png")]


def test_image_without_a_number_leaves_the_numbers_of_others(run, tmp_path):
    write_images(tmp_path / "val", "000000000785.jpg", "beach.png")
    assert run("val", "--format=coco")[0] == 0
    assert [image["id"] for image in written(tmp_path)[1]["images"]] == [785, 786]


def test_lines_alone_are_written_without_the_flag(run, tmp_path):
    write_images(tmp_path / "val", "a.png")
    assert run("val")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions.csv", "predictions.jsonl"]


DETECTIONS = [{"image_id": 785, "bbox": [1, 2, 10, 20], "score": 0.5, "category_id": 1},
              {"image_id": 785, "bbox": [20, 2, 10, 20], "score": 0.25, "category_id": 1},
              {"image_id": 12, "bbox": [20, 2, 10, 20], "score": 0.25, "category_id": 1},
              {"image_id": 785, "bbox": [20, 2, 10, 20], "score": 0.25, "category_id": 44}]


@pytest.fixture
def detections(tmp_path):
    (tmp_path / "detections.json").write_text(json.dumps(DETECTIONS))


@pytest.mark.parametrize("listed", [False, True])
def test_every_detected_box_is_a_person(run, tmp_path, detections, listed):
    names = ("first.jpg", "second.jpg") if listed else ("000000000785.jpg", "000000397133.jpg")
    write_images(tmp_path / "val2017", *names)
    (tmp_path / "image_info_val2017.json").write_text(json.dumps({"images": [
        {"id": number, "file_name": name} for number, name in zip((785, 397133), names, strict=True)]}))
    code, printed, errors = run("image_info_val2017.json" if listed else "val2017", "--boxes=detections.json",
                                "--format=coco")
    assert (code, errors) == (0, "detections.json: excluded 1 of category 44\n")
    assert printed.startswith("2 poses written to ")
    results, images = written(tmp_path)
    assert [(e["image_id"], e["keypoints"][:2], e["score"]) for e in results] == [
        (785, [1, 2], 0.5 * 0.375), (785, [20, 2], 0.25 * 0.375)]
    assert len(images["images"]) == 1
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["box"] for line in lines] == [[1, 2, 10, 20], [20, 2, 10, 20]]


def test_boxes_and_results_of_coco_s_own_turned_images_count_stored_pixels(run, tmp_path):
    image = jpeg(np.full((40, 60, 3), 99, np.uint8), segment(b"Exif\0\0" + tiff(6)))  # shown 40 wide, 60 high
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "1.jpg").write_bytes(image)
    (tmp_path / "image_info_val2017.json").write_text(json.dumps({"images": [
        {"id": 1, "file_name": "1.jpg", "width": 60, "height": 40,
         "coco_url": "http://images.cocodataset.org/val2017/1.jpg"}]}))
    (tmp_path / "boxes.json").write_text(json.dumps([
        {"image_id": 1, "bbox": [10, 20, 30, 6], "score": 1, "category_id": 1}]))
    assert run("image_info_val2017.json", "--boxes=boxes.json", "--format=coco")[0] == 0
    results, images = written(tmp_path)
    assert results[0]["keypoints"][3:5] == [25, 23]  # the center of the box
    assert (images["images"][0]["width"], images["images"][0]["height"]) == (60, 40)
    [line] = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["box"][2:] == [6, 30]  # lines count upright pixels


@pytest.mark.parametrize(("names", "arguments", "message"), [
    (["a.png"], ["val"], "image val/a.png: has no number to find its boxes in --boxes=detections.json; expected a name "
                         "such as 000000000785.jpg, or INPUT to be COCO's list of the images"),
    (["1.png"], ["val"], "--boxes=detections.json: none of its boxes is in the images (the first: image 785); give the "
                         "images that were searched"),
    (["785.png"], ["detections.json"], "detections.json: has no list 'images'; expected COCO's layout. Give boxes with "
                                       "--boxes=detections.json"),
])
def test_boxes_without_images_are_refused(run, tmp_path, detections, names, arguments, message):
    write_images(tmp_path / "val", *names)
    code, _, errors = run(*arguments, "--boxes=detections.json")
    assert code == 2 and errors.splitlines()[-1] == f"posecascade-predict: error: {message}"
