"""The kit export/device's one file computes what the package computes: crops, boxes, constants."""

import io
import os

import cv2
import numpy as np
import pytest
from exported import SIZE
from PIL import Image

from posecascade import drawing, files, image_formats, images
from posecascade.geometry import CROP_PADDING, Box, crop_transform
from posecascade.inference import search, smoothing, video


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (203, 1), (7, 3), (203, 301), (1500, 1000)], ids=str)
def test_crops_are_the_package_s_by_opencv_and_within_a_gray_level_without(kit, rng, shape):
    """Whatever the box: far outside, a thousandth of the picture, or many times as large, at every shrinking."""
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    factors = set()
    for side in np.geomspace(0.1, 10_000, 60):
        w, h = rng.permutation([side, side * rng.uniform(0.1, 1)])
        box = Box(*map(float, (*(rng.uniform(-1, 1, 2) * [w, h] + rng.uniform(0, 1, 2) * shape[::-1]), w, h)))
        transform = crop_transform(box, SIZE)
        factors.add(2 ** int(np.clip(np.floor(np.log2(1 / transform.zoom)), 0, 6)))
        wanted = images.crop(image, transform, SIZE).astype(int)
        assert (kit.cropped(image, tuple(box.as_list()), SIZE, cv2)[0] == wanted).all()
        found, scale, start = kit.cropped(image, tuple(box.as_list()), SIZE)
        assert np.abs(found - wanted).max() <= 1
        assert (found != wanted).mean() < 0.01
        np.testing.assert_allclose(np.array([[3, 50]]) / scale + start, transform.inverse()(np.array([[3, 50]])))
    assert factors == {1, 2, 4, 8, 16, 32, 64}


def test_a_person_is_followed_by_joints_whose_peaks_are_high_enough_whatever_the_curve(kit):
    """The scores went the way of the model's curve, and so must the limit."""
    class Curved(kit.PoseModel):
        def __init__(self):
            self._curve = [1.0, 0.5]

        def __call__(self, image, box=None):
            scores = self._calibrated(np.array([0.9, 0.16, 0.2, 0.14]))
            assert scores[3] > kit.FOLLOWED  # but its peak is not
            return kit.Pose(np.array([[10.0, 10], [40, 20], [30, 70], [90, 90]]), scores, scores, (0, 0, 99, 99))

    track = kit.Tracker(Curved(), smooth=False)
    track(np.zeros((100, 100, 3), np.uint8), 0.04)
    assert track._box == (10, 10, 30, 60)


def test_its_numbers_are_the_package_s(kit):
    assert (kit.CONFIDENT, kit.MIN_CONFIDENT, kit.MIN_SIDE, kit.ROUNDS) == (
        search.CONFIDENT, search.MIN_CONFIDENT, search.MIN_SIDE, search.ROUNDS)
    assert (kit.MIN_SCORE_RATIO, kit.CONVERGED_IOU, kit.GRID) == (
        search.MIN_SCORE_RATIO, search.CONVERGED_IOU, search.GRID)
    assert (kit.UNSURE, kit.TILES, kit.PADDING) == (search.UNSURE, search.TILES, CROP_PADDING)
    for height, width in ((480, 640), (641, 480), (7, 1), (33, 33)):
        image = np.broadcast_to(np.uint8(0), (height, width, 3))
        assert kit.box_in(-0.5, -0.5, width, height) == tuple(search.whole_box(image).as_list())
        assert kit.tile_boxes(width, height) == [tuple(box.as_list()) for box in search.tile_boxes(image)]
    assert (kit.FOLLOWED, kit.MIN_CONFIDENT, kit.USUAL_RATE, kit.VIDEOS) == (
        video.FOLLOWED, video.MIN_FOLLOWED, video.USUAL_RATE, image_formats.VIDEO_SUFFIXES)
    assert (kit.MIN_CUTOFF, kit.GROWTH, kit.SPEED_CUTOFF) == (
        smoothing.MIN_CUTOFF, smoothing.CUTOFF_GROWTH, smoothing.SPEED_CUTOFF)
    assert (kit.LEFT[::-1], kit.RIGHT[::-1], kit.MIDDLE[::-1], kit.OUTLINE) == (
        drawing.LEFT, drawing.RIGHT, drawing.MIDDLE, drawing.OUTLINE)


def image_bytes(kind, mode, **options):
    file = io.BytesIO()
    array = np.add.outer(np.arange(40), np.arange(56))[..., None] * [1, 2, 1] % 256
    Image.fromarray(array.astype(np.uint8)).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_images_are_turned_as_the_package_turns_them(kit, tmp_path, kind, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = image_bytes(kind, "RGBA", exif=tags)
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_array_equal(kit.read_image(cv2, tmp_path / "a"), images.decode(data, "a", upright=True))


def test_float_and_16_bit_images_are_read_as_the_package_reads_them(kit, tmp_path, rng):
    for array in (rng.random((20, 30, 3)).astype(np.float32), rng.random((20, 30)).astype(np.float32) * 2,
                  rng.integers(0, 65536, (20, 30, 3), np.uint16), rng.integers(0, 65536, (20, 30, 4), np.uint16)):
        data = cv2.imencode(".tiff", array)[1].tobytes()
        (tmp_path / "a.tiff").write_bytes(data)
        np.testing.assert_array_equal(kit.read_image(cv2, tmp_path / "a.tiff"), images.decode(data, "a", upright=True))


def test_videos_are_recognized_and_timed_as_the_package_does_whatever_their_names(kit, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "a.ts").write_text("export const a = 1")  # TypeScript
    (tmp_path / "b.mp4").write_bytes(image_bytes("JPEG", "RGB"))
    moving = [Image.new("L", (64, 48), 60 * i) for i in range(4)]
    moving[0].save(tmp_path / f"{name}.gif", save_all=True, append_images=moving[1:], duration=[100, 2000, 300, 500])
    with video.Writer(tmp_path / "lapse.mts", 0.2) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    for path in tmp_path.iterdir():
        assert kit.is_video(path) == (image_formats.kind_of_file(path) == "video")
    found = list(kit.frames(cv2, str(tmp_path / f"{name}.gif")))
    np.testing.assert_allclose([seconds for _, _, seconds in found[1:]], [0.1, 2.0, 0.3])
    assert found[0][0] == files.name_to_text(f"{tmp_path / name}.gif#0")
    assert kit.mean_rate(cv2, str(tmp_path / f"{name}.gif")) == pytest.approx(3 / 2.4)
    writer = kit.open_video(cv2, str(tmp_path / f"{name}.mp4"), str(tmp_path / f"{name}.gif"), 1.0, found[0][1])
    writer.write(found[0][1])
    writer.release()
    assert (tmp_path / f"{name}.mp4").stat().st_size > 500
    assert kit.write_jpeg(cv2, str(tmp_path / f"{name}.jpg"), found[0][1])
