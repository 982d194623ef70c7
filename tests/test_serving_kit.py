"""The kit in export/serving: its files parse and agree with the export and each other; its README's commands work."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from served import BINARY, MODEL, binary, service_of
from small_served import GOOD, write

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
import model_server
import model_server_protos
from model_server_batching import Batcher

from posecascade.client import connect
from posecascade.training.recipe import Recipe

KIT = Path(__file__).resolve().parents[1] / "export" / "serving"
README = (KIT / "README.md").read_text(encoding="utf-8")
YAML = {path.name: list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        for path in KIT.iterdir() if path.suffix in (".yml", ".yaml")}
COMPOSE = YAML["docker-compose.yml"][0]["services"][MODEL]
KUBERNETES = {entry["kind"]: entry for entry in YAML["kubernetes.yaml"]}
CONTAINER = KUBERNETES["Deployment"]["spec"]["template"]["spec"]["containers"][0]
KSERVE = YAML["kserve.yaml"][0]


def flags_of(words):
    return dict(word.removeprefix("--").split("=", 1) for word in words)


def test_release_of_the_server_is_that_of_its_api_and_of_tensorflow():
    api = next(line for line in metadata.requires("posecascade-keras") if line.startswith("tensorflow-serving-api"))
    least = re.search(r">=(\d+\.\d+)", api)[1]
    tensorflow = next(line for line in metadata.requires("posecascade-keras") if re.match(r"tensorflow[<>=]", line))
    named = {COMPOSE["image"].rpartition(":-")[2].rstrip("}"), CONTAINER["image"].rpartition(":")[2],
             KSERVE["spec"]["predictor"]["model"]["runtimeVersion"],
             *re.findall(r"tensorflow/serving:([\d.]+)", README)}
    assert len(named) == 1 and named.pop().startswith(f"{least}.") and f">={least}" in tensorflow


def test_names_and_ports_agree():
    assert set(COMPOSE["ports"]) == {"8500:8500", "8501:8501"}
    assert COMPOSE["healthcheck"]["test"][-2:] == ["8501", MODEL]
    for name in ("models.config", "models.canary.config"):
        assert set(model_server.configs_of(KIT / name)) == {MODEL}
        assert model_server.configs_of(KIT / name)[MODEL].base == Path(f"/models/{MODEL}")
    assert any(volume.endswith(f":/models/{MODEL}:ro") for volume in COMPOSE["volumes"])
    flags = flags_of(CONTAINER["args"])
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": int(flags["port"]), "rest": int(flags["rest_api_port"])} == {"grpc": 8500, "rest": 8501}
    assert flags["model_name"] == KSERVE["metadata"]["name"] == MODEL
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"] == {"path": f"/v1/models/{MODEL}", "port": "rest"}
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert flags["model_base_path"] == f"{mounts['models']}/exported"
    assert KSERVE["spec"]["predictor"]["model"]["storageUri"].endswith("/exported")
    assert {port["targetPort"] for port in KUBERNETES["Service"]["spec"]["ports"]} == set(ports)
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]
    assert labels["labels"] == KUBERNETES["Service"]["spec"]["selector"]
    assert labels["annotations"]["prometheus.io/port"] == str(ports["rest"])


def test_monitoring_path_agrees_with_the_manifests(tmp_path):
    found = model_server_protos.read(KIT / "monitoring.config", "MonitoringConfig").prometheus_config
    assert found.enable and found.path.startswith("/")
    [(name, text)] = KUBERNETES["ConfigMap"]["data"].items()
    (tmp_path / name).write_text(text)
    assert model_server_protos.read(tmp_path / name, "MonitoringConfig").prometheus_config == found
    assert flags_of(CONTAINER["args"])["monitoring_config_file"].endswith(f"/{name}")
    assert KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] == found.path


@pytest.mark.parametrize("name", ["batching_parameters.txt", "batching_parameters.gpu.txt"])
def test_batch_sizes_are_warmed_up_and_fit_the_client(name):
    found, warm = model_server_protos.read(KIT / name, "BatchingParameters"), Recipe().export.batch_sizes
    assert found.max_batch_size.value == max(warm)
    assert set(found.allowed_batch_sizes) <= set(warm) and not found.pad_variable_length_inputs
    Batcher(found)  # the server accepts it
    from posecascade.cli.client import FLAGS

    assert FLAGS["batch_size"].default <= found.max_batch_size.value
    assert connect.__kwdefaults__["batch_size"] == FLAGS["batch_size"].default


def test_canary_is_served_next_to_the_stable_version(tmp_path):
    write(tmp_path / "1")
    write(tmp_path / "2", offset=1000)
    found = {}
    for name in ("models.config", "models.canary.config"):
        config = model_server.configs_of(KIT / name)[MODEL]
        service = service_of(tmp_path, versions=config.versions, labels=config.labels)
        for label in config.labels:
            found[name, label] = service.models.find(service.spec(MODEL, None, label))[0]
    assert found == {("models.config", "stable"): 1, ("models.canary.config", "stable"): 1,
                     ("models.canary.config", "canary"): 2}


def test_every_file_is_in_the_readme_and_ends_with_a_newline():
    for path in KIT.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in README
        assert path.read_text(encoding="utf-8").endswith("\n")
        assert path.suffix != ".sh" or os.access(path, os.X_OK)


def commands(*beginnings):
    """Return the README's indented lines that begin with one of these words."""
    indented = tuple(f"    {word}" for word in beginnings)
    return [line.strip() for line in README.splitlines() if line.startswith(indented)]


