"""The site: built from these sources, written to a folder completely, and its numbers equal the package's."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import web_vectors

from posecascade import files
from posecascade.errors import InputError
from posecascade.web import site

WEB = Path(__file__).resolve().parents[1] / "export" / "web"
PARTS = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
MODEL = b"a model"
MOST = 4e6  # bytes of the page without a model


def test_the_built_page_is_of_these_sources():
    """If this fails: npm ci && npm run build in export/web."""
    paths = [WEB / name for name in PARTS] + sorted((WEB / "src").rglob("*.*"))
    now = {path.relative_to(WEB).as_posix(): files.sha256(path) for path in paths}
    assert json.loads((site.FOLDER / site.SOURCES).read_text(encoding="utf-8")) == now


def test_the_site_is_all_that_the_page_asks_for():
    pages = site.website(MODEL)
    assert gzip.decompress(pages[site.MODEL]) == MODEL
    asked = re.findall(r'(?:src|href)="\./([^"#]+)"', pages["index.html"].decode())
    worker = re.search(r"const FILES = (\[.*?\]);", pages["sw.js"].decode())[1]
    assert {"assets/index.js", "assets/index.css"} <= set(asked) and set(asked) <= set(pages)
    assert set(json.loads(worker)) | {site.MODEL, "sw.js"} == set(pages)
    assert sum(map(len, pages.values())) - len(pages[site.MODEL]) < MOST


def test_the_service_worker_s_version_is_of_the_files_it_keeps():
    pages = site.website(MODEL)
    names = json.loads(re.search(r"const FILES = (\[.*?\]);", pages["sw.js"].decode())[1])
    told = "\n".join(f"{name} {hashlib.sha256(pages[name]).hexdigest()}" for name in names)
    assert f"posecascade-{hashlib.sha256(told.encode()).hexdigest()[:16]}" in pages["sw.js"].decode()


def test_what_the_page_s_tests_expect_is_what_the_package_computes():
    """If this fails: python tests/web_vectors.py, and fix the page."""
    kept = json.loads(web_vectors.FILE.read_text(encoding="utf-8"))
    assert_alike(json.loads(web_vectors.text(web_vectors.vectors())), kept, "golden")


def assert_alike(one, other, place):
    """The same but for rounding: numbers by the last digits, crops by a gray level, as OpenCV's versions differ."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert list(one) == list(other), place
        for key in one:
            assert_alike(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_alike(a, b, f"{place}[{number}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-6), place
    elif place.endswith(".crop"):
        a, b = (np.frombuffer(base64.b64decode(text), np.uint8).astype(int) for text in (one, other))
        assert np.abs(a - b).max() <= 1, place
    else:
        assert one == other, place


def test_a_change_of_the_package_would_be_seen():
    kept = json.loads(web_vectors.FILE.read_text(encoding="utf-8"))
    changed = json.loads(web_vectors.FILE.read_text(encoding="utf-8"))
    changed["smoothing"][1]["smoothed"][0][0] += 1e-4
    with pytest.raises(AssertionError, match=r"golden\.smoothing\[1\]\.smoothed\[0\]\[0\]"):
        assert_alike(changed, kept, "golden")


def test_a_site_is_written_and_replaces_an_older_one(tmp_path):
    folder = tmp_path / "public" / "poses"
    site.write({"index.html": b"old", "assets/a.js": b"1"}, folder)
    site.write({"index.html": b"new", "assets/a.js": b"2"}, folder)
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == \
        {"index.html": b"new", "assets/a.js": b"2"}
    assert [path.name for path in folder.parent.iterdir()] == ["poses"]


def test_another_s_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError) as error:
        site.write({"index.html": b""}, tmp_path)
    assert str(error.value) == f"{tmp_path}: holds notes.txt, which is no part of the site; give a new or empty folder"
    with pytest.raises(InputError, match="is a file, expected a folder"):
        site.write({"index.html": b""}, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_site_that_cannot_be_written_leaves_the_older_one(tmp_path):
    site.write({"index.html": b"old"}, tmp_path / "poses")
    with pytest.raises(TypeError):
        site.write({"index.html": b"new", "a.js": None}, tmp_path / "poses")
    assert (tmp_path / "poses" / "index.html").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["poses"]
