"""Compare the signatures of a SavedModel loaded from disk with `Predictor` on the same images."""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
import spots
import tensorflow as tf
from image_files import jpeg, segment, tiff
from PIL import Image

from posecascade.codec import decoders
from posecascade.export.graph import serving
from posecascade.export.graph.network import Network
from posecascade.formats.bundle import SIGNATURES
from posecascade.formats.keras_file import Metadata
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.inference import search
from posecascade.inference.predictor import Predictor, run_of
from posecascade.models import cascade
from posecascade.schema import LSP14

SIZE = spots.SIZE
# Pixels of the crop. Both cut the same crop, except for one level in under a thousandth of its pixels
# (test_export_image_crops). A level in one pixel is 1/16 * 1/255 of a cell, of 0.9 at the peak, and moves the mean
# position under the squared map by some 1e-4 px; a decoder in float32 adds 1e-3 px (test_export_decoding), and float32
# positions in images up to 900 px 1e-4 px. So 0.01 is more than enough, and a tenth of what a certificate allows.
MAX_DISTANCE = 0.01
MAX_SCORE_ERROR = 1e-3  # also of visibility: a level changes a cell by 2e-4, and part maps are up to 4 times as steep


@pytest.fixture(scope="module")
def model():
    return spots.network()


@pytest.fixture(scope="module")
def predictor(model):
    return spots.predictor_of(model)


@pytest.fixture(scope="module")
def eager(model):
    """Return the functions of the signatures, called eagerly."""
    return serving.Serving(Network(model, spots.metadata()))


@pytest.fixture(scope="module")
def traced(eager):
    return eager.signatures("the metadata")


@pytest.fixture(scope="module")
def loaded(eager, traced, tmp_path_factory):
    module, folder = tf.Module(), str(tmp_path_factory.mktemp("saved"))
    module.network = eager.network
    tf.saved_model.save(module, folder, signatures=traced)
    return tf.saved_model.load(folder)


@pytest.fixture(scope="module")
def signatures(loaded):
    return loaded.signatures


def files(images):
    return tf.constant([spots.png(image) for image in images])


def boxes_of(boxes):
    return tf.constant([box.as_list() for box in boxes], tf.float32)


def values(answer):
    return {name: np.asarray(value) for name, value in answer.items()}


def assert_same(answer, poses, boxes=None):
    """Assert that the answer agrees with the poses."""
    answer = values(answer)
    assert set(answer) == set(serving.Answer._fields)
    assert all(value.dtype == np.float32 for value in answer.values())
    np.testing.assert_array_equal(answer["box"], np.float32([box.as_list() for box in boxes or
                                                             [pose.box for pose in poses]]))
    zoom = np.array([SIZE / pose.box.side for pose in poses])
    away = np.linalg.norm(answer["keypoints"] - np.stack([pose.keypoints for pose in poses]), axis=-1) * zoom[:, None]
    assert away.max() <= MAX_DISTANCE
    for name in ("scores", "visibility"):
        np.testing.assert_allclose(answer[name], [getattr(pose, name) for pose in poses], atol=MAX_SCORE_ERROR)


# Images of several sizes with a person's box: tight, loose, partly outside of the image, and with one or more pixels of
# the image per pixel of the crop (up to 4: blocks of them are averaged).
def people():
    rng = np.random.default_rng(7)
    one = spots.person(rng=rng)
    near = spots.person(200, 150, (60, 90), 55, rng)
    small = spots.person(90, 100, (50, 44), 30, rng)
    large = spots.person(700, 500, (260, 340), 210, rng)
    return [(one.image, one.box), (one.image, Box(100, 30, 140, 160)), (near.image, near.box),
            (near.image, Box(-30, -10, 180, 190)), (small.image, small.box), (large.image, large.box),
            (large.image, Box(-100, -100, 900, 850))]


