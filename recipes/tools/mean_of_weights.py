"""The mean of the weights of two trainings of one network: mean_of_weights.py FIRST.keras SECOND.keras OUT.keras."""

import dataclasses
import sys

from posecascade.errors import InputError
from posecascade.formats import keras_file


def main(first: str, second: str, output: str) -> None:
    """Write OUT, with SECOND's recipe and no result of its own. InputError where the networks differ."""
    (model, metadata), (other, _) = keras_file.load(second), keras_file.load(first)
    ours, theirs = model.get_weights(), other.get_weights()
    if [w.shape for w in ours] != [w.shape for w in theirs]:
        raise InputError(f"{first} and {second}: are not of the same network; give two trainings of one recipe")
    model.set_weights([(a + b) / 2 for a, b in zip(ours, theirs, strict=True)])
    keras_file.save(model, output, dataclasses.replace(metadata, result={}))


if __name__ == "__main__":
    main(*sys.argv[1:])
