"""Requests from JSON lines, answers as JSON lines and CSV, and evaluation of written answers."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from posecascade.errors import InputError
from posecascade.evaluation.predictions import read_predictions
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.poses_io import PoseWriter, Request, answer, box_from, requests
from posecascade.records import Record
from posecascade.schema import LSP14


@dataclass(frozen=True)
class ToyPose:
    table: np.ndarray
    box: Box

    def as_dict(self):
        return {name: row.tolist() for name, row in zip(LSP14.keypoints, self.table, strict=True)}


def read(*lines, folder=Path("/elsewhere")):
    return list(requests(lines, "people.jsonl", folder))


def test_lines_become_requests_and_blank_lines_are_skipped():
    found = read('{"image": "/a/b.jpg", "box": [1, 2.5, 3, 4]}\n', "\n", '{"image": "/a/c.jpg"}', "  ",
                 '{"image": "/d.png", "box": null, "keypoints": {}}')
    assert found == [Request("/a/b.jpg", Path("/a/b.jpg"), Box(1, 2.5, 3, 4), "people.jsonl, line 1"),
                     Request("/a/c.jpg", Path("/a/c.jpg"), None, "people.jsonl, line 3"),
                     Request("/d.png", Path("/d.png"), None, "people.jsonl, line 5")]


def test_relative_path_is_in_the_working_folder_or_in_that_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "only_there.jpg").touch()
    for folder in (tmp_path, tmp_path / "data"):
        (folder / "both.jpg").touch()
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"image": name}) for name in ("both.jpg", "only_there.jpg", "none.jpg")]
    found = read(*lines, folder=Path("data"))
    assert [r.path for r in found] == [Path("both.jpg"), Path("data/only_there.jpg"), Path("data/none.jpg")]
    assert [r.image for r in found] == ["both.jpg", "only_there.jpg", "none.jpg"]


@pytest.mark.parametrize(("line", "problem"), [
    ('{"image": "a.jpg"', "is not JSON"), ("[1]", "expected {\"image\": PATH"), ('{"box": [1, 2, 3, 4]}', "expected {"),
    ('{"image": 3}', "expected {"), ('{"image": ""}', "expected {"),
    ('{"image": "a.jpg", "box": [1, 2, 0, 4]}', r"box \[1, 2, 0, 4\]: expected \[x, y, w, h\] in pixels with w, h > 0"),
    ('{"image": "a.jpg", "box": [1, 2, -3, 4]}', "box .*w, h > 0"), ('{"image": "a.jpg", "box": [1, 2, 3]}', "box "),
    ('{"image": "a.jpg", "box": [1, 2, 3, NaN]}', "box "), ('{"image": "a.jpg", "box": "1234"}', "box '1234'"),
    ('{"image": "a.jpg", "box": {"x": 1}}', "box "), ('{"image": "a.jpg", "box": [0, 0, 1e99, 1]}', "beyond 1e")])
def test_malformed_line_is_reported_and_the_others_are_read(line, problem):
    first, wrong, last = read('{"image": "/a.jpg"}', line, '{"image": "/b.jpg"}')
    assert isinstance(wrong, InputError) and str(wrong).startswith("people.jsonl, line 2: ")
    with pytest.raises(InputError, match=problem):
        raise wrong
    assert (first.image, last.image) == ("/a.jpg", "/b.jpg")


def test_boxes_are_made_from_lists_arrays_and_boxes():
    assert box_from(None) is None
    assert box_from(np.array([1, 2, 3, 4])) == box_from((1.0, 2, 3, 4)) == box_from(Box(1, 2, 3, 4)) == Box(1, 2, 3, 4)


@pytest.fixture
def written(rng):
    """Return two poses, their answers, and the texts of both files."""
    poses = [ToyPose(np.column_stack([rng.uniform(-50, 900, (14, 2)), rng.random((14, 2))]), Box(1 / 3, 2, 3, 4))
             for _ in range(2)]
    lines, table = io.StringIO(), io.StringIO()
    writer = PoseWriter(lines, table, LSP14.keypoints)
    answers = [answer('a "b",\n.jpg', poses[0], Box(1.23456, 2, 3, 4)), answer("c.jpg", poses[1])]
    for each in answers:
        writer.write(each)
    return poses, answers, lines.getvalue(), table.getvalue()


def test_answer_has_three_keys_and_keypoints_by_name(written):
    poses, _, lines, _ = written
    first, second = map(json.loads, lines.splitlines())
    assert list(first) == list(second) == ["image", "box", "keypoints"]
    assert first["image"] == 'a "b",\n.jpg' and first["box"] == [1.23456, 2, 3, 4]  # the given box
    assert second["box"] == [0.333, 2, 3, 4]  # the used box
    assert tuple(first["keypoints"]) == LSP14.keypoints
    for line, pose in ((first, poses[0]), (second, poses[1])):
        found = np.array(list(line["keypoints"].values()))
        np.testing.assert_allclose(found[:, :2], pose.table[:, :2], atol=5.1e-4)
        np.testing.assert_allclose(found[:, 2:], pose.table[:, 2:], atol=5.1e-5)


def test_table_has_the_same_values(written):
    _, answers, _, table = written
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 2
    for row, line in zip(rows, answers, strict=True):
        assert row["image"] == line["image"]
        assert [float(row[f"box_{side}"]) for side in "xywh"] == line["box"]
        for name, values in line["keypoints"].items():
            assert [float(row[f"{name}_{of}"]) for of in ("x", "y", "score", "visibility")] == values


def test_evaluation_reads_written_predictions(written, tmp_path):
    poses, answers, _, _ = written
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(a | {"image": f"{i}.jpg"}) + "\n"
                                                        for i, a in enumerate(answers)))
    records = [Record(ImageFile(Path(f"/data/{i}.jpg")), str(i), LSP14, Box(0, 0, 9, 9), np.zeros((14, 2)),
                      np.full(14, 2)) for i in (1, 0)]
    found = read_predictions(tmp_path / "predictions.jsonl", records)
    for points, pose in zip(found.stages["keypoints"], poses[::-1], strict=True):
        np.testing.assert_allclose(points, pose.table[:, :2], atol=5.1e-4)
