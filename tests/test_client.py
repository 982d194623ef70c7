"""The client's parts: URLs, retries, tensors, messages without TensorFlow, and how images are put into requests."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st
from serving_descriptors import descriptor_set

from posecascade import client as clients
from posecascade.client import messages, tensors
from posecascade.client.address import FORMS, Address, Tls, address_of
from posecascade.client.retrying import FIRST_PAUSE, LONGEST_PAUSE, TOO_LARGE, ServerError, with_retries
from posecascade.errors import InputError
from posecascade.geometry import Box


@pytest.mark.parametrize(("url", "address"), [
    ("grpc://localhost:8500/pose", Address("grpc", "localhost", 8500, "pose")),
    ("grpc://localhost/pose/", Address("grpc", "localhost", 8500, "pose")),
    ("grpcs://h.example/my%20pose/versions/12", Address("grpcs", "h.example", 443, "my pose", version=12)),
    ("grpc://[::1]:9000/pose/labels/canary", Address("grpc", "::1", 9000, "pose", label="canary")),
    ("http://localhost:8501/v1/models/pose", Address("http", "localhost", 8501, "pose")),
    ("https://h.example/a/b/v1/models/pose:predict", Address("https", "h.example", 443, "pose", prefix="/a/b")),
    ("http://h.example/v1/models/pose/labels/stable", Address("http", "h.example", 80, "pose", label="stable"))])
def test_url_is_parsed_into_an_address(url, address):
    assert address_of(url) == address
    assert address.secure == url.startswith(("grpcs", "https"))


def test_server_of_an_ipv6_address_has_brackets():
    assert address_of("grpc://[::1]/pose").server == "[::1]:8500"


@pytest.mark.parametrize("url", [
    "", "localhost:8500", "localhost:8500/pose", "ftp://localhost/pose", "grpc:///pose", "grpc://localhost:8500",
    "grpc://localhost:8500/", "grpc://localhost:8500/v1/models/pose", "grpc://localhost:x/pose", "grpc://localhost:99999/p",
    "http://localhost:8501", "http://localhost:8501/pose", "http://localhost:8501/v1/models/", "http://[/v1/models/pose",
    "http://localhost/v1/models/pose?x=1", "http://localhost/v1/models/pose#x", "http://me@localhost/v1/models/pose",
    "http://localhost/v1/models/pose/versions/one", "http://localhost/v1/models/pose/versions/1/labels/x"])
def test_malformed_url_is_refused_with_the_expected_forms(url):
    with pytest.raises(InputError) as refused:
        address_of(url)
    assert str(refused.value).startswith(f"URL {url!r}: ") and FORMS in str(refused.value)


@given(model=st.from_regex(r"[A-Za-z0-9_. -]+", fullmatch=True), version=st.none() | st.integers(0, 2 ** 62))
def test_any_model_name_and_version_are_parsed_from_both_forms(model, version):
    from urllib.parse import quote

    suffix = "" if version is None else f"/versions/{version}"
    for form in (f"grpc://h/{quote(model)}{suffix}", f"http://h/v1/models/{quote(model)}{suffix}"):
        address = address_of(form)
        assert (address.model, address.version) == (model, version)


@pytest.mark.parametrize(("options", "problem"), [
    ({"timeout": 0}, "timeout is 0; expected a number above 0"), ({"batch_size": 0}, "batch_size is 0"),
    ({"parallel": -1}, "parallel is -1"), ({"ca": "none.pem"}, "ca none.pem: cannot be read"),
    ({"key": "key.pem"},
     "a client certificate needs its key, and a key its certificate; pass both or none")])
def test_invalid_options_are_refused(options, problem):
    with pytest.raises(InputError, match=problem):
        clients.connect("grpcs://localhost/pose", **options)


def test_certificates_without_tls_are_refused(tmp_path):
    (tmp_path / "ca.pem").write_text("x")
    for url in ("grpc://localhost/pose", "http://localhost/v1/models/pose"):
        with pytest.raises(InputError, match="certificates need TLS; use grpcs:// or https://, or remove them"):
            clients.connect(url, ca=tmp_path / "ca.pem")
    assert Tls(tmp_path / "ca.pem").read("ca") == b"x"


class Clock:
    """A clock that advances by `sleep` only."""

    def __init__(self, cost=0.0):
        self.now, self.cost, self.pauses = 0.0, cost, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def tried(errors, timeout=30.0, cost=0.0, seed=1):
    """Run `with_retries` on a call that raises `errors` in turn and then returns "done".

    Returns the result or the error, the clock, and the remaining seconds that each try was given.
    """
    clock, left, errors = Clock(cost), [], iter(errors)

    def ask(seconds):
        left.append(seconds)
        clock.now += cost
        for error in errors:
            raise error
        return "done"

    try:
        result = with_retries(ask, timeout, np.random.default_rng(seed), clock=clock, sleep=clock.sleep)
    except ServerError as error:
        result = error
    return result, clock, left


def unavailable():
    return ServerError("down", "UNAVAILABLE")


@given(failures=st.integers(0, 12), seed=st.integers(0, 99), cost=st.floats(0, 2))
def test_pauses_are_bounded_and_end_before_the_deadline(failures, seed, cost):
    result, clock, left = tried([unavailable() for _ in range(failures)], 30.0, cost, seed)
    assert all(0 <= pause <= min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** n) for n, pause in enumerate(clock.pauses))
    assert all(seconds > 0 for seconds in left) and left == sorted(left, reverse=True) and left[0] == 30
    assert sum(clock.pauses) + cost * (len(left) - 1) <= 30
    assert (result == "done") == (len(left) == failures + 1)


def test_pauses_of_two_clients_differ():
    assert tried([unavailable()], seed=1)[1].pauses != tried([unavailable()], seed=2)[1].pauses


def test_error_after_the_deadline_contains_the_number_of_tries():
    error, _, left = tried([unavailable() for _ in range(1000)], timeout=10)
    assert str(error) == f"down (after {len(left)} tries in 10 s)" and error.code == "UNAVAILABLE" and len(left) > 4


@pytest.mark.parametrize(("error", "again"), [
    (ServerError("x", "UNAVAILABLE"), True), (ServerError("x", "RESOURCE_EXHAUSTED"), True),
    (ServerError("x", "INVALID_ARGUMENT"), False), (ServerError("x", "NOT_FOUND"), False),
    (ServerError("x", "DEADLINE_EXCEEDED"), False), (ServerError("x", "INTERNAL"), False),
    (ServerError("Tensors with name 'a' from different tasks have different shapes", "FAILED_PRECONDITION"), True),
    (ServerError("Tensor concat operation failed: x", "INTERNAL"), True),
    (ServerError("Received message larger than max (5 vs. 4)", "RESOURCE_EXHAUSTED"), False),
    (ServerError("Task size 9 is larger than maximum input batch size 8", "INVALID_ARGUMENT"), False)])
def test_only_transient_errors_are_retried(error, again):
    result, _, left = tried([error])
    assert (result, len(left)) == (("done", 2) if again else (error, 1))
    assert (error.code == TOO_LARGE) == ("larger than" in str(error))


def test_tensors_equal_those_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    from tensorflow.core.framework import tensor_pb2

    for values in (np.float32([[1.5, -2, 3e38]]), np.zeros((0, 4), np.float32), np.array([b"a", b"\0b\0", b""], object),
                   np.array([b"12", b"34"], object)):
        mine = tensor_pb2.TensorProto()
        tensors.fill(mine, values)
        array = tf.make_ndarray(mine)
        assert array.shape == values.shape and array.tolist() == values.tolist()
        back = tensors.values_of(tf.make_tensor_proto(values.tolist() if values.dtype == object else values), "x")
        assert back.shape == values.shape and back.tolist() == values.tolist()
    short = tensor_pb2.TensorProto(dtype=1, float_val=[2, 7])
    short.tensor_shape.dim.add(size=4)
    assert tensors.values_of(short, "x").tolist() == tf.make_ndarray(short).tolist() == [2, 7, 7, 7]


@pytest.mark.parametrize(("change", "words"), [
    ({"dtype": 3}, "has type 3; expected float32 or strings"), ({"float_val": []}, "has 0 values; expected 2"),
    ({"float_val": [1, 2, 3]}, "has 3 values; expected 2"), ({"tensor_content": b"1234"}, "has 1 values; expected 2")])
def test_inconsistent_tensor_is_refused(change, words):
    Predict = messages.message("PredictResponse")
    tensor = Predict().outputs["x"]
    tensor.dtype = 1
    tensor.float_val.extend(change.pop("float_val", [1, 2]))
    tensor.tensor_shape.dim.add(size=2)
    for name, value in change.items():
        setattr(tensor, name, value)
    with pytest.raises(ServerError, match=words):
        tensors.values_of(tensor, "x")


def test_messages_equal_those_of_the_installed_package():
    """If this fails, run python tests/serving_descriptors.py."""
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, which comes with the extra `dev`")
    from tensorflow_serving.apis import predict_pb2

    ours, installed = (FileDescriptorSet.FromString(data)
                       for data in (messages.DESCRIPTORS.read_bytes(), descriptor_set()))
    assert [file.name for file in ours.file] == [file.name for file in installed.file]
    assert ours == installed
    request = messages.message("PredictRequest")()
    assert not isinstance(request, predict_pb2.PredictRequest)
    request.model_spec.version.value = 3
    tensors.fill(request.inputs["a"], np.float32([1]))
    theirs = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert theirs.model_spec.version.value == 3 and theirs.inputs["a"].tensor_shape.dim[0].size == 1


def test_messages_need_no_tensorflow_package_and_missing_grpcio_is_reported():
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow_serving", "tensorflow", "grpc"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from posecascade.client import connect, messages
print(messages.message("PredictRequest").__name__)
try:
    connect("grpc://h/pose")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "PredictRequest",
        "grpc:// URLs need grpcio; pip install grpcio, or use an http:// URL"], done.stderr


@given(sizes=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=30), batch_size=st.integers(1, 5))
def test_every_image_is_in_exactly_one_request_and_requests_are_full(sizes, batch_size):
    sent = [clients._Sent(position, "x", b"." * size, Box(0, 0, 1, 1) if boxed else None)
            for position, (size, boxed) in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "MAX_REQUEST_BYTES", 20)
        chunks = list(clients._chunks(sent, batch_size))
    assert sorted(image.position for chunk in chunks for image in chunk) == list(range(len(sent)))
    for chunk in chunks:
        assert len(chunk) <= batch_size and len({image.box is None for image in chunk}) == 1
        assert sum(len(image.data) for image in chunk) <= 20
        assert [image.position for image in chunk] == sorted(image.position for image in chunk)
    kinds = {boxed: [chunk for chunk in chunks if (chunk[0].box is not None) == boxed] for boxed in (True, False)}
    for kind in kinds.values():  # no request has room for the first image of the next one
        for before, after in itertools.pairwise(kind):
            assert len(before) == batch_size or sum(len(image.data) for image in before) + len(after[0].data) > 20
