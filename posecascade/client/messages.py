"""The messages of TensorFlow Serving's gRPC API, from tensorflow-serving-api's own files, without TensorFlow.

Importing `tensorflow_serving.apis.predict_pb2` runs `tensorflow/__init__.py`, since a request holds a TensorProto:
seconds and hundreds of megabytes for a few message classes. What protoc wrote into these files is a serialized
descriptor each; here it is read out of their text, and classes are made of it in a pool of their own, so that a program
which imports TensorFlow as well is not disturbed.
"""

import ast
import functools
import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from posecascade.errors import InputError

PREDICT = "tensorflow_serving/apis/predict.proto"
STATUS = "tensorflow_serving/apis/get_model_status.proto"
REQUIREMENT = "tensorflow-serving-api>=2.21,<2.22"  # as in setup.cfg
_MISSING = f"tensorflow-serving-api is needed for grpc:// URLs; pip install '{REQUIREMENT}', or give an http:// URL"


@functools.cache
def message(file: str, name: str) -> Any:
    """The class of a message in package tensorflow.serving; `file` is its .proto's path, as PREDICT.

    Raises InputError where the package tensorflow-serving-api is missing or is none that is known.
    """
    pool = descriptor_pool.DescriptorPool()
    _add(pool, file, _generated(file.removesuffix(".proto").replace("/", ".") + "_pb2"), set())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def _generated(module: str) -> Path:
    """The file of a module that protoc wrote; its packages are looked for, but not run."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder, *rest).with_suffix(".py")
        if path.is_file():
            return path
    raise InputError(_MISSING)


def _add(pool: descriptor_pool.DescriptorPool, file: str, path: Path, added: set[str]) -> None:
    """Add the descriptor in a generated file, those it depends on first."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    serialized = [node.args[0].value for node in ast.walk(tree) if isinstance(node, ast.Call)
                  and isinstance(node.func, ast.Attribute) and node.func.attr == "AddSerializedFile"
                  and isinstance(node.args[0], ast.Constant)]
    if len(serialized) != 1 or not isinstance(serialized[0], bytes):
        raise InputError(f"{path}: holds no known descriptor; pip install '{REQUIREMENT}'")
    modules = {alias.asname: f"{node.module}.{alias.name}" for node in tree.body if isinstance(node, ast.ImportFrom)
               for alias in node.names}
    for other in descriptor_pb2.FileDescriptorProto.FromString(serialized[0]).dependency:
        if other not in added:
            _add(pool, other, _generated(modules[_protoc_alias(other)]), added)
    pool.AddSerializedFile(serialized[0])
    added.add(file)


def _protoc_alias(file: str) -> str:
    """The name under which protoc's Python imports the module of a .proto: a/b_c.proto is a_dot_b__c__pb2."""
    return file.removesuffix(".proto").replace("_", "__").replace("/", "_dot_") + "__pb2"
