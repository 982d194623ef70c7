"""Test that data sets are read in the model's schema, split, named, checked and fingerprinted."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from small_runs import write_people

from posecascade.errors import InputError
from posecascade.schema import LSP14
from posecascade.training.data import read_splits

SCHEMA = {"name": "hands", "keypoints": ["left_hand", "right_hand"], "pairs": [["left_hand", "right_hand"]],
          "torso": ["left_hand", "right_hand"]}


def test_all_sources_are_read_in_the_model_schema_with_disjoint_splits(tmp_path):
    coco = f"coco:{write_people(tmp_path, 36)}"
    splits = read_splits(["synthetic:5", coco, "synthetic:3@1"], "lsp14")
    assert splits.schema == LSP14 and splits.sources == ("synthetic:5", coco, "synthetic:3@1")
    assert [len(records) for records in splits.train] == [5, 34, 3]
    assert [(validation.name, len(validation.records)) for validation in splits.validation] == [
        ("synthetic", 64), ("coco", 2), ("synthetic2", 64)]
    records_of_all = [*splits.train_records, *(r for validation in splits.validation for r in validation.records)]
    assert {record.schema for record in records_of_all} == {LSP14}
    assert len({record.image_name for record in records_of_all}) == len(records_of_all) == 42 + 130
    assert splits.train_records == [record for records in splits.train for record in records]


def test_custom_schema_is_used_for_coco_style_files(tmp_path):
    (tmp_path / "hands.yaml").write_text(yaml.safe_dump(SCHEMA))
    source = f"coco:{write_people(tmp_path, 20, joints=2)}"
    splits = read_splits([source], str(tmp_path / "hands.yaml"))
    assert splits.schema.keypoints == ("left_hand", "right_hand")
    assert [len(splits.train[0]), splits.validation[0].metric] == [19, "pck"]


@pytest.mark.parametrize(("sources", "schema", "problem"), [
    ((), "lsp14", "no data set is given; add --data=TYPE:ROOT, as in --data=lspet:/data/lspet"),
    (("nothing",), "lsp14", "--data=nothing: expected TYPE:ROOT, as in lspet:/data/lspet; TYPE is one of lsp, lspet, "
                            "mpii, mpii_json, mpii_val, coco, synthetic"),
    (("synthetic:2",), "lsp15", "unknown schema 'lsp15'; did you mean 'lsp14'? (or give a .yaml file)")])
def test_unreadable_sources_are_reported(sources, schema, problem):
    with pytest.raises(InputError) as error:
        read_splits(sources, schema)
    assert str(error.value) == problem


def test_data_without_common_keypoints_are_refused_and_those_without_torso_are_not(tmp_path):
    (tmp_path / "hands.yaml").write_text(yaml.safe_dump(SCHEMA))
    with pytest.raises(InputError) as error:
        read_splits(["synthetic:2"], str(tmp_path / "hands.yaml"))
    assert str(error.value) == ("no person has a labeled keypoint of schema 'hands' (data: 2 people, schema 'mpii16'); "
                                "choose another --data or schema")
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump({key: SCHEMA[key] for key in ("name", "keypoints")}))
    source = f"coco:{write_people(tmp_path, 20, joints=2)}"
    assert read_splits([source], str(tmp_path / "bare.yaml")).schema.torso is None  # the box is the reference


def test_fingerprint_depends_on_labels_and_order_but_not_on_the_folder(tmp_path):
    path = write_people(tmp_path / "here", 20)
    splits = read_splits([f"coco:{path}"], "coco17")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert read_splits([f"coco:{tmp_path / 'there' / 'people.json'}"], "coco17").fingerprint() == splits.fingerprint()

    def changed(change):
        content = json.loads(path.read_text())
        change(content["annotations"], content["images"])
        (tmp_path / "there" / "people.json").write_text(json.dumps(content))
        return read_splits([f"coco:{tmp_path / 'there' / 'people.json'}"], "coco17").fingerprint()

    def renamed(_, images):
        shutil.copy(tmp_path / "there" / images[2]["file_name"], tmp_path / "there" / "other.jpg")
        images[2]["file_name"] = "other.jpg"

    fingerprints = [splits.fingerprint(), changed(lambda a, _: a[0]["keypoints"].__setitem__(0, 7.0)),
             changed(lambda a, _: a[3]["keypoints"].__setitem__(2, 1)), changed(lambda a, _: a.pop(1)),
             changed(lambda a, _: a.insert(0, a.pop(1))), changed(lambda a, _: a[2].update(bbox=[1, 2, 30, 40])),
             changed(renamed)]
    assert len(set(fingerprints)) == len(fingerprints)
    assert changed(lambda a, i: None) == splits.fingerprint()
    assert replace(splits, validation=[]).fingerprint() == splits.fingerprint()
