"""Run a command: parse its absl flags, and report an InputError as one line with exit status 2.

A command module defines its flags in `FLAGS = flags.FlagValues()`, a set of its own, so that several commands can be
imported in one process (pass `flag_values=FLAGS` to every DEFINE); `main(arguments: list[str]) -> None`, called with
the arguments that are not flags; and `console()`, which is `app.run(main, FLAGS, __doc__)`.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from absl import flags

from posecascade import files
from posecascade.cli import streams
from posecascade.errors import InputError

BAD_INPUT, INTERRUPTED = 2, 130

RENAMED_FLAGS = {  # command -> old flag -> new flag, without the leading dashes
    "posecascade-predict": {"least_score": "min_score", "overlays": "draw", "nooverlays": "nodraw"},
    "posecascade-benchmark": {"rest": "cooldown_s", "calls": "num_runs", "rounds": "num_rounds"},
    "posecascade-client": {"check": "status"},
}


def run(main: Callable[[list[str]], None], flag_values: flags.FlagValues, doc: str,
        argv: Sequence[str] | None = None) -> None:
    """Parse `argv` (default: `sys.argv`) into `flag_values`, call `main` and exit.

    Exit status: 0 on success, 2 for bad input (one line on standard error), 130 if interrupted. A command whose only
    output is printed ends with 0 when nobody reads it any more; others print with `streams.say` and go on.
    """
    streams.prepare()
    command, *words = sys.argv if argv is None else argv
    name = os.path.basename(command)
    status = 0
    try:
        if any(word in ("--help", "-h", "-help", "--helpfull") for word in words):
            print(help_text(doc, flag_values))
        else:
            flag_values.set_gnu_getopt(True)  # flags may follow the inputs
            main([_input(word) for word in flag_values([name, *words])[1:]])
        sys.stdout.flush()
    except (InputError, flags.Error) as error:
        status = BAD_INPUT
        streams.complain(f"{name}: error: {' '.join(_message(error, name).split())}")
    except KeyboardInterrupt:
        status = INTERRUPTED
        streams.complain(f"{name}: interrupted")
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has read enough
        streams.drop_output()
    except OSError as error:
        status = BAD_INPUT
        streams.complain(f"{name}: error: {_fault(error)}")
        streams.drop_output()
    sys.exit(status)


def _input(word: str) -> str:
    """Return an argument that is not a flag, with the home folder for `~` where the shell has not put it."""
    return word if os.path.exists(word) else files.expanded(word)


def _fault(error: OSError) -> str:
    """Return the message about an error of the operating system that no command expects."""
    if error.filename is None:
        try:
            check_temporary_folder()
        except InputError as missing:
            return str(missing)
        return f"standard output or a file: cannot be written ({error.strerror or error}); free disk space"
    return f"{os.fsdecode(error.filename)}: cannot be read or written ({error.strerror}); check the path and its " \
           "permissions"


def check_temporary_folder() -> None:
    """Raise InputError if no folder for temporary files can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise InputError("TMPDIR: no folder for temporary files can be written, neither the one that it names nor "
                         "/tmp; set it to a folder that can") from None


def _message(error: Exception, command: str) -> str:
    if isinstance(error, flags.UnrecognizedFlagError):
        new = RENAMED_FLAGS.get(command.removesuffix(".exe"), {}).get(error.flagname)
        if new:
            return f"--{error.flagname}: this flag was renamed; use --{new}"
    return str(error)


class _Path(flags.ArgumentParser):
    """Parses the path of a file or folder; `~` is the home folder."""

    def parse(self, argument: str) -> str:
        return files.expanded(argument)

    def flag_type(self) -> str:
        return "string"


def define_path(name: str, default: str | None, help: str, flag_values: flags.FlagValues) -> flags.FlagHolder:
    """Define a flag whose value is the path of a file or folder, in which a leading `~` is the home folder."""
    return flags.DEFINE(_Path(), name, default, help, flag_values=flag_values)


def load_backend() -> None:
    """Import Keras and initialize its backend, without TensorFlow's start-up log."""
    with quietly():
        from posecascade.backend import ops

        ops.zeros(1)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppress what TensorFlow writes to standard error within the block.

    TensorFlow's C++ code logs before its settings take effect, which would precede every message of the command. The
    lines are shown if the block raises something other than InputError, or if TF_CPP_MIN_LOG_LEVEL is 0.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    with _kept_lines() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except (InputError, KeyboardInterrupt):
            raise
        except BaseException:
            sys.stderr.flush()
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)


def _kept_lines() -> IO[bytes]:
    """Return a file for what is suppressed; without a folder for temporary files, it is lost."""
    try:
        return tempfile.TemporaryFile()
    except FileNotFoundError:
        return open(os.devnull, "w+b")


def help_text(doc: str, flag_values: flags.FlagValues) -> str:
    """Return the module's docstring, then each flag with its description and default, in alphabetical order."""
    lines = [doc.strip(), "", "Flags:"]
    for name in sorted(flag_values):
        flag = flag_values[name]
        default = "" if flag.default in (None, [], "") else f" (default: {_shown(flag)})"
        lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def _shown(flag):
    return str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
