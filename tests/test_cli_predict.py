"""posecascade-predict on images, folders, JSON lines and videos: its files, coordinates, exit status and errors."""

import io
import json
import shutil
import sys

import cv2
import keras
import numpy as np
import pytest
import skimage.data
from in_process import exit_status

import posecascade
from posecascade.cli import app, predict
from posecascade.codec.score_calibration import Calibration
from posecascade.formats import keras_file
from posecascade.inference import video
from posecascade.models import cascade
from posecascade.schema import LSP14

BAD_INPUT, DONE, INTERRUPTED = 2, 0, 130


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved tiny model with random weights."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    keras.utils.set_random_seed(1)
    keras_file.save(cascade(14, backbone="tiny", width=16), path, keras_file.Metadata(LSP14, 64, 4))
    return path


@pytest.fixture
def run(model, tmp_path, monkeypatch, capsys):
    """A function that runs the command in a new folder with --output=out.

    It returns the exit status, the parsed lines of predictions.jsonl, standard output and the lines of standard error.
    """
    monkeypatch.chdir(tmp_path)

    def command(*arguments, stdin="", model=model):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = exit_status(predict, *arguments, f"--model={model}", "--output=out")
        printed, file = capsys.readouterr(), tmp_path / "out" / "predictions.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else None
        return status, lines, printed.out, printed.err.splitlines()

    return command


