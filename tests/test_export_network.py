"""The network as exports compute it: float32 whatever it was trained in, and the eight TFLite models made of it."""

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
    """Every layer of the model and the models in it, these too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)


@pytest.fixture
def crops(rng):
    return rng.integers(0, 256, (2, 64, 64, 3), np.uint8).astype(np.float32)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("build", BUILDS)
def test_the_twin_of_a_mixed_model_is_the_float32_model_with_its_weights(build, policy, crops):
    mixed, plain = built(build, policy), built(build, "float32")
    plain.set_weights(mixed.get_weights())
    kinds, weights = [layer.compute_dtype for layer in layers_of(mixed)], mixed.get_weights()
    expected = mixed.predict_on_batch(crops)
    twin = float32(mixed)
    assert policy.removeprefix("mixed_") in kinds
    assert twin is not mixed
    assert {layer.compute_dtype for layer in layers_of(twin)} == {"float32"}
    assert [layer.name for layer in layers_of(twin)] == [layer.name for layer in layers_of(mixed)]
    found, exact = twin.predict_on_batch(crops), plain.predict_on_batch(crops)
    assert list(found) == list(mixed.output)
    for name, maps in exact.items():
        np.testing.assert_allclose(found[name], maps, atol=1e-6, rtol=0)
        assert np.abs(expected[name] - maps).max() > 5e-6  # the mixed one is another
    # What was given is as it was.
    assert [layer.compute_dtype for layer in layers_of(mixed)] == kinds
    for one, other in zip(mixed.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, maps in mixed.predict_on_batch(crops).items():
        np.testing.assert_array_equal(maps, expected[name])


@pytest.mark.parametrize("build", BUILDS)
def test_a_float32_model_is_its_own_twin(build):
    model = built(build, "float32")
    assert float32(model) is model


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_gives_part_maps_as_shares(policy, crops):
    mixed = built("stub", policy)
    network = Network(mixed, Metadata(LSP14, 64, 4))
    logits = float32(mixed).predict_on_batch(crops)
    maps = {name: value.numpy() for name, value in network.maps(tf.constant(crops.astype(np.uint8))).items()}
    assert list(maps) == list(network.names) == ["parts", "heatmaps"]
    np.testing.assert_allclose(maps["parts"], 1 / (1 + np.exp(-np.float64(logits["parts"]))), atol=1e-6)
    np.testing.assert_allclose(maps["heatmaps"], logits["heatmaps"], atol=1e-6, rtol=1e-6)
    assert all(value.dtype == np.float32 for value in maps.values())


@pytest.mark.parametrize(("outputs", "names"), [(("parts",), ("parts",)), (("heatmaps",), ("heatmaps",))])
def test_a_network_of_one_piece_has_its_maps_alone(outputs, names):
    network = Network(spots.network(outputs), spots.metadata())
    assert network.names == names
    assert tuple(network.maps(tf.zeros((1, 128, 128, 3), tf.uint8))) == names


# The TFLite models of the network that finds spots.


@pytest.fixture(scope="module")
def model():
    return spots.network()


def crops_of(count, seed):
    """Crops as evaluation makes them, of persons of several sizes."""
    rng = np.random.default_rng(seed)
    some = [spots.person(rng=rng, reach=rng.uniform(40, 80)) for _ in range(count)]
    return spots.road_of(spots.network()).crops([one.image for one in some], [one.box for one in some])[0]


@pytest.fixture(scope="module")
def seen():
    return crops_of(6, 2)


@pytest.fixture(scope="module")
def maps(model, seen):
    return spots.road_of(model).maps(seen)


@pytest.fixture(scope="module")
def found(model):
    """By kind and precision; calibrated on other people than those `seen`."""
    network = Network(model, spots.metadata())
    models = tflite.models(network, tflite.decoder(network), crops_of(8, 3))
    return {(kind, precision): data for kind, precision, data in models}


def apart(run, seen, maps):
    return {name: float(np.abs(value - maps[name]).max()) for name, value in run(seen).items()}


def test_every_kind_comes_in_every_precision(found):
    assert list(found) == [(kind, precision) for precision in tflite.PRECISIONS for kind in tflite.KINDS]
    for (kind, precision), data in found.items():
        reading = runtime.interpreter(data)
        [signature] = reading.get_signature_list().items()
        outputs = {"heatmaps": ["heatmaps", "parts"], "keypoints": ["keypoints", "scores", "visibility"]}[kind]
        assert signature == (kind, {"inputs": ["crop"], "outputs": outputs})
        [entry] = reading.get_input_details()
        assert entry["shape"].tolist() == [1, 128, 128, 3]
        bytes_in = kind == "keypoints" or precision == "int8"
        assert entry["dtype"] == (np.uint8 if bytes_in else np.float32)
        assert all(entry["dtype"] == np.float32 for entry in reading.get_output_details())


# float32: other orders of sums. float16: weights of 11 bits in the last layers. dynamic: TensorFlow Lite leaves kernels
# of fewer than 1024 numbers, all of these, in float32. int8: 1 / 256 of the largest weight, and of the largest value of
# each of five layers. A part map is up to four times as steep as the heatmap.
@pytest.mark.parametrize(("precision", "bounds"), [
    ("float32", {"heatmaps": 1e-5, "parts": 1e-5}), ("float16", {"heatmaps": 5e-4, "parts": 2e-3}),
    ("dynamic", {"heatmaps": 1e-5, "parts": 1e-5}), ("int8", {"heatmaps": 0.02, "parts": 0.08})])
def test_maps_are_those_of_the_model(found, seen, maps, precision, bounds):
    away = apart(runtime.tflite(found["heatmaps", precision]), seen, maps)
    assert away.keys() == bounds.keys()
    assert all(away[name] <= bound for name, bound in bounds.items()), away
    if precision in ("float16", "int8"):
        assert max(away.values()) > 1e-5  # it is another model


@pytest.mark.parametrize("precision", tflite.PRECISIONS)
def test_keypoints_are_decoded_from_the_heatmaps(found, seen, precision):
    maps = runtime.tflite(found["heatmaps", precision])(seen)
    joints = runtime.tflite(found["keypoints", precision])(seen)
    places, peaks = decoders.DECODERS["soft"](maps["heatmaps"], 4)
    np.testing.assert_allclose(joints["keypoints"], places, atol=1e-3)  # the decoder's promise in float32
    np.testing.assert_allclose(joints["scores"], np.clip(peaks, 0, 1), atol=1e-6)
    np.testing.assert_allclose(joints["visibility"], decoders.value_at(maps["parts"], places, 4), atol=1e-3)


@pytest.mark.parametrize(("precision", "away"), [("float32", 1e-3), ("float16", 5e-3), ("dynamic", 1e-3),
                                                 ("int8", 0.3)])
def test_keypoints_lie_near_the_model_s(found, seen, maps, precision, away):
    places, _ = decoders.DECODERS["soft"](maps["heatmaps"], 4)
    joints = runtime.tflite(found["keypoints", precision])(seen)["keypoints"]
    assert np.linalg.norm(joints - places, axis=-1).max() <= away


def test_int8_has_its_ranges_from_what_it_is_calibrated_on(model, found, seen, maps, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("int8",))
    black = dict.fromkeys(tflite.KINDS)
    network = Network(model, spots.metadata())
    for kind, _, data in tflite.models(network, tflite.decoder(network), np.zeros((4, 128, 128, 3), np.uint8)):
        black[kind] = data
    good, bad = (apart(runtime.tflite(data), seen, maps)["heatmaps"] for data in (found["heatmaps", "int8"],
                                                                               black["heatmaps"]))
    assert bad > 0.5 > 10 * good  # values beyond the ranges seen are cut off


def test_the_decoder_is_the_one_that_the_metadata_name(model, seen, maps, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))
    network = Network(model, spots.metadata("quarter"))
    made = {kind: data for kind, _, data in tflite.models(network, tflite.decoder(network), seen)}
    places, other = (decoders.DECODERS[name](maps["heatmaps"], 4)[0] for name in ("quarter", "soft"))
    joints = runtime.tflite(made["keypoints"])(seen)["keypoints"]
    np.testing.assert_allclose(joints, places, atol=1e-3)
    assert np.abs(joints - other).max() > 0.1


def test_a_model_of_one_piece_has_these_models_too(seen, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32", "int8"))
    model = spots.network(("heatmaps",))
    places, _ = decoders.DECODERS["soft"](spots.road_of(model).maps(seen)["heatmaps"], 4)
    network = Network(model, spots.metadata())
    for kind, precision, data in tflite.models(network, tflite.decoder(network), seen):
        answer = runtime.tflite(data)(seen)
        assert sorted(answer) == (["heatmaps"] if kind == "heatmaps" else ["keypoints", "scores", "visibility"])
        if kind == "keypoints":
            away = np.linalg.norm(answer["keypoints"] - places, axis=-1).max()
            assert away <= {"float32": 1e-3, "int8": 1}[precision]
            np.testing.assert_array_equal(answer["visibility"], answer["scores"])
            outputs = runtime.interpreter(data).get_output_details()
            assert len({output["index"] for output in outputs}) == 3  # LiteRT.js gives a tensor one name
