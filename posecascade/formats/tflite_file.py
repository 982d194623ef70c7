"""A `.tflite` file that carries its joints, its sidecar and a checksum of all its bytes.

It is a model with TFLite's own metadata and their files in a ZIP behind it, so that the usual tools read it; the ZIP's
comment, the last bytes of the file, holds the SHA-256 of what is before.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as tflite

from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.formats import tflite_metadata
from posecascade.formats.tflite_graphs import IDENTIFIER, packed, unpacked
from posecascade.formats.tflite_metadata import DECODER_FILE, JOINTS, SIDECAR

SUFFIX = ".tflite"
_MARK, _DIGITS = b"sha256:", 64


@dataclass(frozen=True)
class Sealed:
    """What a sealed file holds.

    Attributes:
        model: the .tflite model, metadata included, for an interpreter's `model_content`.
        sidecar: the content of posecascade.json.
        joints: K names, the order of the joint axis of every output.
        decoder: the .tflite model that makes keypoints of this model's maps; None if the file holds none.
    """

    model: bytes
    sidecar: dict
    joints: tuple[str, ...]
    decoder: bytes | None = None


def seal(model: bytes, *, sidecar: Mapping, joints: Sequence[str], name: str, description: str, version: str,
         author: str, license: str, decoder: bytes | None = None) -> bytes:
    """The bytes of a sealed file: a converter's `model` with metadata, K `joints`, `sidecar` and its `decoder`, if any.

    The same arguments give the same bytes. Raises ValueError for a model that has such metadata already, does not fit
    the joints (`tflite_metadata.build`) or holds what this cannot move, for a sidecar that is no JSON, and for a
    joint's name that is empty or has several lines.
    """
    if model[4:8] != IDENTIFIER:
        raise ValueError(f"the model begins with {model[:8]!r}, expected {IDENTIFIER!r} at byte 4")
    for joint in joints:
        if joint.splitlines() != [joint]:
            raise ValueError(f"joint {joint!r} is not a name of one line")
    metadata = tflite_metadata.build(model, joints=joints, name=name, description=description, version=version,
                                     author=author, license=license, decoder=decoder is not None)
    files: dict[str, str | bytes] = {JOINTS: "".join(f"{joint}\n" for joint in joints),
                                     SIDECAR: json.dumps(sidecar, indent=2, allow_nan=False) + "\n"}
    if decoder is not None:
        files[DECODER_FILE] = decoder
    data = _with_files(_with_metadata(model, metadata), files)
    return data + hashlib.sha256(data).hexdigest().encode()


def unseal(path: Path | str) -> Sealed:
    """The contents of a sealed file, after its checksum has vouched for every byte.

    Raises InputError, in one line, for a missing, foreign, truncated or damaged file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such model file; give the path of a .tflite file")
    data = read_bytes(Path(path))
    _check(data, path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            end = min(entry.header_offset for entry in archive.infolist())
            sidecar = json.loads(archive.read(SIDECAR))
            joints = tuple(archive.read(JOINTS).decode().split("\n")[:-1])
            decoder = archive.read(DECODER_FILE) if DECODER_FILE in archive.namelist() else None
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path}: {SIDECAR} or {JOINTS} cannot be read ({' '.join(str(error).split())}); "
                         "export the model again") from None
    return Sealed(data[:end], sidecar, joints, decoder)


def _check(data, path):
    seal_, said = data[-len(_MARK) - _DIGITS:-_DIGITS], data[-_DIGITS:].decode("latin-1")
    if seal_ == _MARK and re.fullmatch("[0-9a-f]{64}", said):
        found = hashlib.sha256(data[:-_DIGITS]).hexdigest()
        if found != said:
            raise InputError(f"{path}: is damaged (its SHA-256 begins {found[:12]}, its seal says {said[:12]}); "
                             "copy or download it again")
    elif SIDECAR.encode() in data:  # one of ours: the metadata, near the beginning, name it as well as the ZIP
        raise InputError(f"{path}: is truncated or damaged (does not end with its seal); copy or download it again")
    elif data[4:8] != IDENTIFIER:
        raise InputError(f"{path}: is no .tflite file, or truncated or damaged (has {data[4:8]!r} at byte 4, expected "
                         f"{IDENTIFIER!r}); give a model exported by posecascade, or copy or download it again")
    else:
        raise InputError(f"{path}: has no {SIDECAR} and no seal, so its joints are unknown; give a model exported by "
                         "posecascade (if it is one, it was cut short: copy or download it again)")


def _with_metadata(model, metadata):
    """The model with one more buffer, which holds the metadata, and the entry that names it."""
    content = unpacked(model)
    if any(entry.name == tflite_metadata.ENTRY.encode() for entry in content.metadata or []):
        raise ValueError("the model has metadata already; seal what the converter gave")
    if any(operator.largeCustomOptionsOffset for graph in content.subgraphs for operator in graph.operators):
        raise ValueError("the model keeps an operator's options behind its flatbuffer; such a one cannot be sealed")
    for buffer in content.buffers:
        if buffer.offset > 1:  # its data are behind the flatbuffer, where AI Edge Quantizer puts them
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    entry = tflite.MetadataT(name=tflite_metadata.ENTRY, buffer=len(content.buffers))
    content.metadata = [*(content.metadata or []), entry]
    content.buffers.append(tflite.BufferT(data=np.frombuffer(metadata, np.uint8)))
    return packed(content)


def _with_files(model, files):
    """The model and a ZIP of `files` behind it, without the last digits of the ZIP's comment."""
    stream = io.BytesIO(model)
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # not the time of today: same model, same bytes
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # on every system as on Unix
            archive.writestr(entry, content)  # stored: the readers on devices map it
        archive.comment = _MARK + b"0" * _DIGITS
    return stream.getvalue()[:-_DIGITS]
