"""posecascade-benchmark ARTIFACT...: measure the speed of exported TFLite files on this machine.

ARTIFACT is a .tflite file, a folder of such files, or an export (its newest version). The command prints a table with
the time of one call for each file, delegate and number of threads: from a crop in memory to the outputs in memory,
without reading, cropping or drawing. Delegates:

  cpu         LiteRT's interpreter with XNNPACK, its default
  no_xnnpack  LiteRT's interpreter with its own kernels; the reference for `agrees`
  compiled    LiteRT's CompiledModel on the CPU
  gpu         LiteRT's CompiledModel on the GPU; unsupported operators run on the CPU
  PATH.so     the external delegate in that library, such as a vendor's NPU delegate

A delegate that cannot run here is reported on standard error and skipped. Every round times all combinations, each
round starting with another one, so that a machine that throttles slows all of them equally. The command reports a last
round that was slower than the first. Columns, in milliseconds except `agrees`:

  median   median over the rounds of each round's median
  95 %     confidence interval of the median; needs at least six rounds
  fastest  the fastest call
  load     from opening the file to the first result
  agrees   correlation of the outputs with those of no_xnnpack on the same random input; near 0, the delegate is broken
"""

import os
import sys
from pathlib import Path

from absl import flags

from posecascade import files
from posecascade.cli import app
from posecascade.errors import InputError
from posecascade.files import did_you_mean

FLAGS = flags.FlagValues()
flags.DEFINE_list("threads", None, "numbers of CPU threads, separated by commas (default: 1,2,4, up to the number of "
                  "cores)", flag_values=FLAGS)
flags.DEFINE_list("delegates", None, "delegates, separated by commas (default: cpu)", flag_values=FLAGS)
flags.DEFINE_integer("num_rounds", 6, "number of rounds; each times every combination", lower_bound=1,
                     flag_values=FLAGS)
flags.DEFINE_integer("num_runs", 30, "timed calls per combination and round, after five that are not timed",
                     lower_bound=1, flag_values=FLAGS)
flags.DEFINE_float("cooldown_s", 0.0, "seconds to wait between rounds, for the machine to cool down", lower_bound=0,
                   flag_values=FLAGS)
app.define_path("json", None, "file to write all figures to, as JSON", flag_values=FLAGS)

USUAL_THREADS = (1, 2, 4)
HEAD = ("artifact", "delegate", "threads", "median ms", "95 %", "fastest", "load", "agrees")


def main(arguments: list[str]) -> None:
    """Time the artifacts and print the table."""
    if not arguments:
        raise InputError("no ARTIFACT given; expected .tflite files, folders of them, or exports")
    threads, delegates = _threads(), _delegates()
    from posecascade.benchmark import benchmark, thermals  # not at the top: wrong flags do not need LiteRT

    paths = list(dict.fromkeys(file for argument in arguments for file in benchmark.files_of(Path(argument))))
    names = {path: path.name if [p.name for p in paths].count(path.name) == 1 else str(path) for path in paths}
    report = benchmark.measure(benchmark.cells(paths, threads, delegates), rounds=FLAGS.num_rounds,
                               calls=FLAGS.num_runs, cooldown_s=FLAGS.cooldown_s, log=_progress)
    _progress("")
    machine = thermals.device()
    if FLAGS.json:
        files.write_json(FLAGS.json, _as_dict(report, machine))
    for (delegate, reason), skipped in report.skipped.items():
        print(f"posecascade-benchmark: delegate {delegate}: skipped for {len(skipped)} of {len(paths)} files "
              f"({reason})", file=sys.stderr)
    print(f"{machine['name']}, {machine['cores']} cores, {machine['processor']}, {machine['system']}")
    print(*_table(report, names), *_remarks(report, names), sep="\n")


