"""The readers: every layout, axis order, flag and irregularity gives the same record, or one clear line."""

import json

import h5py
import numpy as np
import pytest
import scipy.io

from posecascade import datasets
from posecascade.datasets import SPLITS, read
from posecascade.errors import InputError
from posecascade.records import Visibility
from posecascade.schema import COCO17, LSP14, MPII16, Schema, find_schema, schema_from

CROWDPOSE = """
name: crowdpose14
keypoints: [left_shoulder, right_shoulder, left_elbow, right_elbow, left_wrist, right_wrist, left_hip, right_hip,
            left_knee, right_knee, left_ankle, right_ankle, head, neck]
pairs: [[left_shoulder, right_shoulder], [left_elbow, right_elbow], [left_wrist, right_wrist], [left_hip, right_hip],
        [left_knee, right_knee], [left_ankle, right_ankle]]
torso: [left_shoulder, right_hip]
"""
AIC = ("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
       "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck")


# --- LSP and LSPET ------------------------------------------------------------------------------------------------


def write_lsp(folder, people, axes=(2, 1, 0), images=False):
    """`people` (N, 14, 3); `axes` (2, 1, 0) gives LSP's order (3, 14, N), (1, 2, 0) LSPET's (14, 3, N)."""
    (folder / "images").mkdir(parents=True) if images else folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": people.transpose(axes)})
    return folder


def lsp_people(rng, count, share):
    """(N, 14, 3): places in 100 x 200 pixels; of the flags `share` are 1, exactly."""
    flags = np.zeros(count * 14)
    flags[:round(share * flags.size)] = 1
    flags = flags.reshape(14, count).T  # by joint, so that everybody has both kinds
    return np.dstack([rng.uniform(0, 100, (count, 14)), rng.uniform(0, 200, (count, 14)), flags])


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 2, 0)], ids=["3-14-N", "14-3-N"])
@pytest.mark.parametrize("kind", ["lsp", "lspet"])
def test_either_axis_order_gives_the_joints_and_the_type_settles_the_flag(tmp_path, rng, axes, kind):
    people = lsp_people(rng, 14, {"lsp": 2 / 14, "lspet": 12 / 14}[kind])
    records = read(f"{kind}:{write_lsp(tmp_path, people, axes)}", "all")
    flags = people[..., 2]
    wanted = {"lsp": np.where(flags == 1, Visibility.OCCLUDED, Visibility.VISIBLE),
              "lspet": np.where(flags == 1, Visibility.VISIBLE, Visibility.UNLABELLED)}[kind]
    assert len(records) == 14
    for record, person, codes in zip(records, people, wanted, strict=True):
        np.testing.assert_array_equal(record.visibility, codes)
        np.testing.assert_array_equal(record.keypoints[codes > 0], person[codes > 0, :2])
        assert np.isnan(record.keypoints[codes == 0]).all()
        assert record.schema == LSP14
        assert record.occlusion_known == (kind == "lsp")
        assert record.image is None


@pytest.mark.parametrize(("kind", "share", "other"), [("lsp", 0.88, "lspet"), ("lspet", 0.07, "lsp")])
def test_flags_that_contradict_the_type_are_refused(tmp_path, rng, kind, share, other):
    write_lsp(tmp_path, lsp_people(rng, 20, share))
    with pytest.raises(InputError, match=rf"joints.mat: .*use --data={other}:ROOT"):
        read(f"{kind}:{tmp_path}", "all")


def test_lsp_box_is_tight_and_images_are_numbered_from_1(tmp_path, rng):
    people = lsp_people(rng, 4, 0)
    records = read(f"lsp:{write_lsp(tmp_path, people, images=True)}", "all")
    x, y, w, h = records[2].box.as_list()
    np.testing.assert_allclose([x, y, x + w, y + h], [*people[2, :, :2].min(0), *people[2, :, :2].max(0)])
    assert records[2].image.path == tmp_path / "images" / "im0003.jpg"
    assert "person 3" in records[2].origin


def test_lspet_images_have_five_digits_and_a_single_person_keeps_its_axis(tmp_path, rng):
    records = read(f"lspet:{write_lsp(tmp_path, lsp_people(rng, 1, 1), (1, 2, 0), images=True)}", "all")
    assert records[0].image.path.name == "im00001.jpg"


