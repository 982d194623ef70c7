"""The client with a served export: by the conformance server, and by TensorFlow Serving if it is installed."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported import ended, people
from image_files import jpeg, segment, tiff
from served import BINARY, MODEL, answering, binary, service_of

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")

from posecascade.cli import predict
from posecascade.client import ServerError, connect
from posecascade.errors import InputError
from posecascade.images import png
from posecascade.inference import predictor

CLIENT = Path(sys.executable).with_name("posecascade-client")
# px, and units of scores: convolutions of another batch size sum in another order (test_export_serving).
TOLERANCE = 1e-3
DONE, BAD_INPUT = 0, 2


@pytest.fixture(scope="module")
def service(exported):
    """A service with the export, loaded and warmed up."""
    return service_of(exported.output)


@pytest.fixture(scope="module", params=["conformance", pytest.param(BINARY, marks=pytest.mark.tensorflow_model_server)])
def served(request, service, exported, tmp_path_factory):
    """The addresses of a server with the export, over gRPC and REST."""
    if request.param == BINARY:
        with binary(f"--model_name={MODEL}", f"--model_base_path={exported.output}",
                    log=tmp_path_factory.mktemp("server") / "log.txt") as addresses:
            yield addresses
    else:
        with answering(service) as addresses:
            yield addresses


@pytest.fixture(scope="module", params=["grpc", "rest"])
def url(request, served):
    return getattr(served, request.param)


@pytest.fixture(scope="module")
def client(url):
    with connect(url, batch_size=3) as connected:
        yield connected


@pytest.fixture(scope="module")
def rendered():
    """Images of eight people, and their boxes."""
    return people(8)


@pytest.fixture(scope="module")
def direct(service):
    """A function from files (and boxes) to keypoints, scores, visibility and boxes by the SavedModel, unserved."""
    _, servable = service.models.find(service.spec(MODEL, None, None))

    def answers(files, boxes=None):
        inputs = {"image_bytes": np.array([*files, None], object)[:-1]}
        if boxes is not None:
            inputs["boxes"] = np.float32([box.as_list() for box in boxes])
        outputs = servable.run("serving_default" if boxes is None else "with_boxes", inputs)
        return [outputs[name] for name in ("keypoints", "scores", "visibility", "box")]

    return answers


@pytest.fixture(scope="module")
def local(exported):
    """The predictor of the export in this process."""
    return predictor.load(exported.output)


def assert_equal(poses, expected):
    """Assert that the poses equal the rows of the SavedModel's outputs."""
    for name, values in zip(("keypoints", "scores", "visibility"), expected, strict=False):
        np.testing.assert_allclose([getattr(pose, name) for pose in poses], values, atol=TOLERANCE)


def test_poses_of_arrays_without_boxes_are_in_order(client, rendered, direct, exported):
    images, _ = rendered
    poses = client.predict(images)
    keypoints, scores, visibility, boxes = direct([png(image) for image in images])
    assert_equal(poses, (keypoints, scores, visibility))
    np.testing.assert_allclose([pose.box.as_list() for pose in poses], boxes, atol=TOLERANCE)
    assert {pose.schema for pose in poses} == {client.schema} == {exported.metadata.schema}
    assert client.card()["license"].startswith("CC0")


def test_known_and_unknown_boxes_can_be_mixed(client, rendered, direct):
    images, boxes = rendered
    given = [box if number % 3 else None for number, box in enumerate(boxes)]
    poses = client.predict(images, given)
    for number, (pose, box) in enumerate(zip(poses, given, strict=True)):
        expected = direct([png(images[number])], None if box is None else [box])
        assert_equal([pose], expected)
        assert box is None or pose.box == box


def test_jpeg_and_png_files_are_sent_unchanged_and_others_as_png(client, rendered, direct, tmp_path, monkeypatch):
    image = rendered[0][0]
    turned = jpeg(image, segment(b"Exif\0\0" + tiff(6)))
    (tmp_path / "turned.jpg").write_bytes(turned)
    cv2.imwrite(str(tmp_path / "same.bmp"), image[..., ::-1])
    sent, real = [], client._transport.predict
    monkeypatch.setattr(client._transport, "predict", lambda signature, inputs, left: sent.extend(
        inputs.get("image_bytes", ())) or real(signature, inputs, left))
    poses = client.predict([tmp_path / "turned.jpg", str(tmp_path / "same.bmp"), turned])
    assert sent == [turned, png(image), turned]
    assert_equal(poses, direct([turned, png(image), turned]))


