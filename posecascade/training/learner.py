"""The network with its losses and optimizer, as Keras trains it on any backend, and the averaged twin that is kept."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from posecascade.models import freeze

Loss = Callable[..., dict]
Teacher = Callable[[object], dict]


class Latest(keras.metrics.Metric):
    """The value of the last step alone: the run's log makes its own means."""

    def __init__(self, name):
        super().__init__(name=name, dtype="float32")
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, value):
        """Take the place of what was there."""
        self.value.assign(value)

    def result(self):
        """The scalar: as a tensor, because JAX returns no variables."""
        return keras.ops.cast(self.value, self.dtype)


class Learner(keras.Model):
    """A network (image -> dict of maps) that learns from (B, K, 4) targets by one loss over all its outputs.

    It exists only while a run lasts: what is saved is the network, of plain Keras layers.

    Args:
        network: see `models.cascade`.
        loss: (targets, outputs) -> scalars, "loss" among them, such as `losses.CascadeLoss`; with a teacher,
            (targets, outputs, lesson).
        teacher: images -> a dict of maps as the network gives them, or None. A function, since the weights of a
            model kept here would count as the learner's.
    """

    def __init__(self, network: keras.Model, loss: Loss, teacher: Teacher | None = None):
        super().__init__(name="learner", dtype=network.dtype_policy)  # by it Keras decides to scale the loss
        self.network, self.loss_of, self.teacher = network, loss, teacher
        # Scalars follow from the outputs; made here, because Keras wants all metrics before the first step.
        kinds = {"parts": "detection", "heatmaps": "regression"}
        self.latest = [Latest(name) for name in ("loss", *(kinds[n] for n in kinds if n in network.output))]
        self.built = True

    def prepare(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Make ready for `step`. Under mixed_float16 `self.optimizer` then wraps the one given and scales the loss."""
        # JAX is slow without its compiler; XLA's convolutions on a CPU take ten times as long as TensorFlow's own.
        self.compile(optimizer, jit_compile=keras.backend.backend() == "jax")
        if not self.optimizer.built:
            self.optimizer.build(self.network.trainable_variables)

    def call(self, images, training=False):
        """The network's maps."""
        return self.network(images, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The scalar to descend; its parts are kept for the log."""
        found = self.loss_of(y, y_pred) if self.teacher is None else self.loss_of(y, y_pred, self.teacher(x))
        for metric in self.latest:
            metric.update_state(found[metric.name])
        return found["loss"]

    @property
    def metrics(self):
        """The scalars of the last step."""
        return self.latest

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The same scalars, by name."""
        return {metric.name: metric.result() for metric in self.latest}

    def step(self, images: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """One optimizer step on a batch; its losses by name."""
        logs = self.train_on_batch(images, targets, return_dict=True)
        return {metric.name: float(logs[metric.name]) for metric in self.latest}


def set_trainable(network: keras.Model, train: str, blocks: int, backbone: str) -> None:
    """Let only one stage of the cascade train ("joint": both), and not its `blocks` first backbone blocks.

    Takes effect when a learner is made. `construction.check` sees to it that the network has what should train.
    """
    names = {layer.name for layer in network.layers}
    network.trainable = True
    for name in names & {"detector", "regressor"}:
        network.get_layer(name).trainable = train in ("joint", name)
    if train != "regressor" or "detector" not in names:
        freeze(network, blocks, backbone)


def backbone_rates(network: keras.Model, blocks: tuple[str, ...], factor: float) -> dict[str, float]:
    """Factor on the learning rate by path, of the variables whose layer belongs to a backbone block."""
    prefixes = tuple(f"{block}_" for block in blocks)
    return {variable.path: factor for variable in network.trainable_variables
            if any(part.startswith(prefixes) for part in variable.path.split("/"))}


def put_average(twin: keras.Model, network: keras.Model, averages: Sequence) -> None:
    """Bring the twin, built like the network, to its weights, with the optimizer's averages of those that train.

    Batch-norm statistics are taken as they are: they are averages already.
    """
    kept = {id(v): average for v, average in zip(network.trainable_variables, averages, strict=True)} \
        if averages else {}
    for mine, theirs in zip(twin.variables, network.variables, strict=True):
        # Copied: a step on JAX gives the network's own arrays away.
        mine.assign(np.array(keras.ops.convert_to_numpy(kept.get(id(theirs), theirs))))
