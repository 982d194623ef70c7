"""Damaged files of other tools are read or refused in one line, whatever is wrong with them."""

import copy
import csv
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exchange import CVAT, keypoint, rectangle, region, shape, task
from test_exchange_tables import ANALYSIS, SINGLE, SPLIT

from posecascade.errors import InputError
from posecascade.evaluation.coco_results import read_detections
from posecascade.exchange import Options, convert

WRONG = (None, True, 0, -1, 1e308, float("nan"), "", "x", [], [1], ["a", []], {}, {"a": 1}, [[[1]]])
LABEL_STUDIO = [task(1, "a.jpg", rectangle("r", "P", 0, 0, 9, 9), keypoint("k", "Nose", 1, 1, parentID="r"),
                     region("k", "choices", {"choices": ["occluded"]}),
                     {"from_id": "k", "to_id": "r", "type": "relation", "direction": "right"})]
LABELME = {"version": "5.5.0", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": 9, "imageWidth": 9,
           "shapes": [shape("nose", "point", [[1, 2]], 1, occluded=True), shape("p", "rectangle", [[0, 0], [5, 5]], 1)]}
IMAGES = {"images": [{"id": 7, "file_name": "a.png", "width": 9, "height": 9}], "annotations": [],
          "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"], "skeleton": []}]}
RESULTS = [{"image_id": 7, "category_id": 1, "keypoints": [1, 2, 0.5, 3, 4, 0.5], "bbox": [1, 2, 3, 4], "score": 0.5}]
LINES = [{"image": "a.png", "box": [1, 2, 3, 4], "keypoints": {"nose": [1, 2, 0.5, 1], "tail": None}}]
YOLO = {"path": ".", "train": "images", "val": ["images"], "kpt_shape": [1, 3], "names": {0: "person"},
        "kpt_names": {0: ["nose"]}}


def places(value, path=()):
    """Every path into a value of JSON, the value itself included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@st.composite
def damaged(draw, value):
    """The value with something wrong in one or two places, or something missing."""
    value = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from([path for path in places(value) if path]))
        inner = value
        for key in path:
            inner = inner[key]
        if draw(st.booleans()) or len(path) == 0:
            inner[last] = copy.deepcopy(draw(st.sampled_from(WRONG)))
        else:
            del inner[last]
    return value[0] if value else None


def read_or_refuse(write, name, tool, **options):
    """Convert the file that `write` makes; anything else than an InputError fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        try:
            convert(Path(folder) / name, Path(folder) / "out.json", Options(**options), read=tool, write="coco")
        except InputError as error:
            assert str(error)


def json_file(name, value):
    return lambda folder: (folder / name).write_text(json.dumps(value))


@pytest.mark.parametrize(("tool", "value"), [("labelstudio", LABEL_STUDIO), ("labelme", LABELME)])
@given(data=st.data())
@settings(max_examples=150)
def test_damaged_json_is_read_or_refused(tool, value, data):
    read_or_refuse(json_file("a.json", data.draw(damaged(value))), "a.json", tool)


@given(results=damaged(RESULTS), images=damaged(IMAGES), which=st.integers(0, 2))
@settings(max_examples=200)
def test_damaged_results_are_read_or_refused(results, images, which):
    def write(folder):
        json_file("a.json", results if which else RESULTS)(folder)
        json_file("images.json", images if which != 1 else IMAGES)(folder)

    read_or_refuse(write, "a.json", "predictions")


@given(line=damaged(LINES[0]))
def test_damaged_lines_are_read_or_refused(line):
    read_or_refuse(json_file("a.jsonl", line), "a.jsonl", "predictions")


@given(content=damaged(RESULTS))
def test_damaged_detections_are_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        json_file("a.json", content)(Path(folder))
        try:
            read_detections(Path(folder) / "a.json")
        except InputError as error:
            assert str(error)


@given(content=damaged(YOLO))
def test_damaged_data_yaml_is_read_or_refused(content):
    def write(folder):
        (folder / "images").mkdir()
        (folder / "images" / "a.png").write_bytes(b"")
        (folder / "images" / "a.txt").write_text("0 0.5 0.5 0.2 0.2 0.5 0.5 2")
        (folder / "data.yaml").write_text(json.dumps(content).replace('"0":', "0:"))

    read_or_refuse(write, "data.yaml", "yolo")


@given(cut=st.integers(0, len(CVAT)), length=st.integers(0, 40), text=st.sampled_from(["", "x", "-1", "&a;", "<a/>"]))
@settings(max_examples=150)
def test_damaged_xml_is_read_or_refused(cut, length, text):
    damage = CVAT[:cut] + text + CVAT[cut + length:]
    read_or_refuse(lambda folder: (folder / "a.xml").write_text(damage), "a.xml", "cvat")


@pytest.mark.parametrize(("tool", "table"), [("deeplabcut", SINGLE), ("deeplabcut", SPLIT), ("sleap", ANALYSIS)])
@given(cut=st.integers(0, 120), length=st.integers(0, 20), text=st.sampled_from(["", ",", "\n", '"', "1e999", ",,"]))
@settings(max_examples=60)
def test_damaged_tables_are_read_or_refused(tool, table, cut, length, text):
    def write(folder):
        (folder / "frame_3.png").write_bytes(b"")
        (folder / "a.csv").write_text(table[:cut] + text + table[cut + length:])
        options["images"] = folder

    options = {"images": Path()}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        try:
            convert(Path(folder) / "a.csv", Path(folder) / "out.json", Options(**options), read=tool, write="coco")
        except InputError as error:
            assert str(error)


def test_cell_beyond_the_limit_of_csv_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(SINGLE + "x" * (csv.field_size_limit() + 1))
    for tool in ("deeplabcut", "sleap"):
        with pytest.raises(InputError, match=r"a\.csv: "):
            convert(tmp_path / "a.csv", tmp_path / "o.json", Options(images=tmp_path), read=tool, write="coco")


@pytest.mark.parametrize("tool", ["deeplabcut", "sleap"])
@given(data=st.data())
@settings(max_examples=60)
def test_damaged_hdf5_is_read_or_refused(tool, data):
    values = data.draw(st.sampled_from([np.zeros(()), np.zeros((0, 2)), np.zeros((1, 2, 1, 1)), np.zeros((1, 1, 1, 2)),
                                        np.array([b"a"]), np.array([[-1, 99]]), np.zeros((1, 2))]))
    names = data.draw(st.sampled_from(["tracks", "node_names", "edge_names", "block0_values", "axis0_level0",
                                       "axis0_label0", "axis0_label2", "axis1"]))
    dims = data.draw(st.sampled_from([None, "[]", "x", '["frame", 1, [], {}]', '["frame", "xy", "node", "track"]']))

    def write(folder):
        with h5py.File(folder / "a.h5", "w") as file:
            file["tracks"], file["node_names"] = np.zeros((1, 2, 1, 1)), np.array([b"nose"])
            group = file.create_group("df_with_missing")
            group.attrs["pandas_type"], group.attrs["axis0_nlevels"] = np.bytes_("frame"), 3
            for level, text in enumerate((b"ann", b"nose", b"x")):
                group[f"axis0_level{level}"], group[f"axis0_label{level}"] = np.array([text]), np.array([0], np.int8)
            group["axis1"], group["block0_values"] = np.array([b"a.png"]), np.zeros((1, 1))
            target = file if names in file else group
            if names in target:
                del target[names]
            target[names] = values
            if dims:
                file["tracks"].attrs["dims"] = dims

    read_or_refuse(write, "a.h5", tool, images=Path(tempfile.gettempdir()) / "nowhere")
