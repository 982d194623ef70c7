"""Batches of the conformance server: each client gets its rows, and the effect of one client's error on others."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import MODEL, answering, service_of
from small_served import GOOD, write

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
import model_server_protos
from model_server_models import Refused

from posecascade.client import ServerError, connect
from posecascade.client.retrying import NEIGHBORS


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a folder of one version, whose keypoints are 1000 px to the right."""
    folder = tmp_path_factory.mktemp("models")
    write(folder / "1", offset=1000)
    return folder


def parameters(**values):
    """Return BatchingParameters with one thread that waits, so that simultaneous requests run together."""
    message = model_server_protos.CLASSES["BatchingParameters"]()
    defaults = {"max_batch_size": 4, "batch_timeout_micros": 300_000, "num_batch_threads": 1}
    for name, value in (defaults | values).items():
        if name == "allowed_batch_sizes":
            message.allowed_batch_sizes.extend(value)
        else:
            getattr(message, name).value = value
    return message


def at_once(*calls):
    """Return what each call returns or raises, all started together."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        except Refused as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def asks(service, data, signature="serving_default", **more):
    inputs = {"image_bytes": np.array([*data, None], object)[:-1], **more}
    return lambda: service.run(service.spec(MODEL, None, None), signature, inputs)[1]


def test_requests_of_several_clients_run_as_one(base):
    service = service_of(base, parameters(allowed_batch_sizes=[1, 2, 4]))
    sizes, servable = [], service.models.find(service.spec(MODEL, None, None))[1]
    real = servable.run
    servable.run = lambda signature, inputs: sizes.append(len(inputs["image_bytes"])) or real(signature, inputs)
    found = at_once(asks(service, [GOOD]), asks(service, [GOOD + b"1", GOOD + b"12"]))
    assert sizes == [4]  # three, padded to an allowed size
    assert [rows["keypoints"][:, 0, 0].tolist() for rows in found] == [[1007], [1008, 1009]]
    sizes.clear()
    found = at_once(*(asks(service, [GOOD + b"x" * n]) for n in range(6)))
    assert sum(sizes) >= 6 and max(sizes) == 4
    assert [rows["keypoints"][0, 0, 0] for rows in found] == [1007 + n for n in range(6)]


@pytest.mark.parametrize(("invalid", "words"), [
    ({"data": [[GOOD]]}, "from different tasks have different shapes"),
    ({"data": [1.5]}, "Tensor concat operation failed")])
def test_all_requests_of_a_batch_fail_if_shapes_or_types_differ(base, invalid, words):
    service = service_of(base, parameters())
    [data] = invalid.values()
    array = np.array(data, object if isinstance(data[0], list) else np.float32)
    failing = lambda: service.run(service.spec(MODEL, None, None), "serving_default", {"image_bytes": array})  # noqa: E731
    found = at_once(asks(service, [GOOD]), failing)
    assert all(isinstance(answer, Refused) and words in str(answer) for answer in found)
    assert any(words in str(found[0]) for words in NEIGHBORS)  # the client retries after this message


def test_client_is_answered_although_another_breaks_its_batch(base):
    service = service_of(base, parameters())
    with answering(service) as served, connect(served.rest) as good, connect(served.grpc) as bad:
        def malformed():
            with pytest.raises(ServerError, match="Expects arg"):  # when it is retried alone
                bad._reply("serving_default", {"image_bytes": np.array([[GOOD]], object)})

        poses, _ = at_once(lambda: good.predict([GOOD]), malformed)
        assert poses[0].keypoints[0].tolist() == [1007, 0]


def test_full_queue_refuses_requests(base):
    service = service_of(base, parameters(max_batch_size=2, max_enqueued_batches=1))
    with pytest.raises(Refused, match="Task size 3 is larger than maximum input batch size 2"):
        asks(service, [GOOD] * 3)()
    found = at_once(*(asks(service, [GOOD] * 2) for _ in range(16)))
    kinds = Counter(answer.code.name if isinstance(answer, Refused) else "OK" for answer in found)
    assert kinds["OK"] and set(kinds) <= {"OK", "UNAVAILABLE"}
    with answering(service) as served, connect(served.grpc, batch_size=8) as client:  # it reduces its batches and waits
        assert len(client.predict([GOOD] * 9)) == 9
