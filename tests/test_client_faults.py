"""The client where something is wrong: servers that are late, busy, broken or strange."""

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
    with answering(service_of(small_model)) as found:
        yield found


@pytest.fixture(params=["grpc", "rest"])
def url(request, served):
    return getattr(served, request.param)


@pytest.fixture
def refusals(served, monkeypatch):
    """A list of codes with which the server refuses its next requests, and a count of all."""
    script, real = [], served.service.run

    def run(spec, signature, inputs, outputs=()):
        run.count += 1
        if script:
            raise Refused(getattr(grpc.StatusCode, script.pop(0)), "as the test wants")
        return real(spec, signature, inputs, outputs)

    run.count = 0
    monkeypatch.setattr(served.service, "run", run)
    return script, run


@pytest.mark.parametrize("codes", [["UNAVAILABLE", "UNAVAILABLE"], ["RESOURCE_EXHAUSTED"], ["UNAVAILABLE"] * 4])
def test_what_may_pass_is_asked_again(url, refusals, codes):
    script, run = refusals
    with connect(url) as client:
        assert client.schema.keypoints == JOINTS
        before = run.count
        script.extend(codes)
        assert client.predict([GOOD])[0].keypoints[0].tolist() == [len(GOOD), 0]
    assert run.count == before + len(codes) + 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "INTERNAL", "UNIMPLEMENTED"])
def test_what_will_not_pass_is_told_at_once(url, refusals, code):
    script, run = refusals
    with connect(url) as client:
        script.append(code)
        with pytest.raises(ServerError, match="as the test wants") as refused:
            client.predict([GOOD])
    assert run.count == 1 and (code == "INTERNAL" or refused.value.code == code)


def test_a_server_that_starts_late_is_waited_for(small_model):
    service = service_of(small_model)
    with answering(service) as early:
        pass
    begun = threading.Event()

    def late():
        from model_server import grpc_server
        from model_server_rest import rest_server

        server, _ = grpc_server(service, early.grpc_port)
        found = rest_server(service, early.rest_port)
        begun.set()
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        stop.append((server, found))

    stop = []
    timer = threading.Timer(0.3, late)
    timer.start()
    try:
        for where in (early.rest, early.grpc):
            with connect(where, timeout=30) as client:
                assert client.status() == {1: "AVAILABLE"}
        assert begun.is_set()
    finally:
        timer.join()
        for server, found in stop:
            server.stop(None).wait()
            found.shutdown()
            found.server_close()


def test_nobody_there_is_told_when_the_time_is_over(served):
    for url in (f"grpc://127.0.0.1:1/{MODEL}", f"http://127.0.0.1:1/v1/models/{MODEL}"):
        with connect(url, timeout=0.5) as client, pytest.raises(ServerError, match=r"^127\.0\.0\.1:1: UNAV") as told:
            client.predict([GOOD])
        assert told.value.code == "UNAVAILABLE" and "tries in 0.5 s" in str(told.value) and "\n" not in str(told.value)


def test_a_server_that_does_not_answer_is_given_up_at_the_deadline(url, served, monkeypatch):
    hold = threading.Event()
    real = served.service.run
    monkeypatch.setattr(served.service, "run", lambda *given: hold.wait(20) and real(*given))
    try:
        with connect(url, timeout=0.4) as client, pytest.raises(ServerError, match="DEADLINE_EXCEEDED") as told:
            client.predict([GOOD])
        assert told.value.code == "DEADLINE_EXCEEDED"
    finally:
        hold.set()


def test_what_is_too_large_at_once_is_sent_in_parts(url, served, monkeypatch):
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
        asked = [GOOD + b"x" * place for place in range(7)] + [GOOD + b"huge"]
        found = list(client.each((data, None) for data in asked))
    assert [pose.keypoints[0, 0] for pose in found[:-1]] == [len(data) for data in asked[:-1]]
    assert isinstance(found[-1], InputError) and "image number 7: " in str(found[-1]) and "shrink it" in str(found[-1])
    assert sizes[0] == 8


