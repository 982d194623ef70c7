"""posecascade-demo: which model it takes, what it writes, how it ends, one line where it cannot."""

import gzip
import http.client
import re
import signal
import socket
import subprocess

import keras
import numpy as np
import pytest
from exported import SCRIPTS, ended, people

import posecascade
from posecascade.cli import demo
from posecascade.formats import keras_file, tflite_file
from posecascade.models import cascade
from posecascade.schema import LSP14
from posecascade.web import site

BAD_INPUT, DONE = 2, 0
NEAR = 0.05  # pixels of the picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved tiny cascade with random weights."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    keras.utils.set_random_seed(1)
    keras_file.save(cascade(14, backbone="tiny", width=16), path, keras_file.Metadata(LSP14, 64, 4))
    return path


def written(folder, tmp_path):
    """The model in a site, as a file."""
    path = tmp_path / "found.tflite"
    path.write_bytes(gzip.decompress((folder / site.MODEL).read_bytes()))
    return path


def test_a_trained_model_becomes_a_file_that_gives_its_poses(model, tmp_path):
    code, [told], errors = ended(demo, f"--model={model}", f"--output={tmp_path / 'site'}")
    assert (code, errors) == (DONE, [])
    assert re.fullmatch(rf"page and model written to {tmp_path}/site: 8 files, 3\.\d MB", told)
    path = written(tmp_path / "site", tmp_path)
    contents = tflite_file.read(path)
    assert (contents.metadata["kind"], contents.metadata["precision"]) == ("heatmaps", "float32")
    assert contents.metadata["source"]["file"] == "tiny.keras" and "terms of the data" in contents.metadata["license"]
    [image], [box] = people(1)
    one, other = (posecascade.load(given).predict(image, box) for given in (path, model))
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=NEAR)
    np.testing.assert_allclose(one.visibility, other.visibility, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("place", [".", "1"])
def test_of_an_export_it_takes_the_file_of_the_precision(exported, tmp_path, place, precision):
    code, _, errors = ended(demo, f"--model={exported.output / place}", f"--precision={precision}",
                            f"--output={tmp_path / 'site'}")
    assert (code, errors) == (DONE, [])
    assert written(tmp_path / "site", tmp_path).read_bytes() == exported.tflite("heatmaps", precision).read_bytes()


def test_it_serves_until_it_is_interrupted(exported):
    file = exported.tflite("heatmaps", "float16")
    with subprocess.Popen([SCRIPTS / "posecascade-demo", "--port=0", f"--model={file}"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        told = process.stdout.readline()
        [port] = re.fullmatch(r"the page is at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", told).groups()
        connection = http.client.HTTPConnection("127.0.0.1", int(port))
        connection.request("GET", f"/{site.MODEL}")
        assert gzip.decompress(connection.getresponse().read()) == file.read_bytes()
        process.send_signal(signal.SIGINT)  # with the connection open, as a browser keeps it
        assert (process.wait(), process.stderr.read()) == (DONE, "\n")
        connection.close()


@pytest.mark.parametrize(("words", "told"), [
    (["base"], "unexpected argument 'base'; give the model as --model=base"),
    (["--model=none.tflite"], "none.tflite: no such model file; give the path of a .tflite file"),
    (["--model=bse"], "no model 'bse': neither a file nor a folder of that name exists; give a .keras file, the folder "
                      "of a training run, an export, or a model of the package (did you mean 'base'?)"),
    (["--precision=int4"], "flag --precision=int4: value should be one of <float32|float16|dynamic|int8>"),
    (["--port=70000"], "flag --port=70000: 70000 is not an integer in the range [0, 65535]"),
])
def test_a_wrong_word_gets_one_line(tmp_path, words, told):
    assert ended(demo, f"--output={tmp_path / 'site'}", *words) == (BAD_INPUT, [], [f"posecascade-demo: error: {told}"])
    assert not list(tmp_path.iterdir())


def test_a_model_that_a_page_cannot_use_gets_one_line(exported, model, tmp_path):
    joints = exported.tflite("keypoints", "float32")
    code, _, [told] = ended(demo, f"--model={joints}", f"--output={tmp_path / 'site'}")
    assert code == BAD_INPUT and told == (
        f"posecascade-demo: error: {joints}: gives keypoints, and maps are needed; give the file of the same export "
        "whose name begins with heatmaps")
    code, _, [told] = ended(demo, f"--model={model}", "--precision=int8", f"--output={tmp_path / 'site'}")
    assert code == BAD_INPUT and told == (
        f"posecascade-demo: error: {model}: only float32 and float16 can be made at once; for int8 export it "
        "(posecascade-export) and give the export")


def test_a_port_that_is_taken_is_told_before_a_model_is_made():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ended(demo, "--model=none.keras", f"--port={port}") == (BAD_INPUT, [], [
            f"posecascade-demo: error: 127.0.0.1, port {port}: cannot be served at (Address already in use); pass "
            "another --port, or --port=0 for a free one"])


def test_an_installation_without_the_page_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "FOLDER", tmp_path)
    code, _, [told] = ended(demo)
    assert code == BAD_INPUT and told == (f"posecascade-demo: error: {tmp_path}: holds no page; install posecascade "
                                          "again, or build it in export/web (npm ci, npm run build)")
