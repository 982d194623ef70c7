"""The readers: layouts, axis orders, flags and irregularities of the files, and one-line errors."""

import h5py
import numpy as np
import pytest
import scipy.io
from annotations import coco, coco_person, lsp_people, write_json, write_lsp

from posecascade import datasets
from posecascade.datasets import SPLITS, read
from posecascade.errors import InputError
from posecascade.records import Visibility
from posecascade.schema import COCO17, LSP14, Schema, find_schema, schema_from

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


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 2, 0)], ids=["3-14-N", "14-3-N"])
@pytest.mark.parametrize("kind", ["lsp", "lspet"])
def test_both_axis_orders_are_read_and_the_type_decides_the_flags(tmp_path, rng, axes, kind):
    people = lsp_people(rng, 14, {"lsp": 2 / 14, "lspet": 12 / 14}[kind])
    records = read(f"{kind}:{write_lsp(tmp_path, people, axes)}", "all")
    flags = people[..., 2]
    expected = {"lsp": np.where(flags == 1, Visibility.OCCLUDED, Visibility.VISIBLE),
              "lspet": np.where(flags == 1, Visibility.VISIBLE, Visibility.UNLABELED)}[kind]
    assert len(records) == 14
    for record, person, codes in zip(records, people, expected, strict=True):
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


def test_lsp_boxes_are_tight_and_images_are_numbered_from_1(tmp_path, rng):
    people = lsp_people(rng, 4, 0)
    records = read(f"lsp:{write_lsp(tmp_path, people, images=True)}", "all")
    x, y, w, h = records[2].box.as_list()
    np.testing.assert_allclose([x, y, x + w, y + h], [*people[2, :, :2].min(0), *people[2, :, :2].max(0)])
    assert records[2].image.path == tmp_path / "images" / "im0003.jpg"
    assert "person 3" in records[2].origin


def test_lspet_images_have_five_digits_and_one_person_can_be_read(tmp_path, rng):
    records = read(f"lspet:{write_lsp(tmp_path, lsp_people(rng, 1, 1), (1, 2, 0), images=True)}", "all")
    assert records[0].image.path.name == "im00001.jpg"


@pytest.mark.parametrize(("joints", "message"), [
    (np.zeros((3, 16, 5)), r"'joints' is float64 of shape \(3, 16, 5\), expected .*\(14, 3, N\)"),
    (np.zeros((14, 3, 0)), "has no people"),
    (np.full((14, 3, 2), 2.0), "flags .* from 2 to 2, expected only 0 and 1"),
    (np.full((3, 14, 2), np.nan), "flags"),
    (np.array(["text"]), "expected numbers"),
])
def test_joints_mat_of_another_shape_is_refused(tmp_path, joints, message):
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    with pytest.raises(InputError, match=rf"joints\.mat: .*{message}"):
        read(f"lsp:{tmp_path}", "all")


