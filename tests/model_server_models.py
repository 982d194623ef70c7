"""Load, warm up and run versions of models like TensorFlow Serving, for the conformance server.

Messages and codes are those of tensorflow/serving (servables/tensorflow/predict_util.cc, core/basic_manager.cc,
model_servers/server_core.cc, get_model_status_impl.cc) and of tensorflow/cc/saved_model/util.cc.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

DEFAULT = "serving_default"
WARMUP = "assets.extra/tf_serving_warmup_requests"
CODES = {code.value[0]: code for code in grpc.StatusCode}
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class Refused(Exception):
    """Refuse a request with a status code."""

    def __init__(self, code: grpc.StatusCode, text: str):
        super().__init__(text)
        self.code = code


def invalid(text: str) -> Refused:
    """Return a refusal with the most common code."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, text)


class Servable:
    """Hold a loaded version."""

    def __init__(self, folder: Path):
        """Load the SavedModel and replay its warm-up; it is not served if either raises an exception."""
        content = saved_model_pb2.SavedModel()
        content.ParseFromString((folder / "saved_model.pb").read_bytes())
        [graph] = [graph for graph in content.meta_graphs if "serve" in graph.meta_info_def.tags]
        self.definitions = dict(graph.signature_def)
        self._loaded = tf.saved_model.load(str(folder), tags=["serve"])
        self.warmed = 0
        if (folder / WARMUP).is_file():
            for record in tf.data.TFRecordDataset(str(folder / WARMUP)).as_numpy_iterator():
                request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
                self.run(request.model_spec.signature_name or DEFAULT,
                         {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()})
                self.warmed += 1

    def definition(self, signature: str):
        """Return the SignatureDef of that name; FAILED_PRECONDITION if there is none."""
        if signature not in self.definitions:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        return self.definitions[signature]

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of a signature; Refused if the graph refuses the inputs."""
        call = self._loaded.signatures[signature]
        try:
            tensors = {name: tf.constant(values, name=name) for name, values in inputs.items()}
            expected = call.structured_input_signature[1]
            for name, tensor in tensors.items():  # TensorFlow would raise TypeError
                if tensor.dtype != expected[name].dtype or not expected[name].shape.is_compatible_with(tensor.shape):
                    spec = expected[name]
                    raise invalid(f"Expects arg {name} to be {spec.dtype.name} of shape {spec.shape} "
                                  f"but {tensor.dtype.name} of shape {tensor.shape} is provided")
            return {name: value.numpy() for name, value in call(**tensors).items()}
        except tf.errors.OpError as error:
            raise Refused(CODES[error.error_code], error.message) from None


class Config(NamedTuple):
    """Hold one model of models.config: base path, versions (empty: only the highest), labels."""

    base: Path
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = {}


class Models:
    """Hold all models by name; `refresh` loads new versions and unloads those that are not configured."""

    def __init__(self, configs: Mapping[str, Config]):
        self.configs = dict(configs)
        self._lock = threading.Lock()
        self._loaded: dict[str, dict[int, Servable | str]] = {name: {} for name in configs}  # str: the error

    def configure(self, configs: Mapping[str, Config]) -> None:
        """Replace models, versions and labels."""
        self.configs = dict(configs)
        self._loaded = {name: self._loaded.get(name, {}) for name in configs}

    def refresh(self) -> None:
        """Load new numbered folders, then unload old versions; the server does so every second."""
        for name, config in self.configs.items():
            folders = {int(path.name): path for path in config.base.iterdir()
                     if path.name.isdecimal() and path.is_dir()} if config.base.is_dir() else {}
            versions = [version for version in config.versions or sorted(folders)[-1:] if version in folders]
            for version in versions:
                if version not in self._loaded[name]:
                    self._loaded[name][version] = self._load(folders[version])
            with self._lock:
                self._loaded[name] = {version: self._loaded[name][version] for version in versions}

    @staticmethod
    def _load(folder):
        try:
            return Servable(folder)
        except (OSError, ValueError, LookupError, Refused, tf.errors.OpError) as error:
            return f"{folder}: {error}"

    def find(self, spec) -> tuple[int, Servable]:
        """Return the number of the version that a ModelSpec selects, and the version."""
        if not spec.name:
            raise invalid("Missing ModelSpec")
        loaded, version = self._loaded.get(spec.name, {}), None
        if spec.HasField("version"):
            version = spec.version.value
        elif spec.version_label:
            version = self.configs[spec.name].labels.get(spec.version_label) if spec.name in self.configs else None
            if version is None:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        else:
            version = max((number for number, entry in loaded.items() if isinstance(entry, Servable)), default=None)
        servable = loaded.get(version)
        if not isinstance(servable, Servable):
            which = f"Latest({spec.name})" if not spec.HasField("version") else f"Specific({spec.name}, {version})"
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return version, servable

    def states(self, spec) -> dict[int, str | None]:
        """Return for each version of a ModelSpec None if it is served, else the error."""
        states = {version: None if isinstance(servable, Servable) else servable
                  for version, servable in self._loaded.get(spec.name, {}).items()}
        if not states:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if spec.HasField("version") or spec.version_label:
            version = spec.version.value if spec.HasField("version") else self.configs[spec.name].labels.get(
                spec.version_label)
            if version not in states:
                raise Refused(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
            states = {version: states[version]}
        return states


def checked_inputs(definition, given: Mapping) -> dict[str, np.ndarray]:
    """Return the TensorProtos of a request as arrays, if their number and names are those of the signature."""
    if len(given) != len(definition.inputs):
        raise invalid(f"input size does not match signature: {len(given)}!={len(definition.inputs)} len({{"
                      f"{','.join(sorted(given))}}}) != len({{{','.join(sorted(definition.inputs))}}}). Sent extra: {{"
                      f"{','.join(sorted(set(given) - set(definition.inputs)))}}}. Missing but required: {{"
                      f"{','.join(sorted(set(definition.inputs) - set(given)))}}}.")
    for name in definition.inputs:
        if name not in given:
            raise invalid(f"Signature input alias: {name} not found in request and no default value provided.")
    arrays = {}
    for name, tensor in given.items():
        try:
            arrays[name] = tf.make_ndarray(tensor)
        except (TypeError, ValueError):
            raise invalid(f"tensor parsing error: {name}") from None
    return arrays


def checked_outputs(definition, requested) -> list[str]:
    """Return the names of the requested outputs, all if none is named."""
    for name in requested:
        if name not in definition.outputs:
            raise invalid(f"output tensor alias not found in signature: {name} Outputs expected to be in the set {{"
                          f"{','.join(sorted(definition.outputs))}}}.")
    if len(set(requested)) < len(requested):
        raise invalid(f"duplicate output tensor alias: {requested[0]}")
    return list(requested) or sorted(definition.outputs)
