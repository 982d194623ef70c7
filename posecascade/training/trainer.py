"""Train a recipe's cascade from its records; `train` below reads in the order in which things happen."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from posecascade import files
from posecascade.backend import BACKENDS, keras, keras_settings
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
from posecascade.training.build import build, check, loss_of, optimizer_of, plan_of, rate_of, teacher_of
from posecascade.training.checkpoints import BEST, LAST, Progress
from posecascade.training.data import Splits, read_splits
from posecascade.training.learner import Learner, put_average, set_trainable
from posecascade.training.provenance import check_same, identity_of, manifest
from posecascade.training.recipe import Recipe, write_recipe
from posecascade.training.schedule import Span

RECIPE, MANIFEST = "recipe.yaml", "manifest.json"
WRITTEN = (BEST, LAST, RECIPE, MANIFEST, checkpoints.STATE, logging.LOG, figures.METRICS, figures.CURVE, figures.SHEET)
SCALARS_EVERY = 50  # steps between two points of TensorBoard's curves
SHEET_PEOPLE = 8    # people drawn in the sheet of an epoch; twice as many in predictions.jpg
SLOTS = {"sgd": 1, "rmsprop": 2, "adam": 2, "adamw": 2}  # arrays that an optimizer keeps per weight


@keras_settings()
def train(recipe: Recipe, folder: Path | str, sources: Sequence[str] = (),
          log: Callable[[str], None] = print) -> dict[str, Report]:
    """Train the recipe's cascade into `folder`, or resume the interrupted run found there.

    recipe.yaml and manifest.json are written at the start; log.csv, tensorboard/, state.npz, last.keras and best.keras
    during the run; metrics.json, curve.png and predictions.jpg at the end.

    Args:
        sources: TYPE:ROOT of the data sets; replaces the recipe's.
        log: called with each line of output.
    Returns:
        the best model's report by data set, as in metrics.json.
    Raises:
        InputError: anything the user can fix, including a loss that becomes NaN or infinite.
    """
    if keras.backend.backend() not in BACKENDS:
        raise InputError(f"backend: {keras.backend.backend()} cannot train; set KERAS_BACKEND to tensorflow, jax or "
                         "torch")
    folder, sources = Path(folder), tuple(sources) or recipe.data.sources
    recipe = replace(recipe, data=replace(recipe.data, sources=sources))
    check(recipe)
    splits = read_splits(sources, recipe.data.schema)
    identity = identity_of(recipe, splits)
    epoch_steps = steps_per_epoch(len(splits.train_records), recipe.training.batch_size)
    steps = epoch_steps * recipe.training.epochs
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--model_dir={folder}: is a file, expected a folder")
    with files.locked(folder, "--model_dir"):
        progress = _progress(folder, identity, epoch_steps)
        files.remove_drafts(folder, WRITTEN)
        checkpoints.restore_best(folder, progress, log)
        if progress.step < steps:
            _run(recipe, folder, splits, progress, identity, steps, log)
        return _finish(folder, splits, progress, recipe, log)


def _run(recipe: Recipe, folder: Path, splits: Splits, progress: Progress, identity: Mapping, steps: int, log) -> None:
    """Run the steps from `progress` to the last and write everything that a running training writes."""
    random.seed(recipe.training.seed)  # of all initializers; keras.utils.set_random_seed would import TensorFlow
    network, twin = build(recipe, splits.schema, log, begin=progress.step == 0)
    teacher = teacher_of(recipe, splits.schema)
    epoch_steps, plan = steps // recipe.training.epochs, plan_of(recipe, steps, progress.planned)
    _preflight(recipe, splits, network, log)
    write_recipe(recipe, folder / RECIPE)
    files.write_json(folder / MANIFEST, manifest(recipe, splits, identity))
    if progress.step:
        checkpoints.load_state(folder, "network", network.variables)
        log(f"resuming after step {progress.step} of {steps}")
        if progress.planned:
            log(_extension(recipe, progress.step, steps, plan))

    predict = Predictor(run_of(twin.predict_on_batch), splits.schema, recipe.model.input_size,
                        recipe.model.stride, recipe.model.decoder)
    bar = logging.ProgressBar(steps)
    stream = batches(splits.train, batch_size=recipe.training.batch_size, sizes=[(s.end, s.size) for s in plan],
                     augmentation=recipe.augmentation, seed=recipe.training.seed, start=progress.step,
                     weights=recipe.data.sampling_weights or None, workers=recipe.training.workers)
    fresh, resumed_at = None, progress.step
    with closing(logging.Events(folder, progress.step)) as events, closing(stream):
        for span in (s for s in plan if s.end > progress.step):
            if span.fresh != fresh:  # this span trains other weights than the one before
                fresh = span.fresh
                set_trainable(network, span.train, span.frozen_blocks, recipe.model.backbone)
                optimizer = optimizer_of(recipe, network)
                learner = Learner(network, loss_of(recipe, span.train), teacher)
                learner.prepare(optimizer)
                if resumed_at > fresh:
                    checkpoints.load_state(folder, "optimizer", learner.optimizer.variables)
            else:  # compile again: TensorFlow would trace a second size with unknown sides, which cannot be up-sampled
                learner.prepare(learner.optimizer)
            for step in range(progress.step, span.end):
                batch, began = next(stream), time.monotonic()
                optimizer.learning_rate = rate = rate_of(recipe, step, steps, span)
                losses = learner.step(batch.images, batch.targets)
                _check_finite(all(map(math.isfinite, losses.values())), step, losses, recipe, folder)
                _record_step(progress, losses, batch, len(splits.train_records), bar.above(log))
                bar.show(progress.step, f"{progress.step / epoch_steps:.2f}/{recipe.training.epochs}", losses)
                if progress.step % SCALARS_EVERY == 0:
                    speed = len(batch.images) / (time.monotonic() - began)
                    events.scalars(progress.step, {f"train/{name}": value for name, value in losses.items()} |
                                   {"train/learning_rate": rate, "train/images_per_second": speed})
                epoch_ends = progress.step % epoch_steps == 0
                if epoch_ends or progress.step % recipe.training.checkpoint_every_steps == 0:
                    _check_finite(checkpoints.finite(network.variables + learner.optimizer.variables), step, losses,
                                  recipe, folder)
                if progress.step in {s.fresh for s in plan}:  # other weights train next: these keep their averages
                    put_average(network, network, optimizer.averages())
                if epoch_ends:
                    put_average(twin, network, optimizer.averages())
                    epoch = progress.step // epoch_steps
                    evaluates = epoch % recipe.training.evaluate_every_epochs == 0 or progress.step == steps
                    row = {"epoch": epoch, "step": progress.step, "trained": span.train, "size": span.size,
                           "learning_rate": rate} | _epoch_means(progress)
                    row |= _validated(predict, splits, recipe, events, progress.step) if evaluates else {}
                    _save_models(twin, folder, progress, row, recipe, splits)
                    bar.above(log)(_epoch_line(row, recipe.training.epochs))
                if epoch_ends or progress.step % recipe.training.checkpoint_every_steps == 0:
                    events.flush()  # before the state: a resumed run does not write events of earlier steps again
                    checkpoints.save_state(folder, network, learner.optimizer, progress, identity)
        bar.close()


def _progress(folder: Path, identity: Mapping, epoch_steps: int) -> Progress:
    """Return the progress of the run in `folder`, step 0 if there is none; InputError if it is another run.

    If `identity` has more epochs than the run, its `planned` steps are set.
    """
    header = checkpoints.read_header(folder)
    if header is None:
        return Progress()
    progress, saved_identity = header
    if check_same(saved_identity, identity, folder):
        progress.planned = progress.planned or epoch_steps * saved_identity["recipe"]["training"]["epochs"]
    return progress


def _extension(recipe: Recipe, step: int, steps: int, plan: Sequence[Span]) -> str:
    """Return the line about a run to which epochs were added: how phases and learning rate go on after `step`."""
    now = rate_of(recipe, step, steps, next(span for span in plan if step < span.end))
    return (f"epochs were added: the last phase ({plan[-1].train}) is longer, and the learning rate "
            f"({recipe.optimizer.schedule}) goes on at {now:.2g}, as in a run of {recipe.training.epochs} epochs")


def _preflight(recipe: Recipe, splits: Splits, network: keras.Model, log) -> None:
    """Log the run's size and everything suspicious in its data; InputError if training would be useless."""
    size = max(phase.input_size or recipe.model.input_size for phase in recipe.training.phases)
    slots = SLOTS[recipe.optimizer.name] + (recipe.optimizer.ema_decay > 0)
    log(preflight.estimate(network, recipe.training.batch_size, size, slots).text())
    records = splits.train_records
    log(f"{len(records)} people for training, {sum(len(v.records) for v in splits.validation)} for validation")
    for note in splits.notes:
        log(f"warning: {note}")
    for split in (records, *(validation.records for validation in splits.validation)):
        for fault in (*preflight.check_frames(split), *preflight.check_images(split)):
            log(f"warning: {fault}")
    for validation, source in zip(splits.validation, splits.sources, strict=True):
        check_measurable(evenly(validation.records, recipe.training.validation_people), validation.metric, source)
    chosen = evenly(range(len(records)), preflight.CHECKED)
    plain = make_batch(records, chosen, recipe.model.input_size, NONE, (recipe.training.seed,))
    unlabeled = preflight.check_targets(plain, records)
    if unlabeled:
        log(f"warning: no person has {', '.join(unlabeled)} labeled; these maps will stay empty")


