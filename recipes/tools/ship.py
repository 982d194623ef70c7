"""Add a trained model to the package under a name: python recipes/tools/ship.py runs/lite lite [INPUT_SIZE]."""

import dataclasses
import sys
from pathlib import Path

from posecascade.formats import keras_file, zoo
from posecascade.inference.predictor import model_file
from posecascade.training.recipe import recipe_from


def portable(recipe: dict) -> dict:
    """Return the recipe without paths of the machine it was trained on; the model card names the data."""
    model = recipe["model"] | {name: Path(recipe["model"][name]).name for name in ("backbone_weights", "init_from")}
    loss = recipe["loss"] | {"teacher": Path(recipe["loss"]["teacher"]).name}
    return recipe | {"model": model, "loss": loss, "data": recipe["data"] | {"sources": [], "sampling_weights": []}}


def ship(trained: str, name: str, folder: Path, input_size: int | None = None) -> Path:
    """Write FOLDER/NAME.npz and FOLDER/SHA256SUMS; return the former. `input_size` replaces the model's own, in pixels.

    Raises InputError as `keras_file.load`.
    """
    model, metadata = keras_file.load(model_file(trained))
    recipe = recipe_from(metadata.recipe, trained).as_dict()  # with the keys added since the training
    path = folder / f"{name}{zoo.SUFFIX}"
    zoo.save(model, path, dataclasses.replace(metadata, recipe=portable(recipe),
                                              input_size=input_size or metadata.input_size))
    zoo.write_sums(folder)
    return path


if __name__ == "__main__":
    written = ship(sys.argv[1], sys.argv[2], zoo.FOLDER, *map(int, sys.argv[3:]))
    print(f"{written.name}: {written.stat().st_size / 1e6:.1f} MB")