def test_poses_in_boxes_agree_with_the_predictor(signatures, predictor):
    images, boxes = map(list, zip(*people(), strict=True))
    poses = predictor(images, boxes)
    assert_same(signatures["with_boxes"](image_bytes=files(images), boxes=boxes_of(boxes)), poses, boxes)
    for image, box, pose in zip(images, boxes, poses, strict=True):
        assert_same(signatures["images"](images=tf.constant(image[None]), boxes=boxes_of([box])), [pose], [box])
    assert min(pose.scores.min() for pose in poses[:-1]) > 0.5  # not found by chance


def images_without_boxes():
    """Return images without boxes, and how many crops each needs: spots of small people are hard to detect."""
    rng = np.random.default_rng(8)
    filling = spots.person(208, 128, (63.5, 103.5), 100, wide=0.5)
    closer = spots.person(240, 320, (150, 120), 60, rng)
    # The right shoulder is detected only in the crop around the others, and is outside of their box.
    hidden = spots.person(300, 420, (180, 150), 95, strength=[1, 1, 0.65, 1, 1], wide=[1, 1, 0.6, 1, 1])
    nobody = spots.person(240, 200, (100, 120), 80, rng, strength=0.2)
    gray = cv2.cvtColor(closer.image, cv2.COLOR_RGB2GRAY)
    square = spots.person(160, 160, (80, 80), 70, strength=0.2)  # has no tiles
    aside, above = spots.person(150, 500, (400, 75), 66, rng), spots.person(700, 180, (80, 90), 70, rng)
    return [(filling.image, 2), (closer.image, 2), (hidden.image, 3), (nobody.image, 2), (gray, 2), (square.image, 1),
            (aside.image, 3), (above.image, 3)]


def rounds(predictor, image):
    """Return how many crops of an image the predictor runs."""
    calls = []
    replace(predictor, run=lambda crops: calls.append(1) or predictor.run(crops)).predict_batch([image])
    return len(calls)


def test_people_without_boxes_agree_with_the_predictor(signatures, predictor):
    images = [image for image, _ in images_without_boxes()]
    assert [rounds(predictor, image) for image in images] == [count for _, count in images_without_boxes()]
    assert_same(signatures["serving_default"](image_bytes=files(images)), predictor.predict_batch(images))


def test_worse_second_crop_is_dropped(eager, predictor, monkeypatch):
    images = [image for image, count in images_without_boxes() if count > 1]
    for module in (serving, search):
        monkeypatch.setattr(module, "MIN_SCORE_RATIO", 10)
    poses = predictor.predict_batch(images)
    assert all(pose.box in [search.whole_box(image), *search.tile_boxes(image)]
               for pose, image in zip(poses, images, strict=True))
    assert_same(eager.serving_default(files(images)), poses)


def test_rows_are_independent(signatures):
    images = [image for image, _ in images_without_boxes()]
    together = values(signatures["serving_default"](image_bytes=files(images)))
    back = values(signatures["serving_default"](image_bytes=files(images[::-1])))
    for row, image in enumerate(images):
        alone = values(signatures["serving_default"](image_bytes=files([image])))
        for name, value in alone.items():
            # In another batch a convolution sums in another order: float32 in images up to 500 px.
            np.testing.assert_allclose(value[0], together[name][row], atol=1e-4)
            np.testing.assert_allclose(value[0], back[name][-1 - row], atol=1e-4)


@pytest.mark.parametrize("box", [
    (5, 5, 0, 20), (5, 5, 20, -1), (5, 5, -4, -4), (np.nan, 5, 20, 20), (5, 5, np.nan, 20), (np.inf, 5, 20, 20),
    (5, 5, np.inf, 20), (-np.inf, 5, np.inf, 20), (3e38, 3e38, 3e38, 3e38)], ids=str)
def test_invalid_box_has_a_row_of_zeros(traced, box):
    good = spots.person()
    found = values(traced["images"](images=tf.constant(np.stack([good.image] * 2)),
                                    boxes=tf.constant([box, good.box.as_list()], tf.float32)))
    for name, value in found.items():
        assert not value[0].any(), name
    assert np.abs(found["keypoints"][1] - good.keypoints).max() < 1


