"""What users and their scripts rely on, frozen in contracts/: names, signatures, flags, recipe keys, file formats.

A change here is a decision: renew the files with

    python tests/test_contracts.py

(which trains and exports a small model, in a minute or two), read the difference in `git diff tests/contracts`, and
tell it in CHANGELOG.md.
"""

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import re
import sys
import tempfile
import textwrap
import typing
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import posecascade
from posecascade.cli import app
from posecascade.datasets import READERS, SPLITS
from posecascade.evaluation.evaluate import METRICS
from posecascade.evaluation.report import MEASURES, Report
from posecascade.inference.predictor import PROTOCOLS
from posecascade.poses import Pose
from posecascade.poses_io import PoseWriter, answer
from posecascade.schema import SCHEMAS, Schema
from posecascade.training.recipe import Recipe

FOLDER = Path(__file__).parent / "contracts"
# Of two joints, so that what depends on their number stays short.
PAIR = Schema("pair", ("left_wrist", "right_wrist"), pairs=(("left_wrist", "right_wrist"),))


def public_names() -> str:
    """`posecascade`'s names: signatures of functions, fields and public methods of classes."""
    return "\n".join(_told(name, getattr(posecascade, name)) for name in posecascade.__all__)


def _told(name, value):
    if isinstance(value, Schema):
        return f"{name}: Schema"
    [node] = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    if isinstance(node, ast.FunctionDef):
        return _signature(node)
    lines = [f"class {name}({', '.join(map(ast.unparse, node.bases))})".removesuffix("()")]
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            lines.append(f"    {ast.unparse(item)}")
        elif isinstance(item, ast.FunctionDef) and (item.name[0] != "_" or item.name == "__call__"):
            kind = f"@{ast.unparse(item.decorator_list[0])} " if item.decorator_list else ""
            lines.append(f"    {kind}{_signature(item)}")
    return "\n".join(lines)


def _signature(node):
    return f"{node.name}({ast.unparse(node.args)})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def words() -> str:
    """The names that users type or find in files; the joints of a schema in their order."""
    lists = {"data set types": READERS, "splits": SPLITS, "metrics": METRICS, "protocols": PROTOCOLS,
             "schemas": SCHEMAS} | {f"joints of {name}": schema.keypoints for name, schema in SCHEMAS.items()}
    return "\n".join(f"{name}: {' '.join(values)}" for name, values in lists.items())


def recipe_keys() -> str:
    """Every key of a recipe: its type, its default as in a file, what it may be."""
    return "\n".join(_keys(Recipe, "", Recipe().as_dict()))


def _keys(cls, prefix, defaults):
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        hint, key, default = hints[item.name], prefix + item.name, defaults[item.name]
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{key}.", default)
            continue
        inner = typing.get_args(hint)
        shown = f"list of {inner[0].__name__}" if inner else hint.__name__
        yield f"{key}: {shown} = {json.dumps(default)}{_limits(item.metadata)}"
        if inner and dataclasses.is_dataclass(inner[0]):
            yield from _keys(inner[0], f"{key}[].", default[0])


def _limits(limits):
    if "choices" in limits:
        return f"  (one of {', '.join(map(str, limits['choices']))})"
    if "low" in limits:
        return f"  ({limits['low']} to {limits['high']})" if "high" in limits else f"  (at least {limits['low']})"
    return ""


def predictions() -> tuple[str, str]:
    """A person's line of predictions.jsonl and the table predictions.csv, of made-up numbers."""
    lines, table = io.StringIO(), io.StringIO()
    pose = Pose(np.array([[12.34567, 8.0], [-0.5, 99.99951]]), np.array([0.98765432, 0.0]), np.array([1.0, 0.25]),
                PAIR, posecascade.Box(1, 2, 30.5, 40))
    PoseWriter(lines, table, PAIR.keypoints).write(answer("photos/one.jpg", pose))
    return lines.getvalue(), table.getvalue()


def metrics_json() -> str:
    """Outline of what a report has in metrics.json and in `posecascade-evaluate --json`, per data set."""
    distances, codes = np.array([[0.1, 0.3], [0.05, 0.2]]), np.array([[2, 1], [2, 2]])
    report = Report(MEASURES["pck"], PAIR, {"heatmaps": distances}, codes, codes / 2.0, np.arange(2),
                    skipped=("broken.jpg",), oks={"AP": 0.5})
    return "\n".join(_outline(report.as_dict()))


