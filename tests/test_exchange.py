"""Labels of other tools become the same people in COCO's layout; each file here has the shape that its tool writes."""

import json

import pytest
from exchange_files import HEIGHT, WIDTH, converted, points, refused, write_image

from posecascade.errors import InputError
from posecascade.exchange import READERS
from posecascade.exchange.people import schema_of
from posecascade.schema import COCO17, find_schema

# --- Label Studio ----------------------------------------------------------------------------------------------------


def region(key, kind, value, **fields):
    return {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "value": value, "id": key,
            "from_name": {"keypointlabels": "kp", "rectanglelabels": "box"}.get(kind, "vis"), "to_name": "img",
            "type": kind, "origin": "manual"} | fields


def keypoint(key, name, x, y, **fields):
    return region(key, "keypointlabels", {"x": x, "y": y, "width": 0.4, "keypointlabels": [name]}, **fields)


def rectangle(key, label, x, y, w, h):
    return region(key, "rectanglelabels", {"x": x, "y": y, "width": w, "height": h, "rotation": 0,
                                           "rectanglelabels": [label]})


def task(number, image, *results, **fields):
    return {"id": number, "annotations": [{
        "id": 10 * number, "completed_by": 1, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2024-05-01T10:00:00Z", "updated_at": "2024-05-01T10:01:00Z", "draft_created_at": None,
        "lead_time": 12.3, "prediction": {}, "result_count": len(results), "unique_id": "x", "last_action": None,
        "task": number, "project": 3, "updated_by": 1, "parent_prediction": None, "parent_annotation": None,
    } | fields], "file_upload": image.rpartition("/")[2], "drafts": [], "predictions": [], "data": {"img": image},
        "meta": {}, "created_at": "2024-05-01T09:00:00Z", "updated_at": "2024-05-01T10:01:00Z", "inner_id": number,
        "total_annotations": 1, "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0,
        "unresolved_comment_count": 0, "last_comment_updated_at": None, "project": 3, "updated_by": 1,
        "comment_authors": []}


def write_tasks(tmp_path, *tasks):
    path = tmp_path / "project-3-at-2024.json"
    path.write_text(json.dumps(tasks))
    return path


