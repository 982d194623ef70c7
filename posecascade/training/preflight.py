"""Find within seconds, before step 1, what would make hours of training useless."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from posecascade.backend import keras
from posecascade.datasets.frames import inspect_frames
from posecascade.errors import InputError
from posecascade.evaluation.evaluate import UNREADABLE_LIMIT
from posecascade.records import Record
from posecascade.training.batches import Batch

CHECKED = 64           # images that are opened
HEADERS = 4000         # images whose size and rotation are compared with the labels: half a second
FAULTY_LIMIT = 0.05    # share of these: if more cannot be read, the run does not start
FLOAT = 4              # bytes
MAPS_KEPT = 1.0        # share of all layers' outputs kept in memory; 0.8 to 0.9 measured as the process's growth
GIB = 2 ** 30


@dataclass(frozen=True)
class Estimate:
    """Size of a training.

    Attributes:
        parameters: by stage ("detector", "regressor") and in all ("total").
        memory: bytes of weights, gradients, optimizer, averages, and the maps kept for the gradient. The libraries
            take about 1 GiB more.
    """

    parameters: dict[str, int]
    memory: int

    def text(self) -> str:
        """Return the estimate as one line."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items() if name != "total")
        return (f"parameters {self.parameters['total']:,}" + (f" ({parts})" if parts else "") +
                f"; about {self.memory / GIB:.1f} GiB to train")


def estimate(network: keras.Model, batch_size: int, size: int, slots: int) -> Estimate:
    """Return parameters and memory of training on batches of `size` x `size` pixels.

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
    """Return the number of values in the outputs of all layers for one image of `size` x `size` pixels."""
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
    # Private: Keras has no public function that runs a functional model with each layer replaced.
    return model._run_through_graph(inputs, operation_fn=operation)


def check_images(records: Sequence[Record]) -> list[str]:
    """Open some of the images, evenly spread, and return a message for each that cannot be read.

    Raises InputError if these are more than FAULTY_LIMIT of those opened, or if a person has no image.
    """
    for record in records:
        if record.image is None:
            raise InputError(f"{record.origin}: has no image, expected one to train on; add the images")
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, CHECKED).astype(int))]
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(_fault, chosen) if fault]
    if len(faults) > FAULTY_LIMIT * len(chosen):
        raise InputError(f"{faults[0]} ({len(faults)} of {len(chosen)} images opened cannot be read; "
                         "run posecascade-data check)")
    return faults


def check_frames(records: Sequence[Record]) -> list[str]:
    """Return lines about images that are rotated by EXIF, or do not have the size that was labeled.

    Raises InputError if the latter, which cannot be read, are so many that the run would stop later.
    """
    frames = inspect_frames(records, HEADERS)
    if len(frames.wrong_size) > UNREADABLE_LIMIT * frames.checked:
        raise InputError(f"{frames.wrong_size[0]} ({len(frames.wrong_size)} of {frames.checked} images checked; run "
                         "posecascade-data check)")
    return frames.notes()


def _fault(record):
    try:
        record.image.read(8)
    except InputError as error:
        return str(error)
    return None


def check_targets(batch: Batch, records: Sequence[Record]) -> tuple[str, ...]:
    """Return the names of keypoints that no record has labeled: their maps will stay empty.

    Raises InputError if every keypoint of the batch, evenly spread records without augmentation, is unlabeled or
    outside its crop.
    """
    if not batch.targets[..., 2].any():
        raise InputError(f"{records[0].origin}: all targets are zero in the {len(batch.targets)} samples checked, "
                         "expected a labeled keypoint inside its crop; run posecascade-data show and check the boxes "
                         "and the axis order of the keypoints")
    labeled = np.any([record.labeled for record in records], axis=0)
    return tuple(name for name, known in zip(records[0].schema.keypoints, labeled, strict=True) if not known)
