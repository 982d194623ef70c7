"""The models that come with the package, by name: weights in float16, and the recipe that builds the network.

A file is an .npz with one member per weight and `posecascade.json`, the model's metadata. A kernel is stored as two
planes of bytes, (2, *shape) uint8: the low bytes of its float16 numbers, then the high bytes, of which only the latter
compress well. This package's code builds the network, so every Keras version reads the file. SHA256SUMS next to the
files holds their checksums; NAME.md is the model card.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posecascade import files
from posecascade.errors import InputError, first_line
from posecascade.formats.metadata import METADATA_FILE, Metadata, metadata_dict, metadata_from

if TYPE_CHECKING:
    import keras

FOLDER = Path(__file__).resolve().parents[1] / "weights"
SUFFIX = ".npz"
SUMS = "SHA256SUMS"  # in the format of the command sha256sum


def names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def is_shipped(path: Path | str) -> bool:
    """Return whether `path` is the name of such a model, or a file written by `save`."""
    return str(path) in names() or Path(path).suffix == SUFFIX


def file_of(path: Path | str) -> Path:
    """Return the file of a model's name; a path is returned unchanged."""
    return FOLDER / f"{path}{SUFFIX}" if str(path) in names() else Path(path)


def save(model: "keras.Model", path: Path | str, metadata: Metadata) -> None:
    """Write the model: kernels in float16, vectors (biases, batch norms) in float32; a failure leaves no partial file.

    Raises InputError if a weight is NaN or too large for float16.
    """
    with files.atomic_write(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in _weights(model).items():
            with np.errstate(over="ignore"):
                array = value.astype("<f2" if value.ndim > 1 else "<f4")
            if not np.isfinite(array).all():
                raise InputError(f"{path}: weight {name} holds NaN or values beyond float16")
            _add(archive, f"{name}.npy", _planes(array) if value.ndim > 1 else array)
        _add(archive, METADATA_FILE, json.dumps(metadata_dict(metadata), indent=1, allow_nan=False).encode())


def load(path: Path | str) -> tuple["keras.Model", Metadata]:
    """Return the model, in float32 and not compiled, and its metadata; `path` is a name or a file.

    Raises InputError for a missing or damaged file, or one that fits no network of this version.
    """
    from posecascade.backend import keras_settings  # here, because it imports Keras; metadata need none
    from posecascade.models import OPTIONS, cascade
    from posecascade.models.backbone import weighted_layers

    arrays, metadata = _read(file_of(path))
    settings = metadata.recipe.get("model", {})
    try:
        with keras_settings():
            model = cascade(metadata.schema.size, **{key: settings[key] for key in OPTIONS if key in settings})
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: its recipe builds no network ({error}); get the file again") from None
    expected = {name: value.shape for name, value in _weights(model).items()}
    if expected != {name: array.shape for name, array in arrays.items()}:
        raise InputError(f"{path}: its weights do not fit the network of its recipe; get the file again, or the "
                         "version of posecascade that wrote it")
    for name, layer in weighted_layers(model).items():
        layer.set_weights([arrays[f"{name}/{i}"].astype(np.float32) for i in range(len(layer.weights))])
    return model, metadata


def load_metadata(path: Path | str) -> Metadata:
    """Return the metadata alone, after the same checks of the file as in `load`; raises InputError like it."""
    return _read(file_of(path))[1]


def write_sums(folder: Path) -> None:
    """Write the SHA256SUMS of the models in the folder."""
    lines = [f"{files.sha256(path)}  {path.name}\n" for path in sorted(folder.glob(f"*{SUFFIX}"))]
    with files.atomic_write(folder / SUMS) as draft:
        draft.write_text("".join(lines), encoding="utf-8")


def _read(path: Path) -> tuple[Mapping[str, np.ndarray], Metadata]:
    if not path.is_file():
        raise InputError(f"{path}: no such model file; give a model file or one of {', '.join(names())}")
    if path.parent == FOLDER and files.sha256(path) != _sum_of(path):
        raise InputError(f"{path}: is not the file that came with the package (its SHA-256 differs from {SUMS}); "
                         "install posecascade again")
    try:
        with zipfile.ZipFile(path) as archive:  # reading checks each member's CRC
            arrays = {name.removesuffix(".npy"): _joined(np.load(io.BytesIO(archive.read(name)), allow_pickle=False))
                      for name in archive.namelist() if name != METADATA_FILE}
            value = json.loads(archive.read(METADATA_FILE))
    except KeyError:
        raise InputError(f"{path}: has no {METADATA_FILE}, so it is not a model; give one of "
                         f"{', '.join(names())}") from None
    except files.DAMAGED as error:
        raise InputError(f"{path}: is damaged or not a model ({first_line(error)}); get the file "
                         "again") from None
    return arrays, metadata_from(value, f"{path}: {METADATA_FILE}")


def _sum_of(path):
    try:
        lines = (path.parent / SUMS).read_text(encoding="utf-8").split("\n")
    except OSError:
        lines = []
    return next((line.split()[0] for line in lines if line.endswith(f"  {path.name}")), "")


def _weights(model) -> dict[str, np.ndarray]:
    from posecascade.models.backbone import weighted_layers

    return {f"{name}/{i}": value for name, layer in weighted_layers(model).items()
            for i, value in enumerate(layer.get_weights())}


def _planes(array):
    return np.moveaxis(array[..., None].view(np.uint8), -1, 0)


def _joined(array):
    if array.dtype != np.uint8:
        return array
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)).view("<f2")[..., 0]


def _add(archive, name, value):
    """Add a member without a date, so that the same model gives the same bytes."""
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value)
        value = buffer.getvalue()
    archive.writestr(zipfile.ZipInfo(name), value, zipfile.ZIP_DEFLATED)
