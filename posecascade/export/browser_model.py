"""Finds or converts the file that a browser runs: a sealed .tflite model that gives maps."""

from pathlib import Path

from posecascade.errors import InputError
from posecascade.formats import bundle, runtime
from posecascade.formats.tflite_file import unseal

FLOATS = ("float32", "float16")  # precisions that need no pictures to calibrate on


def maps_file(path_or_name: str, precision: str) -> bytes:
    """Return the file's bytes.

    Args:
        path_or_name: what `predictor.load` takes. A .tflite file is returned unchanged; of an export, the file of that
            precision; any other model is converted, which takes TensorFlow and some seconds.
        precision: one of `tflite.PRECISIONS`; a conversion here makes only FLOATS.

    Raises InputError for what is no such model, is damaged, or cannot be had in that precision.
    """
    path = Path(path_or_name)
    if path.suffix != runtime.SUFFIX:
        from posecascade.formats import zoo  # here, because Keras takes a while and .tflite files do without
        from posecascade.inference.predictor import model_file

        if zoo.is_shipped(path_or_name) or not runtime.is_artifact(path):
            return _converted(model_file(path_or_name), precision)
        path = bundle.folder_of(path) / bundle.TFLITE / f"{runtime.MAPS}_{precision}{runtime.SUFFIX}"
    kind = unseal(path).sidecar.get("kind")
    if kind != runtime.MAPS:
        raise InputError(f"{path}: gives {kind}, and maps are needed; give the file of the same export whose name "
                         f"begins with {runtime.MAPS}")
    return path.read_bytes()


def _converted(file, precision):
    if precision not in FLOATS:
        raise InputError(f"{file}: only {' and '.join(FLOATS)} can be made at once; for {precision} export it "
                         "(posecascade-export) and give the export")
    from posecascade.export import tflite
    from posecascade.export.graph.network import Network
    from posecascade.export.tflite_files import TERMS, card_of, sealed_file
    from posecascade.formats.keras_file import load

    model, metadata = load(file)
    network = Network(model, metadata)
    return sealed_file(tflite.heatmaps(network, precision), runtime.MAPS, precision, metadata,
                       card_of(file, metadata, TERMS, None), tflite.decoder(network))
