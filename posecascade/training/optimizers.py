"""Keras' optimizers with a rate per group of weights and a moving average that ramps up."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops


class _Tuned:
    """Adds to a Keras optimizer what the recipes need; the arithmetic of the step stays Keras' own.

    `rates` maps paths of variables to factors on the learning rate (1 where absent; the decoupled weight decay
    keeps the plain rate). With `use_ema`, the average's decay is min(ema_momentum, (1 + step) / (10 + step)): with
    Keras' fixed one the average is made of initial weights for hundreds of steps (BUILD_NOTES, "Averaged weights").
    """

    rates: Mapping[str, float] = {}
    # Of Keras' optimizers, which this is mixed into.
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
        decay = ops.where(step > 0, ramp, 0.0)  # the first average is the first weights: nothing else is in it
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                kept = ops.cast(decay, variable.dtype)
                average.assign(kept * average + (1 - kept) * variable)

    def averages(self) -> list:
        """The averaged values, one per trainable variable in order; empty without `use_ema`."""
        return list(self._model_variables_moving_average) if self.use_ema else []


class SGD(_Tuned, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum."""


class RMSprop(_Tuned, keras.optimizers.RMSprop):
    """RMSprop, which the paper's models were trained with."""


class Adam(_Tuned, keras.optimizers.Adam):
    """Adam."""


class AdamW(_Tuned, keras.optimizers.AdamW):
    """Adam with decoupled weight decay."""


OPTIMIZERS = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}


def make_optimizer(name: str, *, learning_rate: float, momentum: float, weight_decay: float, clip_norm: float,
                   ema_decay: float, rates: Mapping[str, float]) -> keras.optimizers.Optimizer:
    """An optimizer of OPTIMIZERS.

    Args:
        momentum: of sgd and rmsprop; the others keep Keras' betas.
        weight_decay: kept off biases and batch-norm scales.
        clip_norm: largest norm of all gradients together; 0 for none.
        ema_decay: decay of the averaged weights; 0 for no average.
        rates: factor on the learning rate by variable path.
    """
    settings = {"momentum": momentum} if name in ("sgd", "rmsprop") else {}
    optimizer = OPTIMIZERS[name](
        learning_rate=learning_rate, weight_decay=weight_decay, global_clipnorm=clip_norm or None,
        use_ema=ema_decay > 0, ema_momentum=ema_decay or 0.99, **settings)
    optimizer.rates = dict(rates)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
