"""posecascade-benchmark ARTIFACT...: how long exported TFLite files take on this machine.

ARTIFACT is a .tflite file, a folder of such files, or an export (its newest version); each by itself or several, which
are compared. A table tells, for each file, delegate and number of threads, the milliseconds of one call: from a crop
in memory to the signature's outputs in memory, without reading, cropping or drawing. Delegates:

  cpu         LiteRT's interpreter as it comes, with XNNPACK
  no_xnnpack  its own kernels, which the others are compared with
  compiled    LiteRT's CompiledModel on the CPU
  gpu         CompiledModel on the GPU; what that cannot do, the CPU does
  PATH.so     the external delegate in that library: an NPU's, a vendor's

One that cannot run here is told in a line and passed over. All are timed in turn, in rounds that each begin elsewhere,
so that a machine that slows down with heat slows all of them alike; where the last round was slower than the first,
that is told. `median` and `95 %` are of the rounds' medians (an interval takes six rounds), `fastest` is the fastest
call, `load` is from the file to the first answer, all in milliseconds. `agrees` is the correlation of the outputs with
no_xnnpack's on the same noise: a delegate near 0 is broken, however fast.
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
flags.DEFINE_list("threads", None, "numbers of CPU threads (default: 1, 2 and 4, as far as there are cores)",
                  flag_values=FLAGS)
flags.DEFINE_list("delegates", None, "what to run them on, several with commas (default: cpu)", flag_values=FLAGS)
flags.DEFINE_integer("num_rounds", 6, "how often everything is timed in turn", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("num_runs", 30, "calls of each in a round, after five that do not count", lower_bound=1,
                     flag_values=FLAGS)
flags.DEFINE_float("cooldown_s", 0.0, "seconds between rounds, for the machine to cool down", lower_bound=0,
                   flag_values=FLAGS)
flags.DEFINE_string("json", None, "file to write all figures to", flag_values=FLAGS)

USUAL_THREADS = (1, 2, 4)
HEAD = ("artifact", "delegate", "threads", "median ms", "95 %", "fastest", "load", "agrees")


def main(arguments: list[str]) -> None:
    """Time the artifacts and print the table."""
    if not arguments:
        raise InputError("no ARTIFACT is given; name .tflite files, folders of them or exports")
    threads, chosen = _threads(), _delegates()
    from posecascade.benchmark import benchmark, thermals  # here, because a wrong word need not wait for them

    found = list(dict.fromkeys(file for word in arguments for file in benchmark.files_of(Path(word))))
    names = {file: file.name if [f.name for f in found].count(file.name) == 1 else str(file) for file in found}
    report = benchmark.measure(benchmark.cells(found, threads, chosen), rounds=FLAGS.num_rounds, calls=FLAGS.num_runs,
                               cooldown_s=FLAGS.cooldown_s, log=_progress)
    _progress("")
    machine = thermals.device()
    if FLAGS.json:
        files.write_json(FLAGS.json, _as_dict(report, machine))
    for (delegate, why), those in report.skipped.items():
        print(f"posecascade-benchmark: delegate {delegate} is passed over for {len(those)} of {len(found)} files "
              f"({why})", file=sys.stderr)
    print(f"{machine['name']}, {machine['cores']} cores, {machine['processor']}, {machine['system']}")
    print(*_table(report, names), *_remarks(report, names), sep="\n")


def _threads() -> list[int]:
    if FLAGS.threads is None:
        return [count for count in USUAL_THREADS if count <= (os.cpu_count() or 1)]
    if not FLAGS.threads or not all(word.isdecimal() and int(word) > 0 for word in FLAGS.threads):
        raise InputError(f"--threads={','.join(FLAGS.threads)}: expected whole numbers above 0, as in --threads=1,2,4")
    return list(dict.fromkeys(map(int, FLAGS.threads)))


def _delegates() -> list[str]:
    from posecascade.benchmark.delegates import DELEGATES

    words = ["cpu"] if FLAGS.delegates is None else FLAGS.delegates
    for word in words:
        if word not in DELEGATES and not Path(word).is_file():
            raise InputError(f"--delegates: {word!r} is neither a delegate nor the file of one; "
                             f"{did_you_mean(word, DELEGATES)}")
    if not words:
        raise InputError(f"--delegates is empty; {did_you_mean('', DELEGATES)}")
    return list(dict.fromkeys(word if word in DELEGATES else str(Path(word).resolve()) for word in words))


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:40}\r", end="", file=sys.stderr, flush=True)


def _table(report, names) -> list[str]:
    rows = [HEAD] + [(
        names[row.cell.file], Path(row.cell.delegate).name + ("" if row.whole is not False else "*"),
        str(row.cell.threads), f"{row.median:.2f}", "{:.2f}-{:.2f}".format(*row.interval) if row.interval else "-",
        f"{row.fastest:.2f}", f"{row.load:.0f}", f"{row.agrees:.2f}") for row in report.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = 2  # columns of words; the others are numbers
    return ["  ".join(cell.ljust(width) if number < left else cell.rjust(width)
                      for number, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]


def _remarks(report, names) -> list[str]:
    """What the table alone would not tell."""
    from posecascade.benchmark.benchmark import MIN_AGREEMENT, MIN_DRIFT

    remarks = []
    if any(row.whole is False for row in report.rows):
        remarks.append("* not all of the graph is on it; the CPU does the rest")
    first, last = report.heat[0], report.heat[-1]
    if first.celsius is not None and last.celsius is not None:
        remarks.append(f"hottest sensor, first and last round: {first.celsius:.0f} and {last.celsius:.0f} °C")
    if first.megahertz is not None and last.megahertz is not None:
        remarks.append(f"clock, first and last round: {first.megahertz:.0f} and {last.megahertz:.0f} MHz")
    if report.drift >= MIN_DRIFT:
        remarks.append(f"the last round was slower than the first by {100 * report.drift:.0f} %: the device throttles, "
                       "or something else runs on it; cool it, or let it cool down with --cooldown_s=SECONDS")
    remarks += [f"{names[row.cell.file]}: outputs on {Path(row.cell.delegate).name} agree with the CPU's to "
                f"{row.agrees:.2f} only; do not use it" for row in report.rows if row.agrees < MIN_AGREEMENT]
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
        "passed_over": [{"delegate": delegate, "reason": why, "files": list(map(str, those))}
                        for (delegate, why), those in report.skipped.items()]}


def console() -> None:
    """The command `posecascade-benchmark`."""
    app.run(main, FLAGS, __doc__)
