"""Serve a folder of static files over HTTP, with the content types and headers that the page needs."""

import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from posecascade.errors import InputError

TYPES = {  # of the page's files; they take precedence over the machine's own table
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".txt": "text/plain; charset=utf-8", ".gz": "application/gzip"}
HEADERS = {
    "Cache-Control": "no-cache",  # revalidate: another model may be served at the same address later
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server bound to the address; its `server_port` is the port, a free one if `port` is 0.

    Args:
        folder: of the files, which may be written after the call.
        host, port: the address.

    Raises InputError if the address is in use, or does not belong to this machine.
    """
    try:
        return _Server((host, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise InputError(f"{host}, port {port}: cannot serve at this address ({error.strerror}); pass another --port, "
                         "or --port=0 for a free one") from None


class _Server(ThreadingHTTPServer):
    def server_bind(self):
        TCPServer.server_bind(self)  # not HTTPServer's, which looks up this machine's name in the network
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the browser has closed the connection: no error
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = TYPES

    def end_headers(self):
        for header, value in HEADERS.items():
            self.send_header(header, value)
        super().end_headers()

    def list_directory(self, path):
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *_):
        """Log nothing: the page shows its own errors."""
