"""posecascade-export --model=MODEL --output=DIR [--data=TYPE:ROOT ...]: a trained model for servers and devices.

  posecascade-export --model=runs/lspet --output=exported

DIR/N, N the next version, gets a SavedModel that TF Serving loads as it is (JPEG or PNG in, joints in the picture's
pixels out), TFLite files in tflite/ (maps, or joints from a crop; float32, float16, dynamic and int8), and
certificate.json: how each of them compares with the model on people kept for validation. Past a limit of the recipe's
`export` section nothing is written. posecascade-predict and posecascade-evaluate take DIR, DIR/N or a .tflite file as
--model.
"""

import json
import os
from pathlib import Path

from absl import flags

from posecascade import datasets
from posecascade.cli import app
from posecascade.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("model", None, "trained model: a .keras file, a run's folder, or base or lite, which come with the "
                    "package", flag_values=FLAGS)
flags.DEFINE_string("output", None, "folder for the versions; TF Serving's base path", flag_values=FLAGS)
flags.DEFINE_multi_string("data", [], "TYPE:ROOT to calibrate and measure on instead of what the model was trained on, "
                          "repeatable; TYPE is one of " + ", ".join(datasets.READERS), flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "KEY=VALUE of the recipe's export section, repeatable, as in "
                          "export.max_pck_drop=2", flag_values=FLAGS)
flags.DEFINE_string("license", None, "terms of the weights, which travel with them (default: those of the data they "
                    "were trained on)", flag_values=FLAGS)

SECTION = "export."


def main(arguments: list[str]) -> None:
    """Export; InputError for whatever a user can mend, and where an artifact is past a limit."""
    _check(arguments)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whichever trained the model: its file is the same for all
    with app.quietly():
        from posecascade.export.exporting import export, prepared
        from posecascade.export.tflite_files import TERMS

        model, manifest = _found(FLAGS.model)
        recipe, people = prepared(model, FLAGS.data, FLAGS.set)
        license = FLAGS.license or TERMS
        try:
            folder = export(model, Path(FLAGS.output), people, recipe, license=license, manifest=manifest,
                            log=lambda line: print(line, flush=True))
        except OSError as error:
            raise InputError(f"--output={FLAGS.output}: cannot be written ({error.strerror or error}); "
                             "free or choose another") from None
    print(f"exported to {folder}")


def _check(arguments):
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; every option begins with --")
    for name, example in (("model", "the .keras file or the folder of a training run"), ("output", "a folder")):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is missing; pass --{name}=..., {example}")
    for override in FLAGS["set"].value:
        if not override.startswith(SECTION):
            raise InputError(f"--set={override}: only keys that begin with {SECTION!r} matter to an export")
    if Path(FLAGS.output).exists() and not Path(FLAGS.output).is_dir():
        raise InputError(f"--output={FLAGS.output}: is a file, expected a folder")


def _found(model: str):
    """The model's file, and the manifest of the run it lies in, if it lies in one."""
    from posecascade.formats import runtime, zoo
    from posecascade.inference.predictor import model_file

    path = Path(model)
    if not zoo.is_shipped(model) and path.exists() and runtime.is_artifact(path):
        raise InputError(f"--model={path}: is an export itself; give the .keras file or the run's folder that it was "
                         "made from")
    file = model_file(model)
    beside = file.parent / "manifest.json"
    try:
        return file, json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(f"{beside}: cannot be read ({error}); remove it or copy it again") from None


def console() -> None:
    """The command `posecascade-export`."""
    app.run(main, FLAGS, __doc__)
