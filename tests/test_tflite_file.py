"""Exported .tflite files: the model runs as before, the contents are read back, and all damage is refused."""

import hashlib
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from small_tflite import (
    DESCRIPTION,
    KEYPOINTS,
    METADATA,
    SIDE,
    converted,
    repacked,
    tflite,
    to_bytes,
    unpacked,
    with_far_weights,
)

from posecascade.errors import InputError
from posecascade.formats import tflite_file

Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter


@pytest.fixture(scope="module")
def models():
    """Return converted models by name."""
    plain = converted("heatmaps")
    return {"float": plain, "int8": converted("heatmaps", quantized=True), "keypoints": converted("keypoints"),
            "far": with_far_weights(plain)}


@pytest.fixture(scope="module")
def good(models):
    """Return the bytes of a file."""
    return to_bytes(models["float"])


def message_of(path):
    with pytest.raises(InputError) as error:
        tflite_file.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def outputs_of(model, image):
    runner = Interpreter(model_content=model, num_threads=1).get_signature_runner()
    [name] = runner.get_input_details()
    return runner(**{name: image.astype(runner.get_input_details()[name]["dtype"])})


@pytest.mark.parametrize("name", ["float", "int8", "keypoints", "far"])
def test_file_runs_like_its_model_and_returns_its_contents(name, models, tmp_path, rng):
    data, path = to_bytes(models[name]), tmp_path / "m.tflite"
    path.write_bytes(data)
    contents = tflite_file.read(path)
    assert (contents.metadata, contents.keypoints) == (METADATA, KEYPOINTS)
    image = rng.integers(0, 256, (1, SIDE, SIDE, 3))
    expected = outputs_of(models[name], image)
    assert len(expected) == (3 if name == "keypoints" else 2)
    for model in (contents.model, data):  # an interpreter ignores the ZIP behind its model
        for output, value in outputs_of(model, image).items():
            np.testing.assert_array_equal(value, expected[output])
            assert len(np.unique(value)) > 3
    interpreter = Interpreter(model_path=str(path))
    assert list(interpreter.get_signature_list()) == list(Interpreter(model_content=models[name]).get_signature_list())


@pytest.mark.parametrize("name", ["float", "int8"])
def test_model_gains_one_buffer_and_its_entry(name, models, good):
    before, after = unpacked(models[name]), unpacked(to_bytes(models[name]))
    assert after.metadata[-1].name == b"TFLITE_METADATA"
    assert after.metadata[-1].buffer == len(before.buffers)
    assert b"min_runtime_version" in [entry.name for entry in before.metadata]
    after.metadata.pop()
    after.buffers.pop()
    assert repacked(before) == repacked(after)


@pytest.mark.parametrize("name", ["float", "int8", "far"])
def test_buffers_are_aligned(name, models):
    model = to_bytes(models[name])
    buffers = [buffer.data.tobytes() for buffer in unpacked(model).buffers if buffer.data is not None]
    assert len(buffers) > 3 and all(buffer.offset == 0 for buffer in unpacked(model).buffers)
    tables = [tflite.Model.GetRootAs(model).Buffers(i) for i in range(len(unpacked(model).buffers))]
    start = np.frombuffer(model, np.uint8).__array_interface__["data"][0]
    arrays = [table.DataAsNumpy() for table in tables if table.DataLength()]
    assert all((values.__array_interface__["data"][0] - start) % 16 == 0 for values in arrays)


