"""Test that the command trains on JAX and torch without TensorFlow, and that TensorFlow reads the model."""

import csv
import importlib.util
import json

import numpy as np
import pytest
from small_runs import called

from posecascade.formats import keras_file

BOUND = 1e-4  # of maps between about -4 and 1, through some twenty float32 layers
SHARE = 0.01  # of the maps' range, so that nearly constant maps do not agree by chance


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_model_trained_on_another_backend_gives_the_same_maps_on_tensorflow(backend, tmp_path, kept):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs {backend}, which is not installed")
    ended = called("quickstart", tmp_path / "run", kept / "jax", backend)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    assert "epoch 1/1  loss " in ended.stdout
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["backend"] == backend
    with open(tmp_path / "run" / "log.csv", newline="") as text:
        [row] = csv.DictReader(text)
    assert (row["step"], row["trained"]) == ("3", "joint") and 0 < float(row["loss"]) < 1000
    model, _ = keras_file.load(tmp_path / "run" / "best.keras")
    with np.load(tmp_path / "run" / "maps.npz") as theirs:
        ours = model.predict_on_batch(theirs["images"])
        assert set(ours) == {"parts", "heatmaps"}
        for name, maps in ours.items():
            np.testing.assert_allclose(maps, theirs[name], rtol=0, atol=min(BOUND, SHARE * np.ptp(theirs[name])))
