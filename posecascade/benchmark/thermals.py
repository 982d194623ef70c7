"""How hot and how fast the processor is, as far as Linux tells in /sys; and what the device is called."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SENSIBLE = (-40.0, 150.0)  # °C: sensors that are not connected give other numbers


class Heat(NamedTuple):
    """The hottest sensor in °C and the clock of the fastest core in MHz; None where the system does not tell."""

    celsius: float | None
    megahertz: float | None


def read(system: Path = Path("/sys")) -> Heat:
    """What the sensors say now; `system` is where they are."""
    low, high = SENSIBLE
    celsius = [value / 1000 for value in _numbers(system, "class/thermal/thermal_zone*/temp") if
               low < value / 1000 < high]
    megahertz = [value / 1000 for value in _numbers(system, "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    return Heat(max(celsius, default=None), max(megahertz, default=None))


def device(root: Path = Path("/")) -> dict[str, str | int]:
    """The machine's name, as far as it is known, its kind of processor, its cores and its system."""
    return {"name": _name(root) or platform.node(), "processor": platform.machine(), "cores": os.cpu_count() or 1,
            "system": platform.platform(terse=True)}


def _numbers(system: Path, pattern: str) -> Iterator[float]:
    for path in sorted(system.glob(pattern)):
        try:
            yield float(path.read_text())
        except (OSError, ValueError):  # a sensor that sleeps, or is no number
            continue


def _name(root):
    """Of a board its model; of a PC its processor's."""
    try:
        return (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    except OSError:
        pass
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
