"""The signatures of a SavedModel beside `Predictor` on the same pictures, as traced and as loaded from disk."""

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
from posecascade.export.graph import serving as answering
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
# Pixels of the crop. Both roads cut the same crop, to one level in under a thousandth of its pixels
# (test_export_image_crops). A level in one pixel is 1/16 * 1/255 of a cell, of 0.9 at the peak, and moves the mean
# place under the squared map by some 1e-4 px; a decoder in float32 adds 1e-3 px (test_export_decoding), and float32
# places in pictures up to 900 px 1e-4 px. So a hundredth is more than enough, and a tenth of what a certificate allows.
AWAY = 0.01
SURE = 1e-3  # of scores and visibility: a level moves a cell by 2e-4, and the part map is up to 4 times as steep


@pytest.fixture(scope="module")
def model():
    return spots.network()


@pytest.fixture(scope="module")
def road(model):
    return spots.road_of(model)


@pytest.fixture(scope="module")
def eager(model):
    """The same functions without the graphs of the whole, to be called at once."""
    return answering.Serving(Network(model, spots.metadata()))


@pytest.fixture(scope="module")
def traced(eager):
    return eager.signatures("the card")


@pytest.fixture(scope="module")
def loaded(eager, traced, tmp_path_factory):
    module, folder = tf.Module(), str(tmp_path_factory.mktemp("saved"))
    module.network = eager.network
    tf.saved_model.save(module, folder, signatures=traced)
    return tf.saved_model.load(folder)


@pytest.fixture(scope="module", params=["traced", "loaded"])
def signatures(request):
    found = request.getfixturevalue(request.param)
    return found if request.param == "traced" else found.signatures


def files(pictures):
    return tf.constant([spots.png(image) for image in pictures])


def boxes_of(boxes):
    return tf.constant([box.as_list() for box in boxes], tf.float32)


def values(answer):
    return {name: np.asarray(value) for name, value in answer.items()}


def assert_same(answer, poses, boxes=None):
    """The answer says of each person what the poses say."""
    answer = values(answer)
    assert set(answer) == set(answering.Answer._fields)
    assert all(value.dtype == np.float32 for value in answer.values())
    np.testing.assert_array_equal(answer["box"], np.float32([box.as_list() for box in boxes or
                                                             [pose.box for pose in poses]]))
    zoom = np.array([SIZE / pose.box.side for pose in poses])
    away = np.linalg.norm(answer["keypoints"] - np.stack([pose.keypoints for pose in poses]), axis=-1) * zoom[:, None]
    assert away.max() <= AWAY
    for name in ("scores", "visibility"):
        np.testing.assert_allclose(answer[name], [getattr(pose, name) for pose in poses], atol=SURE)


# Pictures of all sizes with their person's box: tight, loose, reaching out of the picture, and of one or more pixels of
# the picture to a pixel of the crop (up to 4: blocks of them are averaged).
def people():
    rng = np.random.default_rng(7)
    one = spots.person(rng=rng)
    near = spots.person(200, 150, (60, 90), 55, rng)
    small = spots.person(90, 100, (50, 44), 30, rng)
    large = spots.person(700, 500, (260, 340), 210, rng)
    return [(one.image, one.box), (one.image, Box(100, 30, 140, 160)), (near.image, near.box),
            (near.image, Box(-30, -10, 180, 190)), (small.image, small.box), (large.image, large.box),
            (large.image, Box(-100, -100, 900, 850))]


def test_who_is_in_a_box_is_who_the_predictor_finds_in_it(signatures, road):
    pictures, boxes = map(list, zip(*people(), strict=True))
    poses = road(pictures, boxes)
    assert_same(signatures["with_boxes"](image_bytes=files(pictures), boxes=boxes_of(boxes)), poses, boxes)
    for image, box, pose in zip(pictures, boxes, poses, strict=True):
        assert_same(signatures["images"](images=tf.constant(image[None]), boxes=boxes_of([box])), [pose], [box])
    assert min(pose.scores.min() for pose in poses[:-1]) > 0.5  # found, and not by chance


def looked_for():
    """Pictures without boxes, and how often each is looked at: the spots of who is small in theirs are hard to see."""
    rng = np.random.default_rng(8)
    filling = spots.person(208, 128, (63.5, 103.5), 100, wide=0.5)
    closer = spots.person(240, 320, (150, 120), 60, rng)
    # The right shoulder is seen in the crop round the others alone, and lies outside of their box.
    hidden = spots.person(300, 420, (180, 150), 95, strength=[1, 1, 0.65, 1, 1], wide=[1, 1, 0.6, 1, 1])
    nobody = spots.person(240, 200, (100, 120), 80, rng, strength=0.2)
    gray = cv2.cvtColor(closer.image, cv2.COLOR_RGB2GRAY)
    square = spots.person(160, 160, (80, 80), 70, strength=0.2)  # has no parts
    aside, above = spots.person(150, 500, (400, 75), 66, rng), spots.person(700, 180, (80, 90), 70, rng)
    return [(filling.image, 2), (closer.image, 2), (hidden.image, 3), (nobody.image, 2), (gray, 2), (square.image, 1),
            (aside.image, 3), (above.image, 3)]


