"""Test MoveNet's backbone and head: their outputs against NumPy, and which files of weights they accept."""

import json
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from test_backbones import numpy_conv

from posecascade.errors import InputError
from posecascade.models import load_backbone, part_detector
from posecascade.models.mobilenet import BLOCKS, STAGES
from posecascade.models.movenet import TAPS

SIDE = 64
# Channels of the stem, of the stages and of the laterals' inputs in the published graphs.
LIGHTNING = (32, (16, 24, 32, 64, 96, 160, 320), (64, 32, 24))
THUNDER = (56, (32, 40, 56, 112, 168, 280, 560), (112, 56, 40))


def shapes(published=LIGHTNING):
    """Return the shape of every array of the file by name, from the description of the published network."""
    channels, stages, laterals = published
    made = {"stem/kernel": (3, 3, 3, channels), "stem/bias": (channels,)}

    def layer(name, *kernel, bias=True):
        made[f"{name}/kernel"] = kernel
        if bias:
            made[f"{name}/bias"] = (kernel[3] if kernel[3] > 1 else kernel[2],)

    number = 0
    for (count, _, expansion, _), filters in zip(STAGES, stages, strict=True):
        for _ in range(count):
            wide, block = expansion * channels, f"block_{number:02d}"
            if number:
                layer(f"{block}/expand", 1, 1, channels, wide)
            layer(f"{block}/depthwise", 3, 3, wide, 1)
            layer(f"{block}/project", 1, 1, wide, filters)
            channels, number = filters, number + 1
    layer("head", 1, 1, channels, 1280)
    for stride, before, below, after in zip((32, 16, 8, 4), (1280, *laterals), (64, 64, 32, 24), (None, 32, 24, 24),
                                            strict=True):
        layer(f"lateral_{stride}", 1, 1, before, below)
        if after:
            layer(f"top_{stride}/depthwise", 3, 3, below, 1, bias=False)
            layer(f"top_{stride}/pointwise", 1, 1, below, after)
    layer("heatmap/depthwise", 3, 3, 24, 1, bias=False)
    layer("heatmap/pointwise", 1, 1, 24, 96)
    layer("heatmap/out", 1, 1, 96, 17)
    return made


@pytest.fixture(scope="module")
def arrays():
    """Random weights of realistic scale by their names in the file."""
    rng = np.random.default_rng(3)
    return {name: (rng.normal(size=shape) / (1 if len(shape) == 1 else np.sqrt(2 * np.prod(shape[:2]) * (
        shape[2] if shape[3] > 1 else 1) / 3))).astype(np.float16) for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def path(arrays, tmp_path_factory):
    file = tmp_path_factory.mktemp("movenet") / "trunk.npz"
    np.savez(file, **arrays)
    return str(file)


def doubled(x):
    """Return x enlarged twice by bilinear interpolation with half-pixel centers."""
    for axis in (1, 2):
        before, after = np.roll(x, 1, axis), np.roll(x, -1, axis)
        edge = [slice(None)] * 4
        edge[axis] = 0
        before[tuple(edge)] = x[tuple(edge)]
        edge[axis] = -1
        after[tuple(edge)] = x[tuple(edge)]
        x = np.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
        x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2:])
    return x


def computed(arrays, image):
    """Return features and logits, computed in NumPy from the arrays in float64."""
    def conv(x, name, stride=1, most=None):
        kernel = arrays[f"{name}/kernel"].astype(np.float64)
        y = numpy_conv(x, kernel, stride, depthwise="depthwise" in name) + arrays.get(f"{name}/bias", np.zeros(1))
        return y if most is None else np.clip(y, 0, most)

    x, after = conv(image / 127.5 - 1, "stem", 2, 6), []
    for number in range(BLOCKS):
        block, stride = f"block_{number:02d}", 2 if number in (1, 3, 6, 13) else 1
        y = conv(x, f"{block}/expand", 1, 6) if number else x
        y = conv(conv(y, f"{block}/depthwise", stride, 6), f"{block}/project")
        x = y + x if stride == 1 and y.shape == x.shape else y
        after.append(x)
    taps = {stride: after[block] for stride, block in TAPS.items()} | {32: conv(x, "head", 1, 6)}
    x = conv(taps[32], "lateral_32")
    for stride in (16, 8, 4):
        x = doubled(x) + conv(taps[stride], f"lateral_{stride}")
        x = conv(conv(x, f"top_{stride}/depthwise"), f"top_{stride}/pointwise", 1, np.inf)
    maps = conv(conv(x, "heatmap/depthwise"), "heatmap/pointwise", 1, np.inf)
    return x, conv(maps, "heatmap/out")


def test_detector_equals_numpy(arrays, path, rng):
    model = part_detector(17, backbone="movenet", head="narrow")
    load_backbone(model, "movenet", path)
    image = rng.uniform(0, 255, (1, SIDE, SIDE, 3)).astype(np.float32)
    features, logits = computed(arrays, image)
    outputs = model(image)
    for mine, expected in ((outputs["features"], features), (outputs["parts"], logits)):
        assert mine.shape == expected.shape
        np.testing.assert_allclose(mine, expected, atol=1e-4 * np.abs(expected).max())


