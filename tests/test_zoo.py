"""Models that come with the package: they load by name, save and load agree, damage is refused."""

import dataclasses
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from exported import ended

import posecascade
from posecascade import files
from posecascade.cli import predict
from posecascade.drawing import write_image
from posecascade.errors import InputError
from posecascade.formats import keras_file, zoo
from posecascade.formats.metadata import Metadata
from posecascade.inference.predictor import model_file
from posecascade.models import cascade
from posecascade.schema import LSP14, Schema
from posecascade.training.recipe import Recipe, recipe_from

PAIR = Schema("pair", ("left_hand", "right_hand"), (("left_hand", "right_hand"),))
OPTIONS = {"backbone": "tiny", "width": 8}
METADATA = Metadata(PAIR, 64, 4, {"model": OPTIONS}, {"pck": 0.5}, "dark")
TOOLS = Path(__file__).resolve().parents[1] / "recipes" / "tools"
SIZE_LIMIT = 16e6  # bytes of all models together


@pytest.fixture(scope="module")
def model():
    return cascade(2, **OPTIONS)


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "pair.npz"
    zoo.save(model, path, METADATA)
    return path


def test_base_and_lite_are_shipped_and_small():
    assert {"base", "lite"} <= set(zoo.names())
    assert sum(zoo.file_of(name).stat().st_size for name in zoo.names()) < SIZE_LIMIT


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_model_loads_by_name_and_has_a_model_card(name):
    predict = posecascade.load(name)
    assert predict.schema == LSP14
    pose = predict.predict(np.full((90, 70, 3), 120, np.uint8))
    assert pose.keypoints.shape == (14, 2) and np.isfinite(pose.keypoints).all()
    card = (zoo.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert files.sha256(zoo.file_of(name)) in card
    for heading in ("Trained on", "Accuracy", "License", "Limits", "failures"):
        assert heading in card, heading


@pytest.mark.parametrize("name", zoo.names())
def test_recipe_inside_is_complete_and_has_no_paths(name):
    recipe = zoo.load_metadata(name).recipe
    resolved = recipe_from(recipe, name).as_dict()  # with the keys added after the training
    assert {section: resolved[section] | recipe[section] for section in resolved} == resolved
    assert set(recipe) == set(resolved)
    files = recipe["model"]["backbone_weights"], recipe["model"]["init_from"], recipe["loss"]["teacher"]
    assert not [text for text in (*recipe["data"]["sources"], *files) if "/" in text]


def test_kernels_are_kept_in_half_precision_and_vectors_exactly(model, file):
    again, metadata = keras_file.load(file)
    assert metadata == METADATA
    for mine, theirs in zip(model.weights, again.weights, strict=True):
        assert mine.shape == theirs.shape
        step = 0 if len(mine.shape) < 2 else 2.0 ** -11
        np.testing.assert_allclose(theirs.numpy() if hasattr(theirs, "numpy") else np.array(theirs), np.array(mine),
                                   rtol=step, atol=1e-7 if step else 0)


def test_same_model_gives_same_bytes(model, file, tmp_path):
    zoo.save(model, tmp_path / "again.npz", METADATA)
    assert files.sha256(tmp_path / "again.npz") == files.sha256(file)


def test_shipped_format_initializes_a_model(model, file):
    start = keras_file.warm_start(cascade(2, **OPTIONS), PAIR, file)
    assert start.copied > 0 and not start.left and not start.new_keypoints


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_flipped_bit_is_refused(file, at):
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 4
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged|fit|posecascade\.json") as error:
        zoo.load(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_truncated_missing_or_foreign_file_is_refused(file, tmp_path):
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged"):
        zoo.load(file)
    with pytest.raises(InputError, match="no such model file"):
        keras_file.load(tmp_path / "none.npz")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"has no posecascade\.json"):
        zoo.load(tmp_path / "arrays.npz")


@pytest.mark.parametrize(("recipe", "message"), [({"model": OPTIONS | {"width": 16}}, "do not fit"),
                                              ({"model": OPTIONS | {"backbone": "none"}}, "builds no network")])
def test_weights_that_do_not_fit_their_recipe_are_refused(model, tmp_path, recipe, message):
    zoo.save(model, tmp_path / "odd.npz", dataclasses.replace(METADATA, recipe=recipe))
    with pytest.raises(InputError, match=message):
        zoo.load(tmp_path / "odd.npz")


def test_altered_shipped_model_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    zoo.save(model, tmp_path / "pair.npz", METADATA)
    with pytest.raises(InputError, match="SHA-256"):
        zoo.load("pair")
    zoo.write_sums(tmp_path)
    assert zoo.load("pair")[1] == METADATA
    with zipfile.ZipFile(tmp_path / "pair.npz", "a") as archive:
        archive.writestr("more.npy", b"")
    with pytest.raises(InputError, match="SHA-256"):
        zoo.load_metadata("pair")


def test_ship_removes_paths_from_the_recipe(model, tmp_path):
    ship = runpy.run_path(str(TOOLS / "ship.py"))["ship"]
    recipe = Recipe().as_dict()
    recipe["model"] |= OPTIONS | {"init_from": "some/run/best.keras", "backbone_weights": "else/where.npz"}
    recipe["loss"]["teacher"] = "some/other/best.keras"
    recipe["data"] |= {"sources": ["lspet:some/where"], "sampling_weights": [1.0]}
    keras_file.save(model, tmp_path / "best.keras", dataclasses.replace(METADATA, recipe=recipe))
    path = ship(str(tmp_path), "pair", tmp_path / "weights", 96)
    assert path.name == "pair.npz" and files.sha256(path) in (tmp_path / "weights" / "SHA256SUMS").read_text()
    metadata = zoo.load(path)[1]
    assert metadata.recipe["loss"] == recipe["loss"] | {"teacher": "best.keras"}
    assert metadata.input_size == 96 and metadata.recipe["data"]["sources"] == []
    assert metadata.recipe["model"] == recipe["model"] | {"init_from": "best.keras", "backbone_weights": "where.npz"}


def test_nan_is_not_saved(tmp_path):
    broken = cascade(2, **OPTIONS)
    broken.set_weights([np.full(value.shape, np.nan) for value in broken.get_weights()])
    with pytest.raises(InputError, match="NaN"):
        zoo.save(broken, tmp_path / "broken.npz", METADATA)
    assert not list(tmp_path.iterdir())


def test_name_of_a_model_precedes_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite").mkdir()
    assert model_file("lite").parent == zoo.FOLDER
    with pytest.raises(InputError, match="contains neither"):
        model_file("./lite")


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'lite'"):
        posecascade.load("light")


def test_predict_uses_base_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "one.png", np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8))
    code, _, errors = ended(predict, "one.png")
    assert (code, errors) == (0, [])
    assert len((tmp_path / "poses" / "predictions.jsonl").read_text().splitlines()) == 1


def test_mean_of_two_trainings_has_their_mean_weights_and_no_result(model, tmp_path):
    mean = runpy.run_path(str(TOOLS / "mean_of_weights.py"))["main"]
    other, wider = cascade(2, **OPTIONS), cascade(2, **(OPTIONS | {"width": 16}))
    for name, network in (("a", model), ("b", other), ("c", wider)):
        keras_file.save(network, tmp_path / f"{name}.keras", METADATA)
    mean(tmp_path / "a.keras", tmp_path / "b.keras", tmp_path / "mean.keras")
    averaged, metadata = keras_file.load(tmp_path / "mean.keras")
    assert metadata == dataclasses.replace(METADATA, result={})
    for mine, a, b in zip(averaged.get_weights(), model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, (a + b) / 2, atol=1e-7)
    with pytest.raises(InputError, match=r"a\.keras and .*c\.keras: have different weights"):
        mean(tmp_path / "a.keras", tmp_path / "c.keras", tmp_path / "odd.keras")
    assert not (tmp_path / "odd.keras").exists()
