"""InputError: what a user can mend, told in one line."""


class InputError(ValueError):
    """Input from outside (file, flag, recipe) is wrong; the message says where, found, expected and what to do.

    The command line prints it as one line and leaves with exit code 2 (`posecascade.cli.app`).
    """
