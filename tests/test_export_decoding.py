"""Compare the decoders of exported graphs with `codec.decoders`: eagerly, in graphs of any batch size, in TFLite."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from posecascade.codec import decoders, targets

tf = pytest.importorskip("tensorflow")

from posecascade.export.graph import decoding  # noqa: E402  (needs TensorFlow)

litert = pytest.importorskip("ai_edge_litert.interpreter")

# Input pixels. A coordinate up to 512 is off by 2^-15 = 3e-5 in float32. A mean over a window of 6 cells, at stride 8,
# by 48 px times a few 1e-7; a Newton step over a curvature of 1 / sigma^2 per cell^2, sigma = 8 cells and the step up
# to half a cell, by 8 * 64 px times the same 1e-7. Where the map is too flat for that: `stable`.
TOLERANCE = 1e-3
# Relative: 16 times that of float32. Sums of 9 to 169 products are off by less.
ROUNDING = 2.0 ** -20
CONTINUOUS = ("dark", "soft")  # the others choose by comparisons, which are exact in float32

HEIGHT, WIDTH, KEYPOINTS, STRIDE = 16, 12, 5, 4  # of the graphs
DECODER = pytest.mark.parametrize("decoder", decoders.DECODERS)
EAGER = settings(max_examples=40, deadline=None)


def bumps(rng, size, sigma, noise=0.0):
    """Return maps (B, H, W, K) of one Gaussian each, half of them on a border or in a corner; `sigma` in cells."""
    people, height, width, keypoints = size
    sides = np.array([width, height])
    middle = rng.uniform(-0.5, sides - 0.5, (people, keypoints, 2))
    middle = np.where(rng.random(middle.shape) < 0.3, rng.integers(0, 2, middle.shape) * (sides - 1), middle)
    maps = np.asarray(targets.confidence_maps(middle.astype(np.float32), height, width, stride=1, sigma=sigma))
    return (maps + noise * rng.normal(size=size)).astype(np.float32)


def stable(decoder, maps, stride):
    """Return (B, K) bool: whether changing the map by rounding errors leaves the keypoint in place."""
    expected, _ = decoders.DECODERS[decoder](maps, stride)
    calm = np.ones(expected.shape[:2], bool)
    for seed in range(3 if decoder in CONTINUOUS else 0):
        lowered = maps - np.abs(maps) * np.random.default_rng(seed).uniform(0, ROUNDING, maps.shape)
        lowered = np.where(maps == maps.max((1, 2), keepdims=True), maps, lowered)  # the highest cell stays the highest
        moved, _ = decoders.DECODERS[decoder](lowered, stride)
        calm &= np.abs(moved - expected).max(-1) < TOLERANCE / 2
    return calm


def assert_same(decoder, maps, stride, decoded, where=...):
    """Assert that the `decoded` float32 `maps` agree with `codec.decoders` at the keypoints of a mask (B, K)."""
    points, scores = (np.asarray(part) for part in decoded)
    expected, highest = decoders.DECODERS[decoder](maps, stride)
    assert (points.dtype, scores.dtype) == (np.float32, np.float32)
    assert points.shape == expected.shape
    np.testing.assert_array_equal(scores, highest)
    np.testing.assert_allclose(points[where], expected[where], rtol=0, atol=TOLERANCE)


def test_decoders_have_the_same_names():
    assert list(decoding.DECODERS) == list(decoders.DECODERS)


@DECODER
@given(size=st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 24), st.integers(1, 4)),
       stride=st.sampled_from([1, 2, 3, 4, 8]), sigma=st.floats(1.3, 8), noise=st.sampled_from([0, 0.01, 0.1, 1]),
       scale=st.sampled_from([1, -1, 1e-3, 1e-6, 30]), seed=st.integers(0, 2 ** 32 - 1))
@EAGER
def test_decoder_agrees_with_codec(decoder, size, stride, sigma, noise, scale, seed):
    maps = np.float32(scale) * bumps(np.random.default_rng(seed), size, sigma, noise)
    where = stable(decoder, maps, stride)
    assume(where.any())
    assert_same(decoder, maps, stride, decoding.DECODERS[decoder](tf.constant(maps), stride), where)


@DECODER
@pytest.mark.parametrize("noise", [0, 0.05, None])
def test_nearly_all_keypoints_are_stable(decoder, noise, rng):
    """So comparing stable keypoints alone excludes few; `None` is a map of noise alone."""
    size = (24, 24, 20, 8)
    maps = rng.normal(size=size).astype(np.float32) if noise is None else bumps(rng, size, 2.0, noise)
    where = stable(decoder, maps, 4)
    assert where.mean() > 0.98
    assert_same(decoder, maps, 4, decoding.DECODERS[decoder](tf.constant(maps), 4), where)


ROWS, COLUMNS = np.mgrid[:9, :13].astype(np.float64)
SPECIAL = {  # maps without a round peak
    "zeros": 0 * ROWS,
    "a constant": 0 * ROWS + 0.3,
    "negative": -1 - 0.1 * np.hypot(ROWS - 4, COLUMNS - 7),
    "a plateau": np.maximum(np.abs(ROWS - 4), np.abs(COLUMNS - 6)) < 3,
    "a plateau in a corner": (ROWS > 6) & (COLUMNS > 9),
    "two equal peaks": ((ROWS == 2) & (COLUMNS == 9)) | ((ROWS == 6) & (COLUMNS == 3)),
    "one cell": (ROWS == 4) & (COLUMNS == 6),
    "one cell in a corner": (ROWS == 8) & (COLUMNS == 12),
    "one cell, below zero elsewhere": 2.0 * ((ROWS == 4) & (COLUMNS == 6)) - 1,
    "a ridge along x": np.exp(-0.5 * ((ROWS - 4.3) / 1.7) ** 2),
    "a ridge along y": np.exp(-0.5 * ((COLUMNS - 6.4) / 3.1) ** 2),
    "a ridge along y of equal columns": np.exp(-0.5 * ((COLUMNS - 5.5) / 1.3) ** 2),
    "a diagonal ridge": np.exp(-0.5 * ((COLUMNS - ROWS) / 1.7) ** 2),
    "a slope": ROWS + 2 * COLUMNS,
    "a valley": (ROWS - 4) ** 2 + (COLUMNS - 6) ** 2,
    "a saddle": 50 + (ROWS - 4) ** 2 - (COLUMNS - 6) ** 2,
    "a chess board": (ROWS + COLUMNS) % 2,
    "a highest cell in a hole": np.where(np.maximum(np.abs(ROWS - 4), np.abs(COLUMNS - 6)) == 1, 0,
                                         np.where((ROWS == 4) & (COLUMNS == 6), 1, 0.8 + 0.01 * COLUMNS)),
    "almost nothing": 1e-7 * np.exp(-0.1 * ((ROWS - 4.3) ** 2 + (COLUMNS - 6.4) ** 2)),
}


@DECODER
@pytest.mark.parametrize("name", SPECIAL)
def test_decoder_agrees_on_maps_without_a_round_peak(decoder, name):
    maps = SPECIAL[name].astype(np.float32)[None, :, :, None]
    assert_same(decoder, maps, 8, decoding.DECODERS[decoder](tf.constant(maps), 8))


@pytest.mark.parametrize(("sigma", "moves"), [(130, True), (250, False)])
def test_dark_stops_at_the_same_flatness(sigma, moves):
    """The determinant, sigma^-4, is 3.5e-9 and 2.6e-10; float32 locates so flat a peak to a tenth of a cell only."""
    maps = np.asarray(targets.confidence_maps(np.float32([[[6.4, 4.3]]]), 9, 13, stride=1, sigma=sigma))
    expected = decoders.dark(maps, 1)[0]
    assert (np.abs(expected - [6, 4]).min() > 0.2) == moves
    np.testing.assert_allclose(decoding.dark(tf.constant(maps), 1)[0], expected, rtol=0, atol=0.1)


@given(size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
       stride=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 2 ** 32 - 1))
@EAGER
def test_value_at_agrees_with_codec_on_the_map_and_outside(size, stride, seed):
    rng = np.random.default_rng(seed)
    maps = rng.random(size).astype(np.float32)
    reach = stride * max(size[1:3])
    points = rng.uniform(-reach, 2 * reach, (size[0], size[3], 2)).astype(np.float32)
    points = np.where(rng.random(points.shape) < 0.3, np.floor(points), points)  # strides are powers of two: on a cell
    actual = decoding.value_at(tf.constant(maps), tf.constant(points), stride).numpy()
    assert actual.dtype == np.float32
    # At these strides positions on the map are exact in cells; the rest rounds numbers up to 1 a few times.
    np.testing.assert_allclose(actual, decoders.value_at(maps, points, stride), rtol=0, atol=1e-6)


def test_value_at_a_stride_that_is_not_a_power_of_two(rng):
    maps, points = rng.random((4, 64, 64, 9)).astype(np.float32), rng.uniform(0, 192, (4, 9, 2)).astype(np.float32)
    actual = decoding.value_at(tf.constant(maps), tf.constant(points), 3)
    # A position up to 64 cells is off by 4e-6, and neighbors differ by less than 1 on either axis.
    np.testing.assert_allclose(actual, decoders.value_at(maps, points, 3), rtol=0, atol=1e-5)


@DECODER
def test_graph_takes_any_number_of_people(decoder, rng):
    @tf.function(input_signature=[tf.TensorSpec((None, HEIGHT, WIDTH, KEYPOINTS), tf.float32)])
    def graph(maps):
        points, scores = decoding.DECODERS[decoder](maps, STRIDE)
        return points, scores, decoding.value_at(maps, points, STRIDE)

    assert [shape.as_list() for shape in graph.get_concrete_function().output_shapes] == [
        [None, KEYPOINTS, 2], [None, KEYPOINTS], [None, KEYPOINTS]]
    for people in (0, 1, 7):
        maps = bumps(rng, (people, HEIGHT, WIDTH, KEYPOINTS), 1.5, 0.02)
        points, scores, values = graph(maps)
        assert_same(decoder, maps, STRIDE, (points, scores), stable(decoder, maps, STRIDE))
        np.testing.assert_allclose(values, decoders.value_at(maps, points.numpy(), STRIDE), rtol=0, atol=1e-5)


def converted(folder, function, **inputs):
    """Convert to a TFLite model of builtin operators; raises if they do not suffice."""
    graph = tf.function(function).get_concrete_function(
        **{name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()})
    tf.saved_model.save(tf.Module(), str(folder), signatures=graph)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def interpreters(model):
    """Yield interpreters with LiteRT's own kernels, which hide no operator, and with the default delegate."""
    for kind in (litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, litert.OpResolverType.AUTO):
        interpreter = litert.Interpreter(model_content=model, experimental_op_resolver_type=kind)
        interpreter.allocate_tensors()
        yield interpreter


