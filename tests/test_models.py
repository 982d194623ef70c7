"""Test the networks: shapes, gradients and saving of every table entry; layers and parameter counts of the paper's."""

import sys

import keras
import numpy as np
import pytest

from posecascade.errors import InputError
from posecascade.models import BACKBONES, DETECTORS, REGRESSORS, cascade, detector, freeze, hourglass, regressor
from posecascade.models.backbone import BN_MOMENTUM, image_layers

K = 5
# Channels of the tap at each stride, from the papers of the backbones.
TAPS = {
    "tiny": {4: 24, 8: 48, 16: 64, 32: 96},
    "efficientnet_lite0": {4: 24, 8: 40, 16: 112, 32: 320},
    "efficientnet_lite2": {4: 24, 8: 48, 16: 120, 32: 352},
    "mobilenet_v2": {4: 24, 8: 32, 16: 96, 32: 320},
    "mobilenet_v2_035": {4: 8, 8: 16, 16: 32, 32: 112},
    "movenet": {4: 24, 8: 32, 16: 64, 32: 1280},
    "movenet_thunder": {4: 40, 8: 56, 16: 112, 32: 1280},
    "resnet50": {4: 256, 8: 512, 16: 2048},
    "resnet152": {4: 256, 8: 512, 16: 2048},
    "vgg16": {4: 128, 8: 256, 16: 512, 32: 512},
}
# Every head and every regressor, at both strides.
PAIRS = (("topdown", "light", 4), ("fcn", "light", 4), ("deconv", "light", 1), ("fcn", "stack", 1),
         ("topdown", "stack", 4), ("topdown", "hourglass", 4), ("deconv", "hourglass", 1),
         ("narrow", "light", 4), ("narrow", "light", 1))


@pytest.fixture
def small(monkeypatch):
    """Reduce the paper's widths and depth, so that every head and regressor runs quickly; connections are the same."""
    monkeypatch.setattr(detector, "FC_CHANNELS", 16)
    monkeypatch.setattr(hourglass, "INNER", 8)
    monkeypatch.setattr(hourglass, "OUTER", 16)
    monkeypatch.setattr(hourglass, "DEPTH", 1)
    # The package exports the function `regressor`, which hides the module of that name from attribute access.
    monkeypatch.setattr(sys.modules["posecascade.models.regressor"], "STACK", ((8, 5), (16, 1)))


@pytest.fixture(scope="module")
def backbones():
    """Return a function from a backbone's name to a cached model of its taps for 64 px."""
    built = {}

    def get(name):
        if name not in built:
            image = keras.Input((64, 64, 3), name="image")
            built[name] = keras.Model(image, BACKBONES[name].build(image))
        return built[name]
    return get


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")


