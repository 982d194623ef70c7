"""The messages of TensorFlow Serving's gRPC API, without TensorFlow.

Importing `tensorflow_serving.apis.predict_pb2` imports TensorFlow, which takes seconds and hundreds of megabytes. The
file DESCRIPTORS holds the same descriptors, written by `python tests/serving_descriptors.py`. The classes are made in a
pool of their own, so that they do not conflict with TensorFlow's in the same program.
"""

import functools
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS = Path(__file__).resolve().with_name("tensorflow_serving.binpb")  # a FileDescriptorSet


@functools.cache
def message(name: str) -> Any:
    """Return the class of a message in package tensorflow.serving, such as PredictRequest."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"tensorflow.serving.{name}"))


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool
