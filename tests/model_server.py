"""A conformance server: TensorFlow Serving's protobuf and REST services over a SavedModel, on the loopback address.

    python tests/model_server.py --port=8500 --rest_api_port=8501 --model_name=posecascade --model_base_path=exported

It has the flags of `tensorflow_model_server` that the kit in export/serving uses, and replaces it in tests. It
implements: the highest version, or those of a models.config, in numbered folders; warm-up replay; signatures, versions
and labels by name; batching across clients; both APIs' rules and error codes; monitoring; TLS. Port 0 takes a free one.
"""

import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import model_server_protos
import numpy as np
from absl import flags
from google.protobuf import text_format
from model_server_batching import Batcher
from model_server_models import DEFAULT, Config, Models, Refused, checked_inputs, checked_outputs, invalid
from model_server_rest import rest_server
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

FLAGS = flags.FlagValues()
flags.DEFINE_integer("port", 8500, "of gRPC", flag_values=FLAGS)
flags.DEFINE_integer("rest_api_port", 0, "of REST", flag_values=FLAGS)
flags.DEFINE_string("model_name", "default", "name of the model for clients", flag_values=FLAGS)
flags.DEFINE_string("model_base_path", "", "folder of numbered versions", flag_values=FLAGS)
flags.DEFINE_string("model_config_file", "", "text of a ModelServerConfig", flag_values=FLAGS)
flags.DEFINE_integer("model_config_file_poll_wait_seconds", 0, "how often it is read again", flag_values=FLAGS)
flags.DEFINE_bool("allow_version_labels_for_unavailable_models", False, "labels at start-up", flag_values=FLAGS)
flags.DEFINE_bool("enable_batching", False, "merge requests of several clients", flag_values=FLAGS)
flags.DEFINE_string("batching_parameters_file", "", "text of BatchingParameters", flag_values=FLAGS)
flags.DEFINE_string("monitoring_config_file", "", "text of a MonitoringConfig", flag_values=FLAGS)
flags.DEFINE_string("ssl_config_file", "", "text of an SSLConfig, for gRPC", flag_values=FLAGS)
POLL = 1.0  # seconds, --file_system_poll_wait_seconds


class Service:
    """Answer the requests of both APIs."""

    def __init__(self, models: Models, batcher: Batcher | None = None, metrics_path: str | None = None):
        self.models, self.batcher, self.metrics_path = models, batcher, metrics_path
        self._requests: Counter = Counter()

    @staticmethod
    def spec(name: str, version: int | None, label: str | None):
        """Return a ModelSpec."""
        spec = model_pb2.ModelSpec(name=name)
        if version is not None:
            spec.version.value = version
        elif label is not None:
            spec.version_label = label
        return spec

    def run(self, spec, signature: str, inputs, outputs=()) -> tuple[int, dict[str, np.ndarray]]:
        """Return the version that answers, and its outputs by name."""
        try:
            version, servable = self.models.find(spec)
            names = checked_outputs(servable.definition(signature), outputs)
            if self.batcher:
                values = self.batcher.submit((spec.name, version, signature, *names),
                                             lambda merged: servable.run(signature, merged), inputs)
            else:
                values = servable.run(signature, inputs)
        except Refused as error:
            self._requests[spec.name, error.code.name] += 1
            raise
        self._requests[spec.name, "OK"] += 1
        return version, {name: values[name] for name in names}

    def predict(self, request):
        """Return the PredictResponse of a PredictRequest; numbers are in lists, as by Tensor::AsProtoField."""
        version, servable = self.models.find(request.model_spec)
        signature = request.model_spec.signature_name or DEFAULT
        inputs = checked_inputs(servable.definition(signature), request.inputs)
        _, outputs = self.run(request.model_spec, signature, inputs, request.output_filter)
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.signature_name = request.model_spec.name, signature
        answer.model_spec.version.value = version
        for name, values in outputs.items():
            tensor = answer.outputs[name]
            tensor.dtype = servable.definitions[signature].outputs[name].dtype
            for size in values.shape:
                tensor.tensor_shape.dim.add(size=size)
            (tensor.string_val if values.dtype == object else tensor.float_val).extend(values.ravel().tolist())
        return answer

    def status(self, spec):
        """Return a GetModelStatusResponse."""
        answer = get_model_status_pb2.GetModelStatusResponse()
        for version, problem in sorted(self.models.states(spec).items(), reverse=True):
            state = get_model_status_pb2.ModelVersionStatus.END if problem else \
                get_model_status_pb2.ModelVersionStatus.AVAILABLE
            entry = answer.model_version_status.add(version=version, state=state)
            entry.status.error_code, entry.status.error_message = (2, problem) if problem else (0, "")
        return answer

    def metadata(self, spec):
        """Return a GetModelMetadataResponse."""
        version, servable = self.models.find(spec)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.definitions)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = spec.name, version
        answer.metadata["signature_def"].Pack(signatures)
        return answer

    def metrics(self) -> str:
        """Return the metrics as Prometheus text."""
        lines = [f':tensorflow:serving:request_count{{model_name="{name}",status="{status}"}} {count}'
                 for (name, status), count in sorted(self._requests.items())]
        return "\n".join(["# TYPE :tensorflow:serving:request_count counter", *lines, ""])


