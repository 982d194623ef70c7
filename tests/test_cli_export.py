"""posecascade-export: a complete version or nothing, its output, its limits, and its errors."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from exported import KINDS, LICENSE, MEASURED, PRECISIONS, SIGNATURES, ended
from small_runs import stub_cascade

from posecascade.cli import export
from posecascade.export import artifacts, certificate, exporting, saved_model, tflite
from posecascade.formats import bundle, keras_file
from posecascade.schema import LSP14

BAD_INPUT, DONE, INTERRUPTED = 2, 0, 130
NAMES = [f"{kind}_{precision}.tflite" for precision in PRECISIONS for kind in KINDS]
NAMES.append("decoder.tflite")  # in the order they are written
ROWS = [*(f"saved_model/{name}" for name in SIGNATURES), *(f"tflite/{name}" for name in NAMES)]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- what an export writes -----------------------------------------------------------------------------------------


def test_version_holds_every_artifact_and_nothing_else(exported):
    assert [path.name for path in exported.output.iterdir()] == ["1"]  # no draft either
    expected = {"saved_model.pb", "fingerprint.pb", "variables/variables.index",
                "variables/variables.data-00000-of-00001", "assets/joints.txt", "assets/posecascade.json",
                "assets.extra/tf_serving_warmup_requests",
                "certificate.json", "certificate.txt", "posecascade.json", *(f"tflite/{name}" for name in NAMES)}
    assert files_in(exported.version) == expected
    listed = json.loads((exported.version / "posecascade.json").read_text())["files"]
    assert set(listed) == expected - {"posecascade.json"}
    for name, entry in listed.items():
        data = (exported.version / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_output_is_what_was_written_and_the_table(exported):
    """Nothing is on standard error, although the environment sets JAX as backend and TensorFlow's converter logs."""
    assert exported.errors == ""
    lines = exported.stdout.splitlines()
    assert lines[0] == "SavedModel written" and lines[-1] == f"exported to {exported.version}"
    sizes = [f"tflite/{name}: {(exported.version / 'tflite' / name).stat().st_size / 1e6:.2f} MB" for name in NAMES]
    assert lines[1:10] == sizes and lines[10] == f"measuring on {MEASURED} people"
    table = lines[11:-1]
    assert [line.split()[0] for line in table] == ["artifact", *ROWS, "scores:"]
    assert (exported.version / "certificate.txt").read_text().splitlines() == [
        f"PCK@0.2 of {MEASURED} people of synthetic:160; distances from the model's keypoints in pixels of the crop",
        "", *table]


def test_certificate_agrees_with_the_table(exported):
    content = json.loads((exported.version / "certificate.json").read_text())
    assert content["limits"] == {"max_float_error_px": 5, "max_pck_drop": 50} and content["people"] == MEASURED
    assert [row["name"] for row in content["artifacts"]] == ROWS
    for row, line in zip(content["artifacts"], exported.stdout.splitlines()[12:], strict=False):
        away = row["distance_px_of_crop"]
        assert line.split()[1:6] == [f"{away['p50']:.4f}", f"{away['p99']:.3f}", f"{away['max']:.2f}",
                                     f"{row['score']:.2f}", f"{row['loss']:+.2f}"]
        assert row["loss"] == row["model_score"] - row["score"] and set(row["latency_ms"]) == {"1", "2"}
        assert 0 <= away["p50"] <= away["p99"] <= away["max"]
        if row["name"].startswith("tflite/"):
            data = (exported.version / row["name"]).read_bytes()
            assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert row["name"] == "tflite/decoder.tflite" or \
                row["precision"] == row["name"].rpartition("_")[2].removesuffix(".tflite")
            assert (row["gpu_blocking"] == []) == ("heatmaps" in row["name"])
    floats = [row["distance_px_of_crop"]["p99"] for row in content["artifacts"] if row["precision"] == "float32"]
    assert max(floats) < 0.1  # the default limit, kept even by a barely trained model


def test_metadata_of_the_model_are_exported(exported):
    content = json.loads((exported.version / "posecascade.json").read_text())
    metadata = exported.metadata
    assert content["model"] == keras_file.metadata_dict(metadata)
    assert content["manifest"] == json.loads((exported.run / "manifest.json").read_text())
    data = (exported.run / "best.keras").read_bytes()
    assert content["source"] == {"file": "best.keras", "sha256": hashlib.sha256(data).hexdigest()}
    assert content["license"] == LICENSE
    asset = json.loads((exported.version / "assets" / "posecascade.json").read_text())
    assert asset == {name: value for name, value in content.items() if name not in ("files", "sha256")}
    assert (exported.version / "assets" / "joints.txt").read_text().splitlines() == list(metadata.schema.keypoints)


