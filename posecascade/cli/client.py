"""posecascade-client URL INPUT... [--output=FILE]: predict human poses in images on a model server.

URL is the address of a model that posecascade-export wrote and TensorFlow Serving serves: grpc://HOST:8500/MODEL or
http://HOST:8501/v1/models/MODEL, or with TLS grpcs:// or https://. Append /versions/N or /labels/LABEL for a version
other than the newest.

INPUT is an image, a folder (the images directly in it, sorted by name), a .jsonl file with lines
{"image": PATH, "box": [x, y, w, h]}, or - for such lines on standard input. Without "box" the person is searched for.
JPEG and PNG files are sent unchanged, others are converted to PNG.

One line {"image", "box", "keypoints": {NAME: [x, y, score, visibility]}} per person is written to standard output, or
to FILE, which is created at the end. Unreadable inputs are reported on standard error, one line each; the rest is
written. The exit status is 2 if an INPUT or a JSON line failed, no pose was written, or the server failed; unreadable
images in a folder do not change it.

With --status and no INPUT, the command prints the state of each version on the server. Its exit status is 2 if none is
AVAILABLE.
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
from posecascade.cli.run_summary import RunSummary
from posecascade.client import Client, connect
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference.inputs import requests_from
from posecascade.poses_io import Request, answer, as_line

FLAGS = flags.FlagValues()
app.define_path("output", "-", "file to write the JSON lines to, or - for standard output", flag_values=FLAGS)
flags.DEFINE_bool("status", False, "print the versions on the server and their states; send no images",
                  flag_values=FLAGS)
flags.DEFINE_float("timeout", 30.0, "seconds within which each request must be answered, including retries",
                   flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 8, "maximum number of images in a request; keep it within the server's "
                     "max_batch_size", flag_values=FLAGS)
flags.DEFINE_integer("parallel", 2, "number of requests sent in parallel", flag_values=FLAGS)
app.define_path("ca", None, "PEM file with the CA certificates to verify the server's certificate (default: the "
                "system's, or for grpcs:// those that gRPC brings). Python 3.13 and newer require the CA "
                "certificate to have the keyUsage extension (https:// only)", flag_values=FLAGS)
app.define_path("certificate", None, "PEM file with the client's certificate, if the server requires one",
                flag_values=FLAGS)
app.define_path("key", None, "PEM file with the private key of --certificate", flag_values=FLAGS)
flags.DEFINE_multi_string("header", [], "NAME:VALUE to send with every request, such as a proxy's 'Authorization: "
                          "Bearer TOKEN'", flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Send every input to the server; raise InputError at the end if one failed."""
    if not arguments:
        raise InputError("no URL given; expected the address of a model, such as grpc://localhost:8500/posecascade")
    url, *inputs = arguments
    with connect(url, timeout=FLAGS.timeout, batch_size=FLAGS.batch_size, parallel=FLAGS.parallel, ca=FLAGS.ca,
                 certificate=FLAGS.certificate, key=FLAGS.key, headers=dict(map(_header, FLAGS.header))) as client:
        if inputs and FLAGS.status:
            raise InputError(f"--status: takes no INPUT, found {inputs[0]!r}; remove one of them")
        if not inputs and not FLAGS.status:
            raise InputError("no INPUT given; expected images, folders, .jsonl files or -, or --status")
        if FLAGS.status:
            _print_status(client)
        else:
            _predict_all(client, inputs)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name.strip() or not colon:
        raise InputError(f"--header={text}: expected NAME:VALUE, such as --header='Authorization: Bearer TOKEN'")
    return name.strip(), value.strip()


def _print_status(client: Client) -> None:
    states = client.status()
    for version, state in sorted(states.items()):
        print(f"version {version}: {state}")
    if "AVAILABLE" not in states.values():
        raise InputError(f"{client.url}: no version is AVAILABLE; see the server's log")
    print(f"keypoints of {client.schema.name}: {', '.join(client.schema.keypoints)}")


def _predict_all(client: Client, inputs: list[str]) -> None:
    summary = RunSummary("posecascade-client")
    try:
        with _opened(FLAGS.output, summary) as lines:
            _predict(client, inputs, summary, lines)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"--output={FLAGS.output}: cannot be written ({error.strerror}); free disk space or choose "
                         "another file") from None
    if summary.unreadable:
        print(f"posecascade-client: {summary.unreadable} images could not be read", file=sys.stderr)
    summary.check_failed()


@contextlib.contextmanager
def _opened(output: str, summary: RunSummary) -> Iterator[TextIO]:
    """Yield standard output, or a file that is created when the block ends, also by an error, if a pose was written."""
    if output == "-":
        yield sys.stdout
        summary.check_written()
        return
    stopped = None
    files.remove_drafts(Path(output).parent, [Path(output).name])
    with files.atomic_write(output) as draft, open(draft, "w", encoding="utf-8") as lines:
        try:
            yield lines
            summary.check_written()
        except (InputError, KeyboardInterrupt) as error:
            if not summary.written:
                raise
            stopped = error
    if stopped:
        raise stopped


def _predict(client: Client, inputs: list[str], summary: RunSummary, lines: TextIO) -> None:
    sent: deque[Request] = deque()

    def people() -> Iterator[tuple[Path, Box | None]]:
        for argument in inputs:
            for request in requests_from(argument, sys.stdin, summary.note):
                if isinstance(request, InputError):
                    summary.fail(request)
                else:
                    sent.append(request)
                    yield request.path, request.box

    for pose in client.each(people()):
        request = sent.popleft()
        if isinstance(pose, InputError):
            summary.skip(pose) if request.in_folder else summary.fail(request.with_origin(pose))
        else:
            lines.write(as_line(answer(request.image, pose, request.box)))
            summary.count()


def console() -> None:
    """The command `posecascade-client`."""
    app.run(main, FLAGS, __doc__)
