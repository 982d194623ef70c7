"""Who is looked for is found: in the whole picture, in its parts, and closer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_spots import CODEC, MEASURED, SIZE, Spots, person, predictor

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference.search import TILES, tile_boxes, whole_box


def test_without_a_box_the_person_is_found_and_looked_at_again():
    image, joints, box = person(900, 1200, middle=(300, 620), reach=110)
    run = Spots()
    pose = predictor(run, decoder="dark").predict(image)  # which needs two cells beside a joint, not six
    # Found in the whole picture to a pixel of that crop, then in a crop round them.
    coarse = 1.25 * 1200 / SIZE
    np.testing.assert_allclose(pose.box.as_list(), box.as_list(), atol=2 * coarse)
    assert np.abs(pose.keypoints - joints).max() <= (4 * CODEC + MEASURED) * pose.box.side / SIZE
    assert len(run.batches) in (2, 3)
    given = predictor(run).predict(image, box.as_list())
    assert given.box == box and len(run.batches) in (3, 4)


@pytest.mark.parametrize(("peak", "batches"), [(lambda model: 0.05 / len(model.batches), [1, 4]),
                                               (lambda model: 0.9 / len(model.batches), [1, 1])],
                         ids=["unsure", "worse"])
def test_where_no_joint_is_sure_or_the_second_look_is_worse_the_whole_picture_s_pose_stands(peak, batches):
    image, joints, _ = person(reach=100)
    run = Spots(peak=peak)
    pose = predictor(run).predict(image)
    assert pose.box == whole_box(image) == Box(39.5, -10.5, 320, 320)
    assert run.batches == batches  # three parts fill a batch of four
    np.testing.assert_allclose(pose.keypoints, joints, atol=2 * 400 / SIZE)


class Sighted(Spots):
    """As real models are, unsure of who is small in the crop; and blind to who is cut off."""

    def __call__(self, batch):
        reaches = [np.ptp(self.joints(image)[:, 1]) for image in batch]
        maps = super().__call__(batch)
        return maps | {"heatmaps": maps["heatmaps"] * np.float32([1 if reach > 30 else 0.2 for reach in reaches])[
            :, None, None, None]}


@pytest.mark.parametrize(("middle", "shape"), [
    ((60, 70), (150, 600)), ((300, 80), (150, 600)), ((70, 540), (600, 140))], ids=str)
def test_who_is_small_in_a_long_picture_is_found_in_the_part_that_shows_it_best(middle, shape):
    image, joints, box = person(*shape, middle=middle, reach=40)
    run = Sighted()
    pose = predictor(run, decoder="dark").predict(image)
    assert run.batches[:2] == [1, 4]
    np.testing.assert_allclose(pose.box.as_list(), box.as_list(), atol=5)
    np.testing.assert_allclose(pose.keypoints, joints, atol=1)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_looks_show_the_whole_picture_and_all_of_its_parts_in_whole_pixels(height, width):
    image = np.broadcast_to(np.uint8(0), (height, width, 3))

    def shown(box):
        assert all(float(np.float32(value)) == value for value in box.as_list())  # the same in single precision
        return [(middle - 0.5 * box.side, middle + 0.5 * box.side) for middle in box.center]

    longer, shorter = max(height, width), min(height, width)
    for (low, high), edge in zip(shown(whole_box(image)), (width, height), strict=True):
        assert low <= -0.5 and high >= edge - 0.5 and longer <= high - low < longer + 1.25
    parts = [shown(box) for box in tile_boxes(image)]
    assert len(parts) == (0 if height == width else TILES)
    along = 0 if width > height else 1
    for (low, high), after in zip([part[along] for part in parts], [part[along] for part in parts[1:]], strict=False):
        assert shorter <= high - low < shorter + 1.25 and low < after[0]
    if parts:
        assert parts[0][along][0] <= -0.5 and parts[-1][along][1] >= longer - 0.5
        assert all(part[1 - along][0] <= -0.5 and part[1 - along][1] >= shorter - 0.5 for part in parts)


def test_known_and_unknown_people_go_together():
    one, two = person(), person(600, 500, middle=(240, 400), reach=80)
    found = predictor().predict_batch([one[0], two[0], two[0]], [one[2], None, two[2]])
    assert [pose.box for pose in (found[0], found[2])] == [one[2], two[2]]
    for pose, joints in zip(found, (one[1], two[1], two[1]), strict=True):
        np.testing.assert_allclose(pose.keypoints, joints, atol=1)
    with pytest.raises(InputError, match="got 1 images and 2 boxes"):
        predictor().predict_batch([one[0]], [None, None])