@pytest.fixture
def photos(tmp_path):
    """A folder with a color photograph, a gray one, and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "astronaut.png"), skimage.data.astronaut()[..., ::-1])
    cv2.imwrite(str(folder / "camera.jpg"), skimage.data.camera())
    (folder / "notes.txt").write_text("not an image")
    return folder


def overlays(tmp_path):
    return sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())


def test_one_image_writes_a_json_line_a_csv_row_and_an_overlay(run, model, photos, tmp_path):
    code, [line], printed, errors = run("photos/astronaut.png")
    assert (code, errors) == (DONE, [])
    assert printed == "1 poses written to out/predictions.jsonl\n"
    assert list(line) == ["image", "box", "keypoints"] and line["image"] == "photos/astronaut.png"
    pose = posecascade.load(model).predict(skimage.data.astronaut())
    np.testing.assert_allclose(list(line["keypoints"].values()), list(pose.as_dict().values()), atol=1e-3)
    header, row = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert header.startswith("image,box_x,box_y,box_w,box_h,right_ankle_x,right_ankle_y,right_ankle_score,")
    assert row.split(",")[0] == "photos/astronaut.png" and len(row.split(",")) == 5 + 4 * 14
    assert overlays(tmp_path) == ["astronaut.jpg"]
    assert cv2.imread("out/overlays/astronaut.jpg").shape == (512, 512, 3)


def test_keypoints_below_min_score_are_written_but_not_drawn(run, photos):
    _, expected, _, _ = run("photos/camera.jpg", "--min_score=0")
    drawn = cv2.imread("out/overlays/camera.jpg")
    _, lines, _, _ = run("photos/camera.jpg", "--min_score=1")
    photo = cv2.imread("photos/camera.jpg")
    assert np.abs(cv2.imread("out/overlays/camera.jpg").astype(int) - photo).max() < 30  # JPEG artifacts
    assert np.abs(drawn.astype(int) - photo).max() > 100
    assert lines == expected
    code, _, _, errors = run("photos/camera.jpg", "--min_score=1.5")
    assert code == BAD_INPUT and "min_score" in errors[-1]


def test_folder_is_read_by_name_and_unreadable_images_are_skipped(run, photos, tmp_path):
    (photos / "broken.jpg").write_bytes((photos / "camera.jpg").read_bytes()[:5000])
    (photos / "deeper").mkdir()
    shutil.copy(photos / "camera.jpg", photos / "deeper" / "inside.jpg")
    code, lines, printed, errors = run("photos", "--nodraw", "--batch_size=1")
    assert code == DONE and "(1 images could not be read)" in printed
    assert errors == ["posecascade-predict: folder photos: 1 skipped that are not images (notes.txt)",
                      "posecascade-predict: image photos/broken.jpg: the JPEG data end too early; copy the file again"]
    assert [line["image"] for line in lines] == ["photos/astronaut.png", "photos/camera.jpg"]
    assert not (tmp_path / "out" / "overlays").exists()


def test_json_lines_of_a_file_and_of_standard_input_give_the_same_poses(run, photos, tmp_path):
    requests = [{"image": "photos/astronaut.png", "box": [150, 20, 200, 400]}, {"image": "photos/camera.jpg"},
             {"image": "photos/astronaut.png", "box": [100, 0, 300, 500.5]}]
    text = "\n".join(map(json.dumps, requests)) + "\n"
    (tmp_path / "people.jsonl").write_text(text)
    code, from_file, _, errors = run("people.jsonl")
    assert (code, errors) == (DONE, [])
    assert [line["image"] for line in from_file] == [request["image"] for request in requests]
    assert from_file[0]["box"] == requests[0]["box"] and from_file[2]["box"] == requests[2]["box"]
    assert overlays(tmp_path) == ["astronaut.jpg", "astronaut_2.jpg", "camera.jpg"]
    code, from_stdin, _, _ = run("-", "--nodraw", stdin=text)
    assert code == DONE and from_stdin == from_file
    # A path that does not exist in the working folder is resolved against the .jsonl file's folder.
    (photos / "near.jsonl").write_text('{"image": "camera.jpg"}')
    assert run("photos/near.jsonl")[1][0]["keypoints"] == from_file[1]["keypoints"]


def test_doubled_image_and_box_double_the_coordinates_and_predictions_are_valid_input(run, photos, tmp_path):
    """Keypoints are in pixels of the image."""
    image = skimage.data.astronaut()
    box = np.array([150.0, 20, 200, 400])
    doubled = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite("double.png", doubled[..., ::-1])
    # Pixel centers have integer coordinates: x in the small image is 2 x + 0.5 in the large one.
    big = [*(2 * box[:2] + 0.5), *(2 * box[2:])]
    lines = [{"image": "photos/astronaut.png", "box": list(box)}, {"image": "double.png", "box": big}]
    code, [small, large], _, _ = run("-", stdin="\n".join(map(json.dumps, lines)))
    assert code == DONE
    small, large = (np.array(list(line["keypoints"].values()))[:, :2] for line in (small, large))
    # Crops of the doubled image are shifted by up to half a pixel, because it was resized by nearest neighbor.
    assert np.median(np.abs(2 * small + 0.5 - large)) <= 1
    shutil.copy("out/predictions.jsonl", "again.jsonl")
    assert run("again.jsonl")[0] == DONE


def test_alpha_16_bit_and_rotated_images_give_the_same_pose(run, tmp_path):
    image = skimage.data.astronaut()[:300]
    cv2.imwrite("rgba.png", np.dstack([image[..., ::-1], np.full(image.shape[:2], 255, np.uint8)]))
    cv2.imwrite("deep.png", image[..., ::-1].astype(np.uint16) * 257)
    cv2.imwrite("plain.png", image[..., ::-1])
    # Stored rotated, with EXIF orientation 6: to be turned clockwise.
    stored = cv2.imencode(".jpg", np.rot90(image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (tmp_path / "turned.jpg").write_bytes(
        stored[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + stored[2:])
    code, lines, _, _ = run("plain.png", "rgba.png", "deep.png", "turned.jpg", "--batch_size=2")
    assert code == DONE
    plain, rgba, deep, turned = lines
    assert plain["keypoints"] == rgba["keypoints"] == deep["keypoints"]
    assert turned["box"] == plain["box"]
    difference = [np.subtract(turned["keypoints"][name], plain["keypoints"][name]) for name in LSP14.keypoints]
    assert np.median(np.abs(difference)) < 1  # JPEG artifacts can move single keypoints of a random model
    drawn = cv2.imread("out/overlays/turned.jpg", cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR)
    assert drawn.shape == (300, 512, 3)


def test_overlay_of_a_huge_image_is_shrunk(run):
    cv2.imwrite("huge.png", np.zeros((200, 9000, 3), np.uint8))
    code, [line], _, _ = run("huge.png")
    assert code == DONE and max(abs(v) for v in line["box"]) <= 9000
    assert cv2.imread("out/overlays/huge.jpg").shape == (67, 3000, 3)  # a third


@pytest.fixture
def clip(tmp_path):
    """Five frames of a photograph that is shifted to the right in steps."""
    image = skimage.data.astronaut()[:240, :321]
    with video.Writer(tmp_path / "clip.mp4", 10.0) as writer:
        for step in range(5):
            writer.write(np.roll(image, 4 * step, axis=1))
    return tmp_path / "clip.mp4"


def test_video_writes_a_line_per_frame_and_an_overlay_video(run, clip, tmp_path, monkeypatch):
    # Scores of random weights are below 0.01: the person would be lost, and smoothing reset, in every frame.
    monkeypatch.setattr(video, "FOLLOWED", -1.0)
    code, lines, _, errors = run("clip.mp4")
    assert (code, errors) == (DONE, [])
    assert [line["image"] for line in lines] == [f"clip.mp4#{i}" for i in range(5)]
    assert overlays(tmp_path) == ["clip.mp4"]
    with video.opened(tmp_path / "out" / "overlays" / "clip.mp4", "clip") as back:
        assert back.rate == 10.0 and len(list(back.frames)) == 5
    raw = run("clip.mp4", "--nosmooth", "--nodraw")[1]
    assert raw[0]["keypoints"] == lines[0]["keypoints"] and raw[4]["keypoints"] != lines[4]["keypoints"]


def test_tracking_threshold_is_calibrated_like_the_scores(run, clip, tmp_path, monkeypatch):
    curve = Calibration(1.0, 0.5)
    model, limits, real = tmp_path / "curved.keras", [], video.follow
    keras_file.save(cascade(14, backbone="tiny", width=16), model,
                    keras_file.Metadata(LSP14, 64, 4, calibration=curve))

    def follow(*arguments, followed, **options):
        limits.append(followed)
        return real(*arguments, followed=followed, **options)

    monkeypatch.setattr(video, "follow", follow)
    assert run("clip.mp4", "--nodraw", model=model)[0] == DONE
    assert limits == [float(curve(np.float64(video.FOLLOWED)))] and limits[0] > 1.1 * video.FOLLOWED


def test_bad_inputs_are_reported_and_the_others_written(run, photos, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.jsonl").write_text('{"image": "photos/camera.jpg", "box": [0, 0, 0, 9]}\n{"image": "none.jpg"}\n')
    (tmp_path / "empty").mkdir()
    code, lines, printed, errors = run("none.png", "photos/camera.jpg", "bad.mp4", "bad.jsonl", "empty", "--nodraw")
    assert code == BAD_INPUT and [line["image"] for line in lines] == ["photos/camera.jpg"]
    assert "1 poses written" in printed
    assert errors[:-1] == [
        "posecascade-predict: image none.png: cannot be read (No such file or directory); check the path",
        "posecascade-predict: video bad.mp4: cannot be opened, or no frame can be decoded; copy it again, or "
        "convert it to H.264, as by ffmpeg -i bad.mp4 -c:v libx264 -pix_fmt yuv420p converted.mp4",
        "posecascade-predict: bad.jsonl, line 1: box [0, 0, 0, 9]: expected [x, y, w, h] in pixels with w, h > 0",
        "posecascade-predict: bad.jsonl, line 2: image none.jpg: cannot be read (No such file or directory); "
        "check the path"]
    assert errors[-1] == (
        "posecascade-predict: error: folder empty: has no images; expected image files directly in it, such as .jpg "
        "or .png. Subfolders are not searched (failed inputs: 5, poses written: 1)")


@pytest.mark.parametrize(("arguments", "problem"), [
    (["none.png"], "image none.png: cannot be read (No such file or directory); check the path"),
    (["none.jsonl"], "none.jsonl: cannot be read (No such file or directory); check the path"),
    (["text.jsonl"], "text.jsonl, line 1: is not JSON"), (["bytes.jsonl"], "bytes.jsonl: is not UTF-8 text"),
    (["-"], "standard input: is empty; expected lines"),
    (["text.png"], "image text.png: is not an image that can be decoded"),
    (["broken"], "none of 1 images could be read; nothing was written"),
    ([], "no INPUT given; expected images, folders, videos, the number of a camera, .jsonl files or -"),
    (["text.png", "--decoder=darc"], "unknown decoder 'darc'; did you mean 'dark'?"),
    (["text.png", "--model="], "--model: is empty; expected the name, file or folder of a model"),
    (["text.png", "--model=text.png"], "text.png: is not a .keras file"),
    (["text.png", "--output="], "--output: is empty; expected a folder to write to"),
    (["text.png", "--output=text.png"], "--output=text.png: is a file; expected a folder"),
    (["text.png", "--batch_size=0"], "batch_size"), (["text.png", "--modle=x"], "Unknown command line flag 'modle'")],
    ids=str)
def test_useless_input_is_one_line_and_keeps_existing_files(run, model, tmp_path, arguments, problem):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "text.jsonl").write_text("hello\n")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").write_text('{"older": 1}\n')
    predict.FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as exited, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(""))
        output = io.StringIO()
        patch.setattr(sys, "stderr", output)
        app.run(predict.main, predict.FLAGS, predict.__doc__,
                ["posecascade-predict", f"--model={model}", "--output=out", *arguments])
    assert exited.value.code == BAD_INPUT
    last = output.getvalue().splitlines()[-1]
    assert last.startswith("posecascade-predict: error: ") and problem in last
    assert len(output.getvalue().splitlines()) == (2 if arguments == ["broken"] else 1)
    assert (tmp_path / "out" / "predictions.jsonl").read_text() == '{"older": 1}\n'
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.jsonl"]


def test_poses_written_before_an_interrupt_are_kept(run, clip, photos, monkeypatch, tmp_path):
    real = video.follow

    def interrupted(*arguments, **options):
        for number, result in enumerate(real(*arguments, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(video, "follow", interrupted)
    code, lines, _, errors = run("photos/camera.jpg", "clip.mp4", "photos/astronaut.png")
    assert (code, errors) == (INTERRUPTED, ["posecascade-predict: interrupted"])
    assert [line["image"] for line in lines] == ["photos/camera.jpg", *(f"clip.mp4#{i}" for i in range(3))]
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 5
    with video.opened(tmp_path / "out" / "overlays" / "clip.mp4", "clip") as back:
        assert len(list(back.frames)) == 3
    assert not list(tmp_path.glob("out/.*")) and not list(tmp_path.glob("out/overlays/.*"))


def test_number_is_a_camera_unless_a_file_has_that_name(run, photos, tmp_path):
    code, lines, _, errors = run("77")
    assert (code, lines) == (BAD_INPUT, None) and "error: camera 77: cannot be opened" in errors[-1]
    shutil.copy(photos / "camera.jpg", tmp_path / "77")
    code, [line], _, _ = run("77")
    assert code == DONE and line["image"] == "77"


def test_unwritable_output_is_reported(run, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "overlays").write_text("a file, not a folder")
    code, _, _, errors = run("photos/camera.jpg")
    assert code == BAD_INPUT
    assert errors == ["posecascade-predict: error: --output=out: cannot be written (File exists); "
                      "free disk space or choose another folder"]
