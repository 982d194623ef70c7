"""Before step 1: what would make hours of training worthless is found within seconds."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np

from posecascade.errors import InputError
from posecascade.records import Record
from posecascade.training.batches import Batch

LOOKED_AT = 64         # pictures that are opened
FAULTY_LIMIT = 0.05    # of them: more that cannot be read are an error before the run, whatever comes during it
FLOAT = 4              # bytes
MAPS_KEPT = 1.0        # maps in memory over outputs of layers: 0.8 to 0.9 by the process's growth with the batch
GIB = 2 ** 30


@dataclass(frozen=True)
class Estimate:
    """What training takes.

    Attributes:
        parameters: by piece ("detector", "regressor") and in all ("total").
        memory: bytes: weights, their gradients, optimizer and averages, and the maps kept for the gradient; what the
            libraries themselves take, about 1 GiB, comes beside it.
    """

    parameters: dict[str, int]
    memory: int

    def text(self) -> str:
        """One line."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items() if name != "total")
        return (f"parameters {self.parameters['total']:,}" + (f" ({parts})" if parts else "") +
                f"; about {self.memory / GIB:.1f} GiB to train")


def estimate(network: keras.Model, batch_size: int, size: int, slots: int) -> Estimate:
    """Parameters and memory of training on batches of `size` x `size` pixels.

    Args:
        slots: arrays that the optimizer keeps per trainable weight, averages included.
    """
    counts = {layer.name: layer.count_params() for layer in network.layers if layer.name in ("detector", "regressor")}
    trained = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    weights = network.count_params() + trained * (1 + slots)
    cells = map_cells(network, size)
    return Estimate({**counts, "total": network.count_params()},
                    round(FLOAT * (weights + MAPS_KEPT * batch_size * cells)))


def map_cells(network: keras.Model, size: int) -> int:
    """Values in the outputs of all layers for one picture of `size` x `size` pixels."""
    cells = 0

    def counted(layer):
        def run(*arguments, **options):
            nonlocal cells
            if isinstance(layer, keras.Model):
                return _walk(layer, counted, *arguments)
            result = layer.compute_output_spec(*arguments, **options)
            cells += sum(int(np.prod(t.shape)) for t in keras.tree.flatten(result))
            return result
        return run

    _walk(network, counted, keras.KerasTensor((1, size, size, 3)))
    return cells


def _walk(model, operation, inputs):
    # Keras' own way through a functional model; it has no public name.
    return model._run_through_graph(inputs, operation_fn=operation)


def check_pictures(records: Sequence[Record]) -> list[str]:
    """Open some of the pictures, evenly spread; the messages of those that cannot be read.

    Raises InputError where they are more than FAULTY_LIMIT of those opened, or where people have no pictures.
    """
    for record in records:
        if record.image is None:
            raise InputError(f"{record.origin}: has no picture, so there is nothing to train on; add the images")
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, LOOKED_AT).astype(int))]
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(_fault, chosen) if fault]
    if len(faults) > FAULTY_LIMIT * len(chosen):
        raise InputError(f"{faults[0]} ({len(faults)} of {len(chosen)} pictures opened cannot be read; "
                         "run posecascade-data check)")
    return faults


def _fault(record):
    try:
        record.image.read(8)
    except InputError as error:
        return str(error)
    return None


def check_targets(batch: Batch, records: Sequence[Record]) -> tuple[str, ...]:
    """Names of joints that nobody has labeled: their maps will stay empty.

    Raises InputError where the batch, of people from all over the records and not varied, teaches nothing: every joint
    unlabeled or outside its crop.
    """
    if not batch.targets[..., 2].any():
        raise InputError(f"{records[0].origin}: all targets are zero, its own and those of {len(batch.targets) - 1} "
                         "others looked at: no labeled joint lies in its crop; look at posecascade-data show, the "
                         "boxes and the axis order of the keypoints")
    labeled = np.any([record.labeled for record in records], axis=0)
    return tuple(name for name, known in zip(records[0].schema.keypoints, labeled, strict=True) if not known)
