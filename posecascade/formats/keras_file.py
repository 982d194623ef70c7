"""A trained model and what must be known to use it, in one `.keras` file; and starting from one trained before.

The file is Keras' own zip with one more member, `posecascade.json`: it loads with plain Keras, and here with its
schema, sizes, recipe and result. Models that come with the package (`shipped`) go by their names.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from posecascade import files
from posecascade.errors import InputError, first_line
from posecascade.formats import zoo
from posecascade.formats.metadata import Metadata, metadata_dict, metadata_from
from posecascade.models.backbone import weighted_layers
from posecascade.models.keypoint_channels import keypoint_axes
from posecascade.schema import Schema

MEMBER = "posecascade.json"


@dataclass(frozen=True)
class WarmStart:
    """What a warm start did, counted in layers with weights.

    Attributes:
        copied: layers copied whole.
        partly: layers of which some joints' channels were new and kept their initial weights.
        left: names of the layers that the source lacks or has in another shape, left as they were.
        new_joints: joints that the source's schema lacks.
    """

    copied: int
    partly: int
    left: tuple[str, ...]
    new_joints: tuple[str, ...]


def save(model: keras.Model, path: Path | str, metadata: Metadata) -> None:
    """Write model and metadata to `path` (must end in .keras), whole or not at all.

    NaN and infinities among the metadata become null, being no JSON. Raises InputError for another ending.
    """
    if Path(path).suffix != ".keras":
        raise InputError(f"{path}: a model is saved as .keras; give a name with that ending")
    text = json.dumps(metadata_dict(metadata), indent=2, allow_nan=False)
    with files.atomic_write(path) as draft:
        model.save(draft)
        with zipfile.ZipFile(draft, "a") as archive:
            archive.writestr(MEMBER, text)


def load(path: Path | str) -> tuple[keras.Model, Metadata]:
    """The model (not compiled) and its metadata; every byte is checked against the file's checksums first.

    Keras' safe mode stays on: a file cannot bring code of its own. `path` may be the name of a model that comes with
    the package, or its file. Raises InputError, in one line, for a missing, foreign or damaged file, or one whose
    metadata do not fit its model.
    """
    if zoo.is_shipped(path):
        return zoo.load(path)
    metadata = load_metadata(path)
    try:
        model = keras.saving.load_model(path, compile=False)
    except (*files.DAMAGED, TypeError, AttributeError) as error:
        saved_by = _keras_of(path)
        if _release(saved_by) > _release(keras.__version__):  # Keras reads files of older versions alone
            raise InputError(f"{path}: was saved by Keras {saved_by}, which Keras {keras.__version__} cannot read; "
                             f"pip install 'keras>={saved_by}' (from 3.13 on it needs Python 3.11), or train with the "
                             "version that will read it") from None
        raise InputError(f"{path}: Keras {keras.__version__} cannot read the model ({first_line(error)}); "
                         "give a file saved by posecascade") from None
    for name, shape in _output_shapes(model).items():
        if shape[-1] != metadata.schema.size:
            raise InputError(f"{path}: output {name!r} has {shape[-1]} channels, its schema {metadata.schema.name!r} "
                             f"has {metadata.schema.size} joints; the file was altered, get it again")
    return model, metadata


def _keras_of(path):
    """The version that the file says it was saved by, "0" where it says none."""
    with zipfile.ZipFile(path) as archive:
        try:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
        except (KeyError, TypeError, ValueError):
            return "0"


def _release(version):
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


def load_metadata(path: Path | str) -> Metadata:
    """The metadata alone, after the same checks of the file as `load` makes. Raises InputError as it does."""
    if zoo.is_shipped(path):
        return zoo.load_metadata(path)
    if not Path(path).is_file():
        raise InputError(f"{path}: no such model file; give the path of a .keras file or one of "
                         f"{', '.join(zoo.names())}")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            names = archive.namelist()
            text = archive.read(MEMBER) if MEMBER in names and not bad else b""
    except files.DAMAGED as error:
        raise InputError(f"{path}: is no .keras file, or truncated or damaged ({first_line(error)}); "
                         "copy or download it again") from None
    if bad:
        raise InputError(f"{path}: is damaged (checksum of {bad!r} differs); copy or download it again")
    if MEMBER not in names:
        raise InputError(f"{path}: has no {MEMBER}, so its joints are unknown; give a model saved by posecascade")
    try:
        return metadata_from(json.loads(text), f"{path}: {MEMBER}")
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {MEMBER} is no JSON ({first_line(error)}); get the file again") from None


def warm_start(model: keras.Model, schema: Schema, source_path: Path | str) -> WarmStart:
    """Copy into `model` (with `schema`'s joints) all weights of a saved model that fit, joint channels by joint name.

    Layers are matched by their name, the regressor's apart from the rest. Joints new to the source, and layers that
    it lacks or has in other shapes, keep their initial weights. Raises InputError as `load` does.
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
    new_joints = tuple(joint for joint, at in zip(schema.keypoints, order, strict=True) if at < 0)
    return WarmStart(copied, int(partly), tuple(left), new_joints)


def _merged(layer, source, order, source_joints):
    """The layer's weights with the source's put in, or None where a shape does not fit."""
    mine, theirs, axes = layer.get_weights(), source.get_weights(), keypoint_axes(layer)
    if len(mine) != len(theirs) or axes != keypoint_axes(source):
        return None
    known = np.flatnonzero(order >= 0)
    for value, other, joints in zip(mine, theirs, axes, strict=True):
        wanted = list(value.shape)
        for axis in joints:
            wanted[axis] = source_joints
        if list(other.shape) != wanted:
            return None
        here = _select(value.shape, joints, known)
        value[here] = other[_select(other.shape, joints, order[known])]
    return mine


def _select(shape, keypoint_axes_, chosen):
    """The index of the chosen joints along the joint axes, and of all along the others."""
    axes = {axis % len(shape) for axis in keypoint_axes_}
    return np.ix_(*(chosen if axis in axes else np.arange(size) for axis, size in enumerate(shape)))


def _output_shapes(model):
    output = model.output if isinstance(model.output, dict) else {"output": model.output}
    return {name: tensor.shape for name, tensor in output.items() if name in ("parts", "heatmaps", "output")}
