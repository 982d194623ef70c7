"""People taken to an annotation tool and back are the same people, to the format's precision."""

import json
import tempfile
import xml.etree.ElementTree as ET
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import printing

from posecascade import datasets
from posecascade.cli import data
from posecascade.errors import InputError
from posecascade.evaluation import coco_results
from posecascade.exchange import WRITERS, Options, convert
from posecascade.exchange.people import LabeledImage, People, Person
from posecascade.geometry import Box
from posecascade.schema import Schema, find_schema

NAMES = ("nose", "left_wrist", "right_wrist", "tail")
SCHEMA = Schema("mine", NAMES, pairs=(("left_wrist", "right_wrist"),), limbs=(("nose", "tail"),))
WIDTH, HEIGHT = 123, 77
IMAGE = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 99, np.uint8))[1].tobytes()  # read by content, also as .jpg


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(IMAGE)
    return path


def numbers(low, high):
    return st.floats(low, high, allow_nan=False)


@st.composite
def a_person(draw, occlusion=True, inside=False):
    low, high = (0, 1) if inside else (-0.2, 1.2)
    points = {}
    for name in NAMES:
        code = draw(st.sampled_from((0, 1, 2) if occlusion else (0, 2)))
        if code or (name == "tail" and not points):  # at least one is labeled
            points[name] = (draw(numbers(low, high)) * WIDTH, draw(numbers(low, high)) * HEIGHT, code or 2)
    w, h = draw(numbers(0.05, 0.5)), draw(numbers(0.05, 0.5))
    box = Box(draw(numbers(0, 0.5)) * WIDTH, draw(numbers(0, 0.5)) * HEIGHT, w * WIDTH, h * HEIGHT)
    return Person(points, box)


def crowds(**options):
    """Images of up to three people; somebody is in the first one."""
    return st.lists(st.lists(a_person(**options), max_size=3), max_size=3).flatmap(
        lambda rest: st.lists(a_person(**options), min_size=1, max_size=3).map(lambda first: [first, *rest]))


def same(first, second, digits):
    """Assert that two lists of people are the same, coordinates to `digits` decimals of a pixel."""
    assert [len(people) for people in first] == [len(people) for people in second]
    for one, other in zip(chain(*first), chain(*second), strict=True):
        assert {name: code for name, (_, _, code) in one.points.items()} == \
            {name: code for name, (_, _, code) in other.points.items()}
        np.testing.assert_allclose([other.points[name][:2] for name in one.points],
                                   [xy[:2] for xy in one.points.values()], atol=10.0 ** -digits)
        np.testing.assert_allclose(other.box.as_list(), one.box.as_list(), atol=2 * 10.0 ** -digits)


def read_back(path, tool):
    people, _ = convert(path, path.parent / "back" / "people.json", Options(schema=SCHEMA), read=tool, write="coco")
    records = datasets.read(f"coco:{path.parent / 'back' / 'people.json'}", "all", SCHEMA)
    assert len(records) == people.count
    return people


@pytest.mark.parametrize(("tool", "suffix", "digits"), [("labelstudio", ".json", 6), ("cvat", ".xml", 2)])
@given(crowd=crowds())
@settings(max_examples=25)
def test_people_come_back_from_an_annotation_tool(tool, suffix, digits, crowd):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        people = People(SCHEMA, tuple(LabeledImage(str(write_image(folder / f"a b#{i}.png")), (WIDTH, HEIGHT), tuple(
            of_image)) for i, of_image in enumerate(crowd)))
        path, _ = WRITERS[tool][1](people, folder / f"labels{suffix}")
        found = read_back(path, tool)
        same(crowd, [list(image.people) for image in found.images], digits)
        assert [image.path for image in found.images] == [image.path for image in people.images]
        assert [image.size for image in found.images] == [(WIDTH, HEIGHT)] * len(crowd)
        assert found.schema == SCHEMA and found.category == "person"


@given(crowd=crowds(inside=True))
@settings(max_examples=25)
def test_people_come_back_from_normalized_rows(crowd):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for i, people in enumerate(crowd):
            write_image(folder / "images" / f"{i}.jpg")
            rows = [" ".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in _row(person))
                    for person in people]
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{i}.txt").write_text("\n".join(rows))
        (folder / "data.yaml").write_text(f"train: images\nkpt_shape: [4, 3]\nnames: [person]\n"
                                          f"kpt_names: {{0: [{', '.join(NAMES)}]}}\n")
        same(crowd, [list(image.people) for image in read_back(folder / "data.yaml", "yolo").images], 4)


