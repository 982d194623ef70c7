"""COCO files as people have them: options, ids that occur twice, categories, CVAT's subsets, nested keypoints."""

import json

import numpy as np
import pytest
from annotations import coco, coco_person, write_json
from marked_people import ARM, hits, marked, person, places, write_image, write_list

from posecascade.cli import app, data
from posecascade.datasets import parse, read
from posecascade.datasets.coco_options import Options, split_options
from posecascade.errors import InputError
from posecascade.schema import COCO17, Schema
from posecascade.training.data import load_splits

IMAGE = {"id": 1, "file_name": "a.jpg"}
DOG = {"id": 2, "name": "dog", "keypoints": ["nose", "tail", "paw"]}
PERSON = {"id": 1, "name": "arm", "keypoints": list(ARM.keypoints)}


def arm(number=1, category=1, **fields):
    return person(1, np.arange(6).reshape(3, 2) + number, number, **{"category_id": category, **fields})


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [
    ("", Options()), ("#person", Options(category="person")), ("#big dog", Options(category="big dog")),
    ("#category=2,frame=stored,resized=yes,images=x", Options("2", "stored", True, "x")),
    ("#frame=upright", Options(frame="upright")), ("#resized=no", Options())])
def test_options_follow_the_file(tmp_path, text, expected):
    write_json(tmp_path / "a.json", {})
    assert split_options(f"{tmp_path}/a.json{text}") == (f"{tmp_path}/a.json", expected)


def test_existing_path_with_a_hash_has_no_options(tmp_path):
    spec = write_list(tmp_path / "#1 set" / "a#person.json", [IMAGE], [arm()])
    assert len(read(spec, "all", ARM)) == 1
    assert len(read(f"{spec}#frame=stored", "all", ARM)) == 1
    assert len(read(f"coco:{tmp_path / '#1 set'}", "all", ARM)) == 1


@pytest.mark.parametrize(("options", "message"), [
    ("frme=stored", "unknown option 'frme'; did you mean 'frame'?"),
    ("frame=exif", "frame=exif; expected upright or stored"), ("resized=1", "resized=1; expected yes or no"),
    ("category=a,frame", "'frame' is no option; expected KEY=VALUE if there are several"), ("frame=", "has no value"),
    ("frame=stored,frame=stored", "option 'frame' has two values"),
    ("images=nowhere", "images=nowhere: is not a folder; give the folder of the images")])
def test_wrong_option_is_refused(tmp_path, options, message):
    spec = write_list(tmp_path / "a.json", [IMAGE], [arm()])
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        read(f"{spec}#{options}", "all", ARM)


@pytest.mark.parametrize("spec", ["lsp:x#frame=stored", "synthetic:20#person", "mpii:y#1"])
def test_other_types_take_no_options(spec):
    with pytest.raises(InputError, match=f"--data={spec}: type .* takes no options, .*Remove #"):
        parse(spec)


def test_folder_of_images_can_be_stated(tmp_path, rng):
    points = places(rng, (120, 60))
    write_image(tmp_path / "elsewhere" / "a.jpg", marked(points, (120, 60)))
    spec = write_list(tmp_path / "labels" / "a.json", [{"id": 1, "file_name": "../elsewhere/a.jpg"}],
                      [person(1, points)])
    with pytest.raises(InputError, match=r"is missing; tried .*paths that lead out of it are not followed.*images=FOL"):
        read(spec, "all", ARM)[0].image.read()
    assert hits(read(f"{spec}#images={tmp_path / 'elsewhere'}", "all", ARM)[0]) == 3


# --- ids ----------------------------------------------------------------------------------------------------------


def test_two_images_with_one_id_are_refused_by_name(tmp_path):
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 7, "file_name": "c.jpg"}]
    with pytest.raises(InputError) as error:
        read(write_list(tmp_path / "a.json", images, [arm(image_id=7)]), "all", ARM)
    assert str(error.value) == (
        f"{tmp_path}/a.json: images[0] ('a.jpg') and images[2] ('c.jpg') both have the id 7, as in lists that were "
        "merged; expected different ids. Number the images of one list again, and the 'image_id' of its annotations")


def test_image_that_is_listed_twice_and_repeated_annotation_ids_are_said(tmp_path):
    notes = []
    spec = write_list(tmp_path / "a.json", [IMAGE, IMAGE], [arm(1), arm(1), arm(2)])
    assert len(read(spec, "all", ARM, notes)) == 3
    assert notes == [f"{tmp_path}/a.json: 1 images are listed more than once",
                     f"{tmp_path}/a.json: 1 annotation ids occur more than once, such as 1"]


# --- categories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[PERSON, DOG], [DOG, PERSON]])
def test_category_with_the_schema_s_keypoints_is_read_and_others_are_counted(tmp_path, order):
    people = [arm(1), arm(2, 2), arm(3), arm(4, 2), arm(5, 2, keypoints=[])]
    spec, notes = write_list(tmp_path / "a.json", [IMAGE], people, order), []
    assert [r.person_id for r in read(spec, "all", ARM, notes)] == [1, 3]
    assert notes == [f"{tmp_path}/a.json: reads category arm; excluded annotations of others: 2 dog"]
    dog = Schema("dog", tuple(DOG["keypoints"]))
    assert [r.person_id for r in read(spec, "all", dog)] == [2, 4]


