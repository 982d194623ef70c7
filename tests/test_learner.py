"""Test that a step changes exactly the weights of its stage, that averages are right, and that a cascade learns."""

import dataclasses

import keras
import numpy as np
import pytest
from small_runs import stub_cascade

from posecascade import datasets
from posecascade.codec import decoders
from posecascade.models import BACKBONES, cascade
from posecascade.records import converted
from posecascade.schema import LSP14
from posecascade.training.augment import NONE
from posecascade.training.batches import make_batch
from posecascade.training.learner import Learner, backbone_rates, put_average, set_trainable
from posecascade.training.losses import CascadeLoss
from posecascade.training.optimizers import make_optimizer

LOSS = CascadeLoss(0.3, 0.7, 1.0, 0.1, 0.05, 4)


def stub():
    return stub_cascade(2)


def optimizer_for(network, name="sgd", rate=0.01, ema=0.0):
    optimizer = make_optimizer(name, learning_rate=rate, momentum=0.9, weight_decay=0.0, clip_norm=1.0, ema_decay=ema,
                               rates={})
    optimizer.build(network.trainable_variables)
    return optimizer


def prepared(network, **options):
    learner = Learner(network, LOSS)
    optimizer = optimizer_for(network, **options)
    learner.prepare(optimizer)
    return learner, optimizer


def batch(rng, people=3):
    targets = np.dstack([rng.uniform(2, 30, (people, 2, 2)), np.ones((people, 2, 2))]).astype("float32")
    return rng.integers(0, 255, (people, 32, 32, 3), np.uint8), targets


def values(model):
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.variables}


def changed(before, model):
    return {path for path, value in values(model).items() if not np.array_equal(value, before[path])}


@pytest.fixture(scope="module")
def real():
    return cascade(14, backbone="tiny", width=8)


@pytest.mark.parametrize("train", ["detector", "regressor", "joint"])
def test_step_changes_every_variable_of_its_stage_and_none_of_the_other(train, rng):
    network = stub()
    set_trainable(network, train, 0, "tiny")
    learner, _ = prepared(network)
    before = values(network)
    learner.step(*batch(rng))
    stages = ("detector", "regressor") if train == "joint" else (train,)
    expected = {v.path for stage in stages for v in network.get_layer(stage).variables}
    # Biases before a batch norm have no effect; their gradients are rounding errors.
    idle = {path for path in expected if path.endswith(("conv/bias", "wide/bias"))}
    assert changed(before, network) - idle == expected - idle
    assert any("moving_mean" in path for path in expected)


def test_frozen_blocks_keep_weights_and_statistics(rng):
    network = stub()
    set_trainable(network, "joint", 1, "tiny")
    learner, _ = prepared(network)
    before = values(network)
    learner.step(*batch(rng))
    assert not {path for path in changed(before, network) if "stem" in path}
    assert {path for path in changed(before, network) if "block_00_bn" in path}


@pytest.mark.parametrize(("train", "blocks"), [("detector", 2), ("regressor", 2), ("joint", 0), ("joint", 5)])
def test_stages_and_blocks_of_a_real_cascade_are_frozen(real, train, blocks):
    set_trainable(real, "regressor", 0, "tiny")  # whatever was set before
    set_trainable(real, train, blocks, "tiny")
    names = BACKBONES["tiny"].blocks
    for stage in ("detector", "regressor"):
        for layer in real.get_layer(stage).layers:
            frozen = stage == "detector" and layer.name.startswith(tuple(f"{name}_" for name in names[:blocks]))
            expected = train in ("joint", stage) and not frozen
            assert bool(layer.trainable_variables) == (expected and bool(layer.variables)), layer.name


def test_backbone_factor_applies_to_backbone_variables_only(real):
    set_trainable(real, "joint", 1, "tiny")
    rates = backbone_rates(real, BACKBONES["tiny"].blocks, 0.25)
    expected = {v.path for layer in real.get_layer("detector").layers
                if layer.name.startswith("block_") for v in layer.trainable_variables}
    assert rates == dict.fromkeys(expected, 0.25) and len(expected) > 20
    assert not any("lateral" in path or "regressor" in path for path in rates)


def test_step_returns_the_losses_before_the_update(rng):
    network = stub()
    learner, _ = prepared(network)
    images, targets = batch(rng)
    outputs = network(images.astype("float32"), training=True)
    expected = {name: float(value) for name, value in LOSS(targets, outputs).items()}
    losses = learner.step(images, targets)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses["loss"] == pytest.approx(0.3 * losses["detection"] + 0.7 * losses["regression"], rel=1e-6)
    assert learner.step(images, targets)["loss"] < losses["loss"]


def test_teacher_reads_the_images_and_is_not_trained(rng):
    keras.utils.set_random_seed(2)
    network, teacher = stub(), stub_cascade(2)
    teacher.trainable = False
    loss = dataclasses.replace(LOSS, distillation_weight=0.5)
    learner = Learner(network, loss, lambda images: teacher(images, training=False))
    learner.prepare(optimizer_for(network))
    assert len(learner.variables) == len(Learner(stub(), LOSS).variables)
    images, targets = batch(rng)
    before = values(teacher)
    outputs, teacher_outputs = network(images.astype("float32"), training=True), teacher(images.astype("float32"))
    expected = {name: float(value) for name, value in loss(targets, outputs, teacher_outputs).items()}
    assert expected["loss"] != pytest.approx(float(LOSS(targets, outputs)["loss"]), rel=1e-4)
    assert learner.step(images, targets) == pytest.approx(expected, rel=1e-5)
    learner.step(images, targets)
    assert not changed(before, teacher)