def test_nan_coordinate_is_refused_with_its_person(tmp_path, rng):
    people = lsp_people(rng, 5, 0)
    people[3, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"joints.mat, person 4: has a keypoint that is NaN; fix the file"):
        read(f"lsp:{write_lsp(tmp_path, people)}", "all")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_mat_is_refused(tmp_path, rng, kept):
    path = write_lsp(tmp_path, lsp_people(rng, 50, 0)) / "joints.mat"
    scipy.io.savemat(path, {"joints": np.array(scipy.io.loadmat(path)["joints"])}, do_compression=True)
    path.write_bytes(path.read_bytes()[:int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match=r"joints\.mat: (is not a complete MATLAB file|has no variable|is empty)"):
        read(f"lsp:{tmp_path}", "all")


def test_damaged_mat_is_refused(tmp_path, rng):
    path = tmp_path / "joints.mat"
    scipy.io.savemat(path, {"joints": lsp_people(rng, 30, 0).transpose(2, 1, 0)}, do_compression=True)
    whole = path.read_bytes()
    for at in rng.integers(200, len(whole) - 200, 50):  # inside the compressed numbers, which have a checksum
        path.write_bytes(whole[:at] + bytes(b ^ 0x55 for b in whole[at:at + 64]) + whole[at + 64:])
        with pytest.raises(InputError, match=r"joints\.mat: is not a complete MATLAB file .*copy or unpack it again"):
            read(f"lsp:{tmp_path}", "all")


def test_error_for_a_matlab_7_3_file_says_how_to_save_it(tmp_path):
    with h5py.File(tmp_path / "joints.mat", "w", userblock_size=512) as file:
        file["joints"] = np.zeros((2, 14, 3))
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    content = (tmp_path / "joints.mat").read_bytes()
    (tmp_path / "joints.mat").write_bytes(header + content[128:])
    with pytest.raises(InputError, match=r"MATLAB 7.3 file; save it again in MATLAB with -v7"):
        read(f"lsp:{tmp_path}", "all")


def test_lsp_splits_are_the_official_halves(tmp_path, rng):
    write_lsp(tmp_path, lsp_people(rng, 2000, 0))
    people = {split: [r.person_id for r in read(f"lsp:{tmp_path}", split)] for split in SPLITS}
    assert people["test"] == list(range(1001, 2001))
    assert people["train"] + people["val"] == list(range(1, 1001))
    assert people["all"] == list(range(1, 2001))


def test_real_lsp_and_lspet(shared_data):
    for path in ("lsp_test", "reader_samples/lsp_joints.mat"):
        records = read(f"lsp:{shared_data / path}", "all")
        assert len(records) == 2000
        assert 0.065 < np.mean([r.visibility == Visibility.OCCLUDED for r in records]) < 0.08
    extended = {split: read(f"lspet:{shared_data / 'lspet'}", split) for split in SPLITS}
    assert len(extended["val"]) == len(extended["all"]) // 18
    assert len(extended["train"]) + len(extended["val"]) == len(extended["all"]) == len(extended["test"])
    assert extended["val"][-1].image.read().ndim == 3
    assert 0.87 < np.mean([r.labeled for r in extended["all"]]) < 0.89


# --- COCO ---------------------------------------------------------------------------------------------------------


def test_coco_skips_crowds_and_people_without_keypoints(tmp_path):
    people = [coco_person(id=1), coco_person(id=2, iscrowd=1), coco_person(id=3, codes=(0,) * 17),
              {"image_id": 1, "id": 4, "bbox": [0, 0, 5, 5]}, coco_person(id=5, codes=(1, 0) + (2,) * 15)]
    records = read(f"coco:{write_json(tmp_path / 'mine.json', coco(people))}", "all")
    assert [r.person_id for r in records] == [1, 5]
    assert records[1].visibility[:3].tolist() == [Visibility.OCCLUDED, Visibility.UNLABELED, Visibility.VISIBLE]
    assert records[1].keypoints[0].tolist() == [10.5, 20]
    assert np.isnan(records[1].keypoints[1]).all()


@pytest.mark.parametrize(("bbox", "expected"), [
    ([1, 2, 30, 40], [1, 2, 30, 40]), ([1, 2, 0, 40], [10.5, 20, 16, 32]), (None, [10.5, 20, 16, 32]),
    ([1, 2, float("nan"), 4], [10.5, 20, 16, 32]), (["a", 1, 1, 1], [10.5, 20, 16, 32])])
def test_coco_box_is_annotated_or_tight_around_the_keypoints(tmp_path, bbox, expected):
    path = write_json(tmp_path / "mine.json", coco([coco_person(bbox=bbox)]))
    assert read(f"coco:{path}", "all")[0].box.as_list() == expected


def test_coco_folder_has_official_splits_and_images(tmp_path):
    for name in ("train2017", "val2017"):
        write_json(tmp_path / "annotations" / f"person_keypoints_{name}.json", coco([coco_person()]))
        write_json(tmp_path / "annotations" / f"captions_{name}.json", {})
        (tmp_path / name).mkdir()
    folders = {split: [r.image.path.parent.name for r in read(f"coco:{tmp_path}", split)] for split in SPLITS}
    assert folders == {"train": ["train2017"], "val": ["val2017"], "test": ["val2017"], "all": ["train2017", "val2017"]}


def test_images_of_a_single_coco_file_are_in_images_or_next_to_it(tmp_path):
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
    (coco([{"image_id": 1, "keypoints": ["a"] * 51}]), r"annotations\[0\]: 'keypoints' holds a value that is"),
    (coco([{"image_id": 1, "keypoints": [float("inf"), 1, 2] * 17}]), "no finite coordinates"),
    (coco(["person"]), r"annotations\[0\]: is not an object"),
    (coco([], images=[{"id": 1}]), r"images\[0\] has no 'id' or 'file_name'"),
    (coco([], names=AIC), r"its keypoints are right_shoulder, .*\(14\), but schema 'coco17' .* pass --schema=FILE"),
    (coco([]), "split 'all' has nobody"),
])
def test_wrong_coco_file_is_refused(tmp_path, value, message):
    with pytest.raises(InputError, match=rf"mine\.json.*{message}"):
        read(f"coco:{write_json(tmp_path / 'mine.json', value)}", "all")


