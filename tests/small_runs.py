"""Trainings of seconds for tests: a recipe, people, and functions that train in another process."""

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np

from posecascade.schema import COCO17
from posecascade.training.recipe import Recipe, recipe_from

COMMAND = Path(sys.executable).with_name("posecascade-train")
PEOPLE, BATCH, EPOCH_STEPS = 16, 4, 4
SMALL = {
    "data": {"sources": [f"synthetic:{PEOPLE}"], "schema": "lsp14"},
    "model": {"backbone": "tiny", "width": 16, "input_size": 64},
    "loss": {"disc_radius_px": 3.2, "gaussian_sigma_px": 2.6},
    "optimizer": {"learning_rate": 0.003, "backbone_lr_factor": 0.5, "warmup_steps": 2, "ema_decay": 0.9},
    "training": {"epochs": 2, "batch_size": BATCH, "checkpoint_every_steps": 3, "validation_people": 8},
}
# Settings with which floating-point sums have a fixed order.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1",
              "TF_ENABLE_ONEDNN_OPTS": "0",
              # No optimization by XLA: JAX compiles a step in a third of the time.
              "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"}


def small(**changes) -> Recipe:
    """Return the small recipe with changed values, given by section."""
    return recipe_from({name: SMALL.get(name, {}) | changes.get(name, {}) for name in {*SMALL, *changes}}, "test")


def stub_cascade(keypoints: int, **options):
    """Return a small cascade, with batch norms in both stages and names of the backbone, whose step compiles fast."""
    import keras
    from keras import layers

    image, maps = keras.Input((None, None, 3), name="image"), keras.Input((None, None, keypoints), name="parts")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    for name in ("stem", "block_00"):
        x = layers.BatchNormalization(name=f"{name}_bn")(layers.Conv2D(4, 3, 2, "same", name=f"{name}_conv")(x))
    x = layers.UpSampling2D(interpolation="bilinear", name="up")(layers.AveragePooling2D(2, name="down")(x))
    detector = keras.Model(image, {"parts": layers.Conv2D(keypoints, 1, name="parts", dtype="float32")(x)},
                           name="detector")
    y = layers.BatchNormalization(name="wide_bn")(layers.Conv2D(4, 3, padding="same", name="wide")(maps))
    regressor = keras.Model({"parts": maps}, {"heatmaps": layers.Conv2D(keypoints, 1, name="maps", dtype="float32")(y)},
                            name="regressor")
    whole = keras.Input((None, None, 3), name="image")
    parts = detector(whole)["parts"]
    read = layers.Activation("sigmoid", name="part_maps", dtype="float32")(parts)
    return keras.Model(whole, {"parts": parts, **regressor({"parts": read})}, name="cascade")


class NoTensorFlow:
    """An entry of `sys.meta_path` that makes TensorFlow appear not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def quickstart(folder: str) -> None:
    """Run the command on a small quickstart recipe without TensorFlow; write the trained model's maps to maps.npz."""
    from posecascade.cli import app, train

    sys.meta_path.insert(0, NoTensorFlow())
    from posecascade.training.losses import CascadeLoss

    traced, real = [], CascadeLoss.detection
    CascadeLoss.detection = lambda self, *arguments: traced.append(1) or real(self, *arguments)
    words = ["--recipe=quickstart", "--data=synthetic:12", f"--model_dir={folder}", "--set=training.epochs=1",
             "--set=training.batch_size=4", "--set=training.validation_people=8", "--set=model.input_size=64",
             "--set=optimizer.warmup_steps=0", "--set=optimizer.ema_decay=0"]
    try:
        app.run(train.main, train.FLAGS, "", ["posecascade-train", *words])
    except SystemExit as left:
        assert left.code == 0, left.code
    from posecascade.formats import keras_file

    images = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    model, _ = keras_file.load(Path(folder) / "best.keras")
    np.savez(Path(folder) / "maps.npz", images=images, **model.predict_on_batch(images))
    assert "tensorflow" not in sys.modules
    # JAX runs the loss's Python while it compiles, once for a step of a run and once for shapes; torch at each step.
    assert len(traced) <= 3, traced


class Killed(Exception):
    """Raised in place of a training step."""


def whole_and_interrupted(folder: str) -> None:
    """Train in three phases without interruption into FOLDER/whole, and with three interruptions into FOLDER/parts.

    The states from which it resumes were saved at the end of a phase, within one, and within one that continues with
    the optimizer of the previous one.
    """
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        sys.meta_path.insert(0, NoTensorFlow())
    from posecascade.training import build, checkpoints, trainer
    from posecascade.training.learner import Learner

    build.cascade, trainer.SCALARS_EVERY = stub_cascade, 1
    trainer._finish = lambda *_: {}  # a measurement that takes longer than the run
    phases = [{"train": "detector", "share": 5}, {"train": "regressor", "share": 4},
              {"train": "regressor", "share": 3, "input_size": 32}]
    recipe = small(training={"epochs": 3, "phases": phases, "checkpoint_every_steps": 5, "evaluate_every_epochs": 3})
    trainer.train(recipe, Path(folder) / "whole")
    real = Learner.step
    for last, saved in ((5, 5), (8, 8), (11, 10), (12, 12)):
        header = checkpoints.read_header(Path(folder) / "parts")
        left = iter(range(last - (header[0].step if header else 0)))

        def step(learner, images, targets, left=left):
            if next(left, None) is None:
                raise Killed
            return real(learner, images, targets)

        Learner.step = step
        with contextlib.suppress(Killed):
            trainer.train(recipe, Path(folder) / "parts")
        assert checkpoints.read_header(Path(folder) / "parts")[0].step == saved


def environment(**more) -> dict[str, str]:
    """Return the environment of this process, with one thread for arithmetic."""
    return os.environ | ONE_THREAD | more


def finished(command, **more) -> subprocess.CompletedProcess:
    """Run a command and return its exit status and output as text."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False,
                          env=environment(**more))


def called(function: str, folder: Path, cache: Path, backend: str) -> subprocess.CompletedProcess:
    """Call a function of this module with FOLDER in a new process; JAX keeps compiled steps in `cache`."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import small_runs; small_runs.{function}(sys.argv[2])"
    return finished([sys.executable, "-c", code, Path(__file__).parent, folder], KERAS_BACKEND=backend,
                    JAX_COMPILATION_CACHE_DIR=str(cache), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of a `.keras` file by their path in it."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
        file.visititems(keep)
    return found


def state_arrays(path: Path, piece: str) -> list[np.ndarray]:
    """Return the arrays of a state.npz that belong to `piece`: "network" or "optimizer"."""
    with np.load(path) as archive:
        return [archive[f"{piece}/{i}"] for i in range(sum(name.startswith(f"{piece}/") for name in archive.files))]


def assert_same_weights(one: Path, other: Path) -> None:
    """Assert that two `.keras` files have the same weights, bit for bit."""
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys() and mine
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], name)


def write_people(folder: Path, count: int, joints: int = COCO17.size, **changes) -> Path:
    """Write a data set of type coco, `count` images of 48 x 64 px with one person each; return its .json file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    images, annotations = [], []
    for number in range(count):
        name = f"{number:04}.jpg"
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (64, 48, 3), np.uint8))
        points = np.column_stack([rng.uniform(5, 43, joints), rng.uniform(5, 59, joints), np.full(joints, 2)])
        images.append({"id": number, "file_name": name})
        annotations.append({"image_id": number, "id": number, "keypoints": points.ravel().tolist()} | changes)
    path = folder / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def cut(path: Path) -> None:
    """Truncate the file to a third of its length."""
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 3])
