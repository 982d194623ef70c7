"""Send requests to a served model over TensorFlow Serving's REST API: JSON, with images in base64."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from posecascade.client.address import Address, Tls
from posecascade.client.over_grpc import Reply
from posecascade.client.retrying import TOO_LARGE, ServerError
from posecascade.errors import InputError, first_line

# gRPC status codes for the HTTP status codes of TensorFlow Serving (model_servers/http_server.cc) and of proxies.
CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: TOO_LARGE,
         429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE"}


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
        try:
            return Reply({name: _array(values) for name, values in outputs.items()}, None)
        except ValueError:  # nested lists of unequal lengths
            raise ServerError(f"{self._address.server}: an output is not a regular array", "INTERNAL") from None

    def status(self, timeout: float) -> dict[int, str]:
        """Return the state of each version, "AVAILABLE" if it answers requests; one try."""
        answer = self._call("GET", "", None, timeout)
        try:
            return {int(entry["version"]): entry["state"] for entry in answer["model_version_status"]}
        except (KeyError, TypeError, ValueError):
            raise ServerError(f"{self._address.server}: {self._url} returned no model status; expected "
                              "{'model_version_status': ...}", "INTERNAL") from None

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _call(self, method: str, ending: str, body: bytes | None, timeout: float) -> dict[str, Any]:
        server = self._address.server
        try:
            answer = self._pool.request(method, self._url + ending, body=body, redirect=False,
                                        timeout=self._urllib3.Timeout(total=timeout),
                                        headers={**self._pool.headers, "Content-Type": "application/json"})
        except self._urllib3.exceptions.NewConnectionError as error:  # a subclass of TimeoutError in urllib3
            raise ServerError(f"{server}: UNAVAILABLE: {first_line(error)}", "UNAVAILABLE") from None
        except self._urllib3.exceptions.TimeoutError as error:
            raise ServerError(f"{server}: DEADLINE_EXCEEDED: {first_line(error)}", "DEADLINE_EXCEEDED") from None
        except self._urllib3.exceptions.SSLError as error:
            raise ServerError(f"{server}: no TLS connection ({first_line(error)}); check the certificates",
                              "UNAUTHENTICATED") from None
        except self._urllib3.exceptions.HTTPError as error:
            raise ServerError(f"{server}: UNAVAILABLE: {first_line(error)}", "UNAVAILABLE") from None
        content = _object(answer.data)
        if answer.status != 200:
            code = CODES.get(answer.status, "UNKNOWN")
            # Not always JSON: older servers escape quotes incorrectly, and proxies send text of their own.
            text = content["error"] if content and isinstance(content.get("error"), str) else \
                answer.data.decode("utf-8", "replace").strip() or answer.reason or "no message"
            raise ServerError(f"{server}: HTTP {answer.status}: {first_line(text)}", code)
        if content is None:
            raise ServerError(f"{server}: {self._url} returned no JSON object; check that this is TensorFlow Serving's "
                              "REST port", "INTERNAL")
        return content


def _listed(values: np.ndarray) -> Any:
    return [{"b64": base64.b64encode(data).decode()} for data in values] if values.dtype == object else values.tolist()


def _array(values: Any) -> np.ndarray:
    array = np.array(values, object if isinstance(_first(values), str) else np.float32)
    return np.vectorize(str.encode, otypes=[object])(array) if array.dtype == object else array


def _first(values: Any) -> Any:
    while isinstance(values, list) and values:
        values = values[0]
    return values


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