def rounds(road, image):
    """How often the predictor looks at a picture."""
    seen = []
    replace(road, run=lambda crops: seen.append(1) or road.run(crops)).predict_batch([image])
    return len(seen)


def test_who_is_looked_for_is_who_the_predictor_finds(signatures, road):
    pictures = [image for image, _ in looked_for()]
    assert [rounds(road, image) for image in pictures] == [count for _, count in looked_for()]
    assert_same(signatures["serving_default"](image_bytes=files(pictures)), road.predict_batch(pictures))


def test_a_second_look_that_is_worse_is_dropped(eager, road, monkeypatch):
    pictures = [image for image, count in looked_for() if count > 1]
    for module in (answering, search):
        monkeypatch.setattr(module, "MIN_SCORE_RATIO", 10)
    poses = road.predict_batch(pictures)
    assert all(pose.box in [search.whole_box(image), *search.tile_boxes(image)]
               for pose, image in zip(poses, pictures, strict=True))
    assert_same(eager.serving_default(files(pictures)), poses)


def test_rows_do_not_depend_on_one_another(signatures):
    pictures = [image for image, _ in looked_for()]
    together = values(signatures["serving_default"](image_bytes=files(pictures)))
    back = values(signatures["serving_default"](image_bytes=files(pictures[::-1])))
    for row, image in enumerate(pictures):
        alone = values(signatures["serving_default"](image_bytes=files([image])))
        for name, value in alone.items():
            # A convolution sums in another order in another batch: float32 of pictures up to 500 px.
            np.testing.assert_allclose(value[0], together[name][row], atol=1e-4)
            np.testing.assert_allclose(value[0], back[name][-1 - row], atol=1e-4)


@pytest.mark.parametrize("box", [
    (5, 5, 0, 20), (5, 5, 20, -1), (5, 5, -4, -4), (np.nan, 5, 20, 20), (5, 5, np.nan, 20), (np.inf, 5, 20, 20),
    (5, 5, np.inf, 20), (-np.inf, 5, np.inf, 20), (3e38, 3e38, 3e38, 3e38)], ids=str)
def test_what_is_no_box_has_a_row_of_zeros(traced, box):
    good = spots.person()
    found = values(traced["images"](images=tf.constant(np.stack([good.image] * 2)),
                                    boxes=tf.constant([box, good.box.as_list()], tf.float32)))
    for name, value in found.items():
        assert not value[0].any(), name
    assert np.abs(found["keypoints"][1] - good.joints).max() < 1


@pytest.mark.parametrize("box", [(1e9, 0, 9, 9), (-1e9, -1e9, 9, 9), (400, 300, 10, 10), (-1e30, -1e30, 2e30, 2e30),
                                 (3, 3, 1e-6, 1e-6), (0, 0, 1e9, 1)], ids=str)
def test_boxes_far_away_huge_or_tiny_have_finite_rows(traced, box):
    image = spots.person().image
    found = values(traced["images"](images=tf.constant(image[None]), boxes=tf.constant([box], tf.float32)))
    assert all(np.isfinite(value).all() for value in found.values())
    np.testing.assert_array_equal(found["box"], np.float32([box]))
    low, side = np.float64(box[:2]) + np.float64(box[2:]) / 2, 1.25 * max(box[2:])
    assert (np.abs(found["keypoints"][0] - low) <= side / 2 + 1e-6 * np.abs(low)).all()  # in the crop


