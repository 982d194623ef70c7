"""The network in exports: float32 whatever its training policy, and the eight TFLite models converted from it."""

import keras
import numpy as np
import pytest
import spots
import tensorflow as tf
from small_runs import stub_cascade

from posecascade.codec import decoders
from posecascade.export import tflite
from posecascade.export.graph.network import Network, float32
from posecascade.formats import runtime
from posecascade.formats.keras_file import Metadata
from posecascade.models import cascade
from posecascade.schema import LSP14

POLICIES = ("mixed_bfloat16", "mixed_float16")
BUILDS = {"stub": lambda: stub_cascade(14), "tiny": lambda: cascade(14, backbone="tiny", width=8)}


def built(build, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(5)
    try:
        return BUILDS[build]()
    finally:
        keras.config.set_dtype_policy(before)


def layers_of(model):
    """Yield every layer of the model, nested models and their layers included."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)


@pytest.fixture
def crops(rng):
    return rng.integers(0, 256, (2, 64, 64, 3), np.uint8).astype(np.float32)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("build", BUILDS)
def test_copy_of_a_mixed_model_is_the_float32_model_with_its_weights(build, policy, crops):
    mixed, plain = built(build, policy), built(build, "float32")
    plain.set_weights(mixed.get_weights())
    kinds, weights = [layer.compute_dtype for layer in layers_of(mixed)], mixed.get_weights()
    expected = mixed.predict_on_batch(crops)
    twin = float32(mixed)
    assert policy.removeprefix("mixed_") in kinds
    assert twin is not mixed
    assert {layer.compute_dtype for layer in layers_of(twin)} == {"float32"}
    assert [layer.name for layer in layers_of(twin)] == [layer.name for layer in layers_of(mixed)]
    actual, exact = twin.predict_on_batch(crops), plain.predict_on_batch(crops)
    assert list(actual) == list(mixed.output)
    for name, maps in exact.items():
        np.testing.assert_allclose(actual[name], maps, atol=1e-6, rtol=0)
        assert np.abs(expected[name] - maps).max() > 5e-6  # mixed precision differs
    # The mixed model is unchanged.
    assert [layer.compute_dtype for layer in layers_of(mixed)] == kinds
    for one, other in zip(mixed.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, maps in mixed.predict_on_batch(crops).items():
        np.testing.assert_array_equal(maps, expected[name])


@pytest.mark.parametrize("build", BUILDS)
def test_float32_model_is_not_copied(build):
    model = built(build, "float32")
    assert float32(model) is model


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_network_returns_part_maps_as_probabilities(policy, crops):
    mixed = built("stub", policy)
    network = Network(mixed, Metadata(LSP14, 64, 4))
    logits = float32(mixed).predict_on_batch(crops)
    maps = {name: value.numpy() for name, value in network.maps(tf.constant(crops.astype(np.uint8))).items()}
    assert list(maps) == list(network.names) == ["parts", "heatmaps"]
    np.testing.assert_allclose(maps["parts"], 1 / (1 + np.exp(-np.float64(logits["parts"]))), atol=1e-6)
    np.testing.assert_allclose(maps["heatmaps"], logits["heatmaps"], atol=1e-6, rtol=1e-6)
    assert all(value.dtype == np.float32 for value in maps.values())


@pytest.mark.parametrize(("outputs", "names"), [(("parts",), ("parts",)), (("heatmaps",), ("heatmaps",))])
def test_network_of_one_stage_has_its_maps_alone(outputs, names):
    network = Network(spots.network(outputs), spots.metadata())
    assert network.names == names
    assert tuple(network.maps(tf.zeros((1, 128, 128, 3), tf.uint8))) == names


# The TFLite models of the network that detects spots.


@pytest.fixture(scope="module")
def model():
    return spots.network()


def crops_of(count, seed):
    """Return crops as in evaluation, of people of several sizes."""
    rng = np.random.default_rng(seed)
    some = [spots.person(rng=rng, reach=rng.uniform(40, 80)) for _ in range(count)]
    return spots.predictor_of(spots.network()).crops([one.image for one in some], [one.box for one in some])[0]


@pytest.fixture(scope="module")
def crops_of_people():
    return crops_of(6, 2)


@pytest.fixture(scope="module")
def maps(model, crops_of_people):
    return spots.predictor_of(model).maps(crops_of_people)


@pytest.fixture(scope="module")
def models(model):
    """Return the TFLite models by kind and precision, calibrated on other people than `crops_of_people`."""
    network = Network(model, spots.metadata())
    converted = tflite.models(network, tflite.decoder(network), crops_of(8, 3))
    return {(kind, precision): data for kind, precision, data in converted}


def apart(run, crops_of_people, maps):
    return {name: float(np.abs(value - maps[name]).max()) for name, value in run(crops_of_people).items()}


def test_every_kind_exists_in_every_precision(models):
    assert list(models) == [(kind, precision) for precision in tflite.PRECISIONS for kind in tflite.KINDS]
    for (kind, precision), data in models.items():
        reading = runtime.interpreter(data)
        [signature] = reading.get_signature_list().items()
        outputs = {"heatmaps": ["heatmaps", "parts"], "keypoints": ["keypoints", "scores", "visibility"]}[kind]
        assert signature == (kind, {"inputs": ["crop"], "outputs": outputs})
        [entry] = reading.get_input_details()
        assert entry["shape"].tolist() == [1, 128, 128, 3]
        bytes_in = kind == "keypoints" or precision == "int8"
        assert entry["dtype"] == (np.uint8 if bytes_in else np.float32)
        assert all(entry["dtype"] == np.float32 for entry in reading.get_output_details())


# float32: another order of sums. float16: weights of 11 bits in the last layers. dynamic: TensorFlow Lite keeps kernels
# of fewer than 1024 numbers, which all of these are, in float32. int8: 1 / 256 of the largest weight, and of the
# largest value of each of five layers. A part map is up to four times as steep as the heatmap.
@pytest.mark.parametrize(("precision", "bounds"), [
    ("float32", {"heatmaps": 1e-5, "parts": 1e-5}), ("float16", {"heatmaps": 5e-4, "parts": 2e-3}),
    ("dynamic", {"heatmaps": 1e-5, "parts": 1e-5}), ("int8", {"heatmaps": 0.02, "parts": 0.08})])
def test_maps_agree_with_the_model(models, crops_of_people, maps, precision, bounds):
    away = apart(runtime.tflite(models["heatmaps", precision]), crops_of_people, maps)
    assert away.keys() == bounds.keys()
    assert all(away[name] <= bound for name, bound in bounds.items()), away
    if precision in ("float16", "int8"):
        assert max(away.values()) > 1e-5  # weights differ


@pytest.mark.parametrize("precision", tflite.PRECISIONS)
def test_keypoints_are_decoded_from_the_heatmaps(models, crops_of_people, precision):
    maps = runtime.tflite(models["heatmaps", precision])(crops_of_people)
    outputs = runtime.tflite(models["keypoints", precision])(crops_of_people)
    keypoints, peaks = decoders.DECODERS["soft"](maps["heatmaps"], 4)
    np.testing.assert_allclose(outputs["keypoints"], keypoints, atol=1e-3)  # the decoder's tolerance in float32
    np.testing.assert_allclose(outputs["scores"], np.clip(peaks, 0, 1), atol=1e-6)
    np.testing.assert_allclose(outputs["visibility"], decoders.value_at(maps["parts"], keypoints, 4), atol=1e-3)


@pytest.mark.parametrize(("precision", "away"), [("float32", 1e-3), ("float16", 5e-3), ("dynamic", 1e-3),
                                                 ("int8", 0.3)])
def test_keypoints_are_close_to_the_models(models, crops_of_people, maps, precision, away):
    keypoints, _ = decoders.DECODERS["soft"](maps["heatmaps"], 4)
    actual = runtime.tflite(models["keypoints", precision])(crops_of_people)["keypoints"]
    assert np.linalg.norm(actual - keypoints, axis=-1).max() <= away


def test_int8_ranges_come_from_the_calibration_crops(model, models, crops_of_people, maps, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("int8",))
    black = dict.fromkeys(tflite.KINDS)
    network = Network(model, spots.metadata())
    for kind, _, data in tflite.models(network, tflite.decoder(network), np.zeros((4, 128, 128, 3), np.uint8)):
        black[kind] = data
    good, bad = (apart(runtime.tflite(data), crops_of_people, maps)["heatmaps"] for data in (models["heatmaps", "int8"],
                                                                               black["heatmaps"]))
    assert bad > 0.5 > 10 * good  # values beyond the measured ranges are clipped


def test_decoder_is_the_one_of_the_metadata(model, crops_of_people, maps, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))
    network = Network(model, spots.metadata("quarter"))
    by_kind = {kind: data for kind, _, data in tflite.models(network, tflite.decoder(network), crops_of_people)}
    keypoints, other = (decoders.DECODERS[name](maps["heatmaps"], 4)[0] for name in ("quarter", "soft"))
    actual = runtime.tflite(by_kind["keypoints"])(crops_of_people)["keypoints"]
    np.testing.assert_allclose(actual, keypoints, atol=1e-3)
    assert np.abs(actual - other).max() > 0.1


def test_model_of_one_stage_converts_too(crops_of_people, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32", "int8"))
    model = spots.network(("heatmaps",))
    keypoints, _ = decoders.DECODERS["soft"](spots.predictor_of(model).maps(crops_of_people)["heatmaps"], 4)
    network = Network(model, spots.metadata())
    for kind, precision, data in tflite.models(network, tflite.decoder(network), crops_of_people):
        answer = runtime.tflite(data)(crops_of_people)
        assert sorted(answer) == (["heatmaps"] if kind == "heatmaps" else ["keypoints", "scores", "visibility"])
        if kind == "keypoints":
            away = np.linalg.norm(answer["keypoints"] - keypoints, axis=-1).max()
            assert away <= {"float32": 1e-3, "int8": 1}[precision]
            np.testing.assert_array_equal(answer["visibility"], answer["scores"])
            outputs = runtime.interpreter(data).get_output_details()
            assert len({output["index"] for output in outputs}) == 3  # LiteRT.js has one name per tensor