def trained_parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def as_numpy(outputs):
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def test_tables_have_exactly_the_tested_entries():
    assert set(TAPS) == set(BACKBONES)
    assert {head for head, _, _ in PAIRS} == set(DETECTORS)
    assert {kind for _, kind, _ in PAIRS} == set(REGRESSORS)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_has_its_taps_and_blocks(name, backbones):
    model = backbones(name)
    assert {stride: tap.shape for stride, tap in model.output.items()} == {
        stride: (None, 64 // stride, 64 // stride, channels) for stride, channels in TAPS[name].items()}
    prefixes = BACKBONES[name].blocks
    in_order = []
    for layer in model.layers:
        mine = [prefix for prefix in prefixes if layer.name.startswith(f"{prefix}_")]
        assert len(mine) == 1 or not layer.weights, f"{layer.name} belongs to {mine}"
        in_order += [prefix for prefix in mine if prefix not in in_order]
    assert tuple(in_order) == prefixes
    momenta = {layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert momenta <= {BN_MOMENTUM}
    assert 0.9 <= BN_MOMENTUM <= 0.99


@pytest.mark.parametrize(("head", "kind", "stride"), PAIRS)
def test_cascade_has_both_maps_trains_end_to_end_and_can_be_saved(head, kind, stride, small, images, tmp_path):
    model = cascade(K, backbone="tiny", detector=head, regressor=kind, stride=stride, width=16)
    assert {layer.name for layer in model.layers if isinstance(layer, keras.Model)} == {"detector", "regressor"}
    outputs = as_numpy(model(images))
    shape = (2, 64 // stride, 64 // stride, K)
    assert {name: (value.shape, str(value.dtype)) for name, value in outputs.items()} == {
        "parts": (shape, "float32"), "heatmaps": (shape, "float32")}

    path = tmp_path / "model.keras"
    model.save(path)
    again = as_numpy(keras.saving.load_model(path)(images))
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, again[name])

    # Only the regressor has a loss; gradients reach the detector only through the sigmoid part maps.
    first = BACKBONES["tiny"].blocks[0] + "_conv"
    watched = [layer for layer in model.get_layer("detector").layers
               if layer.name in (first, "parts", "score", "score_coarse", "score_fine") and layer.weights]
    before = [layer.get_weights()[0] for layer in watched]
    model.compile(keras.optimizers.SGD(1e3), loss={"parts": None, "heatmaps": "mse"}, run_eagerly=True)
    model.train_on_batch(images, {"heatmaps": np.ones(shape, "float32")})
    for layer, was in zip(watched, before, strict=True):
        assert np.abs(layer.get_weights()[0] - was).max() > 0, layer.name
    assert len(watched) >= 2


@pytest.mark.parametrize(("stages", "kind", "names"), [
    ("detector", "light", {"parts"}), ("regressor", "light", {"heatmaps"}), ("regressor", "stack", {"heatmaps"})])
def test_each_stage_can_be_built_alone(stages, kind, names, images):
    model = cascade(K, stages=stages, backbone="tiny", regressor=kind, width=16)
    shapes = {name: value.shape for name, value in as_numpy(model(images)).items()}
    assert shapes == dict.fromkeys(names, (2, 16, 16, K))


def test_regressor_has_the_requested_inputs(small):
    read = {**{f"{kind} without image": set(regressor(K, kind=kind, image=False).input) for kind in REGRESSORS},
            **{f"{kind} without parts": set(regressor(K, kind=kind, parts=False).input) for kind in REGRESSORS},
            "light": set(regressor(K, features=8).input), "stack": set(regressor(K, kind="stack").input)}
    assert read == {**{f"{kind} without image": {"parts"} for kind in REGRESSORS},
                    **{f"{kind} without parts": {"image"} for kind in REGRESSORS},
                    "light": {"features", "parts"}, "stack": {"image", "parts"}}


def test_initial_part_logits_are_near_minus_3_and_confidence_maps_near_0(images):
    """The bias is -3 and the last weights are N(0, 0.01) (BUILD_NOTES, "First trials").

    96 inputs of at most 6 give a standard deviation below 0.6.
    """
    outputs = as_numpy(cascade(K, backbone="tiny")(images))
    assert np.abs(outputs["parts"] + 3).max() < 1.5
    assert np.abs(outputs["heatmaps"]).max() < 1.5


def test_half_precision_keeps_outputs_in_float32(images):
    was = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        outputs = cascade(K, backbone="tiny", width=16)(images)
    finally:
        keras.config.set_dtype_policy(was)
    assert {keras.backend.standardize_dtype(value.dtype) for value in outputs.values()} == {"float32"}


@pytest.mark.parametrize("blocks", [0, 2, 5])
def test_freeze_makes_the_first_blocks_untrainable_and_no_others(blocks):
    model = cascade(K, backbone="tiny", width=16)
    freeze(model, 3, "tiny")
    freeze(model, blocks, "tiny")
    frozen = {layer.name for layer in image_layers(model) if not layer.trainable}
    prefixes = BACKBONES["tiny"].blocks[:blocks]
    assert frozen == {layer.name for layer in image_layers(model) if layer.name.startswith(prefixes or "\0")}
    assert model.get_layer("regressor").trainable_weights


@pytest.mark.parametrize(("build", "message"), [
    (lambda: cascade(K, backbone="mobilenetv2"), "model.backbone: unknown backbone 'mobilenetv2'; did you mean 'mob"),
    (lambda: cascade(K, detector="topdwn"), "model.detector: unknown detector 'topdwn'; did you mean 'topdown'?"),
    (lambda: cascade(K, regressor="hour"), "model.regressor: unknown regressor 'hour'; "),
    (lambda: cascade(K, stages="both"), "model.stages: unknown stages 'both'; choose from cascade, detector, "),
    (lambda: cascade(K, stride=3), "model.stride: 3, expected 1 (the paper's) or 4"),
    (lambda: regressor(K, parts=False, image=False), "model.regressor: has no input; pass parts, features or image"),
    (lambda: regressor(K, kind="stack", features=8), "'stack' does not read features"),
    (lambda: freeze(None, 6, "tiny"), "frozen_blocks: 6 blocks, but backbone 'tiny' has 5; give 0 to 5"),
])
def test_wrong_names_and_numbers_are_refused(build, message):
    with pytest.raises(InputError) as error:
        build()
    assert message in str(error.value)


# ---- the paper's networks (docs/paper.md "Networks") ----

def test_released_resnet_detector(backbones):
    """The detector has 58,317,856 parameters, without the statistics of batch norms.

    75,712 of them are biases of the 155 convolutions before a batch norm; torchvision's ResNet-152 has no such biases.
    """
    taps = backbones("resnet152")
    model = keras.Model(taps.input, detector.deconv(taps.output, 16, stride=1, width=None))
    assert trained_parameters(model) == 58_317_856
    layers = {layer.name: layer for layer in model.layers}
    assert {name: tensor.shape for name, tensor in model.output.items()} == {"parts": (None, 64, 64, 16)}
    assert layers["stem_conv"].kernel.shape == (7, 7, 3, 64)
    assert layers["stem_conv"].strides == (2, 2)
    assert layers["score"].kernel.shape == (1, 1, 2048, 16)
    assert (layers["parts"].kernel.shape, layers["parts"].strides) == ((16, 16, 16, 16), (16, 16))
    strided = {name for name, layer in layers.items()
               if isinstance(layer, keras.layers.Conv2D) and not isinstance(layer, keras.layers.Conv2DTranspose)
               and layer.strides == (2, 2)}
    # Stages of 3, 8, 36 and 3 blocks begin at blocks 0, 3, 11 and 47; the last has stride 1.
    assert strided == {"stem_conv", "block_03_2_conv", "block_03_0_conv", "block_11_2_conv", "block_11_0_conv"}
    assert all(layers[name].kernel.shape[:2] == (3, 3) for name in strided if name.endswith("_2_conv"))
    assert {layer.dilation_rate for layer in layers.values() if isinstance(layer, keras.layers.Conv2D)} == {(1, 1)}
    assert {layer.epsilon for layer in layers.values() if isinstance(layer, keras.layers.BatchNormalization)} == {1e-5}


def test_released_resnet_regressor():
    """The regressor has 17,370,528 parameters; its first convolution is the sum of two (of image and part maps)."""
    model = regressor(16, kind="hourglass", stride=1)
    assert trained_parameters(model) == 17_370_528
    layers = {layer.name: layer for layer in model.layers}
    assert layers["from_image"].kernel.shape == (7, 7, 3, 64)
    assert layers["from_parts"].kernel.shape == (7, 7, 16, 64)
    assert (layers["from_image"].use_bias, layers["from_parts"].use_bias) == (True, False)
    up = [name for name, layer in layers.items()
          if isinstance(layer, keras.layers.Conv2DTranspose) and layer.kernel.shape == (2, 2, 512, 512)]
    assert sorted(up) == [f"glass{depth}_up" for depth in (1, 2, 3, 4)]
    assert (layers["maps"].kernel.shape, layers["maps"].strides) == ((4, 4, 16, 16), (4, 4))
    bare = {name for name in layers if name.endswith("_skip") and not name.startswith("glass")}
    assert bare == {"residual_0_skip", "residual_3_skip"}  # 64 -> 128 and 128 -> 256; 128 -> 128 has none


def test_paper_vgg_detector(backbones):
    taps = backbones("vgg16")
    model = keras.Model(taps.input, detector.fcn(taps.output, 16, stride=1, width=None))
    assert {name: tensor.shape for name, tensor in model.output.items()} == {"parts": (None, 64, 64, 16)}
    layers = {layer.name: layer for layer in model.layers}
    assert {name: tuple(layers[name].kernel.shape) for name in
            ("fc6", "fc7", "score_coarse", "score_middle", "score_fine")} == {
        "fc6": (7, 7, 512, 4096), "fc7": (1, 1, 4096, 4096), "score_coarse": (1, 1, 4096, 16),
        "score_middle": (1, 1, 512, 16), "score_fine": (1, 1, 256, 16)}
    # 14,714,688 of the five stages; fc6, fc7; scores with their biases; bilinear up-sampling has none.
    assert trained_parameters(model) == (14_714_688 + 7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096
                                         + (4096 + 512 + 256) * 16 + 3 * 16)


def test_paper_vgg_regressor():
    model = regressor(16, kind="stack", stride=1)
    shapes = [(layer.name, *layer.kernel.shape) for layer in model.layers if layer.weights]
    assert sorted(shapes) == sorted([
        ("from_image", 9, 9, 3, 64), ("from_parts", 9, 9, 16, 64), ("conv_2", 13, 13, 64, 64),
        ("conv_3", 13, 13, 64, 128), ("conv_4", 15, 15, 128, 128), ("conv_5", 1, 1, 128, 512),
        ("conv_6", 1, 1, 512, 512), ("maps_quarter", 1, 1, 512, 16), ("maps", 8, 8, 16, 16)])
    assert model.get_layer("maps").strides == (4, 4)