def _answering(answer):
    """Return a servicer's method that returns `answer(request)`, or aborts with the code of its refusal."""
    def method(request, context):
        try:
            return answer(request)
        except Refused as error:
            context.abort(error.code, str(error))

    return method


def _metadata(service, request):
    if not list(request.metadata_field):
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    return service.metadata(request.model_spec)


def grpc_server(service: Service, port: int, ssl=None) -> tuple[grpc.Server, int]:
    """Start a server; return it and its port. Messages may have 2 GB, as in model_servers/server.cc."""
    server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", 2 ** 31 - 1),
                                                          ("grpc.max_send_message_length", 2 ** 31 - 1)])
    prediction, status = prediction_service_pb2_grpc.PredictionServiceServicer(), \
        model_service_pb2_grpc.ModelServiceServicer()
    prediction.Predict = _answering(service.predict)
    prediction.GetModelMetadata = _answering(lambda request: _metadata(service, request))
    status.GetModelStatus = _answering(lambda request: service.status(request.model_spec))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(status, server)
    address = f"127.0.0.1:{port}"
    if ssl:
        pair = [(ssl.server_key.encode(), ssl.server_cert.encode())]
        port = server.add_secure_port(address, grpc.ssl_server_credentials(
            pair, ssl.custom_ca.encode() or None, ssl.client_verify))
    else:
        port = server.add_insecure_port(address)
    server.start()
    return server, port


def configs_of(path: str) -> dict[str, Config]:
    """Return the models in a models.config."""
    config = text_format.Parse(Path(path).read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig())
    return {model.name: Config(Path(model.base_path), tuple(model.model_version_policy.specific.versions),
                               dict(model.version_labels)) for model in config.model_config_list.config}


def _follow(models, config_file, wait):
    """Refresh the models every POLL seconds; with `wait`, read the configuration again too."""
    while True:
        time.sleep(POLL)
        if config_file and wait:
            models.configure(configs_of(config_file))
        models.refresh()


def main(argv) -> None:
    """Serve until killed; print a line of JSON with the ports when ready."""
    FLAGS(argv)
    if FLAGS.batching_parameters_file and not FLAGS.enable_batching:
        sys.exit("You supplied --batching_parameters_file without --enable_batching")
    configs = configs_of(FLAGS.model_config_file) if FLAGS.model_config_file else \
        {FLAGS.model_name: Config(Path(FLAGS.model_base_path))}
    if not FLAGS.allow_version_labels_for_unavailable_models and any(config.labels for config in configs.values()):
        sys.exit("labels can be given to versions that are loaded; set --allow_version_labels_for_unavailable_models")
    models = Models(configs)
    models.refresh()
    batcher, metrics_path = None, None
    if FLAGS.enable_batching:
        file = FLAGS.batching_parameters_file
        batcher = Batcher(model_server_protos.read(file, "BatchingParameters") if file else
                          model_server_protos.CLASSES["BatchingParameters"]())
    if FLAGS.monitoring_config_file:
        monitoring = model_server_protos.read(FLAGS.monitoring_config_file, "MonitoringConfig").prometheus_config
        metrics_path = (monitoring.path or "/monitoring/prometheus/metrics") if monitoring.enable else None
    ssl = model_server_protos.read(FLAGS.ssl_config_file, "SSLConfig") if FLAGS.ssl_config_file else None
    service = Service(models, batcher, metrics_path)
    server, port = grpc_server(service, FLAGS.port, ssl)
    rest = rest_server(service, FLAGS.rest_api_port)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    threading.Thread(target=_follow, args=(models, FLAGS.model_config_file, FLAGS.model_config_file_poll_wait_seconds),
                     daemon=True).start()
    print(json.dumps({"grpc": port, "rest": rest.server_port}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv)