@pytest.mark.parametrize("name", ["dog", "Dog", "2", "category=dog", "category=2,frame=upright"])
def test_category_can_be_stated(tmp_path, name):
    same = {**PERSON, "id": 2, "name": "dog"}  # names the same keypoints
    spec, notes = write_list(tmp_path / "a.json", [IMAGE], [arm(1), arm(2, 2)], [PERSON, same]), []
    assert [r.person_id for r in read(spec, "all", ARM, notes)] == [1, 2] and notes == []
    assert [r.person_id for r in read(f"{spec}#{name}", "all", ARM)] == [2]


@pytest.mark.parametrize(("spec", "categories", "people", "message"), [
    ("#dgo", [PERSON, DOG], [arm()], "no categories are called 'dgo'; did you mean 'dog'?"),
    ("#arm", [PERSON, {**PERSON, "id": 2}], [arm()], "2 categories are called 'arm'; give the id instead of the name"),
    ("#dog", [PERSON, DOG], [arm()], "category 'dog': its keypoints are nose, tail, paw, ... (3), but schema 'arm'"),
    ("", [DOG, {**DOG, "id": 3}], [arm(1, 2)], "category 'dog': its keypoints are nose, tail"),
    ("", [PERSON, DOG], [arm(1, 5)], "annotations[0]: 'category_id' is 5; expected one of the categories (1 arm, 2"),
    ("", [PERSON, DOG], [arm(1, None)], "annotations[0]: 'category_id' is None; expected one of"),
    ("", [PERSON, {**DOG, "id": 1}], [arm()], "categories 'arm' and 'dog' both have the id 1; give each its own"),
    ("", [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], [arm(), arm(2, 2)],
     "categories cat, dog have annotations, but do not name their keypoints; expected one to read. Choose it, as in "
     "coco:FILE#cat"),
    ("", [PERSON, DOG], [arm(1, 2)], "excluded annotations of others: 1 dog; nobody is left. Choose another category"),
])
def test_unclear_category_is_refused(tmp_path, spec, categories, people, message):
    spec = write_list(tmp_path / "a.json", [IMAGE], people, categories) + spec
    with pytest.raises(InputError) as error:
        read(spec, "all", ARM)
    assert message in str(error.value)


@pytest.mark.parametrize("categories", [
    [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}], [{"id": 2, "name": "Person"}, {"id": 1, "name": "car"}]])
def test_person_is_read_if_no_category_names_its_keypoints(tmp_path, categories):
    spec = write_list(tmp_path / "a.json", [IMAGE], [arm(1), arm(2, 2)], categories)
    expected = next(c["id"] for c in categories if c["name"].lower() == "person")
    assert [r.person_id for r in read(spec, "all", ARM)] == [expected]


@pytest.mark.parametrize("categories", [
    [], [{"id": 1, "name": "x"}], [{"id": 1, "name": "x", "keypoints": []}], [PERSON]])
def test_annotations_of_a_single_category_need_not_name_it(tmp_path, categories):
    people = [arm(1), arm(2)]
    del people[0]["category_id"]
    assert len(read(write_list(tmp_path / "a.json", [IMAGE], people, categories), "all", ARM)) == 2


def test_own_schema_precedes_people_of_coco(tmp_path):
    own = {"id": 2, "name": "hand", "keypoints": list(ARM.keypoints)}
    content = coco([coco_person(id=1), arm(2, 2)])
    content["categories"].append(own)
    path = write_json(tmp_path / "a.json", content)
    assert [(r.person_id, r.schema) for r in read(f"coco:{path}", "all", ARM)] == [(2, ARM)]
    assert [(r.person_id, r.schema) for r in read(f"coco:{path}", "all")] == [(1, COCO17)]
    assert [(r.person_id, r.schema) for r in read(f"coco:{path}#person", "all", ARM)] == [(1, COCO17)]


# --- keypoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keypoints", "message"), [
    ([[1, 2, 2]] * 3, "'keypoints' is nested, 3 times [1, 2, 2]; expected one flat list of 9 numbers (x, y, v for 3 "
                      "keypoints). Flatten it, [[x, y, v], ...] to [x, y, v, ...]"),
    ([[1, 2]] * 9, "'keypoints' is nested, 9 times [1, 2]; expected one flat list of 9 numbers"),
    ([[[1, 2, 2]] * 3], "'keypoints' is nested, 1 times [[1, 2, 2]"),
    ([None, [1, 2, 2], [1, 2, 2]], "'keypoints' is nested, 3 times [1, 2, 2]; expected one flat list"),
    ([1, 2] * 3, "'keypoints' holds 6 numbers, two per keypoint; expected 9 (x, y, v for 3 keypoints). Add the "
                 "visibility v: 2 visible, 1 occluded, 0 unlabeled"),
    ({"shoulder": [1, 2, 2]}, "'keypoints' holds dict, schema 'arm' needs 9"),
])
def test_other_shapes_of_keypoints_are_named(tmp_path, keypoints, message):
    with pytest.raises(InputError) as error:
        read(write_list(tmp_path / "a.json", [IMAGE], [arm(keypoints=keypoints)]), "all", ARM)
    assert f"annotations[0]: {message}" in str(error.value)


