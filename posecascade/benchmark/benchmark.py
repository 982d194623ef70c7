"""How long exported TFLite files take on this machine, by delegate and threads, in rounds that heat them alike."""

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
from posecascade.formats import bundle
from posecascade.formats.runtime import DECODER
from posecascade.formats.tflite_file import SUFFIX, unseal

CONFIDENCE = 0.95
DRIFT = 0.05      # of the time: a last round that differs less from the first is not worth a word
AGREES = 0.8      # least `delegates.agreement`: of int8 files on sound kernels it is 0.9 and more, of noise about 0
_ERROR = re.compile(r"^(?:ERROR|E\d{4}): \[[^\]]*\] (.+)$", re.M)  # LiteRT's log; its exceptions name source lines


@dataclass(frozen=True)
class Cell:
    """What is timed together: a file, on a delegate, with that many threads."""

    file: Path
    delegate: str
    threads: int


@dataclass(frozen=True)
class Row:
    """A cell's times over all rounds, in milliseconds for one crop.

    Attributes:
        rounds: the median of each round's calls.
        fastest: the fastest single call.
        load: from the file to the first answer, median over the rounds; each loads it anew.
        agrees: the least `delegates.agreement` with the CPU's own kernels.
        whole: whether the delegate says that it runs the whole graph; None where it does not say.
    """

    cell: Cell
    rounds: tuple[float, ...]
    fastest: float
    load: float
    agrees: float
    whole: bool | None

    @property
    def median(self) -> float:
        """Of the rounds."""
        return float(np.median(self.rounds))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the median of many rounds lies, with a chance of 95 % or more; None with too few rounds to tell."""
        return median_interval(self.rounds)


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        rows: in the order of the cells.
        heat: at the end of each round: the hottest sensor, and the median of the cells' clocks.
        passed_over: of each delegate that could not run some file, why, and the files.
    """

    rows: tuple[Row, ...]
    heat: tuple[Heat, ...]
    passed_over: Mapping[tuple[str, str], Sequence[Path]]

    @property
    def drift(self) -> float:
        """By what share the last round was slower than the first: the median over the cells."""
        return float(np.median([row.rounds[-1] / row.rounds[0] - 1 for row in self.rows]))


def files_of(path: Path) -> list[Path]:
    """The TFLite files of an artifact: itself; those of a bundle, or of its newest version; those in a folder.

    The decoder of an export is not among them, since it takes no crop. Every one has been checked byte for byte.
    Raises InputError for what is none, or damaged.
    """
    if path.suffix == SUFFIX:
        found = [path]
    elif path.is_dir():
        folder = bundle.folder_of(path)
        found = sorted((folder / "tflite" if bundle.is_bundle(folder) else folder).glob(f"*{SUFFIX}"))
    else:
        found = []
    if not found:
        raise InputError(f"{path}: is no {SUFFIX} file, nor a folder that has some; give what posecascade-export wrote "
                         "(of a model that is not exported yet: posecascade-export --model=MODEL --output=DIR)")
    timed = [file for file in found if unseal(file).sidecar.get("kind") != DECODER]
    if not timed:
        raise InputError(f"{path}: takes maps, expected a model of images; give a heatmaps or keypoints file of the "
                         "same export")
    return timed


def cells(files: Sequence[Path], threads: Sequence[int], names: Sequence[str]) -> list[Cell]:
    """All that is to be timed, file by file."""
    return [Cell(file, name, count) for file, name in itertools.product(files, names)
            for count in ((max(threads),) if name in delegates.ONE_THREAD_COUNT else threads)]


def measure(wanted: Sequence[Cell], *, rounds: int, calls: int, rest: float = 0.0,
            tell: Callable[[str], None] = lambda line: None) -> Report:
    """Time every cell once a round.

    A machine that gets hot gets slow. So that no cell has the cool minutes to itself, each round goes through all of
    them, and begins elsewhere: over all rounds each cell is early as often as late.

    Args:
        wanted: what to time. A cell that cannot be run is passed over.
        rounds, calls: rounds, and calls of each cell in a round.
        rest: seconds between two rounds, to cool down.
        tell: takes a line about the progress.
    Raises:
        InputError: none of the cells can be run.
    """
    found: dict[Cell, list[dict]] = {cell: [] for cell in wanted}
    passed_over: dict[tuple[str, str], list[Path]] = {}
    heat = []
    for number in range(rounds):
        if number:
            time.sleep(rest)
        order = list(found)
        start = number * len(order) // rounds
        for place, cell in enumerate(order[start:] + order[:start], 1):
            tell(f"round {number + 1} of {rounds}, {place} of {len(order)}")
            outcome = timed(cell, calls)
            if isinstance(outcome, str):
                del found[cell]
                files = passed_over.setdefault((cell.delegate, outcome), [])
                files += [] if cell.file in files else [cell.file]
            else:
                found[cell].append(outcome)
        if not found:
            raise InputError("; ".join(f"delegate {name} cannot run here ({why})" for name, why in passed_over)
                             + "; choose another --delegates")
        heat.append(_heat([times[-1] for times in found.values()]))
    return Report(tuple(_row(cell, times) for cell, times in found.items()), tuple(heat), passed_over)


def timed(cell: Cell, calls: int) -> dict | str:
    """`delegates.timed` in a fresh process; or, where that fails, why."""
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
    """The smallest interval between two of the values that holds their distribution's median with a chance of 95 %.

    Whatever the distribution: of n values k lie below its median with the chance of k heads in n throws. None where
    even the least and the greatest do not have that chance, with fewer than six values.
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
