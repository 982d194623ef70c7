"""The rooms of the package: what each may import, from the package and from outside; habits of files: test_habits.py.

The package is scanned where it is imported from: the checkout, or site-packages if `.ci/run` tests the wheel.
A new room gets a row in ROOMS. A new arrow between rooms is a decision: check first that the code is in the right room.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import posecascade

PACKAGE = Path(posecascade.__file__).parent

# The vocabulary: modules at the top, which every room may import. Each imports only from the rows above its own.
TOP = """
    errors
    files  geometry  image_formats
    backend  image_headers
    checks  images
    schema
    records  poses  drawing
    poses_io
    posecascade
"""
# The rooms, and the rooms that each may import: exactly these, so that an arrow that is no longer used is removed here.
ROOMS = {
    "codec": "", "rendering": "", "models": "", "client": "", "web": "",
    "datasets": "rendering",
    "formats": "codec models",
    "inference": "codec formats",
    "evaluation": "datasets",
    "exchange": "datasets evaluation",
    "training": "codec datasets evaluation formats inference models rendering",
    "export.graph": "codec formats inference",
    "export": "codec evaluation export.graph formats inference training",
    "benchmark": "export formats",
    "cli": "benchmark client datasets evaluation exchange export formats inference training web",
}
# Rooms that use less of the vocabulary than all of it: what their modules import of it.
VOCABULARY = {
    "codec": "backend",
    "models": "backend errors files",  # no records, no readers, no recipes
    "rendering": "schema",  # images and keypoints, no files
    "datasets": "errors files schema geometry image_headers images records",  # no networks, no targets
    "web": "errors files",
}
# Modules that only these may import: configuration stops here, and a room is entered by one door.
ONLY = {
    "training.recipe": "training.* export.exporting cli.train cli.data",
    "training.trainer": "cli.train",
    "datasets.sources": "datasets.* evaluation.coco_results evaluation.predictions exchange.* cli.coco_files",
    "rendering": "datasets.synthetic training.augment",
    "export.stopwatch": "export.* benchmark.delegates",
}
RECIPE_FREE = ("augment", "batches", "checkpoints", "figures", "learner", "logging", "losses", "optimizers",
               "preflight", "samples", "schedule")
# Packages from outside: the distribution's name on PyPI, and the modules that use it. NumPy is for all.
OUTSIDE = {
    "numpy": ("numpy", "*"),
    # What leaves Python; everything else runs on JAX and PyTorch as well.
    "tensorflow": ("tensorflow", "export.artifacts export.graph.decoding export.graph.network "
                                 "export.graph.image_headers export.graph.image_pixels export.graph.images "
                                 "formats.runtime export.saved_model export.graph.serving export.stopwatch "
                                 "export.tflite export.warmup"),
    "keras": ("keras", "backend"),  # where its settings are kept out, and a missing backend is reported
    "cv2": ("opencv-python-headless", "images drawing inference.video inference.predictor training.logging "
                                      "training.augment training.samples rendering.* datasets.synthetic"),
    "ai_edge_litert": ("ai-edge-litert", "benchmark.delegates formats.runtime formats.tflite_file "
                                         "formats.tflite_graphs formats.tflite_metadata"),
    "flatbuffers": ("flatbuffers", "formats.tflite_graphs formats.tflite_metadata"),
    "PIL": ("Pillow", "image_formats"),
    "pillow_heif": ("pillow-heif", "image_formats"),
    "scipy": ("scipy", "datasets.sources datasets.mpii_release evaluation.matching"),
    "h5py": ("h5py", "datasets.mpii evaluation.predictions exchange.deeplabcut exchange.sleap"),
    "yaml": ("PyYAML", "files training.recipe exchange.coco"), "filelock": ("filelock", "files"),
    "grpc": ("grpcio", "client.over_grpc"), "google": ("protobuf", "client.messages"),
    "urllib3": ("urllib3", "client.over_rest"),
    "absl": ("absl-py", "cli.*"),
    "matplotlib": ("matplotlib", "training.figures cli.evaluate"),
    "tensorboard": ("tensorboard", "training.logging"), "tqdm": ("tqdm", "training.logging"),
    "pycocotools": ("pycocotools", "evaluation.evaluate"),
}


class Imports(NamedTuple):
    """What one module imports: of the house, from outside, and of the house under `if TYPE_CHECKING` alone."""

    house: frozenset[str]
    outside: frozenset[str]
    typing: frozenset[str]


def imports(source: str, name: str, house: set[str], is_package: bool = False) -> Imports:
    """All imports of a module's text, within functions too; `name` is the module's, `house` knows all of them."""
    tree = ast.parse(source)
    typing = {node for test in ast.walk(tree) if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
              for child in test.body for node in ast.walk(child)}
    found: dict[str, set[str]] = {"house": set(), "outside": set(), "typing": set()}
    for node in ast.walk(tree):
        for target in _targets(node, name, is_package):
            top, _, rest = target.partition(".")
            if top == "posecascade":  # "posecascade.codec.argmax" is of codec, "posecascade.Pose" of the package
                while rest and rest not in house:
                    rest = rest.rpartition(".")[0]
                found["typing" if node in typing else "house"].add(rest or "posecascade")
            elif top not in sys.stdlib_module_names and node not in typing:
                found["outside"].add(top)
    return Imports(*(frozenset(found[key]) for key in Imports._fields))


def _targets(node, name, is_package):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parts = ["posecascade", *(name.split(".") if name != "posecascade" else [])]
        parts = parts[:len(parts) - node.level + is_package]
        base = ".".join([*parts, base] if base else parts)
    return [f"{base}.{alias.name}" for alias in node.names]


def _named(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "posecascade"


def _among(name: str, listed: str) -> bool:
    return any(name == word or word == "*" or (word.endswith(".*") and (name + ".").startswith(word[:-1]))
               for word in listed.split())


PATHS = {_named(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = list(PATHS)
TEXT = {name: path.read_text(encoding="utf-8") for name, path in PATHS.items()}
IMPORTS = {name: imports(TEXT[name], name, set(MODULES), PATHS[name].name == "__init__.py") for name in MODULES}
ROWS = [row.split() for row in TOP.splitlines() if row.strip()]
TOP_MODULES = [name for row in ROWS for name in row]


def room_of(name: str) -> str:
    """The room of a module; "" for the vocabulary at the top."""
    return "" if name in TOP_MODULES else max((room for room in ROOMS if (name + ".").startswith(room + ".")), key=len)


def arrows(room: str) -> dict[str, set[str]]:
    """The rooms that the modules of a room import, each with the modules that do."""
    found: dict[str, set[str]] = {}
    for name in MODULES:
        if room_of(name) == room:
            for other in IMPORTS[name].house | IMPORTS[name].typing:
                found.setdefault(room_of(other), set()).add(name)
    return {other: names for other, names in found.items() if other not in ("", room)}


def test_every_module_has_a_room():
    assert {name.split(".")[0] for name in MODULES} == {*TOP_MODULES, *(room.split(".")[0] for room in ROOMS)}
    assert [room for room in ROOMS if not any(room_of(name) == room for name in MODULES)] == []


@pytest.mark.parametrize("name", TOP_MODULES)
def test_the_vocabulary_imports_only_from_the_rows_above(name):
    row = next(i for i, row in enumerate(ROWS) if name in row)
    above = {other for upper in ROWS[:row] for other in upper}
    lazy = {"inference", "inference.predictor"} if name == "posecascade" else set()
    assert (IMPORTS[name].house | IMPORTS[name].typing) - {name} <= above | lazy


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_exactly_the_rooms_of_its_row(room):
    assert {other: sorted(names) for other, names in arrows(room).items() if other not in ROOMS[room].split()} == {}
    assert sorted(arrows(room)) == sorted(ROOMS[room].split())


def test_no_rooms_and_no_modules_import_each_other_in_a_circle():
    assert circle({room: ROOMS[room].split() for room in ROOMS}) == []
    assert circle({name: IMPORTS[name].house - {name, "posecascade"} for name in MODULES}) == []
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"], "d": []}) == ["a", "b", "c"]


def circle(imported: dict) -> list[str]:
    """What is left after removing again and again what imports nothing that is left: nothing if there is no circle."""
    left = dict(imported)
    while leaves := [name for name in left if not any(other in left for other in left[name])]:
        for name in leaves:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) in VOCABULARY])
def test_a_module_uses_only_its_room_s_part_of_the_vocabulary(name):
    used = {other for other in IMPORTS[name].house | IMPORTS[name].typing if room_of(other) == ""}
    assert used <= set(VOCABULARY[room_of(name)].split())


@pytest.mark.parametrize("target", ONLY)
def test_a_module_with_a_door_is_imported_only_by_those_named(target):
    strangers = {name for name in MODULES if not _among(name, f"{target} {target}.* {ONLY[target]}")
                 and any(_among(other, f"{target} {target}.*") for other in IMPORTS[name].house | IMPORTS[name].typing)}
    assert not strangers


@pytest.mark.parametrize("name", RECIPE_FREE)
def test_configuration_stops_before(name):
    assert "training.recipe" not in IMPORTS[f"training.{name}"].house


@pytest.mark.parametrize("name", MODULES)
def test_a_module_uses_only_its_packages_from_outside(name):
    assert {package for package in IMPORTS[name].outside
            if package not in OUTSIDE or not _among(name, OUTSIDE[package][1])} == set()


@pytest.mark.parametrize("package", OUTSIDE)
def test_a_package_from_outside_is_declared_and_used_where_the_table_says(package):
    distribution, rooms = OUTSIDE[package]
    declared = {re.match(r"[\w.-]+", line)[0].lower() for line in metadata.requires("posecascade-keras")}
    assert distribution.lower() in declared
    unused = [room for room in rooms.split() if not any(
        package in IMPORTS[name].outside for name in MODULES if _among(name, room))]
    assert not unused


def test_the_scanner_sees_every_way_to_import():
    source = """
