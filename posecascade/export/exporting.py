"""A trained model to a bundle: SavedModel, TFLite files and their certificate, whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from posecascade import files
from posecascade.codec.score_calibration import IDENTITY, MIN_KEYPOINTS, Calibration, error_after, fitted, reliability
from posecascade.errors import InputError
from posecascade.evaluation import evaluate
from posecascade.evaluation.report import MEASURES, Measure
from posecascade.export import artifacts, certificate, saved_model, tflite
from posecascade.export.certificate import Row
from posecascade.export.channel_equalization import equalized
from posecascade.export.graph.network import Network
from posecascade.export.tflite_files import card_of, sealed_file
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
WARM_PICTURES = 8  # different ones among the warm-up requests


def export(model_file: Path, output: Path, people: Splits, recipe: Recipe, *, license: str, manifest: Mapping | None,
           tell: Callable[[str], None]) -> Path:
    """Write OUTPUT/N, N the next version; that folder.

    Args:
        model_file: a `.keras` file.
        people: whom int8 is calibrated on (train) and everything is measured on (validation).
        recipe: its `export` section sets the limits; its augmentation makes the calibration's crops.
        license: terms of the weights.
        manifest: of the training run, where it is known.
        tell: gets a line for each thing done, and the certificate's table.
    Raises:
        InputError: the model cannot be read, or an artifact is past a limit; then nothing is left.

    The model's scores get a curve first where they are poor (`curve_of`), so that all artifacts give the same ones.
    """
    model, metadata = load(model_file)
    records, metric = chosen(people, recipe.export.people), people.validation[0].metric
    plain = Predictor(run_of(model.predict_on_batch), metadata.schema, metadata.input_size, metadata.stride,
                      metadata.decoder)
    curve, told = curve_of(plain, metadata.calibration, records, metric, recipe.export.max_calibration_error)
    metadata, reference = replace(metadata, calibration=curve), replace(plain, calibration=curve)
    crops = calibration(people, recipe, metadata.input_size)
    network, rounded = Network(model, metadata), Network(equalized(model, crops), metadata)
    card = card_of(model_file, metadata, license, manifest)
    with bundle.new_version(output) as draft:
        saved_model.write(draft, network, card, crops[:WARM_PICTURES], recipe.export.batch_sizes)
        tell("SavedModel written")
        models = write_tflite(draft / TFLITE, network, rounded, card, crops, tell)
        tell(f"measuring on {len(records)} people")
        found = [*artifacts.of_saved_model(draft, reference, crops[0]),
                 *artifacts.of_tflite(draft / TFLITE, models, reference)]
        rows = certificate.measure(reference, found, records, metric)
        measure = MEASURES[_distances(metric)]
        table = f"{certificate.table(rows, f'{measure.name}@{measure.at:g}')}\n{certificate.scores_line(told)}"
        tell(table)
        limits = {"max_float_error_px": recipe.export.max_float_error_px, "max_pck_drop": recipe.export.max_pck_drop}
        refused = certificate.refusals(rows, **limits)
        if refused:
            raise InputError(f"{len(refused)} artifacts are past a limit, so nothing is exported: {'; '.join(refused)} "
                             "(other limits: --set=export.max_float_error_px or --set=export.max_pck_drop)")
        _write_certificate(draft, rows, table, people, records, measure, limits, card["source"], told)
        bundle.write_sidecar(draft, card)
    return bundle.newest(output)


def prepared(model_file: Path, data: Sequence[str], overrides: Sequence[str]) -> tuple[Recipe, Splits]:
    """The recipe in the model's file, with other values in its export section, and its people or those of `data`.

    Raises InputError where the file cannot be read, an override is wrong, or people cannot be read.
    """
    metadata = load_metadata(model_file)
    recipe = overridden(recipe_from(metadata.recipe, f"{model_file}: recipe"), overrides)
    sources = tuple(data) or recipe.data.sources
    if not sources:
        raise InputError(f"{model_file}: does not say what it was trained on; give people to calibrate and measure on, "
                         "--data=TYPE:ROOT")
    return recipe, load_splits(sources, metadata.schema, custom=recipe.data.schema.endswith((".yaml", ".yml")))


def calibration(people: Splits, recipe: Recipe, size: int) -> np.ndarray:
    """(N, S, S, 3) uint8: augmented crops as training sees them, of people evenly chosen from those trained on.

    Unreadable pictures are left out. Raises InputError where none can be read.
    """
    everybody = people.train_records
    count = min(recipe.export.calibration_crops, len(everybody))
    batch = make_batch(everybody, _evenly(len(everybody), count), size, recipe.augmentation,
                       (recipe.training.seed, recipe.training.epochs, 0))
    if len(batch.unreadable) == count:
        raise InputError(f"none of {count} pictures to calibrate on can be read ({batch.unreadable[0]}); check --data")
    seen = (batch.images != batch.images[:, :1, :1]).any((1, 2, 3))  # what could not be read is of one color
    return batch.images[seen] if batch.unreadable else batch.images


def chosen(people: Splits, count: int) -> list[Record]:
    """At most `count` people, evenly from each data set's validation people; without those of unreadable pictures.

    Raises InputError where nobody is left.
    """
    everybody = [record for kept in people.validation for record in kept.records if record.image is not None]
    some = [everybody[number] for number in _evenly(len(everybody), min(count, len(everybody)))]
    readable = [record for record in some if _can_be_read(record)]
    if not readable:
        raise InputError(f"none of {len(some)} validation people has a picture that can be read; check --data")
    return readable


def curve_of(plain: Predictor, present: Calibration, records: Sequence[Record], metric: str,
             limit: float) -> tuple[Calibration, dict]:
    """The curve that the model's scores get, and what to tell of it.

    Args:
        plain: the model without a curve.
        present: its curve, which stays where it serves.
        records: people with pictures, whose joints count as right as `metric` has it ("oks": as PCK has it).
        limit: the expected calibration error above which a curve is fitted to these people.
    Returns:
        the curve, and "error", "error_after" (under curves fitted to other people; None where none is fitted),
        "slope" and "offset" for the certificate; an error is None where too few joints can be judged.
    """
    found = evaluate.predicted(plain, records)
    report = evaluate.score(found, records, metric=_distances(metric), draws=1)
    known = ~np.isnan(report.result)
    raw, right = np.asarray(found.scores)[known], report.result[known] <= report.measure.at
    person = np.nonzero(known)[0]
    curve, error, after = present, None, None
    if len(raw) >= 2 * MIN_KEYPOINTS:  # two halves are looked at
        error = reliability(present(raw), right).error
        if error > limit and (better := fitted(raw, right)) != IDENTITY:
            curve, after = better, error_after(raw, right, person)
    return curve, {"error": error, "error_after": after, "slope": curve.slope, "offset": curve.offset}


def _distances(metric):
    """The measure of distances: COCO's OKS has none."""
    return "pck" if metric == "oks" else metric


