"""Load an exported artifact as a function from crops to maps or keypoints, as the predictor calls it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from posecascade.errors import InputError, first_line
from posecascade.formats import bundle, tflite_file
from posecascade.formats.metadata import METADATA_FILE, Metadata, metadata_from
from posecascade.formats.tflite_file import SUFFIX

MODEL = "model"      # the key of `metadata_dict`'s value in METADATA_FILE
MAPS = "heatmaps"    # the signature that returns maps, in a SavedModel and in a TFLite file
DECODER = "decoder"  # the signature of the TFLite file that turns maps into keypoints
THREADS = 2          # of the TFLite interpreter; more gain little on maps this small

Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def is_artifact(path: Path) -> bool:
    """Return whether `path` ends in .tflite, or is a folder that an export wrote, or a version in it."""
    return path.suffix == SUFFIX or bundle.is_bundle(path)


def load(path: Path, *, maps: bool = False) -> tuple[Run, Metadata]:
    """Return the artifact's run, for `Predictor.run`, and its metadata, after checking every byte.

    Of a folder of versions the newest is loaded, as TF Serving does. If `maps`, artifacts that return keypoints alone
    are refused. Raises InputError for a missing, foreign or damaged artifact.
    """
    if path.suffix == SUFFIX:
        return _tflite(path, maps)
    folder = bundle.folder_of(path)
    metadata = metadata_from(bundle.check(folder).get(MODEL), f"{folder}: {METADATA_FILE}: {MODEL!r}")
    return saved_model(folder), metadata


def _tflite(path, maps):
    file = tflite_file.read(path)
    metadata = metadata_from(file.metadata.get(MODEL), f"{path}: {MODEL!r}")
    kind = file.metadata.get("kind")
    if kind == DECODER:
        raise InputError(f"{path}: takes maps, expected a model of images; give a heatmaps or keypoints file of the "
                         "same export")
    if maps and kind != MAPS:
        raise InputError(f"{path}: has the decoder built in, so it supports no other decoder, flip test or protocol; "
                         f"give the file of the same export whose name begins with {MAPS}")
    return tflite(file.model), metadata


def interpreter(model: bytes, threads: int = THREADS):
    """Return an `ai_edge_litert` interpreter of the model's bytes, its tensors allocated."""
    from ai_edge_litert.interpreter import Interpreter  # here, because importing it is slow

    result = Interpreter(model_content=model, num_threads=threads)
    result.allocate_tensors()
    return result


def tflite(model: bytes, threads: int = THREADS) -> Run:
    """Return the run of a model with one signature, whose input is "crop" (1, S, S, 3), uint8 or float32 in 0..255."""
    loaded = interpreter(model, threads)
    [key] = loaded.get_signature_list()
    call = loaded.get_signature_runner(key)
    [(name, details)] = call.get_input_details().items()

    def run(crops):
        rows = [call(**{name: crop[None].astype(details["dtype"])}) for crop in crops]
        return {output: np.concatenate([row[output] for row in rows]) for output in rows[0]}

    return run


def saved_model(folder: Path) -> Run:
    """Return the run of a SavedModel's signature MAPS. Raises InputError if TensorFlow cannot load it."""
    try:
        import tensorflow as tf  # here, because TFLite files do not need it
    except (AssertionError, AttributeError):  # of TensorFlow's own Keras, which reads keras.json too
        from posecascade import backend  # noqa: F401  # raises what is wrong with it

        raise
    try:
        loaded = tf.saved_model.load(str(folder))
        call = loaded.signatures[MAPS]
    except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"{folder}: TensorFlow {tf.__version__} cannot load the SavedModel "
                         f"({first_line(error)}); export the model again") from None

    def run(crops):
        return {name: value.numpy() for name, value in call(crops=tf.constant(crops)).items()}

    run.loaded = loaded  # type: ignore[attr-defined]  # keeps its variables alive
    return run
