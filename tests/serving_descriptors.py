"""Write the descriptors of the client's gRPC messages, from the installed tensorflow-serving-api.

    python tests/serving_descriptors.py

A test compares the file with the installed package.
"""

import sys

from google.protobuf import descriptor_pb2

from posecascade.client.messages import DESCRIPTORS


def descriptor_set() -> bytes:
    """Return the FileDescriptorSet of the Predict and GetModelStatus calls, dependencies first."""
    from tensorflow_serving.apis import get_model_status_pb2, predict_pb2  # imports TensorFlow

    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(descriptor):
        if descriptor.name not in files:
            for dependency in descriptor.dependencies:
                add(dependency)
            files[descriptor.name] = descriptor_pb2.FileDescriptorProto.FromString(descriptor.serialized_pb)

    for module in (predict_pb2, get_model_status_pb2):
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)


if __name__ == "__main__":
    DESCRIPTORS.write_bytes(descriptor_set())
    sys.stdout.write(f"wrote {DESCRIPTORS}\n")
