"""Export a trained model to a folder of a SavedModel, TFLite files and their certificate; a failure leaves nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from posecascade import files
from posecascade.backend import keras_settings
from posecascade.codec.score_calibration import IDENTITY, MIN_KEYPOINTS, Calibration, error_after, fitted, reliability
from posecascade.errors import InputError
from posecascade.evaluation import evaluate
from posecascade.evaluation.report import Measure, measure_of
from posecascade.export import artifacts, certificate, saved_model, tflite
from posecascade.export.certificate import Row
from posecascade.export.channel_equalization import equalized
from posecascade.export.graph.network import Network
from posecascade.export.tflite_files import export_metadata, file_bytes
from posecascade.formats import bundle, runtime, tflite_file
from posecascade.formats.bundle import TFLITE
from posecascade.formats.keras_file import load, load_metadata
from posecascade.formats.tflite_metadata import DECODER_FILE
from posecascade.inference.predictor import Predictor, run_of
from posecascade.records import Record
from posecascade.training.batches import make_batch
from posecascade.training.data import Splits, load_splits
from posecascade.training.provenance import versions
from posecascade.training.recipe import Recipe, overridden, recipe_from

CERTIFICATE, TABLE = "certificate.json", "certificate.txt"
WARMUP_IMAGES = 8  # different ones in the warm-up requests


@keras_settings()
def export(model_file: Path, output: Path, people: Splits, recipe: Recipe, *, license: str, manifest: Mapping | None,
           log: Callable[[str], None]) -> Path:
    """Write OUTPUT/N, N the next version, and return that folder.

    Args:
        model_file: a `.keras` file.
        people: int8 is calibrated on the training people; everything is measured on the validation people.
        recipe: its `export` section sets the limits, its augmentation the crops for calibration.
        license: terms of the weights.
        manifest: the training run's, None if it is unknown.
        log: called with a line for each step, and with the certificate's table.
    Raises:
        InputError: the model cannot be read, or an artifact is past a limit; then nothing is written.

    If the model's scores are poorly calibrated, they are recalibrated first (`curve_of`), for all artifacts alike.
    """
    model, metadata = load(model_file)
    records, metric = chosen(people, recipe.export.people), people.validation[0].metric
    plain = Predictor(run_of(model.predict_on_batch), metadata.schema, metadata.input_size, metadata.stride,
                      metadata.decoder)
    curve, scores = curve_of(plain, metadata.calibration, records, metric, recipe.export.max_calibration_error)
    metadata, reference = replace(metadata, calibration=curve), replace(plain, calibration=curve)
    crops = calibration(people, recipe, metadata.input_size)
    network, rounded = Network(model, metadata), Network(equalized(model, crops), metadata)
    exported = export_metadata(model_file, metadata, license, manifest)
    with bundle.new_version(output) as draft:
        saved_model.write(draft, network, exported, crops[:WARMUP_IMAGES], recipe.export.batch_sizes)
        log("SavedModel written")
        models = write_tflite(draft / TFLITE, network, rounded, exported, crops, log)
        log(f"measuring on {len(records)} people")
        measured = [*artifacts.of_saved_model(draft, reference, crops[0]),
                    *artifacts.of_tflite(draft / TFLITE, models, reference)]
        rows = certificate.measure(reference, measured, records, metric)
        measure = measure_of(metric, records[0].schema)
        table = f"{certificate.table(rows, f'{measure.name}@{measure.at:g}')}\n{certificate.scores_line(scores)}"
        log(table)
        limits = {"max_float_error_px": recipe.export.max_float_error_px, "max_pck_drop": recipe.export.max_pck_drop}
        refusals = certificate.refusals(rows, **limits)
        if refusals:
            raise InputError(f"{len(refusals)} artifacts are past a limit, so nothing is exported: "
                             f"{'; '.join(refusals)}. Change the limits by --set=export.max_float_error_px or "
                             "--set=export.max_pck_drop")
        _write_certificate(draft, rows, table, people, records, measure, limits, exported["source"], scores)
        bundle.write_metadata(draft, exported)
    return bundle.newest(output)


def prepared(model_file: Path, data: Sequence[str], overrides: Sequence[str]) -> tuple[Recipe, Splits]:
    """Return the recipe in the model's file with `overrides` of its export section, and its people or those of `data`.

    Raises InputError if the file or the people cannot be read, or an override is wrong.
    """
    metadata = load_metadata(model_file)
    recipe = overridden(recipe_from(metadata.recipe, f"{model_file}: recipe"), overrides)
    sources = tuple(data) or recipe.data.sources
    if not sources:
        raise InputError(f"{model_file}: names no training data; give people to calibrate and measure on by "
                         "--data=TYPE:ROOT")
    return recipe, load_splits(sources, metadata.schema, custom=recipe.data.schema.endswith((".yaml", ".yml")))


def calibration(people: Splits, recipe: Recipe, size: int) -> np.ndarray:
    """Return (N, S, S, 3) uint8: augmented crops as in training, of evenly chosen training people.

    Unreadable images are skipped. Raises InputError if none can be read.
    """
    everybody = people.train_records
    count = min(recipe.export.calibration_crops, len(everybody))
    batch = make_batch(everybody, _evenly(len(everybody), count), size, recipe.augmentation,
                       (recipe.training.seed, recipe.training.epochs, 0))
    if len(batch.unreadable) == count:
        raise InputError(f"none of {count} images to calibrate on can be read ({batch.unreadable[0]}); check --data")
    readable = (batch.images != batch.images[:, :1, :1]).any((1, 2, 3))  # unreadable ones have a single color
    return batch.images[readable] if batch.unreadable else batch.images


def chosen(people: Splits, count: int) -> list[Record]:
    """Return at most `count` validation people, evenly chosen from all data sets, without those of unreadable images.

    Raises InputError if nobody is left.
    """
    everybody = [record for kept in people.validation for record in kept.records if record.image is not None]
    some = [everybody[number] for number in _evenly(len(everybody), min(count, len(everybody)))]
    readable = [record for record in some if _can_be_read(record)]
    if not readable:
        raise InputError(f"none of {len(some)} validation people has a readable image; check --data")
    return readable


def curve_of(plain: Predictor, present: Calibration, records: Sequence[Record], metric: str,
             limit: float) -> tuple[Calibration, dict]:
    """Return the calibration curve of the model's scores, and its entry in the certificate.

    Args:
        plain: the model without a curve.
        present: its curve, which is kept if its error is within the limit.
        records: people with images, whose keypoints count as right according to `metric` ("oks": to PCK).
        limit: the expected calibration error above which a curve is fitted to these people.
    Returns:
        The curve, and a dictionary of "error" (None if too few keypoints can be judged), "error_after" (of curves
        fitted to other people; None if no curve is fitted), "slope" and "offset".
    """
    predictions = evaluate.predicted(plain, records)
    report = evaluate.score(predictions, records, metric=_distances(metric), draws=1)
    known = ~np.isnan(report.result)
    raw, right = np.asarray(predictions.scores)[known], report.result[known] <= report.measure.at
    person = np.nonzero(known)[0]
    curve, error, after = present, None, None
    if len(raw) >= 2 * MIN_KEYPOINTS:  # the error after fitting is measured on two halves
        error = reliability(present(raw), right).error
        if error > limit and (better := fitted(raw, right)) != IDENTITY:
            curve, after = better, error_after(raw, right, person)
    return curve, {"error": error, "error_after": after, "slope": curve.slope, "offset": curve.offset}


def _distances(metric):
    """Return the metric of distances: COCO's OKS has none."""
    return "pck" if metric == "oks" else metric


