"""Data sets of YOLO pose models become the same people in COCO's layout."""

import pytest
import yaml
from exchange_files import converted, points, refused, write_image

from posecascade.schema import find_schema


@pytest.fixture
def yolo(tmp_path):
    """A data set in the layout of coco8-pose, of two keypoints."""
    root = tmp_path / "pose"
    for split, number in (("train", 1), ("train", 2), ("val", 3)):
        write_image(root / "images" / split / f"{number}.jpg")
    for split in ("train", "val"):
        (root / "labels" / split).mkdir(parents=True)
    (root / "labels" / "train" / "1.txt").write_text("0 0.5 0.5 0.25 0.5 0.5 0.25 2 0.75 0.5 1\n"
                                                     "0 0.5 0.5 0.25 0.5 0.125 0.5 2 0 0 0\n")
    (root / "labels" / "val" / "3.txt").write_text("0 0.5 0.5 0.2 0.2 0.5 1.0 2 0.5 0.5 2\n")
    (root / "data.yaml").write_text(yaml.safe_dump({
        "path": "../datasets/pose", "train": "images/train", "val": "images/val", "test": None, "kpt_shape": [2, 3],
        "flip_idx": [0, 1], "names": {0: "person"}}))
    (tmp_path / "mine.yaml").write_text("name: mine\nkeypoints: [nose, tail]\n")
    return root


def test_yolo_rows_are_people_in_pixels(tmp_path, yolo):
    schema = find_schema(str(tmp_path / "mine.yaml"))
    records, excluded, content = converted(tmp_path, yolo, "yolo", schema=schema)
    assert [points(record) for record in records] == [
        [("nose", 100, 25, 2), ("tail", 150, 50, 1)], [("nose", 25, 50, 2)],
        [("nose", 100, 100, 2), ("tail", 100, 50, 2)]]
    assert records[0].box.as_list() == [75, 25, 50, 50] and excluded == {"images without a label file": 1}
    assert [image["file_name"] for image in content["images"]] == [f"pose/images/{name}" for name in
                                                                   ("train/1.jpg", "train/2.jpg", "val/3.jpg")]


def test_yolo_without_flags_takes_0_0_as_unlabeled_and_names_of_the_file(tmp_path, yolo):
    (yolo / "labels" / "train" / "1.txt").write_text("0 0.5 0.5 0.25 0.5 0.5 0.25 0 0\n")
    (yolo / "labels" / "val" / "3.txt").write_text("1 0.5 0.5 0.25 0.5 0.5 0.25 0.5 0\n")
    content = yaml.safe_load((yolo / "data.yaml").read_text())
    (yolo / "data.yaml").write_text(yaml.safe_dump(content | {
        "kpt_shape": [2, 2], "names": ["person", "dog"], "kpt_names": {0: ["Nose", "Tail"]}}))
    records, excluded, _ = converted(tmp_path, yolo / "data.yaml", "yolo", category="person")
    assert [points(record) for record in records] == [[("nose", 100, 25, 2)]]
    assert excluded == {"rows of class dog": 1, "images without a label file": 1}


def test_labels_of_a_linked_image_are_those_of_the_link(tmp_path, yolo):
    image = yolo / "images" / "train" / "1.jpg"
    (tmp_path / "store").mkdir()
    image.rename(tmp_path / "store" / "x.jpg")
    image.symlink_to(tmp_path / "store" / "x.jpg")
    records, _, _ = converted(tmp_path, yolo, "yolo", schema=find_schema(str(tmp_path / "mine.yaml")))
    assert len(records) == 3


@pytest.mark.parametrize(("row", "message"), [
    ("0 100 50 50 50 100 25 2 150 50 1", "labels/train/1.txt, line 1: holds 100; expected numbers from 0 to 1, shares "
                                         "of the image's sides. Divide pixels by them"),
    ("0 0.5 0.5 0.2 0.2 0.5 0.5 2", "line 1: has 8 numbers; expected 11 (class, box, keypoints). Fix the line, or "
                                    "kpt_shape"),
    ("4 0.5 0.5 0.2 0.2 0.5 0.5 2 0.5 0.5 2", "line 1: class 4 is not among the names (0); fix the line"),
    ("0 0.5 0.5 0.2 0.2 0.5 0.5 3 0.5 0.5 2", "line 1: the flag of nose is 3; expected 0 (unlabeled), 1 (occluded) or "
                                              "2 (visible). Fix the line"),
    ("0 0.5 0.5 0.2 0.2 0.5 nan 2 0.5 0.5 2", "line 1: 'nan' is 'nan'; expected a finite number. Fix the file"),
])
def test_yolo_refuses_wrong_rows(tmp_path, yolo, row, message):
    (yolo / "labels" / "train" / "1.txt").write_text(row + "\n")
    assert message in refused(yolo, "yolo", tmp_path, schema=find_schema(str(tmp_path / "mine.yaml")))


def test_yolo_needs_names_of_its_keypoints(tmp_path, yolo):
    assert refused(yolo, "yolo", tmp_path) == (
        "DIR/pose/data.yaml: kpt_shape says 2 keypoints, and there are no names; pass --schema with their names in "
        "order, such as --schema=coco17")