def placed(line, ports):
    """Return the line with the server's ports."""
    return line.replace("localhost:8500", f"localhost:{ports['grpc']}").replace("localhost:8501",
                                                                               f"localhost:{ports['rest']}")


@pytest.fixture
def folder(tmp_path):
    """Return a working folder with the files of the README's commands."""
    write(tmp_path / "exported" / "1")
    (tmp_path / "holiday").mkdir()
    for name in ("photo.jpg", "holiday/beach.jpg"):
        (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "people.jsonl").write_text('{"image": "photo.jpg", "box": [1, 2, 30, 40]}\n')
    return tmp_path


def use(folder, ports, environment):
    """Run every command of the README that sends requests to a server."""
    def run(line):
        done = subprocess.run(["bash", "-c", placed(line, ports)], cwd=folder, capture_output=True, text=True,
                              check=False, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    check, redirected, to_file = commands("posecascade-client")
    assert run(check).startswith("version 1: AVAILABLE\nkeypoints of small: ")
    assert run(redirected) == run(to_file) == ""
    assert [json.loads(line)["box"] for line in (folder / "poses.jsonl").read_text().splitlines()] == [[1, 2, 30, 40]]
    if shutil.which("curl"):
        rows, columns, card, status = (json.loads(run(line)) for line in commands("(printf", "curl"))
        assert rows["predictions"][0]["keypoints"][0] == [len(GOOD), 0]
        assert columns["outputs"]["box"] == [[10, 10, 60, 80]]
        assert card["predictions"][0]["joints"] == ["left_wrist", "right_wrist", "head_top"]
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", placed(code, ports)], cwd=folder, capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 2
    assert "left_wrist" in done.stdout
    health = ["bash", KIT / "healthcheck.sh", str(ports["rest"])]
    assert subprocess.run([*health, MODEL], check=False).returncode == 0
    assert subprocess.run([*health, "nobody"], check=False).returncode != 0
    assert subprocess.run([*health[:2], "1", MODEL], check=False, stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_readme_commands_with_a_server_by_the_flags_of_compose(folder):
    """The commented flags, of batching, are used too."""
    (folder / "config").mkdir()
    for path in KIT.iterdir():
        text = path.read_text(encoding="utf-8").replace('"/models/posecascade"', json.dumps(str(folder / "exported")))
        (folder / "config" / path.name).write_text(text)
    commented = re.findall(r"# - (--\S+)", (KIT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert len(commented) == 2
    words = [word.replace("/config/", f"{folder}/config/") for word in COMPOSE["command"] + commented]
    program = Path(__file__).with_name("model_server.py")
    server = subprocess.Popen([sys.executable, program, "--port=0", "--rest_api_port=0", *words],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ports = json.loads(server.stdout.readline())
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        use(folder, ports, environment)
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.tensorflow_model_server
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_readme_commands_with_tensorflow_serving(folder, tmp_path):
    [line] = commands("tensorflow_model_server")
    words = [word.replace("$PWD", str(folder)) for word in shlex.split(line)[1:] if "port=" not in word]
    assert {word.partition("=")[0].removeprefix("--") for word in words} <= set(model_server.FLAGS)
    if not os.environ.get(BINARY):
        pytest.skip(f"needs TensorFlow Serving: {BINARY} names no tensorflow_model_server")
    with binary(*words, log=tmp_path / "log.txt") as found:
        use(folder, {"grpc": found.grpc_port, "rest": found.rest_port},
            os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})
