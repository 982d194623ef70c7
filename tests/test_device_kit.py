"""The kit export/device's one file: alone, it gives what posecascade-predict gives, and one line where it cannot."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported import SCRIPTS, ended, people
from small_runs import finished

from posecascade.cli import predict
from posecascade.inference import predictor, video

SCRIPT = Path(__file__).resolve().parents[1] / "export" / "device" / "pose_tflite.py"
BAD_INPUT, DONE, INTERRUPTED = 2, 0, 130
# Runs the file as a user does who has nothing else: whatever is named first cannot be imported.
ALONE = ("import runpy, sys; [sys.modules.update({name: None}) for name in sys.argv.pop(1).split(',')]; "
         "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')")
OURS = "posecascade,tensorflow,keras,flatbuffers"
LAST_DIGIT = 0.0011  # px: a number that lies between two may be rounded to either
DECODED = 0.005  # px: the decoder of a file of maps computes in float32, the predictor in float64; frames add up
CLOSE = 0.05  # px of the picture: what a gray level in a thousandth of a crop's pixels does, without OpenCV
FILES = [("heatmaps", "float32"), ("heatmaps", "int8"), ("keypoints", "float16"), ("keypoints", "int8")]
NO_CHECKSUM = "does not end with the checksum of posecascade-export; copy it again, or give another .tflite file"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of every kind, small and large, and a video of somebody who moves."""
    place = tmp_path_factory.mktemp("device")
    [one, two, three, four], _ = people(4)
    cv2.imwrite(str(place / "plain.png"), one[..., ::-1])
    cv2.imwrite(str(place / "large.png"), cv2.resize(two, None, fx=5, fy=5)[..., ::-1])
    alpha = np.tile(np.linspace(0, 255, three.shape[1], dtype=np.uint8), (len(three), 1))
    cv2.imwrite(str(place / "clear.png"), np.dstack([three[..., ::-1], alpha]))
    stored = cv2.imencode(".jpg", np.rot90(four)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn to view
    (place / "turned.jpg").write_bytes(stored[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + stored[2:])
    frame = cv2.resize(one, (192, 192))
    with video.Writer(place / "clip.mp4", 10.0) as writer:
        for step in range(6):
            writer.write(np.roll(frame, 5 * step, axis=1))
    return place


INPUTS = ("plain.png", "large.png", "clear.png", "turned.jpg", "clip.mp4")


def alone(folder, *words, without=OURS):
    """The file run in the folder by a Python that cannot import `without`: (exit code, lines, errors of ours)."""
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, without, SCRIPT, *map(str, words)], cwd=folder,
                          capture_output=True, text=True, check=False)
    # LiteRT writes lines of its own.
    return done.returncode, done.stdout.splitlines(), [line for line in done.stderr.splitlines()
                                                       if not line.startswith("INFO: ")]


def table(lines):
    """Of predictions' lines: boxes (N, 4), and x, y, score and visibility (N, K, 4)."""
    found = [json.loads(line) for line in lines]
    return np.array([line["box"] for line in found]), np.array([list(line["keypoints"].values()) for line in found])


@pytest.mark.parametrize(("kind", "precision"), FILES, ids=str)
def test_alone_it_gives_what_posecascade_predict_gives(exported, folder, tmp_path, monkeypatch, kind, precision):
    monkeypatch.chdir(folder)
    model = exported.tflite(kind, precision)
    for words in ([], ["--no-smooth"]) if precision == "int8" else ([],):
        code, output, errors = alone(folder, model, *INPUTS, *words)
        assert (code, errors) == (DONE, [])
        assert ended(predict, *INPUTS, f"--model={model}", f"--output={tmp_path}", "--nodraw",
                     *(word.replace("no-", "no") for word in words))[0] == DONE
        expected = (tmp_path / "predictions.jsonl").read_text().splitlines()
        for line, other in zip(output, expected, strict=True):
            line, other = json.loads(line), json.loads(other)
            assert list(line) == list(other) and line["image"] == other["image"]
            assert list(line["keypoints"]) == list(other["keypoints"])
        (boxes, found), (other_boxes, wanted) = table(output), table(expected)
        close = DECODED if kind == "heatmaps" else LAST_DIGIT
        np.testing.assert_allclose(boxes, other_boxes, atol=close)
        np.testing.assert_allclose(found, wanted, atol=close)