def _row(person):
    box = person.box
    row = [0, (box.x + box.w / 2) / WIDTH, (box.y + box.h / 2) / HEIGHT, box.w / WIDTH, box.h / HEIGHT]
    for name in NAMES:
        x, y, code = person.points.get(name, (0.0, 0.0, 0))
        row += [x / WIDTH, y / HEIGHT, int(code)]
    return row


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs `posecascade-data convert` in a new folder; returns exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    run = printing(data, capsys)

    def command(*arguments):
        return run("convert", *arguments)

    return command


LINES = [{"image": "a.png", "box": [1, 2, 30, 40], "keypoints": {"nose": [1.5, 2.5, 0.5, 1], "tail": [9, 8, 0.25, 0]}},
         {"image": "a.png", "box": [5, 2, 30, 40], "keypoints": {"nose": [7, 6, 1, 1], "tail": None}}]


def test_predictions_are_corrected_in_label_studio_and_become_data(run, tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert run("predictions.jsonl", "--from=predictions", "--to=labelstudio", "--output=tasks.json") == (
        0, "wrote tasks.json and tasks.interface.xml: 2 people in 1 images, 2 keypoints\n", "")
    [task] = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"] == {"image": "/data/local-files/?d=a.png"}
    [prediction] = task["predictions"]
    assert prediction["score"] == pytest.approx((0.375 + 1) / 2) and len(prediction["result"]) == 2 + 2 * 3
    interface = ET.parse(tmp_path / "tasks.interface.xml").getroot()
    assert [label.get("value") for label in interface.iterfind("KeyPointLabels/Label")] == ["nose", "tail"]
    used = {region.get("from_name", "people") for region in prediction["result"]}
    assert used <= {element.get("name") for element in interface}

    # The annotator accepts it and moves a keypoint: Label Studio exports the result as an annotation.
    nose = next(r for r in prediction["result"] if r["type"] == "keypointlabels")
    nose["value"]["x"] = 50.0
    (tmp_path / "export.json").write_text(json.dumps([task | {"annotations": [
        {"result": prediction["result"], "was_cancelled": False, "ground_truth": False}]}]))
    assert run("export.json", "--from=labelstudio", "--output=people.json")[0] == 0
    records = datasets.read("coco:people.json", "all", find_schema("people.yaml"))
    assert [r.keypoints[0].tolist() for r in records] == [pytest.approx([WIDTH / 2, 2.5]), pytest.approx([7, 6])]
    assert records[1].labeled.tolist() == [True, False] and records[0].image.read().shape == (HEIGHT, WIDTH, 3)


def test_results_with_their_images_go_to_cvat_and_come_back(run, tmp_path):
    write_image(tmp_path / "out" / "a.png")
    result = {"image_id": 7, "category_id": 1, "keypoints": [1, 2, 0.5, 3, 4, 0.5], "score": 0.5}
    (tmp_path / "out" / "results.json").write_text(json.dumps([result, result | {"image_id": 8}]))
    (tmp_path / "out" / "images.json").write_text(json.dumps({
        "images": [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}], "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"], "skeleton": []}]}))
    code, printed, _ = run("out/results.json", "--from=predictions", "--to=cvat", "--output=out/upload.xml")
    assert (code, printed) == (0, "excluded: 1 people in images that are not listed\nwrote out/upload.xml and "
                                  "out/upload.labels.json: 1 people in 1 images, 2 keypoints\n")
    [skeleton, box] = json.loads((tmp_path / "out" / "upload.labels.json").read_text())
    assert [sub["name"] for sub in skeleton["sublabels"]] == ["nose", "tail"] and box["name"] == "person_box"
    assert run("out/upload.xml", "--from=cvat", "--output=people.json")[0] == 0
    [record] = datasets.read("coco:people.json", "all", find_schema("people.yaml"))
    assert record.keypoints.tolist() == [[1, 2], [3, 4]] and record.image.path.is_file()


def test_keypoints_that_were_not_predicted_are_no_labels(run, tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "results.json").write_text(json.dumps([
        coco_results.result(7, np.array([[np.nan, np.nan, 0.9], [50, 40, 0.5]]), 0.7),
        coco_results.result(7, np.full((2, 3), np.nan), 0.7)]))
    (tmp_path / "images.json").write_text(json.dumps({
        "images": [{"id": 7, "file_name": "a.png"}], "categories": [{"keypoints": ["nose", "tail"]}]}))
    assert run("results.json", "--from=predictions", "--output=people.json")[:2] == (
        0, "excluded: 1 people without a predicted keypoint\nwrote people.json and people.yaml: 1 people in 1 images, "
           "2 keypoints\n")
    [person] = json.loads((tmp_path / "people.json").read_text())["annotations"]
    assert person["keypoints"] == [0, 0, 0, 50, 40, 2] and person["bbox"] == [49.5, 39.5, 1, 1]


