"""posecascade-client where something is wrong: one line, exit code 2, and what was answered is kept."""

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
    with answering(service_of(small_model)) as found:
        yield found


@pytest.mark.parametrize(("words", "problem"), [
    ([], "no URL is given; name the server's model, as in grpc://localhost:8500/posecascade"),
    (["photo.jpg"], "URL 'photo.jpg': expected grpc://HOST:8500/MODEL"),
    (["URL"], "no INPUT is given; name pictures, folders, .jsonl files or -, or pass --status"),
    (["URL", "a.png", "--status"], "--status takes no INPUT, found 'a.png'; leave out one of both"),
    (["URL", "a.png", "--header=x"], "--header=x: expected NAME:VALUE"),
    (["URL", "a.png", "--timeout=0"], "timeout is 0.0, expected more than 0"),
    (["URL", "none.png"], "image none.png: cannot be read (No such file or directory); check the path"),
    (["URL", "empty"], "folder empty: has no picture directly in it"),
    (["URL/versions/3", "--status"], f"Could not find version 3 of model {MODEL}"),
    (["URL", "good.jpg", "--output=empty"], "--output=empty: cannot be written (Is a directory); choose another")])
def test_a_mistake_is_told_in_one_line(served, tmp_path, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.jpg").write_bytes(GOOD)
    code, told, errors = ended(command, *(word.replace("URL", served.grpc) for word in words))
    assert (code, told, len(errors)) == (BAD_INPUT, [], 1)
    assert errors[0].startswith("posecascade-client: error: ") and problem in errors[0]


def test_it_keeps_what_it_has_where_the_server_fails(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jpg").write_bytes(GOOD)
    (tmp_path / "people.jsonl").write_text('{"image": "good.jpg"}\n' * 5)
    real, calls = served.service.run, []

    def fail_later(*given):
        calls.append(1)
        if len(calls) > 3:
            raise Refused(grpc.StatusCode.INTERNAL, "as the test wants")
        return real(*given)

    monkeypatch.setattr(served.service, "run", fail_later)
    options = "--batch_size=1", "--parallel=1", "--output=a.jsonl"
    code, told, errors = ended(command, served.grpc, "people.jsonl", *options)
    assert (code, told) == (BAD_INPUT, []) and "as the test wants" in errors[0] and len(errors) == 1
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and np.shape(lines[0]["keypoints"]["head_top"]) == (4,)
