"""InputError, the one class of errors that users can fix; and the first line of another library's message."""


class InputError(ValueError):
    """Raised for wrong input from outside: a file, a flag or a recipe. Its message is one line that says how to fix it.

    The message is `<what>: <found>; expected <x>. <fix>`. Commands print it and exit with status 2
    (`posecascade.cli.app`).

    >>> from posecascade.schema import find_schema
    >>> find_schema("coco18")
    Traceback (most recent call last):
    posecascade.errors.InputError: unknown schema 'coco18'; did you mean 'coco17'? (or give a .yaml file)
    """


def first_line(error: object) -> str:
    """Return the message of another library's error on one line of at most 160 characters.

    >>> first_line(ValueError("bad value:\\n   7"))
    'bad value: 7'
    """
    return " ".join(str(error).split())[:160]
