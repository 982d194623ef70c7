"""Put a trained model into the package under a name: python recipes/tools/ship.py runs/lite lite [INPUT_SIZE]."""

import dataclasses
import sys
from pathlib import Path

from posecascade.formats import keras_file, zoo
from posecascade.inference.predictor import model_file
from posecascade.training.recipe import recipe_from


def portable(recipe: dict) -> dict:
    """The recipe without the paths of the machine it was trained on; which data it names is for the model card."""
    model = recipe["model"] | {name: Path(recipe["model"][name]).name for name in ("backbone_weights", "init_from")}
    loss = recipe["loss"] | {"teacher": Path(recipe["loss"]["teacher"]).name}
    return recipe | {"model": model, "loss": loss, "data": recipe["data"] | {"sources": [], "sampling_weights": []}}


def ship(trained: str, name: str, folder: Path, input_size: int | None = None) -> Path:
    """Write FOLDER/NAME.npz and SHA256SUMS there; the file. `input_size` in pixels where it is to see other crops.

    Raises InputError as `pretrained.load`.
    """
    model, metadata = keras_file.load(model_file(trained))
    recipe = recipe_from(metadata.recipe, trained).as_dict()  # with the knobs that came after the training
    path = folder / f"{name}{zoo.SUFFIX}"
    zoo.save(model, path, dataclasses.replace(metadata, recipe=portable(recipe),
                                                  input_size=input_size or metadata.input_size))
    zoo.write_sums(folder)
    return path


if __name__ == "__main__":
    written = ship(sys.argv[1], sys.argv[2], zoo.FOLDER, *map(int, sys.argv[3:]))
    print(f"{written.name}: {written.stat().st_size / 1e6:.1f} MB")
