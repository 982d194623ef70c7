"""train(recipe, folder): from records to a trained cascade, in the order things happen."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import keras

from posecascade import files
from posecascade.drawing import write_image
from posecascade.errors import InputError
from posecascade.evaluation.evaluate import UNREADABLE_LIMIT, check_measurable, evaluate
from posecascade.evaluation.report import Report
from posecascade.formats import keras_file
from posecascade.inference import predictor
from posecascade.inference.predictor import Predictor, run_of
from posecascade.training import checkpoints, figures, logging, preflight
from posecascade.training.augment import NONE
from posecascade.training.batches import Batch, batches, make_batch, steps_per_epoch
from posecascade.training.build import build, check, loss_of, optimizer_of, plan_of, teacher_of
from posecascade.training.checkpoints import Progress
from posecascade.training.data import Splits, read_splits
from posecascade.training.learner import Learner, put_average, set_trainable
from posecascade.training.provenance import check_same, identity_of, manifest
from posecascade.training.recipe import Recipe, write_recipe
from posecascade.training.schedule import learning_rate

BEST, LAST, RECIPE, MANIFEST = "best.keras", "last.keras", "recipe.yaml", "manifest.json"
WRITTEN = (BEST, LAST, RECIPE, MANIFEST, checkpoints.STATE, logging.LOG, figures.METRICS, figures.CURVE, figures.SHEET)
SCALARS_EVERY = 50  # steps between two points of TensorBoard's curves
SHOWN = 8           # people whose maps are drawn
SLOTS = {"sgd": 1, "rmsprop": 2, "adam": 2, "adamw": 2}  # arrays that an optimizer keeps per weight


def train(recipe: Recipe, folder: Path | str, sources: Sequence[str] = (),
          tell: Callable[[str], None] = print) -> dict[str, Report]:
    """Train the recipe's cascade into FOLDER, or go on where a killed run stopped.

    FOLDER gets recipe.yaml and manifest.json at once; log.csv, tensorboard/, state.npz, last.keras and best.keras
    while it runs; metrics.json, curve.png and predictions.jpg at its end.

    Args:
        sources: TYPE:ROOT of the data sets, instead of the recipe's.
        tell: takes each line meant for a person.
    Returns:
        the best model's report by data set, as in metrics.json.
    Raises:
        InputError: whatever a user can mend, the loss turning NaN or infinite among it.
    """
    folder, sources = Path(folder), tuple(sources) or recipe.data.sources
    recipe = replace(recipe, data=replace(recipe.data, sources=sources))
    check(recipe)
    people = read_splits(sources, recipe.data.schema)
    identity = identity_of(recipe, people)
    progress = _progress(folder, identity)
    steps = steps_per_epoch(len(people.everybody), recipe.training.batch_size) * recipe.training.epochs
    if progress.step < steps:
        with files.locked(folder, "--model_dir"):
            _run(recipe, folder, people, progress, identity, steps, tell)
    return _finish(folder, people, progress, recipe, tell)


def _run(recipe: Recipe, folder: Path, people: Splits, progress: Progress, identity: Mapping, steps: int, tell) -> None:
    """The steps from `progress` to the last, with all that is written meanwhile."""
    random.seed(recipe.training.seed)  # of all initializers; keras.utils.set_random_seed would import TensorFlow
    network, twin = build(recipe, people.schema, tell, begin=progress.step == 0)
    teacher = teacher_of(recipe, people.schema)
    epoch_steps, plan = steps // recipe.training.epochs, plan_of(recipe, steps)
    _preflight(recipe, people, network, tell)
    checkpoints.remove_drafts(folder, WRITTEN)
    write_recipe(recipe, folder / RECIPE)
    files.write_json(folder / MANIFEST, manifest(recipe, people, identity))
    if progress.step:
        checkpoints.load_state(folder, "network", network.variables)
        tell(f"going on after step {progress.step} of {steps}")

    predict = Predictor(run_of(twin.predict_on_batch), people.schema, recipe.model.input_size,
                        recipe.model.stride, recipe.model.decoder)
    bar = logging.Progressbar(steps, recipe.training.batch_size)
    stream = batches(people.train, batch_size=recipe.training.batch_size, sizes=[(s.end, s.size) for s in plan],
                     augmentation=recipe.augmentation, seed=recipe.training.seed, start=progress.step,
                     weights=recipe.data.sampling_weights or None, workers=recipe.training.workers)
    fresh, resumed_at = None, progress.step
    with closing(logging.Events(folder, progress.step)) as events, closing(stream):
        for span in (s for s in plan if s.end > progress.step):
            if span.fresh != fresh:  # other weights train than before
                fresh = span.fresh
                set_trainable(network, span.train, span.frozen_blocks, recipe.model.backbone)
                optimizer = optimizer_of(recipe, network)
                learner = Learner(network, loss_of(recipe, span.train), teacher)
                learner.prepare(optimizer)
                if resumed_at > fresh:
                    checkpoints.load_state(folder, "optimizer", learner.optimizer.variables)
            else:  # traced anew: TensorFlow would take a second size for unknown sides, which cannot be up-sampled
                learner.prepare(learner.optimizer)
            for step in range(progress.step, span.end):
                batch, began = next(stream), time.monotonic()
                rate = learning_rate(
                    step, steps, span, rate=recipe.optimizer.learning_rate, schedule=recipe.optimizer.schedule,
                    warmup_steps=recipe.optimizer.warmup_steps, milestones=recipe.optimizer.milestones,
                    step_factor=recipe.optimizer.step_factor)
                optimizer.learning_rate = rate
                losses = learner.step(batch.images, batch.targets)
                _check_finite(all(map(math.isfinite, losses.values())), step, losses, recipe, folder)
                _count(progress, losses, batch, len(people.everybody), bar.above(tell))
                bar.show(progress.step, f"{progress.step / epoch_steps:.2f}/{recipe.training.epochs}", losses)
                if progress.step % SCALARS_EVERY == 0:
                    speed = len(batch.images) / (time.monotonic() - began)
                    events.scalars(progress.step, {f"train/{name}": value for name, value in losses.items()} |
                                   {"train/learning_rate": rate, "train/images_per_second": speed})
                over = progress.step % epoch_steps == 0
                if over or progress.step % recipe.training.checkpoint_every_steps == 0:
                    _check_finite(checkpoints.finite(network.variables + learner.optimizer.variables), step, losses,
                                  recipe, folder)
                if progress.step in {s.fresh for s in plan}:  # others train from here on: these stay at their average
                    put_average(network, network, optimizer.averages())
                if over:
                    put_average(twin, network, optimizer.averages())
                    epoch = progress.step // epoch_steps
                    due = epoch % recipe.training.evaluate_every_epochs == 0 or progress.step == steps
                    row = {"epoch": epoch, "step": progress.step, "trained": span.train, "size": span.size,
                           "learning_rate": rate} | _means(progress)
                    row |= _validated(predict, people, recipe, events, progress.step) if due else {}
                    _keep(twin, folder, progress, row, recipe, people)
                    bar.above(tell)(_told(row, recipe.training.epochs))
                if over or progress.step % recipe.training.checkpoint_every_steps == 0:
                    events.flush()  # before the state: what is not yet written when killed is not written again
                    checkpoints.save_state(folder, network, learner.optimizer, progress, identity)
        bar.clear()


def _progress(folder: Path, identity: Mapping) -> Progress:
    """That of the run in FOLDER, which must be this one; from the start where there is none."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--model_dir={folder}: is a file, expected a folder")
    found = checkpoints.read_header(folder)
    if found is None:
        return Progress()
    progress, theirs = found
    check_same(theirs, identity, folder)
    return progress