@pytest.mark.parametrize(("joints", "message"), [
    (np.zeros((3, 16, 5)), r"'joints' is float64 of shape \(3, 16, 5\), expected .*\(14, 3, N\)"),
    (np.zeros((14, 3, 0)), "holds nobody"),
    (np.full((14, 3, 2), 2.0), "flags .* from 2 to 2, expected only 0 and 1"),
    (np.full((3, 14, 2), np.nan), "flags"),
    (np.array(["text"]), "expected numbers"),
])
def test_a_joints_mat_of_another_shape_is_one_clear_line(tmp_path, joints, message):
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    with pytest.raises(InputError, match=rf"joints\.mat: .*{message}"):
        read(f"lsp:{tmp_path}", "all")


def test_a_nan_coordinate_names_the_person(tmp_path, rng):
    people = lsp_people(rng, 5, 0)
    people[3, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"joints.mat, person 4: has a joint that is NaN; mend the file"):
        read(f"lsp:{write_lsp(tmp_path, people)}", "all")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_mat_cut_short_anywhere_is_one_clear_line(tmp_path, rng, kept):
    path = write_lsp(tmp_path, lsp_people(rng, 50, 0)) / "joints.mat"
    scipy.io.savemat(path, {"joints": np.array(scipy.io.loadmat(path)["joints"])}, do_compression=True)
    path.write_bytes(path.read_bytes()[:int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match=r"joints\.mat: (is no whole MATLAB file|has no variable 'joints')"):
        read(f"lsp:{tmp_path}", "all")


def test_damaged_mat_bytes_are_one_clear_line(tmp_path, rng):
    path = tmp_path / "joints.mat"
    scipy.io.savemat(path, {"joints": lsp_people(rng, 30, 0).transpose(2, 1, 0)}, do_compression=True)
    whole = path.read_bytes()
    for place in rng.integers(200, len(whole) - 200, 50):  # inside the compressed numbers, which a checksum guards
        path.write_bytes(whole[:place] + bytes(b ^ 0x55 for b in whole[place:place + 64]) + whole[place + 64:])
        with pytest.raises(InputError, match=r"joints\.mat: is no whole MATLAB file .*copy or unpack it again"):
            read(f"lsp:{tmp_path}", "all")


def test_a_matlab_7_3_file_says_how_to_save_it(tmp_path):
    with h5py.File(tmp_path / "joints.mat", "w", userblock_size=512) as file:
        file["joints"] = np.zeros((2, 14, 3))
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    content = (tmp_path / "joints.mat").read_bytes()
    (tmp_path / "joints.mat").write_bytes(header + content[128:])
    with pytest.raises(InputError, match=r"MATLAB 7.3 file; save it again in MATLAB with -v7"):
        read(f"lsp:{tmp_path}", "all")


def test_lsp_splits_are_the_official_halves(tmp_path, rng):
    write_lsp(tmp_path, lsp_people(rng, 2000, 0))
    parts = {split: [r.person_id for r in read(f"lsp:{tmp_path}", split)] for split in SPLITS}
    assert parts["test"] == list(range(1001, 2001))
    assert parts["train"] + parts["val"] == list(range(1, 1001))
    assert parts["all"] == list(range(1, 2001))


def test_real_lsp_and_lspet(shared_data):
    for path in ("lsp_test", "reader_samples/lsp_joints.mat"):
        records = read(f"lsp:{shared_data / path}", "all")
        assert len(records) == 2000
        assert 0.065 < np.mean([r.visibility == Visibility.OCCLUDED for r in records]) < 0.08
    extended = {split: read(f"lspet:{shared_data / 'lspet'}", split) for split in SPLITS}
    assert len(extended["val"]) == len(extended["all"]) // 18
    assert len(extended["train"]) + len(extended["val"]) == len(extended["all"]) == len(extended["test"])
    assert extended["val"][-1].image.read().ndim == 3
    assert 0.87 < np.mean([r.labelled for r in extended["all"]]) < 0.89


# --- COCO ---------------------------------------------------------------------------------------------------------


def coco(people, images=({"id": 1, "file_name": "a.jpg"},), names=COCO17.keypoints):
    return {"images": list(images), "annotations": list(people),
            "categories": [{"id": 1, "name": "person", "keypoints": list(names)}]}


def coco_person(image=1, codes=(2,) * 17, **fields):
    triples = [(10.5 + k, 20 + 2 * k, code) if code else (0, 0, 0) for k, code in enumerate(codes)]
    return {"image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": [n for t in triples for n in t], **fields}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def test_coco_skips_crowds_and_people_without_joints(tmp_path):
    people = [coco_person(id=1), coco_person(id=2, iscrowd=1), coco_person(id=3, codes=(0,) * 17),
              {"image_id": 1, "id": 4, "bbox": [0, 0, 5, 5]}, coco_person(id=5, codes=(1, 0) + (2,) * 15)]
    records = read(f"coco:{write_json(tmp_path / 'mine.json', coco(people))}", "all")
    assert [r.person_id for r in records] == [1, 5]
    assert records[1].visibility[:3].tolist() == [Visibility.OCCLUDED, Visibility.UNLABELLED, Visibility.VISIBLE]
    assert records[1].keypoints[0].tolist() == [10.5, 20]
    assert np.isnan(records[1].keypoints[1]).all()


@pytest.mark.parametrize(("bbox", "expected"), [
    ([1, 2, 30, 40], [1, 2, 30, 40]), ([1, 2, 0, 40], [10.5, 20, 16, 32]), (None, [10.5, 20, 16, 32]),
    ([1, 2, float("nan"), 4], [10.5, 20, 16, 32]), (["a", 1, 1, 1], [10.5, 20, 16, 32])])
def test_coco_box_is_the_annotated_one_or_tight_round_the_joints(tmp_path, bbox, expected):
    path = write_json(tmp_path / "mine.json", coco([coco_person(bbox=bbox)]))
    assert read(f"coco:{path}", "all")[0].box.as_list() == expected


def test_coco_folder_has_official_splits_and_finds_its_images(tmp_path):
    for part in ("train2017", "val2017"):
        write_json(tmp_path / "annotations" / f"person_keypoints_{part}.json", coco([coco_person()]))
        write_json(tmp_path / "annotations" / f"captions_{part}.json", {})
        (tmp_path / part).mkdir()
    found = {split: [r.image.path.parent.name for r in read(f"coco:{tmp_path}", split)] for split in SPLITS}
    assert found == {"train": ["train2017"], "val": ["val2017"], "test": ["val2017"], "all": ["train2017", "val2017"]}


def test_coco_single_file_looks_into_images_and_beside(tmp_path):
    path = write_json(tmp_path / "people.json", coco([coco_person()]))
    assert read(f"coco:{tmp_path}", "all")[0].image.path == tmp_path / "a.jpg"
    (tmp_path / "images").mkdir()
    assert read(f"coco:{path}", "all")[0].image.path == tmp_path / "images" / "a.jpg"


@pytest.mark.parametrize(("value", "message"), [
    ([], "has no list 'images', expected COCO's keypoints layout"),
    ({"images": []}, "has no list 'annotations'"),
    (coco([coco_person(image=7)]), r"annotations\[0\]: 'image_id' 7 is not among the images"),
    (coco([coco_person(image=[7])]), r"annotations\[0\]: 'image_id' \[7\] is not among the images"),
    (coco([coco_person(codes=(2,) * 14)]), r"annotations\[0\]: 'keypoints' holds 42 numbers, .* needs 51 .*--schema"),
    (coco([coco_person(codes=(3,) * 17)]), r"annotations\[0\]: a visibility is not among 0"),
    (coco([{"image_id": 1, "keypoints": [None] * 51}]), r"annotations\[0\]: (a visibility|'keypoints')"),
    (coco([{"image_id": 1, "keypoints": ["a"] * 51}]), r"annotations\[0\]: 'keypoints' holds something"),
    (coco([{"image_id": 1, "keypoints": [float("inf"), 1, 2] * 17}]), "no finite coordinates"),
    (coco(["person"]), r"annotations\[0\]: is no object"),
    (coco([], images=[{"id": 1}]), r"images\[0\] has no 'id' or 'file_name'"),
    (coco([], names=AIC), r"its joints are right_shoulder, .*\(14\), but schema 'coco17' .* pass --schema=FILE"),
    (coco([]), "split 'all' holds nobody"),
])
def test_a_wrong_coco_file_is_one_clear_line(tmp_path, value, message):
    with pytest.raises(InputError, match=rf"mine\.json.*{message}"):
        read(f"coco:{write_json(tmp_path / 'mine.json', value)}", "all")


def test_a_file_that_names_coco_s_joints_has_them_beside_a_schema_of_one_s_own(tmp_path):
    own = Schema("mine", ("left_hip", "right_hip"), (("left_hip", "right_hip"),))
    named = write_json(tmp_path / "named.json", coco([coco_person()], names=COCO17.keypoints))
    assert read(f"coco:{named}", "all", own)[0].schema == COCO17
    unnamed = write_json(tmp_path / "unnamed.json", coco([coco_person(codes=(2,) * 2)], names=()))
    assert read(f"coco:{unnamed}", "all", own)[0].schema == own


def test_a_json_cut_short_is_one_clear_line(tmp_path):
    path = write_json(tmp_path / "mine.json", coco([coco_person()]))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"mine\.json: is no whole JSON file .*copy or unpack it again"):
        read(f"coco:{path}", "all")


