"""Warm-up requests: TensorFlow Serving's own messages read them, and a plain TFRecord reader counts them."""

import struct

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from posecascade.errors import InputError  # noqa: E402  (needs tensorflow)
from posecascade.export.warmup import requests, write_warmup  # noqa: E402  (needs tensorflow)
from posecascade.formats.bundle import MAX_WARMUP_REQUESTS, SIGNATURES  # noqa: E402
from posecascade.training.recipe import Recipe, overridden  # noqa: E402

JPEG = bytes(range(256)) * 300 + b"\0\0"  # longer than two bytes of a length tell, and ends in zeros
REQUESTS = [
    ("serving_default", {"image": np.arange(2 * 3 * 4 * 3, dtype=np.float32).reshape(2, 3, 4, 3)}),
    ("encoded", {"image_bytes": np.array([JPEG, b"", b"\xff\0"], dtype=object)}),
    ("boxes", {"image": np.full((1, 2, 2, 3), 255, np.uint8), "boxes": np.array([[1.5, -2, 3, 4]]),
               "größe": np.array(7, np.int64)}),
    ("nothing", {}),
]


def records(path):
    """The records of a TFRecord by its layout: length, its checksum, content, its checksum."""
    data, found, position = path.read_bytes(), [], 0
    while position < len(data):
        length, = struct.unpack_from("<Q", data, position)
        found.append(data[position + 12:position + 12 + length])
        position += 12 + length + 4
    assert position == len(data)
    return found


def test_the_server_s_own_messages_read_every_field(tmp_path):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = tmp_path / "tf_serving_warmup_requests"
    assert write_warmup(path, REQUESTS, model_name="pose") == len(REQUESTS)
    read = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())  # this checks the checksums
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
            found = tf.make_ndarray(request.inputs[name])
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(found, expected)
        rewritten = prediction_log_pb2.PredictionLog.FromString(log.SerializeToString(deterministic=True))
        assert rewritten == log
        assert len(log.SerializeToString()) == len(record)  # not a byte that a message does not know


def test_a_record_is_these_bytes_and_its_size_in_seven_bit_groups(tmp_path):
    """Encoded by hand after protobuf's wire format, where tensorflow-serving-api is not installed too."""
    path = tmp_path / "requests"
    tensor = tf.make_tensor_proto(np.array([b"x" * 200], dtype=object)).SerializeToString()
    write_warmup(path, [("s", {"i": np.array([b"x" * 200], dtype=object)})], model_name="m")

    def sized(tag, content):
        size = len(content)
        return bytes([tag]) + (bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128])) + content

    entry = sized(0x0A, b"i") + sized(0x12, tensor)
    request = sized(0x0A, sized(0x0A, b"m") + sized(0x1A, b"s")) + sized(0x12, entry)
    assert records(path) == [sized(0x32, sized(0x0A, request))]


def test_a_thousand_are_written_and_one_more_leaves_no_file(tmp_path):
    many = [("serving_default", {"x": np.zeros(1, np.float32)})] * (MAX_WARMUP_REQUESTS + 1)
    path = tmp_path / "new" / "requests"
    with pytest.raises(ValueError, match="more than 1000 warm-up requests, which TensorFlow Serving refuses"):
        write_warmup(path, iter(many))
    assert list(path.parent.iterdir()) == []
    assert write_warmup(path, iter(many[1:])) == MAX_WARMUP_REQUESTS == 1000
    assert len(records(path)) == MAX_WARMUP_REQUESTS
    assert write_warmup(path, []) == 0
    assert path.read_bytes() == b""


def test_the_same_requests_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_warmup(tmp_path / name, REQUESTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_each_signature_is_asked_at_each_batch_size():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    found = [(signature, len(next(iter(inputs.values())))) for signature, inputs in requests(images, (3, 1))]
    assert sorted(found) == sorted((signature, size) for signature in SIGNATURES for size in (3, 1))


def test_a_recipe_takes_as_many_batch_sizes_as_the_server_takes_requests(tmp_path):
    """At the limit the requests can be written; one more is refused with the recipe, not after the measurements."""
    def sizes(count):
        return overridden(Recipe(), [f"export.batch_sizes={[1] * count}"]).export.batch_sizes

    count = MAX_WARMUP_REQUESTS // len(SIGNATURES)
    written = write_warmup(tmp_path / "requests", requests(np.zeros((1, 8, 8, 3), np.uint8), sizes(count)))
    assert written == count * len(SIGNATURES) <= MAX_WARMUP_REQUESTS
    with pytest.raises(InputError, match=f"expected 1 to {count} "):
        sizes(count + 1)