def write_tflite(folder: Path, network: Network, rounded: Network, card: Mapping, crops: np.ndarray,
                 tell: Callable[[str], None]) -> dict[str, tuple[str, bytes]]:
    """Write every TFLite file, sealed; {file name: (precision, the model in it)}. `rounded` as in `tflite.models`."""
    folder.mkdir()
    written = {}
    decoder = tflite.decoder(network)
    for kind, precision, model in (*tflite.models(network, decoder, crops, rounded),
                                   (runtime.DECODER, "float32", decoder)):
        name = DECODER_FILE if kind == runtime.DECODER else f"{kind}_{precision}{runtime.SUFFIX}"
        data = sealed_file(model, kind, precision, network.metadata, card, decoder if kind == runtime.MAPS else None)
        (folder / name).write_bytes(data)
        written[name] = precision, tflite_file.unseal(folder / name).model
        tell(f"{TFLITE}/{name}: {len(data) / 1e6:.2f} MB")
    return written


def _write_certificate(draft: Path, rows: Sequence[Row], table: str, people: Splits, records: Sequence[Record],
                       measure: Measure, limits: Mapping, source: Mapping, scores: Mapping) -> None:
    """The certificate to read and to compute with."""
    told = f"{measure.name}@{measure.at:g}"
    content = {"model": dict(source), "people": len(records), "data": list(people.sources),
               "data_fingerprint": people.fingerprint(), "metric": told,
               "distances": "pixels of the crop that the network sees", "limits": dict(limits), "versions": versions(),
               "scores": dict(scores), "artifacts": certificate.as_dict(rows)}
    files.write_json(draft / CERTIFICATE, content)
    (draft / TABLE).write_text(f"{told} of {len(records)} people of {', '.join(people.sources)}; distances from the "
                               f"model's joints in pixels of the crop\n\n{table}\n", encoding="utf-8")


def _can_be_read(record: Record) -> bool:
    try:
        record.image.read()
    except InputError:
        return False
    return True


def _evenly(total: int, count: int) -> list[int]:
    """`count` of the numbers below `total`, equally far apart."""
    return [number * total // count for number in range(count)]
