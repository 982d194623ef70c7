"""Boxes that show nobody are replaced by the smallest sensible one, or the person is excluded and counted."""

import cv2
import numpy as np
import pytest
from annotations import coco, coco_person, write_json

from posecascade import datasets
from posecascade.datasets.boxes import box_around
from posecascade.errors import InputError
from posecascade.geometry import Box

FULL = [100, 80, 60, 120]


def keypoints(*known, count=17):
    """Return COCO's flat list, with the given (x, y) at its beginning and nothing labeled after these."""
    return [n for x, y in known for n in (x, y, 2)] + [0] * 3 * (count - len(known))


def spread(count=17, low=(105, 85), high=(155, 195)):
    return np.linspace(low, high, count).tolist()


@pytest.fixture
def read(tmp_path):
    """Return a function from annotations to the records that are read, and the notes about them."""
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((240, 320, 3), np.uint8))

    def run(*people):
        notes = []
        path = write_json(tmp_path / "people.json", coco(people))
        return datasets.read(f"coco:{path}", "all", None, notes), notes
    return run


@pytest.mark.parametrize("box", [FULL, [100, 80, 4, 2], [0.5, 0.5, 30, 30]])
def test_sensible_boxes_are_kept(read, box):
    near = np.linspace((box[0], box[1]), (box[0] + box[2], box[1] + box[3]), 17).tolist()
    (record,), notes = read(coco_person(keypoints=keypoints(*near), bbox=box))
    assert (record.box.as_list(), notes) == (box, [])


@pytest.mark.parametrize("box", [[130, 140, 0, 0], [130, 140, 1, 1], [130, 140, 3, 2], [130, 140, 20, 0]])
def test_boxes_of_nothing_are_replaced_by_the_segmentation(read, box):
    outline = [100, 80, 160, 80, 160, 200, 100, 200]
    (record,), notes = read(coco_person(keypoints=keypoints(*spread()), bbox=box, segmentation=[outline]))
    assert record.box.as_list() == FULL
    assert len(notes) == 1 and "1 people have no box that shows them" in notes[0] and "1 from segmentation" in notes[0]


def test_without_segmentation_the_keypoints_decide(read):
    (record,), _ = read(coco_person(keypoints=keypoints(*spread()), bbox=[130, 140, 1, 1]))
    assert record.box.as_list() == [105, 85, 50, 110]


def test_box_around_few_keypoints_is_enlarged(read):
    few = [(100, 100), (110, 140), (120, 120)]
    (record,), notes = read(coco_person(keypoints=keypoints(*few), bbox=[100, 100, 20, 40]))
    assert record.box.center == (110, 120)
    assert (record.box.w, record.box.h) == pytest.approx((34, 68))
    assert "1 from keypoints" in notes[0]


def test_single_keypoint_has_a_share_of_the_image(read):
    (record,), notes = read(coco_person(keypoints=keypoints((100, 100)), bbox=[100, 100, 0, 0], area=0))
    assert record.box.as_list() == [60, 60, 80, 80]
    assert "1 from a share of the image" in notes[0]


def test_area_decides_for_a_single_keypoint(read):
    (record,), _ = read(coco_person(keypoints=keypoints((100, 100)), bbox=[100, 100, 0, 0], area=900.0))
    assert record.box.as_list() == [85, 85, 30, 30]


def test_coordinates_in_0_to_1_are_refused(read):
    share = np.array(spread()) / (320, 240)
    with pytest.raises(InputError, match=r"people\.json: all 17 labeled keypoints are between 0 and 1; expected pixels"
                                         r"\. They are probably fractions of the image's width and height"):
        read(coco_person(keypoints=keypoints(*share.tolist()), bbox=[0.3, 0.3, 0.2, 0.5]))


def test_person_in_0_to_1_among_others_is_excluded_and_counted(read):
    share = np.array(spread()) / (320, 240)
    records, notes = read(coco_person(keypoints=keypoints(*share.tolist()), bbox=[0.3, 0.3, 0.2, 0.5]),
                          coco_person(keypoints=keypoints(*spread()), bbox=FULL))
    assert [record.box.as_list() for record in records] == [FULL]
    assert len(notes) == 1 and "excludes 1 people without any sensible box, the first is" in notes[0]
    assert notes[0].endswith("annotations[0]")


