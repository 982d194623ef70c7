"""Measure the speed of the input pipeline, the trainer and the evaluation, compared with the network alone.

  python benchmarks/speed.py --data=lspet:DIR

Print a table: samples/s that one core decodes, crops, augments and converts to targets; images/s of `trainer.train`
compared with `train_on_batch` of the same compiled model on a batch in memory; images/s of `evaluate.evaluate` compared
with `predict_on_batch`. Compared operations are timed alternately, so that a busy machine slows both equally.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from absl import flags

from posecascade import datasets
from posecascade.evaluation import evaluate
from posecascade.inference.predictor import Predictor, run_of
from posecascade.records import checked_conversion
from posecascade.schema import LSP14
from posecascade.training import trainer
from posecascade.training.augment import Augmentation
from posecascade.training.batches import make_batch
from posecascade.training.build import build, loss_of, optimizer_of
from posecascade.training.learner import Learner
from posecascade.training.recipe import Recipe, recipe_from

FLAGS = flags.FlagValues()
flags.DEFINE_string("data", "synthetic:512", "TYPE:ROOT, the data set to read", flag_values=FLAGS)
flags.DEFINE_integer("size", 192, "side of the crops in pixels", flag_values=FLAGS)
flags.DEFINE_integer("num_rounds", 5, "number of rounds; each times everything", flag_values=FLAGS)

BATCH = 32
STEPS = 12  # of the trainer in a round


def samples_per_second(records, size, rounds) -> float:
    """Return the median samples/s of one thread, from files to images and targets."""
    import cv2

    cv2.setNumThreads(1)
    rates = []
    for turn in range(rounds):
        chosen = np.random.default_rng(turn).permutation(len(records))[:8 * BATCH]
        began = time.process_time()
        for start in range(0, len(chosen), BATCH):
            make_batch(records, chosen[start:start + BATCH], size, Augmentation(), (0, turn, start))
        rates.append(len(chosen) / (time.process_time() - began))
    return statistics.median(rates)


def recipe_of(size: int) -> Recipe:
    """Return a recipe of the light cascade with random weights."""
    return recipe_from({"model": {"input_size": size}, "training": {"epochs": 1, "batch_size": BATCH}}, "speed")


def trainer_and_bare(records, spec, size, rounds) -> tuple[float, float]:
    """Return the median images/s of the trainer's steps, and of `train_on_batch` alone."""
    recipe = recipe_of(size)
    network, _ = build(recipe, LSP14, print)
    learner = Learner(network, loss_of(recipe, "joint"))
    learner.compile(optimizer_of(recipe, network), jit_compile=False)
    batch = make_batch(records, range(BATCH), size, Augmentation(), (0,))
    trained, bare = [], []
    for turn in range(rounds + 1):  # the first round traces the graphs and is not counted
        trained.append(_trainer_turn(recipe, spec))
        began = time.perf_counter()
        for _ in range(STEPS):
            learner.train_on_batch(batch.images, batch.targets)
        bare.append(STEPS * BATCH / (time.perf_counter() - began))
        print(f"round {turn}: trainer {trained[-1]:.1f}, bare {bare[-1]:.1f} images/s", file=sys.stderr)
    return statistics.median(trained[1:]), statistics.median(bare[1:])


def _trainer_turn(recipe, spec) -> float:
    """Return the images/s of `trainer.train` between its third and its last step."""
    times = []

    class Clock(Exception):
        """Raised after STEPS steps, to end the training."""

    original = trainer.Learner.step

    def step(self, images, targets):
        logs = original(self, images, targets)
        times.append(time.perf_counter())
        if len(times) == STEPS + 3:
            raise Clock
        return logs

    trainer.Learner.step = step
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer.train(recipe, Path(folder), (spec,), log=lambda line: None)
    except Clock:
        pass
    finally:
        trainer.Learner.step = original
    return STEPS * BATCH / (times[-1] - times[2])


def evaluation_and_bare(records, size, rounds) -> tuple[float, float]:
    """Return the median images/s of `evaluate.evaluate`, and of `predict_on_batch` on crops in memory."""
    _, twin = build(recipe_of(size), LSP14, print)
    predict = Predictor(run_of(twin.predict_on_batch), LSP14, size, 4)
    people = records[:16 * BATCH]
    crops = np.stack([r.image.read()[:1, :1].repeat(size, 0).repeat(size, 1) for r in people[:BATCH]])
    evaluated, bare = [], []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        evaluate.evaluate(predict, people, metric="pck", batch_size=BATCH)
        evaluated.append(len(people) / (time.perf_counter() - began))
        began = time.perf_counter()
        for _ in range(len(people) // BATCH):
            twin.predict_on_batch(crops)
        bare.append(len(people) // BATCH * BATCH / (time.perf_counter() - began))
    return statistics.median(evaluated[1:]), statistics.median(bare[1:])


def main(argv) -> None:
    """Measure and print."""
    spec, size, rounds = FLAGS.data, FLAGS.size, FLAGS.num_rounds
    records = checked_conversion(datasets.read(spec, "train"), LSP14)
    records = [replace(r, schema=LSP14) for r in records]
    rate = samples_per_second(records, size, rounds)
    trained, bare = trainer_and_bare(records, spec, size, rounds)
    evaluated, predicted = evaluation_and_bare(records, size, rounds)
    print(f"{spec}, {size} px, batches of {BATCH}, light cascade, median of {rounds} rounds")
    print(f"{'what':34}{'images/s':>10}{'bare':>10}{'share':>8}{'target':>9}")
    print(f"{'samples, one core':34}{rate:10.0f}{'':>10}{'':>8}{'700':>9}")
    print(f"{'trainer / train_on_batch':34}{trained:10.1f}{bare:10.1f}{trained / bare:8.1%}{'95 %':>9}")
    print(f"{'evaluate / predict_on_batch':34}{evaluated:10.1f}{predicted:10.1f}{evaluated / predicted:8.1%}"
          f"{'90 %':>9}")


if __name__ == "__main__":
    FLAGS(sys.argv)
    main(sys.argv)