@pytest.mark.parametrize("box", [(1e9, 0, 9, 9), (-1e9, -1e9, 9, 9), (400, 300, 10, 10), (-1e30, -1e30, 2e30, 2e30),
                                 (3, 3, 1e-6, 1e-6), (0, 0, 1e9, 1)], ids=str)
def test_distant_huge_or_tiny_boxes_have_finite_rows(traced, box):
    image = spots.person().image
    found = values(traced["images"](images=tf.constant(image[None]), boxes=tf.constant([box], tf.float32)))
    assert all(np.isfinite(value).all() for value in found.values())
    np.testing.assert_array_equal(found["box"], np.float32([box]))
    low, side = np.float64(box[:2]) + np.float64(box[2:]) / 2, 1.25 * max(box[2:])
    assert (np.abs(found["keypoints"][0] - low) <= side / 2 + 1e-6 * np.abs(low)).all()  # in the crop


def test_unreadable_image_has_a_row_of_zeros_and_does_not_affect_others(signatures):
    one = spots.person()
    intact = spots.png(one.image)
    rows = [intact, b"", b"not an image", intact[:len(intact) // 2], jpeg(one.image)[:900], intact]
    boxes = boxes_of([one.box] * len(rows))
    alone = {"serving_default": signatures["serving_default"](image_bytes=tf.constant([intact])),
             "with_boxes": signatures["with_boxes"](image_bytes=tf.constant([intact]), boxes=boxes[:1])}
    for name, given in (("serving_default", {}), ("with_boxes", {"boxes": boxes})):
        found = values(signatures[name](image_bytes=tf.constant(rows), **given))
        for key, value in found.items():
            assert not value[1:-1].any(), key
            for row in (0, -1):
                np.testing.assert_allclose(value[row], values(alone[name])[key][0], atol=1e-4)
        assert found["scores"][0].min() > 0.5


def test_maps_of_crops_agree_with_the_predictor(signatures, predictor):
    crops, _ = predictor.crops(*map(list, zip(*people(), strict=True)))
    found, expected = values(signatures["heatmaps"](crops=tf.constant(crops))), predictor.maps(crops)
    assert found.keys() == expected.keys() == {"parts", "heatmaps"}
    for name, maps in expected.items():
        np.testing.assert_allclose(found[name], maps, atol=1e-5)
    assert set(signatures) == set(SIGNATURES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("decoder", decoders.DECODERS)
def test_diverged_network_returns_finite_numbers(model, decoder, bad):
    maps = np.full((1, 32, 32, 5), bad, np.float32)
    maps[0, :3, :, 1] = 0
    outputs = {"parts": maps, "heatmaps": maps}
    network = Network(model, spots.metadata(decoder))
    network._call = lambda crops: {name: tf.constant(value) for name, value in outputs.items()}
    image = np.zeros((1, 50, 60, 3), np.uint8)
    found = values(serving.Serving(network).images(tf.constant(image), tf.constant([[-0.5, -0.5, 60, 50]])))
    assert all(np.isfinite(value).all() for value in found.values())
    if not np.isfinite(bad):  # 1e38 is finite, but its square only in the predictor's float64
        predictor = Predictor(run_of(lambda crops: outputs), spots.SPOTS, SIZE, spots.STRIDE, decoder)
        assert_same(found, predictor([image[0]], [Box(-0.5, -0.5, 60, 50)]))


@pytest.mark.parametrize(("decoder", "outputs"), [
    *((decoder, ("parts", "heatmaps")) for decoder in decoders.DECODERS), ("soft", ("parts",)),
    ("dark", ("heatmaps",))])
def test_every_stage_and_decoder_agree_with_the_predictor(decoder, outputs):
    model = spots.network(outputs)
    served, predictor = serving.Serving(Network(model, spots.metadata(decoder))), spots.predictor_of(model, decoder)
    images, boxes = map(list, zip(*people()[:5], strict=True))
    assert_same(served.with_boxes(files(images), boxes_of(boxes)), predictor(images, boxes), boxes)
    images = [image for image, _ in images_without_boxes()]
    assert_same(served.serving_default(files(images)), predictor.predict_batch(images))


@pytest.mark.parametrize("stage", ["detector", "regressor"])
def test_single_stages_of_a_cascade_agree_with_the_predictor(stage, rng):
    keras.utils.set_random_seed(6)
    model = cascade(14, stages=stage, backbone="tiny", width=16)
    given = Metadata(LSP14, 64, 4, decoder="argmax")
    predictor = Predictor(run_of(model.predict_on_batch), LSP14, 64, 4, "argmax")
    image = rng.integers(0, 256, (80, 70, 3), np.uint8)
    box = Box(9, 14, 51.2, 51.2)  # one pixel of the image per pixel of the crop: both cut the same
    [pose] = predictor([image], [box])
    found = values(serving.Serving(Network(model, given)).images(tf.constant(image[None]), boxes_of([box])))
    assert found.keys() == {"keypoints", "scores", "visibility", "box"}
    np.testing.assert_allclose(found["keypoints"][0], pose.keypoints, atol=1e-4)
    np.testing.assert_allclose(found["scores"][0], pose.scores, atol=1e-5)
    np.testing.assert_allclose(found["visibility"][0], pose.visibility, atol=1e-5)


def saved(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_image_is_rotated_upright(traced, predictor, tmp_path, orientation):
    one = spots.person(240, 320, (150, 120), 75)
    path = saved(tmp_path / "a.jpg", jpeg(one.image, segment(b"Exif\0\0" + tiff(orientation)), quality=95,
                                          subsampling=0))
    pose = predictor.predict(path)
    assert_same(traced["serving_default"](image_bytes=tf.constant([path.read_bytes()])), [pose])
    width, height = (320, 240) if orientation < 5 else (240, 320)
    rotated = {1: one.keypoints, 3: [319, 239] - one.keypoints, 6: [239, 0] + one.keypoints[:, ::-1] * [-1, 1],
              8: [0, 319] + one.keypoints[:, ::-1] * [1, -1]}[orientation]
    np.testing.assert_allclose(pose.keypoints, rotated, atol=1)
    assert ImageFile(path, upright=True).read().shape == (height, width, 3)
    assert_same(traced["with_boxes"](image_bytes=tf.constant([path.read_bytes()]), boxes=boxes_of([pose.box])),
                [predictor.predict(path, pose.box)])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_other_kinds_of_images_agree_with_the_predictor(traced, predictor, tmp_path, mode):
    one = spots.person(240, 320, (150, 120), 75)
    image = Image.fromarray(one.image)
    if mode in ("LA", "RGBA"):
        share = np.rint(255 * np.linspace(0.6, 1, 320)).astype(np.uint8)
        image.putalpha(Image.fromarray(np.tile(share, (240, 1))))
    image.convert(mode).save(tmp_path / "a.png")
    pose, found = predictor.predict(tmp_path / "a.png"), traced["serving_default"]
    assert_same(found(image_bytes=tf.constant([(tmp_path / "a.png").read_bytes()])), [pose])
    if mode in ("RGBA", "P"):
        np.testing.assert_allclose(pose.keypoints, one.keypoints, atol=1.5)  # a palette changes the colors slightly


def test_image_of_one_pixel_has_a_pose(signatures, predictor):
    image = np.full((1, 1, 3), 200, np.uint8)
    pose = predictor.predict(image)
    assert_same(signatures["serving_default"](image_bytes=files([image])), [pose])
    assert_same(signatures["images"](images=tf.constant(image[None]), boxes=boxes_of([Box(-0.5, -0.5, 1, 1)])), [pose])
