"""Read and write a `.tflite` file that carries its keypoints' names, its metadata and a checksum of all its bytes.

The file is a model with TFLite's own metadata, followed by a ZIP of `posecascade.json`, `joints.txt` and, in a file of
maps, `decoder.tflite`; the usual tools read it. The ZIP's comment, the last bytes of the file, holds the SHA-256 of
everything before it.
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

from posecascade.errors import InputError, first_line
from posecascade.files import read_bytes
from posecascade.formats import tflite_metadata
from posecascade.formats.metadata import KEYPOINTS_FILE, METADATA_FILE
from posecascade.formats.tflite_graphs import IDENTIFIER, packed, unpacked
from posecascade.formats.tflite_metadata import DECODER_FILE

SUFFIX = ".tflite"
_MARK, _DIGITS = b"sha256:", 64


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        model: the .tflite model with TFLite's metadata, for an interpreter's `model_content`.
        metadata: the content of posecascade.json.
        keypoints: K names, in the order of the keypoint axis of every output.
        decoder: the .tflite model that turns this model's maps into keypoints; None if the file holds none.
    """

    model: bytes
    metadata: dict
    keypoints: tuple[str, ...]
    decoder: bytes | None = None


def to_bytes(model: bytes, *, metadata: Mapping, keypoints: Sequence[str], name: str, description: str, version: str,
             author: str, license: str, decoder: bytes | None = None) -> bytes:
    """Return the bytes of a file: a converter's `model`, its metadata, the names of its K keypoints, and its decoder.

    The same arguments give the same bytes. Raises ValueError for a model that has TFLite metadata already, does not
    fit the keypoints (`tflite_metadata.build`) or keeps options behind its flatbuffer, for metadata that are not JSON,
    and for a keypoint's name that is empty or has several lines.
    """
    if model[4:8] != IDENTIFIER:
        raise ValueError(f"the model begins with {model[:8]!r}, expected {IDENTIFIER!r} at byte 4")
    for keypoint in keypoints:
        if keypoint.splitlines() != [keypoint]:
            raise ValueError(f"keypoint {keypoint!r} is not a name of one line")
    tables = tflite_metadata.build(model, keypoints=keypoints, name=name, description=description, version=version,
                                   author=author, license=license, decoder=decoder is not None)
    files: dict[str, str | bytes] = {KEYPOINTS_FILE: "".join(f"{keypoint}\n" for keypoint in keypoints),
                                     METADATA_FILE: json.dumps(metadata, indent=2, allow_nan=False) + "\n"}
    if decoder is not None:
        files[DECODER_FILE] = decoder
    data = _with_files(_with_metadata(model, tables), files)
    return data + hashlib.sha256(data).hexdigest().encode()


def read(path: Path | str) -> Contents:
    """Return the contents of a file, after checking every byte against its checksum.

    Raises InputError for a missing, foreign, truncated or damaged file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such model file; give the path of a .tflite file")
    data = read_bytes(Path(path))
    _check(data, path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            end = min(entry.header_offset for entry in archive.infolist())
            metadata = json.loads(archive.read(METADATA_FILE))
            keypoints = tuple(archive.read(KEYPOINTS_FILE).decode().split("\n")[:-1])
            decoder = archive.read(DECODER_FILE) if DECODER_FILE in archive.namelist() else None
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path}: {METADATA_FILE} or {KEYPOINTS_FILE} cannot be read ({first_line(error)}); "
                         "export the model again") from None
    return Contents(data[:end], metadata, keypoints, decoder)


def _check(data, path):
    mark, expected = data[-len(_MARK) - _DIGITS:-_DIGITS], data[-_DIGITS:].decode("latin-1")
    if mark == _MARK and re.fullmatch("[0-9a-f]{64}", expected):
        actual = hashlib.sha256(data[:-_DIGITS]).hexdigest()
        if actual != expected:
            raise InputError(f"{path}: is damaged (its SHA-256 begins with {actual[:12]}, expected {expected[:12]}); "
                             "copy or download it again")
    elif METADATA_FILE.encode() in data:  # the metadata at the beginning name it, even if the ZIP at the end is missing
        raise InputError(f"{path}: is truncated or damaged (does not end with its checksum); copy or download it again")
    elif data[4:8] != IDENTIFIER:
        raise InputError(f"{path}: is not a .tflite file, or is truncated or damaged (has {data[4:8]!r} at byte 4, "
                         f"expected {IDENTIFIER!r}); give a model exported by posecascade, or copy or download it "
                         "again")
    else:
        raise InputError(f"{path}: has no {METADATA_FILE} and no checksum, so its keypoints are unknown; give a model "
                         "exported by posecascade (if it is one, it is truncated: copy or download it again)")


def _with_metadata(model, tables):
    """Return the model with one more buffer, which holds TFLite's metadata, and the entry that names it."""
    content = unpacked(model)
    if any(entry.name == tflite_metadata.ENTRY.encode() for entry in content.metadata or []):
        raise ValueError("the model has metadata already; pass the converter's output")
    if any(operator.largeCustomOptionsOffset for graph in content.subgraphs for operator in graph.operators):
        raise ValueError("the model keeps an operator's options behind its flatbuffer, which is not supported")
    for buffer in content.buffers:
        if buffer.offset > 1:  # AI Edge Quantizer puts its data behind the flatbuffer
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    entry = tflite.MetadataT(name=tflite_metadata.ENTRY, buffer=len(content.buffers))
    content.metadata = [*(content.metadata or []), entry]
    content.buffers.append(tflite.BufferT(data=np.frombuffer(tables, np.uint8)))
    return packed(content)


def _with_files(model, files):
    """Return the model followed by a ZIP of `files`, without the digits at the end of the ZIP's comment."""
    stream = io.BytesIO(model)
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # a fixed date: same model, same bytes
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(entry, content)  # stored, since readers on devices map it
        archive.comment = _MARK + b"0" * _DIGITS
    return stream.getvalue()[:-_DIGITS]