def test_tiny_person_in_the_corner_is_read(read):
    tiny = np.linspace((0, 0), (5, 6), 17).round().tolist()
    (record,), notes = read(coco_person(keypoints=keypoints(*tiny), bbox=[0, 0, 5, 6]))
    assert (record.box.as_list(), notes) == ([0, 0, 5, 6], [])
    (record,), _ = read(coco_person(keypoints=keypoints((0.5, 0.5)), bbox=[0, 0, 40, 60]))
    assert record.box.as_list() == [0, 0, 40, 60]


def test_mpii_scale_decides_if_keypoints_are_within_some_pixels():
    square = Box(50, 50, 100, 100)
    assert box_around(np.array([[80.0, 80.0]]), square) == square
    assert box_around(np.array([[80.0, 80.0], [90, 99]]), square) == Box(80, 80, 10, 19)
    assert box_around(np.array([[80.0, 80.0]]), None) == Box(79.5, 79.5, 1, 1)


# --- what a file as a whole shows -------------------------------------------------------------------------------


def test_keypoints_at_the_corner_that_stand_for_unlabeled_ones_are_unlabeled(read):
    values = keypoints(*spread())
    values[0:2] = values[6:8] = [0, 0]
    (record,), notes = read(coco_person(keypoints=values, bbox=FULL))
    assert np.flatnonzero(~record.labeled).tolist() == [0, 2]
    assert len(notes) == 1 and "2 keypoints at exactly (0, 0) are labeled" in notes[0]


def test_fractions_are_refused_even_if_some_lie_beyond_the_edge(read):
    people = [coco_person(id=n, keypoints=keypoints(*(spread(low=(.1, .2), high=(1.02, .9)))), bbox=FULL)
              for n in range(3)]
    with pytest.raises(InputError, match=r"51 labeled keypoints are between 0 and 1; expected pixels\."):
        read(*people)


def test_boxes_given_by_two_corners_are_refused(tmp_path):
    content = coco([coco_person(id=n, keypoints=keypoints(*spread(low=(205, 105), high=(295, 215))),
                                bbox=[200, 100, 300, 220]) for n in range(6)])
    content["images"][0] |= {"width": 320, "height": 240}
    path = write_json(tmp_path / "people.json", content)
    with pytest.raises(InputError, match=r"6 of 6 boxes leave their images as x, y, width, height, but fit as two cor"):
        datasets.read(f"coco:{path}", "all", None)


@pytest.mark.parametrize(("size", "per_cent"), [((1280, 960), True), ((110, 90), False)])
def test_keypoints_in_per_cent_are_pointed_out(tmp_path, size, per_cent):
    content = coco([coco_person(id=n, keypoints=keypoints(*spread(low=(5, 5), high=(95, 95))), bbox=[5, 5, 90, 90])
                    for n in range(4)])
    content["images"][0] |= {"width": size[0], "height": size[1]}
    notes = []
    datasets.read(f"coco:{write_json(tmp_path / 'people.json', content)}", "all", None, notes)
    assert any("they may be per cent of the sides" in note for note in notes) == per_cent


@pytest.mark.parametrize("changes", [{"bbox": [10 ** 400, 0, 5, 5]}, {"area": 10 ** 400},
                                     {"segmentation": [[10 ** 400, 1, 2, 3]]}])
def test_numbers_beyond_floats_are_no_boxes(read, changes):
    (record,), _ = read(coco_person(keypoints=keypoints(*spread()), **{"bbox": FULL, **changes}))
    assert max(record.box.w, record.box.h) < 200


@pytest.mark.parametrize(("changes", "message"), [
    ({"iscrowd": "0"}, "'iscrowd' is '0'; expected 0 or 1. Fix the file"),
    ({"pseudo": "false"}, "'pseudo' is 'false'; expected 0 or 1. Fix the file"),
    ({"keypoints": [10 ** 400, 1, 2] * 17}, "'keypoints' holds a value that is not a number; fix the file")])
def test_values_of_other_types_are_refused(read, changes, message):
    with pytest.raises(InputError) as error:
        read(coco_person(**{"keypoints": keypoints(*spread()), "bbox": FULL, **changes}))
    assert str(error.value).endswith(f"annotations[0]: {message}")
