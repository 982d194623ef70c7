"""posecascade-train --recipe=NAME_OR_FILE --model_dir=DIR [--data=TYPE:ROOT ...] [--set=KEY=VALUE ...]: train.

  posecascade-train --recipe=quickstart --model_dir=runs/quickstart
  posecascade-train --recipe=lspet_mobile --data=lspet:DIR --set=model.backbone_weights=FILE.npz --model_dir=runs/lspet

DIR gets best.keras and last.keras; log.csv and tensorboard/ while it runs; metrics.json, curve.png and predictions.jpg
at the end; recipe.yaml and manifest.json, by which it can be repeated. Killed at any moment and started again with the
same command it goes on from state.npz as if nothing had happened.
"""

from absl import flags

from posecascade import datasets
from posecascade.cli import app
from posecascade.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("recipe", None, "a recipe of the package by name, or a .yaml file", flag_values=FLAGS)
flags.DEFINE_string("model_dir", None, "folder of the run: models, log, state to go on from", flag_values=FLAGS)
flags.DEFINE_multi_string("data", [], "TYPE:ROOT instead of the recipe's, repeatable; TYPE is one of "
                          + ", ".join(datasets.READERS), flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "KEY=VALUE instead of the recipe's, repeatable, as in training.epochs=3",
                          flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Train; InputError for whatever a user can mend."""
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; every option begins with --")
    for name, example in (("recipe", "quickstart, or a .yaml file"), ("model_dir", "a folder for the run")):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is missing; pass --{name}=..., {example}")
    app.load_backend()  # here, because --help and a wrong flag need not wait for it
    from posecascade.training.recipe import load_recipe
    from posecascade.training.trainer import train

    recipe = load_recipe(FLAGS.recipe, FLAGS.set)
    try:
        train(recipe, FLAGS.model_dir, FLAGS.data, tell=lambda line: print(line, flush=True))
    except OSError as error:
        raise InputError(f"--model_dir={FLAGS.model_dir}: cannot be written ({error.strerror}); "
                         "free or choose another") from None


def console() -> None:
    """The command `posecascade-train`."""
    app.run(main, FLAGS, __doc__)
