"""What a command that goes through many pictures counts: what it wrote, and what it had to leave out."""

import sys

from posecascade.errors import InputError


class Tally:
    """Counts and tells.

    Attributes:
        written: poses.
        unreadable: pictures of folders that were left out.
        failed: inputs that were left out; the last one is told at the end, as the command's own error.
    """

    def __init__(self, command: str):
        """`command` begins each line."""
        self._command = command
        self.written, self.unreadable = 0, 0
        self.failed: list[InputError] = []

    def count(self) -> None:
        """A pose is written."""
        self.written += 1
        if sys.stderr.isatty():
            print(f"\r{self.written} poses", end="", file=sys.stderr, flush=True)

    def fail(self, error: InputError) -> None:
        """An input is left out."""
        if self.failed:
            self._tell(self.failed[-1])
        self.failed.append(error)

    def pass_over(self, error: InputError) -> None:
        """A picture of a folder is left out."""
        self._tell(error)
        self.unreadable += 1

    def check_written(self) -> None:
        """InputError where there is nothing to write, so that an older run's files stay."""
        if not self.written:
            raise self.failed[-1] if self.failed else InputError(
                f"none of {self.unreadable} pictures could be read; nothing is written")

    def check_failed(self) -> None:
        """InputError where an input was left out."""
        if self.failed:
            raise InputError(f"{self.failed[-1]} (inputs left out: {len(self.failed)}, poses written: {self.written})")

    def _tell(self, error):
        print(f"{self._command}: {error}", file=sys.stderr, flush=True)