def model_metadata() -> str:
    """Outline of posecascade.json in a saved .keras file; the recipe's keys are in recipe_keys.txt."""
    import keras

    from posecascade.formats import keras_file
    from posecascade.formats.metadata import METADATA_FILE

    image = keras.Input((None, None, 3))
    model = keras.Model(image, {"heatmaps": keras.layers.Conv2D(2, 1, name="heatmaps")(image)})
    schema = dataclasses.replace(PAIR, limbs=PAIR.pairs, head=PAIR.pairs[0], torso=PAIR.pairs[0], sigmas=(0.1, 0.1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras_file.save(model, path, keras_file.Metadata(schema, 64, 4, {}, {}))
        with zipfile.ZipFile(path) as archive:
            return "\n".join(_outline(json.loads(archive.read(METADATA_FILE))))


def _outline(value, indent=""):
    """Keys in their order, with the type of each value; of a list that of its first."""
    for key, item in value.items():
        while isinstance(item, (list, tuple)) and item:
            item, key = item[0], f"{key}[]"
        deeper = isinstance(item, dict) and any(isinstance(inner, (dict, list)) for inner in item.values())
        yield f"{indent}{key}:" + ("" if deeper else f" {_kind(item)}")
        if deeper:
            yield from _outline(item, indent + "  ")


def _kind(item):
    if not isinstance(item, dict):
        return type(item).__name__
    return f"{{{', '.join(f'{key}: {_kind(value)}' for key, value in item.items())}}}"


def help_texts() -> dict[str, str]:
    """What each installed command prints with --help."""
    commands = {}
    for entry in metadata.distribution("posecascade-keras").entry_points:
        if entry.group == "console_scripts":
            module = inspect.getmodule(entry.load())
            commands[entry.name] = app.help_text(module.__doc__, module.FLAGS)
    return commands


def saved_model_signatures(version: Path) -> str:
    """What `saved_model_cli show --all` says of the signatures: names, types and shapes, but no tensor of the graph."""
    from tensorflow.python.tools import saved_model_cli

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        saved_model_cli._show_all(str(version))  # a process of its own would take eight seconds
    lines = shown.getvalue().partition("The MetaGraph with tag set")[0].splitlines()  # then operators and functions
    return "\n".join(line.rstrip() for line in lines if line.strip() and not re.match(r" +name: ", line))


def tflite_signatures(version: Path) -> str:
    """Inputs and outputs of each TFLite file, by their names in its signature."""
    from ai_edge_litert.interpreter import Interpreter

    lines = []
    for path in sorted((version / "tflite").iterdir()):
        interpreter = Interpreter(str(path))
        for key in interpreter.get_signature_list():
            runner = interpreter.get_signature_runner(key)
            lines.append(f"{path.name}: signature {key}")
            ways = {"takes": runner.get_input_details(), "gives": runner.get_output_details()}
            lines += [f"  {way} {name}: {np.dtype(entry['dtype']).name} {tuple(map(int, entry['shape']))}"
                      for way, entries in ways.items() for name, entry in sorted(entries.items())]
    return "\n".join(lines)


def certificate_json(version: Path) -> str:
    """Outline of certificate.json; of a SavedModel's row and of a TFLite file's, whose operators are the networks'."""
    content = json.loads((version / "certificate.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row | {"operators": {"NAME": 1}} for row in content["artifacts"]}
    content |= {"versions": {"NAME": "1"}, "artifacts": [rows["saved_model/heatmaps"]]}
    more = {"artifacts": [rows["tflite/heatmaps_float32.tflite"] | {"gpu_blocking": ["NAME"]}]}
    return "\n".join([*_outline(content), *_outline(more)])


EXPORTED = {"saved_model_signatures.txt": saved_model_signatures, "tflite_signatures.txt": tflite_signatures,
            "certificate_json.txt": certificate_json}


def contracts() -> dict[str, str]:
    """File name -> what it should hold now; but those of EXPORTED, which need an export."""
    line, table = predictions()
    files = {"public_names.txt": public_names(), "words.txt": words(), "recipe_keys.txt": recipe_keys(),
             "predictions.jsonl": line, "predictions.csv": table, "metrics_json.txt": metrics_json(),
             "model_metadata.txt": model_metadata()}
    files |= {f"{command}.txt": text for command, text in help_texts().items()}
    return {name: text.rstrip("\n") + "\n" for name, text in files.items()}


@pytest.fixture(scope="module")
def present():
    """Of every contract, what it should hold now."""
    return contracts()


def test_every_contract_has_its_file_and_no_other_file_is_there(present):
    assert {path.name for path in FOLDER.iterdir()} == {*present, *EXPORTED}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir() if path.name not in EXPORTED))
def test_what_users_rely_on_has_not_changed(present, name):
    """Where this change is meant: python tests/test_contracts.py, and CHANGELOG.md."""
    assert present[name].splitlines() == (FOLDER / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", EXPORTED)
def test_what_servers_and_devices_rely_on_has_not_changed(exported, name):
    """As above."""
    assert EXPORTED[name](exported.version).splitlines() == (FOLDER / name).read_text(encoding="utf-8").splitlines()


def test_a_change_of_a_signature_a_key_or_a_format_would_be_seen():
    def load(path, *, flip_test: bool = False) -> int:
        """A function like the public one."""

    assert _told("load", load) == "load(path, *, flip_test: bool=False) -> int"
    assert _told("Box", posecascade.Box).splitlines()[:2] == ["class Box", "    x: float"]
    assert list(_outline({"a": {"b": [{"c": 1, "d": None}]}, "e": {}, "f": [], "g": [[1.5]]})) == \
        ["a:", "  b[]: {c: int, d: NoneType}", "e: {}", "f: list", "g[][]: float"]


def _renewed() -> dict[str, str]:
    from exported import built

    with tempfile.TemporaryDirectory() as folder:
        version = built(Path(folder)).version
        return contracts() | {name: outline(version) + "\n" for name, outline in EXPORTED.items()}


if __name__ == "__main__":
    renewed = _renewed()
    for old in FOLDER.iterdir():
        old.unlink()
    for new, content in renewed.items():
        (FOLDER / new).write_text(content, encoding="utf-8")
    sys.stdout.write(f"renewed {FOLDER}\n")
