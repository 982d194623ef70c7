"""Send requests to a served model over TensorFlow Serving's REST API: JSON, with images in base64."""

import base64
import http.client
import io
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from posecascade.client.address import Address, Tls
from posecascade.client.over_grpc import MAX_ANSWER_BYTES, Reply
from posecascade.client.retrying import TOO_LARGE, ServerError
from posecascade.client.tensors import MAX_DIMENSIONS
from posecascade.errors import InputError, first_line

# gRPC status codes for the HTTP status codes of TensorFlow Serving (model_servers/http_server.cc) and of proxies.
CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: TOO_LARGE,
         429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE"}
_CHUNK = 2 ** 16  # bytes of an answer read at once


class _Bounded(io.RawIOBase):
    """What a socket receives until a moment of time.monotonic(), as far as an answer may be long.

    A socket's own timeout begins again at every byte, and a malformed length makes http.client read without a limit.
    """

    def __init__(self, sock: Any, deadline: float):
        self._sock, self._raw, self._deadline = sock, sock.makefile("rb", buffering=0), deadline
        self._left = MAX_ANSWER_BYTES + 2 ** 20  # of everything; the body alone is counted in `_body`

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        received: int | None = self._raw.readinto(buffer)
        self._left -= received or 0
        if self._left < 0:
            raise OSError("the answer does not end")
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose status, headers and body must arrive within the socket's timeout, all together."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any):
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Bounded(sock, time.monotonic() + sock.gettimeout()))


