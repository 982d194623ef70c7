"""A TFLite file's signature on a delegate of choice; as a program, its times in a process of its own.

python -m posecascade.benchmark.delegates FILE DELEGATE THREADS CALLS prints `timed`'s line of JSON. In a process of its
own a delegate that crashes, or that writes to standard error, harms nobody, and memory holds one model at a time.
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

PLAIN = "no_xnnpack"  # LiteRT's own kernels: what others are compared with
CONFIDENCES = ("heatmaps", "parts", "scores")  # outputs that do not jump, as joints do, where rounding moves a peak
UNAVAILABLE = 3  # the program's exit code

Call = Callable[[np.ndarray], dict[str, np.ndarray]]


class Opened(NamedTuple):
    """A file ready to be called: crop (1, S, S, 3) to outputs by name; whether the delegate runs all of its graph."""

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

    wanted = HardwareAccelerator(0)
    for name in accelerators:
        wanted |= HardwareAccelerator[name]
    model = CompiledModel.from_file(str(path), options=Options(hardware_accelerators=wanted,
                                                               cpu_options=CpuOptions(num_threads=threads)))
    [key] = model.get_signature_list()
    [(name, details)] = model.get_input_tensor_details(key).items()
    given = model.create_input_buffer_by_name(key, name)
    outputs = {output: (model.create_output_buffer_by_name(key, output), tuple(entry["shape"]))
               for output, entry in model.get_output_tensor_details(key).items()}
    buffers = {output: buffer for output, (buffer, _) in outputs.items()}

    def call(crop):
        given.write(crop)
        model.run_by_name(key, {name: given}, buffers)
        return {output: buffer.read(int(np.prod(shape)), np.float32).reshape(shape)
                for output, (buffer, shape) in outputs.items()}

    return Opened(call, tuple(details["shape"]), np.dtype(details["dtype"]), model.is_fully_accelerated())


DELEGATES: dict[str, Callable[[Path, int], Opened]] = {
    "cpu": _interpreted,  # with XNNPACK, as the interpreter comes
    PLAIN: lambda path, threads: _interpreted(path, threads, "BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
    "compiled": lambda path, threads: _compiled(path, threads, "CPU"),
    "gpu": lambda path, threads: _compiled(path, threads, "GPU", "CPU"),  # what the GPU cannot, the CPU does
}
ONE_THREAD_COUNT = ("gpu",)  # whose time hardly depends on the number of the CPU's threads


def opened(path: Path, delegate: str, threads: int) -> Opened:
    """The file on one of DELEGATES, or on the external delegate in that shared library.

    Raises what LiteRT raises where it cannot (OSError, ValueError, RuntimeError), ImportError where it has no such.
    """
    if delegate in DELEGATES:
        return DELEGATES[delegate](path, threads)
    return _interpreted(path, threads, library=delegate)


def timed(path: Path, delegate: str, threads: int, calls: int) -> dict:
    """How long a call takes: crop in memory to outputs in memory.

    "load_ms" is from the file to the first answer; "times_ms" of each call after the warm-up; "agrees" the `agreement`
    of the first answer with that of PLAIN; "whole" as `Opened`; and `thermals.Heat` at the end.
    """
    began = time.perf_counter()
    model = opened(path, delegate, threads)
    crop = np.random.default_rng(0).integers(0, 256, model.shape).astype(model.dtype)
    found = model.call(crop)
    load = 1000 * (time.perf_counter() - began)
    times = stopwatch.times_ms(lambda: model.call(crop), calls)
    heat = thermals.read()
    plain = opened(path, PLAIN, 1).call(crop)
    agrees = min(agreement(found[name], plain[name]) for name in CONFIDENCES if name in plain)
    return {"load_ms": load, "times_ms": times, "agrees": agrees, "whole": model.whole, **heat._asdict()}


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """The correlation of two arrays of confidences: near 1 for one model on two delegates, near 0 for a broken one."""
    one, two = (np.nan_to_num(values.astype(np.float64)).ravel() for values in (found, expected))
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else float(np.allclose(found, expected, atol=0.05))  # all alike: one joint


def main() -> None:
    """Time what the command line names, or tell why that cannot be."""
    path, delegate, threads, calls = sys.argv[1:]
    try:
        result, code = timed(Path(path), delegate, int(threads), int(calls)), 0
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        result, code = {"unavailable": first_line(error)}, UNAVAILABLE
    sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
