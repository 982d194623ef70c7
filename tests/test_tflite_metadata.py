"""TFLite's metadata in a model, read by hand after the schema, and by the package's own reader."""

import struct

import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from small_tflite import TOLD, converted, repacked, seal, tflite, unpacked

from posecascade.formats import tflite_metadata

Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter


@pytest.fixture(scope="module")
def models():
    """Converted models by name."""
    return {"float": converted("heatmaps"), "int8": converted("heatmaps", quantized=True),
            "keypoints": converted("keypoints")}


# The metadata read by hand: `at(table, n)` goes to field number n of metadata_schema.fbs.


def place(table, number):
    offset = table.Offset(4 + 2 * number)
    assert offset, f"field {number} is absent"
    return table.Pos + offset


def at(table, number):
    return Table(table.Bytes, table.Indirect(place(table, number)))


def text(table, number):
    return table.String(place(table, number)).decode()


def byte(table, number):
    return table.Get(number_types.Uint8Flags, place(table, number))


def places(table, number):
    start = table.Indirect(place(table, number)) + 4
    count, = struct.unpack_from("<I", table.Bytes, start - 4)
    return [start + 4 * i for i in range(count)]


def tables(table, number):
    return [Table(table.Bytes, table.Indirect(position)) for position in places(table, number)]


def floats(table, number):
    return [struct.unpack_from("<f", table.Bytes, position)[0] for position in places(table, number)]


def strings(table, number):
    return [table.String(position).decode() for position in places(table, number)]


def metadata_root(model):
    root = tflite.Model.GetRootAs(model)
    data = root.Buffers(root.Metadata(root.MetadataLength() - 1).Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return Table(data, *struct.unpack_from("<I", data))


@pytest.mark.parametrize(("name", "ranged"), [("float", ["parts"]), ("int8", ["parts"]),
                                              ("keypoints", ["scores", "visibility"])])
def test_another_hand_reads_the_metadata(name, ranged, models):
    model = seal(models[name])
    root = metadata_root(model)
    assert [text(root, n) for n in (0, 1, 2, 4, 5)] == list(TOLD.values())  # 3: subgraph_metadata
    assert text(root, 7) == "1.0.0"
    [file] = tables(root, 6)
    assert (text(file, 0), byte(file, 2)) == ("posecascade.json", 1)  # DESCRIPTIONS
    [subgraph] = tables(root, 3)
    assert (text(subgraph, 0), text(subgraph, 1)) == (TOLD["name"], TOLD["description"])

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
    assert (floats(at(image, 5), 0), floats(at(image, 5), 1)) == ([255], [0])  # greatest, least

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


def test_the_own_reader_gives_the_metadata_by_the_names_of_the_schema(models):
    found = tflite_metadata.read(seal(models["float"]))
    assert {key: found[key] for key in TOLD} == TOLD
    assert list(found) == ["name", "description", "version", "subgraph_metadata", "author", "license",
                           "associated_files", "min_parser_version"]
    [subgraph] = found["subgraph_metadata"]
    [image] = subgraph["input_tensor_metadata"]
    assert image["content"] == {"content_properties": {"ImageProperties": {"color_space": "RGB"}}}
    assert image["process_units"] == [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [1.0]}}}]
    by_name = {output["name"]: output for output in subgraph["output_tensor_metadata"]}
    assert by_name["parts"]["stats"] == {"max": [1.0], "min": [0.0]}
    assert by_name["heatmaps"]["content"] == {"content_properties": {"FeatureProperties": {}}}
    assert [file["type"] for file in by_name["heatmaps"]["associated_files"]] == ["TENSOR_AXIS_LABELS"]


def test_the_order_is_the_main_subgraph_s_and_not_the_signature_s(models):
    def names(model):
        [subgraph] = tflite_metadata.read(seal(model))["subgraph_metadata"]
        return [output["name"] for output in subgraph["output_tensor_metadata"]]

    turned = unpacked(models["float"])
    turned.subgraphs[0].outputs = turned.subgraphs[0].outputs[::-1].copy()
    assert names(repacked(turned)) == names(models["float"])[::-1]


def test_a_model_without_metadata_has_none_to_read(models):
    with pytest.raises(ValueError, match="has no metadata"):
        tflite_metadata.read(models["float"])
