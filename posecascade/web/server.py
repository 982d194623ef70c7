"""Serves a handful of files that are in memory over HTTP: nothing else of the machine can be asked for."""

import hashlib
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from socketserver import TCPServer
from urllib.parse import unquote, urlsplit

from posecascade.errors import InputError

INDEX = "index.html"  # what "/" gives
# By ending: of all that the page has, since a machine's own table may say otherwise.
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".gz": "application/gzip"}
HEADERS = {
    "Cache-Control": "no-cache",  # ask again, with the ETag: another model may be served at the same address later
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def server(files: Mapping[str, bytes], host: str, port: int) -> ThreadingHTTPServer:
    """A server bound to the address, ready for `serve_forever`; its `server_port` is the port, chosen where it is 0.

    Args:
        files: content by path, "/" between folders; looked at for each request, so it may be filled later.
        host, port: the address.

    Raises InputError where the address is taken, or none of this machine.
    """
    class Handler(_Handler):
        content = files

    try:
        return _Server((host, port), Handler)
    except OSError as error:
        raise InputError(f"{host}, port {port}: cannot be served at ({error.strerror}); pass another --port, or "
                         "--port=0 for a free one") from None


class _Server(ThreadingHTTPServer):
    def server_bind(self):
        TCPServer.server_bind(self)  # not HTTPServer's, which asks the network for this machine's name
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a browser that went away is no error of ours
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content: Mapping[str, bytes]

    def do_GET(self):
        self._answer(with_body=True)

    def do_HEAD(self):
        self._answer(with_body=False)

    def _answer(self, with_body):
        name = unquote(urlsplit(self.path).path).removeprefix("/") or INDEX
        if name not in self.content:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        data = self.content[name]
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        fresh = tag in self.headers.get("If-None-Match", "")
        self.send_response(HTTPStatus.NOT_MODIFIED if fresh else HTTPStatus.OK)
        for header, value in (HEADERS | {"ETag": tag}).items():
            self.send_header(header, value)
        if not fresh:
            self.send_header("Content-Type", _type(name))
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body and not fresh:
            self.wfile.write(data)

    def log_message(self, *_):
        """Nothing: the page tells what it does."""


def _type(name):
    return TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