def test_zip_holds_both_files_uncompressed(models, good, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(good)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["joints.txt", "posecascade.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("joints.txt").decode() == "left_wrist\nright_wrist\npelvis\nkopf_oben\nnœud\n"
        assert json.loads(archive.read("posecascade.json")) == METADATA
        assert archive.comment == b"sha256:" + hashlib.sha256(good[:-64]).hexdigest().encode()
    assert good.endswith(archive.comment)


def test_same_model_gives_same_bytes_on_another_day(models, good, tmp_path):
    (tmp_path / "plain.tflite").write_bytes(models["float"])
    program = ("import json, sys, time\nnow = time.time\ntime.time = lambda: now() + 1e7\n"
               "from posecascade.formats import tflite_file\n"
               "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
               "arguments = json.loads(sys.argv[1])\n"
               "open('out.tflite', 'wb').write(tflite_file.to_bytes(open('plain.tflite', 'rb').read(), **arguments))")
    arguments = json.dumps({"metadata": METADATA, "keypoints": KEYPOINTS} | DESCRIPTION)
    subprocess.run([sys.executable, "-c", program, arguments], check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "out.tflite").read_bytes() == good


def test_truncated_file_is_refused(good, tmp_path):
    path = tmp_path / "cut.tflite"
    lengths = {*range(0, len(good), len(good) // 60), *range(len(good) - 100, len(good), 3), 4, 7, 8, 9}
    for length in sorted(lengths):
        path.write_bytes(good[:length])
        assert "copy or download it again" in message_of(path)
    assert message_of(path) == "is truncated or damaged (does not end with its checksum); copy or download it again"


def test_flipped_bit_is_refused(models, good, tmp_path, rng):
    path, end = tmp_path / "flipped.tflite", good.index(b"PK\3\4")
    directory, comment = good.index(b"PK\1\2"), len(good) - 71
    regions = {"header": (0, 8), "root and metadata": (8, end - len(models["float"]) - 16),
               "model": (end - len(models["float"]), end), "zip": (end, directory), "directory": (directory, comment),
               "comment": (comment, len(good))}
    for start, stop in regions.values():
        for position in np.unique(np.linspace(start, stop - 1, 16).astype(int)):
            flipped = bytearray(good)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            assert "damaged" in message_of(path)


@pytest.mark.parametrize("change", [lambda data: data + b"\n", lambda data: data[:99] + data[100:],
                                    lambda data: data[:-71] + data[-71:].upper(),
                                    lambda data: data[:500] + b"\0" * 500 + data[1000:]],
                         ids=["longer", "a byte less", "capitals", "a hole"])
def test_other_damage_is_refused(change, good, tmp_path):
    path = tmp_path / "changed.tflite"
    path.write_bytes(change(good))
    assert "damaged" in message_of(path)


def test_missing_or_foreign_file_is_refused(models, good, tmp_path):
    path = tmp_path / "m.tflite"
    assert message_of(path) == "no such model file; give the path of a .tflite file"
    path.write_bytes(b"no model at all")
    assert message_of(path) == (
        "is not a .tflite file, or is truncated or damaged (has b'odel' at byte 4, expected b'TFL3'); give a model "
        "exported by posecascade, or copy or download it again")
    path.write_bytes(models["float"])
    assert message_of(path) == (
        "has no posecascade.json and no checksum, so its keypoints are unknown; give a model exported by posecascade "
        "(if it is one, it is truncated: copy or download it again)")
    data = good[:-64].replace(b"joints.txt", b"points.txt")  # a valid checksum of other contents
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())
    assert message_of(path).startswith("posecascade.json or joints.txt cannot be read (")
    path.write_bytes(good)
    damaged = bytearray(good)
    damaged[200] ^= 4
    path.write_bytes(damaged)
    actual, expected = hashlib.sha256(damaged[:-64]).hexdigest(), good[-64:].decode()
    assert message_of(path) == (f"is damaged (its SHA-256 begins with {actual[:12]}, expected {expected[:12]}); copy "
                                "or download it again")


def renamed(model, old, new):
    model = unpacked(model)
    for signature in model.signatureDefs:
        for entry in (*signature.inputs, *signature.outputs):
            entry.name = new if entry.name == old else entry.name
    return repacked(model)


def without_signature(model):
    model = unpacked(model)
    model.signatureDefs = None
    return repacked(model)


def with_another_tensor(model):
    """Return the model as AI Edge Quantizer leaves it if an output is used inside: with another tensor of that name."""
    model = unpacked(model)
    model.signatureDefs[0].outputs[0].tensorIndex = int(model.subgraphs[0].inputs[0])
    return repacked(model)


def with_far_options(model):
    model = unpacked(model)
    model.subgraphs[0].operators[0].largeCustomOptionsOffset = 4096
    return repacked(model)


@pytest.mark.parametrize(("model", "changes", "message"), [
    (lambda data: data[:4] + b"XXXX" + data[8:], {}, "expected b'TFL3' at byte 4"),
    (lambda data: to_bytes(data), {}, "has metadata already"),
    (without_signature, {}, "has no signature"),
    (with_another_tensor, {}, "a quantizer lost an output"),
    (with_far_options, {}, "options behind its flatbuffer"),
    (lambda data: renamed(data, b"parts", b"pieces"), {}, "output 'pieces' is unknown; the names are parts, heatmaps"),
    (lambda data: data, {"keypoints": KEYPOINTS[:4]}, r"shape \(1, 8, 8, 5\), expected .* with 4 keypoints"),
    (lambda data: data, {"keypoints": (*KEYPOINTS[:4], "two\nlines")}, "not a name of one line"),
    (lambda data: data, {"keypoints": (*KEYPOINTS[:4], "")}, "not a name of one line"),
    (lambda data: data, {"metadata": {"pck": float("nan")}}, "JSON compliant"),
])
def test_invalid_model_or_metadata_is_refused(model, changes, message, models):
    with pytest.raises(ValueError, match=message):
        to_bytes(model(models["float"]), **changes)
