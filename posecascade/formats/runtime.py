"""An exported artifact as the predictor calls a network: crops in, maps or joints out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from posecascade.errors import InputError, first_line
from posecascade.formats import bundle
from posecascade.formats.metadata import Metadata, metadata_from
from posecascade.formats.tflite_file import SUFFIX, unseal

MODEL_CARD = "model"  # the sidecars' key under which `model_metadata.metadata_dict` lies
MAPS = "heatmaps"     # the signature that gives maps, in a SavedModel and in a TFLite file
DECODER = "decoder"   # the signature of the TFLite file that makes keypoints of maps
THREADS = 2           # of the TFLite interpreter: more gain little on maps this small

Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def is_artifact(path: Path) -> bool:
    """Whether `path` is named as a TFLite file, or is a folder that an export wrote (or a version in it)."""
    return path.suffix == SUFFIX or bundle.is_bundle(path)


def load(path: Path, *, maps: bool = False) -> tuple[Run, Metadata]:
    """The artifact's run, as `Predictor.run` wants it, and its metadata, when every byte is as it was written.

    A folder of versions gives the newest, as TF Serving would. `maps` refuses artifacts that give joints alone.
    Raises InputError for a missing, foreign or damaged artifact.
    """
    if path.suffix == SUFFIX:
        return _tflite(path, maps)
    folder = bundle.folder_of(path)
    metadata = metadata_from(bundle.check(folder).get(MODEL_CARD), f"{folder}: {bundle.SIDECAR}: {MODEL_CARD!r}")
    return saved_model(folder), metadata


def _tflite(path, maps):
    sealed = unseal(path)
    metadata = metadata_from(sealed.sidecar.get(MODEL_CARD), f"{path}: {MODEL_CARD!r}")
    if sealed.sidecar.get("kind") == DECODER:
        raise InputError(f"{path}: takes maps, expected a model of images; give a heatmaps or keypoints file of the "
                         "same export")
    if maps and sealed.sidecar.get("kind") != MAPS:
        raise InputError(f"{path}: decodes by itself, so another decoder, flip test or protocol is not to be had; give "
                         f"the file of the same export whose name begins with {MAPS}")
    return tflite(sealed.model), metadata


def interpreter(model: bytes, threads: int = THREADS):
    """An `ai_edge_litert` interpreter of the model's bytes, ready to be called."""
    from ai_edge_litert.interpreter import Interpreter  # here, because it takes a while

    made = Interpreter(model_content=model, num_threads=threads)
    made.allocate_tensors()
    return made


def tflite(model: bytes, threads: int = THREADS) -> Run:
    """The run of a model of one signature: "crop" (1, S, S, 3), uint8 or float32 in 0..255, to its outputs."""
    made = interpreter(model, threads)
    [key] = made.get_signature_list()
    call = made.get_signature_runner(key)
    [(name, details)] = call.get_input_details().items()

    def run(crops):
        rows = [call(**{name: crop[None].astype(details["dtype"])}) for crop in crops]
        return {output: np.concatenate([row[output] for row in rows]) for output in rows[0]}

    return run


def saved_model(folder: Path) -> Run:
    """The run of a SavedModel's signature that gives maps. Raises InputError where TensorFlow cannot load it."""
    import tensorflow as tf  # here, because the core and TFLite files do without

    try:
        loaded = tf.saved_model.load(str(folder))
        call = loaded.signatures[MAPS]
    except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"{folder}: TensorFlow {tf.__version__} cannot load the SavedModel "
                         f"({first_line(error)}); export the model again") from None

    def run(crops):
        return {name: value.numpy() for name, value in call(crops=tf.constant(crops)).items()}

    run.loaded = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    return run
