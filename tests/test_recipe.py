"""Recipes: every knob checked with its whole message, overrides, numbers as people write them, and the way back."""

import dataclasses
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.codec.decoders import DECODERS
from posecascade.errors import InputError
from posecascade.models import BACKBONES, DETECTORS, REGRESSORS
from posecascade.training.augment import Augmentation
from posecascade.training.losses import OCCLUDED_PARTS
from posecascade.training.optimizers import OPTIMIZERS
from posecascade.training.recipe import Recipe, differences, load_recipe, recipe_from, recipe_names, write_recipe
from posecascade.training.schedule import Phase

KNOBS = {f"{section.name}.{knob.name}": knob for section in dataclasses.fields(Recipe)
         for knob in dataclasses.fields(getattr(Recipe(), section.name))}


def written(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


@st.composite
def recipes(draw):
    """Recipes that differ from the defaults in any kind of knob."""
    number = st.floats(0, 1e6)
    value = {
        "data": {"sources": draw(st.lists(st.text(max_size=9), max_size=3)),
                 "sampling_weights": draw(st.lists(number, max_size=3))},
        "model": {"backbone": draw(st.sampled_from(list(BACKBONES))), "regressor_sees_image": draw(st.booleans()),
                  "backbone_weights": draw(st.text(max_size=9)), "width": draw(st.integers(8, 999))},
        "augmentation": {"scale_range": sorted(draw(st.tuples(st.floats(0.1, 1), st.floats(1, 9)))),
                         "rotation_std_deg": draw(number)},
        "optimizer": {"learning_rate": draw(number | st.integers(0, 9)), "milestones": draw(st.lists(number))},
        "training": {"phases": draw(st.lists(st.fixed_dictionaries(
            {"train": st.sampled_from(["joint", "detector"]), "lr_factor": number}), max_size=3))}}
    return recipe_from({key: value[key] for key in draw(st.sets(st.sampled_from(sorted(value))))}, "drawn")


@given(recipes())
@settings(max_examples=40, deadline=None)
def test_a_recipe_comes_back_from_its_dict_and_through_yaml_and_json(recipe):
    plain = recipe.as_dict()
    for value in (plain, json.loads(json.dumps(plain)), yaml.safe_load(yaml.safe_dump(plain))):
        assert recipe_from(value, "again") == recipe
    assert differences(recipe, recipe_from(plain, "again")) == []


@given(recipes())
@settings(max_examples=25, deadline=None)
def test_a_written_recipe_holds_every_knob_and_loads(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    write_recipe(recipe, path)
    value = yaml.safe_load(path.read_text("utf-8"))
    assert {f"{section}.{key}" for section in value for key in value[section]} == set(KNOBS)
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_that_come_along_load_by_name(name):
    assert isinstance(load_recipe(name), Recipe)


def test_an_empty_recipe_is_the_defaults(tmp_path):
    assert load_recipe(written(tmp_path, "# nothing yet\n")) == Recipe()
    assert recipe_from({}, "a") == Recipe()


def test_what_a_recipe_leaves_out_keeps_its_default(tmp_path):
    recipe = load_recipe(written(tmp_path, "training: {epochs: 3}\naugmentation:\n  flip_prob: 0\n"))
    assert recipe.training.epochs == 3
    assert recipe.augmentation == dataclasses.replace(Augmentation(), flip_prob=0.0)
    assert differences(Recipe(), recipe) == ["augmentation.flip_prob: 0.5 -> 0.0", "training.epochs: 17 -> 3"]


@pytest.mark.parametrize("text", ["1e-3", "1E-3", ".001", "0.001", "1.0e-3", "'0.001'", "+1e-3"])
def test_numbers_are_read_as_people_write_them(tmp_path, text):
    """YAML 1.1 takes 1e-3, without a point, for text."""
    assert load_recipe(written(tmp_path, f"optimizer:\n  learning_rate: {text}\n")).optimizer.learning_rate == 1e-3
    path = written(tmp_path, "")
    assert load_recipe(path, [f"optimizer.learning_rate={text}"]).optimizer.learning_rate == 1e-3
    assert load_recipe(path, [f"optimizer.milestones=[{text}, 1]"]).optimizer.milestones == (1e-3, 1.0)


def test_overrides_change_one_value_each_the_last_one_wins(tmp_path):
    path = written(tmp_path, "model: {backbone: tiny, width: 16}\n")
    recipe = load_recipe(path, ["model.width=24", "data.sources=[lsp:a, 'coco:b c']", "model.width=32",
                                "training.phases=[{train: detector, share: 2}, {lr_factor: 1e-1}]",
                                "model.regressor_sees_image=false", "augmentation.scale_range=[0.5, 2]",
                                "model.backbone_weights=none"])
    assert (recipe.model.backbone, recipe.model.width, recipe.model.regressor_sees_image) == ("tiny", 32, False)
    assert recipe.model.backbone_weights == "none"
    assert recipe.data.sources == ("lsp:a", "coco:b c")
    assert recipe.training.phases == (Phase(train="detector", share=2.0), Phase(lr_factor=0.1))
    assert recipe.augmentation.scale_range == (0.5, 2.0)


@pytest.mark.parametrize(("value", "problem"), [
    ({"modle": {}}, "unknown key 'modle'; did you mean 'model'?"),
    ({"model": {"backbon": "tiny"}}, "unknown key 'model.backbon'; did you mean 'backbone'?"),
    ({"training": {"phases": [{"shares": 1}]}}, "unknown key 'training.phases[0].shares'; did you mean 'share'?"),
    ({1: 2}, "unknown key '1'; choose from augmentation, data, export, loss, model, optimizer, training"),
    ([1], "the recipe holds [1], expected a mapping of keys"),
    ({"model": None}, "model holds None, expected a mapping of keys"),
    ({"training": {"phases": [3]}}, "training.phases[0] holds 3, expected a mapping of keys"),
    ({"training": {"epochs": "many"}}, "training.epochs is 'many', expected a whole number"),
    ({"training": {"epochs": 2.0}}, "training.epochs is 2.0, expected a whole number"),
    ({"training": {"epochs": True}}, "training.epochs is True, expected a whole number"),
    ({"training": {"epochs": 0}}, "training.epochs is 0, expected at least 1"),
    ({"optimizer": {"learning_rate": "fast"}}, "optimizer.learning_rate is 'fast', expected a number"),
    ({"optimizer": {"learning_rate": True}}, "optimizer.learning_rate is True, expected a number"),
    ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate is -1.0, expected at least 0"),
    ({"optimizer": {"learning_rate": "nan"}}, "optimizer.learning_rate is nan, expected a number"),
    ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate is inf, expected a number"),
    ({"optimizer": {"ema_decay": 2}}, "optimizer.ema_decay is 2.0, expected 0 to 1"),
    ({"optimizer": {"milestones": 0.5}}, "optimizer.milestones is 0.5, expected a list of numbers"),
    ({"optimizer": {"milestones": [0.5, "x"]}}, "optimizer.milestones[1] is 'x', expected a number"),
    ({"augmentation": {"scale_range": [1, 2, 3]}},
     "augmentation.scale_range is [1, 2, 3], expected a list of 2 numbers"),
    ({"augmentation": {"scale_range": [2, 1]}},
     "augmentation.scale_range is [2.0, 1.0], expected [LOW, HIGH] with 0 < LOW <= HIGH"),
    ({"augmentation": {"flip_prob": 1.5}}, "augmentation.flip_prob is 1.5, expected 0 to 1"),
    ({"model": {"backbone_weights": 5}}, "model.backbone_weights is 5, expected text"),
    ({"model": {"regressor_sees_image": "no"}}, "model.regressor_sees_image is 'no', expected true or false"),
    ({"model": {"stride": 2}}, "model.stride is 2; choose from 1, 4"),
    ({"model": {"decoder": "darc"}}, "model.decoder is 'darc'; did you mean 'dark'?"),
    ({"model": {"width": 1}}, "model.width is 1, expected at least 8"),
    ({"data": {"sources": "lsp:a"}}, "data.sources is 'lsp:a', expected a list of texts"),
    ({"training": {"phases": [{}, {"train": "joins"}]}}, "training.phases[1].train is 'joins'; did you mean 'joint'?"),
    ({"training": {"phases": [{"share": -1}]}}, "training.phases[0].share is -1.0, expected at least 0")], ids=str)
def test_a_wrong_recipe_is_refused_with_the_key_and_what_would_do(value, problem):
    with pytest.raises(InputError) as caught:
        recipe_from(value, "recipe a.yaml")
    assert str(caught.value) == f"recipe a.yaml: {problem}"


@pytest.mark.parametrize(("override", "problem"), [
    ("training.epochs", "expected KEY=VALUE with a dotted key, like training.epochs=3"),
    ("epochs=3", "expected KEY=VALUE with a dotted key, like training.epochs=3"),
    ("training.=3", "expected KEY=VALUE with a dotted key, like training.epochs=3"),
    ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'training.epochs'?"),
    ("trainning.epochs=3", "unknown key 'trainning.epochs'; did you mean 'training.epochs'?"),
    ("training.epochs=", "training.epochs is None, expected a whole number"),
    ("training.epochs=3x", "training.epochs is '3x', expected a whole number"),
    ("model.decoder=x", "model.decoder is 'x'; choose from argmax, dark, quarter, soft"),
    ("data.sources=[lsp:a", "the value is not YAML; quote it or write it as in a recipe")], ids=str)
def test_a_wrong_override_is_refused_by_itself(tmp_path, override, problem):
    with pytest.raises(InputError) as caught:
        load_recipe(written(tmp_path, ""), [override])
    assert str(caught.value) == f"--set={override}: {problem}"


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        load_recipe("quickstat")
    assert str(caught.value) == "unknown recipe 'quickstat'; did you mean 'quickstart'? (or give a .yaml file)"
    path = written(tmp_path, "a: [1\nb")
    with pytest.raises(InputError, match=rf"^recipe {path}: is not YAML \(.*line 2") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=f"^recipe {path}: is not YAML"):
        load_recipe(path)


def test_nothing_in_a_recipe_is_executed(tmp_path):
    path = written(tmp_path, f"model: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
    with pytest.raises(InputError, match="is not YAML"):
        load_recipe(path)
    assert not (tmp_path / "made").exists()


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().training.epochs = 3


@pytest.mark.parametrize(("key", "table"), [
    ("model.backbone", BACKBONES), ("model.detector", DETECTORS), ("model.regressor", REGRESSORS),
    ("model.decoder", DECODERS), ("optimizer.name", OPTIMIZERS), ("loss.occluded_parts", OCCLUDED_PARTS)])
def test_a_knob_that_names_code_offers_exactly_its_table(key, table):
    assert KNOBS[key].metadata["choices"] == tuple(table)


@pytest.mark.parametrize("key", KNOBS)
def test_every_default_is_a_value_that_its_own_check_accepts(key):
    section, knob = key.split(".")
    plain = Recipe().as_dict()[section][knob]
    assert recipe_from({section: {knob: plain}}, "default") == Recipe()
