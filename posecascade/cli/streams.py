"""Make the standard streams usable: closed ones, text that the terminal cannot show, and readers that went away."""

import contextlib
import io
import os
import sys

CLOSED = 141  # exit status of what SIGPIPE ends, in a shell


class OutputClosed(Exception):
    """Raised by `say` if standard output cannot be written; commands must not take it for an error of their files."""


def prepare() -> None:
    """Open closed streams on the null device; show characters that standard output cannot encode as \\xNN.

    A closed stream's number would otherwise become that of the next file that is opened, which then gets what is
    printed. Standard input is read as UTF-8, with or without a byte order mark, in every locale.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line of a run's progress at once. Raises OutputClosed if standard output cannot be written."""
    try:
        print(line, flush=True)
    except OSError as error:
        raise OutputClosed(error.strerror) from error


def complain(line: str) -> None:
    """Print a line to standard error; nothing happens if nobody reads it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def drop_output() -> None:
    """Drop what standard output holds, so that the interpreter's last flush of it does not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
