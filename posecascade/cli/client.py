"""posecascade-client URL INPUT... [--output=FILE]: poses from a server, in pixels of the pictures given.

URL is grpc://HOST:8500/MODEL or http://HOST:8501/v1/models/MODEL, as TensorFlow Serving serves what posecascade-export
wrote; grpcs and https speak TLS. Behind it may stand /versions/N or /labels/LABEL.

INPUT is a picture, a folder (the pictures directly in it, sorted by name), a .jsonl file of lines
{"image": PATH, "box": [x, y, w, h]}, or - for such lines on standard input. Without "box" the person is looked for.
JPEG and PNG files are sent as they are, others as PNG.

For each person a line {"image", "box", "keypoints": {NAME: [x, y, score, visibility]}} goes to standard output, or to
FILE, which then appears when all is done. What cannot be read or decoded is told in a line each, the rest is written.
The exit code is 2 where that was an INPUT or a line of JSON, where nothing was left, or where the server fails;
unreadable pictures in a folder are only told and counted.

With --status and no INPUT it tells which versions the server has, and fails where none of them answers.
"""

import contextlib
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from absl import flags

from posecascade import files
from posecascade.cli import app
from posecascade.cli.run_summary import Tally
from posecascade.client import Client, connect
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference.inputs import requests_from
from posecascade.poses_io import Request, answer, as_line

FLAGS = flags.FlagValues()
flags.DEFINE_string("output", "-", "file of JSON lines to write, or - for standard output", flag_values=FLAGS)
flags.DEFINE_bool("status", False, "tell the versions and their states instead of sending pictures", flag_values=FLAGS)
flags.DEFINE_float("timeout", 30.0, "seconds in which a request is answered, all its tries together", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 8, "pictures in a request, at most; no more than the server's max_batch_size",
                     flag_values=FLAGS)
flags.DEFINE_integer("parallel", 2, "requests on their way at once", flag_values=FLAGS)
flags.DEFINE_string("ca", None, "PEM file of the authorities that sign the server's certificate (default: the usual "
                    "ones); over https, Python 3.13 and later refuse an authority without the extension keyUsage",
                    flag_values=FLAGS)
flags.DEFINE_string("certificate", None, "the client's own certificate (PEM), where the server asks for one",
                    flag_values=FLAGS)
flags.DEFINE_string("key", None, "the key (PEM) of --certificate", flag_values=FLAGS)
flags.DEFINE_multi_string("header", [], "NAME:VALUE to send with every request, for a proxy before the server; may be "
                          "given several times", flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Ask the server about every input; InputError at the end where one could not be read."""
    if not arguments:
        raise InputError("no URL is given; name the server's model, as in grpc://localhost:8500/posecascade")
    url, *words = arguments
    with connect(url, timeout=FLAGS.timeout, batch_size=FLAGS.batch_size, parallel=FLAGS.parallel, ca=FLAGS.ca,
                 certificate=FLAGS.certificate, key=FLAGS.key, headers=dict(map(_header, FLAGS.header))) as client:
        if words and FLAGS.status:
            raise InputError(f"--status takes no INPUT, found {words[0]!r}; leave out one of both")
        if not words and not FLAGS.status:
            raise InputError("no INPUT is given; name pictures, folders, .jsonl files or -, or pass --status")
        if FLAGS.status:
            _check(client)
        else:
            _ask_all(client, words)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name.strip() or not colon:
        raise InputError(f"--header={text}: expected NAME:VALUE, as in --header='Authorization: Bearer TOKEN'")
    return name.strip(), value.strip()


def _check(client: Client) -> None:
    states = client.status()
    for version, state in sorted(states.items()):
        print(f"version {version}: {state}")
    if "AVAILABLE" not in states.values():
        raise InputError(f"{client.url}: no version is AVAILABLE; see the server's log")
    print(f"joints of {client.schema.name}: {', '.join(client.schema.keypoints)}")


def _ask_all(client: Client, words: list[str]) -> None:
    tally = Tally("posecascade-client")
    try:
        with _opened(FLAGS.output, tally) as lines:
            _ask(client, words, tally, lines)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"--output={FLAGS.output}: cannot be written ({error.strerror}); choose another") from None
    if tally.unreadable:
        print(f"posecascade-client: {tally.unreadable} pictures could not be read", file=sys.stderr)
    tally.check_failed()


@contextlib.contextmanager
def _opened(output: str, tally: Tally) -> Iterator[TextIO]:
    """Standard output, or a file that appears when the block ends, also by an error, with at least a line in it."""
    if output == "-":
        yield sys.stdout
        tally.check_written()
        return
    stopped = None
    with files.atomic_write(output) as draft, open(draft, "w", encoding="utf-8") as lines:
        try:
            yield lines
            tally.check_written()
        except (InputError, KeyboardInterrupt) as error:
            if not tally.written:
                raise
            stopped = error
    if stopped:
        raise stopped


def _ask(client: Client, words: list[str], tally: Tally, lines: TextIO) -> None:
    asked: deque[Request] = deque()

    def people() -> Iterator[tuple[Path, Box | None]]:
        for word in words:
            for request in requests_from(word, sys.stdin):
                if isinstance(request, InputError):
                    tally.fail(request)
                else:
                    asked.append(request)
                    yield request.path, request.box

    for found in client.each(people()):
        request = asked.popleft()
        if isinstance(found, InputError):
            tally.pass_over(found) if request.in_folder else tally.fail(request.told(found))
        else:
            lines.write(as_line(answer(request.image, found, request.box)))
            tally.count()


def console() -> None:
    """The command `posecascade-client`."""
    app.run(main, FLAGS, __doc__)
