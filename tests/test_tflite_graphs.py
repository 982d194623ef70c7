"""Edited TFLite models: what joined graphs and graphs with float16 weights compute, and which operators they have."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as tflite

from posecascade.formats import runtime
from posecascade.formats.tflite_graphs import KEPT_FLOAT32, joined, operators, packed, unpacked, with_float16_weights

SIDE = 16


def converted(function, key, **inputs):
    """Convert `function` of named tensors to a TFLite model with the signature `key`."""
    module = tf.Module()
    signature = tf.function(lambda **given: function(**given)).get_concrete_function(
        **{name: tf.TensorSpec(*spec, name=name) for name, spec in inputs.items()})
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature], module)
    model = unpacked(converter.convert())
    model.signatureDefs[0].signatureKey = key
    return packed(model)


@pytest.fixture(scope="module")
def kernels():
    rng = np.random.default_rng(5)
    return [rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 3, 4), (3, 3, 4, 40), (1, 1, 40, 5))]


@pytest.fixture(scope="module")
def network(kernels):
    """Return a model of three convolutions with two outputs, one computed from the other."""
    def call(crop):
        x = tf.nn.relu6(tf.nn.conv2d(crop, kernels[0], 2, "SAME"))
        wide = tf.nn.relu6(tf.nn.conv2d(x, kernels[1], 1, "SAME"))
        return {"parts": tf.sigmoid(x), "heatmaps": tf.nn.conv2d(wide, kernels[2], 1, "SAME")}

    return converted(call, "heatmaps", crop=((1, SIDE, SIDE, 3), tf.float32))


@pytest.fixture(scope="module")
def decoder():
    """Return a model that takes the two outputs in another order and has constants."""
    return converted(lambda heatmaps, parts: {"top": tf.reduce_max(heatmaps, (1, 2)) + np.arange(5, dtype=np.float32),
                                              "sum": tf.reduce_sum(parts, (1, 2))}, "decode",
                     heatmaps=((1, SIDE // 2, SIDE // 2, 5), tf.float32),
                     parts=((1, SIDE // 2, SIDE // 2, 4), tf.float32))


@pytest.fixture
def crops(rng):
    return rng.uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)


def test_joined_model_computes_one_graph_after_the_other(network, decoder, crops):
    both = joined(network, decoder, "all")
    assert runtime.interpreter(both).get_signature_list() == {"all": {"inputs": ["crop"], "outputs": ["sum", "top"]}}
    outputs, maps = runtime.tflite(both)(crops), runtime.tflite(network)(crops)
    np.testing.assert_allclose(outputs["top"], maps["heatmaps"].max((1, 2)) + np.arange(5), rtol=1e-6)
    np.testing.assert_allclose(outputs["sum"], maps["parts"].sum((1, 2)), rtol=1e-6)
    for name, count in operators(network).items():
        assert operators(both)[name] >= count
    assert sum(operators(both).values()) == sum(operators(network).values()) + sum(operators(decoder).values())


def test_three_models_join_and_the_first_may_change_the_type(network, decoder, rng):
    to_float = converted(lambda crop: {"crop": tf.cast(crop, tf.float32)}, "cast", crop=((1, SIDE, SIDE, 3), tf.uint8))
    all_three = joined(joined(to_float, network, "x"), decoder, "y")
    pixels = rng.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    expected = runtime.tflite(joined(network, decoder, "y"))(pixels.astype(np.float32))
    outputs = runtime.tflite(all_three)(pixels)
    assert outputs.keys() == expected.keys() == {"top", "sum"}
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value)


def test_models_that_do_not_fit_are_refused(network, decoder):
    other = converted(lambda maps: {"x": maps + 1}, "other", maps=((1, 2, 2, 5), tf.float32))
    with pytest.raises(ValueError, match=r"^'maps' is not an output of the first graph, which returns heatmaps, pa"):
        joined(network, other, "x")
    wrong = converted(lambda parts: {"x": parts + 1}, "other", parts=((1, 2, 2, 4), tf.float32))
    with pytest.raises(ValueError, match=r"has shape \[1, 8, 8, 4\], expected \[1, 2, 2, 4\], or has "):
        joined(network, wrong, "x")


def constants(model):
    """Return the sizes of the constants of a model by their type."""
    content, sizes = unpacked(model), {}
    for tensor in content.subgraphs[0].tensors:
        if content.buffers[tensor.buffer].data is not None:
            sizes.setdefault(tensor.type, []).append(int(np.prod(tensor.shape)))
    return sizes


def test_late_weights_become_float16(network, kernels, crops):
    half = with_float16_weights(network)
    sizes = [kernel.size for kernel in kernels]
    assert sizes[0] > KEPT_FLOAT32 * sum(sizes)  # the first layer crosses the limit, so it becomes float16 too
    assert sorted(constants(half)[1]) == sorted(sizes)
    assert operators(half) == {"DEQUANTIZE": 3, **operators(network)}
    assert len(network) - len(half) > 2 * sum(sizes) - 2000

    def rounded(kernel):
        return kernel.astype(np.float16).astype(np.float32)

    x = tf.nn.relu6(tf.nn.conv2d(crops, rounded(kernels[0]), 2, "SAME"))
    wide = tf.nn.relu6(tf.nn.conv2d(x, rounded(kernels[1]), 1, "SAME"))
    expected = tf.nn.conv2d(wide, rounded(kernels[2]), 1, "SAME").numpy()
    np.testing.assert_allclose(runtime.tflite(half)(crops)["heatmaps"], expected, rtol=1e-4, atol=1e-4)
    exact = runtime.tflite(network)(crops)["heatmaps"]
    assert 0 < np.abs(exact - expected).max() < 0.05 * np.abs(exact).max()


def test_weights_below_the_limit_stay_float32(crops):
    rng = np.random.default_rng(6)
    small, large = (rng.normal(size=shape).astype(np.float32) for shape in ((1, 1, 3, 8), (5, 5, 8, 64)))

    def call(crop):
        return {"x": tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(crop, small, 1, "SAME")), large, 1, "SAME")}

    model = converted(call, "x", crop=((1, SIDE, SIDE, 3), tf.float32))
    assert small.size <= KEPT_FLOAT32 * (small.size + large.size)
    half = constants(with_float16_weights(model))
    assert half[1] == [large.size] and small.size in half[0] and large.size not in half[0]


def test_buffers_are_aligned_to_16_bytes(network):
    model = tflite.Model.GetRootAs(packed(unpacked(network)), 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    positions = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if not buffer.DataIsNone()]
    assert len(positions) >= 3 and not any(position % 16 for position in positions)
