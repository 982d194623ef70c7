"""Keras' optimizers with a learning rate per group of weights and a moving average that ramps up."""

from collections.abc import Callable, Mapping
from typing import Any

from posecascade.backend import keras, ops


class _Tuned:
    """Mix-in that adds to a Keras optimizer what the recipes need; Keras computes the update itself.

    `rates` maps paths of variables to factors on the learning rate (1 if absent; the decoupled weight decay keeps the
    plain rate). With `use_ema`, the average's decay is min(ema_momentum, (1 + step) / (10 + step)): with Keras' fixed
    decay the average consists of initial weights for hundreds of steps (BUILD_NOTES, "Averaged weights").

    Two private methods of keras.optimizers.Optimizer are overridden, because Keras 3 has no public equivalent: its
    learning rate is one number for all variables, and its average's decay is a constant.
    """

    rates: Mapping[str, float] = {}
    # Attributes of Keras' optimizers, into which this class is mixed.
    use_ema: bool
    _model_variables_moving_average: list[Any]
    exclude_from_weight_decay: Callable[..., None]

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        groups: dict[float, list] = {}
        for grad, variable in zip(grads, trainable_variables, strict=True):
            groups.setdefault(self.rates.get(variable.path, 1.0), []).append((grad, variable))
        for factor, pairs in groups.items():
            super()._backend_update_step(*map(list, zip(*pairs, strict=True)), learning_rate * factor)

    def _update_model_variables_moving_average(self, trainable_variables):
        if not self.use_ema:
            return
        step = ops.cast(self.iterations, "float32")
        ramp = ops.minimum(self.ema_momentum, (1 + step) / (10 + step))
        decay = ops.where(step > 0, ramp, 0.0)  # the first average equals the first weights
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                factor = ops.cast(decay, variable.dtype)
                average.assign(factor * average + (1 - factor) * variable)

    def averages(self) -> list:
        """Return the averaged values, one per trainable variable in order; empty without `use_ema`."""
        return list(self._model_variables_moving_average) if self.use_ema else []


class SGD(_Tuned, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum."""


class RMSprop(_Tuned, keras.optimizers.RMSprop):
    """RMSprop, the paper's optimizer."""


class Adam(_Tuned, keras.optimizers.Adam):
    """Adam."""


class AdamW(_Tuned, keras.optimizers.AdamW):
    """Adam with decoupled weight decay."""


OPTIMIZERS = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}


def make_optimizer(name: str, *, learning_rate: float, momentum: float, weight_decay: float, clip_norm: float,
                   ema_decay: float, rates: Mapping[str, float]) -> keras.optimizers.Optimizer:
    """Return an optimizer of OPTIMIZERS.

    Args:
        momentum: of sgd and rmsprop; the others keep Keras' betas.
        weight_decay: not applied to biases and to batch-norm scales and offsets.
        clip_norm: largest norm of all gradients together; 0 does not clip.
        ema_decay: decay of the averaged weights; 0 keeps no average.
        rates: factor on the learning rate by variable path.
    """
    settings = {"momentum": momentum} if name in ("sgd", "rmsprop") else {}
    optimizer = OPTIMIZERS[name](
        learning_rate=learning_rate, weight_decay=weight_decay, global_clipnorm=clip_norm or None,
        use_ema=ema_decay > 0, ema_momentum=ema_decay or 0.99, **settings)
    optimizer.rates = dict(rates)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