def test_other_keypoints_and_other_heads_keep_their_initial_weights(path):
    model = part_detector(5, backbone="movenet", head="narrow")
    before = model.get_layer("parts").get_weights()
    load_backbone(model, "movenet", path)
    for old, new in zip(before, model.get_layer("parts").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    other = part_detector(17, backbone="movenet", head="topdown", width=8)
    before = other.get_layer("parts").get_weights()
    load_backbone(other, "movenet", path)
    np.testing.assert_array_equal(before[0], other.get_layer("parts").get_weights()[0])


def test_file_without_an_array_and_imagenet_are_refused(arrays, tmp_path):
    model = part_detector(17, backbone="movenet", head="narrow")
    file = tmp_path / "part.npz"
    np.savez(file, **{name: value for name, value in arrays.items() if name != "top_8/pointwise/bias"})
    with pytest.raises(InputError) as error:
        load_backbone(model, "movenet", str(file))
    assert str(error.value) == (f"{file}: array 'top_8/pointwise/bias' is missing; expected those of MoveNet "
                                "Lightning's trunk")
    with pytest.raises(InputError) as error:
        load_backbone(model, "movenet", "imagenet")
    assert str(error.value) == ("model.backbone_weights: MoveNet's trunk was trained on poses, not ImageNet; give the "
                                ".npz of MoveNet Lightning's trunk, or 'none'")
    with pytest.raises(InputError, match=r"give 'none' or the path of an \.npz of MoveNet Lightning's trunk"):
        load_backbone(model, "movenet", str(tmp_path / "absent.npz"))


@pytest.mark.parametrize(("backbone", "published"), [("movenet", LIGHTNING), ("movenet_thunder", THUNDER)])
def test_detector_has_no_batch_norm_and_the_published_number_of_parameters(backbone, published):
    model = part_detector(17, backbone=backbone, head="narrow")
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert model.count_params() == sum(int(np.prod(shape)) for shape in shapes(published).values())


def test_thunder_accepts_its_arrays_and_refuses_those_of_lightning(path, tmp_path):
    model = part_detector(17, backbone="movenet_thunder", head="narrow")
    made = {name: np.full(shape, i, np.float16) for i, (name, shape) in enumerate(shapes(THUNDER).items())}
    file = tmp_path / "thunder.npz"
    np.savez(file, **made)
    load_backbone(model, "movenet_thunder", str(file))
    for layer, name in (("block_16_project_conv", "block_16/project"), ("narrow_lateral_4", "lateral_4")):
        np.testing.assert_array_equal(model.get_layer(layer).get_weights()[0], made[f"{name}/kernel"])
    with pytest.raises(InputError, match="stem_conv"):
        load_backbone(model, "movenet_thunder", path)


def published_name(name):
    """Return the array's name in the TensorFlow.js graph (as in movenet-thunder.json)."""
    part, kind = name.rsplit("/", 1)
    trunk = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1"
    suffix = {"kernel": "Conv2D/ReadVariableOp", "bias": "BiasAdd/ReadVariableOp"}[kind]
    if part.startswith("lateral"):
        return f"{trunk}/conv2d{ {'32': '', '16': '_1', '8': '_2', '4': '_3'}[part.split('_')[1]] }/{suffix}"
    if part == "heatmap/out":
        return f"StatefulPartitionedCall/kpt_heatmap_0/conv2d_5/{suffix}"
    if part.startswith("heatmap"):
        op = "BiasAdd/ReadVariableOp" if kind == "bias" else \
            f"separable_conv2d/ReadVariableOp{'_1' if part.endswith('pointwise') else ''}"
        return f"StatefulPartitionedCall/kpt_heatmap_0/separable_conv2d_4/{op}"
    if part.startswith("top"):
        op = "separable_conv2d/ReadVariableOp" if part.endswith("depthwise") else \
            {"kernel": "separable_conv2d_weights", "bias": "separable_conv2d_bn_offset"}[kind]
        return f"{trunk}/separable_conv2d{ {'16': '', '8': '_1', '4': '_2'}[part.split('/')[0][4:]] }/{op}"
    if part in ("stem", "head"):
        layer = {"stem": "Conv1", "head": "Conv_1"}[part]
    else:
        number, layer = int(part[6:8]), part.split("/")[1]
        layer = f"block_{number}_{layer}" if number else f"expanded_conv_{layer}"
    op = "depthwise" if layer.endswith("depthwise") else "Conv2D"
    return f"{trunk}/model/{layer}/{op}_{ {'kernel': 'weights', 'bias': 'bn_offset'}[kind] }"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "recipes" / "tools" / "movenet_trunk.py"))


def test_published_graph_is_converted_to_the_file(tool, arrays, tmp_path):
    others = {"StatefulPartitionedCall/stack_4": np.arange(34, dtype=np.int32).reshape(17, 2),
              "Some/offset": np.float32(2.5)}
    manifest, raw = [], b""
    for name, array in ({published_name(name): array for name, array in arrays.items()} | others).items():
        half = {"quantization": {"dtype": "float16"}} if array.dtype == np.float16 else {}
        manifest.append({"name": name, "shape": list(array.shape),
                         "dtype": "float32" if half else str(array.dtype)} | half)
        raw += array.tobytes()
    graph, output = tmp_path / "movenet-lightning.json", tmp_path / "trunk.npz"
    graph.write_text(json.dumps({"weightsManifest": [{"weights": manifest}]}))
    graph.with_suffix(".bin").write_bytes(raw)
    tool["main"](str(graph), str(output))
    with np.load(output) as converted:
        assert set(converted.files) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(converted[name], array)
    graph.with_suffix(".bin").write_bytes(raw + b"x")
    with pytest.raises(ValueError, match=f"lists {len(raw)} bytes of weights, but its .bin file has {len(raw) + 1}"):
        tool["main"](str(graph), str(output))