def _check_finite(finite: bool, step: int, losses: Mapping, recipe: Recipe, folder: Path) -> None:
    """Raise InputError with the step and the likely cause if the loss or a weight is not `finite`."""
    if finite:
        return
    optimizer = recipe.optimizer
    usual = {"sgd": 0.1, "rmsprop": 1e-3}.get(optimizer.name, 3e-3)
    if recipe.training.precision == "mixed_float16":
        cause = "training.precision mixed_float16 overflows; try mixed_bfloat16 or float32"
    elif optimizer.learning_rate > usual:
        cause = f"optimizer.learning_rate {optimizer.learning_rate:g} is high for {optimizer.name}; try {usual:g}"
    elif not optimizer.clip_norm:
        cause = "optimizer.clip_norm is 0; try 5"
    elif not optimizer.warmup_steps:
        cause = "optimizer.warmup_steps is 0; try 300"
    else:
        cause = f"optimizer.learning_rate {optimizer.learning_rate:g}; try a third of it"
    values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    state = f"{folder / checkpoints.STATE} holds the last good step" if (folder / checkpoints.STATE).exists() else \
        "nothing had been saved yet"
    raise InputError(f"step {step + 1}: the loss or a weight is NaN or infinite ({values}); likely cause: {cause}; "
                     f"{state}")