def test_it_is_what_the_installed_command_says_too(exported, folder, tmp_path):
    """In its own process, on the largest picture."""
    model = exported.tflite("keypoints", "float32")
    done = finished([SCRIPTS / "posecascade-predict", folder / "large.png", f"--model={model}",
                     f"--output={tmp_path / 'there'}", "--nodraw"])
    assert done.returncode == DONE
    assert alone(folder, model, folder / "large.png")[1] == \
        (tmp_path / "there" / "predictions.jsonl").read_text().splitlines()


def test_as_a_library_it_needs_no_opencv(exported, tmp_path):
    """On an array, with and without a box, in a Python that has neither OpenCV nor posecascade."""
    [image], [box] = people(1)
    np.save(tmp_path / "image.npy", image)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({(OURS + ',cv2').split(',')}))
sys.path.insert(0, {str(SCRIPT.parent)!r})
import json
import numpy as np
from pose_tflite import PoseModel, Tracker
model, image = PoseModel({str(exported.tflite('heatmaps', 'float32'))!r}), np.load("image.npy")
found = [model(image), model(image, {box.as_list()}), Tracker(model)(image, 0.04)]
print(json.dumps([model.answer("", pose) for pose in found]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == DONE, done.stderr
    searched, boxed, tracked = json.loads(done.stdout)
    road = predictor.load(exported.tflite("heatmaps", "float32"))
    for found, pose in ((searched, road.predict(image)), (boxed, road.predict(image, box)),
                        (tracked, road.predict(image))):
        np.testing.assert_allclose(found["box"], pose.box.as_list(), atol=1e-3)
        joints, wanted = (np.array(list(one.values())) for one in (found["keypoints"], pose.as_dict()))
        np.testing.assert_allclose(joints[:, :2], wanted[:, :2], atol=CLOSE)
        np.testing.assert_allclose(joints[:, 2:], wanted[:, 2:], atol=2e-3)
    assert searched["box"] != boxed["box"]


def test_it_draws_pictures_and_videos_and_leaves_out_what_is_unlikely(exported, folder, tmp_path):
    model = exported.tflite("keypoints", "float32")
    (tmp_path / "more").mkdir()
    shutil.copy(folder / "plain.png", tmp_path / "more" / "plain.png")
    words = [model, "plain.png", tmp_path / "more" / "plain.png", "clip.mp4", f"--draw={tmp_path / 'drawn'}"]
    code, output, errors = alone(folder, *words)
    assert (code, len(output), errors) == (DONE, 8, [])
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["clip.mp4", "plain.jpg", "plain_2.jpg"]
    plain, drawn = (cv2.imread(str(path)) for path in (folder / "plain.png", tmp_path / "drawn" / "plain.jpg"))
    assert plain.shape == drawn.shape and (np.abs(plain.astype(int) - drawn) > 100).sum() > 100
    with video.opened(tmp_path / "drawn" / "clip.mp4", "clip") as back:
        assert back.rate == 10 and len(list(back.frames)) == 6
    assert alone(folder, model, "plain.png", f"--draw={tmp_path / 'bare'}", "--min_score=1.1")[0] == DONE
    assert np.abs(plain.astype(int) - cv2.imread(str(tmp_path / "bare" / "plain.jpg"))).max() < 100  # JPEG's losses


def test_a_file_of_lines_appears_whole_or_stays_as_it_was(exported, folder, tmp_path):
    model, file = exported.tflite("keypoints", "int8"), tmp_path / "poses.jsonl"
    file.write_text("older\n")
    assert alone(folder, model, "none.png", f"--json={file}")[:2] == (BAD_INPUT, [])
    assert file.read_text() == "older\n" and [path.name for path in tmp_path.iterdir()] == ["poses.jsonl"]
    code, output, errors = alone(folder, model, "none.png", "plain.png", f"--json={file}")
    assert (code, output, len(errors), len(file.read_text().splitlines())) == (BAD_INPUT, [], 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["poses.jsonl"]


def test_interrupted_it_keeps_the_lines_it_has(kit, exported, folder, tmp_path, monkeypatch):
    real = kit.frames

    def impatient(cv2, word):
        for number, found in enumerate(real(cv2, word)):
            if number == 3:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(kit, "frames", impatient)
    monkeypatch.setattr(sys, "argv", ["pose_tflite.py", str(exported.tflite("keypoints", "int8")),
                                      str(folder / "clip.mp4"), f"--json={tmp_path / 'poses.jsonl'}"])
    assert kit.main() == INTERRUPTED
    assert len((tmp_path / "poses.jsonl").read_text().splitlines()) == 3


def test_a_camera_s_joints_are_smoothed_by_the_time_that_passed(kit, monkeypatch):
    """A model slower than the camera sees every third frame, say: the filter must know."""
    class Camera:
        def __init__(self, source):
            assert source == 77

        def read(self):
            return next(frames)

        def get(self, _):
            return 30.0

    frames = iter([(True, np.zeros((4, 4, 3), np.uint8))] * 3 + [(False, None)])
    clock = iter([10.0, 10.5, 11.25, 12.0])
    monkeypatch.setattr(kit.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    assert [(name, seconds) for name, _, seconds in kit.frames(cv2, "77")] == [
        ("77#0", 1 / 30), ("77#1", 0.5), ("77#2", 0.75)]


# --- one line -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("harm", "problem"), [
    (lambda data: data[:-3], NO_CHECKSUM),
    (lambda data: b"not a model", NO_CHECKSUM),
    (lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
     "is damaged (its checksum differs); copy or download it again")], ids=["cut", "foreign", "flipped"])
def test_a_damaged_file_is_told_in_one_line(exported, folder, tmp_path, harm, problem):
    path = tmp_path / "model.tflite"
    path.write_bytes(harm(exported.tflite("keypoints", "int8").read_bytes()))
    assert alone(folder, path, "plain.png") == (BAD_INPUT, [], [f"pose_tflite.py: {path}: {problem}"])


def test_what_cannot_be_done_is_told_in_one_line(kit, exported, folder, tmp_path):
    model = exported.tflite("keypoints", "int8")
    broken, text = tmp_path / "broken.jpg", tmp_path / "text.png"
    broken.write_bytes((folder / "turned.jpg").read_bytes()[:5000])
    text.write_text("hello")
    code, output, errors = alone(folder, model, broken, text, "none.png", "77", "none.mp4", "plain.png")
    assert code == BAD_INPUT and len(output) == 1
    assert errors == [
        f"pose_tflite.py: image {broken}: the JPEG data end too early; copy the file again",
        f"pose_tflite.py: image {text}: cannot be decoded; save it again as JPEG or PNG",
        "pose_tflite.py: image none.png: cannot be read (No such file or directory); check the path",
        "pose_tflite.py: camera 77: cannot be opened, or has no frame; check its number",
        "pose_tflite.py: image none.mp4: cannot be read (No such file or directory); check the path"]
    assert alone(folder, "none.tflite", "plain.png") == (BAD_INPUT, [], [
        "pose_tflite.py: none.tflite: cannot be read (No such file or directory); give a file of posecascade-export"])
    assert alone(folder, model, "plain.png", without=f"{OURS},cv2") == (BAD_INPUT, [], [
        "pose_tflite.py: OpenCV is not installed; python -m pip install opencv-python, or use PoseModel on arrays from "
        "Python"])
    assert alone(folder, model, "plain.png", without=f"{OURS},ai_edge_litert") == (BAD_INPUT, [], [
        "pose_tflite.py: ai-edge-litert is not installed; python -m pip install ai-edge-litert"])
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(kit.InputError, match=r"image: has shape .*, expected \(H, W, 3\) uint8 RGB"):
            kit.PoseModel(model)(image)
    for box in ((0, 0, 0, 9), (0, 0, 9), (0, 0, np.nan, 9), (0, 1e8, 9, 9), (0, 0, 1e-4, 1e-4)):
        with pytest.raises(kit.InputError, match=r"box \(0, .*\): expected x, y, w, h in pixels with w, h > 0, none "):
            kit.PoseModel(model)(np.zeros((4, 4, 3), np.uint8), box)
    assert alone(folder, model, "plain.png", "--threads=0") == (BAD_INPUT, [], [
        f"pose_tflite.py: {model}: LiteRT cannot run it on 0 threads (num_threads should >= 1); check their number, or "
        "update ai-edge-litert"])


def test_a_file_that_it_cannot_run_is_reported(kit, exported, monkeypatch):
    with pytest.raises(kit.InputError, match="takes maps, expected a model of images; give a heatmaps or keypoints f"):
        kit.PoseModel(exported.version / "tflite" / "decoder.tflite")
    monkeypatch.setattr(kit, "DECODER", "none.tflite")  # as in a file of an older export
    kit.PoseModel(exported.tflite("keypoints", "int8"))
    with pytest.raises(kit.InputError, match=r"holds no none\.tflite \(exported before .*\); export the model again, "):
        kit.PoseModel(exported.tflite("heatmaps", "int8"))
