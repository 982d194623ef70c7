"""posecascade-evaluate: its tables, files and errors, and the published figures of published predictions."""

import json
import subprocess
import sys
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from in_process import printing
from marked_people import ARM, marked, person, places, to_stored, write_image, write_list

from posecascade import inference
from posecascade.cli import evaluate
from posecascade.schema import LSP14

PERFECT = 100.0


@pytest.fixture
def run(capsys):
    """A function that runs the command in this process and returns exit status, standard output and standard error."""
    return printing(evaluate, capsys)


@pytest.fixture
def lsp(tmp_path, rng):
    """A small LSP folder of twenty people without images, and the true keypoints of the split "test", the last ten."""
    keypoints = np.round(rng.uniform(0, 150, (20, 14, 2)), 1)
    keypoints[:, 2] = keypoints[:, 9] + [3, 40]  # a torso of 40 px
    flags = np.zeros((20, 14))
    flags[:, 0] = 1
    folder = tmp_path / "lsp"
    folder.mkdir()
    scipy.io.savemat(folder / "joints.mat", {"joints": np.dstack([keypoints, flags]).transpose(2, 1, 0)})
    return folder, keypoints[10:]


def test_predictions_are_scored_in_a_table_a_json_file_and_a_plot(run, lsp, tmp_path):
    folder, keypoints = lsp
    off = keypoints.copy()
    off[:, 0] += 30  # right ankles, all labeled occluded, are missed
    scipy.io.savemat(tmp_path / "predictions.mat", {"pred": off.transpose(2, 1, 0)})
    code, printed, errors = run(f"--predictions={tmp_path / 'predictions.mat'}", f"--data=lsp:{folder}",
                              f"--json={tmp_path / 'out' / 'report.json'}", f"--plot={tmp_path / 'curve.png'}")
    assert (code, errors) == (0, "")
    assert f"lsp:{folder} (split test)\nPCK@0.2 of the torso, 10 of 10 people" in printed
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(content) == ["model", "predictions", "protocol", "flip_test", "data"]
    report = content["data"][f"lsp:{folder}"]
    assert report["split"] == "test"
    assert report["total"]["value"] == pytest.approx(100 * 13 / 14)
    assert report["visibility"]["visible"]["value"] == PERFECT and report["visibility"]["occluded"]["value"] == 0
    assert report["keypoints"]["right_ankle"]["value"] == 0
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_two_prediction_files_are_compared(run, lsp, tmp_path):
    folder, keypoints = lsp
    scipy.io.savemat(tmp_path / "one.mat", {"pred": keypoints.transpose(2, 1, 0)})
    worse = keypoints.copy()
    worse[:5, 3] += 30
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["preds"] = worse
    code, printed, _ = run(f"--predictions={tmp_path / 'one.mat'}", f"--compare={tmp_path / 'two.h5'}",
                         f"--data=lsp:{folder}", f"--json={tmp_path / 'report.json'}")
    assert code == 0 and f"second: {tmp_path / 'two.h5'}" in printed
    comparison = json.loads((tmp_path / "report.json").read_text())["data"][f"lsp:{folder}"]["comparison"]
    assert comparison["with"] == str(tmp_path / "two.h5")
    assert comparison["rows"]["left_hip"]["difference"] == pytest.approx(50)
    assert 0 < comparison["rows"]["left_hip"]["low"] < 50 < comparison["rows"]["left_hip"]["high"]
    assert comparison["rows"]["total"]["difference"] == pytest.approx(100 * 5 / 140)


def test_split_and_metric_flags_apply_to_several_data_sets(run, lsp, tmp_path):
    folder, _ = lsp
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "joints.mat").write_bytes((folder / "joints.mat").read_bytes())
    everybody = scipy.io.loadmat(folder / "joints.mat")["joints"][:2]
    scipy.io.savemat(tmp_path / "predictions.mat", {"pred": everybody})
    code, printed, _ = run(f"--predictions={tmp_path / 'predictions.mat'}", f"--data=lsp:{folder}",
                           f"--data=lsp:{copy}", "--split=all", "--metric=pckh",
                           f"--json={tmp_path / 'r.json'}", f"--plot={tmp_path / 'r.svg'}")
    assert code == 0 and printed.count("PCKh@0.5 of the head, 20 of 20 people") == 2
    assert list(json.loads((tmp_path / "r.json").read_text())["data"]) == [f"lsp:{folder}", f"lsp:{copy}"]


