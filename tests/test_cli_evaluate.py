"""posecascade-evaluate: the published figures from the command line, its files, its flags, and its refusals."""

import json
import subprocess
import sys
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from posecascade import inference
from posecascade.cli import app, evaluate
from posecascade.schema import LSP14

PERFECT = 100.0


@pytest.fixture
def run(capsys):
    """Runs the command in this process: (exit code, stdout, stderr)."""
    def command(*words):
        evaluate.FLAGS.unparse_flags()  # a process parses once, this one does so again and again
        with pytest.raises(SystemExit) as left:
            app.run(evaluate.main, evaluate.FLAGS, evaluate.__doc__, ["posecascade-evaluate", *map(str, words)])
        shown = capsys.readouterr()
        return left.value.code, shown.out, shown.err

    return command


@pytest.fixture
def lsp(tmp_path, rng):
    """A small LSP folder without pictures, twenty people; "test" is the second ten. Also their true joints."""
    joints = np.round(rng.uniform(0, 150, (20, 14, 2)), 1)
    joints[:, 2] = joints[:, 9] + [3, 40]  # a torso of 40 px
    flags = np.zeros((20, 14))
    flags[:, 0] = 1
    folder = tmp_path / "lsp"
    folder.mkdir()
    scipy.io.savemat(folder / "joints.mat", {"joints": np.dstack([joints, flags]).transpose(2, 1, 0)})
    return folder, joints[10:]


def test_a_prediction_file_gets_a_table_a_json_file_and_a_plot(run, lsp, tmp_path):
    folder, joints = lsp
    off = joints.copy()
    off[:, 0] += 30  # right ankles, all flagged occluded, are missed
    scipy.io.savemat(tmp_path / "found.mat", {"pred": off.transpose(2, 1, 0)})
    code, shown, errors = run(f"--predictions={tmp_path / 'found.mat'}", f"--data=lsp:{folder}",
                              f"--json={tmp_path / 'out' / 'report.json'}", f"--plot={tmp_path / 'curve.png'}")
    assert (code, errors) == (0, "")
    assert f"lsp:{folder} (split test)\nPCK@0.2 of the torso, 10 of 10 people" in shown
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(content) == ["model", "predictions", "protocol", "flip_test", "data"]
    found = content["data"][f"lsp:{folder}"]
    assert found["split"] == "test"
    assert found["total"]["value"] == pytest.approx(100 * 13 / 14)
    assert found["visibility"]["visible"]["value"] == PERFECT and found["visibility"]["occluded"]["value"] == 0
    assert found["joints"]["right_ankle"]["value"] == 0
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_two_files_are_compared_on_the_same_people(run, lsp, tmp_path):
    folder, joints = lsp
    scipy.io.savemat(tmp_path / "one.mat", {"pred": joints.transpose(2, 1, 0)})
    worse = joints.copy()
    worse[:5, 3] += 30
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["preds"] = worse
    code, shown, _ = run(f"--predictions={tmp_path / 'one.mat'}", f"--compare={tmp_path / 'two.h5'}",
                         f"--data=lsp:{folder}", f"--json={tmp_path / 'report.json'}")
    assert code == 0 and f"second: {tmp_path / 'two.h5'}" in shown
    comparison = json.loads((tmp_path / "report.json").read_text())["data"][f"lsp:{folder}"]["comparison"]
    assert comparison["with"] == str(tmp_path / "two.h5")
    assert comparison["rows"]["left_hip"]["difference"] == pytest.approx(50)
    assert 0 < comparison["rows"]["left_hip"]["low"] < 50 < comparison["rows"]["left_hip"]["high"]
    assert comparison["rows"]["total"]["difference"] == pytest.approx(100 * 5 / 140)


