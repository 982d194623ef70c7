"""Measure an artifact's latency for one person: the median of many calls, on one and on two threads."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from posecascade.errors import InputError
from posecascade.export.stopwatch import median_ms
from posecascade.formats import runtime

THREADS = (1, 2)

Latencies = dict[str, float]


def of_tflite(model: bytes) -> Latencies:
    """Return the milliseconds for one crop, or its maps, by number of threads."""
    latencies = {}
    for threads in THREADS:
        interpreter = runtime.interpreter(model, threads)
        for entry in interpreter.get_input_details():
            interpreter.set_tensor(entry["index"], np.full(entry["shape"], 127, entry["dtype"]))
        latencies[str(threads)] = median_ms(interpreter.invoke)
    return latencies


def of_saved_model(folder: Path, image: np.ndarray) -> dict[str, Latencies]:
    """Return for each signature the milliseconds for a request of one image, by number of threads.

    Each number of threads is measured in a fresh process. `image` is (S, S, 3) uint8 RGB, of a person, at the input
    size.
    """
    latencies: dict[str, Latencies] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch) / "image.npy"
        np.save(sample, image)
        for threads in THREADS:
            limit = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
            command = [sys.executable, "-m", "posecascade.export.stopwatch", str(folder), str(sample)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | limit)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise InputError(f"{folder}: the SavedModel could not be run in a fresh process ({last}); "
                                 "export again; report it if it happens again")
            for name, value in json.loads(done.stdout.strip().splitlines()[-1]).items():
                latencies.setdefault(name, {})[str(threads)] = value
    return latencies
