"""posecascade-demo [--model=MODEL] [--port=PORT] [--output=DIR]: poses in a browser, of photographs and a camera.

  posecascade-demo

serves a page at http://127.0.0.1:8000/ until Ctrl-C. The browser itself runs the model (LiteRT.js, WebAssembly or
WebGPU): no picture leaves it, and once loaded the page works without this command and without a network. It shows the
skeleton, the part detector's maps beside the regressed ones, and the joints as a table; poses are downloaded as the
lines of posecascade-predict.

With --output=DIR nothing is served: DIR gets the whole page with its model, for any host of static files.
"""

import os
import sys
import tempfile
import webbrowser
from pathlib import Path

from absl import flags

from posecascade.cli import app
from posecascade.errors import InputError
from posecascade.web import server, site

FLAGS = flags.FlagValues()
flags.DEFINE_string("model", "lite", "lite or base, which come with the package, or a trained model: a .keras file, a "
                    "run's folder, or an export: its folder or one of its heatmaps files", flag_values=FLAGS)
flags.DEFINE_enum("precision", "float32", ("float32", "float16", "dynamic", "int8"), "of an export, which of its "
                  "files; of another model, float32 or float16. float16 is the smaller download, but slower in "
                  "WebAssembly", flag_values=FLAGS)
flags.DEFINE_integer("port", 8000, "port to serve at; 0 takes one that is free", lower_bound=0, upper_bound=65535,
                     flag_values=FLAGS)
flags.DEFINE_string("host", "127.0.0.1", "address to serve at; 0.0.0.0 lets other machines in, whose browsers use no "
                    "camera without https", flag_values=FLAGS)
flags.DEFINE_bool("open", False, "open the page in the browser", flag_values=FLAGS)
flags.DEFINE_string("output", None, "folder to write the page and its model to, instead of serving them",
                    flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Serve or write the page; InputError for whatever a user can mend."""
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; give the model as --model={arguments[0]}")
    if not (site.FOLDER / site.INDEX).is_file():
        raise InputError(f"{site.FOLDER}: holds no page; install posecascade again, or build it in export/web "
                         "(npm ci, npm run build)")
    if FLAGS.output:
        _write(Path(FLAGS.output))
    else:
        _serve()


def _write(folder):
    pages = site.website(_model())
    try:
        site.write(pages, folder)
    except OSError as error:
        raise InputError(f"--output={folder}: cannot be written ({error.strerror}); free or choose another") from None
    print(f"page and model written to {folder}: {len(pages)} files, {sum(map(len, pages.values())) / 1e6:.1f} MB")


def _serve():
    # The address first, so that a port that is taken is reported before the model is made.
    with tempfile.TemporaryDirectory() as scratch, \
            server.server(folder := Path(scratch) / "site", FLAGS.host, FLAGS.port) as running:
        site.write(site.website(_model()), folder)
        address = f"http://{FLAGS.host}:{running.server_port}/"
        print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
        if FLAGS.open:
            webbrowser.open(address)
        try:
            running.serve_forever()
        except KeyboardInterrupt:  # how it is meant to end
            print(file=sys.stderr)


def _model() -> bytes:
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whichever trained the model: its file is the same for all
    with app.quietly():
        from posecascade.export.browser_model import maps_file

        return maps_file(FLAGS.model, FLAGS.precision)


def console() -> None:
    """The command `posecascade-demo`."""
    app.run(main, FLAGS, __doc__)
