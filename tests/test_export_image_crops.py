"""Crops cut in a graph equal those of `images.crop` for any box, also in a SavedModel without posecascade."""

import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from image_files import RGB, chunk, jpeg, jpeg_of, png, png_of, random_png, scene, segment, tiff

from posecascade import images
from posecascade.export.graph import images as graph_images
from posecascade.geometry import Box, crop_transform

SIZE = 64
FILES, BOXES = tf.TensorSpec((None,), tf.string), tf.TensorSpec((None, 4), tf.float32)


def graph(*signature):
    return tf.function(input_signature=signature, autograph=False)


@pytest.fixture(scope="module")
def crops_of_images():
    return graph(tf.TensorSpec((None, None, None, 3), tf.uint8), BOXES)(
        lambda batch, boxes: graph_images.crops(graph_images.from_images(batch), boxes, SIZE))


def cropped_files():
    """Return a function traced with the current limits."""
    def crop(image_bytes, boxes):
        decoded = graph_images.decode_all(image_bytes)
        return graph_images.crops(decoded, boxes, SIZE), decoded.readable

    return graph(FILES, BOXES)(crop)


@pytest.fixture(scope="module")
def crops_of_files():
    return cropped_files()


def expected(image, box):
    return images.crop(image, crop_transform(Box(*map(float, box)), SIZE), SIZE)


def difference(actual, expected):
    return np.abs(np.asarray(actual).astype(int) - expected)


def factor_of(box):
    """Return the factor by which `images.crop` shrinks the image for the box."""
    pixel = 1.25 * max(box[2:]) / SIZE
    return 2 ** int(np.clip(np.floor(np.log2(pixel)), 0, 6))


# Both are bilinear and round; the float32 values of OpenCV and TensorFlow sometimes differ around a half.
ROUNDING = 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (203, 1), (7, 3), (203, 301), (1500, 1000)], ids=str)
def test_crops_of_images_agree_for_any_box(crops_of_images, rng, shape):
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    sides = np.exp(rng.uniform(np.log(0.1), np.log(10_000), (120, 2)))
    boxes = np.column_stack([rng.uniform(-1, 1, (120, 2)) * sides + rng.uniform(0, 1, (120, 2)) * shape[::-1], sides])
    boxes = boxes.astype(np.float32)
    assert {factor_of(box) for box in boxes} == {1, 2, 4, 8, 16, 32, 64}
    actual = np.concatenate([crops_of_images(image[None], box[None]) for box in boxes])
    reference = np.stack([expected(image, box) for box in boxes])
    assert difference(actual, reference).max() <= ROUNDING
    assert (actual != reference).mean() < 1e-3


@pytest.mark.parametrize("side", [SIZE, 2 * SIZE, 4 * SIZE, 64 * SIZE, 128 * SIZE])
def test_crop_at_an_integer_factor_has_the_means_of_its_blocks(crops_of_images, rng, side):
    image = rng.integers(0, 256, (side + 13, side + 5, 3), np.uint8)[:200]
    box = np.float32([0, 0, side / 1.25, side / 1.25])
    assert difference(crops_of_images(image[None], box[None])[0], expected(image, box)).max() <= ROUNDING


@pytest.mark.parametrize("box", [
    (0, 0, 0, 9), (0, 0, 9, -1), (0, 0, -3, -3), (np.nan, 0, 9, 9), (0, np.inf, 9, 9), (0, 0, np.nan, 9),
    (0, 0, 9, np.inf), (-np.inf, 0, np.inf, 9), (1e9, 0, 9, 9), (-1e9, 0, 9, 9), (0, 1e38, 9, 9), (50, 0, 4, 4),
    (-3e38, -3e38, 9, 9), (3e38, 3e38, 3e38, 3e38)], ids=str)
def test_invalid_or_distant_box_gives_gray(crops_of_images, rng, box):
    batch = rng.integers(0, 256, (2, 24, 37, 3), np.uint8)
    actual = crops_of_images(batch, np.float32([box, (3, 4, 12, 9)])).numpy()
    assert (actual[0] == 127).all()
    assert difference(actual[1], expected(batch[1], (3, 4, 12, 9))).max() <= ROUNDING


@pytest.mark.parametrize("box", [(-1.6e38, -1.6e38, 3.2e38, 3.2e38), (-1e30, -1e30, 2e30, 2e30), (3, 3, 1e-30, 1e-30)],
                         ids=str)
def test_huge_or_tiny_box_gives_a_crop(crops_of_images, box):
    image = np.full((1, 24, 37, 3), 200, np.uint8)
    actual = crops_of_images(image, np.float32([box])).numpy()
    assert set(np.unique(actual)) <= set(range(127, 201))


def test_no_image_gives_no_crop(crops_of_images, crops_of_files):
    assert crops_of_images(np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 4), np.float32)).shape == (0, SIZE, SIZE, 3)
    assert crops_of_files([], np.zeros((0, 4), np.float32))[0].shape == (0, SIZE, SIZE, 3)


