"""Images of lists made elsewhere are found, each on its own; what is ambiguous or missing is said."""

import os
import unicodedata
from pathlib import Path

import pytest

from posecascade.datasets import image_search
from posecascade.datasets.image_search import ImageSearch
from posecascade.errors import InputError


def files(root, *names):
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(root)


def found(root, *names, folders=("images", "."), subsets=(), splits=()):
    """Return the files found for names of a list, relative to the root, None for missing ones."""
    existing = [root / folder for folder in folders if (root / folder).is_dir()]
    search = ImageSearch(names, root, existing, subsets, splits)
    results = [search.find(name) for name in names]
    return [None if result.tried else os.path.relpath(result.path, root) for result in results]


@pytest.mark.parametrize("name", [
    "set/a b.jpg", "images/set/a b.jpg", "./set/a b.jpg", "../images/set/a b.jpg", "set/../set/a b.jpg",
    "set\\a b.jpg", "D:\\work\\images\\set\\a b.jpg", "set/a%20b.jpg", "..\\..\\data\\images\\set\\a%20b.jpg",
    "/data/local-files/?d=images/set/a%20b.jpg", "/data/local-files/?d=images%2Fset%2Fa%20b.jpg",
    "http://localhost:8080/data/local-files/?d=set%2Fa b.jpg", "../../media/upload/4/a b.jpg",
    "/srv/bob/labels/set/a b.jpg", "https://host.org/bucket/set/a%20b.jpg?token=1&x=2", "s3://bucket/a b.jpg",
    "file:///srv/bob/set/a%20b.jpg", "images//set/a b.jpg", "elsewhere/a b.jpg", "0a1b2c3d-a b.jpg"])
def test_every_spelling_leads_to_the_file(tmp_path, name):
    root = files(tmp_path / "root", "images/set/a b.jpg", "images/set/other.jpg")
    assert found(root, name) == ["images/set/a b.jpg"]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_letters_are_the_same(tmp_path, forms):
    on_disk, listed = (unicodedata.normalize(form, "Zoë/Jürgen.jpg") for form in forms)
    assert found(files(tmp_path, f"images/{on_disk}"), listed) == [f"images/{on_disk}"]


@pytest.mark.parametrize("name", ["a%20b.jpg", "a\\b.jpg", "a?b.jpg", "#1 a.jpg"])
def test_existing_path_is_taken_as_given(tmp_path, name):
    assert found(files(tmp_path, f"images/{name}", "images/a b.jpg", "images/a/b.jpg"), name) == [f"images/{name}"]


def test_absolute_path_that_exists_is_taken_wherever_it_is(tmp_path):
    root = files(tmp_path / "root", "images/a.jpg")
    other = files(tmp_path / "other", "a.jpg") / "a.jpg"
    assert found(root, str(other)) == ["../other/a.jpg"]
    other.unlink()
    assert found(root, str(other)) == ["images/a.jpg"]


def test_each_image_is_found_on_its_own_in_several_folders_though_the_first_is_missing(tmp_path):
    root = files(tmp_path, "one/b.jpg", "two/deep/c.jpg", "d.jpg")
    assert found(root, "a.jpg", "b.jpg", "c.jpg", "d.jpg") == [None, "one/b.jpg", "two/deep/c.jpg", "d.jpg"]


def test_missing_image_says_what_was_tried(tmp_path):
    files(tmp_path, "images/b.jpg")
    result = ImageSearch(["x\\a.jpg"], tmp_path, [tmp_path / "images", tmp_path]).find("x\\a.jpg")
    assert result == (tmp_path / "images" / "x" / "a.jpg",
                      f"tried 'x\\\\a.jpg' or 'x/a.jpg' in {tmp_path}/images, {tmp_path}, and its name below "
                      f"{tmp_path}. Put it there, or give the folder of the images (coco:FILE#images=FOLDER)")


def test_file_in_most_of_the_listed_folders_is_chosen_of_several(tmp_path):
    root = files(tmp_path, "cam/Train/a.jpg", "cam/Validation/a.jpg")
    assert found(root, "/srv/bob/x/Train/a.jpg") == ["cam/Train/a.jpg"]
    assert found(root, "a.jpg", subsets=("My_Validation", "Validation")) == ["cam/Validation/a.jpg"]
    with pytest.raises(InputError) as error:
        found(root, "a.jpg")
    assert str(error.value) == (
        f"image 'a.jpg': 2 files below {root} fit: {root}/cam/Train/a.jpg, {root}/cam/Validation/a.jpg; expected one. "
        "Give the folder of the right ones (coco:FILE#images=FOLDER), or remove the others")


