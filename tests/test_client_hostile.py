"""The client with servers that mean harm: every answer is one line, within the deadline and a bounded memory."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
from hostile import drip, end, hold, hostile, pour
from served import MODEL, STATUS, scripted

from posecascade.client import connect, over_grpc, over_rest, tensors
from posecascade.client.retrying import TOO_LARGE, ServerError
from posecascade.errors import InputError

JPEG = b"\xff\xd8\xffgood"
SCHEMA = {"name": "two", "keypoints": ["head_top", "neck"]}
ANSWER = {"keypoints": [[[1, 2], [3, 4]]], "scores": [[0.5, 1]], "visibility": [[0, 1]], "box": [[1, 2, 30, 40]]}
OK = b"HTTP/1.1 200 OK\r\n"
MANY = 2 ** 30


def refused(ask, code=None):
    """Return the message of the ServerError that `ask` raises."""
    with pytest.raises(ServerError) as error:
        ask()
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert code is None or error.value.code == code, error.value
    return str(error.value)


def status_of(server, timeout=0.3):
    with connect(f"http://{server}/v1/models/{MODEL}", timeout=timeout) as client:
        return client.status()


@pytest.mark.parametrize(("first", "then"), [
    (OK + b"Content-Length: 9999\r\n\r\n", drip(b" ")), (OK + b"\r\n", drip(b" ")), (OK, drip(b"A: b\r\n")),
    (b"", drip(b"HTTP/1.1 100 Continue\r\n\r\n")), (OK + b"Transfer-Encoding: chunked\r\n\r\n", drip(b"1\r\n{\r\n")),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", drip(b"x")), (b"HTTP", drip(b"x")), (b"", hold),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", drip(b"A: b\r\n"))],
    ids=["body", "body without length", "headers", "continue", "chunks", "chunk's length", "status", "silent",
         "trailer"])
def test_one_deadline_holds_for_the_whole_answer(first, then):
    """A server that sends a byte now and then would otherwise never time out, and this test not end."""
    with hostile(first, then) as server:
        message = refused(lambda: status_of(server), "DEADLINE_EXCEEDED")
    assert "DEADLINE_EXCEEDED" in message


@pytest.mark.parametrize(("first", "code"), [
    (OK + b"\r\n", TOO_LARGE), (OK + b"Content-Length: 99999999999\r\n\r\n", TOO_LARGE),
    (b"HTTP/1.1 404 Not Found\r\n\r\n", TOO_LARGE)])
def test_endless_body_is_refused_at_the_cap(first, code, monkeypatch):
    monkeypatch.setattr(over_rest, "MAX_ANSWER_BYTES", 2 ** 20)
    tracemalloc.start()
    with hostile(first, pour(b" " * 2 ** 16)) as server:
        message = refused(lambda: status_of(server, 20), code)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message == f"{server}: the answer is larger than max (1048576 bytes)"
    assert peak < 2 ** 23


@pytest.mark.parametrize("first", [b"HTTP/1.1 ", OK + b"A: ", OK + b"Transfer-Encoding: chunked\r\n\r\n",
                                   OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"])
def test_endless_line_is_refused(first, monkeypatch):
    monkeypatch.setattr(over_rest, "MAX_ANSWER_BYTES", 2 ** 20)
    tracemalloc.start()
    with hostile(first, pour(b"7" * 2 ** 16)) as server:
        refused(lambda: status_of(server, 0.3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 23


def test_compressed_answer_is_not_expanded():
    bomb = gzip.compress(bytes(2 ** 22))
    first = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    with hostile(first) as server:
        assert refused(lambda: status_of(server), "INTERNAL") == (
            f"{server}: the answer is compressed (gzip); expected plain JSON. Send no Accept-Encoding, and switch the "
            "compression off in the proxy")


@pytest.mark.parametrize("answer", [
    b"", b"\0" * 100, b"HTTP/9.9 999 ?\r\n\r\n", b"HTTP/1.1 x\r\n\r\n", OK + b"Content-Length: x\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", OK + b"Content-Length: -1\r\n\r\n",
    OK + b"Content-Length: 50\r\n\r\n{}", OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", OK + b": \r\n\0\xff\r\n\r\n{}", OK + b"A: b\r\n" * 200 + b"\r\n",
    OK + b"\r\n" + b"[" * 100000, OK + b"\r\n" + b'{"a":' * 100000, OK + b"\r\n\xff\xfe\0", OK + b"\r\n" + b"9" * 9999,
    b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n\x1b]0;x"])
def test_malformed_http_is_one_line(answer, capfd):
    with hostile(answer, end) as server:
        refused(lambda: status_of(server))
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def script():
    """A server whose answers are in its `script`, its URL and a client."""
    with scripted() as (server, url), connect(url, timeout=5, parallel=1) as client:
        yield server, client


def predicted(script, text):
    """Return the pose of an image on a server that answers `text` to the request."""
    server, client = script
    card = json.dumps({"outputs": {"card": [json.dumps({"model": {"schema": SCHEMA}})]}}).encode()
    client._schemas.clear()
    server.script = [(200, text if isinstance(text, bytes) else json.dumps(text).encode()), (200, card)]
    return client.predict([JPEG])[0]


def test_good_answer_is_a_pose(script):
    pose = predicted(script, {"outputs": ANSWER | {"extra": 7}})
    assert pose.keypoints.tolist() == [[1, 2], [3, 4]] and pose.box.as_list() == [1, 2, 30, 40]


@pytest.mark.parametrize(("name", "value", "words"), [
    ("scores", [["a", "b"]], "has values that are no finite numbers"),
    ("scores", [[1, "2"]], "is not a regular array of numbers or texts"),
    ("scores", [[True, False]], "is not a regular array"), ("scores", [[None, 1]], "is not a regular array"),
    ("scores", [[10 ** 400, 1]], "is not a regular array"), ("scores", {"b64": "AA=="}, "is not a regular array"),
    ("scores", [["\ud800", "a"]], "is not a regular array"), ("scores", [[1], [2, 3]], "is not a regular array"),
    ("scores", [[float("nan"), 1]], "no finite numbers"), ("keypoints", [[[1e39, 0], [0, 0]]], "no finite numbers"),
    ("box", [[float("inf"), 0, 1, 1]], "no finite numbers"),
    ("box", [[1, 2, -3, 4]], r"output 'box': box \[1.0, 2.0, -3.0, 4.0\] is empty"),
    ("box", [[1, 2, 3, 0]], "is empty; expected x, y, w > 0, h > 0; check the served model"),
    ("visibility", 1, r"has shape \(\)"), ("visibility", [], r"has shape \(0,\)"),
    ("visibility", [[[[]] * 3] * 3] * 3, "has shape"), ("box", [[1, 2, 3, 4]] * 2, r"has shape \(2, 4\)")])
def test_output_that_is_no_pose_is_refused_with_its_name(script, name, value, words):
    with pytest.raises(ServerError, match=words) as error:
        predicted(script, {"outputs": ANSWER | {name: value}})
    assert error.value.code == "INTERNAL" and f"output '{name}'" in str(error.value)


@pytest.mark.parametrize("text", [
    b'{"outputs": {"scores": ' + b"[" * 900 + b"]" * 900 + b"}}", b'{"outputs": {"scores": ' + b"[" * 90000,
    b'{"outputs": {"scores": [[' + b"9" * 5000 + b"]]}}", b'{"outputs": [1]}', b'{"outputs": null}', b"{}",
    b'{"outputs": {"' + b"x" * 9999 + b'": [1, "a"]}}'])
def test_answer_of_another_form_is_one_line(script, text):
    refused(lambda: predicted(script, text))


@pytest.mark.parametrize("card", ["{", "[" * 100000, "7" * 5000, "null", '{"model": 1}', '{"model": {"schema": [1]}}',
                                  '{"model": {"schema": {"name": "a", "keypoints": [1]}}}'])
def test_model_card_of_another_form_is_one_line(script, card):
    server, client = script
    client._schemas.clear()
    server.script = [(200, json.dumps({"outputs": {"card": [card]}}).encode())]
    with pytest.raises(InputError) as error:
        _ = client.schema
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", [{"version": "x", "state": "AVAILABLE"}, {"version": 1}, 7, {"version": "9" * 5000}])
def test_status_of_another_form_is_one_line(script, entry):
    server, client = script
    server.script = [(200, json.dumps({"model_version_status": [entry]}).encode())]
    assert "returned no model status" in refused(client.status)


def test_connection_is_kept_after_answers_and_given_up_after_others(script, monkeypatch):
    server, client = script
    server.script, pool = [STATUS], client._transport._pool.connection_from_url(client.url)
    before = pool.num_connections
    for _ in range(3):
        assert client.status() == {4: "AVAILABLE"}
    assert pool.num_connections - before <= 1
    monkeypatch.setattr(over_rest, "MAX_ANSWER_BYTES", 10)
    refused(client.status, TOO_LARGE)
    monkeypatch.undo()
    assert client.status() == {4: "AVAILABLE"}


def tensor(shape, **values):
    from posecascade.client import messages

    request = messages.message("PredictRequest")()
    made = request.inputs["x"]
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    for name, value in values.items():
        getattr(made, name).extend(value) if isinstance(value, list) else setattr(made, name, value)
    return made


@pytest.mark.parametrize(("shape", "values", "words"), [
    ((MANY, MANY), {"dtype": 1, "float_val": [1.0]}, "expected at most"),
    ((2 ** 62, 2 ** 62, 2 ** 62), {"dtype": 1}, "expected at most"),
    ((MANY,), {"dtype": 1, "float_val": [1.0]}, "expected at most"),
    ((-1, 2), {"dtype": 1, "float_val": [1.0, 2.0]}, r"has shape \[-1, 2\]"),
    ((1,), {"dtype": 1, "tensor_content": b"123"}, "has 0 values; expected 1"),
    ((1,) * 70, {"dtype": 1, "float_val": [1.0]}, "has 70 dimensions")])
def test_tensor_that_lies_is_refused(shape, values, words):
    with pytest.raises(ServerError, match=words) as error:
        tensors.values_of(tensor(shape, **values), "x")
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def grpc_answers():
    """A gRPC server that answers with the bytes in its list `answers`, for any method, and the URL of a model on it."""
    grpc = pytest.importorskip("grpc", reason="needs grpcio, of the extra `serving`")
    from concurrent.futures import ThreadPoolExecutor

    answers, options = [], [("grpc.max_send_message_length", -1)]

    class Any(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda *_: answers[0])

    server = grpc.server(ThreadPoolExecutor(2), options=options, compression=grpc.Compression.Gzip)
    plain = grpc.server(ThreadPoolExecutor(2), options=options)
    ports = []
    for one in (server, plain):
        one.add_generic_rpc_handlers((Any(),))
        ports.append(one.add_insecure_port("127.0.0.1:0"))
        one.start()
    yield answers, *(f"grpc://127.0.0.1:{port}/{MODEL}" for port in ports)
    for one in (server, plain):
        one.stop(None).wait()


@pytest.mark.parametrize("answer", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05hello"])
def test_grpc_answer_that_is_no_message_is_one_line(grpc_answers, answer):
    answers, _, url = grpc_answers
    answers[:] = [answer]
    with connect(url, timeout=2) as client:
        refused(client.status)
        refused(lambda: client.predict([JPEG]))


def test_grpc_answer_over_the_cap_is_refused(grpc_answers):
    answers, compressed, plain = grpc_answers
    answers[:] = [bytes(over_grpc.MAX_ANSWER_BYTES + 1)]
    for url in (plain, compressed):
        with connect(url, timeout=5) as client:
            refused(client.status)


def test_grpc_state_without_a_name_is_its_number(grpc_answers):
    from posecascade.client import messages

    answers, _, url = grpc_answers
    message = messages.message("GetModelStatusResponse")()
    message.model_version_status.add(version=3).state = 77
    answers[:] = [message.SerializeToString()]
    with connect(url, timeout=5) as client:
        assert client.status() == {3: "state 77"}


@pytest.mark.parametrize(("first", "then", "reads"), [
    (b"", hold, True), (b"", drip(b"\0"), False), (OK + b"\r\n{}", end, True),
    (b"\0\0\0\4\0\0\0\0\0", drip(b"\0"), False), (b"", pour(b"\0" * 999), False), (b"", end, False)],
    ids=["silent", "drip", "HTTP", "frames", "pour", "end"])
def test_server_that_is_no_grpc_server_is_reported_at_the_deadline(first, then, reads):
    pytest.importorskip("grpc", reason="needs grpcio, of the extra `serving`")
    with hostile(first, then, reads) as server, connect(f"grpc://{server}/{MODEL}", timeout=0.3) as client:
        message = refused(client.status)
    assert message.startswith((f"{server}: UNAVAILABLE", f"{server}: DEADLINE_EXCEEDED"))


def test_version_that_changes_with_every_answer_is_given_up(script, monkeypatch):
    _, client = script
    versions = iter(range(1, 1000))
    card = {"card": np.array([json.dumps({"model": {"schema": SCHEMA}}).encode()], object)}
    outputs = {name: np.array(values, np.float32) for name, values in ANSWER.items()}

    def predict(signature, inputs, timeout):
        return over_grpc.Reply(card if signature == "model_card" else outputs, next(versions))

    client._schemas.clear()
    monkeypatch.setattr(client._transport, "predict", predict)
    assert "another version answers each time" in refused(lambda: client.predict([JPEG]), "ABORTED")
    assert next(versions) < 10
