"""The client against a server of an export: the conformance server, and the true one where the environment has it."""

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
# px, and of scores: a convolution sums in another order in another batch (test_export_serving).
AWAY = 1e-3
DONE, BAD_INPUT = 0, 2


@pytest.fixture(scope="module")
def service(exported):
    """The export, loaded and warmed up once."""
    return service_of(exported.output)


@pytest.fixture(scope="module", params=["conformance", pytest.param(BINARY, marks=pytest.mark.tensorflow_model_server)])
def served(request, service, exported, tmp_path_factory):
    """A server of the export, with both its APIs."""
    if request.param == BINARY:
        with binary(f"--model_name={MODEL}", f"--model_base_path={exported.output}",
                    log=tmp_path_factory.mktemp("server") / "log.txt") as found:
            yield found
    else:
        with answering(service) as found:
            yield found


@pytest.fixture(scope="module", params=["grpc", "rest"])
def url(request, served):
    return getattr(served, request.param)


@pytest.fixture(scope="module")
def client(url):
    with connect(url, batch_size=3) as found:
        yield found


@pytest.fixture(scope="module")
def rendered():
    """Eight people: pictures, and boxes."""
    return people(8)


@pytest.fixture(scope="module")
def direct(service):
    """Files, and boxes or None, -> keypoints, scores, visibility, boxes, by the SavedModel in this process."""
    _, servable = service.models.find(service.spec(MODEL, None, None))

    def answers(files, boxes=None):
        given = {"image_bytes": np.array([*files, None], object)[:-1]}
        if boxes is not None:
            given["boxes"] = np.float32([box.as_list() for box in boxes])
        found = servable.run("serving_default" if boxes is None else "with_boxes", given)
        return [found[name] for name in ("keypoints", "scores", "visibility", "box")]

    return answers


@pytest.fixture(scope="module")
def road(exported):
    """The export as the package itself runs it."""
    return predictor.load(exported.output)


def assert_told(poses, expected):
    """The poses are the rows of what the SavedModel says."""
    for name, values in zip(("keypoints", "scores", "visibility"), expected, strict=False):
        np.testing.assert_allclose([getattr(pose, name) for pose in poses], values, atol=AWAY)


def test_arrays_without_boxes_come_back_in_the_order_asked(client, rendered, direct, exported):
    pictures, _ = rendered
    poses = client.predict(pictures)
    keypoints, scores, visibility, boxes = direct([png(picture) for picture in pictures])
    assert_told(poses, (keypoints, scores, visibility))
    np.testing.assert_allclose([pose.box.as_list() for pose in poses], boxes, atol=AWAY)
    assert {pose.schema for pose in poses} == {client.schema} == {exported.metadata.schema}
    assert client.card()["license"].startswith("CC0")


def test_arrays_with_boxes_and_without_may_be_mixed(client, rendered, direct):
    pictures, boxes = rendered
    given = [box if place % 3 else None for place, box in enumerate(boxes)]
    poses = client.predict(pictures, given)
    for place, (pose, box) in enumerate(zip(poses, given, strict=True)):
        expected = direct([png(pictures[place])], None if box is None else [box])
        assert_told([pose], expected)
        assert box is None or pose.box == box


def test_files_are_sent_as_they_are_and_other_formats_as_png(client, rendered, direct, tmp_path, monkeypatch):
    picture = rendered[0][0]
    turned = jpeg(picture, segment(b"Exif\0\0" + tiff(6)))
    (tmp_path / "turned.jpg").write_bytes(turned)
    cv2.imwrite(str(tmp_path / "same.bmp"), picture[..., ::-1])
    sent, real = [], client._transport.predict
    monkeypatch.setattr(client._transport, "predict", lambda signature, inputs, left: sent.extend(
        inputs.get("image_bytes", ())) or real(signature, inputs, left))
    poses = client.predict([tmp_path / "turned.jpg", str(tmp_path / "same.bmp"), turned])
    assert sent == [turned, png(picture), turned]
    assert_told(poses, direct([turned, png(picture), turned]))


