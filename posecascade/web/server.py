"""Serve a folder of static files over HTTP, with the content types and headers that the page needs."""

import contextlib
import ipaddress
import socket
import sys
import threading
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
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page may use the camera: no other page embeds it
}
TIMEOUT = 20.0  # seconds without a byte after which a connection is closed
MAX_CONNECTIONS = 64  # beyond it, the oldest connection is closed: browsers open six


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
    request_queue_size = 64

    def __init__(self, *arguments):
        self._open, self._lock = {}, threading.Lock()  # the open connections, oldest first
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        with self._lock:
            self._open[request] = None
            if len(self._open) > MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _end(oldest)  # its thread sees the end and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def server_bind(self):
        self.bound = self.server_address[0]  # as given, perhaps a name
        TCPServer.server_bind(self)  # not HTTPServer's, which looks up this machine's name in the network
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the browser has closed the connection: no error
            super().handle_error(request, client_address)


def is_local(running: ThreadingHTTPServer) -> bool:
    """Return whether only this machine reaches the server."""
    return ipaddress.ip_address(str(running.server_address[0])).is_loopback


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended already
        connection.shutdown(socket.SHUT_RDWR)


def is_expected(host: str, bound: str) -> bool:
    """Return whether a request's Host header names this server: an IP address, localhost, its own or the bound name.

    Any name can be made to point to this machine by its owner, whose page could then read this one (DNS rebinding).

    >>> [is_expected(host, "127.0.0.1") for host in ("127.0.0.1:8000", "[::1]", "localhost", "evil.example:8000", "")]
    [True, True, True, False, False]
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").lower().rstrip(".")
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    own = socket.gethostname().lower()
    return name in ("localhost", bound.lower(), own, f"{own.partition('.')[0]}.local")


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = TYPES
    timeout = TIMEOUT

    def parse_request(self):
        if not super().parse_request():
            return False
        if not is_expected(self.headers.get("Host", ""), self.server.bound):
            self.close_connection = True
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, explain="Open the page by the address of the machine, or "
                                                                    "pass its name as --host.")
            return False
        return True

    def end_headers(self):
        for header, value in HEADERS.items():
            self.send_header(header, value)
        super().end_headers()

    def list_directory(self, path):
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *_):
        """Log nothing: the page shows its own errors."""
