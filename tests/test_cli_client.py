"""posecascade-client on wrong input and failing servers: one line, exit status 2, and received poses are kept."""

import json

import numpy as np
import pytest
from exported import ended
from served import MODEL, answering, service_of
from small_served import GOOD

grpc = pytest.importorskip("grpc", reason="needs grpcio, of the extra `serving`")
pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
from model_server_models import Refused  # noqa: E402

from posecascade.cli import client as command  # noqa: E402

BAD_INPUT = 2


@pytest.fixture(scope="module")
def served(small_model):
    with answering(service_of(small_model)) as addresses:
        yield addresses


@pytest.mark.parametrize(("arguments", "problem"), [
    ([], "no URL given; expected the address of a model, such as grpc://localhost:8500/posecascade"),
    (["photo.jpg"], "URL 'photo.jpg': expected grpc://HOST:8500/MODEL"),
    (["URL"], "no INPUT given; expected images, folders, .jsonl files or -, or --status"),
    (["URL", "a.png", "--status"], "--status: takes no INPUT, found 'a.png'; remove one of them"),
    (["URL", "a.png", "--header=x"],
     "--header=x: expected NAME:VALUE, such as --header='Authorization: Bearer TOKEN'"),
    (["URL", "a.png", "--timeout=0"], "timeout is 0.0; expected a number above 0"),
    (["URL", "none.png"], "image none.png: cannot be read (No such file or directory); check the path"),
    (["URL", "empty"], "folder empty: has no images; expected image files"),
    (["URL/versions/3", "--status"], f"Could not find version 3 of model {MODEL}"),
    (["URL", "good.jpg", "--output=empty"],
     "--output=empty: cannot be written (Is a directory); free disk space or choose another file")])
def test_bad_input_is_one_line_with_exit_status_2(served, tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.jpg").write_bytes(GOOD)
    code, printed, errors = ended(command, *(argument.replace("URL", served.grpc) for argument in arguments))
    assert (code, printed, len(errors)) == (BAD_INPUT, [], 1)
    assert errors[0].startswith("posecascade-client: error: ") and problem in errors[0]


def test_poses_received_before_a_server_failure_are_written(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jpg").write_bytes(GOOD)
    (tmp_path / "people.jsonl").write_text('{"image": "good.jpg"}\n' * 5)
    real, calls = served.service.run, []

    def fail_after_three_calls(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise Refused(grpc.StatusCode.INTERNAL, "failure of the test")
        return real(*arguments)

    monkeypatch.setattr(served.service, "run", fail_after_three_calls)
    options = "--batch_size=1", "--parallel=1", "--output=a.jsonl"
    code, printed, errors = ended(command, served.grpc, "people.jsonl", *options)
    assert (code, printed) == (BAD_INPUT, []) and "failure of the test" in errors[0] and len(errors) == 1
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and np.shape(lines[0]["keypoints"]["head_top"]) == (4,)
