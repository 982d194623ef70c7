"""Predictions files of others: every layout gives the same joints to the right people, or one clear line."""

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
    """(4, 3, 2): what everybody predicted, as counted from 0."""
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
def test_every_array_gives_its_joints_counted_from_0(tmp_path, points, suffix, name, order):
    path = tmp_path / f"found{suffix}"
    WRITERS[suffix](path, name, (points + 1).transpose(order))
    found = read_predictions(path, records(4), first_pixel=1)
    np.testing.assert_allclose(found.stages["keypoints"], points, atol=1e-9)
    assert found.known.all() and found.readable.all() and found.missing == 0
    assert found.scores is None and found.visibility is None


def test_a_third_value_of_an_array_is_the_score_and_a_bare_json_list_is_an_array(tmp_path, points):
    path = tmp_path / "found.json"
    scored = np.concatenate([points, np.full((4, 3, 1), 0.25)], axis=-1)
    path.write_text(json.dumps(scored.tolist()))
    found = read_predictions(path, records(4))
    np.testing.assert_array_equal(found.stages["keypoints"], points)
    np.testing.assert_array_equal(found.scores, np.full((4, 3), 0.25))


def test_a_matlab_file_of_version_7_3_is_read_as_the_hdf5_file_it_is(tmp_path, points):
    path = tmp_path / "found.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["pred"] = points  # MATLAB's (2, K, N), whose axes HDF5 shows reversed
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    np.testing.assert_array_equal(read_predictions(path, records(4)).stages["keypoints"], points)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["1-K-2", "2-K-without-N"])
def test_a_single_person_has_the_axis_that_matlab_drops(tmp_path, points, order):
    scipy.io.savemat(tmp_path / "found.mat", {"pred": points[:1].transpose(order).squeeze()})
    np.testing.assert_array_equal(read_predictions(tmp_path / "found.mat", records(1)).stages["keypoints"], points[:1])


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(image, x, box=None, names=SCHEMA.keypoints):
    """Every joint at (x, x), score 0.5, visibility 0.75."""
    return {"image": image, "keypoints": {name: [x, x, 0.5, 0.75] for name in names}} | ({"box": box} if box else {})


def places(found):
    return found.stages["keypoints"][:, 0, 0].tolist()


def test_lines_go_to_the_people_of_their_picture_by_name_whatever_the_folder_and_order(tmp_path):
    path = write_lines(tmp_path / "found.jsonl", [line("/elsewhere/b.jpg", 2), line("a.jpg", 1), line("other.jpg", 9)])
    found = read_predictions(path, [record(0, "data/images/a.jpg"), record(1, "data/images/b.jpg")])
    assert places(found) == [1, 2]
    assert (found.scores == 0.5).all() and (found.visibility == 0.75).all()


def test_equal_names_are_told_apart_by_their_folders(tmp_path):
    path = write_lines(tmp_path / "found.jsonl", [line("x/second/a.jpg", 2), line("x/first/a.jpg", 1)])
    assert places(read_predictions(path, [record(0, "data/first/a.jpg"), record(1, "data/second/a.jpg")])) == [1, 2]


def test_several_people_of_one_picture_go_by_the_overlap_of_boxes(tmp_path):
    people = [record(0, "a.jpg", (0, 0, 10, 10)), record(1, "a.jpg", (6, 0, 10, 10)), record(2, "a.jpg", (90, 0, 9, 9))]
    lines = [line("a.jpg", 2, [7, 0, 10, 10]), line("a.jpg", 1, [1, 0, 10, 10]), line("a.jpg", 8, [50, 50, 5, 5])]
    found = read_predictions(write_lines(tmp_path / "found.jsonl", lines), people)
    assert places(found)[:2] == [1, 2]
    assert np.isnan(places(found)[2]) and found.missing == 1  # no box overlaps the third person's


def test_without_boxes_they_go_in_order_if_there_are_as_many(tmp_path):
    people = [record(0, "a.jpg"), record(1, "a.jpg")]
    path = write_lines(tmp_path / "found.jsonl", [line("a.jpg", 1), line("a.jpg", 2)])
    assert places(read_predictions(path, people)) == [1, 2]
    write_lines(path, [line("a.jpg", 1)])
    with pytest.raises(InputError, match=r"has 1 lines for 'a.jpg', the data 2 people there; give each line its 'box'"):
        read_predictions(path, people)


