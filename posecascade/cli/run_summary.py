"""Counts and reports of a command that processes many images: poses written, inputs failed, files skipped."""

import sys

from posecascade.cli import streams
from posecascade.errors import InputError


class RunSummary:
    """Counts what a run writes, skips and fails on, and reports errors on standard error as they occur.

    Attributes:
        written: number of poses written.
        unreadable: number of unreadable images in folders.
        failed: errors of INPUTs that could not be used. The last one is not printed, but raised by `check_failed`.
    """

    def __init__(self, command: str):
        """`command` is printed at the start of each line."""
        self._command = command
        self.written, self.unreadable = 0, 0
        self.failed: list[InputError] = []

    def count(self) -> None:
        """Count a pose that was written; show the number if standard error is a terminal."""
        self.written += 1
        if sys.stderr.isatty():
            streams.complain(f"\r{self.written} poses", end="")

    def fail(self, error: InputError) -> None:
        """Record the error of an INPUT or a JSON line."""
        if self.failed:
            self._report(self.failed[-1])
        self.failed.append(error)

    def skip(self, error: InputError) -> None:
        """Report and count an unreadable image in a folder."""
        self._report(error)
        self.unreadable += 1

    def note(self, line: str) -> None:
        """Report what is left out of a folder."""
        self._report(line)

    def check_written(self) -> None:
        """Raise InputError if no pose was written, so that the files of an earlier run are kept."""
        if not self.written:
            raise self.failed[-1] if self.failed else InputError(
                f"none of {self.unreadable} images could be read; nothing was written")

    def check_failed(self) -> None:
        """Raise InputError if an INPUT or a JSON line failed."""
        if self.failed:
            raise InputError(f"{self.failed[-1]} (failed inputs: {len(self.failed)}, poses written: {self.written})")

    def _report(self, error):
        streams.complain(f"{self._command}: {error}")
