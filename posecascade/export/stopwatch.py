"""Measure the time of a call; as a program, of each signature of a SavedModel.

python -m posecascade.export.stopwatch FOLDER IMAGE.npy prints a line of JSON, milliseconds by signature, for requests
of one image (S, S, 3) uint8. It is a separate process, since TensorFlow sets its number of threads once; Keras and the
rest of the package are not loaded.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

WARM, CALLS = 5, 30  # the first calls allocate; a median of 30 varies by a few percent on an idle machine


def times_ms(call: Callable[[], object], calls: int = CALLS) -> list[float]:
    """Return the milliseconds of each call, after WARM calls that are not counted."""
    times = []
    for _ in range(WARM + calls):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return times[WARM:]


def median_ms(call: Callable[[], object]) -> float:
    """Return the median milliseconds of a call."""
    return round(float(np.median(times_ms(call))), 3)


def main() -> None:
    """Time the SavedModel that the command line names."""
    import tensorflow as tf

    from posecascade.export.warmup import requests

    folder, image = sys.argv[1:]
    loaded = tf.saved_model.load(folder)
    latencies = {}
    for name, inputs in requests(np.load(image)[None], (1,)):
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        latencies[name] = median_ms(partial(loaded.signatures[name], **tensors))
    sys.stdout.write(json.dumps(latencies) + "\n")


if __name__ == "__main__":
    main()