def write_tflite(folder: Path, network: Network, rounded: Network, exported: Mapping, crops: np.ndarray,
                 log: Callable[[str], None]) -> dict[str, tuple[str, bytes]]:
    """Write every TFLite file; return {file name: (precision, the model in it)}.

    `exported` is what `export_metadata` returns, `rounded` as in `tflite.models`.
    """
    folder.mkdir()
    written = {}
    decoder = tflite.decoder(network)
    for kind, precision, model in (*tflite.models(network, decoder, crops, rounded),
                                   (runtime.DECODER, "float32", decoder)):
        name = DECODER_FILE if kind == runtime.DECODER else f"{kind}_{precision}{runtime.SUFFIX}"
        data = file_bytes(model, kind, precision, network.metadata, exported, decoder if kind == runtime.MAPS else None)
        (folder / name).write_bytes(data)
        written[name] = precision, tflite_file.read(folder / name).model
        log(f"{TFLITE}/{name}: {len(data) / 1e6:.2f} MB")
    return written


def _write_certificate(draft: Path, rows: Sequence[Row], table: str, people: Splits, records: Sequence[Record],
                       measure: Measure, limits: Mapping, source: Mapping, scores: Mapping) -> None:
    """Write the certificate as JSON and as text."""
    threshold = measure.title() if measure.reference in ("box", "pixels") else f"{measure.name}@{measure.at:g}"
    content = {"model": dict(source), "people": len(records), "data": list(people.sources),
               "data_fingerprint": people.fingerprint(), "metric": threshold,
               "distances": "pixels of the crop that the network sees", "limits": dict(limits), "versions": versions(),
               "scores": dict(scores), "artifacts": certificate.as_dict(rows)}
    files.write_json(draft / CERTIFICATE, content)
    (draft / TABLE).write_text(f"{threshold} of {len(records)} people of {', '.join(people.sources)}; distances from "
                               f"the model's keypoints in pixels of the crop\n\n{table}\n", encoding="utf-8")


def _can_be_read(record: Record) -> bool:
    try:
        record.image.read()
    except InputError:
        return False
    return True


def _evenly(total: int, count: int) -> list[int]:
    """Return `count` of the numbers below `total`, equally spaced."""
    return [number * total // count for number in range(count)]