def test_file_with_coco_keypoints_has_schema_coco17_despite_a_custom_schema(tmp_path):
    own = Schema("mine", ("left_hip", "right_hip"), (("left_hip", "right_hip"),))
    named = write_json(tmp_path / "named.json", coco([coco_person()], names=COCO17.keypoints))
    assert read(f"coco:{named}", "all", own)[0].schema == COCO17
    unnamed = write_json(tmp_path / "unnamed.json", coco([coco_person(codes=(2,) * 2)], names=()))
    assert read(f"coco:{unnamed}", "all", own)[0].schema == own


def test_truncated_json_is_refused(tmp_path):
    path = write_json(tmp_path / "mine.json", coco([coco_person()]))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"mine\.json: is not a complete JSON file .*copy or unpack it again"):
        read(f"coco:{path}", "all")


def test_several_json_files_are_refused(tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", coco([coco_person()]))
    with pytest.raises(InputError, match=r"holds 2 \.json files \(a.json, b.json\).*give the \.json file itself"):
        read(f"coco:{tmp_path}", "all")


def test_pseudo_labels_have_unknown_occlusion(tmp_path):
    people = [coco_person(pseudo=True), coco_person(pseudo=False)]
    records = read(f"coco:{write_json(tmp_path / 'mine.json', coco(people))}", "all")
    assert [r.occlusion_known for r in records] == [False, True]


def test_names_of_a_custom_schema_match_without_case_and_blanks(tmp_path):
    schema = schema_from({"name": "aic", "keypoints": list(AIC)}, "test")
    names = [name.replace("_", " ").capitalize() for name in AIC]
    path = write_json(tmp_path / "mine.json", coco([coco_person(codes=(2,) * 14)], names=names))
    assert read(f"coco:{path}", "all", schema)[0].schema == schema


def test_real_coco_crowdpose_and_ai_challenger(shared_data, tmp_path):
    people = read(f"coco:{shared_data / 'coco_mini'}", "test")
    assert len(people) == 86  # the number in the data's README
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
        assert (record.keypoints[record.labeled] < [width, height]).all()


# --- all types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(datasets.READERS) - {"synthetic"}))
def test_missing_or_empty_root_is_refused(tmp_path, kind):
    with pytest.raises(InputError, match=rf"{kind}: '.*nowhere' does not exist; give "):
        read(f"{kind}:{tmp_path / 'nowhere'}", "all")
    with pytest.raises(InputError, match=str(tmp_path)):
        read(f"{kind}:{tmp_path}", "all")


@pytest.mark.parametrize(("spec", "message"), [
    ("lspte:x", "unknown type 'lspte'; did you mean 'lspet'?"), ("nonsense", "expected TYPE:ROOT, as in lspet:"),
    (":x", "unknown type ''; choose from coco, ")])
def test_wrong_spec_is_refused(spec, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        read(spec, "all")


def test_error_for_an_unknown_split_has_the_nearest(tmp_path, rng):
    with pytest.raises(InputError, match="unknown split 'trian'; did you mean 'train'"):
        read(f"lspet:{write_lsp(tmp_path, lsp_people(rng, 5, 1))}", "trian")


@pytest.mark.parametrize("count", [2, 17, 18, 40])
def test_hold_out_splits_the_images_and_keeps_their_people_together(tmp_path, count):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(count)]
    people = [coco_person(image=i % count) for i in range(3 * count)]
    path = write_json(tmp_path / "mine.json", coco(people, images))
    train, val = ([r.image_id for r in read(f"coco:{path}", split)] for split in ("train", "val"))
    assert len(train) + len(val) == 3 * count
    assert set(train).isdisjoint(val)
    assert set(val) == set(range(count - max(1, count // 18), count))