# --- limits ---------------------------------------------------------------------------------------------------------


def row(name, precision, p99=0.0, score=50.0):
    distance = {"p50": 0.0, "p99": p99, "max": p99}
    return certificate.Row(name, precision, distance, {"name": "neck", "p99": p99}, score, 50.0, None, {})


@pytest.fixture
def quick(exported, tmp_path, monkeypatch):
    """Return a function that exports to `out`, which has an older version, with given measurements; like `ended`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "1").mkdir(parents=True)
    (tmp_path / "out" / "1" / "saved_model.pb").write_bytes(b"older")
    monkeypatch.setattr(saved_model, "write", lambda folder, *_: (folder / "saved_model.pb").write_bytes(b"new"))
    monkeypatch.setattr(artifacts, "of_saved_model", lambda *_: ())

    def command(*words, measured=None):
        with pytest.MonkeyPatch.context() as patch:
            if measured:
                patch.setattr(exporting, "write_tflite", lambda *_: {})
                patch.setattr(certificate, "measure", measured)
            return ended(export, f"--model={exported.run}", "--output=out", "--set=export.people=3",
                         "--set=export.calibration_crops=2", *words)

    return command


def test_artifacts_past_a_limit_are_reported_and_nothing_is_written(quick, tmp_path):
    def measured(*_):
        return [row("saved_model/images", "float32", p99=0.25), row("tflite/a.tflite", "float16", p99=0.0999),
                row("tflite/b.tflite", "dynamic", p99=30.0, score=48.5), row("tflite/c.tflite", "int8", score=51.0)]

    code, lines, errors = quick("--set=export.max_float_error_px=0.1", measured=measured)
    assert code == BAD_INPUT and not any(line.startswith("exported to") for line in lines)
    assert errors == [
        "posecascade-export: error: 2 artifacts are past a limit, so nothing is exported: saved_model/images: "
        "keypoints differ from the model's by 0.250 px of the crop (99th percentile, worst neck), expected less than "
        "0.1; tflite/b.tflite: loses 1.50 points of PCK (50.00 to 48.50), expected less than 1. Change the limits by "
        "--set=export.max_float_error_px or --set=export.max_pck_drop"]
    assert any(line.startswith("tflite/b.tflite ") for line in lines)  # the table is printed
    assert files_in(tmp_path / "out") == {"1/saved_model.pb"}
    assert (tmp_path / "out" / "1" / "saved_model.pb").read_bytes() == b"older"

    wider = ["--set=export.max_float_error_px=0.3", "--set=export.max_pck_drop=1.6"]
    code, lines, errors = quick(*wider, measured=measured)
    assert (code, lines[-1], errors) == (DONE, "exported to out/2", [])
    assert bundle.check(tmp_path / "out" / "2") and (tmp_path / "out" / "1" / "saved_model.pb").read_bytes() == b"older"
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["1", "2"]


def test_limit_of_zero_refuses_real_measurements(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))
    code, lines, [error] = quick("--set=export.max_float_error_px=0")
    one = r"tflite/{}\.tflite: keypoints differ from the model's by 0\.00\d px of the crop \(99th percentile, worst " \
          r"\w+\), expected less than 0"
    assert code == BAD_INPUT and re.fullmatch(
        "posecascade-export: error: 3 artifacts are past a limit, so nothing is exported: "
        f"{one.format('heatmaps_float32')}; {one.format('keypoints_float32')}; {one.format('decoder')}. "
        r"Change the limits by --set=export\.max_float_error_px or --set=export\.max_pck_drop", error), error
    assert "measuring on 3 people" in lines and files_in(tmp_path / "out") == {"1/saved_model.pb"}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_nan_is_past_every_limit(precision):
    wrong = row("x", precision, p99=np.nan, score=np.nan)
    [message] = certificate.refusals([wrong], max_float_error_px=1e9, max_pck_drop=1e9)
    assert "nan" in message


@pytest.mark.parametrize(("error", "code", "message"), [
    (KeyboardInterrupt(), INTERRUPTED, "posecascade-export: interrupted"),
    (OSError(28, "No space left on device"), BAD_INPUT,
     "posecascade-export: error: --output=out: cannot be written (No space left on device); free disk space or choose "
     "another folder")],
    ids=["interrupted", "a full disk"])
def test_stopped_export_leaves_nothing(quick, tmp_path, error, code, message):
    def measured(*_):
        raise error

    assert quick(measured=measured)[::2] == (code, [message])
    assert files_in(tmp_path / "out") == {"1/saved_model.pb"} and len(list((tmp_path / "out").iterdir())) == 1


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder of models without data or with missing data, and of files that are not models."""
    folder = tmp_path_factory.mktemp("models")
    model = stub_cascade(LSP14.size)
    for name, recipe in (("unnamed", {}), ("gone", {"data": {"sources": ["lspet:gone"]}})):
        keras_file.save(model, folder / f"{name}.keras", keras_file.Metadata(LSP14, 64, 4, recipe))
    (folder / "text.keras").write_text("not a zip")
    (folder / "empty").mkdir()
    (folder / "run").mkdir()
    shutil.copy(folder / "unnamed.keras", folder / "run" / "last.keras")
    (folder / "run" / "manifest.json").write_text("{")
    (folder / "file").write_text("")
    keras.utils.clear_session()
    return folder


