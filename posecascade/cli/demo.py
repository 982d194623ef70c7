"""posecascade-demo [--model=MODEL] [--port=PORT] [--output=DIR]: run a model in the browser, on photos and a camera.

  posecascade-demo

Serve a page at http://127.0.0.1:8000/ until Ctrl-C. The model runs in the browser (LiteRT.js, by WebAssembly or
WebGPU): no image leaves it, and after loading, the page works without this command and without a network. It shows the
skeleton, the maps of detector and regressor, and a table of the keypoints; poses can be downloaded in the format of
posecascade-predict's predictions.jsonl.

With --output=DIR, write the page and its model to DIR, for any host of static files, and serve nothing.
"""

import os
import sys
import tempfile
import webbrowser
from pathlib import Path

from absl import flags

from posecascade.cli import app, streams
from posecascade.errors import InputError
from posecascade.web import server, site

FLAGS = flags.FlagValues()
app.define_path("model", "lite", "lite or base, which come with the package; a .keras file; the folder of a "
                "training run; or an export: its folder or one of its heatmaps_*.tflite files", flag_values=FLAGS)
flags.DEFINE_enum("precision", "float32", ("float32", "float16", "dynamic", "int8"), "precision of the model's file; "
                  "dynamic and int8 only for the folder of an export. float16 halves the download, but is slower in "
                  "WebAssembly", flag_values=FLAGS)
flags.DEFINE_integer("port", 8000, "port to serve the page at; 0 for a free one", lower_bound=0, upper_bound=65535,
                     flag_values=FLAGS)
flags.DEFINE_string("host", "127.0.0.1", "address to serve the page at; 0.0.0.0 for all of this machine's. Browsers on "
                    "other machines refuse access to their camera without https", flag_values=FLAGS)
flags.DEFINE_bool("open", False, "open the page in the default browser", flag_values=FLAGS)
app.define_path("output", None, "folder to write the page and its model to, instead of serving them",
                flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Serve the page, or write it to --output."""
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; pass the model as --model={arguments[0]}")
    if not (site.FOLDER / site.INDEX).is_file():
        raise InputError(f"{site.FOLDER}: contains no page; reinstall posecascade, or build the page in export/web "
                         "(npm ci, npm run build)")
    app.check_temporary_folder()
    if FLAGS.output:
        _write(Path(FLAGS.output))
    else:
        _serve()


def _write(folder):
    pages = site.website(_model())
    try:
        site.write(pages, folder)
    except OSError as error:
        raise InputError(f"--output={folder}: cannot be written ({error.strerror}); free disk space or choose another "
                         "folder") from None
    print(f"page and model written to {folder}: {len(pages)} files, {sum(map(len, pages.values())) / 1e6:.1f} MB")


def _serve():
    # Bind the address first, so that a port in use is reported before the model is converted, which takes seconds.
    with tempfile.TemporaryDirectory() as scratch, \
            server.server(folder := Path(scratch) / "site", FLAGS.host, FLAGS.port) as running:
        site.write(site.website(_model()), folder)
        address = f"http://{FLAGS.host}:{running.server_port}/"
        streams.say(f"serving the page at {address} (Ctrl-C to stop)")
        if not server.is_local(running):
            streams.complain(f"posecascade-demo: warning: --host={FLAGS.host}: every machine that reaches this address "
                             "can load the page and the model; there is no password and no encryption")
        if FLAGS.open:
            webbrowser.open(address)
        try:
            running.serve_forever()
        except KeyboardInterrupt:  # the documented way to stop
            print(file=sys.stderr)


def _model() -> bytes:
    os.environ["KERAS_BACKEND"] = "tensorflow"  # conversion needs it; .keras files do not depend on the backend
    with app.quietly():
        from posecascade.export.browser_model import maps_file

        return maps_file(FLAGS.model, FLAGS.precision)


def console() -> None:
    """The command `posecascade-demo`."""
    app.run(main, FLAGS, __doc__)
