"""The search for a person without a box: a first look at the complete image, tiles, and closer crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_spots import CODEC, MEASURED, SIZE, Spots, person, predictor

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference.search import TILES, tile_boxes, whole_box


def test_person_without_a_box_is_found_and_predicted_in_a_closer_crop():
    image, keypoints, box = person(900, 1200, middle=(300, 620), reach=110)
    run = Spots()
    pose = predictor(run, decoder="dark").predict(image)  # "dark" needs two cells around a keypoint, not six
    # First found to a pixel of the crop of the complete image, then in a crop around the keypoints.
    coarse = 1.25 * 1200 / SIZE
    np.testing.assert_allclose(pose.box.as_list(), box.as_list(), atol=2 * coarse)
    assert np.abs(pose.keypoints - keypoints).max() <= (4 * CODEC + MEASURED) * pose.box.side / SIZE
    assert len(run.batches) in (2, 3)
    given = predictor(run).predict(image, box.as_list())
    assert given.box == box and len(run.batches) in (3, 4)


@pytest.mark.parametrize(("peak", "batches"), [(lambda model: 0.05 / len(model.batches), [1, 4]),
                                               (lambda model: 0.9 / len(model.batches), [1, 1])],
                         ids=["unsure", "worse"])
def test_first_pose_is_kept_if_scores_are_low_or_closer_crops_score_lower(peak, batches):
    image, keypoints, _ = person(reach=100)
    run = Spots(peak=peak)
    pose = predictor(run).predict(image)
    assert pose.box == whole_box(image) == Box(39.5, -10.5, 320, 320)
    assert run.batches == batches  # the three tiles are padded to a batch of four
    np.testing.assert_allclose(pose.keypoints, keypoints, atol=2 * 400 / SIZE)


class Sighted(Spots):
    """Gives low scores to people who are small in the crop, and none to those who are cut off, like a real model."""

    def __call__(self, batch):
        reaches = [np.ptp(self.keypoints(image)[:, 1]) for image in batch]
        maps = super().__call__(batch)
        return maps | {"heatmaps": maps["heatmaps"] * np.float32([1 if reach > 30 else 0.2 for reach in reaches])[
            :, None, None, None]}


@pytest.mark.parametrize(("middle", "shape"), [
    ((60, 70), (150, 600)), ((300, 80), (150, 600)), ((70, 540), (600, 140))], ids=str)
def test_small_person_in_a_long_image_is_found_in_a_tile(middle, shape):
    image, keypoints, box = person(*shape, middle=middle, reach=40)
    run = Sighted()
    pose = predictor(run, decoder="dark").predict(image)
    assert run.batches[:2] == [1, 4]
    np.testing.assert_allclose(pose.box.as_list(), box.as_list(), atol=5)
    np.testing.assert_allclose(pose.keypoints, keypoints, atol=1)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_crops_cover_the_image_and_all_tiles_in_whole_pixels(height, width):
    image = np.broadcast_to(np.uint8(0), (height, width, 3))

    def shown(box):
        assert all(float(np.float32(value)) == value for value in box.as_list())  # exact in single precision
        return [(center - 0.5 * box.side, center + 0.5 * box.side) for center in box.center]

    longer, shorter = max(height, width), min(height, width)
    for (low, high), edge in zip(shown(whole_box(image)), (width, height), strict=True):
        assert low <= -0.5 and high >= edge - 0.5 and longer <= high - low < longer + 1.25
    tiles = [shown(box) for box in tile_boxes(image)]
    assert len(tiles) == (0 if height == width else TILES)
    along = 0 if width > height else 1
    for (low, high), after in zip([tile[along] for tile in tiles], [tile[along] for tile in tiles[1:]], strict=False):
        assert shorter <= high - low < shorter + 1.25 and low < after[0]
    if tiles:
        assert tiles[0][along][0] <= -0.5 and tiles[-1][along][1] >= longer - 0.5
        assert all(tile[1 - along][0] <= -0.5 and tile[1 - along][1] >= shorter - 0.5 for tile in tiles)


def test_known_and_unknown_boxes_can_be_mixed():
    one, two = person(), person(600, 500, middle=(240, 400), reach=80)
    poses = predictor().predict_batch([one[0], two[0], two[0]], [one[2], None, two[2]])
    assert [pose.box for pose in (poses[0], poses[2])] == [one[2], two[2]]
    for pose, keypoints in zip(poses, (one[1], two[1], two[1]), strict=True):
        np.testing.assert_allclose(pose.keypoints, keypoints, atol=1)
    with pytest.raises(InputError) as error:
        predictor().predict_batch([one[0]], [None, None])
    assert str(error.value) == ("predict_batch: got 1 images and 2 boxes; expected one box per image. Pass None for an "
                                "unknown box")