def test_results_of_a_data_set_have_its_images(run, tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "mine.yaml").write_text("name: mine\nkeypoints: [nose, tail]\n")
    person = {"id": 1, "image_id": 5, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1], "bbox": [1, 2, 9, 9]}
    (tmp_path / "people.json").write_text(json.dumps({
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "b.png"}],
        "annotations": [person, person | {"id": 2, "keypoints": [0] * 6}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"]}]}))
    (tmp_path / "results.json").write_text(json.dumps([
        {"image_id": 5, "category_id": 1, "keypoints": [1, 2, 0.5, 3, 4, 0.5], "score": 0.5}]))
    code, _, errors = run("results.json", "--from=predictions", "--to=cvat", "--output=a.xml", "--schema=mine.yaml")
    assert code == 2 and errors == (
        "posecascade-data: error: results.json: has numbers of images, and there is no images.json next to it; "
        "expected their list. Give the data set of the results, such as --data=coco:people.json\n")
    write_image(tmp_path / "b.png")
    assert run("results.json", "--from=predictions", "--to=cvat", "--output=a.xml", "--schema=mine.yaml",
               "--data=coco:people.json")[0] == 0
    assert [image.get("name") for image in ET.parse(tmp_path / "a.xml").getroot().iterfind("image")] == ["a.png",
                                                                                                        "b.png"]
    code, printed, _ = run("people.json", "--from=coco", "--to=labelstudio", "--output=tasks.json",
                           "--schema=mine.yaml")
    assert code == 0 and printed.startswith("excluded: 1 crowds and people without keypoints\nwrote tasks.json and ")
    first, second = json.loads((tmp_path / "tasks.json").read_text())
    assert [r["type"] for r in first["annotations"][0]["result"]] == ["rectanglelabels", "keypointlabels", "relation",
                                                                     "keypointlabels", "choices", "relation"]
    assert second["annotations"][0]["result"] == []


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "convert: 0 sources are given; expected one file or folder"),
    (("a", "b"), "convert: 2 sources are given; expected one file or folder"),
    (("a.json",), "convert: --from and --output are needed; such as convert export.json --from=labelstudio "
                  "--output=people.json"),
    (("a.json", "--from=labelstudio", "--output=b.xml"),
     "--output=b.xml: expected a file with the suffix .json for coco"),
    (("a.json", "--from=labelstudio", "--output=b.json"), "a.json: does not exist; check the path"),
    (("here.json", "--from=labelstudio", "--output=here.json"),
     "--output=here.json: is the source itself; choose another file"),
    (("lines.jsonl", "--from=predictions", "--to=cvat", "--output=b.xml"),
     "image a.png: its size is unknown, which CVAT needs; expected the file, or width and height in the list. Give the "
     "folder of the images with --images"),
])
def test_wrong_use_is_one_line_with_exit_status_2(run, tmp_path, arguments, message):
    (tmp_path / "here.json").write_text("[]")
    (tmp_path / "lines.jsonl").write_text(json.dumps(LINES[0]))
    assert run(*arguments) == (2, "", f"posecascade-data: error: {message}\n")


def test_source_is_never_replaced_by_the_second_file(tmp_path):
    write_image(tmp_path / "a.png")
    people = People(SCHEMA, (LabeledImage(str(tmp_path / "a.png"), (WIDTH, HEIGHT), (
        Person({"nose": (1, 2, 2)}, Box(0, 0, 9, 9)),)),))
    for name, output in (("a.xml", "a.json"), ("a.interface.xml", "a.json")):
        WRITERS["cvat"][1](people, tmp_path / name)
        before = (tmp_path / name).read_bytes()
        try:
            convert(tmp_path / name, tmp_path / output, Options(), read="cvat", write="labelstudio")
        except InputError as error:
            assert "a.interface.xml, written next to it, is the source; choose another file" in str(error)
        assert (tmp_path / name).read_bytes() == before


def test_image_in_which_nobody_was_predicted_is_no_finished_task(tmp_path):
    images = [LabeledImage(f"{n}.png", (WIDTH, HEIGHT), people) for n, people in enumerate((
        (Person({"nose": (1, 2, 2)}, Box(0, 0, 9, 9), 0.5),), ()))]
    WRITERS["labelstudio"][1](People(SCHEMA, tuple(images)), tmp_path / "a.json")
    second = json.loads((tmp_path / "a.json").read_text())[1]
    assert second["predictions"] == [] and "annotations" not in second


def test_unknown_tools_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"unknown tool 'labelstudios'; did you mean 'labelstudio'\?"):
        convert(tmp_path, tmp_path / "a.json", Options(), read="labelstudios", write="coco")
