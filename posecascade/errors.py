"""InputError: what a user can mend, told in one line; and what other libraries say, brought to one."""


class InputError(ValueError):
    """Input from outside (file, flag, recipe) is wrong; the message says where, found, expected and what to do.

    The command line prints it as one line and leaves with exit code 2 (`posecascade.cli.app`).
    """


def first_line(error: object) -> str:
    """What another library says, on one line of at most 160 characters."""
    return " ".join(str(error).split())[:160]
