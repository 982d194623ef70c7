"""benchmarks/published.py: differences between two methods, told apart from chance, and its committed figures."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from posecascade.schema import LSP14

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PEOPLE = 2000  # half of them are the test split


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(BENCHMARKS / "published.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """LSP's layout, where one method misses every tenth joint that is occluded and the other every second."""
    place, rng = tmp_path_factory.mktemp("lsp"), np.random.default_rng(3)
    points = rng.uniform(20, 180, (PEOPLE, LSP14.size, 2))
    occluded = rng.uniform(size=(PEOPLE, LSP14.size)) < 0.2
    scipy.io.savemat(place / "joints.mat",
                     {"joints": np.concatenate([points, occluded[..., None]], -1).transpose(2, 1, 0)})
    (place / "predictions").mkdir()
    for name, share in (("bulat2016", 0.1), ("insafutdinov2016", 0.5)):
        missed = occluded & (rng.uniform(size=occluded.shape) < share)
        answers = (points + 1e4 * missed[..., None])[PEOPLE // 2:]
        scipy.io.savemat(place / "predictions" / f"{name}.mat", {"pred": answers.transpose(2, 1, 0)})
    return place


def test_a_known_difference_is_found_and_told_from_zero(benchmark, folder):
    rows = benchmark["figures"](*benchmark["reports"](folder).values())
    assert rows["visible"]["this paper"]["value"] == rows["visible"]["DeeperCut"]["value"] == 100
    assert rows["visible"]["difference_95"] == [0, 0]
    assert rows["occluded"]["difference"] == pytest.approx(40, abs=3)
    assert "can be told from zero" in benchmark["verdict"](rows)
    assert "cannot be told from zero" in benchmark["verdict"](rows, "visible")
    assert rows["visible"]["joints"] + rows["occluded"]["joints"] == rows["total"]["joints"]


def test_the_committed_figures_are_those_of_the_published_predictions(benchmark, shared_data):
    rows = benchmark["figures"](*benchmark["reports"](shared_data / "lsp_test").values())
    committed = json.loads((BENCHMARKS / "published.json").read_text())
    assert rows.keys() == committed.keys()
    assert sorted(benchmark["table"](rows).splitlines()) == sorted(benchmark["table"](committed).splitlines())
    assert benchmark["verdict"](rows) == benchmark["verdict"](committed)
    assert json.dumps(committed) == json.dumps(committed, sort_keys=True)
    assert round(committed["occluded"]["this paper"]["value"], 1) == 67.7