def test_undecodable_image_does_not_affect_the_others(client, rendered, direct, tmp_path):
    good = png(rendered[0][0])
    images = [good, good[:len(good) // 2], b"text", tmp_path / "none.png", good]
    answers = list(client.each((image, None) for image in images))
    assert [isinstance(answer, InputError) for answer in answers] == [False, True, True, True, False]
    assert [str(answer) for answer in answers[1:4]] == [
        "image number 1: the server cannot decode it, or it has too many pixels; save it again as JPEG or PNG, or "
        "shrink it",
        "image number 2: is not an image that can be decoded; save it again as JPEG or PNG",
        f"image {tmp_path / 'none.png'}: cannot be read (No such file or directory); check the path"]
    assert_equal([answers[0], answers[4]], direct([good, good]))
    with pytest.raises(InputError, match="image number 1: the server cannot decode it"):
        client.predict([good, good[:100]])
    with pytest.raises(InputError, match=r"box \(1, 2, 0, 0\): expected"):
        client.predict([good], [(1, 2, 0, 0)])


def test_poses_equal_those_of_the_predictor_in_this_process(client, rendered, local, exported):
    images, boxes = rendered
    for pose, expected in zip(client.predict(images, boxes), local(images, boxes), strict=True):
        zoom = exported.metadata.input_size / expected.box.side
        assert np.median(np.linalg.norm(pose.keypoints - expected.keypoints, axis=1)) * zoom < 0.05
        assert pose.names == expected.names


def test_status_lists_versions_and_states(client, url):
    assert client.status() == {1: "AVAILABLE"}
    with connect(f"{url}/versions/1") as pinned:
        assert pinned.status() == {1: "AVAILABLE"} and pinned.schema == client.schema


def test_missing_model_or_version_is_reported(url, rendered):
    for other in (url.replace(MODEL, "nobody"), f"{url}/versions/7"):
        with connect(other) as client:
            for ask in (client.status, lambda client=client: client.predict(rendered[0][:1])):
                with pytest.raises(ServerError) as refused:
                    ask()
                assert refused.value.code == "NOT_FOUND" and "\n" not in str(refused.value)


def test_missing_signature_is_reported(client):
    with pytest.raises(ServerError, match="older") as refused:
        client._reply("older", {"query": np.array([b""], object)})
    assert refused.value.code in ("FAILED_PRECONDITION", "INVALID_ARGUMENT") and not refused.value.transient


def command(*words, stdin=""):
    return subprocess.run([CLIENT, *map(str, words)], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def inputs(rendered, tmp_path):
    """A folder with two images and a broken one, and JSON lines of people with boxes."""
    (tmp_path / "photos").mkdir()
    for number in (0, 1):
        (tmp_path / "photos" / f"{number}.png").write_bytes(png(rendered[0][number]))
    (tmp_path / "photos" / "broken.png").write_bytes(png(rendered[0][0])[:300])
    requests = [{"image": "photos/0.png", "box": rendered[1][0].as_list()}, {"image": "photos/1.png"}]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in requests))
    return tmp_path


def test_client_command_writes_the_same_lines_as_predict(url, local, inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    done = command(url, "people.jsonl", "photos/0.png")
    assert (done.returncode, done.stderr) == (DONE, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    monkeypatch.setattr(predictor, "load", lambda *_, **__: local)
    assert ended(predict, "people.jsonl", "photos/0.png", "--nodraw")[0] == DONE
    others = [json.loads(line) for line in Path("poses/predictions.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [list(line) for line in others] == [["image", "box", "keypoints"]] * 3
    for mine, other in zip(lines, others, strict=True):
        assert mine["image"] == other["image"] and list(mine["keypoints"]) == list(other["keypoints"])
        away = np.abs(np.subtract(list(mine["keypoints"].values()), list(other["keypoints"].values())))
        assert np.median(away) < 0.05
    assert lines[0]["box"] == others[0]["box"]


def test_client_command_reports_unreadable_images_and_writes_the_rest(url, inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    done = command(url, "photos", "none.png", "--output=lines.jsonl")
    assert done.returncode == BAD_INPUT and done.stdout == ""
    assert done.stderr.splitlines() == [
        "posecascade-client: image photos/broken.png: the server cannot decode it, or it has too many pixels; save it "
        "again as JPEG or PNG, or shrink it",
        "posecascade-client: 1 images could not be read",
        "posecascade-client: error: image none.png: cannot be read (No such file or directory); check the path "
        "(failed inputs: 1, poses written: 2)"]
    assert [json.loads(line)["image"] for line in Path("lines.jsonl").read_text().splitlines()] == \
        ["photos/0.png", "photos/1.png"]
    kept = Path("lines.jsonl").read_text()
    assert command(url, "photos/broken.png", "--output=lines.jsonl").returncode == BAD_INPUT
    assert Path("lines.jsonl").read_text() == kept and [path.name for path in inputs.glob(".lines*")] == []
    assert command(url, "photos").returncode == DONE  # unreadable images in a folder are only reported


def test_client_command_loads_no_backend(url, exported, tmp_path):
    watched = "import sys\nfrom posecascade.cli import client\ntry:\n    client.console()\nfinally:\n" \
              "    print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & {n.split('.')[0] for n in sys.modules}))"
    (tmp_path / "photo.png").write_bytes(png(people(1)[0][0]))
    for words in (["--status"], [str(tmp_path / "photo.png")]):
        done = subprocess.run([sys.executable, "-c", watched, url, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (DONE, "")
        assert done.stdout.splitlines()[-1] == "[]"
    checked = command(url, "--status")
    keypoints = ", ".join(exported.metadata.schema.keypoints)
    assert checked.stdout == f"version 1: AVAILABLE\nkeypoints of {exported.metadata.schema.name}: {keypoints}\n"