def operators(interpreter):
    """Return how often each operator occurs."""
    return Counter(operator["op_name"] for operator in interpreter._get_ops_details())


def are_plain(names):
    """Return whether there is no operator of TensorFlow, no custom one, no loop and no branch."""
    return not [name for name in names if name.startswith("Flex") or name in ("WHILE", "IF", "CUSTOM")]


MAPS = (1, HEIGHT, WIDTH, KEYPOINTS)


@DECODER
def test_decoder_converts_to_plain_tflite_operators(decoder, rng, tmp_path):
    def graph(maps):
        points, scores = decoding.DECODERS[decoder](maps, STRIDE)
        return {"points": points, "scores": scores}

    plain, delegated = interpreters(converted(tmp_path, graph, maps=MAPS))
    assert are_plain(operators(plain))
    assert sum(operators(plain).values()) < 300  # none is repeated for every keypoint or cell
    examples = [bumps(rng, MAPS, sigma, noise) for sigma in (1.3, 2, 4) for noise in (0, 0.02, 0.2, 1)
                for _ in range(4)]
    examples += [np.full(MAPS, value, np.float32) for value in (0, 0.5, -1)]
    examples += [np.round(3 * example) / 3 for example in examples[:16]]  # plateaus, and equal maxima
    for interpreter in (plain, delegated):
        run = interpreter.get_signature_runner()
        for maps in examples:
            outputs = run(maps=maps)
            assert_same(decoder, maps, STRIDE, (outputs["points"], outputs["scores"]), stable(decoder, maps, STRIDE))


def test_value_at_converts_to_plain_tflite_operators(rng, tmp_path):
    model = converted(tmp_path, lambda maps, points: {"values": decoding.value_at(maps, points, STRIDE)},
                      maps=MAPS, points=(1, KEYPOINTS, 2))
    plain, delegated = interpreters(model)
    assert are_plain(operators(plain))
    for interpreter in (plain, delegated):
        run = interpreter.get_signature_runner()
        for _ in range(20):
            maps = rng.random(MAPS).astype(np.float32)
            points = rng.uniform(-20, 80, (1, KEYPOINTS, 2)).astype(np.float32)
            np.testing.assert_allclose(run(maps=maps, points=points)["values"], decoders.value_at(maps, points, STRIDE),
                                       rtol=0, atol=1e-6)


def test_other_operators_are_detected():
    assert are_plain({"GATHER": 1, "DELEGATE": 2})
    assert not any(are_plain({"ADD": 3, name: 1}) for name in ("FlexAdd", "WHILE", "IF", "CUSTOM"))
