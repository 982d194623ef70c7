"""Wrap a network so that Keras trains it on any backend, and copy its averaged weights into the twin that is saved."""

from collections.abc import Callable, Sequence

import numpy as np

from posecascade.backend import keras
from posecascade.models import freeze

Loss = Callable[..., dict]
Teacher = Callable[[object], dict]


class Latest(keras.metrics.Metric):
    """A metric whose result is the value of the last step; the trainer computes the means of the log itself."""

    def __init__(self, name):
        super().__init__(name=name, dtype="float32")
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, value):
        """Replace the value."""
        self.value.assign(value)

    def result(self):
        """Return the scalar as a tensor; on JAX a variable cannot be returned."""
        return keras.ops.cast(self.value, self.dtype)


class Learner(keras.Model):
    """Trains a network (image -> dict of maps) on (B, K, 4) targets with one loss over all its outputs.

    It exists only during a run; the network, which consists of plain Keras layers, is what is saved.

    Args:
        network: see `models.cascade`.
        loss: (targets, outputs) -> dict of scalars that includes "loss", such as `losses.CascadeLoss`; with a teacher,
            (targets, outputs, teacher_outputs).
        teacher: images -> a dict of maps in the network's form, or None. It is a function, because Keras would count
            the weights of a model stored here as the learner's.
    """

    def __init__(self, network: keras.Model, loss: Loss, teacher: Teacher | None = None):
        super().__init__(name="learner", dtype=network.dtype_policy)  # Keras scales the loss by this policy
        self.network, self.loss_of, self.teacher = network, loss, teacher
        # Made here, because Keras needs all metrics before the first step.
        kinds = {"parts": "detection", "heatmaps": "regression"}
        self.latest = [Latest(name) for name in ("loss", *(kinds[n] for n in kinds if n in network.output))]
        self.built = True

    def prepare(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Compile the learner. Under mixed_float16 `self.optimizer` then wraps `optimizer` and scales the loss."""
        # JAX is slow without its compiler; on a CPU, XLA's convolutions take ten times as long as TensorFlow's own.
        self.compile(optimizer, jit_compile=keras.backend.backend() == "jax")
        if not self.optimizer.built:
            self.optimizer.build(self.network.trainable_variables)

    def call(self, images, training=False):
        """Return the network's maps."""
        return self.network(images, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the total loss; its components are recorded as metrics."""
        losses = self.loss_of(y, y_pred) if self.teacher is None else self.loss_of(y, y_pred, self.teacher(x))
        for metric in self.latest:
            metric.update_state(losses[metric.name])
        return losses["loss"]

    @property
    def metrics(self):
        """Return the metrics that hold the losses of the last step."""
        return self.latest

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Return the losses of the last step by name."""
        return {metric.name: metric.result() for metric in self.latest}

    def step(self, images: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Train one step on a batch and return its losses by name."""
        logs = self.train_on_batch(images, targets, return_dict=True)
        return {metric.name: float(logs[metric.name]) for metric in self.latest}


def set_trainable(network: keras.Model, train: str, blocks: int, backbone: str) -> None:
    """Make one stage of the cascade trainable ("joint": both), except the first `blocks` blocks of the backbone.

    It takes effect when a learner is made. `build.check` has checked that the network has the stage.
    """
    names = {layer.name for layer in network.layers}
    network.trainable = True
    for name in names & {"detector", "regressor"}:
        network.get_layer(name).trainable = train in ("joint", name)
    if train != "regressor" or "detector" not in names:
        freeze(network, blocks, backbone)


def backbone_rates(network: keras.Model, blocks: tuple[str, ...], factor: float) -> dict[str, float]:
    """Return `factor` by path for the variables whose layer belongs to a backbone block."""
    prefixes = tuple(f"{block}_" for block in blocks)
    return {variable.path: factor for variable in network.trainable_variables
            if any(part.startswith(prefixes) for part in variable.path.split("/"))}


def put_average(twin: keras.Model, network: keras.Model, averages: Sequence) -> None:
    """Set the weights of the twin, built like the network, to the averages; those without one are copied as they are.

    Batch-norm statistics are copied: they are averages already.
    """
    average_of = {id(v): average for v, average in zip(network.trainable_variables, averages, strict=True)} \
        if averages else {}
    for target, source in zip(twin.variables, network.variables, strict=True):
        # Copied, because a step on JAX donates the network's own arrays.
        target.assign(np.array(keras.ops.convert_to_numpy(average_of.get(id(source), source))))