@pytest.fixture
def proxy():
    """A server that answers what its `script` says, and its URL."""
    with scripted() as found:
        yield found


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_proxy_s_bad_moments_are_waited_out(proxy, status):
    server, url = proxy
    server.script = [(status, b"<html>bad gateway</html>"), STATUS]
    with connect(url) as client:
        assert client.status() == {4: "AVAILABLE"}
    assert len(server.seen) == 2


@pytest.mark.parametrize(("answer", "code", "words"), [
    ((404, b"<html>no route</html>"), "NOT_FOUND", "HTTP 404: <html>no route"),
    ((400, b'{ "error": "Missing \\\'inputs\\\' key" }'), "INVALID_ARGUMENT", "Missing"),  # older servers' escapes
    ((500, b""), "UNKNOWN", "HTTP 500: Internal Server Error"), ((200, b"hello"), "INTERNAL", "answers no JSON object"),
    ((200, b"[1]"), "INTERNAL", "answers no JSON object"), ((200, b"{}"), "INTERNAL", "answers no status"),
    ((301, b""), "UNKNOWN", "HTTP 301")])
def test_strange_answers_are_told_in_a_line(proxy, answer, code, words):
    server, url = proxy
    server.script = [answer]
    with connect(url) as client, pytest.raises(ServerError, match=words) as told:
        client.status()
    assert told.value.code == code and "\n" not in str(told.value)


@pytest.mark.parametrize(("outputs", "words"), [
    ([1, 2], "holds no 'outputs' by name"), ({"card": [[1], [2, 3]]}, "an output is no array"),
    ({"card": ["{"], "joints": [["a"]]}, "its model_card is none"), ({"joints": [["a"]]}, "its model_card is none"),
    ({"card": ["{}"], "joints": [["a"]]}, "model card: the schema holds None"),
    ({"card": ["[]"], "joints": [["a"]]}, "model card: the schema holds None")])
def test_a_model_of_another_kind_is_told_in_a_line(proxy, outputs, words):
    server, url = proxy
    server.script = [(200, json.dumps({"outputs": outputs}).encode())]
    with connect(url) as client, pytest.raises(InputError, match=words):
        _ = client.schema


def test_answers_that_do_not_fit_the_card_are_not_taken_for_poses(served, monkeypatch):
    real = served.service.run

    def run(spec, signature, inputs, outputs=()):
        version, found = real(spec, signature, inputs, outputs)
        return version, found | ({"scores": found["scores"][:, :2]} if "scores" in found else {})

    monkeypatch.setattr(served.service, "run", run)
    with connect(served.rest) as client, pytest.raises(ServerError, match=r"shape \(1, 2\), expected \(1, 3\)"):
        client.predict([GOOD])


def test_versions_that_answer_by_turns_are_told(served, monkeypatch):
    real, turn = served.service.predict, []

    def predict(request):
        answer = real(request)
        turn.append(1)
        answer.model_spec.version.value = 1 if request.model_spec.signature_name == "model_card" else 2
        return answer

    monkeypatch.setattr(served.service, "predict", predict)
    with answering(served.service) as again, connect(again.grpc) as client, \
            pytest.raises(ServerError, match="versions 2 and 1 answer by turns; name one in the URL"):
        client.predict([GOOD])
    assert len(turn) <= 4


def test_headers_go_with_every_request(proxy, served, monkeypatch):
    server, url = proxy
    server.script = [STATUS]
    headers = {"Authorization": "Bearer x", "Host": "pose.example"}
    with connect(url, headers=headers) as client:
        client.status()
    assert server.seen[0]["Authorization"] == "Bearer x" and server.seen[0]["Host"] == "pose.example"
    with connect(served.grpc, headers=headers) as client:
        assert client._transport._metadata == (("authorization", "Bearer x"),) and client.status()
