"""The road from picture to joints with toy models that see coloured spots, and with a real saved one."""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

import posecascade
from posecascade import codec, pretrained
from posecascade.errors import InputError
from posecascade.geometry import Box, crop_transform
from posecascade.images import warp
from posecascade.models import cascade
from posecascade.predictor import PARTS, PROTOCOLS, Predictor, full_resolution, load, part_boxes, run_of, whole_box
from posecascade.schema import LSP14, Schema

TOY = Schema("toy", ("head", "right_hand", "left_hand"), pairs=(("left_hand", "right_hand"),),
             limbs=(("head", "left_hand"), ("head", "right_hand")))
SIZE = 128
HIDDEN = 0  # the toy model's part maps never show the head
CODEC = 0.05     # cells: what the codec promises (codec.confidence_maps)
MEASURED = 0.1   # crop pixels: how well the toy model finds a spot of 8 bits


class Spots:
    """A model that finds the head as a red spot, and of two green ones calls the picture's left the right hand.

    It keeps the sizes of the batches it was given; its maps can be off by `off` pixels to the right.
    """

    def __init__(self, stride=4, peak=0.9, off=0.0):
        self.stride, self.peak, self.off, self.batches = stride, peak, off, []

    def __call__(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (SIZE, SIZE, 3)
        self.batches.append(len(batch))
        points = np.stack([self.joints(image) for image in batch]).astype(np.float32)
        cells = SIZE // self.stride
        discs = np.array(codec.part_discs(points, cells, cells, stride=self.stride, radius=8))
        discs[..., HIDDEN] = 0
        maps = codec.confidence_maps(points, cells, cells, stride=self.stride, sigma=2 * self.stride)
        peak = self.peak(self) if callable(self.peak) else self.peak
        return {"heatmaps": peak * np.asarray(maps), "parts": 20 * discs - 10}

    def joints(self, image):
        head, hands = spots(image[..., 0]), sorted(spots(image[..., 1]), key=lambda place: place[0])
        if len(head) != 1 or len(hands) != 2:
            return np.full((3, 2), SIZE / 2)
        return np.array([head[0], *hands]) + [self.off, 0]


def spots(channel):
    """Centroids of what is brighter than the border's grey."""
    bright = np.maximum(channel.astype(float) - 140, 0)
    number, labels = cv2.connectedComponents((bright > 0).astype(np.uint8))
    return [np.array(scipy.ndimage.center_of_mass(bright, labels, i))[::-1] for i in range(1, number)]


def picture(height, width, joints, sigma):
    """A red spot at the head, green ones at the hands."""
    image = np.zeros((height, width, 3))
    y, x = np.mgrid[:height, :width]
    for place, channel in zip(joints, (0, 1, 1), strict=True):
        image[..., channel] += 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma ** 2))
    return np.rint(np.minimum(image, 255)).astype(np.uint8)


def predictor(run=None, **options):
    run = run or Spots()
    return Predictor(run_of(run), TOY, SIZE, getattr(run, "stride", 4), **options)


def person(height=300, width=400, middle=(200, 150), reach=60):
    """A picture, its joints, and their box: head above, hands to the sides."""
    joints = np.array(middle) + reach * np.array([[0.1, -1], [-1, 0.4], [0.9, 1]])
    return picture(height, width, joints, sigma=max(reach / 15, 1.5)), joints, Box.round_points(joints)


@st.composite
def people(draw):
    """A picture of any size with a person who fills the middle half of the crop, whose side is 64 px or more.

    (In smaller ones the spots would have too few pixels for the toy model to find their middle.)
    """
    height, width = draw(st.integers(64, 500)), draw(st.integers(64, 500))
    side = draw(st.floats(64, min(height, width)))
    box = Box(*(draw(st.floats(side / 2, edge - side / 2)) - 0.4 * side for edge in (width, height)),
              0.8 * side, 0.8 * side)
    inside = st.floats(36, 92)
    joints = [(draw(inside), draw(st.floats(36, 48))), (draw(st.floats(36, 58)), draw(st.floats(66, 92))),
              (draw(st.floats(78, 92)), draw(st.floats(66, 92)))]
    transform = crop_transform(box, SIZE)
    joints = transform.inverse()(np.array(joints))
    return picture(height, width, joints, max(3 / transform.zoom, 1.5)), joints, box, transform.zoom


@given(case=people(), decoder=st.sampled_from(["dark", "soft"]), stride=st.sampled_from([2, 4]), flip=st.booleans())
@settings(max_examples=40, deadline=None)
def test_joints_come_back_to_their_place_in_the_picture(case, decoder, stride, flip):
    image, joints, box, zoom = case
    [pose] = predictor(Spots(stride), decoder=decoder, flip_test=flip)([image], [box])
    assert np.abs(pose.keypoints - joints).max() <= (CODEC * stride + 2 * MEASURED) / zoom
    assert pose.box == box and pose.names == TOY.keypoints