class RestTransport:
    """A pool of connections to the server. It is thread-safe."""

    def __init__(self, address: Address, tls: Tls, headers: Mapping[str, str]):
        """Connect with the first request. `headers` are sent with each one."""
        try:
            import urllib3  # not at the top: gRPC does not need it
        except ImportError:
            raise InputError("http:// URLs need urllib3; pip install urllib3") from None
        self._urllib3, self._address = urllib3, address
        options: dict[str, Any] = {
            "ca_certs": tls.ca and str(tls.ca), "cert_file": tls.certificate and str(tls.certificate),
            "key_file": tls.key and str(tls.key), "cert_reqs": "CERT_REQUIRED"} if address.secure else {}
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, headers=dict(headers),
                                         **{name: value for name, value in options.items() if value is not None})
        kinds = {"http": urllib3.HTTPConnectionPool, "https": urllib3.HTTPSConnectionPool}
        self._pool.pool_classes_by_scheme = {scheme: _bounded(kind) for scheme, kind in kinds.items()}
        version = f"/versions/{address.version}" if address.version is not None else \
            f"/labels/{quote(address.label, safe='')}" if address.label is not None else ""
        model = quote(address.model, safe="")
        self._url = f"{address.scheme}://{address.server}{address.prefix}/v1/models/{model}{version}"

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float) -> Reply:
        """Send a request once and return the answer; `inputs` are float32 arrays or arrays of bytes, by name."""
        body = {"signature_name": signature, "inputs": {name: _listed(values) for name, values in inputs.items()}}
        answer = self._call("POST", ":predict", json.dumps(body).encode(), timeout)
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):
            raise ServerError(f"{self._address.server}: the answer has no 'outputs'; check that {self._url} is a model "
                              "that posecascade-export wrote", "INTERNAL")
        return Reply({name: _array(values, name) for name, values in outputs.items()}, None)

    def status(self, timeout: float) -> dict[int, str]:
        """Return the state of each version, "AVAILABLE" if it answers requests; one try."""
        answer = self._call("GET", "", None, timeout)
        try:
            return {int(entry["version"]): first_line(entry["state"]) for entry in answer["model_version_status"]}
        except (KeyError, TypeError, ValueError):
            raise ServerError(f"{self._address.server}: {self._url} returned no model status; expected "
                              "{'model_version_status': ...}", "INTERNAL") from None

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _call(self, method: str, ending: str, body: bytes | None, timeout: float) -> dict[str, Any]:
        server = self._address.server
        status, reason, data = self._exchange(method, self._url + ending, body, timeout)
        content = _object(data)
        if status != 200:
            code = CODES.get(status, "UNKNOWN")
            # Not always JSON: older servers escape quotes incorrectly, and proxies send text of their own.
            text = content["error"] if content and isinstance(content.get("error"), str) else \
                data[:_CHUNK].decode("utf-8", "replace").strip() or reason or "no message"
            raise ServerError(f"{server}: HTTP {status}: {first_line(text)}", code)
        if content is None:
            raise ServerError(f"{server}: {self._url} returned no JSON object; check that this is TensorFlow Serving's "
                              "REST port", "INTERNAL")
        return content

    def _exchange(self, method: str, url: str, body: bytes | None, timeout: float) -> tuple[int, str | None, bytes]:
        """Send a request once; return the answer's status, reason and body, all received within the timeout."""
        server, errors = self._address.server, self._urllib3.exceptions
        try:
            answer = self._pool.request(method, url, body=body, redirect=False, preload_content=False,
                                        timeout=self._urllib3.Timeout(total=timeout),
                                        headers={**self._pool.headers, "Content-Type": "application/json"})
            try:
                return answer.status, answer.reason, self._body(answer)
            finally:
                answer.close()
                answer.release_conn()
        except errors.NewConnectionError as error:  # a subclass of TimeoutError in urllib3
            raise ServerError(f"{server}: UNAVAILABLE: {first_line(error)}", "UNAVAILABLE") from None
        except errors.TimeoutError as error:
            raise ServerError(f"{server}: DEADLINE_EXCEEDED: {first_line(error)}", "DEADLINE_EXCEEDED") from None
        except errors.SSLError as error:
            raise ServerError(f"{server}: no TLS connection ({first_line(error)}); check the certificates",
                              "UNAUTHENTICATED") from None
        except errors.HTTPError as error:
            raise ServerError(f"{server}: UNAVAILABLE: {first_line(error)}", "UNAVAILABLE") from None
        except ServerError:
            raise
        except ValueError as error:
            raise ServerError(f"{server}: the answer is no valid HTTP ({first_line(error)})", "INTERNAL") from None

    def _body(self, answer: Any) -> bytes:
        """Return the body, at most MAX_ANSWER_BYTES; compressed ones, which nobody asked for, are refused unread."""
        coding = answer.headers.get("Content-Encoding", "identity")
        if coding.strip().lower() not in ("identity", ""):
            raise ServerError(f"{self._address.server}: the answer is compressed ({first_line(coding)}); expected "
                              "plain JSON. Send no Accept-Encoding, and switch the compression off in the proxy",
                              "INTERNAL")
        data = bytearray()
        while chunk := answer.read(_CHUNK, decode_content=False):
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise ServerError(f"{self._address.server}: the answer is larger than max ({MAX_ANSWER_BYTES} bytes)",
                                  TOO_LARGE)
        return bytes(data)


def _bounded(kind: Any) -> Any:
    """Return the class of connection pools `kind` with answers of the class _Response."""
    connection = type("Connection", (kind.ConnectionCls,), {"response_class": _Response})
    return type("Pool", (kind,), {"ConnectionCls": connection})


def _listed(values: np.ndarray) -> Any:
    return [{"b64": base64.b64encode(data).decode()} for data in values] if values.dtype == object else values.tolist()


def _array(values: Any, name: str) -> np.ndarray:
    """Return nested lists of numbers as float32, and of texts as bytes (dtype object)."""
    try:
        array = np.array(values, object)
        if array.ndim > MAX_DIMENSIONS:
            raise ValueError
        if all(type(value) in (int, float) for value in array.flat):
            with np.errstate(over="ignore"):  # infinite; the client refuses it with the output's name
                return array.astype(np.float32)
        encoded: np.ndarray = np.vectorize(str.encode, otypes=[object])(array)
        return encoded
    except (ValueError, TypeError, OverflowError):  # lists of unequal lengths, other types, huge integers
        raise ServerError(f"output {first_line(name)!r}: is not a regular array of numbers or texts",
                          "INTERNAL") from None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
