"""Average the weights of two trainings of one network: mean_of_weights.py FIRST.keras SECOND.keras OUT.keras."""

import dataclasses
import sys

from posecascade.errors import InputError
from posecascade.formats import keras_file


def main(first: str, second: str, output: str) -> None:
    """Write OUT with SECOND's recipe and an empty result. Raises InputError if the networks differ."""
    (model, metadata), (other, _) = keras_file.load(second), keras_file.load(first)
    weights, other_weights = model.get_weights(), other.get_weights()
    if [w.shape for w in weights] != [w.shape for w in other_weights]:
        raise InputError(f"{first} and {second}: have different weights; give two trainings of one recipe")
    model.set_weights([(a + b) / 2 for a, b in zip(weights, other_weights, strict=True)])
    keras_file.save(model, output, dataclasses.replace(metadata, result={}))


if __name__ == "__main__":
    main(*sys.argv[1:])
