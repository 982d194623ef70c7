"""posecascade-data as its user meets it: tables, files, exit codes and one-line errors."""

import json

import cv2
import numpy as np
import pytest

from posecascade.cli import app, data


def run(*words):
    """The exit code of `posecascade-data` with these arguments."""
    data.FLAGS.unparse_flags()  # a process parses once, this one does so again and again
    with pytest.raises(SystemExit) as left:
        app.run(data.main, data.FLAGS, data.__doc__, ["posecascade-data", *map(str, words)])
    return left.value.code


@pytest.fixture
def coco(tmp_path):
    """A COCO folder of 6 people in 6 pictures, the last of which is missing; joints on a standing figure's places."""
    places = [(50, 10), (53, 8), (47, 8), (57, 9), (43, 9), (65, 30), (35, 30), (72, 55), (28, 55), (75, 78), (25, 78),
              (60, 80), (40, 80), (61, 110), (39, 110), (62, 140), (38, 140)]
    images, people = [], []
    rng = np.random.default_rng(5)
    for i in range(6):
        images.append({"id": i, "file_name": f"{i}.jpg"})
        moved = np.array(places) + rng.normal(0, 1, (17, 2)) + 10
        people.append({"id": i, "image_id": i, "keypoints": np.column_stack([moved, np.full(17, 2)]).ravel().tolist()})
        if i < 5:
            cv2.imwrite(str(tmp_path / f"{i}.jpg"), rng.integers(0, 255, (170, 120, 3), np.uint8))
    (tmp_path / "people.json").write_text(json.dumps({"images": images, "annotations": people}))
    return tmp_path


def test_check_prints_a_table_and_writes_json_for_each_set(coco, tmp_path, capsys):
    spec = f"coco:{coco}"
    assert run("check", f"--data={spec}", f"--data={spec}/people.json", f"--output={tmp_path / 'out'}") == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    assert list(report) == [spec, f"{spec}/people.json"]
    assert report[spec]["missing"] == [str(coco / "5.jpg")]
    assert (report[spec]["people"], report[spec]["joints"]["nose"]["visible"]) == (6, 6)
    assert f"missing images            1\n    {coco / '5.jpg'}" in printed
    assert "nose                               6" in printed


def test_check_takes_a_file_to_write_to_a_split_and_a_schema(coco, tmp_path, capsys):
    content = json.loads((coco / "people.json").read_text())
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][:6]
    (coco / "people.json").write_text(json.dumps(content))
    (tmp_path / "mine.yaml").write_text("name: mine\nkeypoints: [tip, root]\n")
    assert run("check", f"--data=coco:{coco / 'people.json'}", f"--schema={tmp_path / 'mine.yaml'}", "--split=val",
               f"--output={tmp_path / 'report.json'}") == 0
    (report,) = json.loads((tmp_path / "report.json").read_text()).values()
    assert (report["people"], report["schema"]) == (1, "mine")


@pytest.mark.parametrize(("words", "message"), [
    ([], "found 'nothing', expected check or show"),
    (["chek"], "found 'chek', expected check or show; did you mean 'check'?"),
    (["check"], "no data set is given; add --data=TYPE:ROOT"),
    (["check", "--data=lspte:x"], "unknown type 'lspte'; did you mean 'lspet'?"),
    (["check", "--data=coco:nowhere"], "coco: 'nowhere' does not exist; give a COCO folder"),
    (["check", "--data=lsp:nowhere", "--schema=lsp14"], "--schema describes files of type coco"),
    (["check", "--data=coco:{coco}", "--split=vla"], "unknown split 'vla'; did you mean 'val'?"),
    (["check", "--data=coco:{coco}", "--schema=coco71"], "unknown schema 'coco71'; did you mean 'coco17'?"),
    (["check", "--data=coco:{coco}", "--output=a.png"], "expected a folder or a file that ends with .json"),
    (["check", "--dta=coco:{coco}"], "Unknown command line flag 'dta'"),
    (["show", "--data=coco:{coco}"], "show needs a place for its sheet; add --output=FILE.png"),
    (["show", "--data=coco:{coco}", "--output=a.pdf"], "expected a folder or a file that ends with .png"),
    (["show", "--data=coco:{coco}", "--output=a.png", "--count=0"], "count"),
])
def test_bad_input_is_one_line_and_exit_code_2(coco, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(*(word.format(coco=coco) for word in words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("posecascade-data: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_names_the_actions_and_the_types(capsys):
    assert run("--help") == 0
    printed = capsys.readouterr().out
    assert "check:" in printed
    assert "mpii_json" in printed


def test_show_writes_four_pictures_a_person_and_passes_over_unreadable_ones(coco, tmp_path, capsys):
    target = tmp_path / "sheet.png"
    words = ["show", f"--data=coco:{coco}", f"--output={target}", "--count=50", "--size=98"]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    sheet = cv2.imread(str(target))
    assert printed.count("row ") == 5
    assert sheet.shape[0] >= 5 * 96
    assert sheet.shape[1] >= 4 * 96
    first = target.read_bytes()
    assert run(*words) == 0
    assert target.read_bytes() == first
    assert run(*words, "--seed=2") == 0
    assert target.read_bytes() != first


def test_show_of_unreadable_pictures_says_which(coco, tmp_path, capsys):
    for path in coco.glob("*.jpg"):
        path.unlink()
    assert run("show", f"--data=coco:{coco}", f"--output={tmp_path / 'sheet.png'}") == 2
    assert ".jpg: cannot be read (No such file or directory); check the path" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
