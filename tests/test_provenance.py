"""A run is known by its recipe, people and backend: another's folder is refused by name, free settings may change."""

import keras
import numpy as np
import pytest
from small_runs import small

from posecascade.errors import InputError
from posecascade.training.data import read_splits
from posecascade.training.provenance import check_same, identity_of, manifest
from posecascade.training.recipe import recipe_from

AGAIN = "); give the same settings to go on, or another --model_dir"


@pytest.fixture(scope="module")
def people():
    return read_splits(["synthetic:6"], "lsp14")


def refusal(found, wanted, tmp_path):
    with pytest.raises(InputError) as error:
        check_same(found, wanted, tmp_path)
    begin = f"{tmp_path}: holds a run that differs ("
    assert str(error.value).startswith(begin) and str(error.value).endswith(AGAIN)
    return str(error.value)[len(begin):-len(AGAIN)]


def test_settings_that_change_no_weight_and_the_data_s_place_are_free(people, tmp_path):
    one = identity_of(small(), people)
    other = identity_of(small(data={"sources": ["synthetic:6@0"]}, training={
        "workers": 5, "checkpoint_every_steps": 77, "evaluate_every_epochs": 2, "validation_people": 3}), people)
    assert one != other
    check_same(one, other, tmp_path)
    check_same(other, one, tmp_path)


def test_what_differs_is_named_with_both_values(people, tmp_path):
    one = identity_of(small(), people)
    other = identity_of(small(model={"width": 24}, training={"batch_size": 3, "epochs": 9}), people)
    assert refusal(one, other, tmp_path) == \
        "model.width: 16 -> 24; training.epochs: 2 -> 9; training.batch_size: 4 -> 3"
    assert refusal(one, one | {"data": "else"}, tmp_path) == \
        "data: other people, labels or order than it was begun with"
    assert refusal(one, one | {"backend": "jax"}, tmp_path) == f"backend: {keras.backend.backend()} -> jax"
    joints = one["schema"] | {"torso": ["left_shoulder", "left_hip"]}
    assert refusal(one, one | {"schema": joints}, tmp_path) == "schema: lsp14 has other joints, pairs or segments now"
    stages = identity_of(small(training={"phases": [{"train": "detector"}]}), people)
    assert refusal(one, stages, tmp_path).startswith("training.phases: [{'train': 'joint', ")


def test_every_setting_is_either_free_or_tells_runs_apart(people, tmp_path):
    """A new knob that is neither would let a run go on with another value unnoticed."""
    base = small().as_dict()
    free = {"data.sources", *(f"training.{key}" for key in (
        "workers", "checkpoint_every_steps", "evaluate_every_epochs", "validation_people")),
            *(f"export.{key}" for key in base["export"])}  # it says nothing of the training
    for section, knobs in base.items():
        for key, value in knobs.items():
            changed = {name: dict(values) for name, values in base.items()}
            changed[section][key] = other_than(value, section, key)
            other = identity_of(recipe_from(changed, "test"), people)
            if f"{section}.{key}" in free:
                check_same(identity_of(small(), people), other, tmp_path)
            else:
                assert refusal(identity_of(small(), people), other, tmp_path).startswith(f"{section}.{key}: ")


def other_than(value, section, key):
    words = {"stages": "detector", "backbone": "vgg16", "detector": "deconv", "regressor": "stack", "decoder": "dark",
             "occluded_parts": "ignore", "name": "sgd", "schedule": "constant", "precision": "mixed_bfloat16"}
    lists = {"sources": ["synthetic:9"], "sampling_weights": [2.0], "milestones": [0.5],
             "phases": [{"train": "detector"}], "scale_range": [0.5, 2.0], "occluder_size": [0.2, 0.3],
             "batch_sizes": [3]}
    if key in words or isinstance(value, list):
        return words.get(key) or lists[key]
    if key == "stride":
        return 1
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value / 2 if isinstance(value, float) and value else value + 1


def test_the_manifest_holds_recipe_seed_fingerprint_counts_and_versions(people):
    recipe = small(training={"seed": 3})
    found = manifest(recipe, people, identity_of(recipe, people))
    assert recipe_from(found["recipe"], "manifest") == recipe
    assert (found["seed"], found["backend"]) == (3, keras.backend.backend())
    assert found["data"] == {"fingerprint": people.fingerprint(), "sources": ["synthetic:6"],
                             "people": {"synthetic:6": {"train": 6, "validation": 64}}}
    assert found["schema"]["keypoints"] == list(people.schema.keypoints)
    assert found["versions"]["keras"] == keras.__version__ and found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) >= {"python", "posecascade", "tensorflow"} and found["platform"]
