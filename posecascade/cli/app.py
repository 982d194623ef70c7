"""Runs a command: parses its absl flags, and turns what a user can mend into one line and exit code 2.

A command module holds its flags in `FLAGS = flags.FlagValues()` (pass `flag_values=FLAGS` to every DEFINE: a set of
its own, so that two commands can live in one process), `main(arguments: list[str]) -> None` for what is left after
the flags, and `console()`, which is `app.run(main, FLAGS, __doc__)`.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from absl import flags

from posecascade.errors import InputError

BAD_INPUT = 2


def run(main: Callable[[list[str]], None], flag_values: flags.FlagValues, doc: str,
        argv: Sequence[str] | None = None) -> None:
    """Parse `argv` (default: the process's) into `flag_values`, call `main` and leave the process.

    Exit codes: 0 done, 2 bad input (one line on stderr), 130 interrupted.
    """
    command, *words = sys.argv if argv is None else argv
    name = os.path.basename(command)
    if any(word in ("--help", "-h", "-help", "--helpfull") for word in words):
        print(help_text(doc, flag_values))
        sys.exit(0)
    flag_values.set_gnu_getopt(True)  # flags may follow the inputs
    try:
        arguments = flag_values([name, *words])[1:]
        main(arguments)
        sys.stdout.flush()
    except (InputError, flags.Error) as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader (head, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def load_backend() -> None:
    """Import Keras and wake its backend, as `quietly` as may be."""
    with quietly():
        import keras

        keras.ops.zeros(1)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep from standard error what TensorFlow writes there meanwhile.

    Its lines come from C++ before any setting is heard, and would stand before every message of ours. Where the block
    fails otherwise than by an InputError, or TF_CPP_MIN_LOG_LEVEL=0 asks for them, they are shown.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as kept:
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


def help_text(doc: str, flag_values: flags.FlagValues) -> str:
    """The module's docstring, then each flag with its default, alphabetically."""
    lines = [doc.strip(), "", "Flags:"]
    for name in sorted(flag_values):
        flag = flag_values[name]
        default = "" if flag.default in (None, [], "") else f" (default: {_shown(flag)})"
        lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def _shown(flag):
    return str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