def test_without_pictures_they_go_in_order_if_there_are_as_many(tmp_path):
    path = write_lines(tmp_path / "found.jsonl", [line("im1.jpg", 1), line("im2.jpg", 2)])
    assert places(read_predictions(path, records(2))) == [1, 2]
    with pytest.raises(InputError, match="has 2 lines, the data 3 people and no pictures to match by"):
        read_predictions(path, records(3))


def test_joints_go_by_name_those_that_no_line_has_are_unknown_and_a_null_is_a_miss(tmp_path):
    lines = [line("a", 1, names=("foot", "tail")), line("b", 2, names=("hand", "foot"))]
    lines[1]["keypoints"]["foot"] = None
    found = read_predictions(write_lines(tmp_path / "found.jsonl", lines), records(2))
    assert found.known.tolist() == [False, True, True]
    np.testing.assert_array_equal(np.isfinite(found.stages["keypoints"]).all(-1),
                                  [[False, False, True], [False, True, False]])


def test_two_numbers_are_enough_and_then_there_are_no_scores(tmp_path):
    lines = [{"image": "a", "keypoints": {"head": [3, 4]}}]
    found = read_predictions(write_lines(tmp_path / "found.jsonl", lines), records(1))
    assert found.scores is None and found.visibility is None
    assert found.stages["keypoints"][0, 0].tolist() == [3, 4]


@pytest.mark.parametrize("text, message", [
    ("{", "line 1: is no JSON"),
    ("[]", r"line 1: expected {\"image\": PATH"),
    ('{"image": "a", "keypoints": {"head": [1]}}', r"line 1: joint 'head' holds \[1\], expected \[x, y, score"),
    ('{"image": "a", "keypoints": {"head": ["1", 2]}}', "line 1: joint 'head' holds"),
    ('{"image": "a", "keypoints": {"head": [1, 2]}, "box": [0, 0, 0, 5]}', "line 1: 'box' holds"),
    ('{"image": "a", "keypoints": {"nose": [1, 2]}}', "names none of the joints of schema 'three'.*'head'"),
    ("", r"names none of the joints .*found no joint"),
    ('{"image": "z.jpg", "keypoints": {"head": [1, 2]}}',
     "none of its 1 pictures .the first: 'z.jpg'. is in the data .the first: 'a.jpg'"),
])
def test_a_wrong_line_is_named(tmp_path, text, message):
    path = tmp_path / "found.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_predictions(path, [record(0, "a.jpg")])


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "found.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        read_predictions(tmp_path / "found.jsonl", records(1))


@pytest.mark.parametrize("suffix", WRITERS)
def test_wrong_shapes_names_and_damage_are_told_in_one_line(tmp_path, points, suffix):
    path = tmp_path / f"found{suffix}"
    WRITERS[suffix](path, "preds", points)
    with pytest.raises(InputError, match=r"shape \(4, 3, 2\), expected numbers of shape \(5, 3, 2\) or \(2, 3, 5\)"):
        read_predictions(path, records(5))
    WRITERS[suffix](path, "guess", points)
    with pytest.raises(InputError, match="has neither 'pred' nor 'preds', found guess"):
        read_predictions(path, records(4))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="is no whole"):
        read_predictions(path, records(4))
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(path, records(4))


def test_a_shape_that_fits_two_ways_is_refused(tmp_path, points):
    scipy.io.savemat(tmp_path / "found.mat", {"pred": points[:2]})
    with pytest.raises(InputError, match=r"shape \(2, 3, 2\) does not tell people from coordinates"):
        read_predictions(tmp_path / "found.mat", records(2))


def test_arrays_that_hold_no_numbers_are_refused(tmp_path):
    (tmp_path / "found.json").write_text('[{"image_id": 1, "keypoints": [1, 2, 3]}]')
    with pytest.raises(InputError, match="holds no regular array of numbers"):
        read_predictions(tmp_path / "found.json", records(1))
    with h5py.File(tmp_path / "found.h5", "w") as file:
        file.create_group("pred")
    with pytest.raises(InputError, match="expected numbers of shape"):
        read_predictions(tmp_path / "found.h5", records(1))


def test_an_unknown_suffix_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"unknown suffix '.jsonlines'; did you mean '.jsonl'"):
        read_predictions(tmp_path / "found.jsonlines", records(1))
