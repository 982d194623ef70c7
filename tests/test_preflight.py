"""Test the estimate of parameters and memory, and that unusable data are reported before a run."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from marked_people import ARM, SIZE, marked, places, write, write_image
from small_runs import cut, write_people

from posecascade import datasets
from posecascade.errors import InputError
from posecascade.images import ImageFile
from posecascade.models import cascade
from posecascade.schema import MPII16
from posecascade.training import preflight
from posecascade.training.batches import Batch

MODELS = {
    "light": {"width": 16}, "paper": {"detector": "deconv", "regressor": "hourglass", "stride": 1},
    "detector": {"stages": "detector", "width": 8}, "regressor": {"stages": "regressor", "width": 8}}


def values_in(model, inputs):
    """Return the number of values in the outputs of the model's own layers, by running it, and the model's outputs."""
    own = [layer for layer in model.layers if not isinstance(layer, (keras.layers.InputLayer, keras.Model))]
    outputs_of = keras.Model(model.input, {"all": [layer.output for layer in own], "out": model.output})(inputs)
    return sum(int(np.prod(value.shape)) for value in keras.tree.flatten(outputs_of["all"])), outputs_of["out"]


def all_values(network, size):
    image = keras.ops.zeros((1, size, size, 3))
    total, _ = values_in(network, image)
    outputs_of = {"image": image}
    for layer in (layer for layer in network.layers if isinstance(layer, keras.Model)):
        names = layer.input if isinstance(layer.input, dict) else None
        count, outputs = values_in(layer, {name: outputs_of[name] for name in names} if names else image)
        total += count
        outputs_of |= outputs if isinstance(outputs, dict) else {"features": outputs}
    return total


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("name", MODELS)
def test_map_cells_equal_the_values_of_a_forward_pass(name, size):
    network = cascade(3, backbone="tiny", **MODELS[name])
    assert preflight.map_cells(network, size) == all_values(network, size)


@pytest.mark.parametrize("name", MODELS)
def test_estimate_counts_parameters_and_memory(name):
    network = cascade(3, backbone="tiny", **MODELS[name])
    estimate = preflight.estimate(network, 4, 64, 3)
    stages = {layer.name for layer in network.layers} & {"detector", "regressor"}
    assert estimate.parameters == {stage: network.get_layer(stage).count_params() for stage in stages} | {
        "total": network.count_params()}
    trainable = sum(value.size for value in map(keras.ops.convert_to_numpy, network.trainable_variables))
    # Weights and statistics; a gradient and 3 slots per trained weight; the values of a batch of 4.
    expected = 4 * (network.count_params() + 4 * trainable) + 4 * 4 * all_values(network, 64)
    assert estimate.memory == expected
    network.trainable = False
    assert preflight.estimate(network, 4, 64, 3).memory == expected - 4 * 4 * trainable


def test_estimate_is_one_line():
    counts = {"detector": 41854, "regressor": 5150, "total": 47004}
    assert preflight.Estimate(counts, 3 * 2 ** 29).text() == \
        "parameters 47,004 (detector 41,854, regressor 5,150); about 1.5 GiB to train"
    assert preflight.Estimate({"total": 7}, 0).text() == "parameters 7; about 0.0 GiB to train"


@pytest.fixture
def people(tmp_path):
    """Forty people with images on disk."""
    return datasets.read(f"coco:{write_people(tmp_path, 40)}", "all")


def test_readable_images_have_no_fault(people):
    assert preflight.check_images(people) == []


def test_few_unreadable_images_are_reported_and_many_are_an_error(people, tmp_path):
    for number in (5, 20):  # 2 of 40 are the limit of one in twenty
        cut(tmp_path / f"{number:04}.jpg")
    early = "the JPEG data end too early; copy the file again"
    assert preflight.check_images(people) == [f"image {tmp_path / '0005.jpg'}: {early}",
                                                f"image {tmp_path / '0020.jpg'}: {early}"]
    (tmp_path / "0007.jpg").unlink()
    with pytest.raises(InputError) as error:
        preflight.check_images(people)
    assert str(error.value) == (
        f"image {tmp_path / '0005.jpg'}: {early} "
        "(3 of 40 images opened cannot be read; run posecascade-data check)")


def test_a_limited_number_of_evenly_spread_images_is_opened(people, monkeypatch):
    opened = []  # in no order: several threads open them
    monkeypatch.setattr(ImageFile, "read", lambda self, shrink=1: opened.append(int(self.path.name)))
    many = [replace(people[0], image=ImageFile(Path(str(number)))) for number in range(2000)]
    assert preflight.check_images(many) == []
    assert len(opened) == preflight.CHECKED and {0, 1999} <= set(opened)
    assert np.diff(sorted(opened)).max() <= 2000 / (preflight.CHECKED - 1) + 1


def test_person_without_an_image_is_refused(people):
    with pytest.raises(InputError) as error:
        preflight.check_images([*people, replace(people[3], image=None)])
    assert str(error.value) == f"{people[3].origin}: has no image, expected one to train on; add the images"


def batch_with(weights):
    targets = np.zeros((len(weights), 2, 4), np.float32)
    targets[..., 2] = np.array(weights)[:, None]
    return Batch(np.zeros((len(weights), 8, 8, 3), np.uint8), targets, ())


def test_targets_that_are_all_zero_are_refused(people):
    with pytest.raises(InputError) as error:
        preflight.check_targets(batch_with([0, 0, 0]), people)
    assert str(error.value) == (
        f"{people[0].origin}: all targets are zero in the 3 samples checked, expected a labeled keypoint inside "
        "its crop; run posecascade-data show and check the boxes and the axis order of the keypoints")
    assert preflight.check_targets(batch_with([0, 0, 1]), people) == ()


def test_keypoints_without_any_label_are_named():
    record = datasets.read("synthetic:1", "train")[0]
    visibility, keypoints = np.full(MPII16.size, 2), np.ones((MPII16.size, 2))
    missing = [MPII16.index("pelvis"), MPII16.index("thorax")]
    visibility[missing] = 0
    one = replace(record, keypoints=keypoints, visibility=visibility)
    assert preflight.check_targets(batch_with([1]), [one]) == ("pelvis", "thorax")
    visibility = np.zeros(MPII16.size)
    visibility[missing[0]] = 1
    other = replace(record, keypoints=keypoints, visibility=visibility)
    assert preflight.check_targets(batch_with([1]), [one, other]) == ("thorax",)


def test_start_of_training_reports_rotated_images_and_refuses_wrong_sizes(tmp_path, rng):
    turned = datasets.read(write(tmp_path / "turned", rng, 6), "all", ARM)
    assert preflight.check_frames(turned) == [
        "1 images are rotated by EXIF: labels count stored pixels in 0, upright pixels in 1 (1 undecided, such as "
        f"{turned[0].image.name}; state it with #frame=stored or #frame=upright)"]
    scaled = datasets.read(write(tmp_path / "scaled", rng, listed=(240, 120)), "all", ARM)
    with pytest.raises(InputError, match=r"expected 240 x 120, .*\(1 of 1 images checked; run posecascade-data check"):
        preflight.check_frames(scaled)
    many = [*turned * 100, *scaled]
    many = [replace(r, image=replace(r.image, path=write_image(tmp_path / f"{i}.jpg", marked(places(rng, SIZE), SIZE))))
            for i, r in enumerate(many)]
    assert "1 images do not have the size that was labeled; image" in preflight.check_frames(many)[0]
