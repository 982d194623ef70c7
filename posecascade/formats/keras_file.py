"""Save and load a trained model with its metadata in one `.keras` file; initialize a model from a saved one.

The file is Keras' own zip with one more member, `posecascade.json`: plain Keras loads it, and `load` returns its
metadata too. Models that come with the package (`formats.zoo`) are loaded by name.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecascade import files
from posecascade.backend import keras, keras_settings
from posecascade.errors import InputError, first_line
from posecascade.formats import zoo
from posecascade.formats.metadata import METADATA_FILE, Metadata, metadata_dict, metadata_from
from posecascade.models.backbone import weighted_layers
from posecascade.models.keypoint_channels import keypoint_axes
from posecascade.schema import Schema

MAX_METADATA_BYTES = 2 ** 24


@dataclass(frozen=True)
class WarmStart:
    """What a warm start copied, counted in layers with weights.

    Attributes:
        copied: layers copied completely.
        partly: layers in which the channels of new keypoints kept their initial weights.
        left: names of the layers that the source lacks or has in another shape; they were not changed.
        new_keypoints: keypoints that the source's schema lacks.
    """

    copied: int
    partly: int
    left: tuple[str, ...]
    new_keypoints: tuple[str, ...]


def save(model: keras.Model, path: Path | str, metadata: Metadata) -> None:
    """Write model and metadata to `path`, which ends in .keras; a failure leaves no partial file.

    NaN and infinities in the metadata become null. Raises InputError for another ending.
    """
    if Path(path).suffix != ".keras":
        raise InputError(f"{path}: a model is saved as .keras; give a name with that ending")
    text = json.dumps(metadata_dict(metadata), indent=2, allow_nan=False)
    with files.atomic_write(path) as draft:
        model.save(draft)
        with zipfile.ZipFile(draft, "a") as archive:
            archive.writestr(METADATA_FILE, text)


def load(path: Path | str) -> tuple[keras.Model, Metadata]:
    """Return the model (not compiled) and its metadata, after checking every byte against the file's checksums.

    Keras' safe mode stays on, so a file cannot run its own code. `path` may also be the name of a model that comes
    with the package, or its file. Raises InputError for a missing, foreign or damaged file, or one whose metadata do
    not fit its model.
    """
    if zoo.is_shipped(path):
        return zoo.load(path)
    metadata = load_metadata(path)
    try:
        with keras_settings():
            model = keras.saving.load_model(path, compile=False)
        shapes = _output_shapes(model)
    except Exception as error:  # whatever Keras and its backend raise for a configuration made by somebody else
        saved_by = _keras_of(path)
        if _release(saved_by) > _release(keras.__version__):  # Keras reads only files of older versions
            raise InputError(f"{path}: was saved by Keras {saved_by}, which Keras {keras.__version__} cannot read; "
                             f"pip install 'keras>={saved_by}' (3.13 and later need Python 3.11), or train with the "
                             "version that reads the file") from None
        raise InputError(f"{path}: Keras {keras.__version__} cannot read the model "
                         f"({first_line(error) or type(error).__name__}); "
                         "give a file saved by posecascade") from None
    for name, shape in shapes.items():
        if shape[-1] != metadata.schema.size:
            raise InputError(f"{path}: output {name!r} has {shape[-1]} channels, expected "
                             f"{metadata.schema.size}, one per keypoint of its schema {metadata.schema.name!r}; the "
                             "file was altered, get it again")
    return model, metadata


def _keras_of(path):
    """Return the Keras version that saved the file, "0" if the file does not name it."""
    with zipfile.ZipFile(path) as archive:
        try:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return "0"


def _release(version):
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


def load_metadata(path: Path | str) -> Metadata:
    """Return the metadata alone, after the same checks of the file as in `load`; raises InputError like it."""
    if zoo.is_shipped(path):
        return zoo.load_metadata(path)
    if not Path(path).is_file():
        raise InputError(f"{path}: no such model file; give the path of a .keras file or one of "
                         f"{', '.join(zoo.names())}")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            names = archive.namelist()
            large = METADATA_FILE in names and archive.getinfo(METADATA_FILE).file_size > MAX_METADATA_BYTES
            text = archive.read(METADATA_FILE) if METADATA_FILE in names and not bad and not large else b""
    except files.DAMAGED as error:
        raise InputError(f"{path}: is not a .keras file, or is truncated or damaged ({first_line(error)}); "
                         "copy or download it again") from None
    if large:
        raise InputError(f"{path}: {METADATA_FILE} has more than {MAX_METADATA_BYTES} bytes; get the file again")
    if bad:
        raise InputError(f"{path}: is damaged (checksum of {bad!r} differs); copy or download it again")
    if METADATA_FILE not in names:
        raise InputError(f"{path}: has no {METADATA_FILE}, so its keypoints are unknown; give a model saved by "
                         "posecascade")
    try:
        return metadata_from(json.loads(text), f"{path}: {METADATA_FILE}")
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {METADATA_FILE} is not JSON ({first_line(error)}); get the file again") from None


def warm_start(model: keras.Model, schema: Schema, source_path: Path | str) -> WarmStart:
    """Copy into `model` all weights of a saved model that fit; channels of keypoints are matched by keypoint name.

    Layers are matched by name, the regressor's separately from the others. Keypoints and layers that the source lacks,
    and layers of other shapes, keep their initial weights. `schema` names the keypoints of `model`. Raises InputError
    like `load`.
    """
    source, metadata = load(source_path)
    order = schema.order_from(metadata.schema)
    theirs, copied, partly, left = weighted_layers(source), 0, 0, []
    for name, layer in weighted_layers(model).items():
        merged = _merged(layer, theirs[name], order, metadata.schema.size) if name in theirs else None
        if merged is None:
            left.append(name)
            continue
        layer.set_weights(merged)
        new = bool(any(keypoint_axes(layer)) and (order < 0).any())
        partly, copied = partly + new, copied + (not new)
    new_keypoints = tuple(name for name, index in zip(schema.keypoints, order, strict=True) if index < 0)
    return WarmStart(copied, int(partly), tuple(left), new_keypoints)


def _merged(layer, source, order, source_size):
    """Return the layer's weights with the source's copied in, or None if a shape does not fit.

    `order` gives for each keypoint of the layer its index in the source (-1: none), `source_size` the source's count.
    """
    own, theirs, axes = layer.get_weights(), source.get_weights(), keypoint_axes(layer)
    if len(own) != len(theirs) or axes != keypoint_axes(source):
        return None
    known = np.flatnonzero(order >= 0)
    for value, other, chosen_axes in zip(own, theirs, axes, strict=True):
        expected = list(value.shape)
        for axis in chosen_axes:
            expected[axis] = source_size
        if list(other.shape) != expected:
            return None
        value[_select(value.shape, chosen_axes, known)] = \
            other[_select(other.shape, chosen_axes, order[known])]
    return own


def _select(shape, chosen_axes, chosen):
    """Return the index of the chosen keypoints along their axes, and of everything along the other axes."""
    axes = {axis % len(shape) for axis in chosen_axes}
    return np.ix_(*(chosen if axis in axes else np.arange(size) for axis, size in enumerate(shape)))


def _output_shapes(model):
    output = model.output if isinstance(model.output, dict) else {"output": model.output}
    return {name: tensor.shape for name, tensor in output.items() if name in ("parts", "heatmaps", "output")}
