"""What the kit export/device's README says is done as it says: its commands, its code, its links."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported import K, people
from test_habits import INSIDE, is_short

from posecascade.inference import video

REPOSITORY = Path(__file__).resolve().parents[1]
KIT = REPOSITORY / "export" / "device"
TEXT = (KIT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ {4}(\S.*)$", re.sub(r"```.*?```", "", TEXT, flags=re.S), re.M)
RUN_HERE = "python pose_tflite.py", "unzip"  # begin such commands
NOT_HERE = {  # and those that others run, or none
    "python -m pip": "needs a network",
    "posecascade-benchmark": "as on the page docs/export.md, tests/journeys",
}


def beginning(start):
    return [command for command in COMMANDS if command.startswith(start)]


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """A copy of the kit with an export's files, a photograph and a video beside it."""
    place = shutil.copytree(KIT, tmp_path_factory.mktemp("kit") / "device")
    for path in (exported.version / "tflite").iterdir():
        shutil.copy(path, place)
    [image], _ = people(1)
    cv2.imwrite(str(place / "photo.jpg"), image[..., ::-1])
    with video.Writer(place / "clip.mp4", 10.0) as writer:
        for _ in range(3):
            writer.write(image)
    return place


def shell(command, folder, *programs):
    """The command's standard output; skips where one of the programs is missing."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_is_run_or_has_its_reason():
    assert len(COMMANDS) >= 7
    assert [c for c in COMMANDS if not c.startswith((*RUN_HERE, *NOT_HERE))] == []


def test_the_file_does_what_the_readmes_say(folder):
    """But for the camera, which a machine that tests has not."""
    command, camera = beginning("python pose_tflite.py")
    assert camera == "python pose_tflite.py keypoints_int8.tflite 0 --show"
    assert f"\n{command}\n{camera}\n" in (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
    shell(command.replace("python", f"'{sys.executable}'", 1), folder)
    lines = [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["photo.jpg", *(f"clip.mp4#{n}" for n in range(3))]
    assert sorted(path.name for path in (folder / "drawn").iterdir()) == ["clip.mp4", "photo.jpg"]


def test_the_library_s_example_runs(folder):
    [code] = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == K


def test_the_decoder_of_a_file_of_maps_runs(folder):
    from ai_edge_litert.interpreter import Interpreter

    [command] = [command for command in beginning("unzip") if "decoder" in command]
    unzip(command, folder)
    signatures = Interpreter(str(folder / "decoder_copy.tflite")).get_signature_list()
    assert signatures == Interpreter(str(folder / "decoder.tflite")).get_signature_list() == {
        "decoder": {"inputs": ["heatmaps", "parts"], "outputs": ["keypoints", "scores", "visibility"]}}
    assert all(f'"{name}"' in TEXT for names in signatures["decoder"].values() for name in names)


def unzip(command, folder):
    """Run the command; its exit status is 1, a warning: the ZIP does not begin with the file."""
    if not shutil.which("unzip"):
        pytest.skip("needs unzip")
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    return done.stdout


def test_what_a_port_must_know_stands_in_the_file(folder):
    [command] = [command for command in beginning("unzip") if "posecascade.json" in command]
    model = json.loads(unzip(command, folder))["model"]
    assert len(model["schema"]["keypoints"]) == K
    for name in re.search(r"under `model`: (.*?)\. A keypoint", TEXT, re.S)[1].split("`")[1::2]:
        value = model
        for key in name.split("."):
            value = value[key]
    assert np.isfinite([model["input_size"], model["stride"]]).all()


@pytest.mark.parametrize("law", [law for law in INSIDE if law is not is_short], ids=lambda law: law.__name__)
def test_the_file_keeps_the_package_s_laws_but_the_one_of_length(law):
    assert law((KIT / "pose_tflite.py").read_text(encoding="utf-8")) == []


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)]+)\)", TEXT)
    assert links and all((KIT / link).exists() for link in links)
