"""The REST API of the conformance server: JSON to requests, and answers to JSON, by TensorFlow Serving's rules.

After tensorflow_serving/util/json_tensor.cc, model_servers/http_rest_api_util.cc and http_server.cc; messages that
quote a JSON value are shortened.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from model_server_models import DEFAULT, Refused, invalid

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.I)
_STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.I)
HTTP = {grpc.StatusCode.CANCELLED: 499, grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.DEADLINE_EXCEEDED: 504,
        grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.ALREADY_EXISTS: 409, grpc.StatusCode.PERMISSION_DENIED: 403,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 429, grpc.StatusCode.FAILED_PRECONDITION: 400,
        grpc.StatusCode.ABORTED: 409, grpc.StatusCode.OUT_OF_RANGE: 400, grpc.StatusCode.UNIMPLEMENTED: 501,
        grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.UNAUTHENTICATED: 401}
_INTEGERS = {tf.uint8: (0, 255), tf.int32: (-2 ** 31, 2 ** 31 - 1), tf.int64: (-2 ** 63, 2 ** 63 - 1)}


def arrays_of(body: bytes, definition_of) -> tuple[str, dict[str, np.ndarray], bool]:
    """Return signature, inputs and whether by rows, of a body; `definition_of` maps a signature's name to it."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(content, dict):
        raise invalid("JSON Value: Is not object")
    signature = content.get("signature_name", DEFAULT)
    if not isinstance(signature, str):
        raise invalid("JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    try:
        inputs = definition_of(signature).inputs
    except Refused as error:
        if error.code is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
        raise invalid(f'Serving signature name: "{signature}" not found in signature def') from None
    types = {name: tf.as_dtype(info.dtype) for name, info in inputs.items()}
    if "instances" in content and "inputs" in content:
        raise invalid("JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in content:
        return signature, _rows(content["instances"], types), True
    if "inputs" in content:
        return signature, _columns(content["inputs"], types), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _is_b64(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _rows(instances, types):
    if not isinstance(instances, list) or not instances:
        raise invalid("JSON Value: Excepting 'instances' to be an list/array" if not isinstance(instances, list) else
                      "JSON Value: No values in 'instances' array")
    named = isinstance(instances[0], dict) and not _is_b64(instances[0])
    if not named and len(types) > 1:
        raise invalid("instances is a plain list, but expecting list of objects as multiple input tensors required as "
                      "per tensorinfo_map")
    columns = {name: [] for name in types}
    for number, item in enumerate(instances):
        if (isinstance(item, dict) and not _is_b64(item)) != named:
            kinds = "object but got list" if named else "value/list but got object"
            raise invalid(f"Expecting {kinds} at item {number} of input list")
        if named and item.keys() != types.keys():
            raise invalid(f"Failed to process element: {number} of 'instances' list. keys must be equal to: "
                          f"{','.join(sorted(types))}")
        for name in types:
            columns[name].append(item[name] if named else item)
    return {name: _tensor(values, types[name]) for name, values in columns.items()}


def _columns(inputs, types):
    if not isinstance(inputs, dict) or _is_b64(inputs):
        if len(types) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                          "per tensorinfo_map")
        return {name: _tensor(inputs, dtype) for name, dtype in types.items()}
    for name in types:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(inputs[name], dtype) for name, dtype in types.items()}


def _tensor(value, dtype) -> np.ndarray:
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    leaves = []
    _fill(value, 0, shape, dtype, leaves)
    if dtype == tf.string:
        return np.array([*leaves, None], object)[:-1].reshape(shape)
    return np.array(leaves, dtype.as_numpy_dtype).reshape(shape)


def _fill(value, level, shape, dtype, leaves):
    if isinstance(value, list):
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise invalid(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
                          f"{shape[level]}")
        for item in value:
            _fill(item, level + 1, shape, dtype, leaves)
    elif level != len(shape):
        raise invalid(f"JSON Value: found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                      f"{len(shape)}")
    else:
        leaves.append(_leaf(value, dtype))


def _leaf(value, dtype):
    if dtype == tf.string and isinstance(value, dict):
        if not _is_b64(value):
            raise invalid("JSON Value: not formatted correctly for base64 data")
        try:  # the standard alphabet; padding may be missing (absl::Base64Unescape)
            text = "".join(value["b64"].split()).rstrip("=")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise invalid("Unable to base64 decode") from None
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype == tf.float32 and number:
        if np.isfinite(value) and abs(value) > float(np.finfo(np.float32).max):
            raise invalid("Cannot convert JSON value to float without loss of precision.")
        return value
    if dtype in _INTEGERS and number and isinstance(value, int):
        low, high = _INTEGERS[dtype]
        if low <= value <= high:
            return value
    raise invalid(f"JSON Value: Type: {type(value).__name__} is not of expected type: {dtype.name}")


def body_of(outputs: Mapping[str, np.ndarray], by_rows: bool) -> bytes:
    """Return the answer's JSON: a single output loses its name; NaN and infinities are bare words."""
    listed = {name: _listed(name, values) for name, values in sorted(outputs.items())}
    if not by_rows:
        return json.dumps({"outputs": listed if len(listed) > 1 else next(iter(listed.values()))}).encode()
    sizes = {len(values) for values in listed.values()}
    if len(sizes) > 1:
        raise invalid(f"Tensor has inconsistent batch size: {sizes}")
    rows = [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]
    return json.dumps({"predictions": rows if len(listed) > 1 else next(iter(listed.values()))}).encode()


def _listed(name, values):
    if values.dtype == object:
        written = (lambda data: {"b64": base64.b64encode(data).decode()}) if name.endswith("_bytes") else bytes.decode
        return np.vectorize(written, otypes=[object])(values).tolist() if values.size else values.tolist()
    # float32 in the fewest digits that identify the number, as absl writes it.
    return np.array([float(str(value)) for value in values.ravel()], object).reshape(values.shape).tolist()


class Handler(BaseHTTPRequestHandler):
    """Answer requests by `server.service`, a model_server.Service."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        """Send a model's status or signatures, or the metrics."""
        service = self.server.service
        if self.path == service.metrics_path:
            return self._send(200, service.metrics().encode(), "text/plain")
        return self._answered(_STATUS, self._looked_up)

    def do_POST(self):
        """Send a prediction."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self._answered(_PREDICT, lambda spec, method: self._predicted(spec, method, body))

    def _answered(self, pattern, answer):
        try:
            match = pattern.fullmatch(self.path)
            if not match:
                raise invalid(f"Malformed request: {self.command} {self.path}")
            name, version, label, rest = match.groups()
            spec = self.server.service.spec(unquote(name), version and int(version), label and unquote(label))
            return self._send(200, answer(spec, rest))
        except Refused as error:
            return self._send(HTTP.get(error.code, 500), json.dumps({"error": str(error)}).encode())

    def _looked_up(self, spec, kind):
        service = self.server.service
        message = service.metadata(spec) if kind else service.status(spec)
        return json_format.MessageToJson(message, always_print_fields_with_no_presence=True,
                                         preserving_proto_field_name=True).encode()

    def _predicted(self, spec, method, body):
        if method.lower() != "predict":
            raise invalid("Expected classification or regression signature method_name")
        service = self.server.service
        _, servable = service.models.find(spec)
        signature, inputs, by_rows = arrays_of(body, servable.definition)
        return body_of(service.run(spec, signature, inputs)[1], by_rows)

    def _send(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Log nothing."""


def rest_server(service, port: int) -> ThreadingHTTPServer:
    """Return a server on the loopback address, not yet started; port 0 takes a free one."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads, server.service = True, service
    return server
