"""Records -> training batches, each a pure function of (seed, epoch, place), made ahead of the trainer in threads."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from posecascade.errors import InputError
from posecascade.records import Record
from posecascade.training.augment import Augmentation, empty_target, load_sample, target

LOOK_AHEAD = 2  # batches ready beside those being made: enough to hide one slow image, little memory


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        images: (B, S, S, 3) uint8 RGB.
        targets: (B, K, 4) float32 x, y (crop pixels), weight, visible.
        unreadable: one message per sample whose picture could not be read; such a sample is gray with weights 0.
    """

    images: np.ndarray
    targets: np.ndarray
    unreadable: tuple[str, ...]


def epoch_order(sizes: Sequence[int], weights: Sequence[float] | None, seed: int, epoch: int) -> np.ndarray:
    """(N,) int: the order in which an epoch visits the people of several data sets laid end to end.

    Args:
        sizes: people per data set; N is their sum.
        weights: share of each data set in the epoch; None visits everybody once. A data set whose share asks for
            more people than it has is gone through again, each time in a new order.
    """
    rng = np.random.default_rng([seed, epoch])
    starts = np.cumsum([0, *sizes[:-1]])
    total = int(np.sum(sizes))
    if weights is None:
        return rng.permutation(total)
    edges = np.rint(np.cumsum([0, *weights]) / np.sum(weights) * total).astype(int)
    parts = []
    for start, size, count in zip(starts, sizes, np.diff(edges), strict=True):
        rounds = [rng.permutation(size) for _ in range(-(-int(count) // size))]
        parts.append(start + np.concatenate([*rounds, np.empty(0, int)])[:count].astype(int))
    return rng.permutation(np.concatenate(parts))


def make_batch(records: Sequence[Record], chosen: Sequence[int], size: int, augmentation: Augmentation,
               seed: Sequence[int]) -> Batch:
    """The people `chosen` (positions in `records`) cropped to `size`, each varied by a generator of its own.

    Args:
        seed: with the place in the batch appended, the seed of each sample's generator.
    """
    images = np.full((len(chosen), size, size, 3), 127, np.uint8)
    targets = np.stack([empty_target(records[0].schema)] * len(chosen))
    unreadable = []
    for place, position in enumerate(chosen):
        rng = np.random.default_rng([*seed, place])
        try:
            sample = load_sample(records[position], size, rng, augmentation)
        except InputError as error:
            unreadable.append(str(error))
            continue
        images[place], targets[place] = sample.image, target(sample)
    return Batch(images, targets, tuple(unreadable))


def steps_per_epoch(people: int, batch_size: int) -> int:
    """Whole batches in an epoch; at least one."""
    return max(1, people // batch_size)


def batches(records: Sequence[Sequence[Record]], *, batch_size: int, sizes: Sequence[tuple[int, int]],
            augmentation: Augmentation, seed: int, start: int = 0, weights: Sequence[float] | None = None,
            workers: int = 2) -> Generator[Batch, None, None]:
    """The batches of a whole run from step `start` on, in order, made by `workers` threads.

    Args:
        records: the people of each data set.
        sizes: (first step beyond, crop size) of each stage, ascending; the last step ends the run.
        start: the step to begin with; a run that resumes gets the batches it would have got.
    """
    everybody = [record for group in records for record in group]
    per_epoch = steps_per_epoch(len(everybody), batch_size)

    def make(step):
        epoch, place = divmod(step, per_epoch)
        order = epoch_order([len(group) for group in records], weights, seed, epoch)
        chosen = np.resize(order, max(len(order), batch_size))[place * batch_size:(place + 1) * batch_size]
        size = next(size for end, size in sizes if step < end)
        return make_batch(everybody, chosen, size, augmentation, (seed, epoch, place))

    last = sizes[-1][0]
    with ThreadPoolExecutor(workers, "samples") as pool:
        pending = deque()
        try:
            for step in range(start, last):
                while len(pending) < workers + LOOK_AHEAD and step + len(pending) < last:
                    pending.append(pool.submit(make, step + len(pending)))
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
