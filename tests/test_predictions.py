"""Files of predictions: each layout gives the same keypoints to the right people, or an error of one line."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from posecascade.errors import InputError
from posecascade.evaluation.predictions import read_predictions
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.records import Record
from posecascade.schema import Schema

SCHEMA = Schema("three", ("head", "hand", "foot"))


def record(number, name=None, box=(0, 0, 10, 10)):
    image = ImageFile(Path(name)) if name else None
    return Record(image, f"truth.mat, person {number}", SCHEMA, Box(*box), np.ones((3, 2)), np.full(3, 2))


def records(count):
    return [record(i) for i in range(count)]


@pytest.fixture
def points(rng):
    """Predicted keypoints (4, 3, 2) in pixels counted from 0."""
    return np.round(rng.uniform(-5, 300, (4, 3, 2)), 3)


def write_hdf5(path, name, array):
    with h5py.File(path, "w") as file:
        file[name] = array


WRITERS = {
    ".mat": lambda path, name, array: scipy.io.savemat(path, {name: array}),
    ".h5": write_hdf5,
    ".json": lambda path, name, array: path.write_text(json.dumps({name: array.tolist()})),
}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["N-K-2", "2-K-N"])
@pytest.mark.parametrize("name", ["pred", "preds"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_array_is_read_in_pixels_counted_from_0(tmp_path, points, suffix, name, order):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path, name, (points + 1).transpose(order))
    predictions = read_predictions(path, records(4), first_pixel=1)
    np.testing.assert_allclose(predictions.stages["keypoints"], points, atol=1e-9)
    assert predictions.known.all() and predictions.readable.all() and predictions.missing == 0
    assert predictions.scores is None and predictions.visibility is None


def test_third_value_is_the_score_and_json_may_be_a_bare_list(tmp_path, points):
    path = tmp_path / "a.json"
    scored = np.concatenate([points, np.full((4, 3, 1), 0.25)], axis=-1)
    path.write_text(json.dumps(scored.tolist()))
    predictions = read_predictions(path, records(4))
    np.testing.assert_array_equal(predictions.stages["keypoints"], points)
    np.testing.assert_array_equal(predictions.scores, np.full((4, 3), 0.25))


def test_matlab_7_3_file_is_read_as_hdf5(tmp_path, points):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["pred"] = points  # MATLAB's (2, K, N), whose axes are reversed in HDF5
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    np.testing.assert_array_equal(read_predictions(path, records(4)).stages["keypoints"], points)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["1-K-2", "2-K-without-N"])
def test_single_person_is_read_without_the_axis_that_matlab_drops(tmp_path, points, order):
    scipy.io.savemat(tmp_path / "a.mat", {"pred": points[:1].transpose(order).squeeze()})
    np.testing.assert_array_equal(read_predictions(tmp_path / "a.mat", records(1)).stages["keypoints"], points[:1])


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(image, x, box=None, names=SCHEMA.keypoints):
    """A JSON line with every keypoint at (x, x), score 0.5 and visibility 0.75."""
    return {"image": image, "keypoints": {name: [x, x, 0.5, 0.75] for name in names}} | ({"box": box} if box else {})


def first_x(predictions):
    """The x of each person's first keypoint."""
    return predictions.stages["keypoints"][:, 0, 0].tolist()


def test_lines_are_matched_by_image_name_in_any_folder_and_order(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [line("/elsewhere/b.jpg", 2), line("a.jpg", 1), line("other.jpg", 9)])
    predictions = read_predictions(path, [record(0, "data/images/a.jpg"), record(1, "data/images/b.jpg")])
    assert first_x(predictions) == [1, 2]
    assert (predictions.scores == 0.5).all() and (predictions.visibility == 0.75).all()


def test_equal_image_names_are_matched_by_their_folders(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [line("x/second/a.jpg", 2), line("x/first/a.jpg", 1)])
    assert first_x(read_predictions(path, [record(0, "data/first/a.jpg"), record(1, "data/second/a.jpg")])) == [1, 2]


def test_people_in_one_image_are_matched_by_overlap_of_boxes(tmp_path):
    people = [record(0, "a.jpg", (0, 0, 10, 10)), record(1, "a.jpg", (6, 0, 10, 10)), record(2, "a.jpg", (90, 0, 9, 9))]
    lines = [line("a.jpg", 2, [7, 0, 10, 10]), line("a.jpg", 1, [1, 0, 10, 10]), line("a.jpg", 8, [50, 50, 5, 5])]
    predictions = read_predictions(write_lines(tmp_path / "a.jsonl", lines), people)
    assert first_x(predictions)[:2] == [1, 2]
    assert np.isnan(first_x(predictions)[2]) and predictions.missing == 1  # no box overlaps the third person's


def test_people_without_boxes_are_matched_by_order_if_the_count_is_equal(tmp_path):
    people = [record(0, "a.jpg"), record(1, "a.jpg")]
    path = write_lines(tmp_path / "a.jsonl", [line("a.jpg", 1), line("a.jpg", 2)])
    assert first_x(read_predictions(path, people)) == [1, 2]
    write_lines(path, [line("a.jpg", 1)])
    with pytest.raises(InputError) as error:
        read_predictions(path, people)
    assert str(error.value) == f"{path}: has 1 lines for 'a.jpg', where the data has 2 people; add a 'box' to each line"


