"""Sealed .tflite files: they run as before, give back what was put in, and no damage passes."""

import hashlib
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from small_tflite import JOINTS, SIDE, SIDECAR, TOLD, converted, repacked, seal, tflite, unpacked, with_far_weights

from posecascade.errors import InputError
from posecascade.formats import tflite_file

Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter


@pytest.fixture(scope="module")
def models():
    """Converted models by name."""
    plain = converted("heatmaps")
    return {"float": plain, "int8": converted("heatmaps", quantized=True), "keypoints": converted("keypoints"),
            "far": with_far_weights(plain)}


@pytest.fixture(scope="module")
def good(models):
    """The bytes of a sealed file."""
    return seal(models["float"])


def message_of(path):
    with pytest.raises(InputError) as error:
        tflite_file.unseal(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def outputs_of(model, image):
    runner = Interpreter(model_content=model, num_threads=1).get_signature_runner()
    [name] = runner.get_input_details()
    return runner(**{name: image.astype(runner.get_input_details()[name]["dtype"])})


@pytest.mark.parametrize("name", ["float", "int8", "keypoints", "far"])
def test_a_sealed_model_runs_as_before_and_gives_back_what_was_put_in(name, models, tmp_path, rng):
    data, path = seal(models[name]), tmp_path / "m.tflite"
    path.write_bytes(data)
    found = tflite_file.unseal(path)
    assert (found.sidecar, found.joints) == (SIDECAR, JOINTS)
    image = rng.integers(0, 256, (1, SIDE, SIDE, 3))
    expected = outputs_of(models[name], image)
    assert len(expected) == (3 if name == "keypoints" else 2)
    for model in (found.model, data):  # an interpreter minds no ZIP behind its model
        for output, value in outputs_of(model, image).items():
            np.testing.assert_array_equal(value, expected[output])
            assert len(np.unique(value)) > 3
    interpreter = Interpreter(model_path=str(path))
    assert list(interpreter.get_signature_list()) == list(Interpreter(model_content=models[name]).get_signature_list())


@pytest.mark.parametrize("name", ["float", "int8"])
def test_the_model_inside_is_the_same_but_for_one_buffer_and_its_entry(name, models, good):
    was, now = unpacked(models[name]), unpacked(seal(models[name]))
    assert now.metadata[-1].name == b"TFLITE_METADATA"
    assert now.metadata[-1].buffer == len(was.buffers)
    assert b"min_runtime_version" in [entry.name for entry in was.metadata]
    now.metadata.pop()
    now.buffers.pop()
    assert repacked(was) == repacked(now)


@pytest.mark.parametrize("name", ["float", "int8", "far"])
def test_what_a_buffer_holds_is_aligned(name, models):
    model = seal(models[name])
    buffers = [buffer.data.tobytes() for buffer in unpacked(model).buffers if buffer.data is not None]
    assert len(buffers) > 3 and all(buffer.offset == 0 for buffer in unpacked(model).buffers)
    places = [tflite.Model.GetRootAs(model).Buffers(i) for i in range(len(unpacked(model).buffers))]
    start = np.frombuffer(model, np.uint8).__array_interface__["data"][0]
    found = [place.DataAsNumpy() for place in places if place.DataLength()]
    assert all((values.__array_interface__["data"][0] - start) % 16 == 0 for values in found)


def test_the_zip_behind_the_model_holds_both_files_stored(models, good, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(good)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["joints.txt", "posecascade.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("joints.txt").decode() == "left_wrist\nright_wrist\npelvis\nkopf_oben\nnœud\n"
        assert json.loads(archive.read("posecascade.json")) == SIDECAR
        assert archive.comment == b"sha256:" + hashlib.sha256(good[:-64]).hexdigest().encode()
    assert good.endswith(archive.comment)


def test_the_same_model_gives_the_same_bytes_on_another_day(models, good, tmp_path):
    (tmp_path / "plain.tflite").write_bytes(models["float"])
    program = ("import json, sys, time\nnow = time.time\ntime.time = lambda: now() + 1e7\n"
               "from posecascade.formats import tflite_file\n"
               "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
               "arguments = json.loads(sys.argv[1])\n"
               "open('sealed.tflite', 'wb').write(tflite_file.seal(open('plain.tflite', 'rb').read(), **arguments))")
    arguments = json.dumps({"sidecar": SIDECAR, "joints": JOINTS} | TOLD)
    subprocess.run([sys.executable, "-c", program, arguments], check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "sealed.tflite").read_bytes() == good


def test_a_truncated_file_is_refused_whatever_its_length(good, tmp_path):
    path = tmp_path / "cut.tflite"
    lengths = {*range(0, len(good), len(good) // 60), *range(len(good) - 100, len(good), 3), 4, 7, 8, 9}
    for length in sorted(lengths):
        path.write_bytes(good[:length])
        assert "copy or download it again" in message_of(path)
    assert message_of(path) == "is truncated or damaged (does not end with its seal); copy or download it again"


def test_a_flipped_bit_is_found_wherever_it_is(models, good, tmp_path, rng):
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
def test_other_damage_is_found_too(change, good, tmp_path):
    path = tmp_path / "changed.tflite"
    path.write_bytes(change(good))
    assert "damaged" in message_of(path)


def test_missing_and_foreign_files_are_named(models, good, tmp_path):
    path = tmp_path / "m.tflite"
    assert message_of(path) == "no such model file; give the path of a .tflite file"
    path.write_bytes(b"no model at all")
    assert message_of(path) == (
        "is no .tflite file, or truncated or damaged (has b'odel' at byte 4, expected b'TFL3'); give a model exported "
        "by posecascade, or copy or download it again")
    path.write_bytes(models["float"])
    assert message_of(path) == (
        "has no posecascade.json and no seal, so its joints are unknown; give a model exported by posecascade (if it "
        "is one, it was cut short: copy or download it again)")
    data = good[:-64].replace(b"joints.txt", b"points.txt")  # sealed well, but with another content
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())
    assert message_of(path).startswith("posecascade.json or joints.txt cannot be read (")
    path.write_bytes(good)
    damaged = bytearray(good)
    damaged[200] ^= 4
    path.write_bytes(damaged)
    found, said = hashlib.sha256(damaged[:-64]).hexdigest(), good[-64:].decode()
    assert message_of(path) == (f"is damaged (its SHA-256 begins {found[:12]}, its seal says {said[:12]}); copy or "
                                "download it again")


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
    """As AI Edge Quantizer leaves an output that the model uses itself: the signature keeps to the tensor inside."""
    model = unpacked(model)
    model.signatureDefs[0].outputs[0].tensorIndex = int(model.subgraphs[0].inputs[0])
    return repacked(model)


def with_far_options(model):
    model = unpacked(model)
    model.subgraphs[0].operators[0].largeCustomOptionsOffset = 4096
    return repacked(model)


@pytest.mark.parametrize(("model", "changes", "message"), [
    (lambda data: data[:4] + b"XXXX" + data[8:], {}, "expected b'TFL3' at byte 4"),
    (lambda data: seal(data), {}, "has metadata already"),
    (without_signature, {}, "has no signature"),
    (with_another_tensor, {}, "a quantizer lost an output"),
    (with_far_options, {}, "options behind its flatbuffer"),
    (lambda data: renamed(data, b"parts", b"pieces"), {}, "output 'pieces' is unknown; the names are parts, heatmaps"),
    (lambda data: data, {"joints": JOINTS[:4]}, r"shape \(1, 8, 8, 5\), expected .* with 4 joints"),
    (lambda data: data, {"joints": (*JOINTS[:4], "two\nlines")}, "not a name of one line"),
    (lambda data: data, {"joints": (*JOINTS[:4], "")}, "not a name of one line"),
    (lambda data: data, {"sidecar": {"pck": float("nan")}}, "JSON compliant"),
])
def test_what_cannot_be_sealed_is_refused(model, changes, message, models):
    with pytest.raises(ValueError, match=message):
        seal(model(models["float"]), **changes)
