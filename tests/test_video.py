"""Videos: reading and writing frames, tracking by crops, and the search after the person is lost."""

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


def test_written_video_is_read_back(tmp_path):
    write(tmp_path / "a.mp4", frames(6), rate=12.5)
    with video.opened(tmp_path / "a.mp4", "a.mp4") as opened:
        assert (opened.name, opened.rate) == ("a.mp4", 12.5)
        back = list(opened.frames)
    assert len(back) == 6
    # MPEG-4 changes colors by up to 5 gray levels. Successive frames differ by 20, and red from blue by 40 or more,
    # except in the frame where both are 100.
    for image, original in zip(back, frames(6), strict=True):
        np.testing.assert_allclose(image.mean((0, 1)), original[0, 0], atol=9)


def test_odd_sides_are_padded_not_cut(tmp_path):
    write(tmp_path / "a.mp4", frames(2, 47, 63))
    with video.opened(tmp_path / "a.mp4", "a.mp4") as opened:
        assert next(opened.frames).shape == (48, 64, 3)


def test_missing_camera_is_refused_and_opencv_prints_nothing(capfd):
    with pytest.raises(InputError, match=r"^camera 77: cannot be opened, or no frame can be decoded; check the "
                                         r"number$"), video.opened(77, "77"):
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, b"", b"no video", "cut"], ids=str)
def test_invalid_video_is_refused_and_opencv_prints_nothing(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    if content == "cut":
        write(path, frames(6))
        path.write_bytes(path.read_bytes()[:300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised, video.opened(path, "in/a.mp4"):
        pass
    assert str(raised.value) == (
        "video in/a.mp4: cannot be opened, or no frame can be decoded; copy it again, or convert it to H.264, as by "
        "ffmpeg -i in/a.mp4 -c:v libx264 -pix_fmt yuv420p converted.mp4")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("code", "codec"), [(b"av01", "AV1"), (b"vvc1", "H.266")])
def test_codec_that_cannot_be_decoded_is_named(tmp_path, code, codec, capfd):
    write(tmp_path / "a.mp4", frames(3))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.count(b"mp4v") == data.count(b"esds") == 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"mp4v", code).replace(b"esds", b"free"))
    with pytest.raises(InputError) as raised, video.opened(tmp_path / "a.mp4", "a.mp4"):
        pass
    assert str(raised.value) == (
        f"video a.mp4: is coded in {codec}, which cannot be decoded here, or is damaged; copy it again, or convert it "
        "to H.264, as by ffmpeg -i a.mp4 -c:v libx264 -pix_fmt yuv420p converted.mp4")
    assert capfd.readouterr() == ("", "")


class ToyCamera:
    """A camera with number 5 that has three frames and reports no frame rate."""

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


def test_camera_is_opened_by_number_and_closed(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", ToyCamera)
    with video.opened(5, "5") as opened:
        assert opened.rate == video.USUAL_RATE
        np.testing.assert_array_equal(np.stack(list(opened.frames)), np.stack(frames(3))[..., ::-1])
    assert ToyCamera.last.released
    with pytest.raises(InputError, match=r"^camera 6: cannot be opened, .* check the number"), video.opened(6, "6"):
        pass
    assert ToyCamera.last.released


def followed(scores, smooth=False, shift=3.0, **limit):
    """The boxes passed to a toy predictor and its poses, for frames whose keypoints have these scores."""
    boxes, numbered_scores = [], iter(enumerate(scores))

    def predict(image, box):
        boxes.append(box)
        number, score = next(numbered_scores)
        return toy_pose(CORNERS + shift * number, np.full(3, score), box or Box(0, 0, 64, 48))

    clip = video.Video("v", 10.0, iter(frames(len(scores))))
    return boxes, [pose for _, pose in video.follow(predict, clip, smooth=smooth, **limit)]


def test_crop_follows_the_last_pose_and_a_lost_person_is_searched_for():
    boxes, poses = followed([0.9, 0.9, 0.05, 0.9, 0.9])
    assert boxes[0] is None and boxes[3] is None  # in the first frame, and after the frame in which the person is lost
    for number in (1, 2, 4):
        assert boxes[number] == Box(10.0 + 3 * (number - 1), 20.0 + 3 * (number - 1), 50, 70)
    for number, pose in enumerate(poses):
        np.testing.assert_array_equal(pose.keypoints, CORNERS + 3 * number)


def test_tracking_threshold_can_be_set():
    boxes, _ = followed([0.9, 0.4, 0.9], followed=0.5)
    assert [box is None for box in boxes] == [True, False, True]


def test_smoothing_applies_the_filter_and_is_reset_when_the_person_is_lost():
    _, plain = followed([0.9, 0.9, 0.9])
    _, smooth = followed([0.9, 0.9, 0.9], smooth=True)
    state = None
    for raw, pose in zip(plain, smooth, strict=True):
        state = one_euro(state, raw.keypoints, 0.1, max(pose.box.w, pose.box.h))
        np.testing.assert_allclose(pose.keypoints, state.points)
    assert np.abs(smooth[2].keypoints - plain[2].keypoints).min() > 0
    _, lost = followed([0.9, 0.05, 0.9], smooth=True)
    np.testing.assert_array_equal(lost[2].keypoints, CORNERS + 6)


def test_next_box_excludes_uncertain_keypoints_and_is_never_empty():
    image = np.zeros((100, 200, 3), np.uint8)
    keypoints, scores = np.array([[5.0, 5], [15, 5], [10, 35], [190, 90]]), np.array([0.9, 0.5, 0.2, 0.1])
    pose = toy_pose(keypoints, scores, Box(0, 0, 9, 9))
    assert video.next_box(pose, image) == Box(5, 5, 10, 30)
    assert video.next_box(replace(pose, scores=np.array([0.9, 0.9, 0.1, 0.1])), image) is None
    same_point = replace(pose, keypoints=np.full((4, 2), 50.0))
    assert video.next_box(same_point, image) == Box(45, 45, 10, 10)  # a twentieth of the longer side
