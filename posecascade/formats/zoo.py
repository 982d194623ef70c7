"""The models that come with the package, by name: arrays in float16, and the recipe that builds their network.

A file is an .npz with a member for each weight and one more, `posecascade.json`, with the model's metadata. A kernel is
stored as two planes of bytes, (2, *shape) uint8: the low bytes of its float16 numbers, then the high ones, which alone
are alike enough to compress. The network is built by this package's code, so that the file is read by whichever Keras
is there. SHA256SUMS beside the files says what their bytes are, NAME.md, the model card, whom they were trained on and
fail on.
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
from posecascade.formats.metadata import Metadata, metadata_dict, metadata_from

if TYPE_CHECKING:
    import keras

FOLDER = Path(__file__).resolve().parents[1] / "weights"
SUFFIX = ".npz"
SUMS = "SHA256SUMS"  # in the format of the command sha256sum
MEMBER = "posecascade.json"


def names() -> list[str]:
    """Of the models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def is_shipped(path: Path | str) -> bool:
    """Whether it is such a model's name, or a file written by `save`."""
    return str(path) in names() or Path(path).suffix == SUFFIX


def file_of(path: Path | str) -> Path:
    """The file of that name; a path as it is."""
    return FOLDER / f"{path}{SUFFIX}" if str(path) in names() else Path(path)


def save(model: "keras.Model", path: Path | str, metadata: Metadata) -> None:
    """Write the model, whole or not at all: kernels in float16, vectors (biases, batch norms) in float32.

    Raises InputError where a weight is NaN, or too large for float16.
    """
    with files.atomic_write(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in _weights(model).items():
            with np.errstate(over="ignore"):
                array = value.astype("<f2" if value.ndim > 1 else "<f4")
            if not np.isfinite(array).all():
                raise InputError(f"{path}: weight {name} holds NaN or values beyond float16")
            _add(archive, f"{name}.npy", _planes(array) if value.ndim > 1 else array)
        _add(archive, MEMBER, json.dumps(metadata_dict(metadata), indent=1, allow_nan=False).encode())


def load(path: Path | str) -> tuple["keras.Model", Metadata]:
    """The model, in float32 and not compiled, and its metadata; `path` is a name or a file.

    Raises InputError, in one line, for a missing or damaged file, or one that fits no network of this version.
    """
    from posecascade.models import OPTIONS, cascade, precision  # here, because they import Keras; names do not need it
    from posecascade.models.backbone import weighted_layers

    arrays, metadata = _read(file_of(path))
    settings = metadata.recipe.get("model", {})
    try:
        with precision("float32"):
            model = cascade(metadata.schema.size, **{key: settings[key] for key in OPTIONS if key in settings})
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: its recipe builds no network ({error}); get the file again") from None
    wanted = {name: value.shape for name, value in _weights(model).items()}
    if wanted != {name: array.shape for name, array in arrays.items()}:
        raise InputError(f"{path}: its weights do not fit the network of its recipe; get the file again, or the "
                         "version of posecascade that wrote it")
    for name, layer in weighted_layers(model).items():
        layer.set_weights([arrays[f"{name}/{i}"].astype(np.float32) for i in range(len(layer.weights))])
    return model, metadata


def load_metadata(path: Path | str) -> Metadata:
    """The metadata alone, after the same checks of the file as `load` makes. Raises InputError as it does."""
    return _read(file_of(path))[1]


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of the models in the folder."""
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
                      for name in archive.namelist() if name != MEMBER}
            value = json.loads(archive.read(MEMBER))
    except KeyError:
        raise InputError(f"{path}: has no {MEMBER}, so it is no model; give one of {', '.join(names())}") from None
    except files.DAMAGED as error:
        raise InputError(f"{path}: is damaged or no model ({first_line(error)}); get the file "
                         "again") from None
    return arrays, metadata_from(value, f"{path}: {MEMBER}")


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
    """One member whose bytes depend on its content alone: the same model gives the same file."""
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value)
        value = buffer.getvalue()
    archive.writestr(zipfile.ZipInfo(name), value, zipfile.ZIP_DEFLATED)