def test_two_images_never_share_a_file_that_was_found_by_its_name(tmp_path):
    root = files(tmp_path, "images/a.jpg")
    with pytest.raises(InputError, match=r"image 'two/a\.jpg': 'one/a\.jpg' of the same list also leads to "):
        found(root, "one/a.jpg", "two/a.jpg")
    files(tmp_path, "images/one/a.jpg")
    (tmp_path / "images" / "a.jpg").unlink()
    assert found(root, "two/a.jpg", "one/a.jpg") == [None, "images/one/a.jpg"]  # the file is one's by its path


@pytest.mark.parametrize("name", ["../secret.jpg", "../../secret.jpg", "images/../../secret.jpg", "..\\secret.jpg",
                                  "%2e%2e/secret.jpg", "/data/local-files/?d=../secret.jpg"])
def test_nothing_outside_the_root_is_read(tmp_path, name):
    files(tmp_path, "secret.jpg")
    root = files(tmp_path / "root", "images/b.jpg")
    result = ImageSearch([name], root, [root / "images", root]).find(name)
    assert "secret.jpg below" not in result.tried and result.tried
    assert result.path.resolve().is_relative_to(root)


def test_search_does_not_follow_links_out_of_the_root(tmp_path):
    files(tmp_path, "outside/deep/a.jpg")
    root = files(tmp_path / "root", "images/b.jpg")
    (root / "images" / "link").symlink_to(tmp_path / "outside")
    (root / "images" / "linked.jpg").symlink_to(tmp_path / "outside" / "deep" / "a.jpg")
    assert found(root, "a.jpg", "x/linked.jpg", "link/../../outside/deep/a.jpg") == [None, None, None]
    assert found(root, "link/deep/a.jpg", "linked.jpg") == ["images/link/deep/a.jpg", "images/linked.jpg"]  # as given


def test_folder_of_images_may_be_a_link(tmp_path):
    files(tmp_path, "disk/deep/a.jpg")
    root = files(tmp_path / "root", "people.json")
    (root / "images").symlink_to(tmp_path / "disk")
    assert found(root, "deep/a.jpg") == ["images/deep/a.jpg"]
    assert found(root, "elsewhere/a.jpg") == ["images/deep/a.jpg"]


def test_file_reached_by_two_ways_is_one(tmp_path):
    root = files(tmp_path, "data/deep/a.jpg")
    (root / "images").symlink_to(root / "data")
    assert found(root, "x/a.jpg")[0] in ("images/deep/a.jpg", "data/deep/a.jpg")


def test_too_many_files_are_not_searched(tmp_path, monkeypatch):
    root = files(tmp_path, *(f"deep/{i}.jpg" for i in range(5)))
    monkeypatch.setattr(image_search, "MAX_FILES", 4)
    assert found(root, "0.jpg", "deep/1.jpg") == [None, "deep/1.jpg"]


def test_relative_root(tmp_path, monkeypatch):
    files(tmp_path, "root/images/a.jpg", "root/images/b.jpg", "secret.jpg")
    monkeypatch.chdir(tmp_path / "root")
    assert found(Path(), "a.jpg", "x/b.jpg", "../secret.jpg") == ["images/a.jpg", "images/b.jpg", None]


def test_hidden_folders_are_not_searched(tmp_path):
    assert found(files(tmp_path, ".cache/a.jpg", "deep/a.jpg", "deep/.small/a.jpg"), "x/a.jpg") == ["deep/a.jpg"]


@pytest.mark.parametrize("name", ["", "/", ".", "..", "a\0b.jpg", "images/", "C:", "?d=", "%", "%zz", "http://",
                                  "http://[/x.jpg"])
def test_odd_names_are_missing(tmp_path, name):
    assert found(files(tmp_path, "images/a.jpg"), name) == [None]


def test_files_of_another_split_are_not_found_by_their_names(tmp_path):
    root = files(tmp_path, "images/train/0001.jpg", "images/train/0002.jpg", "images/val/0002.jpg")
    assert found(root, "0001.jpg", "0002.jpg", splits={"val"}) == [None, "images/val/0002.jpg"]
    assert found(root, "0001.jpg") == ["images/train/0001.jpg"]


def test_names_are_found_in_other_case_unless_one_is_equal(tmp_path):
    root = files(tmp_path, "images/set/A.JPG", "images/set/b.jpg", "images/set/B.jpg")
    assert found(root, "a.jpg", "b.jpg") == ["images/set/A.JPG", "images/set/b.jpg"]


def test_images_found_by_their_names_alone_are_listed(tmp_path):
    root = files(tmp_path, "images/set/a.jpg", "images/b.jpg")
    search = ImageSearch(["a.jpg", "b.jpg"], root, [root / "images"])
    assert not search.find("b.jpg").tried and search.by_name_alone == {}
    search.find("a.jpg")
    assert search.by_name_alone == {"a.jpg": str(root / "images/set/a.jpg")}
