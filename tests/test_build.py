"""Test that settings which do not fit together are refused, and that what is built is what the recipe names."""

import keras
import numpy as np
import pytest
from small_runs import small

from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.models import cascade
from posecascade.schema import LSP14, MPII16
from posecascade.training.build import build, check, loss_of, optimizer_of, plan_of, teacher_of
from posecascade.training.learner import set_trainable
from posecascade.training.losses import CascadeLoss
from posecascade.training.schedule import Span


@pytest.mark.parametrize(("changes", "problem"), [
    ({"training": {"phases": []}}, "training.phases: no phase has a share above 0; give at least one"),
    ({"training": {"phases": [{"share": 0}]}}, "training.phases: no phase has a share above 0; give at least one"),
    ({"data": {"sampling_weights": [1, 2]}},
     "data.sampling_weights: holds 2 shares for 1 data.sources; give one each, or none"),
    ({"data": {"sampling_weights": [-1.0]}}, "data.sampling_weights: [-1.0]; give shares of 0 or more, one above 0"),
    ({"data": {"sampling_weights": [0]}}, "data.sampling_weights: [0.0]; give shares of 0 or more, one above 0"),
    ({"model": {"input_size": 100}}, "model.input_size: 100 px, expected a multiple of 32 for this network; try 96"),
    ({"model": {"input_size": 96, "regressor": "hourglass"}},
     "model.input_size: 96 px, expected a multiple of 64 for this network; try 128"),
    ({"training": {"phases": [{}, {"input_size": 40}]}},
     "training.phases[1].input_size: 40 px, expected a multiple of 32 for this network; try 32"),
    ({"optimizer": {"ema_decay": 1}}, "optimizer.ema_decay and optimizer.momentum must be below 1"),
    ({"optimizer": {"momentum": 1}}, "optimizer.ema_decay and optimizer.momentum must be below 1"),
    ({"optimizer": {"milestones": [0.5, 8]}},
     "optimizer.milestones: [0.5, 8.0]; give fractions of the run, between 0 and 1"),
    ({"loss": {"detection_weight": 0, "regression_weight": 0}},
     "loss: the weight of detector and regressor is 0, so training.phases[0] learns nothing; give one above 0"),
    ({"loss": {"regression_weight": 0}, "training": {"phases": [{"train": "detector"}, {"train": "regressor"}]}},
     "loss: the weight of regressor is 0, so training.phases[1] learns nothing; give one above 0"),
    ({"loss": {"detection_weight": 0}, "model": {"stages": "detector"}},
     "loss: the weight of detector is 0, so training.phases[0] learns nothing; give one above 0"),
    ({"model": {"stages": "detector"}, "training": {"phases": [{"train": "detector"}, {"train": "regressor"}]}},
     "training.phases[1].train: regressor, but model.stages is detector; give train: joint, or model.stages: cascade"),
    ({"training": {"phases": [{"frozen_blocks": 5}, {"frozen_blocks": 6}]}},
     "training.phases[1].frozen_blocks: 6 blocks, but backbone 'tiny' has 5; give 0 to 5")])
def test_settings_that_do_not_fit_together_are_refused(changes, problem):
    with pytest.raises(InputError) as error:
        check(small(**changes))
    assert str(error.value) == problem


@pytest.mark.parametrize("changes", [
    {}, {"model": {"stages": "regressor"}, "loss": {"detection_weight": 0}},
    {"loss": {"detection_weight": 0}}, {"model": {"input_size": 96, "regressor": "stack"}},
    {"training": {"phases": [{"train": "detector", "frozen_blocks": 5}, {"train": "joint", "share": 0.001}]}}])
def test_accepted_settings_train_something_in_every_phase(changes):
    recipe = small(**changes)
    check(recipe)
    network, _ = build(recipe, LSP14, print)
    plan = plan_of(recipe, 1_000_000)
    assert len(plan) == len(recipe.training.phases)
    for span in plan:
        set_trainable(network, span.train, span.frozen_blocks, recipe.model.backbone)
        loss = loss_of(recipe, span.train)
        weights = {"parts": loss.detection_weight, "heatmaps": loss.regression_weight}
        assert network.trainable_variables and any(weights[name] for name in network.output), span


