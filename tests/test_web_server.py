"""The web server: it serves the files of its folder with their content types, and nothing else."""

import http.client
import threading

import pytest

from posecascade.errors import InputError
from posecascade.web import server, site

FILES = {"index.html": b"<!doctype html>", "assets/a.js": b"1", "assets/runtime.wasm.gz": b"\x1f\x8b", "odd": b"?"}


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A function that sends a request (path, method, headers) to a server and returns status, headers and body."""
    base = tmp_path_factory.mktemp("served")
    (base / "secret.txt").write_text("not served")
    site.write(FILES, base / "site")
    with server.server(base / "site", "127.0.0.1", 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()

        def request(path, method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", running.server_port)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            content = answer.status, answer.headers, answer.read()
            connection.close()
            return content

        request.port = running.server_port
        yield request
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "name", "kind"), [
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/index.html", "index.html", "text/html; charset=utf-8"),
    ("/assets/a.js?v=1", "assets/a.js", "text/javascript; charset=utf-8"),
    ("/assets/runtime%2Ewasm.gz", "assets/runtime.wasm.gz", "application/gzip"),
    ("/odd", "odd", "application/octet-stream"),
])
def test_file_is_served_with_its_content_type(ask, path, name, kind):
    status, headers, body = ask(path)
    assert (status, headers["Content-Type"], body) == (200, kind, FILES[name])
    assert headers["Cache-Control"] == "no-cache" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in headers  # the page decompresses the file itself
    status, headers, body = ask(path, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(FILES[name])), b"")


def test_unmodified_file_is_not_sent_again(ask):
    date = ask("/odd")[1]["Last-Modified"]
    status, headers, body = ask("/odd", **{"If-Modified-Since": date})
    assert (status, body, headers["Cache-Control"]) == (304, b"", "no-cache")
    assert ask("/odd", **{"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"})[0] == 200


@pytest.mark.parametrize("path", ["/assets/", "/../secret.txt", "/%2e%2e/secret.txt", "//etc/passwd", "/none", "/odd/"])
def test_other_paths_are_not_found(ask, path):
    assert ask(path)[0] == 404


def test_other_methods_are_refused(ask):
    assert ask("/", "POST")[0] == 501


@pytest.mark.parametrize(("host", "what"), [("127.0.0.1", "Address already in use"), ("256.0.0.1", None)])
def test_unusable_address_is_reported(ask, tmp_path, host, what):
    with pytest.raises(InputError) as error:
        server.server(tmp_path, host, ask.port)
    message = str(error.value)
    assert message.startswith(f"{host}, port {ask.port}: cannot serve at this address ({what or ''}")
    assert message.endswith("); pass another --port, or --port=0 for a free one")