def test_another_split_and_metric_can_be_chosen_and_several_sets_be_given(run, lsp, tmp_path):
    folder, _ = lsp
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "joints.mat").write_bytes((folder / "joints.mat").read_bytes())
    everybody = scipy.io.loadmat(folder / "joints.mat")["joints"][:2]
    scipy.io.savemat(tmp_path / "found.mat", {"pred": everybody})
    code, shown, _ = run(f"--predictions={tmp_path / 'found.mat'}", f"--data=lsp:{folder}", f"--data=lsp:{copy}",
                         "--split=all", "--metric=pckh",
                         f"--json={tmp_path / 'r.json'}", f"--plot={tmp_path / 'r.svg'}")
    assert code == 0 and shown.count("PCKh@0.5 of the head, 20 of 20 people") == 2
    assert list(json.loads((tmp_path / "r.json").read_text())["data"]) == [f"lsp:{folder}", f"lsp:{copy}"]


class ToyModel:
    """A stand-in for `inference.predictor`: its only model puts every keypoint in the middle of the box."""

    def __init__(self):
        self.loaded, self.boxes = [], []

    def load(self, path, **options):
        self.loaded.append((path, options))
        return self.predict

    def predict(self, images, boxes):
        self.boxes += boxes
        middles = [np.tile(box.center, (14, 1)) for box in boxes]
        return [SimpleNamespace(keypoints=m, scores=np.ones(14), visibility=np.ones(14), schema=LSP14, box=box,
                                stages={"parts": m + 1, "heatmaps": m})
                for m, box in zip(middles, boxes, strict=True)]


@pytest.fixture
def toy(monkeypatch):
    toy = ToyModel()
    monkeypatch.setitem(sys.modules, "posecascade.inference.predictor", toy)
    monkeypatch.setattr(inference, "predictor", toy, raising=False)
    return toy


def test_a_model_is_loaded_once_and_shows_its_stages(run, lsp, toy, tmp_path):
    folder, joints = lsp
    add_pictures(folder)
    code, _, errors = run("--model=best.keras", f"--data=lsp:{folder}", "--flip_test", "--compare=best.keras",
                          f"--json={tmp_path / 'r.json'}", "--batch_size=3")
    assert (code, errors) == (0, "")
    assert toy.loaded == [("best.keras", {"flip_test": True, "protocol": "default"})]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["model"] == "best.keras" and content["flip_test"] is True
    found = content["data"][f"lsp:{folder}"]
    assert list(found["stages"]) == ["parts", "heatmaps"]
    assert found["comparison"]["rows"]["total"]["difference"] == 0
    middles = np.array([box.center for box in toy.boxes[:10]])
    torso = np.linalg.norm(joints[:, 9] - joints[:, 2], axis=-1)
    hits = np.linalg.norm(joints - middles[:, None], axis=-1) / torso[:, None] <= 0.2
    assert found["total"]["value"] == pytest.approx(100 * hits.mean())


def test_the_paper_s_protocol_crops_lsp_round_the_middle_of_the_picture(run, lsp, toy):
    folder, _ = lsp
    add_pictures(folder)
    assert run("--model=m", f"--data=lsp:{folder}", "--protocol=paper")[0] == 0
    assert toy.loaded == [("m", {"flip_test": False, "protocol": "paper"})]
    assert {(box.center, round(box.side, 9)) for box in toy.boxes} == {((79.5, 59.5), 178.0)}


def add_pictures(folder):
    """160 x 120 px each."""
    (folder / "images").mkdir()
    for number in range(1, 21):
        cv2.imwrite(str(folder / "images" / f"im{number:04d}.jpg"), np.full((120, 160, 3), 99, np.uint8))