def test_step_is_compiled_once(rng, monkeypatch):
    """The Python code of the loss runs only when a step is traced; this counts the traces."""
    traced, real = [], CascadeLoss.detection
    monkeypatch.setattr(CascadeLoss, "detection", lambda self, *arguments: traced.append(1) or real(self, *arguments))
    learner, optimizer = prepared(stub())
    after = []
    for rate in (0.1, 0.01, 0.001, 0.0001):
        optimizer.learning_rate = rate
        learner.step(*batch(rng))
        after.append(len(traced))
    assert after == [after[0]] * 4


def test_single_output_has_its_own_loss_only(rng):
    network = stub()
    alone = keras.Model(network.input, {"parts": network.output["parts"]})
    learner, _ = prepared(alone)
    assert set(learner.step(*batch(rng))) == {"loss", "detection"}


@pytest.mark.parametrize("train", ["joint", "regressor"])
def test_average_is_the_recurrence_of_the_weights_after_each_step(train, rng):
    ema, steps = 0.6, 12
    network, twin = stub(), stub()
    set_trainable(network, train, 0, "tiny")
    learner, optimizer = prepared(network, rate=0.05, ema=ema)
    learner.step(*batch(rng))
    now = average = values(network)  # the first average equals the first weights
    for step in range(1, steps):
        learner.step(*batch(rng))
        now, decay = values(network), min(ema, (1 + step) / (10 + step))
        average = {path: decay * average[path] + (1 - decay) * now[path] for path in now}
    put_average(twin, network, optimizer.averages())
    trained = {v.path for v in network.trainable_variables}
    assert len(trained) == len(optimizer.averages())
    for mine, theirs in zip(twin.variables, network.variables, strict=True):
        losses, exact = keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(theirs)
        if theirs.path in trained:  # float32 rounds once per step: 2^-24 of the largest value met
            np.testing.assert_allclose(losses, average[theirs.path], rtol=0, atol=steps * 2 ** -22)
        else:  # statistics of batch norms, and the stage that does not train
            np.testing.assert_array_equal(losses, exact)
    kernel = "detector/stem_conv/kernel" if train == "joint" else "regressor/wide/kernel"
    path = next(path for path in trained if path.endswith(kernel.split("/", 1)[1]))
    assert np.abs(average[path] - now[path]).max() > 1e-3  # far beyond the bound: plain weights would not pass


def test_put_average_copies_weights_without_averages_and_accepts_its_own_network(rng):
    network, twin = stub(), stub()
    learner, optimizer = prepared(network)
    learner.step(*batch(rng))
    assert optimizer.averages() == []
    put_average(twin, network, [])
    for mine, theirs in zip(twin.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    averages = [np.full(v.shape, 7.0, "float32") for v in network.trainable_variables]
    put_average(network, network, averages)
    assert all((keras.ops.convert_to_numpy(v) == 7).all() for v in network.trainable_variables)


def test_half_precision_scales_the_loss_and_skips_overflows(rng):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = stub()
    finally:
        keras.config.set_dtype_policy("float32")
    learner, optimizer = prepared(network)
    images, targets = batch(rng)
    scale = learner.optimizer.dynamic_scale
    assert learner.optimizer.inner_optimizer is optimizer and float(scale) > 1000
    scale.assign(8.0)
    learner.step(images, targets)
    assert {v.dtype for v in network.variables} == {"float32"} and int(optimizer.iterations) == 1
    before = values(network)
    scale.assign(1e30)  # every gradient overflows half precision
    assert np.isfinite(learner.step(images, targets)["loss"])
    assert not {path for path in changed(before, network) if "moving" not in path}
    assert int(optimizer.iterations) == 1 and float(scale) == pytest.approx(0.5e30)
    assert len(learner.optimizer.variables) > len(optimizer.variables)  # the loss scale is saved too


def test_tiny_cascade_overfits_eight_people():
    """In 100 steps losses fall to an eighth and keypoints are within 2 px of 64; the best constant is off by over 8."""
    keras.utils.set_random_seed(1)
    people = [converted(record, LSP14) for record in datasets.read("synthetic:8", "train")]
    fixed = make_batch(people, range(8), 64, NONE, (0,))
    network = cascade(14, backbone="tiny", width=16)
    learner = Learner(network, CascadeLoss(0.1, 0.2, 4.0, 0.05, 0.04, 4))
    learner.prepare(optimizer_for(network, "adam", 0.01))
    losses = [learner.step(fixed.images, fixed.targets) for _ in range(100)]
    for name in ("loss", "detection", "regression"):
        assert losses[-1][name] < losses[0][name] / 8, name
    maps = keras.ops.convert_to_numpy(network(fixed.images.astype("float32"), training=True)["heatmaps"])
    keypoints, labeled = decoders.DECODERS["soft"](maps, 4)[0], fixed.targets[..., 2] > 0
    true = fixed.targets[..., :2]
    off = np.linalg.norm(keypoints - true, axis=-1)[labeled].mean()
    middle = np.where(labeled[..., None], true, np.nan)
    constant = np.linalg.norm(np.nanmean(middle, 0) - true, axis=-1)[labeled].mean()
    assert off < 2 and constant > 8, (off, constant)
