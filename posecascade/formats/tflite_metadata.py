"""Write and read TFLite's official metadata, which describe a model's tensors to other tools.

The encoding is written here after the public schema, since the package that does it has no wheels for Python 3.12 and
later.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flatbuffers
from ai_edge_litert import schema_py_generated as tflite
from flatbuffers import number_types
from flatbuffers.table import Table

from posecascade.formats.metadata import KEYPOINTS_FILE, METADATA_FILE

ENTRY = "TFLITE_METADATA"  # the name of its entry among the model's metadata
IDENTIFIER = b"M001"
DECODER_FILE = "decoder.tflite"

# The part of the schema (google-ai-edge/mediapipe, mediapipe/tasks/metadata/metadata_schema.fbs) that is used here.
# A field's number is its position, so unused fields are listed too, up to the last used one. A str is a string, a float
# or a table, a list a vector, a tuple an enumeration from 0, and a dict a union, which takes two numbers.
_FILE_TYPE = ("UNKNOWN", "DESCRIPTIONS", "TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS", "TENSOR_AXIS_SCORE_CALIBRATION")
_TABLES = {
    "ModelMetadata": {"name": "string", "description": "string", "version": "string",
                      "subgraph_metadata": ["SubGraphMetadata"], "author": "string", "license": "string",
                      "associated_files": ["AssociatedFile"], "min_parser_version": "string"},
    "SubGraphMetadata": {"name": "string", "description": "string", "input_tensor_metadata": ["TensorMetadata"],
                         "output_tensor_metadata": ["TensorMetadata"], "associated_files": ["AssociatedFile"]},
    "TensorMetadata": {"name": "string", "description": "string", "dimension_names": ["string"], "content": "Content",
                       "process_units": ["ProcessUnit"], "stats": "Stats", "associated_files": ["AssociatedFile"]},
    "Content": {"content_properties": {1: "FeatureProperties", 2: "ImageProperties"}},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": ("UNKNOWN", "RGB", "GRAYSCALE")},
    "ProcessUnit": {"options": {1: "NormalizationOptions"}},
    "NormalizationOptions": {"mean": ["float"], "std": ["float"]},
    "Stats": {"max": ["float"], "min": ["float"]},
    "AssociatedFile": {"name": "string", "description": "string", "type": _FILE_TYPE},
}


class _Output(NamedTuple):
    """Describe an output; `range` holds its minimum and maximum, None if they are unknown."""

    description: str
    dimensions: tuple[str, ...]
    range: tuple[float, float] | None = None


_MAPS = ("batch", "y", "x", "joint")
OUTPUTS = {
    "parts": _Output("(1, h, w, K): the part detector's confidence in each joint, 0 to 1", _MAPS, (0, 1)),
    "heatmaps": _Output("(1, h, w, K): one confidence map per joint; the joint is where its map is highest", _MAPS),
    "keypoints": _Output("(1, K, 2): x, y of each joint in pixels of the input, whose centers are at integers",
                         ("batch", "joint", "x_y")),
    "scores": _Output("(1, K): confidence in each joint, 0 to 1", ("batch", "joint"), (0, 1)),
    "visibility": _Output("(1, K): the detector's confidence at each joint, 0 to 1; if low, it is probably occluded",
                          ("batch", "joint"), (0, 1)),
}


def build(model: bytes, *, keypoints: Sequence[str], name: str, description: str, version: str, author: str,
          license: str, decoder: bool = False) -> bytes:
    """Return the metadata flatbuffer of a .tflite `model`.

    Its inputs are one image, or maps among OUTPUTS; its outputs are any of OUTPUTS. Tensors are named as in the model's
    signature and listed in the order of its main subgraph. With `decoder`, DECODER_FILE is listed among the files that
    come with the model.

    Raises ValueError for a model without signature, for a signature of other tensors than the main subgraph's, and for
    tensors of other names, or of other shapes for K `keypoints`.
    """
    inputs, outputs = _tensors(model)
    takes_maps = all(name in OUTPUTS for name, _ in inputs)
    if not takes_maps and (len(inputs) != 1 or len(inputs[0][1]) != 4 or inputs[0][1][3] != 3):
        raise ValueError(f"the model takes {dict(inputs)}, expected one image of shape (1, height, width, 3)")
    files = [{"name": METADATA_FILE, "description": "How the model was made, and what is needed to use it, as JSON.",
              "type": "DESCRIPTIONS"}]
    if decoder:
        files.append({"name": DECODER_FILE, "type": "UNKNOWN",
                      "description": "A model that makes keypoints, scores and visibility of the maps."})
    subgraph = {"name": name, "description": description,
                "input_tensor_metadata": [_output(name, shape, len(keypoints)) if takes_maps else _image(name)
                                          for name, shape in inputs],
                "output_tensor_metadata": [_output(output, shape, len(keypoints)) for output, shape in outputs]}
    return _finished({
        "name": name, "description": description, "version": version, "subgraph_metadata": [subgraph],
        "author": author, "license": license, "associated_files": files,
        "min_parser_version": "1.0.0"})  # what metadata_version.cc computes for these fields


def read(model: bytes) -> dict:
    """Return what `build` wrote into a .tflite file: a dictionary with the schema's names, nested like its tables.

    The value of an enumeration is a name, that of a union a dictionary from the table's name to the table. Fields that
    are not written, and those that `build` never writes, are absent. Raises ValueError for a model without metadata.
    """
    root = tflite.Model.GetRootAs(model)
    for entry in map(root.Metadata, range(root.MetadataLength())):
        if entry.Name() == ENTRY.encode():
            data = root.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            if data[4:8] != IDENTIFIER:
                raise ValueError(f"the model's metadata begin with {data[4:8]!r}, expected {IDENTIFIER!r}")
            table = Table(data, 0)
            table.Pos = table.Indirect(0)
            return _unpacked("ModelMetadata", table)
    raise ValueError(f"the model has no metadata ({ENTRY})")


def _tensors(model):
    """Return (name in the signature, shape) of all inputs, and of all outputs, in the order of the main subgraph."""
    root = tflite.Model.GetRootAs(model)
    subgraph = root.Subgraphs(0)
    for signature in map(root.SignatureDefs, range(root.SignatureDefsLength())):
        if signature.SubgraphIndex() == 0:
            break
    else:
        raise ValueError("the model's main subgraph has no signature; convert it from a function with one")

    def listed(order, maps, count):
        names = {entry.TensorIndex(): entry.Name().decode() for entry in map(maps, range(count))}
        if names.keys() != set(order.tolist()):  # interpreters reuse the memory of tensors that are not outputs
            raise ValueError(f"the signature names the tensors {sorted(names)}, the main subgraph gives "
                             f"{sorted(order.tolist())}; a quantizer lost an output that is used inside the model too")
        return [(names[index], tuple(subgraph.Tensors(index).ShapeAsNumpy().tolist())) for index in order.tolist()]

    return (listed(subgraph.InputsAsNumpy(), signature.Inputs, signature.InputsLength()),
            listed(subgraph.OutputsAsNumpy(), signature.Outputs, signature.OutputsLength()))


def _image(name):
    return {
        "name": name,
        "description": "(1, height, width, 3): an RGB image, values 0 to 255; the model itself scales them",
        "dimension_names": ["batch", "y", "x", "channel"],
        "content": {"content_properties": {"ImageProperties": {"color_space": "RGB"}}},
        "process_units": [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [1.0]}}}],
        "stats": {"max": [255.0], "min": [0.0]},
    }


def _output(name, shape, count):
    if name not in OUTPUTS:
        raise ValueError(f"output {name!r} is unknown; the names are {', '.join(OUTPUTS)}")
    description, dimensions, limits = OUTPUTS[name]
    if len(shape) != len(dimensions) or shape[dimensions.index("joint")] != count:
        raise ValueError(f"output {name!r} has shape {shape}, expected {dimensions} with {count} keypoints")
    stats = {"stats": {"max": [float(limits[1])], "min": [float(limits[0])]}} if limits else {}
    return {
        "name": name, "description": description, "dimension_names": list(dimensions),
        "content": {"content_properties": {"FeatureProperties": {}}}, **stats,
        "associated_files": [{"name": KEYPOINTS_FILE, "description": "Names along the axis 'joint', one per line.",
                              "type": "TENSOR_AXIS_LABELS"}],
    }


# Tables to and from bytes, as _TABLES defines them.


def _finished(value):
    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack(builder, "ModelMetadata", value), IDENTIFIER)
    return bytes(builder.Output())


def _fields(table):
    """Yield (name, number, kind) of each field."""
    number = 0
    for name, kind in _TABLES[table].items():
        yield name, number, kind
        number += 2 if isinstance(kind, dict) else 1


def _pack(builder, table, value):
    """Write a table, after everything it points at; return its offset."""
    written = []
    for name, number, kind in _fields(table):
        if name not in value:
            continue
        if isinstance(kind, tuple):
            written.append((builder.PrependInt8Slot, number, kind.index(value[name])))
        elif isinstance(kind, dict):
            [(member, content)] = value[name].items()
            [code] = [code for code, known in kind.items() if known == member]
            written.append((builder.PrependUint8Slot, number, code))
            written.append((builder.PrependUOffsetTRelativeSlot, number + 1, _pack(builder, member, content)))
        else:
            offset = _pack_vector(builder, kind[0], value[name]) if isinstance(kind, list) else \
                _pack_item(builder, kind, value[name])
            written.append((builder.PrependUOffsetTRelativeSlot, number, offset))
    builder.StartObject(sum(2 if isinstance(kind, dict) else 1 for kind in _TABLES[table].values()))
    for write, number, content in written:
        write(number, content, 0)
    return builder.EndObject()


def _pack_item(builder, kind, value):
    return builder.CreateString(value) if kind == "string" else _pack(builder, kind, value)


def _pack_vector(builder, kind, values):
    write, items = (builder.PrependFloat32, values) if kind == "float" else \
        (builder.PrependUOffsetTRelative, [_pack_item(builder, kind, value) for value in values])
    builder.StartVector(4, len(items), 4)  # floats and offsets both take four bytes
    for item in reversed(items):
        write(item)
    return builder.EndVector()


def _unpacked(name, table):
    value = {}
    for field, number, kind in _fields(name):
        position = table.Offset(4 + 2 * number)  # a vtable begins with two sizes of two bytes
        if not position:
            continue
        if isinstance(kind, tuple):
            value[field] = kind[table.Get(number_types.Int8Flags, table.Pos + position)]
        elif isinstance(kind, dict):
            member = kind[table.Get(number_types.Uint8Flags, table.Pos + position)]
            position = table.Pos + table.Offset(4 + 2 * (number + 1))
            value[field] = {member: _unpacked_item(member, table, position)}
        elif isinstance(kind, list):
            start = table.Vector(position)
            value[field] = [_unpacked_item(kind[0], table, start + 4 * i) for i in range(table.VectorLen(position))]
        else:
            value[field] = _unpacked_item(kind, table, table.Pos + position)
    return value


def _unpacked_item(kind, table, position):
    if kind == "float":
        return table.Get(number_types.Float32Flags, position)
    if kind == "string":
        return table.String(position).decode()
    return _unpacked(kind, Table(table.Bytes, table.Indirect(position)))
