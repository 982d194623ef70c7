"""The distribution: what its wheel holds, its one version, its packages, and what a type checker sees of it."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import posecascade

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = configparser.ConfigParser()
CONFIG.read(REPOSITORY / "setup.cfg", encoding="utf-8")
NOTICES = (REPOSITORY / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8")
PACKAGE = REPOSITORY / "posecascade"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names and contents of the wheel of this checkout's tracked files."""
    pytest.importorskip("setuptools", minversion="77")
    if not PACKAGE.is_dir():
        pytest.skip("needs a checkout with the package in it")
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("posecascade", "recipes"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_NOTICES.md"):
        shutil.copy(REPOSITORY / name, folder / name)
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, "dist"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / "dist" / done.stdout.splitlines()[-1]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_every_file_of_the_package(wheel):
    expected = {path.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("*")
                if path.is_file() and path.suffix != ".pyc"}
    expected |= {f"posecascade/{path.relative_to(REPOSITORY).as_posix()}"
                 for path in (REPOSITORY / "recipes").glob("*.yaml")}
    assert expected <= set(wheel) and "posecascade/py.typed" in expected


def test_the_wheel_holds_licenses_and_notices(wheel):
    [folder] = {name.partition("/")[0] for name in wheel if ".dist-info/" in name}
    assert wheel[f"{folder}/licenses/THIRD_PARTY_NOTICES.md"].decode() == NOTICES
    assert b"Apache License" in wheel[f"{folder}/licenses/LICENSE"]


def test_name_version_and_links_are_stated_once(wheel):
    [name] = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    text = wheel[name].decode()
    assert "Name: posecascade-keras\n" in text and f"Version: {posecascade.__version__}\n" in text
    assert {line.split(", ")[0] for line in re.findall(r"Project-URL: (.*)", text)} >= {
        "Repository", "Documentation", "Changelog"}
    assert metadata.version("posecascade-keras") == posecascade.__version__
    assert posecascade.__version__ not in (REPOSITORY / "setup.cfg").read_text(encoding="utf-8").replace(
        "pytorch-model==0.1.0", "")


def test_the_list_of_packages_is_that_of_the_folders():
    if not PACKAGE.is_dir():
        pytest.skip("needs a checkout with the package in it")
    folders = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(CONFIG["options"]["packages"].split()) == folders | {"posecascade.recipes"}


def test_the_notices_name_what_the_page_is_built_with():
    versions = json.loads((REPOSITORY / "export" / "web" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for name, version in versions.items():
        assert f"`{name}` {version}" in NOTICES
    locked = json.loads((REPOSITORY / "export" / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    shipped = {name.removeprefix("node_modules/"): entry for name, entry in locked.items()
               if name and not entry.get("dev")}
    assert set(shipped) >= set(versions)
    for name, entry in shipped.items():
        assert f"`{name}` {entry['version']}" in NOTICES and entry.get("license", "Apache-2.0") == "Apache-2.0"


def test_the_notices_name_every_weights_file():
    for path in Path(posecascade.__file__).parent.glob("weights/*.npz"):
        assert f"`posecascade/weights/{path.name}`" in NOTICES


def test_dir_lists_every_public_name_before_it_is_used():
    code = "import sys, posecascade; print(set(posecascade.__all__) <= set(dir(posecascade)), 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_a_type_checker_sees_the_public_names(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("import posecascade\n"
                                      "reveal_type(posecascade.load('lite').predict('photo.jpg'))\n"
                                      "reveal_type(posecascade.Box(0, 0, 1, 1).side)\n")
    # Of an editable installation mypy must be told the folder; the installed package it finds by py.typed.
    here = {"MYPYPATH": str(REPOSITORY)} if Path(posecascade.__file__).is_relative_to(REPOSITORY) else {}
    done = subprocess.run([sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent",
                           f"--cache-dir={tmp_path / 'cache'}", "user.py"], cwd=tmp_path, env=os.environ | here,
                          capture_output=True, text=True, check=False)
    assert re.findall(r'Revealed type is "(?:builtins\.)?(.*)"', done.stdout) == ["posecascade.poses.Pose", "float"], \
        done.stdout + done.stderr