def _record_step(progress: Progress, losses: Mapping, batch: Batch, people: int, log) -> None:
    """Count a step, add up its losses and log each unreadable image once; InputError if there are too many."""
    progress.step += 1
    for name, value in {**losses, "steps": 1}.items():
        progress.sums[name] = progress.sums.get(name, 0) + value
    for fault in (f for f in batch.unreadable if f not in progress.unreadable):
        progress.unreadable.append(fault)
        log(f"skipped: {fault}")
        if len(progress.unreadable) > UNREADABLE_LIMIT * people:
            raise InputError(f"{fault} ({len(progress.unreadable)} of {people} images unreadable so far, at most "
                             f"{UNREADABLE_LIMIT:.0%} are skipped; run posecascade-data check)")


def _epoch_means(progress: Progress) -> dict[str, float]:
    """Return each loss's mean over the epoch that just ended, and reset the sums for the next one."""
    count = progress.sums.pop("steps")
    means = {name: total / count for name, total in progress.sums.items()}
    progress.sums.clear()
    return means


def _validated(predict: Predictor, splits: Splits, recipe: Recipe, events: logging.Events, step: int) -> dict:
    """Return the log's validation columns in percent: each stage's total, and "result", the mean of the last stages."""
    row, totals = {}, []
    for validation in splits.validation:
        records = evenly(validation.records, recipe.training.validation_people)
        report = evaluate(predict, records, metric=validation.metric)
        row |= {f"{validation.name}_{report.measure.name.lower()}_{stage}": report.value("total", stage)
                for stage in report.stages}
        totals.append(0.0 if math.isnan(report.total) else report.total)
    row["result"] = sum(totals) / len(totals)
    sheet, peaks = figures.poses_sheet(predict, evenly(splits.validation[0].records, SHEET_PEOPLE))
    events.image(step, "validation/labels, pose, maps of each stage", sheet)
    events.scalars(step, {f"validation/{name}": value for name, value in row.items()} |
                   {f"validation/mean_peak_{name}": value for name, value in peaks.items()})
    events.flush()
    return row


