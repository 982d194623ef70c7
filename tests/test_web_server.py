"""The web server: it serves the files of its folder with their content types, and nothing else."""

import contextlib
import http.client
import socket
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


def test_every_answer_has_the_security_headers(ask):
    answers = [ask("/"), ask("/none"), ask("/assets/"), ask("/", "POST"), ask("/" + "x" * 70000),
               ask("/", Host="evil.example")]
    assert [status for status, *_ in answers] == [200, 404, 404, 501, 414, 421]
    for _, headers, _ in answers:
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost:9", "LOCALHOST.", "[::1]:8000", "192.0.2.3:1",
                                  socket.gethostname()])
def test_page_is_served_under_the_machine_s_addresses(ask, host):
    assert ask("/", Host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil",
                                  "evil.example:[::1]", "127.0.0.1@evil.example", "::1]evil"])
def test_page_is_not_served_under_a_name_that_others_own(ask, host):
    """DNS rebinding: the owner of a name lets it point to this machine, and his page reads ours."""
    status, headers, body = ask("/", Host=host)
    assert status == 421 and b"pass its name as --host" in body and headers["Connection"] == "close"


def test_page_is_served_under_the_name_it_is_bound_to(tmp_path):
    assert server.is_expected("pose.example:8000", "pose.example")
    with server.server(tmp_path, "localhost", 0) as running:
        assert (running.bound, server.is_local(running)) == ("localhost", True)
    with server.server(tmp_path, "0.0.0.0", 0) as running:
        assert not server.is_local(running)


def half_sent(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: ")
    return connection


def test_half_sent_request_is_given_up(ask, monkeypatch):
    monkeypatch.setattr(server._Handler, "timeout", 0.1)
    with half_sent(ask.port) as connection:
        assert connection.recv(1) == b""


def test_half_sent_requests_hold_few_threads_and_no_other_request(ask, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(half_sent(ask.port)) for _ in range(30)]
        assert ask("/")[0] == 200
        assert waiting[0].recv(1) == b""  # the oldest was closed
        assert threading.active_count() - before < 30
        for connection in waiting[:20]:
            assert connection.recv(1) == b""
        assert ask("/")[0] == 200


@pytest.mark.parametrize(("host", "what"), [("127.0.0.1", "Address already in use"), ("256.0.0.1", None)])
def test_unusable_address_is_reported(ask, tmp_path, host, what):
    with pytest.raises(InputError) as error:
        server.server(tmp_path, host, ask.port)
    message = str(error.value)
    assert message.startswith(f"{host}, port {ask.port}: cannot serve at this address ({what or ''}")
    assert message.endswith("); pass another --port, or --port=0 for a free one")
