"""Atomic writes, locks, hashes, JSON, YAML, and the nearest names in error messages."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from posecascade.errors import InputError
from posecascade.files import (
    atomic_write,
    did_you_mean,
    draft_folder,
    locked,
    read_yaml,
    remove_drafts,
    sha256,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_creates_the_file_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "deeper" / "weights.keras"
    with atomic_write(path) as draft:
        assert draft.parent == path.parent
        assert draft.suffix == ".keras"
        draft.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert names(path.parent) == ["weights.keras"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_failed_block_keeps_the_old_file(tmp_path, failure):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(failure), atomic_write(path) as draft:
        draft.write_text("half of the n")
        raise failure
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_killed_process_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    program = ("import os, sys\nfrom posecascade.files import atomic_write\n"
               "with atomic_write(sys.argv[1]) as draft:\n    draft.write_text('half')\n    os._exit(7)")
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 7
    assert path.read_text() == "old"


def test_drafts_of_killed_processes_are_removed_and_those_of_living_ones_kept(tmp_path):
    for suffix, prefix in ((".json", ".a."), (".jpg", ".photo."), ("", ".site."), (".0", ".v1.")):
        os.close(tempfile.mkstemp(suffix, prefix, tmp_path)[0])  # as a killed process leaves it
    killed = Path(tempfile.mkdtemp("", ".site.", tmp_path))
    (killed / "new").mkdir()
    others = [".a.k3_x9abc.csv", ".a.k3_x9abcd.json", ".b.k3_x9abc.json", "a.json", ".a.20260101.json"]
    for name in others:
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o644 if "2026" in name else 0o600)
    with atomic_write(tmp_path / "a.json") as file, draft_folder(tmp_path, "site") as folder:
        remove_drafts(tmp_path, ["a.json", "*.jpg", "site", "v1.0", "[a].json"])
        assert names(tmp_path) == sorted([*others, file.name, folder.name])
        file.write_text("done")
    assert names(tmp_path) == sorted(others) and (tmp_path / "a.json").read_text() == "done"
    remove_drafts(tmp_path / "nowhere", ["a.json"])


def test_draft_of_another_process_is_kept_until_that_is_killed(tmp_path):
    program = ("import sys, time\nfrom posecascade.files import atomic_write\n"
               "with atomic_write(sys.argv[1]):\n    print('in', flush=True)\n    time.sleep(600)")
    command = [sys.executable, "-c", program, str(tmp_path / "a.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.read(3) == b"in\n"
            remove_drafts(tmp_path, ["a.json"])
            assert len(names(tmp_path)) == 1
        finally:
            other.kill()
    remove_drafts(tmp_path, ["a.json"])
    assert names(tmp_path) == []


def test_two_drafts_of_one_file_are_independent(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


def test_draft_may_be_replaced_by_a_rename(tmp_path):
    """Keras and NumPy write another file next to it and rename it."""
    with atomic_write(tmp_path / "a.txt") as draft:
        (tmp_path / "beside").write_text("content")
        (tmp_path / "beside").replace(draft)
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "content"


def test_json_is_read_back_and_nan_is_refused(tmp_path):
    value = {"a": [1, 2.5, None], "b": {"é": True}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == value
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == value
    assert names(tmp_path) == ["a.json"]


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_did_you_mean_has_the_nearest_name_or_all():
    assert did_you_mean("resnet5", ["vgg16", "resnet50", "resnet152"]) == "did you mean 'resnet50'?"
    assert did_you_mean("zebra", {"b": 1, "a": 2}) == "choose from a, b"


@pytest.mark.parametrize(("text", "message"), [
    ("a: 1\nb:\n  c: 2\n  c: 3\n", "is not YAML (key 'c' is given twice, again in line 4)"),
    ("a: [1", "is not YAML (while parsing a flow sequence"),
])
def test_broken_yaml_and_repeated_keys_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_yaml(path, "recipe")
    assert str(error.value).startswith(f"recipe {path}: {message}")


def test_yaml_is_plain_data(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: [1, 2.5]\nb: {c: x}\n")
    assert read_yaml(path, "recipe") == {"a": [1, 2.5], "b": {"c": "x"}}
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="is not YAML"):
        read_yaml(path, "recipe")
    with pytest.raises(InputError, match=r"recipe .*: cannot be read \(Is a directory\); check the path"):
        read_yaml(tmp_path, "recipe")


def test_folder_is_locked_until_the_process_ends_or_is_killed(tmp_path):
    folder = tmp_path / "runs" / "mine"
    code = f"""
import sys, time
from pathlib import Path
from posecascade.files import locked
with locked(Path({str(folder)!r}), "--model_dir"):
    print("in", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.read(3) == b"in\n"
            with pytest.raises(InputError) as refused, locked(folder, "--model_dir"):
                pass
        finally:
            other.kill()
    assert str(refused.value) == (f"--model_dir={folder}: another process is using this folder; wait until it has "
                               "ended, stop it, or give another folder")
    with locked(folder, "--model_dir"):
        assert names(folder) == [".lock"]
    assert names(folder) == []
    folder.rmdir()
    with locked(folder, "--model_dir"):
        assert names(folder) == [".lock"]
    assert names(folder.parent) == []
