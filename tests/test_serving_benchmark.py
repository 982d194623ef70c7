"""benchmarks/serving.py: malformed requests do not change other answers, and changed answers are detected."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from served import answering, service_of
from small_served import GOOD

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
import model_server_protos

ROOT = Path(__file__).resolve().parents[1]
INPUTS = [(GOOD + b"x" * number, [1, 2, 30, 40]) for number in range(5)]


@pytest.fixture
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        module = importlib.import_module("serving")
        module.FLAGS.unparse_flags()
        module.FLAGS(["serving", "--clients=4", "--malformed=0.3"])
        yield module
        sys.modules.pop("serving")


@pytest.mark.parametrize("batched", [True, False])
def test_malformed_requests_change_no_answer_and_changed_keypoints_are_detected(benchmark, small_model, batched):
    parameters = model_server_protos.read(ROOT / "export" / "serving" / "batching_parameters.txt", "BatchingParameters")
    reference = np.array([[[len(data), k] for k in range(3)] for data, _ in INPUTS], float)
    with answering(service_of(small_model, parameters if batched else None)) as served:
        load, points = benchmark.Load(served.grpc, INPUTS, reference), []
        assert load.run(150, 50, lambda: points.append(1)) > 0
        assert load.wrong == [] and 30 < load.malformed < 60 and len(points) == 3
        assert len(load.seconds) == 150 - load.malformed
        reference[2] += 0.1
        load.run(20)
        assert load.wrong and all("keypoints differ by 0.100 px" in line for line in load.wrong)


def test_network_alone_is_timed(benchmark, small_model, monkeypatch):
    monkeypatch.setattr(benchmark, "SECONDS", 0.05)
    assert benchmark.bare(str(small_model / "1")) > 0
