"""A small export that the installed commands make, once for all tests of exports; and commands run in this process."""

import contextlib
import hashlib
import io
import json
import shutil
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from small_runs import finished

import posecascade
from posecascade import datasets
from posecascade.cli import app
from posecascade.codec.score_calibration import Calibration

SCRIPTS = Path(sys.executable).parent
SIZE, STRIDE, K = 64, 4, 16  # of the network below
KINDS, PRECISIONS = ("heatmaps", "keypoints"), ("float32", "float16", "dynamic", "int8")
SIGNATURES = ("heatmaps", "images", "with_boxes", "serving_default")  # that the certificate measures
ALL_SIGNATURES = (*SIGNATURES, "model_card")
BATCH_SIZES, MEASURED = (1, 2), 24
# Enough steps that maps have peaks and joints hold still under rounding: then artifacts can be compared closely.
TRAINED = ("--recipe=quickstart", "--data=synthetic:160", "--set=training.epochs=8", "--set=training.batch_size=8",
           "--set=training.validation_people=16", "--set=training.evaluate_every_epochs=8",
           f"--set=model.input_size={SIZE}",
           "--set=loss.disc_radius_px=3.2", "--set=loss.gaussian_sigma_px=2.6", "--set=optimizer.warmup_steps=5",
           "--set=optimizer.ema_decay=0.9")
# Wide limits, since few steps leave flat maps on which an int8 joint can jump.
WIDE = (f"--set=export.people={MEASURED}", "--set=export.calibration_crops=16",
        f"--set=export.batch_sizes={[*BATCH_SIZES]}",
        "--set=export.max_float_error_px=5", "--set=export.max_pck_drop=50")
LICENSE = "CC0-1.0: a test's"
DAY = 86400  # seconds


class Exported(NamedTuple):
    """The files and the output of the two commands.

    Attributes:
        run: the training's folder.
        output: the export's; its only version is 1.
        stdout, errors: what the export wrote to standard output and standard error.
    """

    run: Path
    output: Path
    stdout: str
    errors: str

    @property
    def version(self) -> Path:
        """The folder of the version."""
        return self.output / "1"

    def tflite(self, kind: str, precision: str) -> Path:
        """One of the TFLite files."""
        return self.version / "tflite" / f"{kind}_{precision}.tflite"

    @property
    def metadata(self):
        """The model's, with the curve of its scores that the certificate tells of."""
        from posecascade.formats import keras_file  # it imports Keras
        scores = json.loads((self.version / "certificate.json").read_text())["scores"]
        return replace(keras_file.load_metadata(self.run / "best.keras"),
                       calibration=Calibration(scores["slope"], scores["offset"]))


def built_once(kept: Path) -> Exported:
    """Return what `built` makes of these sources in a folder of its own in `kept`, from an earlier run if it is there.

    Folders of other sources go after a day: a run of pytest that began before a file was edited may still read them.
    """
    folder = kept / sources()
    said = folder / "said.json"  # written last
    if not said.is_file():
        for old in kept.glob("*"):
            if old == folder or time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old)
        folder.mkdir(parents=True)
        said.write_text(json.dumps(built(folder)[2:]))
    return Exported(folder / "run", folder / "exported", *json.loads(said.read_text()))


def sources() -> str:
    """Return a checksum of all that `built` depends on: the package, these modules, Python and installed versions."""
    package, here = Path(posecascade.__file__).parent, Path(__file__)
    files = [here, here.with_name("small_runs.py"), *(path for path in sorted(package.rglob("*")) if path.is_file())]
    installed = sorted(f"{each.name} {each.version}" for each in metadata.distributions())
    digest = hashlib.sha256(repr((sys.version, installed)).encode())
    for path in files:
        if "__pycache__" not in path.parts:
            digest.update(str(path).encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def built(folder: Path) -> Exported:
    """Train and export in `folder`, which takes a minute."""
    run, output = folder / "run", folder / "exported"
    trained = finished([SCRIPTS / "posecascade-train", *TRAINED, f"--model_dir={run}"])
    assert (trained.returncode, trained.stderr) == (0, ""), trained.stderr
    # The user's usual backend is another one: an export does not mind.
    ended = finished([SCRIPTS / "posecascade-export", f"--model={run}", f"--output={output}", f"--license={LICENSE}",
                      *WIDE], KERAS_BACKEND="jax")
    assert ended.returncode == 0, ended.stderr
    return Exported(run, output, ended.stdout, ended.stderr)


def ended(command, *words) -> tuple[int, list[str], list[str]]:
    """Exit code and lines on standard output and standard error of a command's module, run in this process."""
    command.FLAGS.unparse_flags()  # a process parses once, this one does so again and again
    output, errors = io.StringIO(), io.StringIO()
    name = f"posecascade-{command.__name__.rpartition('.')[2]}"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), \
            contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as left:
        patch.setenv("KERAS_BACKEND", "tensorflow")  # an export sets it, and this takes it back
        app.run(command.main, command.FLAGS, command.__doc__, [name, *map(str, words)])
    return left.value.code, output.getvalue().splitlines(), errors.getvalue().splitlines()


def people(count: int) -> tuple[list[np.ndarray], list]:
    """Pictures and boxes of rendered people whom nobody was trained or measured on."""
    records = datasets.read(f"synthetic:{count}", "test")
    return [record.image.read() for record in records], [record.box for record in records]