def _preflight(recipe: Recipe, people: Splits, network: keras.Model, tell) -> None:
    """Tell what the run takes and what looks wrong; InputError where it would be in vain."""
    size = max(phase.input_size or recipe.model.input_size for phase in recipe.training.phases)
    slots = SLOTS[recipe.optimizer.name] + (recipe.optimizer.ema_decay > 0)
    tell(preflight.estimate(network, recipe.training.batch_size, size, slots).text())
    everybody = people.everybody
    tell(f"{len(everybody)} people to train on, {sum(len(v.records) for v in people.validation)} to measure on")
    for records in (everybody, *(kept.records for kept in people.validation)):
        for fault in preflight.check_pictures(records):
            tell(f"warning: {fault}")
    for kept, source in zip(people.validation, people.sources, strict=True):
        check_measurable(evenly(kept.records, recipe.training.validation_people), kept.metric, source)
    some = evenly(range(len(everybody)), preflight.LOOKED_AT)
    plain = make_batch(everybody, some, recipe.model.input_size, NONE, (recipe.training.seed,))
    empty = preflight.check_targets(plain, everybody)
    if empty:
        tell(f"warning: nobody has {', '.join(empty)} labeled; these maps will stay empty")


def _check_finite(good: bool, step: int, losses: Mapping, recipe: Recipe, folder: Path) -> None:
    """InputError, naming the step and the likely culprit, where the loss or a weight is NaN or infinite."""
    if good:
        return
    optimizer = recipe.optimizer
    usual = {"sgd": 0.1, "rmsprop": 1e-3}.get(optimizer.name, 3e-3)
    if recipe.training.precision == "mixed_float16":
        culprit = "training.precision mixed_float16 overflows; try mixed_bfloat16 or float32"
    elif optimizer.learning_rate > usual:
        culprit = f"optimizer.learning_rate {optimizer.learning_rate:g} is high for {optimizer.name}; try {usual:g}"
    elif not optimizer.clip_norm:
        culprit = "optimizer.clip_norm is 0; try 5"
    elif not optimizer.warmup_steps:
        culprit = "optimizer.warmup_steps is 0; try 300"
    else:
        culprit = f"optimizer.learning_rate {optimizer.learning_rate:g}; try a third of it"
    shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    kept = f"{folder / checkpoints.STATE} holds the last good step" if (folder / checkpoints.STATE).exists() else \
        "nothing had been saved yet"
    raise InputError(f"step {step + 1}: the loss or a weight is NaN or infinite ({shown}); likely culprit: {culprit}; "
                     f"{kept}")


