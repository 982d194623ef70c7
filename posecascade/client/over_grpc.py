"""Send requests to a served model over gRPC, with the messages of TensorFlow Serving's API."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from posecascade.client import messages
from posecascade.client.address import Address, Tls
from posecascade.client.retrying import ServerError
from posecascade.client.tensors import fill, values_of
from posecascade.errors import InputError, first_line

MAX_ANSWER_BYTES = 2 ** 24  # larger answers are refused: a request's share of it is 100 kB and less
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


class Reply(NamedTuple):
    """An answer: the signature's outputs by name, and the version that answered, None if the server does not say."""

    outputs: dict[str, np.ndarray]
    version: int | None


class GrpcTransport:
    """A channel to the server. It is thread-safe."""

    def __init__(self, address: Address, tls: Tls, headers: Mapping[str, str]):
        """Connect with the first request. `headers` become gRPC metadata, and "Host" the :authority, of each one."""
        try:
            import grpc  # not at the top: REST does not need it
        except ImportError:
            raise InputError("grpc:// URLs need grpcio; pip install grpcio, or use an http:// URL") from None
        self._grpc, self._address = grpc, address
        headers = {name.lower(): value for name, value in headers.items()}
        authority = headers.pop("host", None)
        self._metadata = tuple(headers.items())
        # gRPC's own retries do not cover messages over 256 kB, so they are disabled, and `retrying` does all of them.
        # By default, gRPC waits up to two minutes before reconnecting, and refuses answers over 4 MB.
        # Compressed answers are not accepted: gRPC expands them completely before it looks at their size.
        options: list[tuple[str, int | str]] = [("grpc.enable_retries", 0), ("grpc.initial_reconnect_backoff_ms", 100),
                   ("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2000),
                   ("grpc.max_receive_message_length", MAX_ANSWER_BYTES), ("grpc.max_send_message_length", -1),
                   ("grpc.compression_enabled_algorithms_bitset", 1)]
        if authority:
            options.append(("grpc.default_authority", authority))
        if address.secure:
            credentials = grpc.ssl_channel_credentials(tls.read("ca"), tls.read("key"), tls.read("certificate"))
            self._channel = grpc.secure_channel(address.server, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address.server, options)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float) -> Reply:
        """Send a request once and return the answer; `inputs` are float32 arrays or arrays of bytes, by name."""
        request = messages.message("PredictRequest")()
        self._specify(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            fill(request.inputs[name], values)
        answer = self._call(_PREDICT, request, messages.message("PredictResponse"), timeout)
        version = answer.model_spec.version.value if answer.model_spec.HasField("version") else None
        return Reply({name: values_of(tensor, name) for name, tensor in answer.outputs.items()}, version)

    def status(self, timeout: float) -> dict[int, str]:
        """Return the state of each version, "AVAILABLE" if it answers requests; one try."""
        request = messages.message("GetModelStatusRequest")()
        self._specify(request.model_spec)
        answer = self._call(_STATUS, request, messages.message("GetModelStatusResponse"), timeout)
        states = answer.DESCRIPTOR.fields_by_name["model_version_status"].message_type.fields_by_name["state"].enum_type
        names = {number: state.name for number, state in states.values_by_number.items()}
        return {entry.version: names.get(entry.state, f"state {entry.state}") for entry in answer.model_version_status}

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _specify(self, spec: Any) -> None:
        spec.name = self._address.model
        if self._address.version is not None:
            spec.version.value = self._address.version
        if self._address.label is not None:
            spec.version_label = self._address.label

    def _call(self, method: str, request: Any, answer: Any, timeout: float) -> Any:
        call = self._channel.unary_unary(method, type(request).SerializeToString, answer.FromString)
        try:
            return call(request, timeout=timeout, metadata=self._metadata)
        except self._grpc.RpcError as error:
            code = error.code().name
            raise ServerError(f"{self._address.server}: {code}: {first_line(error.details() or 'no message')}",
                              code) from None