def test_several_json_files_ask_for_one(tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", coco([coco_person()]))
    with pytest.raises(InputError, match=r"holds 2 \.json files \(a.json, b.json\).*give the \.json file itself"):
        read(f"coco:{tmp_path}", "all")


def test_pseudo_labels_do_not_tell_occlusion(tmp_path):
    people = [coco_person(pseudo=True), coco_person(pseudo=False)]
    records = read(f"coco:{write_json(tmp_path / 'mine.json', coco(people))}", "all")
    assert [r.occlusion_known for r in records] == [False, True]


def test_a_users_own_schema_names_the_joints_up_to_capitals_and_blanks(tmp_path):
    schema = schema_from({"name": "aic", "keypoints": list(AIC)}, "test")
    names = [name.replace("_", " ").capitalize() for name in AIC]
    path = write_json(tmp_path / "mine.json", coco([coco_person(codes=(2,) * 14)], names=names))
    assert read(f"coco:{path}", "all", schema)[0].schema == schema


def test_real_coco_crowdpose_and_ai_challenger(shared_data, tmp_path):
    people = read(f"coco:{shared_data / 'coco_mini'}", "test")
    assert len(people) == 86  # the data README
    assert sum(len(read(f"coco:{shared_data / 'coco_mini'}", split)) for split in ("train", "val")) == 86
    assert people[0].image.read().ndim == 3
    assert len(read(f"coco:{shared_data / 'everyday'}", "all")) == 1762
    samples = shared_data / "reader_samples"
    (tmp_path / "crowdpose.yaml").write_text(CROWDPOSE)
    crowd = read(f"coco:{samples / 'crowdpose' / 'test_crowdpose.json'}", "all",
                 find_schema(str(tmp_path / "crowdpose.yaml")))
    aic = read(f"coco:{samples / 'aic'}", "all", schema_from({"name": "aic", "keypoints": list(AIC)}, "test"))
    for record in (crowd[0], aic[0]):
        height, width = record.image.read().shape[:2]
        assert (record.keypoints[record.labelled] < [width, height]).all()


# --- MPII ---------------------------------------------------------------------------------------------------------


def struct_array(entries):
    """A MATLAB struct array: every entry gets every field, empty where it has none."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    array = np.zeros((1, len(entries)), [(name, object) for name in names])
    for i, entry in enumerate(entries):
        for name in names:
            array[name][0, i] = entry.get(name, np.zeros((0, 0)))
    return array


def point(joint, x, y, **fields):
    return {"x": x, "y": y, "id": joint, **fields}


def write_release(path, images, **fields):
    """`images`: [(name, [rect, ...], training, single_person)], rect a dict with optional "points"."""
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
    """A release with each irregularity of the real one."""
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


def test_the_official_release_with_its_irregularities(mpii_root):
    records = read(f"mpii:{mpii_root}", "all")
    assert [r.image.path for r in records] == [mpii_root / "images" / f"{name}.jpg"
                                               for name in ("several", "scalar", "empty_scale")]
    first, scalar, empty = records
    assert first.schema == MPII16
    assert np.flatnonzero(first.labelled).tolist() == [0, 9, 10, 15]
    assert first.visibility[[0, 9, 10, 15]].tolist() == [1, 2, 1, 2]
    np.testing.assert_array_equal(first.keypoints[[0, 9, 15]], [[10, 20], [30.5, 40.5], [50, 60]])  # counted from 0
    assert first.head_size == pytest.approx(0.6 * 50)  # a 30 x 40 box
    assert first.box.as_list() == [10, 20, 60, 60]
    assert first.square.center == (49, 59 + 15 * 1.5)  # objpos, moved down as all MPII code does
    assert first.square.side == pytest.approx(1.25 * 200 * 1.5)
    assert scalar.square is None and empty.square is None
    assert (scalar.head_size, scalar.box.w) == (None, 1.0)  # one joint: the least box there is
    assert empty.visibility[1] == Visibility.VISIBLE
    assert "annolist" not in first.origin
    assert "several.jpg, person 1" in first.origin


@pytest.mark.parametrize("list_file", ["valid_images.txt", "annot/valid.json"])
def test_a_list_of_validation_images_splits_the_release(mpii_root, list_file):
    path = mpii_root / list_file
    path.parent.mkdir(exist_ok=True)
    path.write_text("scalar.jpg\n\nelsewhere.jpg\n" if path.suffix == ".txt" else json.dumps([{"image": "scalar.jpg"}]))
    names = {split: [r.image.path.stem for r in read(f"mpii:{mpii_root}", split)] for split in SPLITS}
    assert names["val"] == names["test"] == ["scalar"]
    assert names["train"] == ["several", "empty_scale"]
    assert names["all"] == ["several", "scalar", "empty_scale"]


def test_without_a_list_the_last_images_are_held_out(mpii_root):
    assert [r.image.path.stem for r in read(f"mpii:{mpii_root}", "val")] == ["empty_scale"]
    assert len(read(f"mpii:{mpii_root / 'mpii_human_pose_v1_u12_1.mat'}", "train")) == 2


@pytest.mark.parametrize(("content", "message"), [
    ({"joints": 1}, "has no variable 'RELEASE', found joints"),
    ({"RELEASE": 5}, "'RELEASE' has no 'annolist'"),
    ({"RELEASE": {"annolist": struct_array([{"image": {"name": "a.jpg"}}]), "img_train": [1, 1]}},
     "'RELEASE.img_train' has 2 entries, 'annolist' 1"),
    ({"RELEASE": {"annolist": struct_array([{"image": {"name": "a.jpg"}}])}}, "holds nobody with annotated joints"),
    ({"RELEASE": {"annolist": {"image": {"name": "a.jpg"}, "annorect": {"annopoints": {"point": point(16, 1, 1)}}}}},
     r"annolist\(1\)\.annorect\(1\): a point has id 16.0, expected 0 to 15"),
    ({"RELEASE": {"annolist": {"annorect": {"annopoints": {"point": point(1, 1, 1)}}}}}, "its picture has no name"),
])
def test_a_file_that_is_no_release_is_one_clear_line(tmp_path, content, message):
    scipy.io.savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", content)
    with pytest.raises(InputError, match=rf"mpii_human_pose_v1_u12_1\.mat.*{message}"):
        read(f"mpii:{tmp_path}", "all")


def listed(name, labelled=range(16)):
    return {"image": name, "center": [50, 50], "scale": 1.0,
            "joints": [[10.0 + k, 30.0 + k] if k in labelled else [-1, -1] for k in range(16)],
            "joints_vis": [int(k in labelled) for k in range(16)]}


def test_hrnet_lists_are_the_splits_and_head_boxes_come_from_gt_valid(tmp_path):
    write_json(tmp_path / "annot" / "train.json", [listed("a.jpg"), listed("nobody.jpg", ())])
    write_json(tmp_path / "annot" / "valid.json", [listed("b.jpg", (0, 3, 9))])
    scipy.io.savemat(tmp_path / "annot" / "gt_valid.mat",
                     {"headboxes_src": np.array([[0.0, 0.0], [3.0, 4.0]])[..., None]}, format="5")
    found = {split: read(f"mpii_json:{tmp_path}", split) for split in SPLITS}
    assert [[r.image.path.name for r in found[split]] for split in SPLITS] \
        == [["a.jpg"], ["b.jpg"], ["b.jpg"], ["a.jpg", "b.jpg"]]
    person = found["val"][0]
    assert np.flatnonzero(person.labelled).tolist() == [0, 3, 9]
    assert person.keypoints[3].tolist() == [12, 32]  # 13, 33 counted from 1
    assert person.square.center == (49, 49 + 15) and person.square.side == pytest.approx(250)
    assert not person.occlusion_known
    assert found["train"][0].head_size is None


@pytest.mark.parametrize(("value", "message"), [
    ({}, "holds dict, expected a list of people; for COCO's layout use --data=coco:ROOT"),
    ([{"joints": 1}], "entry 0 has no 'image'"),
    ([{"image": "a.jpg"}], "entry 0 has no numbers in 'joints' .*MPII's test list has no labels"),
    ([listed("a.jpg") | {"joints": [[1, 2]] * 14}], r"entry 0 has 'joints' of shape \(14, 2\)"),
])
def test_a_wrong_list_is_one_clear_line(tmp_path, value, message):
    with pytest.raises(InputError, match=rf"mine\.json: {message}"):
        read(f"mpii_json:{write_json(tmp_path / 'mine.json', value)}", "all")


def test_a_missing_half_of_the_lists_is_named(tmp_path):
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


def test_mpii_val_joins_joints_heads_and_visibility(tmp_path):
    points = write_mpii_val(tmp_path)
    records = read(f"mpii_val:{tmp_path}", "val")
    assert [r.visibility[6] for r in records] == [0, 2, 2]
    assert [r.visibility[2] for r in records] == [2, 1, 2]
    np.testing.assert_array_equal(records[2].keypoints, points[..., 2] - datasets.FIRST_PIXEL["mpii_val"])
    assert records[2].square is None
    with h5py.File(tmp_path / "valid.h5", "a") as file:
        file["center"], file["scale"] = np.arange(6).reshape(3, 2), np.array([0, np.nan, 2.0])
    squares = [r.square for r in read(f"mpii_val:{tmp_path}", "val")]
    assert squares[:2] == [None, None] and squares[2].center == (3, 4) and squares[2].side == pytest.approx(400)
    assert records[1].head_size == pytest.approx(6)
    assert records[1].image is None
    (tmp_path / "images").mkdir()
    assert read(f"mpii_val:{tmp_path}", "test")[1].image.path == tmp_path / "images" / "1.jpg"
    with pytest.raises(InputError, match="split 'train' holds nobody"):
        read(f"mpii_val:{tmp_path}", "train")


def test_mpii_val_refuses_a_visibility_file_of_other_people(tmp_path):
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
    assert sum((~r.labelled).sum() for r in people) == truth["jnt_missing"].sum()
    sample = read(f"mpii_json:{shared_data / 'reader_samples' / 'mpii' / 'test_mpii.json'}", "all")
    first = people[0]  # the same person in both layouts
    np.testing.assert_allclose(sample[0].keypoints, first.keypoints, atol=0.5)
    np.testing.assert_allclose(sample[0].square.as_list(), first.square.as_list(), atol=0.5)
    assert sample[0].image.read().ndim == 3


# --- all types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(datasets.READERS) - {"synthetic"}))
def test_a_missing_or_empty_root_is_one_clear_line(tmp_path, kind):
    with pytest.raises(InputError, match=rf"{kind}: '.*nowhere' does not exist; give "):
        read(f"{kind}:{tmp_path / 'nowhere'}", "all")
    with pytest.raises(InputError, match=str(tmp_path)):
        read(f"{kind}:{tmp_path}", "all")


@pytest.mark.parametrize(("spec", "message"), [
    ("lspte:x", "unknown type 'lspte'; did you mean 'lspet'?"), ("nonsense", "expected TYPE:ROOT, as in lspet:"),
    (":x", "unknown type ''; choose from coco, ")])
def test_a_wrong_spec_is_one_clear_line(spec, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        read(spec, "all")


def test_an_unknown_split_names_the_nearest(tmp_path, rng):
    with pytest.raises(InputError, match="unknown split 'trian'; did you mean 'train'"):
        read(f"lspet:{write_lsp(tmp_path, lsp_people(rng, 5, 1))}", "trian")


@pytest.mark.parametrize("count", [2, 17, 18, 40])
def test_hold_out_parts_the_images_and_keeps_their_people_together(tmp_path, count):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(count)]
    people = [coco_person(image=i % count) for i in range(3 * count)]
    path = write_json(tmp_path / "mine.json", coco(people, images))
    train, val = ([r.image_id for r in read(f"coco:{path}", split)] for split in ("train", "val"))
    assert len(train) + len(val) == 3 * count
    assert set(train).isdisjoint(val)
    assert set(val) == set(range(count - max(1, count // 18), count))