def test_what_cannot_be_decoded_fails_alone(client, rendered, direct, tmp_path):
    good = png(rendered[0][0])
    asked = [good, good[:len(good) // 2], b"text", tmp_path / "none.png", good]
    found = list(client.each((image, None) for image in asked))
    assert [isinstance(answer, InputError) for answer in found] == [False, True, True, True, False]
    assert [str(answer) for answer in found[1:4]] == [
        "image number 1: the server cannot decode it, or it has more pixels than it takes; save it again as JPEG or "
        "PNG, or shrink it",
        "image number 2: is not an image that can be decoded; save it again as JPEG or PNG",
        f"image {tmp_path / 'none.png'}: cannot be read (No such file or directory); check the path"]
    assert_told([found[0], found[4]], direct([good, good]))
    with pytest.raises(InputError, match="image number 1: the server cannot decode it"):
        client.predict([good, good[:100]])
    with pytest.raises(InputError, match=r"box \(1, 2, 0, 0\): expected"):
        client.predict([good], [(1, 2, 0, 0)])


def test_its_poses_are_those_of_the_package_s_own_road(client, rendered, road, exported):
    pictures, boxes = rendered
    for pose, expected in zip(client.predict(pictures, boxes), road(pictures, boxes), strict=True):
        zoom = exported.metadata.input_size / expected.box.side
        assert np.median(np.linalg.norm(pose.keypoints - expected.keypoints, axis=1)) * zoom < 0.05
        assert pose.names == expected.names


def test_versions_and_states(client, url):
    assert client.status() == {1: "AVAILABLE"}
    with connect(f"{url}/versions/1") as pinned:
        assert pinned.status() == {1: "AVAILABLE"} and pinned.schema == client.schema


def test_a_model_or_version_that_is_not_there_is_told_in_a_line(url, rendered):
    for other in (url.replace(MODEL, "nobody"), f"{url}/versions/7"):
        with connect(other) as client:
            for ask in (client.status, lambda client=client: client.predict(rendered[0][:1])):
                with pytest.raises(ServerError) as refused:
                    ask()
                assert refused.value.code == "NOT_FOUND" and "\n" not in str(refused.value)


def test_a_signature_that_is_not_there_is_told_in_a_line(client):
    with pytest.raises(ServerError, match="older") as refused:
        client._reply("older", {"query": np.array([b""], object)})
    assert refused.value.code in ("FAILED_PRECONDITION", "INVALID_ARGUMENT") and not refused.value.transient


def command(*words, stdin=""):
    return subprocess.run([CLIENT, *map(str, words)], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def pictures(rendered, tmp_path):
    """A folder of two pictures and a broken one, and a list of people with boxes."""
    (tmp_path / "photos").mkdir()
    for number in (0, 1):
        (tmp_path / "photos" / f"{number}.png").write_bytes(png(rendered[0][number]))
    (tmp_path / "photos" / "broken.png").write_bytes(png(rendered[0][0])[:300])
    asked = [{"image": "photos/0.png", "box": rendered[1][0].as_list()}, {"image": "photos/1.png"}]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    return tmp_path


def test_the_command_writes_the_lines_that_predict_writes(url, road, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    done = command(url, "people.jsonl", "photos/0.png")
    assert (done.returncode, done.stderr) == (DONE, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    monkeypatch.setattr(predictor, "load", lambda *_, **__: road)
    assert ended(predict, "people.jsonl", "photos/0.png", "--nodraw")[0] == DONE
    others = [json.loads(line) for line in Path("poses/predictions.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [list(line) for line in others] == [["image", "box", "keypoints"]] * 3
    for mine, other in zip(lines, others, strict=True):
        assert mine["image"] == other["image"] and list(mine["keypoints"]) == list(other["keypoints"])
        away = np.abs(np.subtract(list(mine["keypoints"].values()), list(other["keypoints"].values())))
        assert np.median(away) < 0.05
    assert lines[0]["box"] == others[0]["box"]


def test_the_command_tells_what_it_leaves_out_and_writes_the_rest_whole(url, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    done = command(url, "photos", "none.png", "--output=lines.jsonl")
    assert done.returncode == BAD_INPUT and done.stdout == ""
    assert done.stderr.splitlines() == [
        "posecascade-client: image photos/broken.png: the server cannot decode it, or it has more pixels than it "
        "takes; save it again as JPEG or PNG, or shrink it",
        "posecascade-client: 1 pictures could not be read",
        "posecascade-client: error: image none.png: cannot be read (No such file or directory); check the path "
        "(inputs left out: 1, poses written: 2)"]
    assert [json.loads(line)["image"] for line in Path("lines.jsonl").read_text().splitlines()] == \
        ["photos/0.png", "photos/1.png"]
    kept = Path("lines.jsonl").read_text()
    assert command(url, "photos/broken.png", "--output=lines.jsonl").returncode == BAD_INPUT
    assert Path("lines.jsonl").read_text() == kept and [path.name for path in pictures.glob(".lines*")] == []
    assert command(url, "photos").returncode == DONE  # a folder's unreadable pictures are only told


def test_the_command_checks_a_server_without_loading_a_backend(url, exported, tmp_path):
    watched = "import sys\nfrom posecascade.cli import client\ntry:\n    client.console()\nfinally:\n" \
              "    print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & {n.split('.')[0] for n in sys.modules}))"
    (tmp_path / "photo.png").write_bytes(png(people(1)[0][0]))
    for words in (["--status"], [str(tmp_path / "photo.png")]):
        done = subprocess.run([sys.executable, "-c", watched, url, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (DONE, "")
        assert done.stdout.splitlines()[-1] == "[]"
    checked = command(url, "--status")
    joints = ", ".join(exported.metadata.schema.keypoints)
    assert checked.stdout == f"version 1: AVAILABLE\njoints of {exported.metadata.schema.name}: {joints}\n"
