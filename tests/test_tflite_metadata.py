"""TFLite's metadata in a model, read here field by field after the schema, and by `tflite_metadata.read`."""

import struct

import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from small_tflite import DESCRIPTION, converted, repacked, tflite, to_bytes, unpacked

from posecascade.formats import tflite_metadata

Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter


@pytest.fixture(scope="module")
def models():
    """Return converted models by name."""
    return {"float": converted("heatmaps"), "int8": converted("heatmaps", quantized=True),
            "keypoints": converted("keypoints")}


# A reader of single fields: `at(table, n)` is the table in field n of metadata_schema.fbs.


def position(table, number):
    offset = table.Offset(4 + 2 * number)
    assert offset, f"field {number} is absent"
    return table.Pos + offset


def at(table, number):
    return Table(table.Bytes, table.Indirect(position(table, number)))


def text(table, number):
    return table.String(position(table, number)).decode()


def byte(table, number):
    return table.Get(number_types.Uint8Flags, position(table, number))


def positions(table, number):
    start = table.Indirect(position(table, number)) + 4
    count, = struct.unpack_from("<I", table.Bytes, start - 4)
    return [start + 4 * i for i in range(count)]


def tables(table, number):
    return [Table(table.Bytes, table.Indirect(start)) for start in positions(table, number)]


def floats(table, number):
    return [struct.unpack_from("<f", table.Bytes, start)[0] for start in positions(table, number)]


def strings(table, number):
    return [table.String(start).decode() for start in positions(table, number)]


def metadata_root(model):
    root = tflite.Model.GetRootAs(model)
    data = root.Buffers(root.Metadata(root.MetadataLength() - 1).Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return Table(data, *struct.unpack_from("<I", data))


@pytest.mark.parametrize(("name", "ranged"), [("float", ["parts"]), ("int8", ["parts"]),
                                              ("keypoints", ["scores", "visibility"])])
def test_metadata_follow_the_schema(name, ranged, models):
    model = to_bytes(models[name])
    root = metadata_root(model)
    assert [text(root, n) for n in (0, 1, 2, 4, 5)] == list(DESCRIPTION.values())  # 3: subgraph_metadata
    assert text(root, 7) == "1.0.0"
    [file] = tables(root, 6)
    assert (text(file, 0), byte(file, 2)) == ("posecascade.json", 1)  # DESCRIPTIONS
    [subgraph] = tables(root, 3)
    assert (text(subgraph, 0), text(subgraph, 1)) == (DESCRIPTION["name"], DESCRIPTION["description"])

    [image] = tables(subgraph, 2)
    assert text(image, 0) == "image"
    assert "values 0 to 255" in text(image, 1)
    assert strings(image, 2) == ["batch", "y", "x", "channel"]
    content = at(image, 3)
    assert byte(content, 0) == 2  # ImageProperties
    assert byte(at(content, 1), 0) == 1  # RGB
    [unit] = tables(image, 4)
    assert byte(unit, 0) == 1  # NormalizationOptions
    assert (floats(at(unit, 1), 0), floats(at(unit, 1), 1)) == ([0], [1])
    assert (floats(at(image, 5), 0), floats(at(image, 5), 1)) == ([255], [0])  # max, min

    interpreter = Interpreter(model_content=model)
    runner = interpreter.get_signature_runner()
    index_of = {output: details["index"] for output, details in runner.get_output_details().items()}
    outputs = tables(subgraph, 3)
    assert [index_of[text(output, 0)] for output in outputs] == \
        [details["index"] for details in interpreter.get_output_details()]
    for output in outputs:
        assert text(output, 1).startswith("(1, ")
        assert len(strings(output, 2)) == len(runner.get_output_details()[text(output, 0)]["shape"])
        assert byte(at(output, 3), 0) == 1  # FeatureProperties
        [labels] = tables(output, 6)
        assert (text(labels, 0), byte(labels, 2)) == ("joints.txt", 2)  # TENSOR_AXIS_LABELS
        if text(output, 0) in ranged:
            assert (floats(at(output, 5), 0), floats(at(output, 5), 1)) == ([1], [0])
        else:
            assert not output.Offset(4 + 2 * 5)


def test_read_returns_the_metadata_by_the_names_of_the_schema(models):
    metadata = tflite_metadata.read(to_bytes(models["float"]))
    assert {key: metadata[key] for key in DESCRIPTION} == DESCRIPTION
    assert list(metadata) == ["name", "description", "version", "subgraph_metadata", "author", "license",
                           "associated_files", "min_parser_version"]
    [subgraph] = metadata["subgraph_metadata"]
    [image] = subgraph["input_tensor_metadata"]
    assert image["content"] == {"content_properties": {"ImageProperties": {"color_space": "RGB"}}}
    assert image["process_units"] == [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [1.0]}}}]
    by_name = {output["name"]: output for output in subgraph["output_tensor_metadata"]}
    assert by_name["parts"]["stats"] == {"max": [1.0], "min": [0.0]}
    assert by_name["heatmaps"]["content"] == {"content_properties": {"FeatureProperties": {}}}
    assert [file["type"] for file in by_name["heatmaps"]["associated_files"]] == ["TENSOR_AXIS_LABELS"]


def test_outputs_have_the_order_of_the_main_subgraph(models):
    def names(model):
        [subgraph] = tflite_metadata.read(to_bytes(model))["subgraph_metadata"]
        return [output["name"] for output in subgraph["output_tensor_metadata"]]

    reversed_model = unpacked(models["float"])
    reversed_model.subgraphs[0].outputs = reversed_model.subgraphs[0].outputs[::-1].copy()
    assert names(repacked(reversed_model)) == names(models["float"])[::-1]


def test_model_without_metadata_is_refused(models):
    with pytest.raises(ValueError, match="has no metadata"):
        tflite_metadata.read(models["float"])
