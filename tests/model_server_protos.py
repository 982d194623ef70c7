"""Messages of TensorFlow Serving's configuration files that the package tensorflow-serving-api lacks.

Fields and their numbers are those of servables/tensorflow/session_bundle_config.proto, config/monitoring_config.proto
and config/ssl_config.proto in its repository. The classes are created in a separate pool.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

PACKAGE = "tensorflow.serving"
INT64, STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
# (name, number, type): a message's name, "int64" (repeated), "bool" or "string".
MESSAGES = {
    "BatchingParameters": [
        ("max_batch_size", 1, INT64), ("batch_timeout_micros", 2, INT64), ("max_enqueued_batches", 3, INT64),
        ("num_batch_threads", 4, INT64), ("thread_pool_name", 5, STRING), ("allowed_batch_sizes", 6, "int64"),
        ("pad_variable_length_inputs", 7, "bool")],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, f".{PACKAGE}.PrometheusConfig")],
    "SSLConfig": [("server_key", 1, "string"), ("server_cert", 2, "string"), ("custom_ca", 3, "string"),
                  ("client_verify", 4, "bool")],
}


def _field(message, name, number, kind):
    field = message.field.add(name=name, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.startswith("."):
        field.type, field.type_name = field.TYPE_MESSAGE, kind
    else:
        field.type = {"int64": field.TYPE_INT64, "bool": field.TYPE_BOOL, "string": field.TYPE_STRING}[kind]
        if kind == "int64":
            field.label = field.LABEL_REPEATED


def _classes():
    file = descriptor_pb2.FileDescriptorProto(name="model_server_configs.proto", package=PACKAGE, syntax="proto3",
                                              dependency=["google/protobuf/wrappers.proto"])
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _field(message, *field)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _classes()


def read(path: Path | str, name: str):
    """Return the message of that name in a text file; raises text_format.ParseError with line and column."""
    return text_format.Parse(Path(path).read_text(encoding="utf-8"), CLASSES[name]())