class ToyModel:
    """Replaces `inference.predictor`; its model predicts every keypoint at the center of the box."""

    def __init__(self):
        self.loaded, self.boxes = [], []

    def load(self, path, **options):
        self.loaded.append((path, options))
        return self.predict

    def predict(self, images, boxes):
        self.boxes += boxes
        centers = [np.tile(box.center, (14, 1)) for box in boxes]
        return [SimpleNamespace(keypoints=center, scores=np.ones(14), visibility=np.ones(14), schema=LSP14, box=box,
                                stages={"parts": center + 1, "heatmaps": center})
                for center, box in zip(centers, boxes, strict=True)]


@pytest.fixture
def toy(monkeypatch):
    toy = ToyModel()
    monkeypatch.setitem(sys.modules, "posecascade.inference.predictor", toy)
    monkeypatch.setattr(inference, "predictor", toy, raising=False)
    return toy


def test_model_is_loaded_once_and_both_stages_are_reported(run, lsp, toy, tmp_path):
    folder, keypoints = lsp
    add_images(folder)
    code, _, errors = run("--model=best.keras", f"--data=lsp:{folder}", "--flip_test", "--compare=best.keras",
                          f"--json={tmp_path / 'r.json'}", "--batch_size=3")
    assert (code, errors) == (0, "")
    assert toy.loaded == [("best.keras", {"flip_test": True, "protocol": "default"})]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["model"] == "best.keras" and content["flip_test"] is True
    report = content["data"][f"lsp:{folder}"]
    assert list(report["stages"]) == ["parts", "heatmaps"]
    assert report["comparison"]["rows"]["total"]["difference"] == 0
    centers = np.array([box.center for box in toy.boxes[:10]])
    torso = np.linalg.norm(keypoints[:, 9] - keypoints[:, 2], axis=-1)
    hits = np.linalg.norm(keypoints - centers[:, None], axis=-1) / torso[:, None] <= 0.2
    assert report["total"]["value"] == pytest.approx(100 * hits.mean())


def test_paper_protocol_crops_lsp_around_the_image_center(run, lsp, toy):
    folder, _ = lsp
    add_images(folder)
    assert run("--model=m", f"--data=lsp:{folder}", "--protocol=paper")[0] == 0
    assert toy.loaded == [("m", {"flip_test": False, "protocol": "paper"})]
    assert {(box.center, round(box.side, 9)) for box in toy.boxes} == {((79.5, 59.5), 178.0)}


def add_images(folder):
    """Write the images of 20 people, 160 x 120 px each."""
    (folder / "images").mkdir()
    for number in range(1, 21):
        cv2.imwrite(str(folder / "images" / f"im{number:04d}.jpg"), np.full((120, 160, 3), 99, np.uint8))


@pytest.mark.parametrize("arguments, message", [
    ((), "nothing to evaluate; pass --model=MODEL or --predictions=FILE"),
    (("--model=a", "--predictions=b.mat", "--data=lsp:x"),
     "--model and --predictions are both given; pass one of them, and the other as --compare"),
    (("--predictions=b.mat",), "--data: is missing; pass TYPE:ROOT, such as --data=lsp:/data/lsp"),
    (("--predictions=b.mat", "--data=lps:x"), "unknown type 'lps'; did you mean 'lsp"),
    (("--predictions=b.mat", "--data=lsp:nowhere"), "'nowhere' does not exist"),
    (("--predictions=b.mat", "--data=lsp:x", "--data=lsp:x"),
     "--data: the same data set is given more than once; pass each once"),
    (("--predictions=b.mat", "--data=lsp:x", "--flip_test"),
     "--flip_test and --protocol need a --model; predictions in a file are already decoded"),
    (("--predictions=b.mat", "--data=lsp:x", "--plot=a.gif"), "--plot=a.gif: unknown suffix; expected one of .png"),
    (("--predictions=b.mat", "--data=lsp:x", "b.jpg"), "unexpected argument 'b.jpg'; options begin with --"),
    (("--predictions=b.mat", "--data=lsp:x", "--metric=ap"), "metric"),
])
def test_wrong_flags_are_one_line_with_exit_status_2(run, arguments, message):
    code, printed, errors = run(*arguments)
    assert code == 2 and printed == ""
    assert errors.startswith("posecascade-evaluate: error: ") and errors.count("\n") == 1
    assert message in errors


