"""Start servers for the tests of the client and of the serving kit: the conformance server, or the real binary."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import urllib3

BINARY = "TENSORFLOW_MODEL_SERVER"  # environment variable with the path of tensorflow_model_server
MODEL = "posecascade"
# Response of the status request, for `scripted`.
STATUS = (200, json.dumps({"model_version_status": [{"version": "4", "state": "AVAILABLE"}]}).encode())


class Served(NamedTuple):
    """Ports of a server; `service` is the conformance server's `model_server.Service`, None for the real binary."""

    grpc_port: int
    rest_port: int
    service: object = None

    @property
    def grpc(self) -> str:
        """Return the model's URL for gRPC."""
        return f"grpc://127.0.0.1:{self.grpc_port}/{MODEL}"

    @property
    def rest(self) -> str:
        """Return the model's URL for REST."""
        return f"http://127.0.0.1:{self.rest_port}/v1/models/{MODEL}"


@contextlib.contextmanager
def answering(service, ssl=None) -> Iterator[Served]:
    """Run both APIs of a conformance `model_server.Service` on free ports within the block."""
    from model_server import grpc_server
    from model_server_rest import rest_server

    server, port = grpc_server(service, 0, ssl)
    rest = rest_server(service, 0)
    thread = threading.Thread(target=rest.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Served(port, rest.server_port, service)
    finally:
        server.stop(None).wait()
        rest.shutdown()
        rest.server_close()
        thread.join()


def service_of(base: Path, batching=None, **config):
    """Return a conformance service with the model in `base` loaded; `batching` is a BatchingParameters message."""
    from model_server import Service
    from model_server_batching import Batcher
    from model_server_models import Config, Models

    models = Models({MODEL: Config(base, **config)})
    models.refresh()
    return Service(models, Batcher(batching) if batching else None, "/metrics")


@contextlib.contextmanager
def binary(*words: str, log: Path) -> Iterator[Served]:
    """Run the real server with these flags within the block; skip the test if BINARY is not set."""
    program = os.environ.get(BINARY)
    if not program:
        pytest.skip(f"needs the real server; set {BINARY} to the path of tensorflow_model_server")
    served = Served(_free_port(), _free_port())
    with open(log, "w") as output:
        ports = f"--port={served.grpc_port}", f"--rest_api_port={served.rest_port}"
        process = subprocess.Popen([program, *ports, *words], stdout=output, stderr=output)
    try:
        _wait_until_available(served.rest, process, log)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_available(url, process, log):
    for _ in range(600):
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if b"AVAILABLE" in urllib3.request("GET", url, retries=False).data:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


class Scripted(BaseHTTPRequestHandler):
    """Respond with the entries of `server.script` in turn, then with the last one; append headers to `server.seen`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Respond as to POST."""
        self.do_POST()

    def do_POST(self):
        """Respond with the next entry, a status and a body."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(dict(self.headers))
        script = self.server.script
        status, body = script.pop(0) if len(script) > 1 else script[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Log nothing."""


@contextlib.contextmanager
def scripted() -> Iterator[tuple[ThreadingHTTPServer, str]]:
    """Run a server that responds as its `script` says within the block; yield it and the URL of a model on it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.daemon_threads, server.script, server.seen = True, [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/v1/models/{MODEL}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
