"""What the conformance server serves: versions of models, loaded and warmed up as TensorFlow Serving does, and run.

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
    """A request that is answered by a status."""

    def __init__(self, code: grpc.StatusCode, text: str):
        super().__init__(text)
        self.code = code


def invalid(text: str) -> Refused:
    """The usual one."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, text)


class Servable:
    """A version that is loaded."""

    def __init__(self, folder: Path):
        """Loads the SavedModel and replays its warm-up; an exception of either means that it is not served."""
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
        """The SignatureDef of that name; FAILED_PRECONDITION where there is none."""
        if signature not in self.definitions:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        return self.definitions[signature]

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer of a signature; Refused where the graph refuses the inputs."""
        call = self._loaded.signatures[signature]
        try:
            given = {name: tf.constant(values, name=name) for name, values in inputs.items()}
            wanted = call.structured_input_signature[1]
            for name, tensor in given.items():  # what TensorFlow would raise as Python's own TypeError
                if tensor.dtype != wanted[name].dtype or not wanted[name].shape.is_compatible_with(tensor.shape):
                    raise invalid(f"Expects arg {name} to be {wanted[name].dtype.name} of shape {wanted[name].shape} "
                                  f"but {tensor.dtype.name} of shape {tensor.shape} is provided")
            return {name: value.numpy() for name, value in call(**given).items()}
        except tf.errors.OpError as error:
            raise Refused(CODES[error.error_code], error.message) from None


class Config(NamedTuple):
    """One model of models.config: base path, versions (empty: the highest alone), labels."""

    base: Path
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = {}


class Models:
    """All models by name; `refresh` loads what is new on disk and lets go of what is no longer wanted."""

    def __init__(self, configs: Mapping[str, Config]):
        self.configs = dict(configs)
        self._lock = threading.Lock()
        self._loaded: dict[str, dict[int, Servable | str]] = {name: {} for name in configs}  # str: why it is not served

    def configure(self, configs: Mapping[str, Config]) -> None:
        """Other models, versions or labels from now on."""
        self.configs = dict(configs)
        self._loaded = {name: self._loaded.get(name, {}) for name in configs}

    def refresh(self) -> None:
        """As the server does every second: numbered folders; a new version serves before an old one ends."""
        for name, config in self.configs.items():
            there = {int(path.name): path for path in config.base.iterdir()
                     if path.name.isdecimal() and path.is_dir()} if config.base.is_dir() else {}
            wanted = [version for version in config.versions or sorted(there)[-1:] if version in there]
            for version in wanted:
                if version not in self._loaded[name]:
                    self._loaded[name][version] = self._load(there[version])
            with self._lock:
                self._loaded[name] = {version: self._loaded[name][version] for version in wanted}

    @staticmethod
    def _load(folder):
        try:
            return Servable(folder)
        except (OSError, ValueError, LookupError, Refused, tf.errors.OpError) as error:
            return f"{folder}: {error}"

    def find(self, spec) -> tuple[int, Servable]:
        """The version that a ModelSpec means, and its number."""
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
            version = max((number for number, found in loaded.items() if isinstance(found, Servable)), default=None)
        found = loaded.get(version)
        if not isinstance(found, Servable):
            which = f"Latest({spec.name})" if not spec.HasField("version") else f"Specific({spec.name}, {version})"
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return version, found

    def states(self, spec) -> dict[int, str | None]:
        """Of each version that is asked for why it is not served, or None where it is."""
        found = {version: None if isinstance(servable, Servable) else servable
                 for version, servable in self._loaded.get(spec.name, {}).items()}
        if not found:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if spec.HasField("version") or spec.version_label:
            wanted = spec.version.value if spec.HasField("version") else self.configs[spec.name].labels.get(
                spec.version_label)
            if wanted not in found:
                raise Refused(grpc.StatusCode.NOT_FOUND, f"Could not find version {wanted} of model {spec.name}")
            found = {wanted: found[wanted]}
        return found


def checked_inputs(definition, given: Mapping) -> dict[str, np.ndarray]:
    """The TensorProtos of a request as arrays, when they are the signature's in number and name."""
    if len(given) != len(definition.inputs):
        raise invalid(f"input size does not match signature: {len(given)}!={len(definition.inputs)} len({{"
                      f"{','.join(sorted(given))}}}) != len({{{','.join(sorted(definition.inputs))}}}). Sent extra: {{"
                      f"{','.join(sorted(set(given) - set(definition.inputs)))}}}. Missing but required: {{"
                      f"{','.join(sorted(set(definition.inputs) - set(given)))}}}.")
    for name in definition.inputs:
        if name not in given:
            raise invalid(f"Signature input alias: {name} not found in request and no default value provided.")
    found = {}
    for name, tensor in given.items():
        try:
            found[name] = tf.make_ndarray(tensor)
        except (TypeError, ValueError):
            raise invalid(f"tensor parsing error: {name}") from None
    return found


def checked_outputs(definition, wanted) -> list[str]:
    """The names of the outputs asked for, all where none is."""
    for name in wanted:
        if name not in definition.outputs:
            raise invalid(f"output tensor alias not found in signature: {name} Outputs expected to be in the set {{"
                          f"{','.join(sorted(definition.outputs))}}}.")
    if len(set(wanted)) < len(wanted):
        raise invalid(f"duplicate output tensor alias: {wanted[0]}")
    return list(wanted) or sorted(definition.outputs)
