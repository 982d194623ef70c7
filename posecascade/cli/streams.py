"""Make the standard streams usable: closed ones, text that the terminal cannot show, and readers that went away."""

import contextlib
import io
import os
import sys


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
    """Print a line at once, of a command whose results are in files: it goes on if standard output cannot be written.

    Silently so if nobody reads any more, such as `head` that has read enough; otherwise the reason is printed once.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            complain(f"standard output cannot be written ({error.strerror}); going on without it")
        drop_output()


def complain(line: str, end: str = "\n") -> None:
    """Print a line to standard error; nothing happens if nobody reads it."""
    with contextlib.suppress(OSError):
        print(line, end=end, file=sys.stderr, flush=True)


def drop_output() -> None:
    """Drop what standard output holds and what is still printed, so that neither fails."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
