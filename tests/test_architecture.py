"""The house: which module may import which, and what from outside; the habits of single files are in test_habits.py.

The package is scanned where it is imported from: the checkout, or site-packages where `.ci/run` tests the wheel.
A new module gets a place in HOUSE; a new import that goes upwards is a sign that something lies in the wrong room.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import posecascade

PACKAGE = Path(posecascade.__file__).parent

# A module imports only from the rows above its own. Its name here lacks "posecascade."; the package itself is that.
HOUSE = """
    errors  metrics  calibration  schedule  smoothing  export
    files  website  webserver
    export.bundle  export.tflite_graphs  export.tflite_metadata
    export.sealed
    schema  geometry  journal  checkpoints
    images  records  poses  drawing  video
    poses_io
    wanted

    client.address  client.messages  client.retrying
    client.tensors
    client.over_grpc
    client.over_rest
    client

    rendering
    rendering.painting  rendering.bodies
    rendering.scenery  rendering.wardrobe
    rendering.figures
    rendering.looks

    datasets.sources
    datasets.lsp  datasets.coco  datasets.mpii_release  datasets.synthetic
    datasets.mpii
    datasets
    inspection  published

    augment
    batches
    ops
    codec  optimizers
    losses  samples

    models.joints  models.backbone  models.torch_checkpoint
    models.hourglass  models.tiny  models.mobilenet  models.efficientnet_lite  models.resnet  models.vgg
    models.movenet
    models.backbones
    models.detector
    models.regressor
    models.cascade
    models
    model_metadata
    shipped
    learner  pretrained

    export.runtime
    predictor
    posecascade  report  outcome
    evaluation
    people  preflight

    recipe
    construction  provenance
    training

    export.decoding  export.picture_headers  export.picture_pixels  export.warmup
    export.stopwatch  export.thermals
    export.delegates
    export.benchmark
    export.network  export.pictures  export.equalisation
    export.serving  export.tflite
    export.saved_model  export.certificate  export.tflite_files
    export.latency  export.maps_file
    export.artefacts
    export.exporting

    cli
    cli.app  cli.tally
    cli.train  cli.predict  cli.evaluate  cli.export  cli.data  cli.benchmark  cli.demo  cli.client
"""

# Doors that the order alone would leave open: who besides the room itself may import it.
ONLY = {
    "recipe": "construction provenance training export.exporting cli.train cli.data",  # configuration stops at the door
    "training": "cli.train",
    "export": "predictor cli.export cli.benchmark cli.demo",  # the predictor runs what was exported
    "datasets": "people cli.data cli.evaluate cli.export cli.train",
    "datasets.sources": "datasets.* published",
    "rendering": "datasets.synthetic",
    "rendering.scenery": "rendering.* datasets.synthetic augment",  # the occluders that augmentation pastes
    "ops": "codec losses optimizers",
}
# Families that know little of the house: all that their modules import from outside the family.
CLOSED = {
    "models": "errors files",  # no records, no readers, no recipes
    "rendering": "schema",  # pictures and joints, no files
    "datasets": "errors files schema geometry images records rendering.*",  # no networks, no targets
}
# Other people's packages: the name on PyPI, and the modules that use it. NumPy is everybody's.
OUTSIDE = {
    "numpy": ("numpy", "*"),
    # What leaves Python; all else runs on JAX and PyTorch as well.
    "tensorflow": ("tensorflow", "export.artefacts export.decoding export.network "
                                 "export.picture_headers export.picture_pixels export.pictures export.runtime "
                                 "export.saved_model export.serving export.stopwatch export.tflite export.warmup"),
    "keras": ("keras", "ops optimizers models.* learner pretrained shipped preflight checkpoints construction "
                       "provenance training export.equalisation export.network cli.app"),
    "cv2": ("opencv-python-headless", "images drawing video journal augment predictor samples rendering.* "
                                      "datasets.synthetic"),
    "ai_edge_litert": ("ai-edge-litert", "export.delegates export.runtime export.sealed export.tflite_graphs "
                                         "export.tflite_metadata"),
    "flatbuffers": ("flatbuffers", "export.sealed export.tflite_graphs export.tflite_metadata"),
    "scipy": ("scipy", "datasets.sources datasets.mpii_release published"),
    "h5py": ("h5py", "datasets.mpii published"),
    "yaml": ("PyYAML", "files recipe"),
    "filelock": ("filelock", "files"),
    "grpc": ("grpcio", "client.over_grpc"),
    "google": ("protobuf", "client.messages"),
    "urllib3": ("urllib3", "client.over_rest"),
    "absl": ("absl-py", "cli.*"),
    "matplotlib": ("matplotlib", "outcome cli.evaluate"),
    "tensorboard": ("tensorboard", "journal"),
    "pycocotools": ("pycocotools", "evaluation"),
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
ROWS = [row.split() for row in HOUSE.splitlines() if row.strip()]


def test_every_module_has_its_one_room():
    assert Counter(name for row in ROWS for name in row) == Counter(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_the_rows_above_it(name):
    row = next(i for i, row in enumerate(ROWS) if name in row)
    above = {other for upper in ROWS[:row] for other in upper}
    assert (IMPORTS[name].house | IMPORTS[name].typing) - {name} <= above


@pytest.mark.parametrize("room", ONLY)
def test_a_room_with_a_door_is_entered_only_by_those_named(room):
    strangers = {name for name in MODULES if room in IMPORTS[name].house | IMPORTS[name].typing
                 and not _among(name, f"{room}.* {ONLY[room]}")}
    assert not strangers


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in CLOSED])
def test_a_module_of_a_closed_family_knows_little_else(name):
    family = name.split(".")[0]
    others = IMPORTS[name].house | IMPORTS[name].typing
    assert {other for other in others if not _among(other, f"{family}.* {CLOSED[family]}")} == set()


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


@pytest.mark.parametrize("name", ["posecascade", *(m for m in MODULES if m.startswith("cli."))])
def test_the_package_and_its_commands_begin_without_a_backend(name):
    """So that --help and a wrong word need not wait for it; see also test_init.py."""
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
    wanted = [f"posecascade.{name}" for name in MODULES if name != "posecascade" and name not in needing]
    found = _modules_after(f"import sys; sys.modules['tensorflow'] = None\nimport {', '.join(wanted)}",
                           KERAS_BACKEND="jax")
    assert found > set(wanted) and "tensorflow" not in found
