"""Measure the latency of exported TFLite files on this machine, by delegate and threads, in rounds."""

import itertools
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecascade.benchmark import delegates
from posecascade.benchmark.thermals import Heat
from posecascade.errors import InputError
from posecascade.formats import bundle, tflite_file
from posecascade.formats.runtime import DECODER
from posecascade.formats.tflite_file import SUFFIX

CONFIDENCE = 0.95
MIN_DRIFT = 0.05  # relative slowdown of the last round that is reported
MIN_AGREEMENT = 0.8  # of `delegates.agreement`: int8 files on correct kernels reach 0.9, noise about 0
_ERROR = re.compile(r"^(?:ERROR|E\d{4}): \[[^\]]*\] (.+)$", re.M)  # LiteRT's log; its exceptions name source lines


@dataclass(frozen=True)
class Cell:
    """Name what is timed together: a file on a delegate with a number of threads."""

    file: Path
    delegate: str
    threads: int


@dataclass(frozen=True)
class Row:
    """Hold a cell's times over all rounds, in milliseconds for one crop.

    Attributes:
        rounds: the median of the calls of each round.
        fastest: the fastest single call.
        load: from the file to the first output, median over the rounds, each of which loads the file.
        agrees: the minimum `delegates.agreement` with the CPU's own kernels.
        whole: whether the delegate reports that it runs the complete graph; None if it does not report it.
    """

    cell: Cell
    rounds: tuple[float, ...]
    fastest: float
    load: float
    agrees: float
    whole: bool | None

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return float(np.median(self.rounds))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the confidence interval of the median, 95 % or more; None for fewer than six rounds."""
        return median_interval(self.rounds)


@dataclass(frozen=True)
class Report:
    """Hold what was measured.

    Attributes:
        rows: in the order of the cells.
        heat: at the end of each round: the hottest sensor, and the median of the cells' clocks.
        skipped: (delegate, reason) -> the files that the delegate could not run.
    """

    rows: tuple[Row, ...]
    heat: tuple[Heat, ...]
    skipped: Mapping[tuple[str, str], Sequence[Path]]

    @property
    def drift(self) -> float:
        """Return the relative slowdown of the last round against the first: the median over the cells."""
        return float(np.median([row.rounds[-1] / row.rounds[0] - 1 for row in self.rows]))


def files_of(path: Path) -> list[Path]:
    """Return the TFLite files of a path: the file itself, or those in an export, its newest version, or a folder.

    The decoder of an export is excluded, since it takes no crop. Every byte is checked. Raises InputError for any other
    path, and for a damaged file.
    """
    if path.suffix == SUFFIX:
        paths = [path]
    elif path.is_dir():
        folder = bundle.folder_of(path)
        paths = sorted((folder / bundle.TFLITE if bundle.is_bundle(folder) else folder).glob(f"*{SUFFIX}"))
    else:
        paths = []
    if not paths:
        raise InputError(f"{path}: is neither a {SUFFIX} file nor a folder of them; give what posecascade-export wrote "
                         "(to export a model: posecascade-export --model=MODEL --output=DIR)")
    of_crops = [file for file in paths if tflite_file.read(file).metadata.get("kind") != DECODER]
    if not of_crops:
        raise InputError(f"{path}: takes maps, expected a model of images; give a heatmaps or keypoints file of the "
                         "same export")
    return of_crops


def cells(files: Sequence[Path], threads: Sequence[int], names: Sequence[str]) -> list[Cell]:
    """Return the cells of all files, delegates and threads, file by file."""
    return [Cell(file, name, count) for file, name in itertools.product(files, names)
            for count in ((max(threads),) if name in delegates.ONE_THREAD_COUNT else threads)]


def measure(cells: Sequence[Cell], *, rounds: int, calls: int, cooldown_s: float = 0.0,
            log: Callable[[str], None] = lambda line: None) -> Report:
    """Time every cell once a round.

    A hot machine is slower. Each round therefore times all cells and begins at another one, so that over all rounds
    each cell is early as often as late.

    Args:
        cells: what to time. Cells that cannot be run are skipped.
        rounds, calls: rounds, and calls of each cell in a round.
        cooldown_s: seconds between two rounds.
        log: called with a line about the progress.
    Raises:
        InputError: none of the cells can be run.
    """
    outcomes: dict[Cell, list[dict]] = {cell: [] for cell in cells}
    skipped: dict[tuple[str, str], list[Path]] = {}
    heat = []
    for number in range(rounds):
        if number:
            time.sleep(cooldown_s)
        order = list(outcomes)
        start = number * len(order) // rounds
        for position, cell in enumerate(order[start:] + order[:start], 1):
            log(f"round {number + 1} of {rounds}, {position} of {len(order)}")
            outcome = timed(cell, calls)
            if isinstance(outcome, str):
                del outcomes[cell]
                files = skipped.setdefault((cell.delegate, outcome), [])
                files += [] if cell.file in files else [cell.file]
            else:
                outcomes[cell].append(outcome)
        if not outcomes:
            raise InputError("; ".join(f"delegate {name} cannot run here ({why})" for name, why in skipped)
                             + "; choose another --delegates")
        heat.append(_heat([times[-1] for times in outcomes.values()]))
    return Report(tuple(_row(cell, times) for cell, times in outcomes.items()), tuple(heat), skipped)


def timed(cell: Cell, calls: int) -> dict | str:
    """Return the result of `delegates.timed` in a fresh process, or the reason if it fails."""
    command = [sys.executable, "-m", delegates.__name__, cell.file, cell.delegate, cell.threads, calls]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    logged = _ERROR.search(done.stderr)
    if done.returncode == delegates.UNAVAILABLE:
        return logged[1] if logged else json.loads(done.stdout.splitlines()[-1])["unavailable"]
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"its process ended with {done.returncode}: {logged[1] if logged else last}"


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the smallest interval between two of the values that is a 95 % confidence interval of the median.

    It holds for every distribution: the number of values below the median is binomial with probability 1/2. None for
    fewer than six values, whose minimum and maximum are too few.
    """
    ordered, count = sorted(values), len(values)
    outside, best = 0.0, None
    for cut in range(count // 2):
        outside += 2 * math.comb(count, cut) / 2 ** count
        if outside > 1 - CONFIDENCE:
            break
        best = (ordered[cut], ordered[-1 - cut])
    return best


def _row(cell, outcomes):
    return Row(cell, tuple(float(np.median(one["times_ms"])) for one in outcomes),
               min(min(one["times_ms"]) for one in outcomes), float(np.median([one["load_ms"] for one in outcomes])),
               min(one["agrees"] for one in outcomes), outcomes[0]["whole"])


def _heat(outcomes):
    celsius, megahertz = ([one[name] for one in outcomes if one[name] is not None] for name in Heat._fields)
    return Heat(max(celsius, default=None), float(np.median(megahertz)) if megahertz else None)
