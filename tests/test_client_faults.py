"""The client with servers that start late, are overloaded, fail, or return unexpected answers."""

import json
import threading

import pytest
from served import MODEL, STATUS, answering, scripted, service_of
from small_served import GOOD, JOINTS

grpc = pytest.importorskip("grpc", reason="needs grpcio, of the extra `serving`")
pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
from model_server_models import Refused  # noqa: E402

from posecascade.client import connect  # noqa: E402
from posecascade.client.retrying import ServerError  # noqa: E402
from posecascade.errors import InputError  # noqa: E402


@pytest.fixture(scope="module")
def served(small_model):
    with answering(service_of(small_model)) as addresses:
        yield addresses


@pytest.fixture(params=["grpc", "rest"])
def url(request, served):
    return getattr(served, request.param)


@pytest.fixture
def refusals(served, monkeypatch):
    """A list of codes with which the server refuses the next requests, and an object that counts all requests."""
    script, real = [], served.service.run

    def run(spec, signature, inputs, outputs=()):
        run.count += 1
        if script:
            raise Refused(getattr(grpc.StatusCode, script.pop(0)), "failure of the test")
        return real(spec, signature, inputs, outputs)

    run.count = 0
    monkeypatch.setattr(served.service, "run", run)
    return script, run


@pytest.mark.parametrize("codes", [["UNAVAILABLE", "UNAVAILABLE"], ["RESOURCE_EXHAUSTED"], ["UNAVAILABLE"] * 4])
def test_transient_errors_are_retried(url, refusals, codes):
    script, run = refusals
    with connect(url) as client:
        assert client.schema.keypoints == JOINTS
        before = run.count
        script.extend(codes)
        assert client.predict([GOOD])[0].keypoints[0].tolist() == [len(GOOD), 0]
    assert run.count == before + len(codes) + 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "INTERNAL", "UNIMPLEMENTED"])
def test_permanent_errors_are_raised_at_once(url, refusals, code):
    script, run = refusals
    with connect(url) as client:
        script.append(code)
        with pytest.raises(ServerError, match="failure of the test") as refused:
            client.predict([GOOD])
    assert run.count == 1 and (code == "INTERNAL" or refused.value.code == code)


def test_client_waits_for_a_server_that_starts_late(small_model):
    service = service_of(small_model)
    with answering(service) as early:
        pass
    started = threading.Event()

    def start_late():
        from model_server import grpc_server
        from model_server_rest import rest_server

        server, _ = grpc_server(service, early.grpc_port)
        rest = rest_server(service, early.rest_port)
        started.set()
        threading.Thread(target=rest.serve_forever, args=(0.02,), daemon=True).start()
        running.append((server, rest))

    running = []
    timer = threading.Timer(0.3, start_late)
    timer.start()
    try:
        for url in (early.rest, early.grpc):
            with connect(url, timeout=30) as client:
                assert client.status() == {1: "AVAILABLE"}
        assert started.is_set()
    finally:
        timer.join()
        for server, rest in running:
            server.stop(None).wait()
            rest.shutdown()
            rest.server_close()


def test_unreachable_server_is_reported_at_the_deadline(served):
    for url in (f"grpc://127.0.0.1:1/{MODEL}", f"http://127.0.0.1:1/v1/models/{MODEL}"):
        with connect(url, timeout=0.5) as client, pytest.raises(ServerError, match=r"^127\.0\.0\.1:1: UNAV") as error:
            client.predict([GOOD])
        assert error.value.code == "UNAVAILABLE" and "tries in 0.5 s" in str(error.value)
        assert "\n" not in str(error.value)


def test_silent_server_is_reported_at_the_deadline(url, served, monkeypatch):
    hold = threading.Event()
    real = served.service.run
    monkeypatch.setattr(served.service, "run", lambda *given: hold.wait(20) and real(*given))
    try:
        with connect(url, timeout=0.4) as client, pytest.raises(ServerError, match="DEADLINE_EXCEEDED") as error:
            client.predict([GOOD])
        assert error.value.code == "DEADLINE_EXCEEDED"
    finally:
        hold.set()


