"""Model files: models and metadata are read back, damage is refused, and keypoints are matched across schemas."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.formats.metadata import METADATA_FILE
from posecascade.models import cascade, part_detector
from posecascade.schema import LSP14, MPII16, Schema

PAIR = Schema("pair", ("left_hand", "right_hand"), (("left_hand", "right_hand"),))
METADATA = keras_file.Metadata(PAIR, 64, 4, {"model": {"width": 8}}, {"pck": 0.5}, "dark")


def small_model(keypoints=2, **options):
    return cascade(keypoints, **{"backbone": "tiny", "width": 8} | options)


def minimal_model(channels=2):
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, {"heatmaps": keras.layers.Conv2D(channels, 1, name="maps")(image)})


@pytest.fixture(scope="module")
def minimal_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "minimal.keras"
    keras_file.save(minimal_model(), path, METADATA)
    return path


def message_of(path):
    with pytest.raises(InputError) as error:
        keras_file.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_saved_file_loads_here_and_with_plain_keras(tmp_path, rng):
    model, path = small_model(), tmp_path / "a" / "model.keras"
    keras_file.save(model, path, METADATA)
    again, metadata = keras_file.load(path)
    assert metadata == METADATA
    assert keras_file.load_metadata(path) == METADATA
    image = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = model.predict(image, verbose=0)
    np.save(tmp_path / "image.npy", image)
    for name, value in again.predict(image, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])
    # In a fresh process that cannot import this package.
    code = ("import sys; sys.modules['posecascade'] = None\n"
            "import keras, numpy\n"
            f"model = keras.saving.load_model({str(path)!r})\n"
            "numpy.savez('maps.npz', **model.predict(numpy.load('image.npy'), verbose=0))")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
    with np.load(tmp_path / "maps.npz") as maps:
        for name, value in expected.items():
            np.testing.assert_array_equal(maps[name], value)


def test_save_writes_one_file_and_null_for_nan(tmp_path):
    result = {"pck": np.float32(0.5), "keypoints": np.array([1.0, np.nan]), "best": float("inf")}
    keras_file.save(minimal_model(), tmp_path / "m.keras", keras_file.Metadata(PAIR, 64, 4, {}, result))
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert keras_file.load_metadata(tmp_path / "m.keras").result == {"pck": 0.5, "keypoints": [1.0, None], "best": None}
    with pytest.raises(InputError, match=r"saved as .keras"):
        keras_file.save(minimal_model(), tmp_path / "m.h5", METADATA)


def test_file_of_a_newer_keras_is_refused_with_its_version(tmp_path):
    """Keras 3.12, the last for Python 3.10, does not read all settings that 3.15 writes."""
    path = tmp_path / "newer.keras"
    with zipfile.ZipFile(saved(tmp_path)) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            if name == "metadata.json":
                data = data.replace(keras.__version__.encode(), b"99.1.0")
            archive.writestr(name, data.replace(b'"padding"', b'"novelty"') if name == "config.json" else data)
    assert message_of(path) == (
        f"{path}: was saved by Keras 99.1.0, which Keras {keras.__version__} cannot read; pip install 'keras>=99.1.0' "
        "(3.13 and later need Python 3.11), or train with the version that reads the file")


def test_missing_or_foreign_file_is_refused(tmp_path):
    assert "no such model file" in message_of(tmp_path / "none.keras")
    (tmp_path / "text.keras").write_text("no zip")
    assert "is not a .keras file" in message_of(tmp_path / "text.keras")
    minimal_model().save(tmp_path / "plain.keras")
    assert "has no posecascade.json" in message_of(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr(METADATA_FILE, zipfile.ZipFile(saved(tmp_path)).read(METADATA_FILE))
    assert "cannot read the model" in message_of(tmp_path / "empty.keras")


def saved(folder):
    keras_file.save(minimal_model(), folder / "good.keras", METADATA)
    return folder / "good.keras"


@pytest.mark.parametrize(("change", "message"), [
    ({"schema": {"name": "pair"}}, "keypoints is missing"),
    ({"schema": LSP14.as_dict()}, "output 'heatmaps' has 2 channels, expected 14, one per keypoint of its schema"),
    ({"schema": None}, "'schema': the schema holds None"),
    ({"input_size": "big"}, "input_size is 'big', expected a whole number"),
    ({"stride": 0}, "stride is 0, expected at least 1"),
    ({"decoder": "magic"}, "decoder is 'magic'; choose from argmax, dark, quarter, soft"),
    ({"calibration": [0, 1]}, "calibration is [0.0, 1.0], expected a slope above 0 and an offset"),
    ({"calibration": "no"}, "calibration is 'no', expected a list of 2 numbers"),
    ({"recipe": []}, "recipe is [], expected a mapping of keys"),
    ({"format": 99}, "format is 99, expected 1"),
])
def test_wrong_metadata_are_refused_with_the_key(change, message, minimal_file, tmp_path):
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(minimal_file) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, json.dumps(json.loads(data) | change) if name == METADATA_FILE else data)
    assert message in message_of(path)


@pytest.mark.parametrize("error", [
    AttributeError("'NoneType' has no\nattribute"), ModuleNotFoundError("No module named 'evil'"), MemoryError(),
    tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), RecursionError("too deep"), KeyError("x")])
def test_whatever_keras_raises_is_one_line(error, minimal_file, monkeypatch):
    def load_model(*_, **__):
        raise error

    monkeypatch.setattr(keras.saving, "load_model", load_model)
    message = message_of(minimal_file)
    assert "cannot read the model (" in message and "()" not in message


@pytest.mark.parametrize(("text", "problem"), [
    ("[" * 100000, "posecascade.json is not JSON (maximum recursion depth"),
    (" " * (2 ** 24 + 1), "posecascade.json has more than 16777216 bytes; get the file again")])
def test_metadata_that_mean_harm_are_refused(text, problem, minimal_file, tmp_path):
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(minimal_file) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, text if name == METADATA_FILE else source.read(name))
    assert problem in message_of(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(share, minimal_file, tmp_path):
    data, path = minimal_file.read_bytes(), tmp_path / "cut.keras"
    path.write_bytes(data[:int(share * len(data))])
    assert "truncated or damaged" in message_of(path)


def test_flipped_bit_is_refused_or_harmless(minimal_file, tmp_path, rng):
    """No other exception is raised, and no other numbers are read. The first positions cover the local header."""
    data, path = minimal_file.read_bytes(), tmp_path / "flipped.keras"
    intact, metadata = keras_file.load(minimal_file)
    refused = 0
    positions = [*range(40), *rng.integers(0, len(data), 60), *range(len(data) - 120, len(data), 3)]
    for position in positions:
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            model, loaded = keras_file.load(path)
        except InputError:
            refused += 1
            continue
        assert loaded == metadata
        for before, after in zip(intact.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
    assert refused > 60  # at least all of the contents


@pytest.mark.parametrize("options", [
    {"detector": "deconv", "regressor": "stack", "stride": 1}, {"detector": "topdown", "regressor": "light"}],
    ids=["paper", "light"])
def test_keypoints_of_another_schema_are_matched_by_name(options, tmp_path, rng):
    """Every map of the new model equals the source's, so all layers with keypoint channels are matched."""
    source, target = small_model(16, **options), small_model(14, **options)
    source.set_weights([w + rng.normal(0, 0.05, w.shape) ** 2 for w in source.get_weights()])
    # Pelvis and thorax, which LSP lacks, must not influence the other maps, or no model of 14 keypoints could equal it.
    silence(source, [MPII16.index("pelvis"), MPII16.index("thorax")])
    keras_file.save(source, tmp_path / "mpii.keras", keras_file.Metadata(MPII16, 64, options.get("stride", 4)))
    summary = keras_file.warm_start(target, LSP14, tmp_path / "mpii.keras")
    assert (summary.partly, summary.left, summary.new_keypoints) == (0, (), ())
    image = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    theirs, ours = source.predict(image, verbose=0), target.predict(image, verbose=0)
    order = [MPII16.index(name) for name in LSP14.keypoints]
    for name, value in ours.items():
        expected = theirs[name][..., order]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def silence(model, keypoints):
    """Remove the influence of these keypoints' maps on other keypoints."""
    for stage in ("detector", "regressor"):
        for layer in model.get_layer(stage).layers:
            axis = {"from_parts": -2, "maps": -1, "parts": -1}.get(layer.name)
            if axis and layer.weights and (axis == -2 or isinstance(layer, keras.layers.Conv2DTranspose)):
                kernel, *rest = layer.get_weights()
                np.moveaxis(kernel, axis, 0)[keypoints] = 0  # a transposed kernel is (h, w, out, in)
                layer.set_weights([kernel, *rest])


