"""Recipes: every key is checked, wrong ones are refused with a complete message, and recipes can be written back."""

import dataclasses
import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.codec.decoders import DECODERS
from posecascade.errors import InputError
from posecascade.formats.metadata import RENAMED_KEYS, with_current_keys
from posecascade.models import BACKBONES, DETECTORS, REGRESSORS
from posecascade.training.augment import Augmentation
from posecascade.training.losses import OCCLUDED_PARTS
from posecascade.training.optimizers import OPTIMIZERS
from posecascade.training.recipe import Recipe, differences, load_recipe, recipe_from, recipe_names, write_recipe
from posecascade.training.schedule import Phase

KEYS = {f"{section.name}.{field.name}": field for section in dataclasses.fields(Recipe)
         for field in dataclasses.fields(getattr(Recipe(), section.name))}


def written(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


@st.composite
def recipes(draw):
    """Draw recipes that differ from the defaults in keys of every kind."""
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
def test_recipe_is_restored_from_its_dict_yaml_and_json(recipe):
    plain = recipe.as_dict()
    for value in (plain, json.loads(json.dumps(plain)), yaml.safe_load(yaml.safe_dump(plain))):
        assert recipe_from(value, "again") == recipe
    assert differences(recipe, recipe_from(plain, "again")) == []


@given(recipes())
@settings(max_examples=25, deadline=None)
def test_written_recipe_has_every_key_and_loads(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    write_recipe(recipe, path)
    value = yaml.safe_load(path.read_text("utf-8"))
    assert {f"{section}.{key}" for section in value for key in value[section]} == set(KEYS)
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_package_recipes_load_by_name(name):
    assert isinstance(load_recipe(name), Recipe)


def test_empty_recipe_has_the_defaults(tmp_path):
    assert load_recipe(written(tmp_path, "# nothing yet\n")) == Recipe()
    assert recipe_from({}, "a") == Recipe()


def test_missing_keys_keep_their_defaults(tmp_path):
    recipe = load_recipe(written(tmp_path, "training: {epochs: 3}\naugmentation:\n  flip_prob: 0\n"))
    assert recipe.training.epochs == 3
    assert recipe.augmentation == dataclasses.replace(Augmentation(), flip_prob=0.0)
    assert differences(Recipe(), recipe) == ["augmentation.flip_prob: 0.5 -> 0.0", "training.epochs: 17 -> 3"]


@pytest.mark.parametrize("text", ["1e-3", "1E-3", ".001", "0.001", "1.0e-3", "'0.001'", "+1e-3"])
def test_numbers_are_read_in_every_usual_notation(tmp_path, text):
    """YAML 1.1 reads 1e-3, without a point, as text."""
    assert load_recipe(written(tmp_path, f"optimizer:\n  learning_rate: {text}\n")).optimizer.learning_rate == 1e-3
    path = written(tmp_path, "")
    assert load_recipe(path, [f"optimizer.learning_rate={text}"]).optimizer.learning_rate == 1e-3
    assert load_recipe(path, [f"optimizer.milestones=[{text}, 1]"]).optimizer.milestones == (1e-3, 1.0)


def test_override_changes_one_value_and_the_last_one_wins(tmp_path):
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
def test_wrong_recipe_is_refused_with_key_and_valid_values(value, problem):
    assert refusal(value) == f"recipe a.yaml: {problem}"


# A value for each renamed key, as a recipe of version 0.1 had it: none is the default.
OLD_RECIPE = {
    "data": {"weights": [1.0, 2.0], "schema": "mpii16"},
    "model": {"pieces": "detector", "weights": "imagenet", "start_from": "lite", "reads_image": False, "width": 24},
    "loss": {"foreground": 2.0, "disc_radius": 6.0, "sigma": 4.0, "taught": 0.25},
    "augmentation": {"flip": 0.25, "zoom": 0.125, "zoom_range": [0.5, 2.0], "rotation": 20.0, "rotation_limit": 45.0,
                     "rotated": 0.75, "shift": 0.0625, "colour": 0.125, "half_body": 0.25, "occluder": 0.0625},
    "optimizer": {"backbone_rate": 0.25, "ema": 0.5, "drop": 0.25, "name": "sgd"},
    "training": {"stages": [{"train": "detector", "rate": 0.5, "freeze": 2, "share": 3.0}, {"rate": 2.0}],
                 "save_every": 100, "evaluate_every": 3, "epochs": 5},
    "export": {"float_distance": 0.5, "quantised_loss": 2.0, "score_error": 0.25, "calibration": 50}}


def old_value(path):
    """Return the value of OLD_RECIPE at a key of RENAMED_KEYS."""
    section, name, *inner = path.replace("training.phases[]", "training.stages.0").split(".")
    value = OLD_RECIPE[section][name]
    return value[int(inner[0])][inner[1]] if inner else value


def refusal(value):
    with pytest.raises(InputError) as caught:
        recipe_from(value, "recipe a.yaml")
    return str(caught.value)


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_renamed_key_is_refused_with_its_present_name(old, tmp_path):
    section, name = old.split(".", 1)
    present = RENAMED_KEYS[old]
    phase, _, inner = name.rpartition("[].")
    key = f"{section}.{phase}[0].{inner}" if phase else old
    problem = f"unknown key {key!r}; it is now {present!r}"
    path = written(tmp_path, yaml.safe_dump({section: {phase: [{inner: old_value(old)}]} if phase else {
        name: old_value(old)}}))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(caught.value) == f"recipe {path}: {problem}"
    override = f"{section}.{phase}=[{{{inner}: {old_value(old)}}}]" if phase else f"{old}={json.dumps(old_value(old))}"
    with pytest.raises(InputError) as caught:
        load_recipe(written(tmp_path, ""), [override])
    assert str(caught.value) == f"--set={override}: {problem}"


@pytest.mark.parametrize(("old", "present"), RENAMED_KEYS.items())
def test_renamed_key_names_a_key_of_the_recipe(old, present):
    section, name = present.replace("[]", "").split(".", 1)
    kind, names = type(getattr(Recipe(), section)), name.split(".")
    fields = {field.name for field in dataclasses.fields(Phase if len(names) > 1 else kind)}
    assert names[-1] in fields and re.split(r"\W+", old)[-1] not in fields


def test_a_complete_old_recipe_is_converted_to_one_that_loads():
    recipe = recipe_from(with_current_keys(OLD_RECIPE), "old")
    assert recipe.training.phases == (Phase("detector", 3.0, lr_factor=0.5, frozen_blocks=2), Phase(lr_factor=2.0))
    plain, default = recipe.as_dict(), Recipe().as_dict()
    for old, present in RENAMED_KEYS.items():
        if "[]" not in present and old != "training.stages":
            section, name = present.split(".")
            assert plain[section][name] == old_value(old) != default[section][name], present
    kept = [("data", "schema"), ("model", "width"), ("optimizer", "name"), ("training", "epochs")]
    assert all(plain[section][name] == OLD_RECIPE[section][name] for section, name in kept)
    assert len(differences(Recipe(), recipe)) == len(RENAMED_KEYS) - 2 + len(kept)  # phases[] are part of phases


def test_a_current_recipe_is_not_changed_by_the_conversion():
    plain = Recipe(training=dataclasses.replace(Recipe().training, phases=(Phase(), Phase("detector")))).as_dict()
    assert with_current_keys(plain) == plain


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
def test_wrong_override_is_refused(tmp_path, override, problem):
    with pytest.raises(InputError) as caught:
        load_recipe(written(tmp_path, ""), [override])
    assert str(caught.value) == f"--set={override}: {problem}"


def test_file_without_a_recipe_is_refused(tmp_path):
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


def test_no_code_in_a_recipe_is_executed(tmp_path):
    path = written(tmp_path, f"model: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
    with pytest.raises(InputError, match="is not YAML"):
        load_recipe(path)
    assert not (tmp_path / "made").exists()


def test_recipe_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().training.epochs = 3


@pytest.mark.parametrize(("key", "table"), [
    ("model.backbone", BACKBONES), ("model.detector", DETECTORS), ("model.regressor", REGRESSORS),
    ("model.decoder", DECODERS), ("optimizer.name", OPTIMIZERS), ("loss.occluded_parts", OCCLUDED_PARTS)])
def test_key_that_names_code_accepts_exactly_its_table(key, table):
    assert KEYS[key].metadata["choices"] == tuple(table)


@pytest.mark.parametrize("key", KEYS)
def test_every_default_passes_its_own_check(key):
    section, field = key.split(".")
    plain = Recipe().as_dict()[section][field]
    assert recipe_from({section: {field: plain}}, "default") == Recipe()
