"""Everybody a run trains and is measured on: in the model's schema, told apart, fingerprinted by what is labeled."""

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


def test_all_sources_come_in_the_model_s_schema_with_splits_apart_and_names_of_their_own(tmp_path):
    coco = f"coco:{write_people(tmp_path, 36)}"
    people = read_splits(["synthetic:5", coco, "synthetic:3@1"], "lsp14")
    assert people.schema == LSP14 and people.sources == ("synthetic:5", coco, "synthetic:3@1")
    assert [len(records) for records in people.train] == [5, 34, 3]
    assert [(kept.name, len(kept.records)) for kept in people.validation] == [
        ("synthetic", 64), ("coco", 2), ("synthetic2", 64)]
    everybody = people.everybody + [record for kept in people.validation for record in kept.records]
    assert {record.schema for record in everybody} == {LSP14}
    assert len({record.image_name for record in everybody}) == len(everybody) == 42 + 130
    assert people.everybody == [record for records in people.train for record in records]


def test_a_schema_of_the_user_s_own_is_that_of_the_coco_style_files(tmp_path):
    (tmp_path / "hands.yaml").write_text(yaml.safe_dump(SCHEMA))
    source = f"coco:{write_people(tmp_path, 20, joints=2)}"
    people = read_splits([source], str(tmp_path / "hands.yaml"))
    assert people.schema.keypoints == ("left_hand", "right_hand")
    assert [len(people.train[0]), people.validation[0].metric] == [19, "pck"]


@pytest.mark.parametrize(("sources", "schema", "problem"), [
    ((), "lsp14", "no data set is given; add --data=TYPE:ROOT, as in --data=lspet:/data/lspet"),
    (("nothing",), "lsp14", "--data=nothing: expected TYPE:ROOT, as in lspet:/data/lspet; TYPE is one of lsp, lspet, "
                            "mpii, mpii_json, mpii_val, coco, synthetic"),
    (("synthetic:2",), "lsp15", "unknown schema 'lsp15'; did you mean 'lsp14'? (or give a .yaml file)")])
def test_what_cannot_be_read_is_told(sources, schema, problem):
    with pytest.raises(InputError) as error:
        read_splits(sources, schema)
    assert str(error.value) == problem


def test_people_who_share_no_joint_or_cannot_be_measured_are_told_before_the_run(tmp_path):
    (tmp_path / "hands.yaml").write_text(yaml.safe_dump(SCHEMA))
    with pytest.raises(InputError) as error:
        read_splits(["synthetic:2"], str(tmp_path / "hands.yaml"))
    assert str(error.value) == ("no person has a labeled keypoint of schema 'hands' (data: 2 people, schema 'mpii16'); "
                                "choose another --data or schema")
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump({key: SCHEMA[key] for key in ("name", "keypoints")}))
    source = f"coco:{write_people(tmp_path, 20, joints=2)}"
    with pytest.raises(InputError) as error:
        read_splits([source], str(tmp_path / "bare.yaml"))
    assert str(error.value) == (
        f"{source}: nobody of 1 people has a torso size to measure PCK by; name two joints as 'torso' in the schema, "
        "or label them")


def test_the_fingerprint_is_of_names_boxes_joints_and_order_not_of_the_place(tmp_path):
    path = write_people(tmp_path / "here", 20)
    people = read_splits([f"coco:{path}"], "coco17")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert read_splits([f"coco:{tmp_path / 'there' / 'people.json'}"], "coco17").fingerprint() == people.fingerprint()

    def changed(change):
        content = json.loads(path.read_text())
        change(content["annotations"], content["images"])
        (tmp_path / "there" / "people.json").write_text(json.dumps(content))
        return read_splits([f"coco:{tmp_path / 'there' / 'people.json'}"], "coco17").fingerprint()

    def renamed(_, images):
        shutil.copy(tmp_path / "there" / images[2]["file_name"], tmp_path / "there" / "other.jpg")
        images[2]["file_name"] = "other.jpg"

    found = [people.fingerprint(), changed(lambda a, _: a[0]["keypoints"].__setitem__(0, 7.0)),
             changed(lambda a, _: a[3]["keypoints"].__setitem__(2, 1)), changed(lambda a, _: a.pop(1)),
             changed(lambda a, _: a.insert(0, a.pop(1))), changed(lambda a, _: a[2].update(bbox=[1, 2, 30, 40])),
             changed(renamed)]
    assert len(set(found)) == len(found)
    assert changed(lambda a, i: None) == people.fingerprint()
    assert replace(people, validation=[]).fingerprint() == people.fingerprint()