def test_people_without_images_are_matched_by_order_if_the_count_is_equal(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [line("im1.jpg", 1), line("im2.jpg", 2)])
    assert first_x(read_predictions(path, records(2))) == [1, 2]
    with pytest.raises(InputError) as error:
        read_predictions(path, records(3))
    assert str(error.value) == (f"{path}: has 2 lines; expected 3, one per person of this split in its order, because "
                                "the data has no images to match by")


def test_keypoints_are_matched_by_name_absent_ones_are_unknown_and_null_is_a_miss(tmp_path):
    lines = [line("a", 1, names=("foot", "tail")), line("b", 2, names=("hand", "foot"))]
    lines[1]["keypoints"]["foot"] = None
    predictions = read_predictions(write_lines(tmp_path / "a.jsonl", lines), records(2))
    assert predictions.known.tolist() == [False, True, True]
    np.testing.assert_array_equal(np.isfinite(predictions.stages["keypoints"]).all(-1),
                                  [[False, False, True], [False, True, False]])


def test_keypoints_of_two_numbers_have_no_scores(tmp_path):
    lines = [{"image": "a", "keypoints": {"head": [3, 4]}}]
    predictions = read_predictions(write_lines(tmp_path / "a.jsonl", lines), records(1))
    assert predictions.scores is None and predictions.visibility is None
    assert predictions.stages["keypoints"][0, 0].tolist() == [3, 4]


LINE = ', line 1: expected {"image": PATH, "box": [x, y, w, h], "keypoints": {NAME: [x, y, score, visibility]}}. ' \
       "Fix the line"


@pytest.mark.parametrize("text, message", [
    ("{", ", line 1: is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); fix or "
          "remove the line"),
    ("[]", LINE),
    ('{"image": "a", "keypoints": {"head": [1]}}',
     ", line 1: keypoint 'head' is [1]; expected [x, y, score, visibility]. Fix the line"),
    ('{"image": "a", "keypoints": {"head": ["1", 2]}}',
     ", line 1: keypoint 'head' is ['1', 2]; expected [x, y, score, visibility]. Fix the line"),
    ('{"image": "a", "keypoints": {"head": [1, 2]}, "box": [0, 0, 0, 5]}',
     ", line 1: 'box' is [0, 0, 0, 5]; expected [x, y, w, h] with w, h > 0. Fix the line"),
    ('{"image": "a", "keypoints": {"nose": [1, 2]}}',
     ": has nose; expected keypoints of schema 'three', such as 'head'"),
    ("", ": has no keypoints; expected keypoints of schema 'three', such as 'head'"),
    ('{"image": "z.jpg", "keypoints": {"head": [1, 2]}}',
     ": none of its 1 images (the first: 'z.jpg') is in the data (the first: 'a.jpg'); choose another --data or "
     "--split"),
])
def test_invalid_json_line_is_refused(tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_predictions(path, [record(0, "a.jpg")])
    assert str(error.value) == f"{path}{message}"


def test_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=r"is not UTF-8 text \(invalid start byte at byte 0\); expected JSON lines$"):
        read_predictions(tmp_path / "a.jsonl", records(1))


@pytest.mark.parametrize("suffix", WRITERS)
def test_wrong_shape_wrong_name_and_damage_are_refused(tmp_path, points, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path, "preds", points)
    with pytest.raises(InputError, match=r"shape \(4, 3, 2\); expected numbers of shape \(5, 3, 2\) or \(2, 3, 5\), "
                                         r"for 5 people of this split and 3 keypoints of three\. "):
        read_predictions(path, records(5))
    WRITERS[suffix](path, "guess", points)
    with pytest.raises(InputError) as error:
        read_predictions(path, records(4))
    assert str(error.value) == f"{path}: contains guess; expected 'pred' or 'preds'. Rename the array of predictions"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"a.*: is (no|not) "):
        read_predictions(path, records(4))
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(path, records(4))


def test_ambiguous_shape_is_refused(tmp_path, points):
    scipy.io.savemat(tmp_path / "a.mat", {"pred": points[:2]})
    with pytest.raises(InputError, match=r"shape \(2, 3, 2\) is ambiguous: the axes of people and of coordinates "
                                         r"cannot be distinguished. Write JSON lines$"):
        read_predictions(tmp_path / "a.mat", records(2))


def test_arrays_without_numbers_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('[[["x", 2], [1, 2], [1, 2]]]')
    with pytest.raises(InputError, match="is not a regular array of numbers; expected"):
        read_predictions(tmp_path / "a.json", records(1))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("pred")
    with pytest.raises(InputError, match="expected numbers of shape"):
        read_predictions(tmp_path / "a.h5", records(1))


def test_unknown_suffix_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(InputError, match=r"unknown suffix '.jsonlines'; did you mean '.jsonl'"):
        read_predictions(tmp_path / "a.jsonlines", records(1))