def test_a_pose_says_what_each_stage_found_and_what_the_detector_saw():
    image, joints, box = person()
    [pose] = predictor()([image], [box])
    assert list(pose.stages) == ["parts", "heatmaps"]
    np.testing.assert_array_equal(pose.keypoints, pose.stages["heatmaps"])
    zoom = SIZE / box.side
    seen = np.arange(3) != HIDDEN
    # The peak of a sampled Gaussian lies within half a cell of the joint: sigma is 2 cells.
    assert (0.9 * np.exp(-(0.5 ** 2 + 0.5 ** 2) / 8) - 1e-3 <= pose.scores).all() and (pose.scores <= 0.9).all()
    # The soft decoder's window would see all of the disc, whose radius is 8 pixels.
    assert np.abs(pose.stages["parts"] - joints)[seen].max() <= 8 / zoom
    np.testing.assert_allclose(pose.visibility, np.where(seen, 1, 0), atol=1e-4)  # sigmoid(+-10)
    assert pose.as_dict()["head"] == [*pose.keypoints[0], pose.scores[0], pose.visibility[0]]


@pytest.mark.parametrize("piece", ["parts", "heatmaps"])
def test_models_of_one_piece_give_poses_too(piece):
    image, joints, box = person()
    both = Spots()
    [pose] = predictor(lambda batch: {piece: both(batch)[piece]}, decoder="argmax")([image], [box])
    assert list(pose.stages) == [piece]
    seen = np.arange(3) != (HIDDEN if piece == "parts" else -1)
    assert np.abs(pose.keypoints - joints)[seen].max() <= 8 * box.side / SIZE
    if piece == "heatmaps":
        np.testing.assert_array_equal(pose.visibility, pose.scores)
    else:
        np.testing.assert_allclose(pose.scores, np.where(seen, 1, 0), atol=1e-4)


def test_the_flip_test_takes_away_what_a_model_is_off_to_one_side():
    image, joints, box = person()
    plain, flipped = (predictor(Spots(off=5), flip_test=flip)([image], [box])[0].keypoints for flip in (False, True))
    pixel = box.side / SIZE
    np.testing.assert_allclose(plain - joints, np.tile([5 * pixel, 0], (3, 1)), atol=(4 * CODEC + MEASURED) * pixel)
    assert np.abs(flipped - joints).max() <= (4 * CODEC + MEASURED) * pixel


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_full_resolution_is_bilinear_between_the_codec_s_centres(rng, stride):
    maps = rng.normal(0, 1, (6, 5, 3)).astype(np.float32)
    cells = codec.pixels_to_cells(np.stack(np.mgrid[:6 * stride, :5 * stride], -1).astype(float), stride)
    expected = np.stack([scipy.ndimage.map_coordinates(np.maximum(maps[..., k], 0), cells.transpose(2, 0, 1), order=1,
                                                       mode="nearest") for k in range(3)], -1)
    np.testing.assert_allclose(full_resolution(maps, stride), expected, atol=1e-5)


def test_the_paper_s_protocol_is_what_the_paper_says(rng):
    """Flip-averaged, negatives to 0, bilinear to full resolution, argmax, back to the picture: by another hand."""
    image, _, box = person()
    first, second = (rng.normal(0, 1, (1, 32, 32, 3)).astype(np.float32) for _ in range(2))
    maps = iter([first, second])
    [pose] = predictor(lambda batch: {"heatmaps": next(maps)}, protocol="paper", decoder="soft")([image], [box])
    mean = (first[0] + second[0][:, ::-1][:, :, [0, 2, 1]]) / 2  # in TOY left and right are joints 2 and 1
    cells = (np.stack(np.mgrid[:SIZE, :SIZE], -1).transpose(2, 0, 1) - 1.5) / 4
    for joint in range(3):
        full = scipy.ndimage.map_coordinates(np.maximum(mean[..., joint], 0), cells, order=1, mode="nearest")
        row, column = np.unravel_index(full.argmax(), full.shape)
        expected = np.array([column - 63.5, row - 63.5]) * box.side / SIZE + box.center
        np.testing.assert_allclose(pose.keypoints[joint], expected, atol=1e-6)


