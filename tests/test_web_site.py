"""The page's files: built from the committed sources, complete, and computing the same numbers as the package."""

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
SOURCES = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
MODEL = b"a model"
MAX_BYTES = 4e6  # of the page without a model


def test_page_is_built_from_the_current_sources():
    """If this fails, run npm ci && npm run build in export/web."""
    paths = [WEB / name for name in SOURCES] + sorted((WEB / "src").rglob("*.*"))
    now = {path.relative_to(WEB).as_posix(): files.sha256(path) for path in paths}
    assert json.loads((site.FOLDER / site.SOURCES).read_text(encoding="utf-8")) == now


def test_site_contains_all_files_that_the_page_requests():
    pages = site.website(MODEL)
    assert gzip.decompress(pages[site.MODEL]) == MODEL
    requested = re.findall(r'(?:src|href)="\./([^"#]+)"', pages["index.html"].decode())
    worker = re.search(r"const FILES = (\[.*?\]);", pages["sw.js"].decode())[1]
    assert {"assets/index.js", "assets/index.css"} <= set(requested) and set(requested) <= set(pages)
    assert set(json.loads(worker)) | {site.MODEL, "sw.js"} == set(pages)
    assert sum(map(len, pages.values())) - len(pages[site.MODEL]) < MAX_BYTES


def test_site_contains_the_licenses_of_what_it_contains():
    """A folder for static hosting is passed on without the package. If this fails, build the page again."""
    pages = site.website(MODEL)
    for name in ("LICENSE", "THIRD_PARTY_NOTICES.md"):
        assert pages[f"{name.removesuffix('.md')}.txt"] == (WEB.parents[1] / name).read_bytes()
    assert "litert.wasm.gz" in pages["THIRD_PARTY_NOTICES.txt"].decode()


def test_service_worker_s_version_is_the_hash_of_its_files():
    pages = site.website(MODEL)
    names = json.loads(re.search(r"const FILES = (\[.*?\]);", pages["sw.js"].decode())[1])
    hashes = "\n".join(f"{name} {hashlib.sha256(pages[name]).hexdigest()}" for name in names)
    assert f"posecascade-{hashlib.sha256(hashes.encode()).hexdigest()[:16]}" in pages["sw.js"].decode()


def test_golden_vectors_of_the_page_equal_those_of_the_package():
    """If this fails, run python tests/web_vectors.py and change the page accordingly."""
    golden = json.loads(web_vectors.FILE.read_text(encoding="utf-8"))
    assert_alike(json.loads(web_vectors.text(web_vectors.vectors())), golden, "golden")


def assert_alike(one, other, path):
    """Assert equality up to rounding: numbers to 1e-6, crops to one gray level, because OpenCV's versions differ."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_alike(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_alike(a, b, f"{path}[{number}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-6), path
    elif path.endswith(".crop"):
        a, b = (np.frombuffer(base64.b64decode(text), np.uint8).astype(int) for text in (one, other))
        assert np.abs(a - b).max() <= 1, path
    else:
        assert one == other, path


def test_changed_golden_vectors_are_detected():
    golden = json.loads(web_vectors.FILE.read_text(encoding="utf-8"))
    changed = json.loads(web_vectors.FILE.read_text(encoding="utf-8"))
    changed["smoothing"][1]["smoothed"][0][0] += 1e-4
    with pytest.raises(AssertionError, match=r"golden\.smoothing\[1\]\.smoothed\[0\]\[0\]"):
        assert_alike(changed, golden, "golden")


def test_site_is_written_and_replaces_an_earlier_one(tmp_path):
    folder = tmp_path / "public" / "poses"
    site.write({"index.html": b"old", "assets/a.js": b"1"}, folder)
    site.write({"index.html": b"new", "assets/a.js": b"2"}, folder)
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == \
        {"index.html": b"new", "assets/a.js": b"2"}
    assert [path.name for path in folder.parent.iterdir()] == ["poses"]


def test_folder_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError) as error:
        site.write({"index.html": b""}, tmp_path)
    assert str(error.value) == (f"{tmp_path}: contains notes.txt, which is not part of the page; choose a new or empty "
                                "folder")
    with pytest.raises(InputError, match="is a file; expected a folder"):
        site.write({"index.html": b""}, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_failed_write_keeps_the_earlier_site(tmp_path):
    site.write({"index.html": b"old"}, tmp_path / "poses")
    with pytest.raises(TypeError):
        site.write({"index.html": b"new", "a.js": None}, tmp_path / "poses")
    assert (tmp_path / "poses" / "index.html").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["poses"]