def test_label_studio_ties_keypoints_to_rectangles_by_nesting_relation_and_place(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    source = write_tasks(
        tmp_path, task(1, "/data/local-files/?d=images%2Fa.png",
                       rectangle("r1", "Person", 10, 10, 30, 80), rectangle("r2", "Person", 60, 10, 30, 80),
                       keypoint("k1", "Left Wrist", 5, 50, parentID="r1"),
                       keypoint("k2", "Right Wrist", 65.25, 50), keypoint("k3", "Left Wrist", 15, 20),
                       {"from_id": "k3", "to_id": "r2", "type": "relation", "direction": "right"},
                       region("k3", "choices", {"x": 15, "y": 20, "width": 0.4, "choices": ["occluded"]}),
                       region("p", "polygonlabels", {"points": [], "polygonlabels": ["sky"]})),
        task(2, "/data/upload/3/0a1b2c3d-b.jpg", keypoint("k", "Left Wrist", 50, 50, hidden=True)),
        task(3, "c.jpg", was_cancelled=True))
    records, excluded, content = converted(tmp_path, source, "labelstudio")
    assert [points(record) for record in records] == [
        [("left_wrist", 10, 50, 2)], [("left_wrist", 30, 20, 1), ("right_wrist", 130.5, 50, 2)],
        [("left_wrist", 100, 50, 1)]]
    assert records[1].box.as_list() == [120, 10, 60, 80]
    assert excluded == {"regions of type polygonlabels": 1, "tasks without annotation": 1}
    assert content["images"] == [
        {"id": 1, "file_name": "images/a.png", "width": 200, "height": 100},
        {"id": 2, "file_name": "/data/upload/3/0a1b2c3d-b.jpg", "width": 200, "height": 100},
        {"id": 3, "file_name": "c.jpg"}]
    assert find_schema(str(tmp_path / "people.yaml")).pairs == (("left_wrist", "right_wrist"),)


@pytest.mark.parametrize(("results", "message"), [
    ([keypoint("a", "Nose", 1, 1), keypoint("b", "Nose", 2, 2)],
     "has keypoint 'Nose' twice for one person; expected one. Draw a rectangle around each person, and relate the "
     "keypoints to it"),
    ([rectangle("r", "P", 0, 0, 9, 9), rectangle("s", "P", 5, 0, 9, 9), keypoint("a", "Nose", 6, 1)],
     "keypoint 'Nose' is in 2 rectangles and related to none; expected one person. Relate it to a rectangle"),
    ([keypoint("a", "Nose", 6, 1, image_rotation=90)],
     "its image was rotated in Label Studio, or replaced by one of another size; expected labels of one upright image. "
     "Rotate the file and label it again"),
    ([region("r", "rectanglelabels", {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 30,
                                      "rectanglelabels": ["P"]}), keypoint("a", "Nose", 1, 1)],
     "rectangle 'P' is rotated by 30 degrees; expected upright rectangles. Draw it again"),
    ([keypoint("a", "Nose", "x", 1)], "x of 'Nose' is 'x'; expected a finite number. Fix the file"),
])
def test_label_studio_refuses_what_it_cannot_say(tmp_path, results, message):
    assert message in refused(write_tasks(tmp_path, task(7, "a.jpg", *results)), "labelstudio", tmp_path)


def test_several_categories_are_a_choice_and_others_are_counted(tmp_path):
    source = write_tasks(tmp_path, task(1, "a.jpg", rectangle("r", "cat", 0, 0, 9, 9),
                                        rectangle("s", "person", 50, 0, 9, 9), keypoint("a", "Nose", 1, 1),
                                        keypoint("b", "Nose", 51, 1)))
    assert refused(source, "labelstudio", tmp_path) == (
        "DIR/project-3-at-2024.json: has several rectangle labels, cat (1), person (1); choose one with --category")
    records, excluded, content = converted(tmp_path, source, "labelstudio", category="person")
    assert [points(record) for record in records] == [[("nose", 102, 1, 2)]]
    assert excluded == {"people of label cat": 1} and content["categories"][0]["name"] == "person"


# --- CVAT ------------------------------------------------------------------------------------------------------------

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>people</name><size>2</size><mode>annotation</mode><labels>
    <label><name>person</name><color>#5e7934</color><type>skeleton</type><attributes></attributes>
      <svg>&lt;line x1="1" y1="2" x2="3" y2="4" data-type="edge" data-node-from="1" data-node-to="3"&gt;&lt;/line&gt;
        &lt;circle r="1.5" data-type="element node" data-element-id="1" data-node-id="1" data-label-name="nose"&gt;
        &lt;/circle&gt;&lt;circle r="1.5" data-node-id="3" data-label-name="tail"&gt;&lt;/circle&gt;</svg></label>
    <label><name>nose</name><color>#d12345</color><type>points</type><attributes></attributes>
      <parent>person</parent></label>
    <label><name>tail</name><type>points</type><attributes></attributes><parent>person</parent></label>
    <label><name>car</name><type>rectangle</type><attributes></attributes></label>
  </labels></task><dumped>2024-05-01 10:00:00.0+00:00</dumped></meta>
  <image id="0" name="a.png" width="200" height="100">
    <skeleton label="person" source="manual" z_order="0" group_id="1">
      <points label="tail" source="manual" outside="0" occluded="1" points="30.50,40.25"></points>
      <points label="nose" source="manual" outside="1" occluded="0" points="0.00,0.00"></points>
    </skeleton>
    <box label="person" source="manual" occluded="0" xtl="10.00" ytl="20.00" xbr="50.00" ybr="90.00" z_order="0"
      group_id="1"></box>
    <box label="car" source="manual" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4" z_order="0"></box>
  </image>
  <image id="1" name="sub/b.png" subset="Train" task_id="4" width="60" height="80">
    <skeleton label="person" source="manual" z_order="0">
      <points label="nose" source="manual" outside="0" occluded="0" points="3.00,4.00"></points>
      <points label="tail" source="manual" outside="0" occluded="0" points="5.00,6.00"></points>
    </skeleton>
  </image>
</annotations>
"""


@pytest.fixture
def cvat(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    write_image(tmp_path / "images" / "Train" / "sub" / "b.png")
    (tmp_path / "annotations.xml").write_text(CVAT)
    return tmp_path / "annotations.xml"


def test_cvat_skeletons_keep_order_limbs_boxes_and_visibility(tmp_path, cvat):
    records, excluded, content = converted(tmp_path, cvat, "cvat")
    assert [points(record) for record in records] == [[("tail", 30.5, 40.25, 1)],
                                                      [("nose", 3, 4, 2), ("tail", 5, 6, 2)]]
    assert records[0].box.as_list() == [10, 20, 40, 70]
    assert excluded == {"shapes <box>": 1}
    assert [image["file_name"] for image in content["images"]] == ["images/a.png", "images/Train/sub/b.png"]
    assert content["categories"] == [{"id": 1, "name": "person", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}]


@pytest.mark.parametrize(("old", "new", "message"), [
    ('<image id="0"', "<track/><image", "has <track>, so it is CVAT for video; expected CVAT for images 1.1. Export "
                                         "the task in that format"),
    ("</annotations>", "", "is not XML (no element found: line 30, column 0); give annotations.xml of the export"),
    ('points="30.50,40.25"', 'points="30.50"', "image 'a.png': y of 'tail' is ''; expected a finite number. Fix the"),
    ("<annotations>", '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotations>',
     "declares a document type; expected plain XML as CVAT writes it. Remove <!DOCTYPE>"),
    ('<skeleton label="person"', '<skeleton label="child"',
     "has several skeletons, child (1), person (1); choose one with --category"),
])
def test_cvat_refuses_what_it_cannot_read(tmp_path, cvat, old, new, message):
    cvat.write_text(CVAT.replace(old, new, 1))
    assert message in refused(cvat, "cvat", tmp_path)


# --- labelme ---------------------------------------------------------------------------------------------------------


def shape(label, kind, xy, group=None, **flags):
    return {"label": label, "points": xy, "group_id": group, "description": "", "shape_type": kind, "flags": flags,
            "mask": None}


def write_labelme(folder, name, *shapes):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH}))
    return folder


def test_labelme_groups_are_people(tmp_path):
    write_image(tmp_path / "labels" / "a.png")
    folder = write_labelme(tmp_path / "labels", "a", shape("nose", "point", [[1.5, 2]], 1),
                           shape("nose", "point", [[11, 12]], 2), shape("tail", "point", [[3, 4]], 1, occluded=True),
                           shape("person", "rectangle", [[50, 60], [0, 1]], 1), shape("sky", "polygon", [[0, 0]] * 3))
    write_labelme(folder, "b", shape("tail", "point", [[7, 8]]))
    (folder / "notes.json").write_text("{}")
    records, excluded, content = converted(tmp_path, folder, "labelme")
    assert [points(record) for record in records] == [[("nose", 1.5, 2, 2), ("tail", 3, 4, 1)], [("nose", 11, 12, 2)],
                                                      [("tail", 7, 8, 2)]]
    assert records[0].box.as_list() == [0, 1, 50, 59]
    assert excluded == {"shapes of type polygon": 1, "files that are not labelme's": 1}
    assert [image["file_name"] for image in content["images"]] == ["labels/a.png", "b.png"]


def test_labelme_without_groups_holds_one_person(tmp_path):
    folder = write_labelme(tmp_path / "labels", "a", shape("nose", "point", [[1, 2]]), shape("nose", "point", [[3, 4]]))
    assert refused(folder, "labelme", tmp_path) == (
        "DIR/labels/a.json, shapes[1]: is the second point 'nose' without group_id; expected one per person. Give each "
        "person a group_id of its own in labelme")


# --- schemas and the table -------------------------------------------------------------------------------------------


def test_schema_of_known_names_is_built_in_and_sides_are_pairs(tmp_path):
    assert schema_of(COCO17.keypoints) is COCO17
    mine = schema_of(("l_hand", "r_hand", "wrist.left", "wrist.right", "leftfoot", "rightfoot", "bell", "left"))
    assert mine.pairs == (("l_hand", "r_hand"), ("wrist.left", "wrist.right"), ("leftfoot", "rightfoot"))
    assert schema_of(("left_shoulder", "right_hip")).torso == ("left_shoulder", "right_hip")


def test_completed_schema_is_kept_and_another_one_refused(tmp_path, cvat):
    converted(tmp_path, cvat, "cvat")
    completed = (tmp_path / "people.yaml").read_text().replace("pairs: []", "pairs: [[nose, tail]]")
    (tmp_path / "people.yaml").write_text(completed)
    converted(tmp_path, cvat, "cvat")
    assert (tmp_path / "people.yaml").read_text() == completed
    (tmp_path / "people.yaml").write_text("name: mine\nkeypoints: [tail, nose]\n")
    with pytest.raises(InputError, match=r"people.yaml: is a schema of tail, nose, ..., the labels have nose, tail, "
                                         r"...; remove it, or choose another --output"):
        converted(tmp_path, cvat, "cvat")


@pytest.mark.parametrize("tool", READERS)
def test_every_reader_refuses_what_is_no_file_of_its_tool(tmp_path, tool):
    suffix = {"cvat": ".xml", "yolo": ".yaml", "deeplabcut": ".csv", "sleap": ".csv"}.get(tool, ".json")
    for number, text in enumerate(("", "[]", "{}", "1,2\n3,4\n", "<a/>", '[{"a": 1}]', '{"shapes": [1]}')):
        source = tmp_path / f"{number}{suffix}"
        source.write_text(text)
        assert f"{number}{suffix}" in refused(source, tool, tmp_path)
