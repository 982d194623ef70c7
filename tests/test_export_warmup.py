"""Warm-up requests: TensorFlow Serving's own messages and a plain TFRecord reader read them."""

import struct

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from posecascade.errors import InputError  # noqa: E402  (needs tensorflow)
from posecascade.export.warmup import requests, write_warmup  # noqa: E402  (needs tensorflow)
from posecascade.formats.bundle import MAX_WARMUP_REQUESTS, SIGNATURES  # noqa: E402
from posecascade.training.recipe import Recipe, overridden  # noqa: E402

JPEG = bytes(range(256)) * 300 + b"\0\0"  # longer than a varint of two bytes can encode, and ends in zeros
REQUESTS = [
    ("serving_default", {"image": np.arange(2 * 3 * 4 * 3, dtype=np.float32).reshape(2, 3, 4, 3)}),
    ("encoded", {"image_bytes": np.array([JPEG, b"", b"\xff\0"], dtype=object)}),
    ("boxes", {"image": np.full((1, 2, 2, 3), 255, np.uint8), "boxes": np.array([[1.5, -2, 3, 4]]),
               "größe": np.array(7, np.int64)}),
    ("nothing", {}),
]


def records(path):
    """Return the records of a TFRecord by its layout: length, its checksum, content, its checksum."""
    data, contents, position = path.read_bytes(), [], 0
    while position < len(data):
        length, = struct.unpack_from("<Q", data, position)
        contents.append(data[position + 12:position + 12 + length])
        position += 12 + length + 4
    assert position == len(data)
    return contents


def test_servers_own_messages_read_every_field(tmp_path):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = tmp_path / "tf_serving_warmup_requests"
    assert write_warmup(path, REQUESTS, model_name="pose") == len(REQUESTS)
    read = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())  # checks the checksums
    assert read == records(path)
    for record, (signature, inputs) in zip(read, REQUESTS, strict=True):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert [field.name for field, _ in log.ListFields()] == ["predict_log"]
        assert [field.name for field, _ in log.predict_log.ListFields()] == ["request"]
        request = log.predict_log.request
        assert [field.name for field, _ in request.ListFields()] == ["model_spec", "inputs"][:2 if inputs else 1]
        assert {field.name: value for field, value in request.model_spec.ListFields()} == \
            {"name": "pose", "signature_name": signature}
        assert set(request.inputs) == set(inputs)
        for name, expected in inputs.items():
            value = tf.make_ndarray(request.inputs[name])
            assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(value, expected)
        rewritten = prediction_log_pb2.PredictionLog.FromString(log.SerializeToString(deterministic=True))
        assert rewritten == log
        assert len(log.SerializeToString()) == len(record)  # no byte is an unknown field


def test_record_has_the_expected_bytes(tmp_path):
    """The expected bytes follow protobuf's wire format, so tensorflow-serving-api is not needed."""
    path = tmp_path / "requests"
    tensor = tf.make_tensor_proto(np.array([b"x" * 200], dtype=object)).SerializeToString()
    write_warmup(path, [("s", {"i": np.array([b"x" * 200], dtype=object)})], model_name="m")

    def sized(tag, content):
        size = len(content)
        return bytes([tag]) + (bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128])) + content

    entry = sized(0x0A, b"i") + sized(0x12, tensor)
    request = sized(0x0A, sized(0x0A, b"m") + sized(0x1A, b"s")) + sized(0x12, entry)
    assert records(path) == [sized(0x32, sized(0x0A, request))]


def test_more_than_a_thousand_requests_are_refused_and_leave_no_file(tmp_path):
    many = [("serving_default", {"x": np.zeros(1, np.float32)})] * (MAX_WARMUP_REQUESTS + 1)
    path = tmp_path / "new" / "requests"
    with pytest.raises(ValueError, match="more than 1000 warm-up requests, which TensorFlow Serving refuses"):
        write_warmup(path, iter(many))
    assert list(path.parent.iterdir()) == []
    assert write_warmup(path, iter(many[1:])) == MAX_WARMUP_REQUESTS == 1000
    assert len(records(path)) == MAX_WARMUP_REQUESTS
    assert write_warmup(path, []) == 0
    assert path.read_bytes() == b""


def test_same_requests_give_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_warmup(tmp_path / name, REQUESTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_signature_has_a_request_of_every_batch_size():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    sizes = [(signature, len(next(iter(inputs.values())))) for signature, inputs in requests(images, (3, 1))]
    assert sorted(sizes) == sorted((signature, size) for signature in SIGNATURES for size in (3, 1))


def test_recipe_limits_batch_sizes_to_the_servers_number_of_requests(tmp_path):
    """At the limit the requests can be written; one more batch size is refused when the recipe is read."""
    def sizes(count):
        return overridden(Recipe(), [f"export.batch_sizes={[1] * count}"]).export.batch_sizes

    count = MAX_WARMUP_REQUESTS // len(SIGNATURES)
    written = write_warmup(tmp_path / "requests", requests(np.zeros((1, 8, 8, 3), np.uint8), sizes(count)))
    assert written == count * len(SIGNATURES) <= MAX_WARMUP_REQUESTS
    with pytest.raises(InputError, match=f"expected 1 to {count} "):
        sizes(count + 1)
