"""Every command and every file that the README shows, run in fresh processes on a few rendered people."""

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import yaml

import posecascade
from posecascade.datasets.synthetic import record_of
from posecascade.records import converted
from posecascade.schema import LSP14, schema_from

PACKAGE = Path(posecascade.__file__).resolve().parent
README = Path(__file__).resolve().parents[2] / "README.md"
PEOPLE = 24
# What makes a training of the README last seconds: few steps of a small net at a small size.
SMALL = ("--set=training.epochs=1", "--set=model.input_size=64", "--set=training.stages=[{share: 1}]",
         "--set=model.backbone=tiny",
         "--set=model.weights=none", "--set=training.batch_size=8", "--set=loss.disc_radius=3", "--set=loss.sigma=2")
ONCE = ("--threads=1", "--rounds=1", "--calls=2")  # of a benchmark
# An export of a net that has seen three batches: its flat maps make every rounding a jump, so the limits are wide.
QUICK = ("--set=export.float_distance=100", "--set=export.quantised_loss=100", "--set=export.batch_sizes=[1]")


def blocks(language):
    """The README's fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def commands():
    """The README's lines that are commands of ours, joined where a backslash ends them."""
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if re.match(r" {4}posecascade-", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with all that the README's commands name."""
    place = tmp_path_factory.mktemp("readme")
    records = [converted(record_of(5, number), LSP14) for number in range(PEOPLE)]
    pictures = [record.image.read() for record in records]
    for kind, digits in (("lspet", 5), ("lsp", 4)):
        (place / kind / "images").mkdir(parents=True)
        for number, picture in enumerate(pictures, 1):
            cv2.imwrite(str(place / kind / "images" / f"im{number:0{digits}}.jpg"), picture[..., ::-1])
    points = np.nan_to_num(np.stack([record.keypoints for record in records]))  # (N, 14, 2)
    codes = np.stack([record.visibility for record in records])
    lspet = np.concatenate([points, (codes > 0)[..., None]], -1).transpose(1, 2, 0)
    lsp = np.concatenate([points, (codes == 1)[..., None]], -1).transpose(2, 1, 0)
    scipy.io.savemat(place / "lspet" / "joints.mat", {"joints": lspet})
    scipy.io.savemat(place / "lsp" / "joints.mat", {"joints": lsp})
    scipy.io.savemat(place / "preds.mat", {"pred": points[PEOPLE // 2:].transpose(2, 1, 0)})

    (place / "arms.yaml").write_text(blocks("yaml")[0])
    arms = schema_from(yaml.safe_load(blocks("yaml")[0]), "README")
    people = [{"image_id": number, "id": number, "category_id": 1, "iscrowd": 0,
               "keypoints": [float(v) for k in map(LSP14.index, arms.keypoints)
                             for v in (*np.nan_to_num(record.keypoints[k]), record.visibility[k])]}
              for number, record in enumerate(records, 1)]
    images = [{"id": number, "file_name": f"lspet/images/im{number:05}.jpg"} for number in range(1, PEOPLE + 1)]
    (place / "people.json").write_text(json.dumps({"images": images, "annotations": people, "categories": []}))

    (place / "people.jsonl").write_text('{"image": "photo.jpg", "box": [20, 20, 90, 100]}\n')
    cv2.imwrite(str(place / "photo.jpg"), pictures[0][..., ::-1])
    (place / "holiday").mkdir()
    cv2.imwrite(str(place / "holiday" / "beach.png"), pictures[1][..., ::-1])
    clip = cv2.VideoWriter(str(place / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 160))
    for _ in range(3):
        clip.write(cv2.resize(pictures[2], (160, 160)))
    clip.release()
    return place


@pytest.fixture
def server(folder):
    """Ports of a server of the folder's `exported`, which is loaded when it is first asked for."""
    with contextlib.ExitStack() as stack:
        @functools.cache
        def ports():
            from served import answering, service_of

            service = service_of(folder / "exported", versions=(1,), labels={"stable": 1})
            return stack.enter_context(answering(service))

        yield ports


def run(line, folder, server):
    """The command in the folder, its places put in and its training made short; standard output."""
    name, *words = shlex.split(line)
    if name == "posecascade-client":
        words = [word.replace("localhost:8500", f"localhost:{server().grpc_port}").replace(
            "localhost:8501", f"localhost:{server().rest_port}") for word in words]
    words = [word.replace("lspet:DIR", "lspet:lspet").replace("lsp:DIR", "lsp:lsp") for word in words]
    if name == "posecascade-train":
        words += SMALL
    if name == "posecascade-export":
        words += QUICK
    if name == "posecascade-benchmark":
        words += ONCE
    if name == "posecascade-demo" and not any(word.startswith("--output") for word in words):
        return demo([*words, "--port=0"], folder)
    script = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert script, f"{name} is not installed"
    done = subprocess.run([script, *words], cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == "", f"{line}\n{done.stderr}"
    return done.stdout


def demo(words, folder):
    """What posecascade-demo says once it serves its page, which is asked for; then it is interrupted."""
    with subprocess.Popen([Path(sys.executable).with_name("posecascade-demo"), *words], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        told = process.stdout.readline()
        with urllib.request.urlopen(re.search(r"http://\S+", told)[0]) as answer:
            assert b"<title>posecascade</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        assert (process.wait(), process.stderr.read()) == (0, "\n")
    return told


def test_the_readme_s_commands_do_what_it_says(folder, server):
    """In its order: what a later command needs an earlier one has made."""
    lines = commands()
    assert {line.split()[0] for line in lines} == {"posecascade-train", "posecascade-evaluate", "posecascade-predict",
                                                   "posecascade-data", "posecascade-export",
                                                   "posecascade-benchmark", "posecascade-demo",
                                                   "posecascade-client"}
    shown = {line: run(line, folder, server) for line in lines}

    left = {path.name for path in (folder / "runs" / "lspet").iterdir()}
    named = {"best.keras", "last.keras", "log.csv", "tensorboard", "metrics.json", "curve.png", "predictions.jpg",
             "recipe.yaml", "manifest.json"}
    assert left == named | {"state.npz"} and all(f"`{n}`" in README.read_text() or f"`{n}/`" in README.read_text()
                                                 for n in named)
    assert (folder / "check.json").is_file() and (folder / "samples.png").is_file()
    assert len(json.loads((folder / "times.json").read_text())["rows"]) == 8  # TFLite files
    assert (folder / "report.json").is_file() and (folder / "curve.png").is_file()
    scored = next(text for line, text in shown.items() if "--predictions=" in line)
    assert re.search(r"^total +100\.00", scored, re.M)  # preds.mat holds the labels themselves

    answers = [json.loads(line) for line in (folder / "poses" / "predictions.jsonl").read_text().splitlines()]
    assert [a["image"] for a in answers] == ["photo.jpg", "holiday/beach.png", "clip.mp4#0", "clip.mp4#1", "clip.mp4#2"]
    assert list(answers[0]) == ["image", "box", "keypoints"] and list(answers[0]["keypoints"]) == list(LSP14.keypoints)

    assert (folder / "site" / "index.html").is_file() and (folder / "site" / "model.tflite.gz").is_file()

    served = [json.loads(line) for name in ("poses.jsonl", "more.jsonl")
              for line in (folder / name).read_text().splitlines()]
    assert [line["image"] for line in served] == ["photo.jpg", "holiday/beach.png", "photo.jpg"]
    assert all(list(line["keypoints"]) == list(LSP14.keypoints) for line in served)

    loaded, answered, joints, maps = (
        subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=True).stdout
        for block in blocks("python"))
    assert [line.split()[0] for line in loaded.splitlines()] == list(LSP14.keypoints)
    assert [line.split()[0] for line in answered.splitlines()] == list(LSP14.keypoints)
    numbers = [np.fromstring(re.sub(r"[\[\]]", " ", text), sep=" ") for text in (joints, maps)]
    assert [len(found) for found in numbers] == [4 * LSP14.size, 2 * LSP14.size]
    assert all(np.isfinite(found).all() for found in numbers)


def test_recipes_and_types_in_the_readme_are_all_there_are():
    from posecascade.datasets import READERS
    from posecascade.training.recipe import recipe_names

    text = README.read_text(encoding="utf-8")
    tables = [set(re.findall(r"`(\w+)`", cell)) for cell in re.findall(r"^\|([^|]+)\|", text, re.M)]
    assert set().union(*tables) >= set(READERS) | set(recipe_names())


def test_everything_that_the_readme_links_to_exists():
    prose = re.sub(r"```.*?```", "", README.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        # What lies in the package is looked for where it is installed.
        place = PACKAGE.parent if target.startswith("posecascade/") else README.parent
        assert (place / target).exists(), target
