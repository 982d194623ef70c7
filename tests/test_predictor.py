"""Prediction from images to keypoints, with toy models that detect colored spots and with a saved model."""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_spots import CODEC, HIDDEN, MEASURED, SIZE, TOY, Spots, person, predictor, spots_image

import posecascade
from posecascade.codec import decoders
from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.geometry import Box, crop_transform
from posecascade.images import warp
from posecascade.inference.predictor import PROTOCOLS, Predictor, full_resolution, load
from posecascade.models import cascade
from posecascade.schema import LSP14


@st.composite
def people(draw):
    """An image of any size with a person in the middle half of the crop, whose side is at least 64 px.

    In smaller crops, spots have too few pixels for the toy model to locate their centers.
    """
    height, width = draw(st.integers(64, 500)), draw(st.integers(64, 500))
    side = draw(st.floats(64, min(height, width)))
    box = Box(*(draw(st.floats(side / 2, edge - side / 2)) - 0.4 * side for edge in (width, height)),
              0.8 * side, 0.8 * side)
    inside = st.floats(36, 92)
    keypoints = [(draw(inside), draw(st.floats(36, 48))), (draw(st.floats(36, 58)), draw(st.floats(66, 92))),
              (draw(st.floats(78, 92)), draw(st.floats(66, 92)))]
    transform = crop_transform(box, SIZE)
    keypoints = transform.inverse()(np.array(keypoints))
    return spots_image(height, width, keypoints, max(3 / transform.zoom, 1.5)), keypoints, box, transform.zoom


@given(case=people(), decoder=st.sampled_from(["dark", "soft"]), stride=st.sampled_from([2, 4]), flip=st.booleans())
@settings(max_examples=40, deadline=None)
def test_keypoints_are_predicted_in_pixels_of_the_image(case, decoder, stride, flip):
    image, keypoints, box, zoom = case
    [pose] = predictor(Spots(stride), decoder=decoder, flip_test=flip)([image], [box])
    assert np.abs(pose.keypoints - keypoints).max() <= (CODEC * stride + 2 * MEASURED) / zoom
    assert pose.box == box and pose.names == TOY.keypoints


def test_pose_has_keypoints_of_each_stage_and_visibility_from_the_detector():
    image, keypoints, box = person()
    [pose] = predictor()([image], [box])
    assert list(pose.stages) == ["parts", "heatmaps"]
    np.testing.assert_array_equal(pose.keypoints, pose.stages["heatmaps"])
    zoom = SIZE / box.side
    seen = np.arange(3) != HIDDEN
    # The peak of the sampled Gaussian is at most half a cell per axis from the keypoint: sigma is 2 cells.
    assert (0.9 * np.exp(-(0.5 ** 2 + 0.5 ** 2) / 8) - 1e-3 <= pose.scores).all() and (pose.scores <= 0.9).all()
    # The soft decoder averages over all of the disc, whose radius is 8 pixels.
    assert np.abs(pose.stages["parts"] - keypoints)[seen].max() <= 8 / zoom
    np.testing.assert_allclose(pose.visibility, np.where(seen, 1, 0), atol=1e-4)  # sigmoid(+-10)
    assert pose.as_dict()["head"] == [*pose.keypoints[0], pose.scores[0], pose.visibility[0]]


@pytest.mark.parametrize("stage", ["parts", "heatmaps"])
def test_models_with_a_single_stage_predict_poses(stage):
    image, keypoints, box = person()
    both = Spots()
    [pose] = predictor(lambda batch: {stage: both(batch)[stage]}, decoder="argmax")([image], [box])
    assert list(pose.stages) == [stage]
    seen = np.arange(3) != (HIDDEN if stage == "parts" else -1)
    assert np.abs(pose.keypoints - keypoints)[seen].max() <= 8 * box.side / SIZE
    if stage == "heatmaps":
        np.testing.assert_array_equal(pose.visibility, pose.scores)
    else:
        np.testing.assert_allclose(pose.scores, np.where(seen, 1, 0), atol=1e-4)


def test_flip_test_cancels_a_horizontal_bias():
    image, keypoints, box = person()
    plain, flipped = (predictor(Spots(off=5), flip_test=flip)([image], [box])[0].keypoints for flip in (False, True))
    pixel = box.side / SIZE
    np.testing.assert_allclose(plain - keypoints, np.tile([5 * pixel, 0], (3, 1)), atol=(4 * CODEC + MEASURED) * pixel)
    assert np.abs(flipped - keypoints).max() <= (4 * CODEC + MEASURED) * pixel


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_full_resolution_interpolates_bilinearly_between_cell_centers(rng, stride):
    maps = rng.normal(0, 1, (6, 5, 3)).astype(np.float32)
    cells = decoders.pixels_to_cells(np.stack(np.mgrid[:6 * stride, :5 * stride], -1).astype(float), stride)
    expected = np.stack([scipy.ndimage.map_coordinates(np.maximum(maps[..., k], 0), cells.transpose(2, 0, 1), order=1,
                                                       mode="nearest") for k in range(3)], -1)
    np.testing.assert_allclose(full_resolution(maps, stride), expected, atol=1e-5)


