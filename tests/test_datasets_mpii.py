"""The readers of MPII: the official release, HRNet's lists and the validation split, with their irregularities."""

import json

import h5py
import numpy as np
import pytest
import scipy.io
from annotations import write_json

from posecascade.datasets import FIRST_PIXEL, SPLITS, read
from posecascade.errors import InputError
from posecascade.records import Visibility
from posecascade.schema import MPII16


def struct_array(entries):
    """Return a MATLAB struct array: every entry gets every field, empty if it has none."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    array = np.zeros((1, len(entries)), [(name, object) for name in names])
    for i, entry in enumerate(entries):
        for name in names:
            array[name][0, i] = entry.get(name, np.zeros((0, 0)))
    return array


def point(index, x, y, **fields):
    return {"x": x, "y": y, "id": index, **fields}


def write_release(path, images, **fields):
    """Write a release of `images`, [(name, [rect, ...], training, single_person)]; a rect may have "points"."""
    annolist = []
    for name, rects, *_ in images:
        entry = {"image": {"name": name}}
        if rects:
            entry["annorect"] = struct_array([
                {key: value for key, value in rect.items() if key != "points"}
                | ({"annopoints": {"point": struct_array(rect["points"])}} if rect.get("points") else {})
                for rect in rects])
        annolist.append(entry)
    singles = np.empty((len(images), 1), object)
    for i, image in enumerate(images):
        singles[i, 0] = np.array(image[3], np.uint8)
    release = {"annolist": struct_array(annolist), "img_train": np.array([[image[2] for image in images]], np.uint8),
               "single_person": singles, **fields}
    scipy.io.savemat(path, {"RELEASE": release})
    return path


HEAD = {"x1": 10.0, "y1": 10.0, "x2": 40.0, "y2": 50.0}


@pytest.fixture
def mpii_root(tmp_path):
    """Write a release with each irregularity of the real one, and return its folder."""
    rect = {**HEAD, "scale": 1.5, "objpos": {"x": 50.0, "y": 60.0}}
    points = [point(0, 11.0, 21.0, is_visible=0), point(9, 31.5, 41.5), point(15, 51, 61, is_visible="1"),
              point(10, 71.0, 81.0, is_visible="0"), point(6, np.zeros((0, 0)), 1.0, is_visible=1)]
    write_release(tmp_path / "mpii_human_pose_v1_u12_1.mat", [
        ("several.jpg", [rect | {"points": points}, HEAD | {"points": [point(2, 5, 6)]}, HEAD], 1, [1, 3]),
        ("unannotated.jpg", [], 1, []),
        ("test.jpg", [rect | {"points": points}], 0, [1]),
        ("scalar.jpg", [{"points": [point(3, 7.0, 8.0, is_visible=1)]}], 1, 1),
        ("empty_scale.jpg", [HEAD | {"scale": [], "points": [point(1, 9, 9, is_visible=[])]}], 1, [1]),
    ])
    return tmp_path


def test_official_release_is_read_with_its_irregularities(mpii_root):
    records = read(f"mpii:{mpii_root}", "all")
    assert [r.image.path for r in records] == [mpii_root / "images" / f"{name}.jpg"
                                               for name in ("several", "scalar", "empty_scale")]
    first, scalar, empty = records
    assert first.schema == MPII16
    assert np.flatnonzero(first.labeled).tolist() == [0, 9, 10, 15]
    assert first.visibility[[0, 9, 10, 15]].tolist() == [1, 2, 1, 2]
    np.testing.assert_array_equal(first.keypoints[[0, 9, 15]], [[10, 20], [30.5, 40.5], [50, 60]])  # counted from 0
    assert first.head_size == pytest.approx(0.6 * 50)  # a 30 x 40 box
    assert first.box.as_list() == [10, 20, 60, 60]
    assert first.square.center == (49, 59 + 15 * 1.5)  # objpos, shifted down as in all MPII code
    assert first.square.side == pytest.approx(1.25 * 200 * 1.5)
    assert scalar.square is None and empty.square is None
    assert (scalar.head_size, scalar.box.w) == (None, 1.0)  # one keypoint: the minimum box
    assert empty.visibility[1] == Visibility.VISIBLE
    assert "annolist" not in first.origin
    assert "several.jpg, person 1" in first.origin


@pytest.mark.parametrize("list_file", ["valid_images.txt", "annot/valid.json"])
def test_list_of_validation_images_splits_the_release(mpii_root, list_file):
    path = mpii_root / list_file
    path.parent.mkdir(exist_ok=True)
    path.write_text("scalar.jpg\n\nelsewhere.jpg\n" if path.suffix == ".txt" else json.dumps([{"image": "scalar.jpg"}]))
    names = {split: [r.image.path.stem for r in read(f"mpii:{mpii_root}", split)] for split in SPLITS}
    assert names["val"] == names["test"] == ["scalar"]
    assert names["train"] == ["several", "empty_scale"]
    assert names["all"] == ["several", "scalar", "empty_scale"]


def test_last_images_are_held_out_if_there_is_no_list(mpii_root):
    assert [r.image.path.stem for r in read(f"mpii:{mpii_root}", "val")] == ["empty_scale"]
    assert len(read(f"mpii:{mpii_root / 'mpii_human_pose_v1_u12_1.mat'}", "train")) == 2


@pytest.mark.parametrize(("content", "message"), [
    ({"joints": 1}, "has no variable 'RELEASE', found joints"),
    ({"RELEASE": 5}, "'RELEASE' has no 'annolist'"),
    ({"RELEASE": {"annolist": struct_array([{"image": {"name": "a.jpg"}}]), "img_train": [1, 1]}},
     "'RELEASE.img_train' has 2 entries, 'annolist' 1"),
    ({"RELEASE": {"annolist": struct_array([{"image": {"name": "a.jpg"}}])}}, "has nobody with annotated keypoints"),
    ({"RELEASE": {"annolist": {"image": {"name": "a.jpg"}, "annorect": {"annopoints": {"point": point(16, 1, 1)}}}}},
     r"annolist\(1\)\.annorect\(1\): a point has id 16.0, expected 0 to 15"),
    ({"RELEASE": {"annolist": {"annorect": {"annopoints": {"point": point(1, 1, 1)}}}}}, "the image has no name"),
])
def test_file_that_is_no_release_is_refused(tmp_path, content, message):
    scipy.io.savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", content)
    with pytest.raises(InputError, match=rf"mpii_human_pose_v1_u12_1\.mat.*{message}"):
        read(f"mpii:{tmp_path}", "all")


def listed(name, labeled=range(16)):
    return {"image": name, "center": [50, 50], "scale": 1.0,
            "joints": [[10.0 + k, 30.0 + k] if k in labeled else [-1, -1] for k in range(16)],
            "joints_vis": [int(k in labeled) for k in range(16)]}


def test_hrnet_lists_are_splits_and_gt_valid_has_the_head_boxes(tmp_path):
    write_json(tmp_path / "annot" / "train.json", [listed("a.jpg"), listed("nobody.jpg", ())])
    write_json(tmp_path / "annot" / "valid.json", [listed("b.jpg", (0, 3, 9))])
    scipy.io.savemat(tmp_path / "annot" / "gt_valid.mat",
                     {"headboxes_src": np.array([[0.0, 0.0], [3.0, 4.0]])[..., None]}, format="5")
    people = {split: read(f"mpii_json:{tmp_path}", split) for split in SPLITS}
    assert [[r.image.path.name for r in people[split]] for split in SPLITS] \
        == [["a.jpg"], ["b.jpg"], ["b.jpg"], ["a.jpg", "b.jpg"]]
    person = people["val"][0]
    assert np.flatnonzero(person.labeled).tolist() == [0, 3, 9]
    assert person.keypoints[3].tolist() == [12, 32]  # 13, 33 counted from 1
    assert person.square.center == (49, 49 + 15) and person.square.side == pytest.approx(250)
    assert not person.occlusion_known
    assert people["train"][0].head_size is None


@pytest.mark.parametrize(("value", "message"), [
    ({}, "holds dict, expected a list of people; for COCO's layout use --data=coco:ROOT"),
    ([{"joints": 1}], "entry 0 has no 'image'"),
    ([{"image": "a.jpg"}], "entry 0 has no numbers in 'joints' .*MPII's test list has no labels"),
    ([listed("a.jpg") | {"joints": [[1, 2]] * 14}], r"entry 0 has 'joints' of shape \(14, 2\)"),
])
def test_wrong_list_is_refused(tmp_path, value, message):
    with pytest.raises(InputError, match=rf"mine\.json: {message}"):
        read(f"mpii_json:{write_json(tmp_path / 'mine.json', value)}", "all")


def test_missing_list_is_reported(tmp_path):
    write_json(tmp_path / "annot" / "train.json", [listed("a.jpg")])
    with pytest.raises(InputError, match=r"has no valid\.json, which split 'val' needs"):
        read(f"mpii_json:{tmp_path}", "val")


def write_mpii_val(folder, people=3):
    boxes = np.zeros((2, 2, people))
    boxes[1] += np.array([[6.0], [8.0]])
    missing = np.zeros((16, people), np.uint8)
    missing[6, 0] = 1
    points = np.arange(16 * 2 * people, dtype=float).reshape(16, 2, people)
    scipy.io.savemat(folder / "ground_truth.mat",
                     {"pos_gt_src": points, "jnt_missing": missing, "headboxes_src": boxes})
    visible = np.ones((people, 16))
    visible[0, 6] = visible[1, 2] = 0
    with h5py.File(folder / "valid.h5", "w") as file:
        file["visible"] = visible
    (folder / "valid_images.txt").write_text("".join(f"{i}.jpg\n" for i in range(people)))
    return points


def test_mpii_val_has_keypoints_head_sizes_and_visibility(tmp_path):
    points = write_mpii_val(tmp_path)
    records = read(f"mpii_val:{tmp_path}", "val")
    assert [r.visibility[6] for r in records] == [0, 2, 2]
    assert [r.visibility[2] for r in records] == [2, 1, 2]
    np.testing.assert_array_equal(records[2].keypoints, points[..., 2] - FIRST_PIXEL["mpii_val"])
    assert records[2].square is None
    with h5py.File(tmp_path / "valid.h5", "a") as file:
        file["center"], file["scale"] = np.arange(6).reshape(3, 2), np.array([0, np.nan, 2.0])
    squares = [r.square for r in read(f"mpii_val:{tmp_path}", "val")]
    assert squares[:2] == [None, None] and squares[2].center == (3, 4) and squares[2].side == pytest.approx(400)
    assert records[1].head_size == pytest.approx(6)
    assert records[1].image is None
    (tmp_path / "images").mkdir()
    assert read(f"mpii_val:{tmp_path}", "test")[1].image.path == tmp_path / "images" / "1.jpg"
    with pytest.raises(InputError, match="split 'train' has nobody"):
        read(f"mpii_val:{tmp_path}", "train")


def test_mpii_val_refuses_the_visibility_of_other_people(tmp_path):
    write_mpii_val(tmp_path)
    with h5py.File(tmp_path / "valid.h5", "w") as file:
        file["visible"] = np.ones((3, 16))
    with pytest.raises(InputError, match=r"valid\.h5: 'visible' .* give files of one release"):
        read(f"mpii_val:{tmp_path}", "val")
    (tmp_path / "valid.h5").write_bytes(b"no hdf5")
    with pytest.raises(InputError, match=r"valid\.h5: has no readable 'visible'"):
        read(f"mpii_val:{tmp_path}", "val")


def test_real_mpii(shared_data):
    people = read(f"mpii_val:{shared_data / 'mpii_val'}", "val")
    truth = scipy.io.loadmat(shared_data / "mpii_val" / "ground_truth.mat")
    assert len(people) == 2958
    assert sum((~r.labeled).sum() for r in people) == truth["jnt_missing"].sum()
    sample = read(f"mpii_json:{shared_data / 'reader_samples' / 'mpii' / 'test_mpii.json'}", "all")
    first = people[0]  # the same person in both layouts
    np.testing.assert_allclose(sample[0].keypoints, first.keypoints, atol=0.5)
    np.testing.assert_allclose(sample[0].square.as_list(), first.square.as_list(), atol=0.5)
    assert sample[0].image.read().ndim == 3