MODEL, DATA = "--model=unnamed.keras", "--data=synthetic:4"


@pytest.mark.parametrize(("words", "problem"), [
    (["--model="], "--model: is missing; pass --model=..., the .keras file or the folder of a training run"),
    ([MODEL, "--output="], "--output: is missing; pass --output=..., a folder"),
    ([MODEL, "more"], "unexpected argument 'more'; options begin with --"),
    ([MODEL, "--ouput=x"], "Unknown command line flag 'ouput'. Did you mean: output ?"),
    ([MODEL, "--set=training.epochs=3"],
     "--set=training.epochs=3: expected a key that begins with 'export.'; the others do not affect an export"),
    ([MODEL, "--output=file"], "--output=file: is a file; expected a folder"),
    ([MODEL, DATA, "--output=file/deeper"],
     "--output=file/deeper: cannot be written (Not a directory); free disk space or choose another folder"),
    (["--model=none.keras"], "none.keras: no such model file; give the path of a .keras file or one of base, lite"),
    (["--model=none"], "no model 'none': no such file or folder; expected a .keras file, the folder of a "
                       "training run, an export, or a model of the package (choose from base, lite)"),
    (["--model=empty"], "empty: contains neither best.keras nor last.keras nor an export; expected the folder of a "
                        "training run or of posecascade-export, or a .keras file"),
    (["--model=text.keras"],
     "text.keras: is not a .keras file, or is truncated or damaged (File is not a zip file); copy or download it "
     "again"),
    (["--model=run"], "run/manifest.json: cannot be read (Expecting property name enclosed in double quotes: line 1 "
                      "column 2 (char 1)); remove it or copy it again"),
    ([MODEL], "unnamed.keras: names no training data; give people to calibrate and measure on by --data=TYPE:ROOT"),
    (["--model=gone.keras"], "lspet: 'gone' does not exist; give "),
    ([MODEL, "--data=lsp:nowhere"], "lsp: 'nowhere' does not exist; give "),
    ([MODEL, "--data=syntetic:4"], "--data=syntetic:4: unknown type 'syntetic'; did you mean 'synthetic'?"),
    ([MODEL, DATA, "--set=export.peple=3"],
     "--set=export.peple=3: unknown key 'export.peple'; did you mean 'export.people'?"),
    ([MODEL, DATA, "--set=export.people=0"], "--set=export.people=0: export.people is 0, expected at least 1"),
    ([MODEL, DATA, "--set=export.batch_sizes=[0]"], "--set=export.batch_sizes=[0]: export.batch_sizes is [0], expected "
                                                    "1 to 200 whole numbers from 1 on, as in [1, 4]")], ids=str)
def test_bad_input_is_reported_in_one_line_and_nothing_is_written(models, monkeypatch, words, problem):
    monkeypatch.chdir(models)
    before = files_in(models)
    code, lines, errors = ended(export, "--output=out", *words)
    assert (code, lines, len(errors)) == (BAD_INPUT, [], 1)
    assert errors[0].startswith(f"posecascade-export: error: {problem}"), errors[0]
    assert problem.endswith("give ") or errors[0] == f"posecascade-export: error: {problem}"
    assert files_in(models) == before and not (models / "out").exists()


@pytest.mark.parametrize("name", [".", "1", "1/tflite/keypoints_int8.tflite"])
def test_export_of_an_export_is_refused(exported, tmp_path, name):
    path = exported.output / name
    assert ended(export, f"--model={path}", f"--output={tmp_path / 'out'}") == (BAD_INPUT, [], [
        f"posecascade-export: error: --model={path}: is an export already; pass the .keras file, or the folder of "
        "the run, that it was made from"])
