"""How long an artefact takes for one person: the median of many calls, on one thread and on two.

python -m posecascade.export.latency FOLDER PICTURE.npy prints a SavedModel's, since TensorFlow takes its number of
threads once per process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from posecascade.errors import InputError
from posecascade.export import runtime

THREADS = (1, 2)
WARM, CALLS = 5, 30  # the first calls allocate; a median of 30 is steady within a few per cent on an idle machine

Latencies = dict[str, float]


def median_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    times = []
    for number in range(WARM + CALLS):
        began = time.perf_counter()
        call()
        if number >= WARM:
            times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times)), 3)


def of_tflite(model: bytes) -> Latencies:
    """Milliseconds for one crop, by the number of threads."""
    found = {}
    for threads in THREADS:
        interpreter = runtime.interpreter(model, threads)
        [entry] = interpreter.get_input_details()
        interpreter.set_tensor(entry["index"], np.full(entry["shape"], 127, entry["dtype"]))
        found[str(threads)] = median_ms(interpreter.invoke)
    return found


def of_saved_model(folder: Path, picture: np.ndarray) -> dict[str, Latencies]:
    """By signature, milliseconds for one request of one picture, by the number of threads; in fresh processes.

    `picture` is (S, S, 3) uint8 RGB, of a person, at the input size.
    """
    found: dict[str, Latencies] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch) / "picture.npy"
        np.save(sample, picture)
        for threads in THREADS:
            limit = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
            command = [sys.executable, "-m", "posecascade.export.latency", str(folder), str(sample)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | limit)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise InputError(f"{folder}: the SavedModel could not be run in a fresh process ({last}); "
                                 "export again, and report it if it happens again")
            for name, value in json.loads(done.stdout.strip().splitlines()[-1]).items():
                found.setdefault(name, {})[str(threads)] = value
    return found


def main() -> None:
    """Print a SavedModel's latencies, one number per signature, as a line of JSON."""
    import tensorflow as tf

    from posecascade.export.saved_model import requests

    folder, picture = sys.argv[1:]
    loaded = tf.saved_model.load(folder)
    found = {}
    for name, inputs in requests(np.load(picture)[None], (1,)):
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        found[name] = median_ms(lambda call=loaded.signatures[name], tensors=tensors: call(**tensors))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