import os, keras.ops
import posecascade.files
from typing import TYPE_CHECKING
from posecascade import codec, Pose
from posecascade.models.cascade import cascade
from . import lsp
from ..errors import InputError
if TYPE_CHECKING:
    import torch
    from posecascade.recipe import Recipe
def late():
    if True:
        from posecascade.training import train
        import tensorflow as tf
"""
    house = {"posecascade", "files", "codec", "models.cascade", "datasets.lsp", "errors", "recipe", "training"}
    found = imports(source, "datasets.coco", house)
    assert found.house == {"files", "codec", "posecascade", "models.cascade", "datasets.lsp", "errors", "training"}
    assert found.outside == {"keras", "tensorflow"}
    assert found.typing == {"recipe"}
    # In a package's own file one dot is the package, not its parent.
    assert imports("from .lsp import read_lsp", "datasets", house, is_package=True).house == {"datasets.lsp"}
    assert imports("from . import errors", "posecascade", house, is_package=True).house == {"errors"}


def _imports_tensorflow_at_once(name: str) -> bool:
    """Whether the module imports it when it is imported itself, not only within a function."""
    return any(target.partition(".")[0] == "tensorflow" for node in ast.parse(TEXT[name]).body
               for target in _targets(node, name, is_package=False))


def _modules_after(code: str, **env: str) -> set[str]:
    """The names of all modules that a fresh Python has after running `code`."""
    code += "\nimport sys; print(*(name for name, module in sys.modules.items() if module))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env)
    assert not found.returncode, found.stderr
    return set(found.stdout.split())


@pytest.mark.parametrize("name", ["posecascade", "client", "formats.metadata", "inference.predictor", "datasets",
                                  *(m for m in MODULES if m.startswith("cli."))])
def test_what_only_reads_names_starts_no_backend(name):
    """`--help`, metadata, the client and the predictor's module wait for no backend; see also test_init.py."""
    found = _modules_after(f"import {name if name == 'posecascade' else 'posecascade.' + name}")
    assert not found & {"keras", "tensorflow", "jax", "torch"}
    assert "posecascade.errors" in found


def test_every_other_module_can_be_imported_where_tensorflow_is_not_installed():
    if not importlib.util.find_spec("jax"):
        pytest.skip("needs jax, which comes with the extra `dev`")
    needing = {name for name in MODULES if _imports_tensorflow_at_once(name)}
    while more := {name for name in MODULES if name.startswith("export.") and IMPORTS[name].house & needing} - needing:
        needing |= more
    assert {name.partition(".")[0] for name in needing} == {"export"}
    others = [f"posecascade.{name}" for name in MODULES if name != "posecascade" and name not in needing]
    found = _modules_after(f"import sys; sys.modules['tensorflow'] = None\nimport {', '.join(others)}",
                           KERAS_BACKEND="jax")
    assert found > set(others) and "tensorflow" not in found
