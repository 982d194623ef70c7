"""posecascade-train --recipe=RECIPE --model_dir=DIR [--data=TYPE:ROOT ...] [--set=KEY=VALUE ...]: train a model.

  posecascade-train --recipe=quickstart --model_dir=runs/quickstart
  posecascade-train --recipe=lspet_mobile --data=lspet:DIR --set=model.backbone_weights=FILE.npz --model_dir=runs/lspet

Output in DIR:
  best.keras, last.keras       the model with the best validation result, and the last one
  log.csv, tensorboard/        losses and validation results, written during training
  metrics.json, curve.png,     the evaluation of best.keras, written at the end
  predictions.jpg
  recipe.yaml, manifest.json   the settings and versions needed to repeat the run
  state.npz                    the state to resume from

An interrupted run is resumed by the same command, with the same result as a run without interruption.
A larger training.epochs with the same DIR adds epochs to a run.
"""

from absl import flags

from posecascade import datasets
from posecascade.cli import app, streams
from posecascade.errors import InputError

FLAGS = flags.FlagValues()
app.define_path("recipe", None, "name of a recipe of the package, or a .yaml file", flag_values=FLAGS)
app.define_path("model_dir", None, "folder of the run, created if necessary", flag_values=FLAGS)
flags.DEFINE_multi_string("data", [], "TYPE:ROOT, a data set to use instead of those of the recipe; TYPE is one of "
                          + ", ".join(datasets.READERS), flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "KEY=VALUE, a value to use instead of the recipe's, such as training.epochs=3",
                          flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Train a model as the flags say."""
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; options begin with --")
    for name, expected in (("recipe", "quickstart, or a .yaml file"), ("model_dir", "a folder for the run")):
        if not FLAGS[name].value:
            raise InputError(f"--{name}: is missing; pass --{name}=..., {expected}")
    app.load_backend()  # not at the top: --help and wrong flags do not need Keras
    from posecascade.training.recipe import load_recipe
    from posecascade.training.trainer import train

    recipe = load_recipe(FLAGS.recipe, FLAGS.set)
    try:
        train(recipe, FLAGS.model_dir, FLAGS.data, log=streams.say)
    except OSError as error:
        raise InputError(f"--model_dir={FLAGS.model_dir}: cannot be written ({error.strerror}); free disk "
                         "space or choose another folder") from None


def console() -> None:
    """The command `posecascade-train`."""
    app.run(main, FLAGS, __doc__)