@pytest.mark.parametrize("words, message", [
    ((), "give either --model=PATH_OR_NAME or --predictions=FILE"),
    (("--model=a", "--predictions=b.mat", "--data=lsp:x"), "FILE, not both; --compare takes the second"),
    (("--predictions=b.mat",), "--data is missing; give TYPE:ROOT"),
    (("--predictions=b.mat", "--data=lps:x"), "unknown type 'lps'; did you mean 'lsp"),
    (("--predictions=b.mat", "--data=lsp:nowhere"), "'nowhere' does not exist"),
    (("--predictions=b.mat", "--data=lsp:x", "--data=lsp:x"), "--data names the same data set more than once"),
    (("--predictions=b.mat", "--data=lsp:x", "--flip_test"), "--flip_test and --protocol are for a --model"),
    (("--predictions=b.mat", "--data=lsp:x", "--plot=a.gif"), "--plot=a.gif: unknown suffix; expected one of .png"),
    (("--predictions=b.mat", "--data=lsp:x", "b.jpg"), "unexpected argument 'b.jpg'"),
    (("--predictions=b.mat", "--data=lsp:x", "--metric=ap"), "metric"),
])
def test_wrong_flags_are_one_line_and_exit_code_2(run, words, message):
    code, shown, errors = run(*words)
    assert code == 2 and shown == ""
    assert errors.startswith("posecascade-evaluate: error: ") and errors.count("\n") == 1
    assert message in errors


def test_a_prediction_file_of_other_people_is_refused_and_nothing_is_written(run, lsp, tmp_path):
    folder, joints = lsp
    scipy.io.savemat(tmp_path / "found.mat", {"pred": joints[:7]})
    code, _, errors = run(f"--predictions={tmp_path / 'found.mat'}", f"--data=lsp:{folder}",
                          f"--json={tmp_path / 'report.json'}")
    assert code == 2 and "shape (7, 14, 2), expected numbers of shape (10, 14, 2) or (2, 14, 10)" in errors
    assert not (tmp_path / "report.json").exists()


def test_the_flags_are_these():
    """A promise to scripts: a new flag is a decision."""
    known = {name for name in evaluate.FLAGS if evaluate.FLAGS.find_module_defining_flag(name) is not None}
    assert {"model", "predictions", "data", "split", "schema", "metric", "protocol", "flip_test", "compare",
            "batch_size", "json", "plot"} == known


def test_scoring_a_file_imports_no_backend(lsp, tmp_path):
    folder, joints = lsp
    scipy.io.savemat(tmp_path / "found.mat", {"pred": joints})
    code = ("import sys; from posecascade.cli.evaluate import console\n"
            "try:\n    console()\nfinally:\n    assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, f"--predictions={tmp_path / 'found.mat'}",
                           f"--data=lsp:{folder}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "total" in done.stdout


# --- published figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, wanted",
                         [("bulat2016", (90.7, 63.4, 92.5, 67.7)), ("insafutdinov2016", (90.1, 66.1, 92.0, 67.2))])
def test_published_lsp_predictions_have_their_figures(run, shared_data, tmp_path, method, wanted):
    folder = shared_data / "lsp_test"
    code, _, _ = run(f"--predictions={folder / 'predictions' / method}.mat", f"--data=lsp:{folder}",
                     f"--json={tmp_path / 'report.json'}")
    found = json.loads((tmp_path / "report.json").read_text())["data"][f"lsp:{folder}"]
    figures = (found["total"], found["auc"], found["visibility"]["visible"], found["visibility"]["occluded"])
    assert code == 0 and [f["value"] for f in figures] == pytest.approx(wanted, abs=0.05)
    assert all(f["low"] < f["value"] < f["high"] for f in figures)


@pytest.mark.parametrize("name, wanted", [("bearpaw-hg_s1_b1.mat", 85.085), ("tompson.h5", 82.337)])
def test_published_mpii_predictions_have_their_figure(run, shared_data, tmp_path, name, wanted):
    folder = shared_data / "mpii_val"
    code, _, _ = run(f"--predictions={folder / name}", f"--data=mpii_val:{folder}",
                     f"--json={tmp_path / 'report.json'}")
    found = json.loads((tmp_path / "report.json").read_text())["data"][f"mpii_val:{folder}"]
    assert code == 0 and found["metric"] == "PCKh" and found["threshold"] == 0.5
    assert found["total"]["value"] == pytest.approx(wanted, abs=0.01)