def _threads() -> list[int]:
    if FLAGS.threads is None:
        return [count for count in USUAL_THREADS if count <= (os.cpu_count() or 1)]
    if not FLAGS.threads or not all(word.isdecimal() and int(word) > 0 for word in FLAGS.threads):
        raise InputError(f"--threads={','.join(FLAGS.threads)}: expected positive integers, such as --threads=1,2,4")
    return list(dict.fromkeys(map(int, FLAGS.threads)))


def _delegates() -> list[str]:
    from posecascade.benchmark.delegates import DELEGATES

    values = ["cpu"] if FLAGS.delegates is None else FLAGS.delegates
    for value in values:
        if value not in DELEGATES and not Path(value).is_file():
            raise InputError(f"--delegates: {value!r} is neither a delegate nor a file; "
                             f"{did_you_mean(value, DELEGATES)}")
    if not values:
        raise InputError(f"--delegates: is empty; {did_you_mean('', DELEGATES)}")
    return list(dict.fromkeys(value if value in DELEGATES else str(Path(value).resolve()) for value in values))


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:40}\r", end="", file=sys.stderr, flush=True)


def _table(report, names) -> list[str]:
    rows = [HEAD] + [(
        names[row.cell.file], Path(row.cell.delegate).name + ("" if row.whole is not False else "*"),
        str(row.cell.threads), f"{row.median:.2f}", "{:.2f}-{:.2f}".format(*row.interval) if row.interval else "-",
        f"{row.fastest:.2f}", f"{row.load:.0f}", f"{row.agrees:.2f}") for row in report.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text_columns = 2  # aligned left; the others are numbers
    return ["  ".join(cell.ljust(width) if number < text_columns else cell.rjust(width)
                      for number, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]


def _remarks(report, names) -> list[str]:
    """Return notes on delegates, temperature, clock rate and throttling, printed below the table."""
    from posecascade.benchmark.benchmark import MIN_AGREEMENT, MIN_DRIFT

    remarks = []
    if any(row.whole is False for row in report.rows):
        remarks.append("* this delegate runs only a part of the graph; the rest runs on the CPU")
    first, last = report.heat[0], report.heat[-1]
    if first.celsius is not None and last.celsius is not None:
        remarks.append(f"hottest sensor, first and last round: {first.celsius:.0f} and {last.celsius:.0f} °C")
    if first.megahertz is not None and last.megahertz is not None:
        remarks.append(f"clock rate, first and last round: {first.megahertz:.0f} and {last.megahertz:.0f} MHz")
    if report.drift >= MIN_DRIFT:
        remarks.append(f"the last round was {100 * report.drift:.0f} % slower than the first: the machine throttles, "
                       "or other processes run on it; cool it, or wait between rounds with --cooldown_s=SECONDS")
    remarks += [f"{names[row.cell.file]}: the outputs on {Path(row.cell.delegate).name} correlate with the CPU's by "
                f"only {row.agrees:.2f}; do not use this delegate" for row in report.rows if row.agrees < MIN_AGREEMENT]
    return remarks


def _as_dict(report, machine) -> dict:
    from importlib import metadata

    return {
        "device": machine | {"ai_edge_litert": metadata.version("ai-edge-litert")},
        "settings": {"num_rounds": FLAGS.num_rounds, "num_runs": FLAGS.num_runs, "cooldown_s": FLAGS.cooldown_s},
        "rows": [{"file": str(row.cell.file), "bytes": row.cell.file.stat().st_size,
                  "sha256": files.sha256(row.cell.file), "delegate": row.cell.delegate, "threads": row.cell.threads,
                  "median_ms": row.median, "interval_ms": row.interval, "fastest_ms": row.fastest, "load_ms": row.load,
                  "rounds_ms": row.rounds, "agrees": row.agrees, "whole_graph": row.whole} for row in report.rows],
        "heat": [heat._asdict() for heat in report.heat], "drift": report.drift,
        "skipped": [{"delegate": delegate, "reason": reason, "files": list(map(str, skipped))}
                        for (delegate, reason), skipped in report.skipped.items()]}


def console() -> None:
    """The command `posecascade-benchmark`."""
    app.run(main, FLAGS, __doc__)