def test_predictions_for_other_people_are_refused_and_nothing_is_written(run, lsp, tmp_path):
    folder, keypoints = lsp
    scipy.io.savemat(tmp_path / "predictions.mat", {"pred": keypoints[:7]})
    code, _, errors = run(f"--predictions={tmp_path / 'predictions.mat'}", f"--data=lsp:{folder}",
                          f"--json={tmp_path / 'report.json'}")
    assert code == 2 and "shape (7, 14, 2); expected numbers of shape (10, 14, 2) or (2, 14, 10)" in errors
    assert not (tmp_path / "report.json").exists()


def test_scoring_predictions_imports_no_backend(lsp, tmp_path):
    folder, keypoints = lsp
    scipy.io.savemat(tmp_path / "predictions.mat", {"pred": keypoints})
    code = ("import sys; from posecascade.cli.evaluate import console\n"
            "try:\n    console()\nfinally:\n    assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, f"--predictions={tmp_path / 'predictions.mat'}",
                           f"--data=lsp:{folder}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "total" in done.stdout


# --- published figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, expected",
                         [("bulat2016", (90.7, 63.4, 92.5, 67.7)), ("insafutdinov2016", (90.1, 66.1, 92.0, 67.2))])
def test_published_lsp_predictions_have_the_published_figures(run, shared_data, tmp_path, method, expected):
    folder = shared_data / "lsp_test"
    code, _, _ = run(f"--predictions={folder / 'predictions' / method}.mat", f"--data=lsp:{folder}",
                     f"--json={tmp_path / 'report.json'}")
    report = json.loads((tmp_path / "report.json").read_text())["data"][f"lsp:{folder}"]
    figures = (report["total"], report["auc"], report["visibility"]["visible"], report["visibility"]["occluded"])
    assert code == 0 and [f["value"] for f in figures] == pytest.approx(expected, abs=0.05)
    assert all(f["low"] < f["value"] < f["high"] for f in figures)


@pytest.mark.parametrize("name, expected", [("bearpaw-hg_s1_b1.mat", 85.085), ("tompson.h5", 82.337)])
def test_published_mpii_predictions_have_the_published_figure(run, shared_data, tmp_path, name, expected):
    folder = shared_data / "mpii_val"
    code, _, _ = run(f"--predictions={folder / name}", f"--data=mpii_val:{folder}",
                     f"--json={tmp_path / 'report.json'}")
    report = json.loads((tmp_path / "report.json").read_text())["data"][f"mpii_val:{folder}"]
    assert code == 0 and report["metric"] == "PCKh" and report["threshold"] == 0.5
    assert report["total"]["value"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("upright", [True, False])
def test_predictions_for_rotated_images_score_in_either_frame_of_labels(run, tmp_path, rng, upright):
    """Labels count upright or stored pixels, as the listed sizes say; predictions always count upright pixels."""
    size, images, people, lines = (120, 60), [], [], []
    for number, orientation in enumerate((1, 5, 6, 7, 8), 1):
        points = places(rng, size)
        write_image(tmp_path / "images" / f"{number}.jpg", marked(points, size), orientation)
        labels = points if upright else to_stored(points, size, orientation)
        width, height = size if upright or orientation == 1 else size[::-1]
        images.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        people.append(person(number, labels, number))
        keypoints = dict(zip(ARM.keypoints, points.tolist(), strict=True))
        lines.append(json.dumps({"image": f"{number}.jpg", "keypoints": keypoints}))
    (tmp_path / "poses.jsonl").write_text("\n".join(lines))
    (tmp_path / "arm.yaml").write_text(f"name: arm\nkeypoints: [{', '.join(ARM.keypoints)}]\n"
                                       "torso: [shoulder, wrist]\n")
    categories = [{"id": 1, "name": "arm", "keypoints": list(ARM.keypoints)}, {"id": 2, "name": "dog"}]
    spec = write_list(tmp_path / "a.json", images, [*people, person(1, points, 9, category_id=2)], categories)
    code, _, errors = run(f"--predictions={tmp_path / 'poses.jsonl'}", f"--data={spec}", "--split=all",
                          f"--schema={tmp_path / 'arm.yaml'}", "--metric=pck", f"--json={tmp_path / 'out.json'}")
    assert (code, errors) == (0, f"warning: {tmp_path / 'a.json'}: reads category arm; excluded annotations of others: "
                                 "1 dog\n")
    total = json.loads((tmp_path / "out.json").read_text())["data"][spec]["total"]
    assert (total["value"], total["count"]) == (PERFECT, 15)
