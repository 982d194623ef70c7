"""Find or convert the file that a browser runs: an exported .tflite model that returns maps."""

from pathlib import Path

from posecascade.errors import InputError
from posecascade.formats import bundle, runtime, tflite_file, zoo
from posecascade.inference.predictor import model_file

FLOATS = ("float32", "float16")  # precisions that need no images for calibration


def maps_file(path_or_name: str, precision: str) -> bytes:
    """Return the file's bytes.

    Args:
        path_or_name: what `predictor.load` takes. A .tflite file is returned unchanged; of an export, the file of that
            precision; any other model is converted, which takes TensorFlow and some seconds.
        precision: one of `tflite.PRECISIONS`; a conversion here makes only FLOATS.

    Raises InputError for a path that is not a model, a damaged file, or a precision that is not available.
    """
    path = Path(path_or_name)
    if path.suffix != runtime.SUFFIX:
        if zoo.is_shipped(path_or_name) or not runtime.is_artifact(path):
            return _converted(model_file(path_or_name), precision)
        path = bundle.folder_of(path) / bundle.TFLITE / f"{runtime.MAPS}_{precision}{runtime.SUFFIX}"
    kind = tflite_file.read(path).metadata.get("kind")
    if kind != runtime.MAPS:
        raise InputError(f"{path}: returns {kind}, expected maps; give the file of the same export whose name begins "
                         f"with {runtime.MAPS}")
    return path.read_bytes()


def _converted(file, precision):
    if precision not in FLOATS:
        raise InputError(f"{file}: only {' and '.join(FLOATS)} can be converted here; for {precision} export the "
                         "model (posecascade-export) and give the export")
    from posecascade.formats.keras_file import load

    model, metadata = load(file)
    from posecascade.export import tflite  # after Keras, which says what is wrong with keras.json; TensorFlow does not
    from posecascade.export.graph.network import Network
    from posecascade.export.tflite_files import TERMS, export_metadata, file_bytes

    network = Network(model, metadata)
    return file_bytes(tflite.heatmaps(network, precision), runtime.MAPS, precision, metadata,
                      export_metadata(file, metadata, TERMS, None), tflite.decoder(network))
