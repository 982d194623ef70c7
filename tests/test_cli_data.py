"""posecascade-data: its tables, files, exit status and errors."""

import json

import cv2
import numpy as np
import pytest
from in_process import exit_status

from posecascade.cli import data


def run(*arguments):
    """Run the command in this process and return its exit status."""
    return exit_status(data, *arguments)


@pytest.fixture
def coco(tmp_path):
    """A COCO folder of 6 standing people in 6 images, the last of which is missing."""
    standing = [(50, 10), (53, 8), (47, 8), (57, 9), (43, 9), (65, 30), (35, 30), (72, 55), (28, 55), (75, 78),
                (25, 78), (60, 80), (40, 80), (61, 110), (39, 110), (62, 140), (38, 140)]
    images, people = [], []
    rng = np.random.default_rng(5)
    for i in range(6):
        images.append({"id": i, "file_name": f"{i}.jpg"})
        moved = np.array(standing) + rng.normal(0, 1, (17, 2)) + 10
        people.append({"id": i, "image_id": i, "keypoints": np.column_stack([moved, np.full(17, 2)]).ravel().tolist()})
        if i < 5:
            cv2.imwrite(str(tmp_path / f"{i}.jpg"), rng.integers(0, 255, (170, 120, 3), np.uint8))
    (tmp_path / "people.json").write_text(json.dumps({"images": images, "annotations": people}))
    return tmp_path


def test_check_prints_a_table_and_writes_json_per_data_set(coco, tmp_path, capsys):
    spec = f"coco:{coco}"
    assert run("check", f"--data={spec}", f"--data={spec}/people.json", f"--output={tmp_path / 'out'}") == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    assert list(report) == [spec, f"{spec}/people.json"]
    assert report[spec]["missing"] == [str(coco / "5.jpg")]
    assert (report[spec]["people"], report[spec]["joints"]["nose"]["visible"]) == (6, 6)
    assert f"missing images            1\n    {coco / '5.jpg'}" in printed
    assert "nose                               6" in printed


def test_check_accepts_output_file_split_and_schema(coco, tmp_path, capsys):
    content = json.loads((coco / "people.json").read_text())
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][:6]
    (coco / "people.json").write_text(json.dumps(content))
    (tmp_path / "mine.yaml").write_text("name: mine\nkeypoints: [tip, root]\n")
    assert run("check", f"--data=coco:{coco / 'people.json'}", f"--schema={tmp_path / 'mine.yaml'}", "--split=val",
               f"--output={tmp_path / 'report.json'}") == 0
    (report,) = json.loads((tmp_path / "report.json").read_text()).values()
    assert (report["people"], report["schema"]) == (1, "mine")


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "no action given; expected check, show or convert"),
    (["chek"], "unknown action 'chek'; did you mean 'check'?"),
    (["check"], "no data set given; add --data=TYPE:ROOT"),
    (["check", "--data=lspte:x"], "unknown type 'lspte'; did you mean 'lspet'?"),
    (["check", "--data=coco:nowhere"], "coco: 'nowhere' does not exist; give a COCO folder"),
    (["check", "--data=lsp:nowhere", "--schema=lsp14"],
     "--schema: applies to data sets of type coco, but --data=lsp:nowhere has a schema of its own; remove --schema"),
    (["check", "--data=coco:{coco}", "--split=vla"], "unknown split 'vla'; did you mean 'val'?"),
    (["check", "--data=coco:{coco}", "--schema=coco71"], "unknown schema 'coco71'; did you mean 'coco17'?"),
    (["check", "--data=coco:{coco}", "--output=a.png"],
     "--output=a.png: expected a folder, or a file with the suffix .json"),
    (["check", "--dta=coco:{coco}"], "Unknown command line flag 'dta'"),
    (["show", "--data=coco:{coco}"], "--output: is missing; show needs it. Add --output=FILE.png"),
    (["show", "--data=coco:{coco}", "--output=a.pdf"],
     "--output=a.pdf: expected a folder, or a file with the suffix .png or .jpg or .jpeg"),
    (["show", "--data=coco:{coco}", "--output=a.png", "--count=0"], "count"),
])
def test_bad_input_is_one_line_with_exit_status_2(coco, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*(argument.format(coco=coco) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("posecascade-data: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_lists_actions_and_data_set_types(capsys):
    assert run("--help") == 0
    printed = capsys.readouterr().out
    assert "check:" in printed
    assert "mpii_json" in printed


def test_show_draws_four_images_per_person_and_skips_unreadable_ones(coco, tmp_path, capsys):
    target = tmp_path / "sheet.png"
    arguments = ["show", f"--data=coco:{coco}", f"--output={target}", "--count=50", "--size=98"]
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    sheet = cv2.imread(str(target))
    assert printed.count("row ") == 5
    assert sheet.shape[0] >= 5 * 96
    assert sheet.shape[1] >= 4 * 96
    first = target.read_bytes()
    assert run(*arguments) == 0
    assert target.read_bytes() == first
    assert run(*arguments, "--seed=2") == 0
    assert target.read_bytes() != first


def test_show_of_unreadable_images_reports_one(coco, tmp_path, capsys):
    for path in coco.glob("*.jpg"):
        path.unlink()
    assert run("show", f"--data=coco:{coco}", f"--output={tmp_path / 'sheet.png'}") == 2
    assert ".jpg: is missing; tried '" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
