"""Make training batches in threads, ahead of the trainer; each is a pure function of seed, epoch and position."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from posecascade.errors import InputError
from posecascade.records import Record
from posecascade.training.augment import Augmentation, empty_target, load_sample, target

LOOK_AHEAD = 2  # finished batches in addition to those being made: hides one slow image and costs little memory


@dataclass(frozen=True)
class Batch:
    """The samples of one training step.

    Attributes:
        images: (B, S, S, 3) uint8 RGB.
        targets: (B, K, 4) float32 x, y (crop pixels), weight, visible.
        unreadable: one message per sample whose image could not be read; such a sample is gray with weights 0.
    """

    images: np.ndarray
    targets: np.ndarray
    unreadable: tuple[str, ...]


def epoch_order(sizes: Sequence[int], weights: Sequence[float] | None, seed: int, epoch: int) -> np.ndarray:
    """Return (N,) int, the order in which an epoch visits the people of several data sets, numbered consecutively.

    Args:
        sizes: people per data set; N is their sum.
        weights: share of each data set in the epoch; None visits everyone once. A data set whose share exceeds its
            size is repeated, each time in a new order.
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
    """Return the people at the positions `chosen` in `records`, cropped to `size` and varied.

    Args:
        seed: followed by the position in the batch, it seeds each sample's own generator.
    """
    images = np.full((len(chosen), size, size, 3), 127, np.uint8)
    targets = np.stack([empty_target(records[0].schema)] * len(chosen))
    unreadable = []
    for i, position in enumerate(chosen):
        rng = np.random.default_rng([*seed, i])
        try:
            sample = load_sample(records[position], size, rng, augmentation)
        except InputError as error:
            unreadable.append(str(error))
            continue
        images[i], targets[i] = sample.image, target(sample)
    return Batch(images, targets, tuple(unreadable))


def steps_per_epoch(people: int, batch_size: int) -> int:
    """Return the number of full batches in an epoch, at least 1."""
    return max(1, people // batch_size)


def batches(records: Sequence[Sequence[Record]], *, batch_size: int, sizes: Sequence[tuple[int, int]],
            augmentation: Augmentation, seed: int, start: int = 0, weights: Sequence[float] | None = None,
            workers: int = 2) -> Generator[Batch, None, None]:
    """Yield the batches of a run in order from step `start` on, made by `workers` threads.

    Args:
        records: the people of each data set.
        sizes: (first step after the phase, crop size) of each phase, ascending; the last one ends the run.
        start: the first step; a resumed run gets the batches that it would have got without the interruption.
    """
    all_records = [record for group in records for record in group]
    per_epoch = steps_per_epoch(len(all_records), batch_size)

    def make(step):
        epoch, number = divmod(step, per_epoch)
        order = epoch_order([len(group) for group in records], weights, seed, epoch)
        chosen = np.resize(order, max(len(order), batch_size))[number * batch_size:(number + 1) * batch_size]
        size = next(size for end, size in sizes if step < end)
        return make_batch(all_records, chosen, size, augmentation, (seed, epoch, number))

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