def test_request_that_is_too_large_is_sent_in_halves(url, served, monkeypatch):
    real, sizes = served.service.run, []

    def run(spec, signature, inputs, outputs=()):
        rows = len(next(iter(inputs.values())))
        sizes.append(rows)
        if rows > 3:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Task size {rows} is larger than maximum input batch "
                                                            "size 3")
        if any(data == GOOD + b"huge" for data in inputs.get("image_bytes", ())):
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)")
        return real(spec, signature, inputs, outputs)

    monkeypatch.setattr(served.service, "run", run)
    with connect(url, batch_size=8, parallel=1) as client:
        images = [GOOD + b"x" * number for number in range(7)] + [GOOD + b"huge"]
        *poses, error = client.each((data, None) for data in images)
    assert [pose.keypoints[0, 0] for pose in poses] == [len(data) for data in images[:-1]]
    assert isinstance(error, InputError) and str(error).startswith("image number 7: ")
    assert str(error).endswith("; shrink it, or raise the server's limit")
    assert sizes[0] == 8


@pytest.fixture
def proxy():
    """A server that returns the answers in its `script`, and its URL."""
    with scripted() as server_and_url:
        yield server_and_url


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_temporary_errors_of_a_proxy_are_retried(proxy, status):
    server, url = proxy
    server.script = [(status, b"<html>bad gateway</html>"), STATUS]
    with connect(url) as client:
        assert client.status() == {4: "AVAILABLE"}
    assert len(server.seen) == 2


@pytest.mark.parametrize(("answer", "code", "words"), [
    ((404, b"<html>no route</html>"), "NOT_FOUND", "HTTP 404: <html>no route"),
    ((400, b'{ "error": "Missing \\\'inputs\\\' key" }'), "INVALID_ARGUMENT", "Missing"),  # older servers' escapes
    ((500, b""), "UNKNOWN", "HTTP 500: Internal Server Error"),
    ((200, b"hello"), "INTERNAL", "returned no JSON object; check that this is TensorFlow Serving's REST port"),
    ((200, b"[1]"), "INTERNAL", "returned no JSON object"),
    ((200, b"{}"), "INTERNAL", "returned no model status; expected {'model_version_status': ...}"),
    ((301, b""), "UNKNOWN", "HTTP 301")])
def test_unexpected_answer_is_reported_in_one_line(proxy, answer, code, words):
    server, url = proxy
    server.script = [answer]
    with connect(url) as client, pytest.raises(ServerError, match=words) as error:
        client.status()
    assert error.value.code == code and "\n" not in str(error.value)


@pytest.mark.parametrize(("outputs", "words"), [
    ([1, 2], "the answer has no 'outputs'; check that"),
    ({"card": [[1], [2, 3]]}, "output 'card': is not a regular array of numbers or texts"),
    ({"card": ["{"], "joints": [["a"]]}, "the signature model_card returns no JSON metadata; export the model again"),
    ({"joints": [["a"]]}, "the signature model_card returns no JSON metadata; export the model again"),
    ({"card": ["{}"], "joints": [["a"]]}, "model card: the schema holds None"),
    ({"card": ["[]"], "joints": [["a"]]}, "model card: the schema holds None")])
def test_model_of_another_kind_is_reported(proxy, outputs, words):
    server, url = proxy
    server.script = [(200, json.dumps({"outputs": outputs}).encode())]
    with connect(url) as client, pytest.raises(InputError, match=words):
        _ = client.schema


def test_outputs_of_a_wrong_shape_are_refused(served, monkeypatch):
    real = served.service.run

    def run(spec, signature, inputs, outputs=()):
        version, answer = real(spec, signature, inputs, outputs)
        return version, answer | ({"scores": answer["scores"][:, :2]} if "scores" in answer else {})

    monkeypatch.setattr(served.service, "run", run)
    with connect(served.rest) as client, pytest.raises(ServerError, match=r"shape \(1, 2\); expected \(1, 3\)"):
        client.predict([GOOD])


def test_alternating_versions_are_reported(served, monkeypatch):
    real, calls = served.service.predict, []

    def predict(request):
        answer = real(request)
        calls.append(1)
        answer.model_spec.version.value = 1 if request.model_spec.signature_name == "model_card" else 2
        return answer

    monkeypatch.setattr(served.service, "predict", predict)
    with answering(served.service) as again, connect(again.grpc) as client, \
            pytest.raises(ServerError, match="versions 2 and 1 answer alternately; add /versions/N to the URL"):
        client.predict([GOOD])
    assert len(calls) <= 4


def test_headers_are_sent_with_every_request(proxy, served, monkeypatch):
    server, url = proxy
    server.script = [STATUS]
    headers = {"Authorization": "Bearer x", "Host": "pose.example"}
    with connect(url, headers=headers) as client:
        client.status()
    assert server.seen[0]["Authorization"] == "Bearer x" and server.seen[0]["Host"] == "pose.example"
    with connect(served.grpc, headers=headers) as client:
        assert client._transport._metadata == (("authorization", "Bearer x"),) and client.status()
