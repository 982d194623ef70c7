"""Call a TFLite file's signature on a delegate; as a program, time it.

python -m posecascade.benchmark.delegates FILE DELEGATE THREADS CALLS prints the result of `timed` as a line of JSON. It
is a separate process, so that a delegate may crash or write to standard error, and memory holds one model at a time.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posecascade.benchmark import thermals
from posecascade.errors import first_line
from posecascade.export import stopwatch

REFERENCE = "no_xnnpack"  # LiteRT's own kernels, with which the others are compared
CONFIDENCES = ("heatmaps", "parts", "scores")  # outputs that are continuous; keypoints jump if rounding moves a peak
UNAVAILABLE = 3  # the program's exit code

Call = Callable[[np.ndarray], dict[str, np.ndarray]]


class Opened(NamedTuple):
    """Hold a loaded file: `call` maps a crop (1, S, S, 3) to outputs by name; `whole` is as in `benchmark.Row`."""

    call: Call
    shape: tuple[int, ...]
    dtype: np.dtype
    whole: bool | None = None


def _interpreted(path, threads, resolver="AUTO", library=None):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

    delegates = [load_delegate(library)] if library else None
    interpreter = Interpreter(str(path), num_threads=threads, experimental_delegates=delegates,
                              experimental_op_resolver_type=OpResolverType[resolver])
    interpreter.allocate_tensors()
    [key] = interpreter.get_signature_list()
    run = interpreter.get_signature_runner(key)
    [(name, details)] = run.get_input_details().items()
    return Opened(lambda crop: run(**{name: crop}), tuple(map(int, details["shape"])), np.dtype(details["dtype"]))


def _compiled(path, threads, *accelerators):
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, Options

    flags = HardwareAccelerator(0)
    for name in accelerators:
        flags |= HardwareAccelerator[name]
    model = CompiledModel.from_file(str(path), options=Options(hardware_accelerators=flags,
                                                               cpu_options=CpuOptions(num_threads=threads)))
    [key] = model.get_signature_list()
    [(name, details)] = model.get_input_tensor_details(key).items()
    source = model.create_input_buffer_by_name(key, name)
    outputs = {output: (model.create_output_buffer_by_name(key, output), tuple(entry["shape"]))
               for output, entry in model.get_output_tensor_details(key).items()}
    buffers = {output: buffer for output, (buffer, _) in outputs.items()}

    def call(crop):
        source.write(crop)
        model.run_by_name(key, {name: source}, buffers)
        return {output: buffer.read(int(np.prod(shape)), np.float32).reshape(shape)
                for output, (buffer, shape) in outputs.items()}

    return Opened(call, tuple(details["shape"]), np.dtype(details["dtype"]), model.is_fully_accelerated())


DELEGATES: dict[str, Callable[[Path, int], Opened]] = {
    "cpu": _interpreted,  # with XNNPACK, the interpreter's default
    REFERENCE: lambda path, threads: _interpreted(path, threads, "BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
    "compiled": lambda path, threads: _compiled(path, threads, "CPU"),
    "gpu": lambda path, threads: _compiled(path, threads, "GPU", "CPU"),  # the CPU runs what the GPU cannot
}
ONE_THREAD_COUNT = ("gpu",)  # its time hardly depends on the number of CPU threads


def opened(path: Path, delegate: str, threads: int) -> Opened:
    """Load the file on one of DELEGATES, or on the external delegate in that shared library.

    Raises LiteRT's OSError, ValueError or RuntimeError if it fails, ImportError if LiteRT lacks the delegate.
    """
    if delegate in DELEGATES:
        return DELEGATES[delegate](path, threads)
    return _interpreted(path, threads, library=delegate)


def timed(path: Path, delegate: str, threads: int, calls: int) -> dict:
    """Time calls from a crop in memory to outputs in memory.

    Returns "load_ms", from the file to the first output; "times_ms" of each call after the warm-up; "agrees", the
    `agreement` of the first output with that of REFERENCE; "whole" as in `Opened`; and `thermals.Heat` at the end.
    """
    began = time.perf_counter()
    model = opened(path, delegate, threads)
    crop = np.random.default_rng(0).integers(0, 256, model.shape).astype(model.dtype)
    outputs = model.call(crop)
    load = 1000 * (time.perf_counter() - began)
    times = stopwatch.times_ms(lambda: model.call(crop), calls)
    heat = thermals.read()
    reference = opened(path, REFERENCE, 1).call(crop)
    agrees = min(agreement(outputs[name], reference[name]) for name in CONFIDENCES if name in reference)
    return {"load_ms": load, "times_ms": times, "agrees": agrees, "whole": model.whole, **heat._asdict()}


def agreement(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the correlation of two arrays of confidences: near 1 for correct delegates, near 0 for broken ones."""
    one, two = (np.nan_to_num(values.astype(np.float64)).ravel() for values in (actual, expected))
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else float(np.allclose(actual, expected, atol=0.05))  # constant


def main() -> None:
    """Time the file that the command line names, or print why that fails."""
    path, delegate, threads, calls = sys.argv[1:]
    try:
        result, code = timed(Path(path), delegate, int(threads), int(calls)), 0
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        result, code = {"unavailable": first_line(error)}, UNAVAILABLE
    sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
