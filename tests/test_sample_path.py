"""The files that a sample passes through, traced, are those that docs/architecture.md lists."""

import re
import sys
import threading
from pathlib import Path

import annotations
import cv2
import numpy as np
import pytest

import posecascade
from posecascade import models
from posecascade.evaluation.evaluate import evaluate
from posecascade.inference.predictor import Predictor, run_of
from posecascade.schema import LSP14
from posecascade.training import build
from posecascade.training.augment import Augmentation
from posecascade.training.batches import make_batch
from posecascade.training.data import read_split
from posecascade.training.learner import Learner
from posecascade.training.losses import CascadeLoss
from posecascade.training.recipe import load_recipe

PACKAGE = Path(posecascade.__file__).parent
PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
SIDE = 64
# Not traced: the trainer, which calls the rest, and the network, whose layers are Keras' by the time it runs.
CALLERS = {"training/trainer.py", "models/cascade.py"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in LSPET's layout, and a small network to train."""
    folder = annotations.write_lsp(tmp_path_factory.mktemp("lspet"), annotations.lsp_people(
        np.random.default_rng(0), 40, 0.9), axes=(1, 2, 0), images=True)
    for number in range(1, 41):
        cv2.imwrite(str(folder / "images" / f"im{number:05}.jpg"), np.full((200, 100, 3), 90, np.uint8))
    recipe = load_recipe("quickstart", ["data.schema=lsp14", f"model.input_size={SIDE}"])
    network, twin = build.build(recipe, LSP14, lambda line: None)
    learner = Learner(network, build.loss_of(recipe, "joint"), None)
    learner.prepare(build.optimizer_of(recipe, network))
    return f"lspet:{folder}", learner, twin


def traced(function) -> set[str]:
    """Return the files of the package that run during the call, but for those that run after the loss is computed."""
    files: set[str] = set()

    def profile(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents and frame.f_code.co_name not in ("<module>", "<lambda>"):
            files.add(path.relative_to(PACKAGE).as_posix())
        if event == "return" and frame.f_code is CascadeLoss.__call__.__code__:
            sys.setprofile(None)

    sys.setprofile(profile)
    threading.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return files


def listed(heading: str) -> set[str]:
    """Return the files in the table below a line of docs/architecture.md."""
    _, _, text = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert text, heading
    table = re.match(r"\n((?:\|.*\n)+)", text)
    return set(re.findall(r"^\| `([\w/.]+\.py)` \|", table[1], re.MULTILINE))


@pytest.mark.slow
def test_files_from_disk_to_the_loss_are_those_listed(run):
    source, learner, _ = run

    def sample():
        records = read_split(source, "train", LSP14)
        batch = make_batch(records, [0, 1], SIDE, Augmentation(occluder_prob=1), (0,))
        learner.step(batch.images, batch.targets)

    assert traced(sample) | CALLERS == listed("From disk to the loss:")


@pytest.mark.slow
def test_files_from_an_image_to_the_metric_are_those_listed(run):
    source, _, twin = run
    records = read_split(source, "val", LSP14)
    predictor = Predictor(run_of(twin.predict_on_batch), LSP14, SIDE, 4)
    files = traced(lambda: evaluate(predictor, records, metric="pck").total)
    assert files - listed("From disk to the loss:") == listed("From an image to the metric:")


def test_the_listed_network_is_the_one_that_is_built():
    assert models.cascade.__module__ == "posecascade.models.cascade"