def evenly(items: Sequence, count: int) -> list:
    """Return `count` items spread evenly over the sequence; all of them if `count` is 0 or larger than it."""
    if not 0 < count < len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _save_models(twin: keras.Model, folder: Path, progress: Progress, row: dict, recipe: Recipe,
                 splits: Splits) -> None:
    """Write last.keras and log.csv, and best.keras if this epoch's result is the best so far."""
    result = row.get("result")
    row["best"] = int(result is not None and (progress.best is None or result > progress.best))
    progress.history.append(row)
    model = recipe.model
    metadata = keras_file.Metadata(splits.schema, model.input_size, model.stride, recipe.as_dict(), row, model.decoder)
    if row["best"]:
        progress.best = result
        keras_file.save(twin, folder / BEST, metadata)
    keras_file.save(twin, folder / LAST, metadata)
    logging.write_log(folder, progress.history)


def _epoch_line(row: Mapping, epochs: int) -> str:
    """Return a row of the log as one line of text."""
    values = [f"{name} {row[name]:.3f}" for name in ("loss", "detection", "regression") if name in row]
    values += [f"{name} {value:.1f}" for name, value in row.items() if "_pck" in name]
    return f"epoch {row['epoch']}/{epochs}  " + "  ".join(values) + ("  best so far" if row["best"] else "")


def _finish(folder: Path, splits: Splits, progress: Progress, recipe: Recipe, log) -> dict[str, Report]:
    """Evaluate the best model on all validation records; write metrics.json, curve.png and predictions.jpg."""
    if progress.best is None:
        raise InputError(f"{folder}: {BEST} and {LAST} are missing or damaged; add an epoch, which goes on from "
                         f"{checkpoints.STATE} (--set=training.epochs={recipe.training.epochs + 1}), or train into "
                         "another --model_dir")
    predict = predictor.load(folder / BEST)
    reports = {}
    for validation, source in zip(splits.validation, splits.sources, strict=True):
        reports[source] = evaluate(predict, validation.records, metric=validation.metric)
        log(f"\n{source} (validation)\n{reports[source].table()}")
    files.write_json(folder / figures.METRICS, {source: report.as_dict() for source, report in reports.items()})
    figures.learning_curve(folder / figures.CURVE, progress.history,
                           [name for name in progress.history[-1] if "_pck" in name])
    sheet, _ = figures.poses_sheet(predict, evenly(splits.validation[0].records, 2 * SHEET_PEOPLE))
    write_image(folder / figures.SHEET, sheet)
    if progress.unreadable:
        log(f"{len(progress.unreadable)} images could not be read and were skipped")
    log(f"\n{folder}: {BEST} is the best of {recipe.training.epochs} epochs; results are in {figures.METRICS}, "
        f"{figures.CURVE}, {figures.SHEET} and {logging.LOG}")
    return reports
