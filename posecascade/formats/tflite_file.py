"""A `.tflite` file that carries its joints, its sidecar and a checksum of all its bytes.

It is a model with TFLite's own metadata and their files in a ZIP behind it, so that the usual tools read it; the ZIP's
comment, the last bytes of the file, holds the SHA-256 of what is before.
"""

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as tflite
from flatbuffers import number_types
from flatbuffers.table import Table

from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.formats import tflite_metadata
from posecascade.formats.tflite_graphs import IDENTIFIER
from posecascade.formats.tflite_metadata import DECODER_FILE, JOINTS, SIDECAR

SUFFIX = ".tflite"
_MARK, _DIGITS = b"sha256:", 64
_ALIGNMENT = 16  # bytes; the schema's force_align of what a buffer holds
# The fields of the schema's table Model: `version` is a number, all others lie elsewhere and are pointed at.
_VERSION, _BUFFERS, _METADATA, _MODEL_FIELDS = 0, 4, 6, 10


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
    """The model with one more buffer, and the entry that names it.

    Unpacking and packing the whole would lose the alignment of the buffers, and any field that the schema here does
    not know. So the model stays as it is, byte for byte and at a multiple of 16, and gets a new root before it that
    points into it: a flatbuffer's offsets point forward, as far as they like.
    """
    root, known = _root(model), tflite.Model.GetRootAs(model)
    builder = flatbuffers.Builder(len(model) + len(metadata) + 4096)
    start = _blob(builder, model)  # builders count from the end: what is at p in the model has offset start - p
    data = _blob(builder, metadata)
    buffer = _table(builder, [(builder.PrependUOffsetTRelativeSlot, 0, data + 4)])  # a vector begins at its length
    name = builder.CreateString(tflite_metadata.ENTRY)
    places = {field: start - place for field, place in _pointed_at(root)}
    buffers = [start - place for place in _listed(root, _BUFFERS)]
    far = {}
    for index in _far(known):
        buffers[index], far[index] = _far_buffer(builder, known.Buffers(index))
    entry = _table(builder, [(builder.PrependUOffsetTRelativeSlot, 0, name),
                             (builder.PrependUint32Slot, 1, len(buffers))])
    places[_BUFFERS] = _vector(builder, [*buffers, buffer])
    places[_METADATA] = _vector(builder, [*(start - place for place in _listed(root, _METADATA)), entry])
    builder.Finish(_table(builder, [
        (builder.PrependUint32Slot, _VERSION, known.Version()),
        *((builder.PrependUOffsetTRelativeSlot, field, place) for field, place in places.items())]), IDENTIFIER)
    packed = builder.Output()
    for index, number in far.items():
        position = known.Buffers(index).Offset() + len(packed) - start
        struct.pack_into("<Q", packed, len(packed) - number, position)
    return bytes(packed)


def _far(model):
    """Indices of the buffers whose content lies at an absolute position behind the flatbuffer (AI Edge Quantizer)."""
    return [index for index in range(model.BuffersLength()) if model.Buffers(index).Offset() > 1]


def _far_buffer(builder, buffer):
    """Write the table of such a buffer; its offset, and that of its position, which is known when all is packed."""
    builder.StartObject(3)
    builder.PrependUint64Slot(2, buffer.Size(), 0)
    builder.PrependUint64Slot(1, buffer.Offset(), 0)
    position = builder.Offset()
    return builder.EndObject(), position


def _root(model):
    """The table Model at the root; ValueError where it holds what a new root would lose or misplace."""
    known = tflite.Model.GetRootAs(model)
    if any(known.Metadata(i).Name() == tflite_metadata.ENTRY.encode() for i in range(known.MetadataLength())):
        raise ValueError("the model has metadata already; seal what the converter gave")
    for subgraph in map(known.Subgraphs, range(known.SubgraphsLength())):
        if any(subgraph.Operators(i).LargeCustomOptionsOffset() for i in range(subgraph.OperatorsLength())):
            raise ValueError("the model keeps an operator's options behind its flatbuffer; such a one cannot be sealed")
    root = Table(model, 0)
    root.Pos = root.Indirect(0)
    vtable = root.Pos - root.Get(number_types.SOffsetTFlags, root.Pos)
    fields = root.Get(number_types.VOffsetTFlags, vtable) // 2 - 2
    if fields > _MODEL_FIELDS:
        raise ValueError(f"the model's root has {fields} fields, {_MODEL_FIELDS} are known; the format has grown")
    return root


def _pointed_at(root):
    """(field, position) of what each field of the root but the version points at."""
    return [(field, root.Indirect(root.Pos + place)) for field in range(_MODEL_FIELDS)
            if field != _VERSION and (place := root.Offset(4 + 2 * field))]


def _listed(root, field):
    """Positions of the tables in the root's vector `field`."""
    place = root.Offset(4 + 2 * field)
    return [root.Indirect(root.Vector(place) + 4 * i) for i in range(root.VectorLen(place))] if place else []


def _blob(builder, data):
    """Write a vector of bytes, aligned; the offset of its first byte."""
    builder.StartVector(1, len(data), _ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head:builder.head + len(data)] = data
    return builder.EndVector() - 4


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _table(builder, fields):
    builder.StartObject(_MODEL_FIELDS)  # room for the largest; a builder cuts what is not used
    for write, field, value in fields:
        write(field, value, 0)
    return builder.EndObject()


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
