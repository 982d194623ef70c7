"""A bundle appears whole under the next number, and every byte of it is checked."""

import json
import os
import threading

import pytest

from posecascade.errors import InputError
from posecascade.formats import bundle


def write(draft):
    (draft / "variables").mkdir()
    (draft / "saved_model.pb").write_bytes(bytes(range(256)))
    (draft / "variables" / "data").write_bytes(b"weights" * 40)
    bundle.write_sidecar(draft, {"model": {"name": "x"}})


@pytest.fixture
def folder(tmp_path):
    with bundle.new_version(tmp_path) as draft:
        write(draft)
    return tmp_path / "1"


def test_versions_count_up_from_the_highest_and_other_names_do_not_count(tmp_path):
    for name in ("7", "notes", "v9", "1.5"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    with bundle.new_version(tmp_path) as draft:
        write(draft)
        assert not draft.name.isdecimal()  # what a server that watches the folder ignores
    assert bundle.versions(tmp_path) == [7, 8]
    assert bundle.newest(tmp_path) == tmp_path / "8"
    assert bundle.check(tmp_path / "8")["model"] == {"name": "x"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_of_a_version_that_fails(tmp_path, error):
    with pytest.raises(error), bundle.new_version(tmp_path / "new") as draft:
        write(draft)
        raise error
    assert list((tmp_path / "new").iterdir()) == []


def test_two_exports_at_a_time_get_a_number_each(tmp_path):
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


def test_a_server_of_another_user_can_read_it(folder):
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    assert modes == {"1": 0o755, "variables": 0o755, "data": 0o644, "saved_model.pb": 0o644, bundle.SIDECAR: 0o644}


def test_a_damaged_folder_is_still_known_for_one(folder, tmp_path):
    assert bundle.is_bundle(folder) and bundle.is_bundle(tmp_path)
    (folder / bundle.SIDECAR).unlink()
    assert bundle.is_bundle(folder) and bundle.is_bundle(tmp_path)
    (tmp_path / "other" / "3").mkdir(parents=True)
    assert not bundle.is_bundle(tmp_path / "other") and not bundle.is_bundle(tmp_path / "absent")


def damaged(folder) -> str:
    with pytest.raises(InputError) as error:
        bundle.check(folder)
    return str(error.value)


MEND = "copy the folder again, or export the model again"


def test_a_file_that_is_missing_or_of_another_size_is_named(folder):
    (folder / "variables" / "data").write_bytes(b"weights" * 39)
    assert damaged(folder) == f"{folder}: variables/data has 273 bytes, expected 280; {MEND}"
    (folder / "variables" / "data").unlink()
    assert damaged(folder) == f"{folder}: variables/data is missing; {MEND}"


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/data"])
def test_every_flipped_bit_of_a_file_is_found(folder, name):
    path = folder / name
    whole = path.read_bytes()
    for at in range(0, len(whole), 17):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])
        assert damaged(folder) == f"{folder}: {name} is damaged (checksum differs); {MEND}"
    path.write_bytes(whole)
    assert bundle.check(folder)


def test_every_flipped_bit_of_the_sidecar_is_found_unless_it_is_the_same_json(folder):
    path = folder / bundle.SIDECAR
    whole = path.read_bytes()
    meaning = json.loads(whole)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == meaning
        except ValueError:
            same = False
        if same:  # a blank for another
            assert bundle.check(folder)
        else:
            assert damaged(folder).startswith(f"{folder}: ") and damaged(folder).endswith(MEND)


def test_a_sidecar_that_is_gone_or_no_sidecar_is_told(folder):
    path = folder / bundle.SIDECAR
    for text in ("", "[]", "{}", '{"sha256": 1, "files": []}', '{"sha256": "", "files": {"a": {}}}', "null"):
        path.write_text(text)
        assert damaged(folder) == f"{folder}: {bundle.SIDECAR} is damaged; {MEND}"
    path.unlink()
    assert damaged(folder) == f"{folder}: {bundle.SIDECAR} cannot be read (No such file or directory); {MEND}"


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), bundle.new_version(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == ["file"]
