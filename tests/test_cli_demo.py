"""posecascade-demo: accepted models, the files it writes, serving, and its errors."""

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
from posecascade.web import server, site

BAD_INPUT, DONE = 2, 0
NEAR = 0.05  # pixels of the image


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved tiny cascade with random weights."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    keras.utils.set_random_seed(1)
    keras_file.save(cascade(14, backbone="tiny", width=16), path, keras_file.Metadata(LSP14, 64, 4))
    return path


def written(folder, tmp_path):
    """Decompress the model of a site to a file and return its path."""
    path = tmp_path / "written.tflite"
    path.write_bytes(gzip.decompress((folder / site.MODEL).read_bytes()))
    return path


def test_written_model_predicts_the_same_poses_as_the_trained_one(model, tmp_path):
    code, [printed], errors = ended(demo, f"--model={model}", f"--output={tmp_path / 'site'}")
    assert (code, errors) == (DONE, [])
    assert re.fullmatch(rf"page and model written to {tmp_path}/site: 10 files, 3\.\d MB", printed)
    path = written(tmp_path / "site", tmp_path)
    contents = tflite_file.read(path)
    assert (contents.metadata["kind"], contents.metadata["precision"]) == ("heatmaps", "float32")
    assert contents.metadata["source"]["file"] == "tiny.keras" and "terms of the data" in contents.metadata["license"]
    [image], [box] = people(1)
    one, other = (posecascade.load(given).predict(image, box) for given in (path, model))
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=NEAR)
    np.testing.assert_allclose(one.visibility, other.visibility, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("folder", [".", "1"])
def test_precision_selects_the_file_of_an_export(exported, tmp_path, folder, precision):
    code, _, errors = ended(demo, f"--model={exported.output / folder}", f"--precision={precision}",
                            f"--output={tmp_path / 'site'}")
    assert (code, errors) == (DONE, [])
    assert written(tmp_path / "site", tmp_path).read_bytes() == exported.tflite("heatmaps", precision).read_bytes()


def test_page_is_served_until_interrupted(exported):
    file = exported.tflite("heatmaps", "float16")
    with subprocess.Popen([SCRIPTS / "posecascade-demo", "--port=0", f"--model={file}"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        line = process.stdout.readline()
        [port] = re.fullmatch(r"serving the page at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C to stop\)\n", line).groups()
        connection = http.client.HTTPConnection("127.0.0.1", int(port))
        connection.request("GET", f"/{site.MODEL}")
        assert gzip.decompress(connection.getresponse().read()) == file.read_bytes()
        process.send_signal(signal.SIGINT)  # while the connection is open: browsers keep it open
        assert (process.wait(), process.stderr.read()) == (DONE, "\n")
        connection.close()


@pytest.mark.parametrize(("arguments", "message"), [
    (["base"], "unexpected argument 'base'; pass the model as --model=base"),
    (["--model=none.tflite"], "none.tflite: no such model file; give the path of a .tflite file"),
    (["--model=bse"], "no model 'bse': no such file or folder; expected a .keras file, the folder of a training run, "
                      "an export, or a model of the package (did you mean 'base'?)"),
    (["--precision=int4"], "flag --precision=int4: value should be one of <float32|float16|dynamic|int8>"),
    (["--port=70000"], "flag --port=70000: 70000 is not an integer in the range [0, 65535]"),
])
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, arguments, message):
    assert ended(demo, f"--output={tmp_path / 'site'}", *arguments) == (
        BAD_INPUT, [], [f"posecascade-demo: error: {message}"])
    assert not list(tmp_path.iterdir())


def test_model_without_maps_or_with_a_missing_precision_is_refused(exported, model, tmp_path):
    keypoints = exported.tflite("keypoints", "float32")
    code, _, [error] = ended(demo, f"--model={keypoints}", f"--output={tmp_path / 'site'}")
    assert code == BAD_INPUT and error == (
        f"posecascade-demo: error: {keypoints}: returns keypoints, expected maps; give the file of the same export "
        "whose name begins with heatmaps")
    code, _, [error] = ended(demo, f"--model={model}", "--precision=int8", f"--output={tmp_path / 'site'}")
    assert code == BAD_INPUT and error == (
        f"posecascade-demo: error: {model}: only float32 and float16 can be converted here; for int8 export the "
        "model (posecascade-export) and give the export")


def test_port_in_use_is_reported_before_the_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ended(demo, "--model=none.keras", f"--port={port}") == (BAD_INPUT, [], [
            f"posecascade-demo: error: 127.0.0.1, port {port}: cannot serve at this address (Address already in "
            "use); pass another --port, or --port=0 for a free one"])


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_page_that_others_can_load_is_announced(host, warned, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_model", lambda: b"a model")
    monkeypatch.setattr(server._Server, "serve_forever", interrupted)
    code, _, errors = ended(demo, "--port=0", f"--host={host}")
    assert code == DONE
    warning = f"posecascade-demo: warning: --host={host}: every machine that reaches this address can load the page " \
              "and the model; there is no password and no encryption"
    assert errors == [*([warning] if warned else []), ""]


def test_installation_without_the_page_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "FOLDER", tmp_path)
    code, _, [error] = ended(demo)
    assert code == BAD_INPUT and error == (
        f"posecascade-demo: error: {tmp_path}: contains no page; reinstall posecascade, or build the page in "
        "export/web (npm ci, npm run build)")
