"""Write the warm-up requests that TensorFlow Serving runs on a model before it serves clients.

Their file is a TFRecord of `tensorflow.serving.PredictionLog`; the few messages around the tensors are encoded here,
so that writing it does not need tensorflow-serving-api.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from posecascade import files
from posecascade.formats.bundle import MAX_WARMUP_REQUESTS

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"  # the server reads it from the SavedModel's folder

# Field numbers, from tensorflow_serving/apis/.
_PREDICT_LOG = 6  # prediction_log.proto: PredictionLog.predict_log
_REQUEST = 1  # prediction_log.proto: PredictLog.request
_MODEL_SPEC, _INPUTS = 1, 2  # predict.proto: PredictRequest.model_spec, .inputs (a map)
_NAME, _SIGNATURE_NAME = 1, 3  # model.proto: ModelSpec.name, .signature_name
_KEY, _VALUE = 1, 2  # of the entries of every map (protobuf's encoding of maps)
_LENGTH_DELIMITED = 2  # protobuf's wire type of strings and messages


def write_warmup(path: Path | str, requests: Iterable[tuple[str, Mapping[str, np.ndarray]]],
                 model_name: str = "posecascade") -> int:
    """Write (signature name, inputs by name) as warm-up requests and return their count.

    Encoded images are arrays of dtype object that hold bytes, since NumPy's own bytes type drops zeros at their end.
    The server runs each request by its signature, whatever name it serves the model by (`model_name` only labels its
    latency statistics), and does not serve a model if a request fails. Raises ValueError for more than
    MAX_WARMUP_REQUESTS; no partial file is left.
    """
    count = 0
    with files.atomic_write(path) as draft, tf.io.TFRecordWriter(str(draft)) as writer:
        for signature, inputs in requests:
            count += 1
            if count > MAX_WARMUP_REQUESTS:
                raise ValueError(f"{path}: more than {MAX_WARMUP_REQUESTS} warm-up requests, which TensorFlow Serving "
                                 "refuses")
            writer.write(_prediction_log(model_name, signature, inputs))
    return count


def requests(images: np.ndarray, batch_sizes: Sequence[int]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield (signature, inputs) for every signature and batch size, repeating `images` (N, S, S, 3) in turn."""
    side = images.shape[1]
    encoded = [tf.io.encode_jpeg(image).numpy() for image in images]
    for size in batch_sizes:
        chosen = [number % len(images) for number in range(size)]
        batch, files = images[chosen], np.array([encoded[number] for number in chosen], object)
        boxes = np.tile(np.array([-0.5, -0.5, side, side], np.float32), (size, 1))
        yield "serving_default", {"image_bytes": files}
        yield "with_boxes", {"image_bytes": files, "boxes": boxes}
        yield "images", {"images": batch, "boxes": boxes}
        yield "heatmaps", {"crops": batch}
        yield "model_card", {"query": np.full(size, b"", object)}


def _prediction_log(model_name, signature, inputs):
    spec = _field(_NAME, model_name.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    request = _field(_MODEL_SPEC, spec)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(_KEY, name.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number, content):
    """Return a field of a message: its tag, the length of its content as a varint, the content."""
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(value):
    """Encode seven bits per byte, the lowest first; all bytes except the last have the high bit set."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
