"""posecascade-export --model=MODEL --output=DIR [--data=TYPE:ROOT ...]: convert a model for servers and devices.

  posecascade-export --model=runs/lspet --output=exported

Output in DIR/N, where N is the next version number:
  saved_model.pb, variables/  a SavedModel for TensorFlow Serving: JPEG or PNG in, keypoints in pixels of the image out
  tflite/                     TFLite files from a crop to maps or to keypoints: float32, float16, dynamic and int8
  certificate.json            accuracy, size and speed of each file, compared with the model on validation people

Nothing is written if a file exceeds a limit in the `export` section of the model's recipe. posecascade-predict and
posecascade-evaluate accept DIR, DIR/N and the .tflite files as --model.
"""

import json
import os
from pathlib import Path

from absl import flags

from posecascade import datasets
from posecascade.cli import app, streams
from posecascade.errors import InputError

FLAGS = flags.FlagValues()
app.define_path("model", None, "lite or base, which come with the package; a .keras file; or the folder of a "
                "training run", flag_values=FLAGS)
app.define_path("output", None, "folder of all versions, the base path for TensorFlow Serving; created if "
                "necessary", flag_values=FLAGS)
flags.DEFINE_multi_string("data", [], "TYPE:ROOT, a data set to calibrate and evaluate on, instead of those that the "
                          "model was trained on; TYPE is one of " + ", ".join(datasets.READERS), flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "KEY=VALUE, a value to use instead of the recipe's, such as "
                          "export.max_pck_drop=2; only keys of the export section", flag_values=FLAGS)
flags.DEFINE_string("license", None, "license of the weights, written into the files (default: a reference to the "
                    "license of the training data)", flag_values=FLAGS)

SECTION = "export."


def main(arguments: list[str]) -> None:
    """Export the model; raise InputError if an artifact exceeds a limit."""
    _check(arguments)
    app.check_temporary_folder()
    os.environ["KERAS_BACKEND"] = "tensorflow"  # conversion needs it; .keras files do not depend on the backend
    with app.quietly():
        from posecascade.export.exporting import export, prepared
        from posecascade.export.tflite_files import TERMS

        model, manifest = _model_and_manifest(FLAGS.model)
        recipe, people = prepared(model, FLAGS.data, FLAGS.set)
        license = FLAGS.license or TERMS
        try:
            folder = export(model, Path(FLAGS.output), people, recipe, license=license, manifest=manifest,
                            log=streams.say)
        except OSError as error:
            raise InputError(f"--output={FLAGS.output}: cannot be written ({error.strerror or error}); "
                             "free disk space or choose another folder") from None
    streams.say(f"exported to {folder}")


def _check(arguments):
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; options begin with --")
    for name, expected in (("model", "the .keras file or the folder of a training run"), ("output", "a folder")):
        if not FLAGS[name].value:
            raise InputError(f"--{name}: is missing; pass --{name}=..., {expected}")
    for override in FLAGS["set"].value:
        if not override.startswith(SECTION):
            raise InputError(f"--set={override}: expected a key that begins with {SECTION!r}; the others do not affect "
                             "an export")
    if Path(FLAGS.output).exists() and not Path(FLAGS.output).is_dir():
        raise InputError(f"--output={FLAGS.output}: is a file; expected a folder")


def _model_and_manifest(model: str):
    """Return the model's file, and the manifest.json next to it, None if there is none."""
    from posecascade.formats import runtime, zoo
    from posecascade.inference.predictor import model_file

    path = Path(model)
    if not zoo.is_shipped(model) and path.exists() and runtime.is_artifact(path):
        raise InputError(f"--model={path}: is an export already; pass the .keras file, or the folder of the run, that "
                         "it was made from")
    file = model_file(model)
    manifest = file.parent / "manifest.json"
    try:
        return file, json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(f"{manifest}: cannot be read ({error}); remove it or copy it again") from None


def console() -> None:
    """The command `posecascade-export`."""
    app.run(main, FLAGS, __doc__)