# Crops of an image stored shrunk are cut from rounded means (PNG) or libjpeg's reduced pixels (JPEG). If the crop is
# shrunk as much anyway, that is one more rounding; else these smooth images lose a few levels at extrema. A crop
# shifted by one pixel is off by 6 levels on average (255 in 40 pixels).
STORED_SHRUNK_MAX, STORED_SHRUNK_MEAN = 8, 1


def test_crops_of_a_shrunk_and_rotated_image_are_in_place(monkeypatch, rng):
    monkeypatch.setattr(graph_images, "STORED_PIXELS", 301 * 203 // 16 + 1)
    run, image = cropped_files(), scene(301, 203, rng, grain=40)
    files = [file for orientation in range(1, 9) for file in (
        jpeg(image, segment(b"Exif\0\0" + tiff(orientation)), quality=95),
        png(image, 8, RGB, before=chunk(b"eXIf", tiff(orientation))))]
    for box in np.float32([(70, 75, 60, 60), (45, 50, 110, 110)]):  # inside the image, upright or rotated
        for data, actual in zip(files, run(files, np.stack([box] * len(files)))[0], strict=True):
            away = difference(actual, expected(images.decode(data, "an image", upright=True), box))
            assert away.max() <= STORED_SHRUNK_MAX and away.mean() <= STORED_SHRUNK_MEAN


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 8000), (".png", 4200)])  # of more than STORED_PIXELS
def test_crops_of_a_huge_image_agree(crops_of_files, rng, suffix, side):
    huge = cv2.resize(rng.integers(0, 256, (200, 200, 3), np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
    quick = (cv2.IMWRITE_PNG_COMPRESSION, 1) if suffix == ".png" else ()
    data = cv2.imencode(suffix, huge, quick)[1].tobytes()
    image = images.decode(data, "an image", upright=True)
    for box in np.float32([(-100, 0, side, 0.9 * side), (side // 2 + 1, side // 2 + 3, 90, 60)]):
        actual, [readable] = crops_of_files([data], box[None])
        away = difference(actual[0], expected(image, box))
        assert readable and away.max() <= STORED_SHRUNK_MAX and away.mean() <= STORED_SHRUNK_MEAN


PROGRAM = """
import resource, sys
import numpy as np, tensorflow as tf

def peak():  # MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 20 if sys.platform == "darwin" else 2 ** 10)

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
given = np.load(sys.argv[1] + "/given.npz", allow_pickle=True)
def ask(name):
    files = list(given[name])
    actual = serve(image_bytes=tf.constant(files, tf.string), boxes=tf.tile([[1.0, 2, 20, 12]], (len(files), 1)))
    return {name + "_" + key: value.numpy() for key, value in actual.items()}

answers = ask("mixed") | ask("one") | ask("bad") | ask("none")
before = peak()
answers |= ask("bombs")
np.savez(sys.argv[1] + "/answers.npz", grown=peak() - before, **answers)
sys.exit("posecascade" in sys.modules)
"""


def test_saved_model_serves_without_posecascade_and_without_memory_for_bombs(crops_of_files, tmp_path, rng):
    image = scene(37, 24, rng)
    intact = [jpeg(image), random_png(37, 24, 16, 6, rng), jpeg(image, segment(b"Exif\0\0" + tiff(8)))]
    zeros = zlib.compress(bytes(10 ** 7))
    files = {"mixed": [intact[0], b"", intact[1], intact[2][:-30], intact[2]], "one": intact[:1], "none": [],
             "bad": [b"", b"none", intact[0][:200]],
             "bombs": [intact[0], png_of(30_000, 30_000, 8, RGB, zeros), jpeg_of(65_000, 65_000, image),
                       png_of(2 ** 31 - 1, 1, 1, 0, zeros), png_of(8193, 8192, 16, 6, zeros)]}
    signature = graph(tf.TensorSpec((None,), tf.string, "image_bytes"), tf.TensorSpec((None, 4), tf.float32, "boxes"))(
        lambda image_bytes, boxes: dict(zip(("crops", "readable"), crops_of_files(image_bytes, boxes), strict=True)))
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"serving_default": signature})
    np.savez(tmp_path / "given.npz", **{name: np.array([*rows, None], object)[:-1] for name, rows in files.items()})
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "answers.npz")
    assert answers["mixed_readable"].tolist() == [True, False, True, False, True]
    assert answers["bombs_readable"].tolist() == [True, False, False, False, False]
    assert answers["one_readable"].all() and not answers["bad_readable"].any() and not answers["none_readable"].size
    for name, rows in files.items():
        for crop, readable, data in zip(answers[f"{name}_crops"], answers[f"{name}_readable"], rows, strict=True):
            reference = expected(images.decode(data, "a", upright=True), (1, 2, 20, 12)) if readable else 127
            assert difference(crop, reference).max() <= ROUNDING
    assert answers["grown"] < 100  # MB; the smallest of the bombs would take 512