def test_new_keypoints_and_other_shapes_keep_initial_weights(tmp_path):
    source = small_model(14, width=8)
    keras_file.save(source, tmp_path / "lsp.keras", keras_file.Metadata(LSP14, 64, 4))
    target = small_model(16, width=8)
    before = target.get_layer("detector").get_layer("parts").get_weights()[0].copy()
    summary = keras_file.warm_start(target, MPII16, tmp_path / "lsp.keras")
    assert summary.new_keypoints == ("pelvis", "thorax")
    assert (summary.partly, summary.left) == (3, ())  # parts, from_parts, maps
    after = target.get_layer("detector").get_layer("parts").get_weights()[0]
    theirs = source.get_layer("detector").get_layer("parts").get_weights()[0]
    for keypoint, name in enumerate(MPII16.keypoints):
        expected = theirs[..., LSP14.index(name)] if name in LSP14.keypoints else before[..., keypoint]
        np.testing.assert_array_equal(after[..., keypoint], expected)

    wider = small_model(14, width=16)
    kept = {layer.name: layer.get_weights() for layer in wider.get_layer("detector").layers}
    summary = keras_file.warm_start(wider, LSP14, tmp_path / "lsp.keras")
    assert "parts" in summary.left
    assert "lateral_32" in summary.left
    assert "regressor/from_parts" in summary.left
    assert "stem_conv" not in summary.left
    assert summary.copied > 10
    for name in ("parts", "lateral_32"):
        for old, new in zip(kept[name], wider.get_layer("detector").get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_detector_initializes_a_cascade(tmp_path):
    source = part_detector(2, backbone="tiny", width=8)
    keras_file.save(source, tmp_path / "d.keras", METADATA)
    target = small_model()
    summary = keras_file.warm_start(target, PAIR, tmp_path / "d.keras")
    assert all(name.startswith("regressor/") for name in summary.left)
    for old, new in zip(source.get_weights(), target.get_layer("detector").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