# --- splits, and where notes appear ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("Train", "Validation"), ("My_Train", "My_Validation"), ("train_2024", "val_2024")])
def test_subsets_of_cvat_are_splits_and_their_folders_are_found(tmp_path, rng, names):
    for subset in names:  # the same file name in both
        points = places(rng, (120, 60))
        write_image(tmp_path / "images" / subset / "a.jpg", marked(points, (120, 60)))
        write_list(tmp_path / "annotations" / f"person_keypoints_{subset}.json", [IMAGE], [person(1, points)])
    for split, subset in (("train", names[0]), ("val", names[1]), ("test", names[1])):
        record, = read(f"coco:{tmp_path}", split, ARM)
        assert record.image.path == tmp_path / "images" / subset / "a.jpg" and hits(record) == 3
    write_list(tmp_path / "annotations" / "person_keypoints_Test.json", [{"id": 1, "file_name": "t.jpg"}], [arm(9)])
    assert [r.person_id for r in read(f"coco:{tmp_path}", "test", ARM)] == [9]
    assert len(read(f"coco:{tmp_path}", "all", ARM)) == 3


@pytest.mark.parametrize(("names", "splits"), [
    (("train", "val"), [1, 2, 2, 3]), (("train", "test"), [1, 0, 2, 3]), (("train", "val", "test"), [1, 2, 3, 6])])
@pytest.mark.parametrize("prefix", ["annotations/person_keypoints_", "person_keypoints_", "annotations/", ""])
def test_files_of_a_folder_are_splits_by_their_names(tmp_path, prefix, names, splits):
    """The first file has one person, the second two, the third three; without a val, it is held out of train."""
    for count, name in enumerate(names, 1):
        write_list(tmp_path / f"{prefix}{name}.json", [IMAGE], [arm(n) for n in range(count)])
        write_json(tmp_path / "annotations" / f"captions_{name}.json", {})
    if names == ("train", "test") and "person_keypoints" not in prefix:
        with pytest.raises(InputError, match=r"\.json files \("):
            read(f"coco:{tmp_path}", "all", ARM)
        return
    if "annotations" not in prefix:
        for path in (tmp_path / "annotations").iterdir():
            path.unlink()
    found = []
    for split in ("train", "val", "test", "all"):
        try:
            found.append(len(read(f"coco:{tmp_path}", split, ARM)))
        except InputError:  # a single image cannot be divided
            found.append(0)
    assert found == splits


def test_training_and_check_say_what_was_excluded(tmp_path, capsys, rng):
    points = places(rng, (120, 60))
    write_image(tmp_path / "a.jpg", marked(points, (120, 60)))
    images = [IMAGE, {"id": 2, "file_name": "lost.jpg"}]
    people = [person(1, points, 1), person(2, points, 2), arm(3, 2)]
    spec = write_list(tmp_path / "a.json", images, people, [PERSON, DOG])
    expected = [f"{tmp_path}/a.json: reads category arm; excluded annotations of others: 1 dog",
                f"{tmp_path}/a.json: 1 of 2 images are missing; the first, lost.jpg: tried 'lost.jpg' in {tmp_path}, "
                f"and its name below {tmp_path}. Put it there, or give the folder of the images "
                "(coco:FILE#images=FOLDER)"]
    torso = Schema("arm", ARM.keypoints, torso=("shoulder", "wrist"))
    assert load_splits([spec], torso, custom=True).notes == tuple(expected)
    (tmp_path / "arm.yaml").write_text(f"name: arm\nkeypoints: [{', '.join(ARM.keypoints)}]\n")
    data.FLAGS.unparse_flags()
    with pytest.raises(SystemExit):
        app.run(data.main, data.FLAGS, "", ["posecascade-data", "check", f"--data={spec}",
                                            f"--schema={tmp_path / 'arm.yaml'}", f"--output={tmp_path / 'out.json'}"])
    assert all(f"note: {note}\n" in capsys.readouterr().out for note in expected[:1])
    assert json.loads((tmp_path / "out.json").read_text())[spec]["notes"] == expected


def test_run_is_not_resumed_in_another_frame(tmp_path):
    spec = write_list(tmp_path / "a.json", [IMAGE, {"id": 2, "file_name": "b.jpg"}], [arm(1), arm(2, image_id=2)])
    torso = Schema("arm", ARM.keypoints, torso=("shoulder", "wrist"))
    prints = [load_splits([f"{spec}{options}"], torso, custom=True).fingerprint()
              for options in ("", "#arm", "#frame=stored", "#frame=upright")]
    assert prints[0] == prints[1] and len(set(prints)) == 3
