"""An export's folder appears complete under the next number, and every byte of it is checked."""

import json
import os
import threading

import pytest

from posecascade.errors import InputError
from posecascade.formats import bundle
from posecascade.formats.metadata import METADATA_FILE


def write(draft):
    (draft / "variables").mkdir()
    (draft / "saved_model.pb").write_bytes(bytes(range(256)))
    (draft / "variables" / "data").write_bytes(b"weights" * 40)
    bundle.write_metadata(draft, {"model": {"name": "x"}})


@pytest.fixture
def folder(tmp_path):
    with bundle.new_version(tmp_path) as draft:
        write(draft)
    return tmp_path / "1"


def test_new_version_follows_the_highest_number(tmp_path):
    for name in ("7", "notes", "v9", "1.5"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    with bundle.new_version(tmp_path) as draft:
        write(draft)
        assert not draft.name.isdecimal()  # so a server that watches the folder ignores it
    assert bundle.versions(tmp_path) == [7, 8]
    assert bundle.newest(tmp_path) == tmp_path / "8"
    assert bundle.check(tmp_path / "8")["model"] == {"name": "x"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_version_leaves_nothing(tmp_path, error):
    with pytest.raises(error), bundle.new_version(tmp_path / "new") as draft:
        write(draft)
        raise error
    assert list((tmp_path / "new").iterdir()) == []


def test_concurrent_exports_get_different_numbers(tmp_path):
    meet = threading.Barrier(2)

    def one():
        with bundle.new_version(tmp_path) as draft:
            write(draft)
            meet.wait(60)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bundle.versions(tmp_path) == [1, 2]
    assert all(bundle.check(tmp_path / name) for name in "12")


def test_server_of_another_user_can_read_it(folder):
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    assert modes == {"1": 0o755, "variables": 0o755, "data": 0o644, "saved_model.pb": 0o644, METADATA_FILE: 0o644}


def test_damaged_folder_is_still_a_bundle(folder, tmp_path):
    assert bundle.is_bundle(folder) and bundle.is_bundle(tmp_path)
    (folder / METADATA_FILE).unlink()
    assert bundle.is_bundle(folder) and bundle.is_bundle(tmp_path)
    (tmp_path / "other" / "3").mkdir(parents=True)
    assert not bundle.is_bundle(tmp_path / "other") and not bundle.is_bundle(tmp_path / "absent")


def damaged(folder) -> str:
    with pytest.raises(InputError) as error:
        bundle.check(folder)
    return str(error.value)


FIX = "copy the folder again, or export the model again"


def test_missing_file_or_other_size_is_refused(folder):
    (folder / "variables" / "data").write_bytes(b"weights" * 39)
    assert damaged(folder) == f"{folder}: variables/data has 273 bytes, expected 280; {FIX}"
    (folder / "variables" / "data").unlink()
    assert damaged(folder) == f"{folder}: variables/data is missing; {FIX}"


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/data"])
def test_flipped_bit_of_a_file_is_refused(folder, name):
    path = folder / name
    data = path.read_bytes()
    for at in range(0, len(data), 17):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:])
        assert damaged(folder) == f"{folder}: {name} is damaged (checksum differs); {FIX}"
    path.write_bytes(data)
    assert bundle.check(folder)


def test_flipped_bit_of_the_metadata_is_refused_unless_the_json_is_equal(folder):
    path = folder / METADATA_FILE
    data = path.read_bytes()
    meaning = json.loads(data)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:])
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == meaning
        except ValueError:
            same = False
        if same:  # another whitespace
            assert bundle.check(folder)
        else:
            assert damaged(folder).startswith(f"{folder}: ") and damaged(folder).endswith(FIX)


def test_missing_or_invalid_metadata_are_refused(folder):
    path = folder / METADATA_FILE
    for text in ("", "[]", "{}", '{"sha256": 1, "files": []}', '{"sha256": "", "files": {"a": {}}}', "null"):
        path.write_text(text)
        assert damaged(folder) == f"{folder}: {METADATA_FILE} is damaged; {FIX}"
    path.unlink()
    assert damaged(folder) == f"{folder}: {METADATA_FILE} cannot be read (No such file or directory); {FIX}"


def test_unwritable_folder_raises_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), bundle.new_version(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == ["file"]
