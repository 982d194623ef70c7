"""Helper: servers on this machine that send given bytes to whoever connects, and then what `then` says."""

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator

PAUSE = 0.02  # seconds between the bytes of a server that drips


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):  # the client has closed the connection, as it should
            if self.server.reads:
                self.request.recv(2 ** 16)
            self.server.seen.append(self.client_address)
            self.request.sendall(self.server.first)
            self.server.then(self.request, self.server.stop)


def hold(connection, stop: threading.Event) -> None:
    """Keep the connection open without sending anything."""
    stop.wait(20)


def drip(data: bytes) -> Callable:
    """Return a function that sends these bytes again and again, slowly."""
    def dripping(connection, stop):
        while not stop.wait(PAUSE):
            connection.sendall(data)
    return dripping


def pour(data: bytes) -> Callable:
    """Return a function that sends these bytes without end."""
    def pouring(connection, stop):
        while not stop.is_set():
            connection.sendall(data)
    return pouring


def end(connection, stop: threading.Event) -> None:
    """Close the connection."""


@contextlib.contextmanager
def hostile(first: bytes = b"", then: Callable = hold, reads: bool = True) -> Iterator[str]:
    """Run a server within the block that sends `first` after a request (`reads`) or at once; yield its HOST:PORT."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.first, server.then, server.reads, server.seen = first, then, reads, []
        server.stop = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.stop.set()
            server.shutdown()
            thread.join()