def test_paper_protocol_equals_an_independent_implementation(rng):
    """Average with the mirrored image, clamp negatives to 0, resize bilinearly, argmax, transform to the image."""
    image, _, box = person()
    first, second = (rng.normal(0, 1, (1, 32, 32, 3)).astype(np.float32) for _ in range(2))
    maps = iter([first, second])
    [pose] = predictor(lambda batch: {"heatmaps": next(maps)}, protocol="paper", decoder="soft")([image], [box])
    mean = (first[0] + second[0][:, ::-1][:, :, [0, 2, 1]]) / 2  # left and right of TOY are keypoints 2 and 1
    cells = (np.stack(np.mgrid[:SIZE, :SIZE], -1).transpose(2, 0, 1) - 1.5) / 4
    for k in range(3):
        full = scipy.ndimage.map_coordinates(np.maximum(mean[..., k], 0), cells, order=1, mode="nearest")
        row, column = np.unravel_index(full.argmax(), full.shape)
        expected = np.array([column - 63.5, row - 63.5]) * box.side / SIZE + box.center
        np.testing.assert_allclose(pose.keypoints[k], expected, atol=1e-6)


@pytest.mark.parametrize("people_count", [1, 2, 5, 9])
def test_batches_equal_single_predictions_and_have_few_sizes(people_count):
    cases = [person(middle=(150 + 10 * i, 140), reach=40 + 5 * i) for i in range(people_count)]
    images, boxes = [c[0] for c in cases], [c[2] for c in cases]
    run = Spots()
    together = predictor(run, batch_size=4)(images, boxes)
    assert set(run.batches) <= {1, 2, 4} and sum(run.batches) >= people_count
    for pose, image, box in zip(together, images, boxes, strict=True):
        np.testing.assert_array_equal(pose.keypoints, predictor().predict(image, box).keypoints)
    assert predictor()([], []) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("decoder", decoders.DECODERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_diverged_model_predicts_no_nan(bad, decoder, protocol):
    maps = np.full((1, 32, 32, 3), bad, np.float32)
    maps[0, :3, :, 1] = 0
    run = predictor(lambda batch: {"parts": maps, "heatmaps": maps}, decoder=decoder, protocol=protocol,
                    flip_test=True)
    pose = run.predict(np.zeros((60, 60, 3), np.uint8))
    for values in (pose.keypoints, pose.scores, pose.visibility, pose.stages["parts"]):
        assert np.isfinite(values).all()
    assert ((pose.scores >= 0) & (pose.scores <= 1) & (pose.visibility >= 0) & (pose.visibility <= 1)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (6000, 5000)], ids=str)
def test_tiny_and_huge_images_give_a_finite_pose(shape):
    pose = predictor().predict(np.zeros((*shape, 3), np.uint8))
    assert np.isfinite(pose.keypoints).all()


def test_files_and_other_arrays_are_accepted_as_images(tmp_path):
    image, _, box = person()
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), image / 255, image.astype(np.uint16) * 257):
        np.testing.assert_array_equal(predictor().predict(same, box).keypoints,
                                      predictor().predict(image, box).keypoints)


@pytest.mark.parametrize("box", [[1, 2, 0, 4], [1, 2, 3], "1234", [1, 2, 3, float("nan")], [0, 0, 1e300, 1], 5,
                                 [0, 0, 1e-9, 1e-9], [10 ** 400, 0, 1, 1]], ids=str)
def test_invalid_boxes_are_refused(box):
    with pytest.raises(InputError, match=r"box .*: expected "):
        predictor().predict(np.zeros((9, 9, 3), np.uint8), box)


def test_unknown_decoder_or_protocol_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match=r"unknown decoder 'darc'; did you mean 'dark'?"):
        predictor(decoder="darc")
    with pytest.raises(InputError, match=r"unknown protocol 'papers'; did you mean 'paper'?"):
        predictor(protocol="papers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run with a tiny model of random weights, and the model."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    model = cascade(14, backbone="tiny", width=16)
    keras_file.save(model, folder / "best.keras", keras_file.Metadata(LSP14, 64, 4, decoder="argmax"))
    return folder, model


def test_saved_model_predicts_like_decoding_its_outputs_by_hand(saved, rng):
    folder, model = saved
    image, box = rng.integers(0, 256, (90, 80, 3), np.uint8), Box(20, 10, 40, 50)
    pose = posecascade.load(folder / "best.keras").predict(image, box)
    crop = warp(image, crop_transform(box, 64), 64)[None].astype(np.float32)
    outputs = {name: np.asarray(maps, np.float64) for name, maps in model(crop, training=False).items()}
    cells = [np.unravel_index(outputs["heatmaps"][0, ..., k].argmax(), (16, 16)) for k in range(14)]
    by_hand = np.array([[4 * x + 1.5, 4 * y + 1.5] for y, x in cells])
    np.testing.assert_allclose(pose.keypoints, (by_hand - 31.5) * box.side / 64 + box.center, atol=1e-6)
    visibility = [1 / (1 + np.exp(-outputs["parts"][0, y, x, k])) for k, (y, x) in enumerate(cells)]
    np.testing.assert_allclose(pose.visibility, visibility, atol=1e-4)


def test_models_load_from_a_file_or_a_folder(saved, tmp_path):
    folder, _ = saved
    by_folder = load(folder, flip_test=True, decoder="dark", batch_size=8)
    assert replace(by_folder, run=None) == Predictor(None, LSP14, 64, 4, "dark", True, "default", 8)
    (tmp_path / "last.keras").write_bytes((folder / "best.keras").read_bytes())
    assert load(tmp_path).decoder == "argmax"
    with pytest.raises(InputError) as error:
        load(tmp_path.parent)
    assert str(error.value) == (f"{tmp_path.parent}: contains neither best.keras nor last.keras nor an export; "
                                "expected the folder of a training run or of posecascade-export, or a .keras file")
    with pytest.raises(InputError) as error:
        load("mobile")
    assert str(error.value) == ("no model 'mobile': no such file or folder; expected a .keras file, the folder of a "
                                "training run, an export, or a model of the package (choose from base, lite)")
    with pytest.raises(InputError, match=r"none.keras: no such model file"):
        load(tmp_path / "none.keras")
