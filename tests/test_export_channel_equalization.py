"""Equalized models compute the same with channels of similar ranges, so that int8 loses less."""

import keras
import numpy as np
import pytest
from keras import layers

from posecascade.export import tflite
from posecascade.export.channel_equalization import MAX_FACTOR, equalized
from posecascade.export.graph.network import Network
from posecascade.formats import runtime
from posecascade.formats.metadata import Metadata
from posecascade.models import cascade
from posecascade.schema import Schema

PAIR = Schema("pair", ("left_wrist", "right_wrist"), pairs=(("left_wrist", "right_wrist"),))
SIZE = 32


@pytest.fixture
def crops(rng):
    """Return (N, S, S, 3) uint8."""
    return rng.integers(0, 256, (12, SIZE, SIZE, 3)).astype(np.uint8)


def lopsided(rng, activation=None) -> keras.Model:
    """Return a cascade without a regressor whose channels have ranges from 1 to about 100."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(image)
    x = first = layers.Conv2D(8, 3, 4, padding="same", activation=activation, name="first")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="second")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(layers.AveragePooling2D(2, name="down")(x))
    x = layers.Add(name="add")([layers.Conv2D(8, 1, name="third")(x), first])
    parts = layers.Conv2D(2, 1, name="parts")(x)
    detector = keras.Model(image, {"parts": parts}, name="detector")
    spread = np.logspace(0, -2, 8)
    for name in ("first", "third"):
        kernel, bias = detector.get_layer(name).get_weights()
        detector.get_layer(name).set_weights([kernel * spread, bias + rng.normal(size=8) * spread])
    kernel, bias = detector.get_layer("parts").get_weights()
    detector.get_layer("parts").set_weights([kernel / spread[:, None], bias])
    outer = keras.Input((None, None, 3), name="image")
    return keras.Model(outer, {"parts": detector(outer)["parts"]}, name="cascade")


def ranges(model, name, crops):
    detector = model.get_layer("detector")
    probe = keras.Model(detector.input, detector.get_layer(name).output)
    return np.abs(probe.predict_on_batch(crops.astype(np.float32))).max((0, 1, 2))


def same(one, other, crops):
    for name, maps in one.predict_on_batch(crops.astype(np.float32)).items():
        actual = other.predict_on_batch(crops.astype(np.float32))[name]
        np.testing.assert_allclose(actual, maps, rtol=0, atol=1e-5 * max(1, np.abs(maps).max()))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_ranges_become_equal_and_the_model_computes_the_same(activation, rng, crops):
    model = lopsided(rng, activation)
    before = model.get_weights()
    equal = equalized(model, crops)
    same(model, equal, crops)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # "first" and "add" share their factors, so both are within the range of the widest channel of either.
    wide = np.maximum(ranges(equal, "first", crops), ranges(equal, "add", crops))
    old = np.maximum(ranges(model, "first", crops), ranges(model, "add", crops))
    assert old.max() / old.min() > 20
    np.testing.assert_allclose(wide, np.minimum(old.max(), MAX_FACTOR * old), rtol=1e-3)


@pytest.mark.parametrize("activation", ["relu6", "sigmoid"])
def test_channels_with_an_upper_limit_are_not_scaled(activation, rng, crops):
    model = lopsided(rng, activation)
    equal = equalized(model, crops)
    same(model, equal, crops)
    for name in ("first", "third"):  # joined by the sum
        for old, new in zip(model.get_layer("detector").get_layer(name).get_weights(),
                            equal.get_layer("detector").get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("settings", [
    {"backbone": "movenet", "detector": "narrow"}, {"backbone": "tiny"}, {"backbone": "tiny", "stages": "detector"},
    {"backbone": "tiny", "stages": "regressor"}], ids=str)
def test_every_kind_of_cascade_computes_the_same(settings, crops):
    model = cascade(2, width=8, **settings)
    same(model, equalized(model, crops[:2]), crops[:2])


def test_int8_loses_less(rng, crops):
    model = lopsided(rng)
    exact = Network(model, Metadata(PAIR, SIZE, 4)).maps(crops[:1])["parts"].numpy()

    def loss(of):
        data = tflite.heatmaps(Network(of, Metadata(PAIR, SIZE, 4)), "int8", crops)
        return np.abs(runtime.tflite(data)(crops[:1])["parts"] - exact).mean()

    assert loss(equalized(model, crops)) < 0.75 * loss(model)  # about half; processors round differently
