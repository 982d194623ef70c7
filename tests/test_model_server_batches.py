"""Batches of the conformance server: whose rows are whose, and what one client's mistake is to the others."""

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
    """A version whose joints lie 1000 px to the right."""
    folder = tmp_path_factory.mktemp("models")
    write(folder / "1", offset=1000)
    return folder


def parameters(**values):
    """BatchingParameters with one thread that waits a while, so that what is asked at once runs at once."""
    found = model_server_protos.CLASSES["BatchingParameters"]()
    usual = {"max_batch_size": 4, "batch_timeout_micros": 300_000, "num_batch_threads": 1}
    for name, value in (usual | values).items():
        if name == "allowed_batch_sizes":
            found.allowed_batch_sizes.extend(value)
        else:
            getattr(found, name).value = value
    return found


def at_once(*calls):
    """What each call gives or raises, all begun together."""
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


def test_requests_of_several_clients_run_as_one_and_each_gets_its_rows(base):
    service = service_of(base, parameters(allowed_batch_sizes=[1, 2, 4]))
    seen, servable = [], service.models.find(service.spec(MODEL, None, None))[1]
    real = servable.run
    servable.run = lambda signature, inputs: seen.append(len(inputs["image_bytes"])) or real(signature, inputs)
    found = at_once(asks(service, [GOOD]), asks(service, [GOOD + b"1", GOOD + b"12"]))
    assert seen == [4]  # three, filled up to an allowed size
    assert [rows["keypoints"][:, 0, 0].tolist() for rows in found] == [[1007], [1008, 1009]]
    seen.clear()
    found = at_once(*(asks(service, [GOOD + b"x" * n]) for n in range(6)))
    assert sum(size for size in seen) >= 6 and max(seen) == 4
    assert [rows["keypoints"][0, 0, 0] for rows in found] == [1007 + n for n in range(6)]


@pytest.mark.parametrize(("ill", "words"), [
    ({"data": [[GOOD]]}, "from different tasks have different shapes"),
    ({"data": [1.5]}, "Tensor concat operation failed")])
def test_a_batch_fails_as_a_whole_where_one_of_it_has_another_shape_or_type(base, ill, words):
    service = service_of(base, parameters())
    [data] = ill.values()
    array = np.array(data, object if isinstance(data[0], list) else np.float32)
    failing = lambda: service.run(service.spec(MODEL, None, None), "serving_default", {"image_bytes": array})  # noqa: E731
    found = at_once(asks(service, [GOOD]), failing)
    assert all(isinstance(answer, Refused) and words in str(answer) for answer in found)
    assert any(words in str(found[0]) for words in NEIGHBORS)  # upon which the client asks again


def test_a_client_whose_neighbor_breaks_its_batch_is_answered_all_the_same(base):
    service = service_of(base, parameters())
    with answering(service) as served, connect(served.rest) as good, connect(served.grpc) as bad:
        def malformed():
            with pytest.raises(ServerError, match="Expects arg"):  # its own fault, when it is asked again alone
                bad._reply("serving_default", {"image_bytes": np.array([[GOOD]], object)})

        poses, _ = at_once(lambda: good.predict([GOOD]), malformed)
        assert poses[0].keypoints[0].tolist() == [1007, 0]


def test_what_is_too_much_for_the_queue_is_refused(base):
    service = service_of(base, parameters(max_batch_size=2, max_enqueued_batches=1))
    with pytest.raises(Refused, match="Task size 3 is larger than maximum input batch size 2"):
        asks(service, [GOOD] * 3)()
    found = at_once(*(asks(service, [GOOD] * 2) for _ in range(16)))
    kinds = Counter(answer.code.name if isinstance(answer, Refused) else "OK" for answer in found)
    assert kinds["OK"] and set(kinds) <= {"OK", "UNAVAILABLE"}
    with answering(service) as served, connect(served.grpc, batch_size=8) as client:  # which sends fewer, and waits
        assert len(client.predict([GOOD] * 9)) == 9
