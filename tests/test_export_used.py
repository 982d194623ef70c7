"""posecascade-predict and -evaluate run an export, agree with its model and refuse damaged files."""

import functools
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from exported import SCRIPTS, ended, people
from small_runs import finished

import posecascade
from posecascade.cli import evaluate, predict
from posecascade.errors import InputError
from posecascade.formats import bundle
from posecascade.formats.metadata import METADATA_FILE

BAD_INPUT, DONE = 2, 0
CLOSE = 0.05  # pixels of the image
HEATMAPS, KEYPOINTS = "1/tflite/heatmaps_float32.tflite", "1/tflite/keypoints_float32.tflite"
HALVES = ("1/tflite/heatmaps_float16.tflite", "1/tflite/keypoints_float16.tflite")
WITH_MAPS, FLOATS = (".", HEATMAPS), (".", HEATMAPS, KEYPOINTS, *HALVES)
QUANTIZED = [f"1/tflite/{kind}_{precision}.tflite" for kind in ("heatmaps", "keypoints")
             for precision in ("dynamic", "int8")]
DATA = ("--data=synthetic:24", "--split=test")


@pytest.fixture(scope="module")
def requests(tmp_path_factory):
    """Return a folder with a .jsonl file: four rendered people, each with a box and without one."""
    folder = tmp_path_factory.mktemp("requests")
    lines = []
    for number, (image, box) in enumerate(zip(*people(4), strict=True)):
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
        lines += [{"image": f"{number}.png", "box": box.as_list()}, {"image": f"{number}.png"}]
    (folder / "people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def predicted(requests, tmp_path_factory):
    """Return a function: MODEL, flags -> (8, K, 4): x, y, score and visibility of all requests."""
    tmp_path = tmp_path_factory.mktemp("predicted")

    @functools.cache
    def command(model, *words):
        output = tmp_path / "out"
        code, lines, errors = ended(predict, requests / "people.jsonl", f"--model={model}", f"--output={output}",
                                    "--nodraw", *words)
        assert (code, errors) == (DONE, []) and lines == [f"8 poses written to {output / 'predictions.jsonl'}"]
        return keypoints_in(output / "predictions.jsonl")

    return command


def keypoints_in(path):
    return np.array([list(json.loads(line)["keypoints"].values()) for line in path.read_text().splitlines()])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return a function: MODEL, flags -> the entry of the JSON file for 24 people."""
    file = tmp_path_factory.mktemp("evaluated") / "report.json"

    @functools.cache
    def command(model, *words):
        code, _, errors = ended(evaluate, f"--model={model}", *DATA, f"--json={file}", *words)
        assert (code, errors) == (DONE, [])
        content = json.loads(file.read_text())
        assert content["model"] == str(model)
        return content["data"]["synthetic:24"]

    return command


def test_float_artifacts_return_the_keypoints_of_the_model(exported, predicted):
    model = predicted(exported.run).copy()
    assert model[1::2, :, 2].max(1).min() > 0.3  # a person was found in every image and cropped again
    model[..., 2] = exported.metadata.calibration(model[..., 2])
    for place in FLOATS:
        found = predicted(exported.output / place)
        np.testing.assert_allclose(found[..., :2], model[..., :2], atol=CLOSE, err_msg=place)
        np.testing.assert_allclose(found[..., 2:], model[..., 2:], atol=2e-3, err_msg=place)  # float16 weights
    for place in QUANTIZED:  # single keypoints jump to another peak
        away = np.linalg.norm(predicted(exported.output / place)[::2, :, :2] - model[::2, :, :2], axis=-1)
        assert np.median(away) < 1, place


@pytest.mark.parametrize("words", [["--decoder=dark", "--flip_test"], ["--protocol=paper"]], ids=str)
def test_artifacts_with_maps_support_all_flags_of_the_model(exported, predicted, words):
    model = predicted(exported.run, *words)
    for place in WITH_MAPS:
        np.testing.assert_allclose(predicted(exported.output / place, *words)[..., :2], model[..., :2], atol=CLOSE)
    plain = predicted(exported.output / HEATMAPS)
    assert np.abs(model - plain)[..., :2].max() > 0.5  # the flag has an effect


@pytest.mark.parametrize("words", [[], ["--flip_test"]], ids=str)
def test_evaluation_of_an_artifact_has_the_models_score(exported, evaluated, words):
    model = evaluated(exported.run, *words)
    for place in WITH_MAPS if words else (*WITH_MAPS, KEYPOINTS):
        found = evaluated(exported.output / place, *words)
        assert found["total"]["value"] == pytest.approx(model["total"]["value"], abs=0.1), place
        stages = ["keypoints"] if place == KEYPOINTS else ["parts", "heatmaps"]
        assert list(found["stages"]) == stages and found["people"] == model["people"]


REFUSED = ("has the decoder built in, so it supports no other decoder, flip test or protocol; give the file of the "
           "same export whose name begins with heatmaps")


@pytest.mark.parametrize(("command", "words"), [
    (predict, ["--flip_test", "x.png"]), (predict, ["--decoder=dark", "x.png"]),
    (predict, ["--protocol=paper", "x.png"]),
    (evaluate, ["--flip_test", *DATA]), (evaluate, ["--protocol=paper", *DATA])], ids=str)
def test_unsupported_flags_of_artifacts_without_maps_are_refused(exported, tmp_path, command, words):
    more = [f"--output={tmp_path / 'out'}"] if command is predict else []
    for precision in ("float32", "int8"):
        path = exported.tflite("keypoints", precision)
        code, lines, errors = ended(command, f"--model={path}", *words, *more)
        name = command.__name__.rpartition(".")[2]
        assert (code, lines, errors) == (BAD_INPUT, [], [f"posecascade-{name}: error: {path}: {REFUSED}"])
    assert not (tmp_path / "out").exists()


def test_installed_commands_run_an_export(exported, predicted, evaluated, requests, tmp_path):
    """Fresh processes have not loaded TensorFlow or LiteRT before; their start-up lines must not appear on stderr."""
    done = finished([SCRIPTS / "posecascade-predict", requests / "people.jsonl", f"--model={exported.version}",
                     f"--output={tmp_path / 'elsewhere'}", "--nodraw"])
    assert (done.returncode, done.stderr) == (DONE, "")
    np.testing.assert_allclose(keypoints_in(tmp_path / "elsewhere" / "predictions.jsonl")[..., :2],
                               predicted(exported.run)[..., :2], atol=CLOSE)
    done = finished([SCRIPTS / "posecascade-evaluate", f"--model={exported.output / KEYPOINTS}", *DATA,
                     f"--compare={exported.output / HEATMAPS}", f"--json={tmp_path / 'elsewhere.json'}"])
    assert (done.returncode, done.stderr) == (DONE, "")
    found = json.loads((tmp_path / "elsewhere.json").read_text())["data"]["synthetic:24"]
    assert found["total"]["value"] == pytest.approx(evaluated(exported.run)["total"]["value"], abs=0.1)
    assert abs(found["comparison"]["rows"]["total"]["difference"]) < 0.1


# --- damage ---------------------------------------------------------------------------------------------------------


def flipped(data, rng):
    at = rng.integers(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1:]


DAMAGE = {"gone": lambda path, rng: path.unlink(), "empty": lambda path, rng: path.write_bytes(b""),
         "cut": lambda path, rng: path.write_bytes(path.read_bytes()[:-3]),
         "half": lambda path, rng: path.write_bytes(path.read_bytes()[:path.stat().st_size // 2]),
         "flipped": lambda path, rng: path.write_bytes(flipped(path.read_bytes(), rng))}
FILES = ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index", "assets/joints.txt",
          "assets/posecascade.json", "tflite/keypoints_int8.tflite", "certificate.json", "posecascade.json"]
FIX = "copy the folder again, or export the model again"


@pytest.fixture
def copy(exported, tmp_path):
    """Return a copy of an export, to damage it."""
    return shutil.copytree(exported.version, tmp_path / "copy" / "1")


def refused(model, tmp_path, command=predict):
    """Return the command's error about the model, which is one line."""
    words = ["x.png", f"--output={tmp_path / 'out'}"] if command is predict else DATA
    code, lines, errors = ended(command, f"--model={model}", *words)
    assert (code, lines, len(errors)) == (BAD_INPUT, [], 1) and not (tmp_path / "out").exists()
    return errors[0].partition(": error: ")[2]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damaged_file_of_an_export_is_named(copy, tmp_path, rng, name, damage):
    size = (copy / name).stat().st_size
    DAMAGE[damage](copy / name, rng)
    expected = {"gone": "{} is missing", "empty": f"{{}} has 0 bytes, expected {size}",
                "cut": f"{{}} has {size - 3} bytes, expected {size}",
                "half": f"{{}} has {size // 2} bytes, expected {size}", "flipped": "{} is damaged (checksum differs)"}
    if name == METADATA_FILE:
        expected = dict.fromkeys(DAMAGE, "{} is damaged") | {"gone": "{} cannot be read (No such file or directory)"}
    message = refused(copy, tmp_path).replace(f"{METADATA_FILE} is damaged or was altered (checksum differs)",
                                              f"{METADATA_FILE} is damaged")  # if it is still JSON
    assert message == f"{copy}: {expected[damage].format(name)}; {FIX}"


@pytest.mark.parametrize("command", [predict, evaluate], ids=["predict", "evaluate"])
def test_damaged_newest_version_is_not_replaced_by_an_older_one(exported, copy, tmp_path, command):
    shutil.copytree(copy, copy.parent / "2")
    (copy.parent / "2" / "saved_model.pb").unlink()
    assert refused(copy.parent, tmp_path, command) == f"{copy.parent / '2'}: saved_model.pb is missing; {FIX}"


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["heatmaps_float16.tflite", "keypoints_int8.tflite"])
def test_damaged_tflite_file_is_refused(copy, tmp_path, rng, name, damage):
    path = copy / "tflite" / name
    DAMAGE[damage](path, rng)
    again = "copy or download it again"
    expected = {"gone": "no such model file; give the path of a .tflite file",
                "empty": r"is not a \.tflite file, or is truncated or damaged \(has b'' at byte 4, expected b'TFL3'\); "
                         f"give a model exported by posecascade, or {again}",
                "cut": rf"is truncated or damaged \(does not end with its checksum\); {again}",
                "flipped": rf"is damaged \(its SHA-256 begins with \w{{12}}, expected \w{{12}}\); {again}"}
    expected["half"] = expected["cut"]
    message = refused(path, tmp_path, evaluate)
    assert re.fullmatch(f"{re.escape(str(path))}: {expected[damage]}", message), message


@pytest.mark.parametrize(("name", "damage"), [("saved_model.pb", "half"), (FILES[1], "half"), (FILES[1], "gone")])
def test_unloadable_saved_model_with_valid_checksums_is_refused(copy, rng, name, damage):
    """Every file has its checksum, but TensorFlow cannot load the SavedModel."""
    content = {key: value for key, value in bundle.check(copy).items() if key != "files"}
    DAMAGE[damage](copy / name, rng)
    bundle.write_metadata(copy, content)
    with pytest.raises(InputError) as error:
        posecascade.load(copy)
    assert re.fullmatch(re.escape(f"{copy}: TensorFlow ") + r"2\.\S+ cannot load the SavedModel \([^\n]+\); "
                        "export the model again", str(error.value)), error.value