def test_twin_has_the_weights_of_the_network_and_computes_in_float32():
    network, twin = build(small(training={"precision": "mixed_bfloat16"}), LSP14, print)
    assert keras.config.dtype_policy().name == "float32"
    assert {v.dtype for v in network.variables + twin.variables} == {"float32"}
    kinds = [{layer.compute_dtype for layer in model.get_layer("regressor").layers} for model in (network, twin)]
    assert kinds == [{"bfloat16", "float32"}, {"float32"}]
    assert {tensor.dtype for tensor in network.output.values()} == {"float32"}
    for mine, theirs in zip(network.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("stages", ["cascade", "detector", "regressor"])
def test_outputs_are_those_of_the_stages_in_the_recipe(stages):
    network, _ = build(small(model={"stages": stages}), LSP14, print)
    names = {"cascade": {"parts", "heatmaps"}, "detector": {"parts"}, "regressor": {"heatmaps"}}[stages]
    assert set(network.output) == names


def test_start_from_another_schema_matches_keypoints_by_name(tmp_path):
    source = cascade(16, backbone="tiny", width=16)
    keras_file.save(source, tmp_path / "mpii.keras", keras_file.Metadata(MPII16, 64, 4))
    recipe, lines = small(model={"init_from": str(tmp_path / "mpii.keras")}), []
    network, twin = build(recipe, LSP14, lines.append)
    weighted = sum(bool(layer.weights) for stage in ("detector", "regressor")
                   for layer in source.get_layer(stage).layers)
    assert lines == [f"started from {tmp_path / 'mpii.keras'}: {weighted} layers copied, 0 in part, 0 new"]
    order = [MPII16.index(name) for name in LSP14.keypoints]
    theirs = source.get_layer("regressor").get_layer("maps").get_weights()
    for model in (network, twin):
        kernel, bias = model.get_layer("regressor").get_layer("maps").get_weights()
        np.testing.assert_array_equal(kernel, theirs[0][..., order])
        np.testing.assert_array_equal(bias, theirs[1][order])
    build(small(model={"init_from": str(tmp_path / "mpii.keras")}), MPII16, lines.append)
    keras_file.save(twin, tmp_path / "lsp.keras", keras_file.Metadata(LSP14, 64, 4))
    build(small(model={"init_from": str(tmp_path / "lsp.keras")}), MPII16, lines.append)
    assert lines[-1].endswith(f"{weighted - 3} layers copied, 3 in part, 0 new; new keypoints: pelvis, thorax")


def test_resumed_run_does_not_need_initial_weights():
    recipe = small(model={"init_from": "gone.keras", "backbone_weights": "gone.npz"})
    build(recipe, LSP14, print, begin=False)
    with pytest.raises(InputError, match=r"gone.npz"):
        build(recipe, LSP14, print)
    with pytest.raises(InputError, match=r"^gone.keras: no such model file"):
        build(small(model={"init_from": "gone.keras"}), LSP14, print)


def test_loss_of_a_phase_has_the_weights_and_relative_radii_of_the_recipe():
    recipe = small(loss={"detection_weight": 0.5, "regression_weight": 0.25, "foreground_weight": 2.0,
                         "disc_radius_px": 6.4, "gaussian_sigma_px": 3.2, "occluded_parts": "reject"},
                   model={"stride": 1})
    joint = CascadeLoss(0.5, 0.25, 2.0, 0.1, 0.05, 1, "reject")
    assert loss_of(recipe, "joint") == joint
    assert loss_of(recipe, "detector") == CascadeLoss(0.5, 0.0, 2.0, 0.1, 0.05, 1, "reject")
    assert loss_of(recipe, "regressor") == CascadeLoss(0.0, 0.25, 2.0, 0.1, 0.05, 1, "reject")


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_optimizer_has_the_settings_of_the_recipe(name):
    settings = {"name": name, "learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.125, "clip_norm": 2.0,
                "ema_decay": 0.75, "backbone_lr_factor": 0.5}
    recipe = small(optimizer=settings)
    network, _ = build(recipe, LSP14, print)
    set_trainable(network, "regressor", 0, "tiny")
    optimizer = optimizer_of(recipe, network)
    assert type(optimizer).__name__.lower() == name
    assert (float(optimizer.learning_rate), optimizer.weight_decay, optimizer.global_clipnorm) == (0.25, 0.125, 2.0)
    assert getattr(optimizer, "momentum", 0.5) == 0.5 and optimizer.ema_momentum == 0.75
    assert len(optimizer.averages()) == len(network.trainable_variables) and optimizer.rates == {}
    set_trainable(network, "joint", 0, "tiny")
    rates = optimizer_of(recipe, network).rates
    assert set(rates.values()) == {0.5} and all("stem_" in path or "block_" in path for path in rates)


def test_optimizer_without_clipping_and_average():
    recipe = small(optimizer={"clip_norm": 0, "ema_decay": 0})
    network, _ = build(recipe, LSP14, print)
    optimizer = optimizer_of(recipe, network)
    assert optimizer.global_clipnorm is None and optimizer.averages() == []


def test_plan_is_the_phases_over_the_steps():
    recipe = small(training={"phases": [{"train": "detector", "input_size": 96, "share": 3}, {"train": "joint"}]})
    assert plan_of(recipe, 8) == [Span(0, 6, 0, 96, "detector", 0, 1.0), Span(6, 8, 6, 64, "joint", 0, 1.0)]


def saved(tmp_path, schema=MPII16, stride=4, **options):
    keras.utils.set_random_seed(5)
    model = cascade(schema.size, backbone="tiny", width=8, stride=stride, **options)
    keras_file.save(model, tmp_path / "teacher.keras", keras_file.Metadata(schema, 64, stride))
    return model, str(tmp_path / "teacher.keras")


def test_teacher_maps_are_in_the_order_of_the_schema(tmp_path, rng):
    model, file = saved(tmp_path)
    recipe = small(loss={"teacher": file, "distillation_weight": 0.25})
    image = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    teacher_maps, plain = teacher_of(recipe, LSP14)(image), model(image)
    for name, maps in teacher_maps.items():
        np.testing.assert_array_equal(maps, np.array(plain[name])[..., [MPII16.index(n) for n in LSP14.keypoints]])
    assert set(teacher_maps) == {"parts", "heatmaps"}
    assert loss_of(recipe, "joint").distillation_weight == 0.25
    assert teacher_of(small(), LSP14) is None and loss_of(small(), "joint").distillation_weight == 0


@pytest.mark.parametrize(("made", "asked", "problem"), [
    ({"schema": LSP14}, {}, r"has no pelvis, thorax; give a cascade with all keypoints of schema 'mpii16', or none"),
    ({"stages": "detector"}, {}, "has no output 'heatmaps'; give a cascade"),
    ({"stride": 1}, {}, "has stride 1, model.stride is 4; give one of the same stride"),
    ({"stages": "detector"}, {"stages": "detector"}, None)])
def test_teacher_without_a_keypoint_output_or_stride_is_refused(tmp_path, made, asked, problem):
    _, file = saved(tmp_path, **made)
    recipe = small(loss={"teacher": file}, model=asked)
    if problem is None:
        assert teacher_of(recipe, MPII16)
        return
    with pytest.raises(InputError, match=problem) as error:
        teacher_of(recipe, MPII16)
    assert str(error.value).startswith(f"loss.teacher: {file} has ")


def test_missing_teacher_is_reported_in_one_line():
    with pytest.raises(InputError, match=r"gone\.keras"):
        teacher_of(small(loss={"teacher": "gone.keras"}), LSP14)
