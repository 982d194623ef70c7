"""What needs no backend loads none: fresh processes of the installed commands, and reading metadata."""

import json
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from exported import SCRIPTS
from small_tflite import KEYPOINTS, SIDE, converted, to_bytes

from posecascade.drawing import write_image
from posecascade.formats.metadata import Metadata, metadata_dict
from posecascade.schema import schema_from

BACKENDS = ("keras", "tensorflow", "jax", "torch")
READERS = ("posecascade.datasets", "scipy", "h5py")  # of data sets: a seventh of a second
# Runs a program and prints those of {names} that are loaded as the last line, whatever the program's exit status.
RUN = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *(name for name in {names} if name in sys.modules)))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COMMANDS = sorted(entry.name for entry in metadata.entry_points(group="console_scripts")
                  if entry.name.startswith("posecascade-"))


def run(*words, names=BACKENDS) -> tuple[list[str], str]:
    """Run a program in a fresh process; return its output without the last line, and the last line of RUN."""
    done = subprocess.run([sys.executable, "-c", RUN.format(names=names), *map(str, words)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    return lines, loaded


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a .tflite file that predicts keypoints."""
    path = tmp_path_factory.mktemp("model") / "keypoints.tflite"
    schema = schema_from({"name": "five", "keypoints": list(KEYPOINTS)}, "five")
    path.write_bytes(to_bytes(converted("keypoints"), metadata={"model": metadata_dict(Metadata(schema, SIDE, 4)),
                                                                "kind": "keypoints"}))
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Return an image file."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    write_image(path, np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8))
    return path


def test_all_commands_are_checked():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_backend(command):
    lines, loaded = run(SCRIPTS / command, "--help")
    assert lines[0].startswith(command) and loaded == "loaded:"


def test_predict_by_a_tflite_file_loads_no_backend_and_no_readers(model, photo, tmp_path):
    lines, loaded = run(SCRIPTS / "posecascade-predict", photo, f"--model={model}", f"--output={tmp_path / 'poses'}",
                        names=(*BACKENDS, *READERS))
    assert lines == [f"1 poses written to {tmp_path / 'poses' / 'predictions.jsonl'}"]
    assert loaded == "loaded:"
    [line] = (tmp_path / "poses" / "predictions.jsonl").read_text().splitlines()
    assert list(json.loads(line)["keypoints"]) == list(KEYPOINTS)


def test_a_loaded_backend_is_reported(tmp_path):
    file = tmp_path / "program.py"
    file.write_text("import sys; sys.modules['jax'] = sys")
    assert run(file) == ([], "loaded: jax")


def test_client_loads_no_backend(small_model, tmp_path):
    pytest.importorskip("grpc", reason="needs grpcio, of the extra `serving`")
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
    from served import answering, service_of
    from small_served import GOOD

    photo = tmp_path / "photo.jpg"
    photo.write_bytes(GOOD)
    with answering(service_of(small_model)) as served:
        for url in (served.grpc, served.rest):
            output = tmp_path / f"{url.partition(':')[0]}.jsonl"
            _, loaded = run(SCRIPTS / "posecascade-client", url, photo, f"--output={output}")
            assert loaded == "loaded:"
            assert len(output.read_text().splitlines()) == 1


@pytest.mark.parametrize("program", [
    "from posecascade.formats import zoo; zoo.load_metadata('lite')",
    "from posecascade.formats import tflite_file; tflite_file.read(sys.argv[1])",
    "from posecascade.formats import runtime; runtime.load(pathlib.Path(sys.argv[1]))",
    "from posecascade import load; load(sys.argv[1])",
])
def test_reading_metadata_loads_no_backend(program, model, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(f"import pathlib, sys\n{program}\n")
    assert run(file, model) == ([], "loaded:")
