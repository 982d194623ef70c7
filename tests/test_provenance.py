"""Test that only a run of the same recipe, data and backend is resumed, and what the manifest contains."""

import keras
import numpy as np
import pytest
from small_runs import small

from posecascade.errors import InputError
from posecascade.formats.metadata import RENAMED_KEYS
from posecascade.training.data import read_splits
from posecascade.training.provenance import check_same, identity_of, manifest
from posecascade.training.recipe import recipe_from

AGAIN = "); give the same settings to resume it, or another --model_dir"


@pytest.fixture(scope="module")
def splits():
    return read_splits(["synthetic:6"], "lsp14")


def refusal(saved, current, tmp_path):
    with pytest.raises(InputError) as error:
        check_same(saved, current, tmp_path)
    begin = f"{tmp_path}: holds a run that differs ("
    assert str(error.value).startswith(begin) and str(error.value).endswith(AGAIN)
    return str(error.value)[len(begin):-len(AGAIN)]


def test_settings_that_change_no_weight_may_differ(splits, tmp_path):
    one = identity_of(small(), splits)
    other = identity_of(small(data={"sources": ["synthetic:6@0"]}, training={
        "workers": 5, "checkpoint_every_steps": 77, "evaluate_every_epochs": 2, "validation_people": 3}), splits)
    assert one != other
    check_same(one, other, tmp_path)
    check_same(other, one, tmp_path)


def test_run_of_before_the_keys_were_renamed_can_be_resumed(splits, tmp_path):
    now = identity_of(small(), splits)
    present = {new: old for old, new in RENAMED_KEYS.items()}
    old = {section: {present.get(f"{section}.{key}", f"{section}.{key}").partition(".")[2]: value
                     for key, value in settings.items()} for section, settings in now["recipe"].items()}
    old["training"]["stages"] = [
        {present.get(f"training.phases[].{key}", key).rpartition(".")[2]: value for key, value in phase.items()}
        for phase in old["training"]["stages"]]
    assert "pieces" in old["model"] and "freeze" in old["training"]["stages"][0]
    assert check_same(now | {"recipe": old}, now, tmp_path) == 0
    old["model"]["width"] = 24
    assert refusal(now | {"recipe": old}, now, tmp_path) == "model.width: 24 -> 16"


def test_differences_are_named_with_both_values(splits, tmp_path):
    one = identity_of(small(), splits)
    other = identity_of(small(model={"width": 24}, training={"batch_size": 3, "epochs": 9}), splits)
    assert refusal(one, other, tmp_path) == \
        "model.width: 16 -> 24; training.epochs: 2 -> 9; training.batch_size: 4 -> 3"
    assert refusal(one, one | {"data": "else"}, tmp_path) == \
        "data: other people, labels or order"
    assert refusal(one, one | {"backend": "jax"}, tmp_path) == f"backend: {keras.backend.backend()} -> jax"
    other_schema = one["schema"] | {"torso": ["left_shoulder", "left_hip"]}
    assert refusal(one, one | {"schema": other_schema}, tmp_path) == \
        "schema: lsp14 has other keypoints, pairs or segments now"
    stages = identity_of(small(training={"phases": [{"train": "detector"}]}), splits)
    assert refusal(one, stages, tmp_path).startswith("training.phases: [{'train': 'joint', ")


def test_every_setting_is_either_free_or_compared(splits, tmp_path):
    """With a new setting that is neither, a run could be resumed with another value unnoticed."""
    base = small().as_dict()
    free = {"data.sources", *(f"training.{key}" for key in (
        "workers", "checkpoint_every_steps", "evaluate_every_epochs", "validation_people")),
            *(f"export.{key}" for key in base["export"])}  # it does not affect the training
    for section, settings in base.items():
        for key, value in settings.items():
            changed = {name: dict(values) for name, values in base.items()}
            changed[section][key] = other_than(value, section, key)
            other = identity_of(recipe_from(changed, "test"), splits)
            if f"{section}.{key}" in free:
                check_same(identity_of(small(), splits), other, tmp_path)
            else:
                assert refusal(identity_of(small(), splits), other, tmp_path).startswith(f"{section}.{key}: ")


def other_than(value, section, key):
    words = {"stages": "detector", "backbone": "vgg16", "detector": "deconv", "regressor": "stack", "decoder": "dark",
             "occluded_parts": "ignore", "name": "sgd", "schedule": "constant", "precision": "mixed_bfloat16"}
    lists = {"sources": ["synthetic:9"], "sampling_weights": [2.0], "milestones": [0.5],
             "phases": [{"train": "detector"}], "scale_range": [0.5, 2.0], "occluder_size": [0.2, 0.3],
             "batch_sizes": [3]}
    if key in words or isinstance(value, list):
        return words.get(key) or lists[key]
    if key in ("stride", "epochs"):  # more epochs go on, see test_more_epochs.py
        return 1
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value / 2 if isinstance(value, float) and value else value + 1


def test_manifest_has_recipe_seed_fingerprint_counts_and_versions(splits):
    recipe = small(training={"seed": 3})
    written = manifest(recipe, splits, identity_of(recipe, splits))
    assert recipe_from(written["recipe"], "manifest") == recipe
    assert (written["seed"], written["backend"]) == (3, keras.backend.backend())
    assert written["data"] == {"fingerprint": splits.fingerprint(), "sources": ["synthetic:6"],
                             "people": {"synthetic:6": {"train": 6, "validation": 64}}}
    assert written["schema"]["keypoints"] == list(splits.schema.keypoints)
    assert written["versions"]["keras"] == keras.__version__ and written["versions"]["numpy"] == np.__version__
    assert set(written["versions"]) >= {"python", "posecascade", "tensorflow"} and written["platform"]
