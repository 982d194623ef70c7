"""The time of a call; as a program, of each signature of a SavedModel.

python -m posecascade.export.stopwatch FOLDER PICTURE.npy prints a line of JSON, milliseconds by signature, for requests
of that one picture (S, S, 3) uint8. A process of its own, since TensorFlow takes its number of threads once; Keras and
the rest of the package are not loaded.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

WARM, CALLS = 5, 30  # the first calls allocate; a median of 30 is steady within a few per cent on an idle machine


def times_ms(call: Callable[[], object], calls: int = CALLS) -> list[float]:
    """Milliseconds of each call, after WARM that are not counted."""
    times = []
    for _ in range(WARM + calls):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return times[WARM:]


def median_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    return round(float(np.median(times_ms(call))), 3)


def main() -> None:
    """Time the SavedModel that the command line names."""
    import tensorflow as tf

    from posecascade.export.warmup import requests

    folder, picture = sys.argv[1:]
    loaded = tf.saved_model.load(folder)
    found = {}
    for name, inputs in requests(np.load(picture)[None], (1,)):
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        found[name] = median_ms(partial(loaded.signatures[name], **tensors))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
