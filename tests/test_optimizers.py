"""Test the optimizers: rates by path, weight decay, clipping by the norm of all gradients, ramped average."""

import keras
import numpy as np
import pytest

from posecascade.training.optimizers import OPTIMIZERS, make_optimizer

EVERY = pytest.mark.parametrize("name", OPTIMIZERS)
SHAPES = {"trunk_conv/kernel": (3, 2), "trunk_conv/bias": (2,), "trunk_bn/gamma": (2,), "trunk_bn/beta": (2,),
          "head_conv/kernel": (2, 4), "head_conv/bias": (4,)}
DEFAULTS = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.0, "ema_decay": 0.0,
            "rates": {}}


class Place(keras.layers.Layer):
    """A layer whose variables have names and paths as in a network."""

    def __init__(self, name, rng):
        super().__init__(name=name)
        for path, shape in SHAPES.items():
            if path.startswith(name):
                values = keras.initializers.Constant(rng.normal(size=shape))
                self.add_weight(shape=shape, initializer=values, name=path.split("/")[1])


def weights():
    """Return trainable variables, with the same values at every call."""
    rng = np.random.default_rng(1)
    history = [v for name in ("trunk_conv", "trunk_bn", "head_conv") for v in Place(name, rng).trainable_variables]
    assert [v.path for v in history] == list(SHAPES)
    return history


def slopes(steps, scale=1.0):
    rng = np.random.default_rng(2)
    return [[(scale * rng.normal(size=shape)).astype(np.float32) for shape in SHAPES.values()] for _ in range(steps)]


def trained(name, gradients, **changes):
    """Return the weights after each step {path: (steps + 1, ...)}, the optimizer, and its averages after each step."""
    optimizer, variables = make_optimizer(name, **(DEFAULTS | changes)), weights()
    optimizer.build(variables)
    path, averages = [[np.array(v) for v in variables]], []
    for step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], variables)
        path.append([np.array(v) for v in variables])
        averages.append([np.array(v) for v in optimizer.averages()])
    return {v.path: np.stack([values[i] for values in path]) for i, v in enumerate(variables)}, optimizer, averages


@EVERY
def test_rate_by_path_multiplies_the_learning_rate_of_that_variable(name):
    gradients = slopes(3)
    rates = {"trunk_conv/kernel": 0.25, "trunk_bn/gamma": 0.25, "head_conv/bias": 0.0}
    history, *_ = trained(name, gradients, rates=rates)
    alone = {factor: trained(name, gradients, learning_rate=0.01 * factor)[0] for factor in (0.0, 0.25, 1.0)}
    for path, values in history.items():
        np.testing.assert_allclose(values, alone[rates.get(path, 1.0)][path], rtol=1e-6, atol=1e-7)
    assert not np.ptp(history["head_conv/bias"], axis=0).any()
    assert np.ptp(history["head_conv/kernel"], axis=0).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_step_is_rate_times_gradient(momentum):
    gradients = slopes(3)
    history, *_ = trained("sgd", gradients, momentum=momentum, rates={"trunk_conv/kernel": 0.5})
    for i, (path, values) in enumerate(history.items()):
        rate, place, speed = 0.01 * (0.5 if path == "trunk_conv/kernel" else 1), values[0].astype(np.float64), 0.0
        for step, after in zip(gradients, values[1:], strict=True):
            speed = momentum * speed - rate * step[i]
            place = place + speed
            np.testing.assert_allclose(after, place, rtol=1e-5, atol=1e-7)


@EVERY
def test_weight_decay_is_applied_to_kernels_only_at_the_plain_rate(name):
    history, *_ = trained(name, slopes(3, scale=0), weight_decay=0.1, rates={"trunk_conv/kernel": 0.25})
    for path, values in history.items():
        kept = 1 - 0.1 * 0.01 if path.endswith("kernel") else 1.0
        np.testing.assert_allclose(values, values[0] * kept ** np.arange(4).reshape(-1, *[1] * (values.ndim - 1)),
                                   rtol=1e-6)


@EVERY
def test_decay_clipping_and_average_can_be_off(name):
    history, optimizer, averages = trained(name, slopes(2, scale=0))
    for values in history.values():
        np.testing.assert_array_equal(values[1:], values[:-1])
    assert averages == [[], []]
    assert optimizer.global_clipnorm is None


@pytest.mark.parametrize("scale", [100.0, 0.001])
def test_gradients_are_clipped_by_their_common_norm_before_rates(scale):
    [gradient] = slopes(1, scale)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradient))
    history, *_ = trained("sgd", [gradient], momentum=0.0, clip_norm=5.0, rates={"trunk_conv/kernel": 0.5})
    for i, (path, values) in enumerate(history.items()):
        rate = 0.01 * (0.5 if path == "trunk_conv/kernel" else 1)
        np.testing.assert_allclose(values[1] - values[0], -rate * gradient[i] * min(1, 5 / norm), rtol=1e-3, atol=1e-7)


@EVERY
def test_average_follows_the_ramped_recurrence(name):
    history, _, averages = trained(name, slopes(10), ema_decay=0.4, weight_decay=0.01, rates={"head_conv/kernel": 0.5})
    for i, values in enumerate(history.values()):
        average = 0.0
        for step in range(10):  # the ramp ends at step 5
            decay = min(0.4, (1 + step) / (10 + step)) if step else 0.0
            average = decay * average + (1 - decay) * values[step + 1].astype(np.float64)
            np.testing.assert_allclose(averages[step][i], average, rtol=1e-5, atol=1e-6)


def test_average_follows_the_weights_from_the_start():
    """For weights that move evenly the lag is (step + 1) / 10, which solves lag (10 + step) = (1 + step) (lag + 1).

    With a decay fixed at 0.998 the lag would be nearly the complete way.
    """
    steady = [[np.ones(shape, np.float32) for shape in SHAPES.values()]] * 60
    history, _, averages = trained("sgd", steady, momentum=0.0, ema_decay=0.998)
    for values, average in zip(history.values(), averages[-1], strict=True):
        way, lag = values[-1] - values[0], values[-1] - average
        assert (lag / way <= 0.1 + 1e-3).all()
        assert (lag / way >= 0.05).all()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_compiled_training_equals_eager_training(name):
    """The compiled step of `train_on_batch` must include rates and average."""
    def model():
        keras.utils.set_random_seed(3)
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="trunk"),
                                 keras.layers.Dense(1, name="head")])

    x, y = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    y = y[:, :1]
    results = []
    for eagerly in (False, True):
        network = model()
        optimizer = make_optimizer(name, **(DEFAULTS | {
            "weight_decay": 0.01, "clip_norm": 1.0, "ema_decay": 0.9,
            "rates": {v.path: 0.3 for v in network.get_layer("trunk").trainable_variables}}))
        network.compile(optimizer, "mse", run_eagerly=eagerly, jit_compile=False)
        for _ in range(3):
            network.train_on_batch(x, y)
        results.append([np.array(v) for v in (*network.trainable_variables, *optimizer.averages())])
    assert len(results[0]) == 8
    for graph, eager in zip(*results, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-5, atol=1e-6)


def test_learning_rate_can_be_set_at_every_step():
    optimizer, variables = make_optimizer("sgd", **(DEFAULTS | {"momentum": 0.0})), weights()
    optimizer.build(variables)
    gradient = [keras.ops.ones(shape) for shape in SHAPES.values()]
    for rate in (0.5, 0.125):
        before = np.array(variables[0])
        optimizer.learning_rate = rate
        optimizer.apply(gradient, variables)
        np.testing.assert_allclose(np.array(variables[0]), before - rate, rtol=1e-6)
