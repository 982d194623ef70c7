"""benchmarks/published.py: significance of differences between two methods, and the committed figures."""

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
    """A folder in LSP's layout: one method misses a tenth of the occluded keypoints, the other one half."""
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


def test_known_difference_is_significant(benchmark, folder):
    rows = benchmark["figures"](*benchmark["reports"](folder).values())
    assert rows["visible"]["this paper"]["value"] == rows["visible"]["DeeperCut"]["value"] == 100
    assert rows["visible"]["difference_95"] == [0, 0]
    assert rows["occluded"]["difference"] == pytest.approx(40, abs=3)
    assert benchmark["verdict"](rows).endswith(" is significant.")
    assert benchmark["verdict"](rows, "visible") == \
        "On visible keypoints, the difference of +0.0 points (+0.0 to +0.0) is not significant."
    assert rows["visible"]["keypoints"] + rows["occluded"]["keypoints"] == rows["total"]["keypoints"]


def test_committed_figures_equal_those_of_the_published_predictions(benchmark, shared_data):
    rows = benchmark["figures"](*benchmark["reports"](shared_data / "lsp_test").values())
    committed = json.loads((BENCHMARKS / "published.json").read_text())
    assert rows.keys() == committed.keys()
    assert sorted(benchmark["table"](rows).splitlines()) == sorted(benchmark["table"](committed).splitlines())
    assert benchmark["verdict"](rows) == benchmark["verdict"](committed)
    assert json.dumps(committed) == json.dumps(committed, sort_keys=True)
    assert round(committed["occluded"]["this paper"]["value"], 1) == 67.7
