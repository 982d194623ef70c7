"""Run a command of the package in this process, as its installed script would."""

import pytest

from posecascade.cli import app


def exit_status(command, *words) -> int:
    """Return the exit status of a command, given as its module (`posecascade.cli.evaluate`), with these arguments."""
    command.FLAGS.unparse_flags()  # this process parses the flags repeatedly
    name = f"posecascade-{command.__name__.rpartition('.')[2]}"
    with pytest.raises(SystemExit) as exited:
        app.run(command.main, command.FLAGS, command.__doc__, [name, *map(str, words)])
    return exited.value.code


def printing(command, capsys):
    """Return a function that runs the command and returns its exit status, standard output and standard error."""
    def run(*words):
        status = exit_status(command, *words)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run
