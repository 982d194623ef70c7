"""A run of seconds for the trainer's tests: its recipe, its people, and the commands that train in another process."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np

from posecascade.recipe import Recipe, recipe_from
from posecascade.schema import COCO17, LSP14

COMMAND = Path(sys.executable).with_name("posecascade-train")
PEOPLE, BATCH, EPOCH_STEPS = 16, 4, 4
SMALL = {
    "data": {"sources": [f"synthetic:{PEOPLE}"], "schema": "lsp14"},
    "model": {"backbone": "tiny", "width": 16, "input_size": 64},
    "loss": {"disc_radius": 3.2, "sigma": 2.6},
    "optimizer": {"learning_rate": 0.003, "backbone_rate": 0.5, "warmup_steps": 2, "ema": 0.9},
    "training": {"epochs": 2, "batch_size": BATCH, "save_every": 3, "validation_people": 8},
}
# What makes TensorFlow's sums come out in one order.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1",
              "TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


def small(**changes) -> Recipe:
    """The small recipe with other values by section."""
    return recipe_from({name: SMALL.get(name, {}) | changes.get(name, {}) for name in {*SMALL, *changes}}, "test")


def environment(**more) -> dict[str, str]:
    """The process's, with one thread for arithmetic."""
    return os.environ | ONE_THREAD | more


def finished(command, **more) -> subprocess.CompletedProcess:
    """The command's end, with its output as text."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False,
                          env=environment(**more))


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Every array of a `.keras` file, by its place in it."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
        file.visititems(keep)
    return found


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys() and mine
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], name)


def write_people(folder: Path, count: int, keypoints: int = COCO17.size, **changes) -> Path:
    """A data set of type coco: `count` pictures of 48 x 64 px with one person each; its .json file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    images, annotations = [], []
    for number in range(count):
        name = f"{number:04}.jpg"
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (64, 48, 3), np.uint8))
        points = np.column_stack([rng.uniform(5, 43, keypoints), rng.uniform(5, 59, keypoints), np.full(keypoints, 2)])
        images.append({"id": number, "file_name": name})
        annotations.append({"image_id": number, "id": number, "keypoints": points.ravel().tolist()} | changes)
    path = folder / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def cut(path: Path) -> None:
    """Leave a third of the file."""
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 3])


LSP_JOINTS = LSP14.size
