"""Read the processor's temperature and clock from Linux's /sys, and the name of the device."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PLAUSIBLE = (-40.0, 150.0)  # °C; sensors that are not connected return other numbers


class Heat(NamedTuple):
    """Hold the hottest sensor in °C and the clock of the fastest core in MHz; None if the system has no such file."""

    celsius: float | None
    megahertz: float | None


def read(system: Path = Path("/sys")) -> Heat:
    """Read the sensors in the folder `system`."""
    low, high = PLAUSIBLE
    celsius = [value / 1000 for value in _numbers(system, "class/thermal/thermal_zone*/temp") if
               low < value / 1000 < high]
    megahertz = [value / 1000 for value in _numbers(system, "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    return Heat(max(celsius, default=None), max(megahertz, default=None))


def device(root: Path = Path("/")) -> dict[str, str | int]:
    """Return the machine's name, if it is known, its processor architecture, number of cores and operating system."""
    return {"name": _name(root) or platform.node(), "processor": platform.machine(), "cores": os.cpu_count() or 1,
            "system": platform.platform(terse=True)}


def _numbers(system: Path, pattern: str) -> Iterator[float]:
    for path in sorted(system.glob(pattern)):
        try:
            yield float(path.read_text())
        except (OSError, ValueError):  # a sleeping sensor, or not a number
            continue


def _name(root):
    """Return the board model (device tree) or the CPU model name."""
    try:
        return (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    except OSError:
        pass
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
