"""Test that every recipe of the package loads and names its command; one of each kind trains two small steps."""

import dataclasses
import re
import shlex

import keras
import numpy as np
import pytest
from small_runs import state_arrays

from posecascade.cli import train as command
from posecascade.formats import keras_file
from posecascade.models import BACKBONES, detector, efficientnet_lite, hourglass, resnet
from posecascade.schema import find_schema
from posecascade.training import trainer
from posecascade.training.build import build, check
from posecascade.training.recipe import Recipe, load_recipe, recipe_names
from posecascade.training.trainer import train

RECIPES = recipe_names()
FAST = ("lite", "quickstart")
SIDE = 64  # px: the smallest that every regressor takes


@pytest.fixture(autouse=True)
def _few_blocks(monkeypatch):
    """Build the deepest networks with few blocks and channels; do not compile, which takes longer than two steps."""
    monkeypatch.setattr(keras.Model, "run_eagerly", property(lambda self: True, lambda self, value: None))
    for version, stages in ((0, efficientnet_lite.LITE0), (2, efficientnet_lite.LITE2)):
        monkeypatch.setitem(BACKBONES, f"efficientnet_lite{version}", efficientnet_lite._backbone(
            version, tuple((1, *stage) for _, *stage in stages)))
    monkeypatch.setitem(BACKBONES, "resnet50", resnet._backbone((1, 1, 1, 1)))
    monkeypatch.setitem(BACKBONES, "resnet152", resnet._backbone((1, 1, 2, 1)))
    monkeypatch.setattr(detector, "FC_CHANNELS", 32)
    monkeypatch.setattr(hourglass, "INNER", 16)
    monkeypatch.setattr(hourglass, "OUTER", 32)
    monkeypatch.setattr(hourglass, "DEPTH", 2)


def in_small(recipe: Recipe) -> Recipe:
    """Return the recipe scaled to SIDE px, without initial weights, for two steps of two people."""
    scale = SIDE / recipe.model.input_size
    sized = {"disc_radius_px": recipe.loss.disc_radius_px * scale,
             "gaussian_sigma_px": recipe.loss.gaussian_sigma_px * scale}
    phases = tuple(dataclasses.replace(phase, input_size=phase.input_size and SIDE) for phase in recipe.training.phases)
    return dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, input_size=SIDE, backbone_weights="none"),
        loss=dataclasses.replace(recipe.loss, **sized), data=dataclasses.replace(recipe.data, sampling_weights=()),
        training=dataclasses.replace(recipe.training, epochs=1, batch_size=2, phases=phases, validation_people=2))


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_loads_passes_the_checks_and_names_its_command(name):
    check(load_recipe(name))
    comment = [line[1:].strip() for line in RECIPES[name].read_text().splitlines() if line.startswith("#")]
    assert len(comment[0]) > 20, "the first line says what it is"
    text = " ".join(comment).replace("\\ ", "")
    command_line = re.search(r"posecascade-train( --\S+)+", text)
    assert command_line, "the comment at the top names the command"
    command.FLAGS.unparse_flags()
    assert command.FLAGS(shlex.split(command_line[0]))[1:] == []
    assert command.FLAGS.recipe == name and command.FLAGS.model_dir.startswith("runs/")
    recipe = load_recipe(name, command.FLAGS.set)
    assert command.FLAGS.data or recipe.data.sources


def kinds() -> list:
    """Return names of recipes, one of each group that builds and trains the same except for numbers; most are slow."""
    names = {}
    for name in RECIPES:
        recipe = in_small(load_recipe(name))
        phases = frozenset(dataclasses.replace(phase, share=1) for phase in recipe.training.phases)
        names.setdefault((recipe.model, phases, recipe.optimizer.name, recipe.training.precision), name)
    return [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in names.values()]


@pytest.mark.parametrize("name", kinds())
def test_small_version_of_the_recipe_trains_two_steps(name, tmp_path, monkeypatch):
    recipe, lines, begun = in_small(load_recipe(name)), [], []

    def built(*arguments, **options):
        network, twin = build(*arguments, **options)
        begun.extend([network.output, network.get_weights()])
        return network, twin

    monkeypatch.setattr(trainer, "build", built)
    monkeypatch.setattr(trainer, "_validated", lambda *_: {})
    monkeypatch.setattr(trainer, "_finish", lambda *_: {})
    train(recipe, tmp_path, ["synthetic:4"], log=lines.append)
    [epoch] = [line for line in lines if line.startswith("epoch 1/1  loss ")]
    metadata = keras_file.load_metadata(tmp_path / "last.keras")
    assert metadata.schema == find_schema(recipe.data.schema)
    assert metadata.result["step"] == 2 and 0 < metadata.result["loss"] < np.inf, epoch
    outputs, before = begun
    assert {name: maps.shape[-1] for name, maps in outputs.items()} == dict.fromkeys(
        ("parts", "heatmaps"), metadata.schema.size)
    after = state_arrays(tmp_path / "state.npz", "network")
    assert np.mean([not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]) > 0.5