def _count(progress: Progress, losses: Mapping, batch: Batch, people: int, tell) -> None:
    """One step more; unreadable pictures are told once each. InputError where they are too many."""
    progress.step += 1
    for name, value in {**losses, "steps": 1}.items():
        progress.sums[name] = progress.sums.get(name, 0) + value
    for fault in (f for f in batch.unreadable if f not in progress.unreadable):
        progress.unreadable.append(fault)
        tell(f"skipped: {fault}")
        if len(progress.unreadable) > UNREADABLE_LIMIT * people:
            raise InputError(f"{fault} ({len(progress.unreadable)} of {people} pictures unreadable so far, at most "
                             f"{UNREADABLE_LIMIT:.0%} are skipped; run posecascade-data check)")


def _means(progress: Progress) -> dict[str, float]:
    """Of each loss over the epoch that just ended; begins the next one."""
    count = progress.sums.pop("steps")
    means = {name: total / count for name, total in progress.sums.items()}
    progress.sums.clear()
    return means


def _validated(predict: Predictor, people: Splits, recipe: Recipe, events: logging.Events, step: int) -> dict:
    """Results in per cent for the log: each stage's total, and "result", the mean of the last stages'."""
    row, totals = {}, []
    for kept in people.validation:
        some = evenly(kept.records, recipe.training.validation_people)
        report = evaluate(predict, some, metric=kept.metric)
        row |= {f"{kept.name}_{report.measure.name.lower()}_{stage}": report.value("total", stage)
                for stage in report.stages}
        totals.append(0.0 if math.isnan(report.total) else report.total)
    row["result"] = sum(totals) / len(totals)
    sheet, peaks = figures.poses_sheet(predict, evenly(people.validation[0].records, SHOWN))
    events.image(step, "validation/labels, pose, maps of each stage", sheet)
    events.scalars(step, {f"validation/{name}": value for name, value in row.items()} |
                   {f"validation/mean_peak_{name}": value for name, value in peaks.items()})
    events.flush()
    return row


def evenly(items: Sequence, count: int) -> list:
    """`count` of the items, spread evenly; all where `count` is 0 or more than there are."""
    if not 0 < count < len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _keep(twin: keras.Model, folder: Path, progress: Progress, row: dict, recipe: Recipe, people: Splits) -> None:
    """Write last.keras, best.keras where it is the best so far, and log.csv."""
    result = row.get("result")
    row["best"] = int(result is not None and (progress.best is None or result > progress.best))
    progress.history.append(row)
    model = recipe.model
    found = keras_file.Metadata(people.schema, model.input_size, model.stride, recipe.as_dict(), row, model.decoder)
    if row["best"]:
        progress.best = result
        keras_file.save(twin, folder / BEST, found)
    keras_file.save(twin, folder / LAST, found)
    logging.write_log(folder, progress.history)


def _told(row: Mapping, epochs: int) -> str:
    """The log's row as a line."""
    shown = [f"{name} {row[name]:.3f}" for name in ("loss", "detection", "regression") if name in row]
    shown += [f"{name} {value:.1f}" for name, value in row.items() if "_pck" in name]
    return f"epoch {row['epoch']}/{epochs}  " + "  ".join(shown) + ("  best so far" if row["best"] else "")


def _finish(folder: Path, people: Splits, progress: Progress, recipe: Recipe, tell) -> dict[str, Report]:
    """Measure the best model on everybody kept for it; write metrics.json, curve.png and predictions.jpg."""
    predict = predictor.load(folder / BEST)
    reports = {}
    for kept, source in zip(people.validation, people.sources, strict=True):
        reports[source] = evaluate(predict, kept.records, metric=kept.metric)
        tell(f"\n{source} (kept for measuring)\n{reports[source].table()}")
    files.write_json(folder / figures.METRICS, {source: report.as_dict() for source, report in reports.items()})
    figures.learning_curve(folder / figures.CURVE, progress.history,
                           [name for name in progress.history[-1] if "_pck" in name])
    sheet, _ = figures.poses_sheet(predict, evenly(people.validation[0].records, 2 * SHOWN))
    write_image(folder / figures.SHEET, sheet)
    if progress.unreadable:
        tell(f"{len(progress.unreadable)} pictures could not be read and were skipped")
    tell(f"\n{folder}: {BEST} is the best of {recipe.training.epochs} epochs; {figures.METRICS}, {figures.CURVE}, "
         f"{figures.SHEET} and {logging.LOG} tell how it did")
    return reports