def test_what_is_no_picture_has_a_row_of_zeros_and_costs_no_other_its_answer(signatures):
    one = spots.person()
    whole = spots.png(one.image)
    rows = [whole, b"", b"no picture", whole[:len(whole) // 2], jpeg(one.image)[:900], whole]
    boxes = boxes_of([one.box] * len(rows))
    alone = {"serving_default": signatures["serving_default"](image_bytes=tf.constant([whole])),
             "with_boxes": signatures["with_boxes"](image_bytes=tf.constant([whole]), boxes=boxes[:1])}
    for name, given in (("serving_default", {}), ("with_boxes", {"boxes": boxes})):
        found = values(signatures[name](image_bytes=tf.constant(rows), **given))
        for key, value in found.items():
            assert not value[1:-1].any(), key
            for row in (0, -1):
                np.testing.assert_allclose(value[row], values(alone[name])[key][0], atol=1e-4)
        assert found["scores"][0].min() > 0.5


def test_crops_give_the_maps_that_the_predictor_sees(signatures, road):
    crops, _ = road.crops(*map(list, zip(*people(), strict=True)))
    found, expected = values(signatures["heatmaps"](crops=tf.constant(crops))), road.maps(crops)
    assert found.keys() == expected.keys() == {"parts", "heatmaps"}
    for name, maps in expected.items():
        np.testing.assert_allclose(found[name], maps, atol=1e-5)
    assert set(signatures) == set(SIGNATURES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("decoder", decoders.DECODERS)
def test_a_diverged_network_answers_with_finite_numbers(model, decoder, bad):
    maps = np.full((1, 32, 32, 5), bad, np.float32)
    maps[0, :3, :, 1] = 0
    outputs = {"parts": maps, "heatmaps": maps}
    network = Network(model, spots.metadata(decoder))
    network._call = lambda crops: {name: tf.constant(value) for name, value in outputs.items()}
    image = np.zeros((1, 50, 60, 3), np.uint8)
    found = values(answering.Serving(network).images(tf.constant(image), tf.constant([[-0.5, -0.5, 60, 50]])))
    assert all(np.isfinite(value).all() for value in found.values())
    if not np.isfinite(bad):  # 1e38 is finite, but its square is in the predictor's float64 alone
        road = Predictor(run_of(lambda crops: outputs), spots.SPOTS, SIZE, spots.STRIDE, decoder)
        assert_same(found, road([image[0]], [Box(-0.5, -0.5, 60, 50)]))


@pytest.mark.parametrize(("decoder", "outputs"), [
    *((decoder, ("parts", "heatmaps")) for decoder in decoders.DECODERS), ("soft", ("parts",)),
    ("dark", ("heatmaps",))])
def test_every_piece_and_decoder_answers_as_the_predictor(decoder, outputs):
    model = spots.network(outputs)
    served, road = answering.Serving(Network(model, spots.metadata(decoder))), spots.road_of(model, decoder)
    pictures, boxes = map(list, zip(*people()[:5], strict=True))
    assert_same(served.with_boxes(files(pictures), boxes_of(boxes)), road(pictures, boxes), boxes)
    pictures = [image for image, _ in looked_for()]
    assert_same(served.serving_default(files(pictures)), road.predict_batch(pictures))


@pytest.mark.parametrize("piece", ["detector", "regressor"])
def test_a_detector_and_a_regressor_alone_answer_as_the_predictor(piece, rng):
    keras.utils.set_random_seed(6)
    model = cascade(14, stages=piece, backbone="tiny", width=16)
    given = Metadata(LSP14, 64, 4, decoder="argmax")
    road = Predictor(run_of(model.predict_on_batch), LSP14, 64, 4, "argmax")
    image = rng.integers(0, 256, (80, 70, 3), np.uint8)
    box = Box(9, 14, 51.2, 51.2)  # of one pixel of the picture to one of the crop: both cut the very same
    [pose] = road([image], [box])
    found = values(answering.Serving(Network(model, given)).images(tf.constant(image[None]), boxes_of([box])))
    assert found.keys() == {"keypoints", "scores", "visibility", "box"}
    np.testing.assert_allclose(found["keypoints"][0], pose.keypoints, atol=1e-4)
    np.testing.assert_allclose(found["scores"][0], pose.scores, atol=1e-5)
    np.testing.assert_allclose(found["visibility"][0], pose.visibility, atol=1e-5)


def saved(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_turned_upright(traced, road, tmp_path, orientation):
    one = spots.person(240, 320, (150, 120), 75)
    path = saved(tmp_path / "a.jpg", jpeg(one.image, segment(b"Exif\0\0" + tiff(orientation)), quality=95,
                                          subsampling=0))
    pose = road.predict(path)
    assert_same(traced["serving_default"](image_bytes=tf.constant([path.read_bytes()])), [pose])
    width, height = (320, 240) if orientation < 5 else (240, 320)
    turned = {1: one.joints, 3: [319, 239] - one.joints, 6: [239, 0] + one.joints[:, ::-1] * [-1, 1],
              8: [0, 319] + one.joints[:, ::-1] * [1, -1]}[orientation]
    np.testing.assert_allclose(pose.keypoints, turned, atol=1)
    assert ImageFile(path, upright=True).read().shape == (height, width, 3)
    assert_same(traced["with_boxes"](image_bytes=tf.constant([path.read_bytes()]), boxes=boxes_of([pose.box])),
                [road.predict(path, pose.box)])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_pictures_of_other_kinds_are_read_as_the_predictor_reads_them(traced, road, tmp_path, mode):
    one = spots.person(240, 320, (150, 120), 75)
    image = Image.fromarray(one.image)
    if mode in ("LA", "RGBA"):
        share = np.rint(255 * np.linspace(0.6, 1, 320)).astype(np.uint8)
        image.putalpha(Image.fromarray(np.tile(share, (240, 1))))
    image.convert(mode).save(tmp_path / "a.png")
    pose, found = road.predict(tmp_path / "a.png"), traced["serving_default"]
    assert_same(found(image_bytes=tf.constant([(tmp_path / "a.png").read_bytes()])), [pose])
    if mode in ("RGBA", "P"):
        np.testing.assert_allclose(pose.keypoints, one.joints, atol=1.5)  # a palette's colors are off a little


def test_a_picture_of_one_pixel_has_an_answer(signatures, road):
    image = np.full((1, 1, 3), 200, np.uint8)
    pose = road.predict(image)
    assert_same(signatures["serving_default"](image_bytes=files([image])), [pose])
    assert_same(signatures["images"](images=tf.constant(image[None]), boxes=boxes_of([Box(-0.5, -0.5, 1, 1)])), [pose])
