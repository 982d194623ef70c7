"""Videos: frames back as written, upright sizes, the crop that follows, the search when the person is lost."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference import video
from posecascade.inference.smoothing import one_euro
from posecascade.poses import Pose
from posecascade.schema import Schema

CORNERS = np.array([[10.0, 20.0], [60.0, 20.0], [30.0, 90.0]])


def toy_pose(keypoints, scores, box):
    return Pose(keypoints, scores, scores, Schema("toy", tuple("abcd"[:len(keypoints)])), box)


def frames(count, height=48, width=64):
    return [np.full((height, width, 3), (20 * i, 100, 200 - 20 * i), np.uint8) for i in range(count)]


def write(path, images, rate=10.0):
    with video.Writer(path, rate) as writer:
        for image in images:
            writer.write(image)


def test_a_video_comes_back_as_it_was_written(tmp_path):
    write(tmp_path / "a.mp4", frames(6), rate=12.5)
    with video.opened(tmp_path / "a.mp4", "a.mp4") as found:
        assert (found.name, found.rate) == ("a.mp4", 12.5)
        back = list(found.frames)
    assert len(back) == 6
    # MPEG-4 loses up to 5 gray levels. Below 10, half of what neighbors differ by, no other frame would do, nor, with
    # red and blue exchanged, any but the last, whose both are alike.
    for image, original in zip(back, frames(6), strict=True):
        np.testing.assert_allclose(image.mean((0, 1)), original[0, 0], atol=9)


def test_odd_sides_are_filled_up_and_not_cut(tmp_path):
    write(tmp_path / "a.mp4", frames(2, 47, 63))
    with video.opened(tmp_path / "a.mp4", "a.mp4") as found:
        assert next(found.frames).shape == (48, 64, 3)


def test_a_camera_that_is_not_there_is_told_by_nobody_else(capfd):
    with pytest.raises(InputError, match=r"^camera 77: cannot be opened, .*; check its number$"), \
            video.opened(77, "77"):
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, b"", b"no video", "cut"], ids=str)
def test_what_is_no_video_is_refused_in_one_line_and_nothing_else_is_printed(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    if content == "cut":
        write(path, frames(6))
        path.write_bytes(path.read_bytes()[:300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"^video in/a.mp4: cannot be opened, or has no frame"), \
            video.opened(path, "in/a.mp4"):
        pass
    assert capfd.readouterr() == ("", "")


class ToyCamera:
    """Three frames, and no idea of its rate."""

    def __init__(self, source):
        self.source, self.left, self.released = source, frames(3), False
        ToyCamera.last = self

    def isOpened(self):
        return self.source == 5

    def read(self):
        return (True, self.left.pop(0)) if self.left else (False, None)

    def get(self, _):
        return 0.0

    def release(self):
        self.released = True


def test_a_camera_is_opened_by_its_number_and_closed(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", ToyCamera)
    with video.opened(5, "5") as found:
        assert found.rate == video.USUAL_RATE
        np.testing.assert_array_equal(np.stack(list(found.frames)), np.stack(frames(3))[..., ::-1])
    assert ToyCamera.last.released
    with pytest.raises(InputError, match=r"^camera 6: cannot be opened, .* check its number"), video.opened(6, "6"):
        pass
    assert ToyCamera.last.released


def followed(scores, smooth=False, shift=3.0, **limit):
    """The boxes a toy predictor is asked for, and its poses, over frames with these scores of all joints."""
    asked, found = [], iter(enumerate(scores))

    def predict(image, box):
        asked.append(box)
        number, score = next(found)
        return toy_pose(CORNERS + shift * number, np.full(3, score), box or Box(0, 0, 64, 48))

    clip = video.Video("v", 10.0, iter(frames(len(scores))))
    return asked, [pose for _, pose in video.follow(predict, clip, smooth=smooth, **limit)]


def test_the_crop_follows_the_last_pose_and_a_lost_person_is_looked_for():
    asked, poses = followed([0.9, 0.9, 0.05, 0.9, 0.9])
    assert asked[0] is None and asked[3] is None  # the first, and the one after the person was lost
    for number in (1, 2, 4):
        assert asked[number] == Box(10.0 + 3 * (number - 1), 20.0 + 3 * (number - 1), 50, 70)
    for number, pose in enumerate(poses):
        np.testing.assert_array_equal(pose.keypoints, CORNERS + 3 * number)


def test_where_a_curve_made_the_scores_the_limit_is_on_its_scale():
    asked, _ = followed([0.9, 0.4, 0.9], followed=0.5)
    assert [box is None for box in asked] == [True, False, True]


def test_smoothing_is_the_filter_over_time_and_begins_anew_after_a_loss():
    _, plain = followed([0.9, 0.9, 0.9])
    _, smooth = followed([0.9, 0.9, 0.9], smooth=True)
    state = None
    for raw, pose in zip(plain, smooth, strict=True):
        state = one_euro(state, raw.keypoints, 0.1, max(pose.box.w, pose.box.h))
        np.testing.assert_allclose(pose.keypoints, state.points)
    assert np.abs(smooth[2].keypoints - plain[2].keypoints).min() > 0
    _, lost = followed([0.9, 0.05, 0.9], smooth=True)
    np.testing.assert_array_equal(lost[2].keypoints, CORNERS + 6)


def test_the_next_box_leaves_unsure_joints_out_and_is_never_empty():
    image = np.zeros((100, 200, 3), np.uint8)
    keypoints, scores = np.array([[5.0, 5], [15, 5], [10, 35], [190, 90]]), np.array([0.9, 0.5, 0.2, 0.1])
    pose = toy_pose(keypoints, scores, Box(0, 0, 9, 9))
    assert video.next_box(pose, image) == Box(5, 5, 10, 30)
    assert video.next_box(replace(pose, scores=np.array([0.9, 0.9, 0.1, 0.1])), image) is None
    one_place = replace(pose, keypoints=np.full((4, 2), 50.0))
    assert video.next_box(one_place, image) == Box(45, 45, 10, 10)  # a twentieth of the longer side