@pytest.mark.parametrize("people_count", [1, 2, 5, 9])
def test_batches_give_what_each_picture_gives_alone_and_come_in_few_sizes(people_count):
    cases = [person(middle=(150 + 10 * i, 140), reach=40 + 5 * i) for i in range(people_count)]
    images, boxes = [c[0] for c in cases], [c[2] for c in cases]
    run = Spots()
    together = predictor(run, batch_size=4)(images, boxes)
    assert set(run.batches) <= {1, 2, 4} and sum(run.batches) >= people_count
    for pose, image, box in zip(together, images, boxes, strict=True):
        np.testing.assert_array_equal(pose.keypoints, predictor().predict(image, box).keypoints)
    assert predictor()([], []) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("decoder", codec.DECODERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_diverged_model_gives_no_nan(bad, decoder, protocol):
    maps = np.full((1, 32, 32, 3), bad, np.float32)
    maps[0, :3, :, 1] = 0
    run = predictor(lambda batch: {"parts": maps, "heatmaps": maps}, decoder=decoder, protocol=protocol,
                    flip_test=True)
    pose = run.predict(np.zeros((60, 60, 3), np.uint8))
    for values in (pose.keypoints, pose.scores, pose.visibility, pose.stages["parts"]):
        assert np.isfinite(values).all()
    assert ((pose.scores >= 0) & (pose.scores <= 1) & (pose.visibility >= 0) & (pose.visibility <= 1)).all()


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
    parts = [shown(box) for box in part_boxes(image)]
    assert len(parts) == (0 if height == width else PARTS)
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


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (6000, 5000)], ids=str)
def test_tiny_and_huge_pictures_give_a_finite_pose(shape):
    pose = predictor().predict(np.zeros((*shape, 3), np.uint8))
    assert np.isfinite(pose.keypoints).all()


def test_files_and_other_arrays_are_taken_as_pictures(tmp_path):
    image, _, box = person()
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), image / 255, image.astype(np.uint16) * 257):
        np.testing.assert_array_equal(predictor().predict(same, box).keypoints,
                                      predictor().predict(image, box).keypoints)


@pytest.mark.parametrize("box", [[1, 2, 0, 4], [1, 2, 3], "1234", [1, 2, 3, float("nan")], [0, 0, 1e300, 1], 5,
                                 [0, 0, 1e-9, 1e-9], [10 ** 400, 0, 1, 1]], ids=str)
def test_boxes_that_are_none_are_refused(box):
    with pytest.raises(InputError, match=r"box .*: expected "):
        predictor().predict(np.zeros((9, 9, 3), np.uint8), box)


def test_unknown_decoders_and_protocols_are_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown decoder 'darc'; did you mean 'dark'?"):
        predictor(decoder="darc")
    with pytest.raises(InputError, match=r"unknown protocol 'papers'; did you mean 'paper'?"):
        predictor(protocol="papers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model with random weights, in a run's folder."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    model = cascade(14, backbone="tiny", width=16)
    pretrained.save(model, folder / "best.keras", pretrained.Metadata(LSP14, 64, 4, decoder="argmax"))
    return folder, model


def test_a_saved_model_predicts_as_the_model_by_hand(saved, rng):
    folder, model = saved
    image, box = rng.integers(0, 256, (90, 80, 3), np.uint8), Box(20, 10, 40, 50)
    pose = posecascade.load(folder / "best.keras").predict(image, box)
    seen = warp(image, crop_transform(box, 64), 64)[None].astype(np.float32)
    outputs = {name: np.asarray(maps, np.float64) for name, maps in model(seen, training=False).items()}
    cells = [np.unravel_index(outputs["heatmaps"][0, ..., k].argmax(), (16, 16)) for k in range(14)]
    by_hand = np.array([[4 * x + 1.5, 4 * y + 1.5] for y, x in cells])
    np.testing.assert_allclose(pose.keypoints, (by_hand - 31.5) * box.side / 64 + box.center, atol=1e-6)
    seen_there = [1 / (1 + np.exp(-outputs["parts"][0, y, x, k])) for k, (y, x) in enumerate(cells)]
    np.testing.assert_allclose(pose.visibility, seen_there, atol=1e-4)


def test_models_are_found_by_file_and_by_folder(saved, tmp_path):
    folder, _ = saved
    by_folder = load(folder, flip_test=True, decoder="dark", batch_size=8)
    assert replace(by_folder, run=None) == Predictor(None, LSP14, 64, 4, "dark", True, "default", 8)
    (tmp_path / "last.keras").write_bytes((folder / "best.keras").read_bytes())
    assert load(tmp_path).decoder == "argmax"
    with pytest.raises(InputError, match=r"holds neither best.keras nor last.keras"):
        load(tmp_path.parent)
    with pytest.raises(InputError, match=r"no model 'mobile': .* give a .keras file, "):
        load("mobile")
    with pytest.raises(InputError, match=r"none.keras: no such model file"):
        load(tmp_path / "none.keras")
