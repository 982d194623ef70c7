"""The habits that every file keeps, and what no file of the repository holds; each law is tried on its breach too."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

import posecascade

PACKAGE = Path(posecascade.__file__).parent  # the checkout's, or site-packages' where .ci/run tests the wheel
TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
LINES = 300  # fewer than these in every file

MODULES = {path.relative_to(PACKAGE.parent).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
ELSEWHERE = {path.relative_to(REPOSITORY).as_posix(): path for folder in ("tests", "benchmarks")
             for path in sorted((REPOSITORY / folder).rglob("*.py"))}

# Breaches that have a reason; each entry allows one.
EXCEPTED = {
    ("posecascade/cli/app.py", "except BaseException"): "shows what the backend said before it failed; raises again",
    ("posecascade/formats/keras_file.py", "except Exception"): "Keras raises any class for a foreign file",
    ("posecascade/models/backbone.py", "except Exception"): "keras.utils.get_file raises the bare class: no download",
    ("posecascade/training/trainer.py", "import random"): "Keras seeds its initializers from this generator",
}


# Each law takes a file's text and gives what breaks it, as "line N: WHAT".


def _nodes(source, *kinds):
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def is_short(source):
    """Fewer than LINES lines."""
    return [f"line {count}: goes on"] if (count := len(source.splitlines())) >= LINES else []


def begins_with_a_sentence(source):
    """The first line says the one purpose, and ends there."""
    first, *rest = (ast.get_docstring(ast.parse(source), clean=False) or "no docstring").splitlines()
    whole = first.endswith(".") and not re.search(r"[.!?] [A-Z]", first) and not (rest and rest[0].strip())
    return [] if whole else [f"line 1: {first}"]


def documents_what_is_public(source):
    """Functions, methods and classes that begin with no underscore have docstrings."""
    found, bodies = [], [ast.parse(source).body]
    for body in bodies:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name[0] != "_":
                found += [] if ast.get_docstring(node) else [f"line {node.lineno}: {node.name}"]
                bodies += [node.body] * isinstance(node, ast.ClassDef)
    return found


def asserts_nothing(source):
    """A user's mistake is an InputError; `python -O` drops asserts."""
    return [f"line {node.lineno}: assert" for node in _nodes(source, ast.Assert)]


def calls_no_text(source):
    """No eval, exec or import by string: an editor must be able to follow."""
    return [f"line {node.lineno}: {name}" for node in _nodes(source, ast.Call)
            if (name := ast.unparse(node.func)) in ("eval", "exec", "__import__", "importlib.import_module",
                                                     "import_module")]


def leaves_chance_to_arguments(source):
    """No generator that everybody shares, neither NumPy's nor Python's, and none without a seed."""
    own = ("default_rng", "Generator", "SeedSequence")
    names = [node for node in _nodes(source, ast.Attribute)
             if re.fullmatch(r"(np|numpy)\.random\.\w+", ast.unparse(node)) and node.attr not in own]
    names += [node for node in _nodes(source, ast.Import, ast.ImportFrom)
              if {"random", "numpy.random"} & {getattr(node, "module", None), *(alias.name for alias in node.names)}]
    names += [node for node in _nodes(source, ast.Call)
              if re.search(r"(^|\.)(default_rng\(\)|set_random_seed\()", ast.unparse(node))]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in names]


def catches_what_it_names(source):
    """No `except` that takes whatever comes."""
    types = [(node.lineno, kind) for node in _nodes(source, ast.ExceptHandler)
             for kind in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type])]
    return [f"line {line}: except {name}" for line, kind in types
            if (name := ast.unparse(kind) if kind else "anything") in ("anything", "Exception", "BaseException")]


EVERYWHERE = (is_short, begins_with_a_sentence)
INSIDE = (*EVERYWHERE, documents_what_is_public, asserts_nothing, calls_no_text, leaves_chance_to_arguments,
          catches_what_it_names)


def _what(breach):
    return breach.partition(": ")[2]


def _unexcused(name, breaches):
    """The breaches without those that EXCEPTED lists for the file, one for each entry."""
    excused = [breach for path, breach in EXCEPTED if path == name]
    left = []
    for breach in breaches:
        if _what(breach) in excused:
            excused.remove(_what(breach))
        else:
            left.append(breach)
    return left


@pytest.mark.parametrize("law", INSIDE, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_the_law(name, law):
    assert _unexcused(name, law(MODULES[name].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("law", EVERYWHERE, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_test_or_benchmark_keeps_the_law(name, law):
    assert _unexcused(name, law(ELSEWHERE[name].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(("name", "breach"), EXCEPTED)
def test_an_exception_is_still_needed(name, breach):
    assert breach in [_what(found) for law in INSIDE for found in law(MODULES[name].read_text(encoding="utf-8"))]


def test_an_exception_excuses_one_breach_in_one_file():
    [name, breach] = next(iter(EXCEPTED))
    assert _unexcused(name, [f"line 7: {breach}"]) == []
    assert _unexcused(name, [f"line 7: {breach}", f"line 9: {breach}"]) == [f"line 9: {breach}"]
    assert _unexcused("posecascade/codec.py", [f"line 7: {breach}"]) == [f"line 7: {breach}"]


@pytest.mark.parametrize(("law", "breach"), [
    (is_short, "\n" * LINES),
    (begins_with_a_sentence, "import os"),
    (begins_with_a_sentence, '"""Two. Sentences."""'),
    (begins_with_a_sentence, '"""One that goes\non in the next line."""'),
    (begins_with_a_sentence, '"""No full stop\n\nMore."""'),
    (documents_what_is_public, "def public(): pass"),
    (documents_what_is_public, "class Public:\n    'It.'\n    def method(self): pass"),
    (asserts_nothing, "def f(x):\n    assert x > 0"),
    (calls_no_text, "eval('1')"),
    (calls_no_text, "importlib.import_module(name)"),
    (leaves_chance_to_arguments, "np.random.seed(1)"),
    (leaves_chance_to_arguments, "x = numpy.random.uniform(size=2)"),
    (leaves_chance_to_arguments, "from numpy.random import rand"),
    (leaves_chance_to_arguments, "import random"),
    (leaves_chance_to_arguments, "np.random.default_rng()"),
    (leaves_chance_to_arguments, "keras.utils.set_random_seed(1)"),
    (catches_what_it_names, "try: f()\nexcept: pass"),
    (catches_what_it_names, "try: f()\nexcept (OSError, Exception): pass"),
    (catches_what_it_names, "try: f()\nexcept BaseException as error: raise"),
])
def test_a_law_finds_its_breach_and_passes_a_clean_file(law, breach):
    clean = '"""Adds, e.g. to x, by lot."""\nimport numpy as np\n\ndef add(x, rng):\n    """The sum."""\n' \
            "    try:\n        return x + np.random.default_rng(rng).random()\n    except ValueError:\n        raise\n"
    assert law(breach) and not law(clean)


# The files of the repository, whatever they are written in; but what others wrote and bytes that only look like text.

OTHERS = ("posecascade/web/page/assets/litert.js",)  # LiteRT's script, with the home folder of Emscripten's file system
BINARY = (".npz", ".gz", ".png", ".jpg")

FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.}])/(?:work|root|home|Users)/\w|[A-Z]:\\Users",
    "another package index than PyPI": r"--(?:extra-)?index-url|https?://(?!pypi\.org)[\w.-]*(?:pypi|registry|mirror|"
                                       r"artifactory|nexus)",
    "an address of somebody's network": r"\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b",
    "a note of unfinished work": r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b",
}


def _repository_files() -> list[Path]:
    """What git tracks, or would track; skips where this is no git checkout."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout")
    try:
        listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"],
                                cwd=REPOSITORY, capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("needs git")
    return [path for name in listed.decode().split("\0") if name and (path := REPOSITORY / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_of_the_repository_holds(what):
    paths = _repository_files()
    assert TESTS / "conftest.py" in paths
    texts = [path for path in paths
             if path.suffix not in BINARY and path.relative_to(REPOSITORY).as_posix() not in OTHERS]
    found = [f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}" for path in texts
             for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
             if re.search(FORBIDDEN[what], line)]
    assert not found


@pytest.mark.parametrize(("what", "line"), [
    ("a path of somebody's machine", "--data=lsp:/" "home/ann/lsp"),
    ("a path of somebody's machine", "see '/" "work/main'"),
    ("another package index than PyPI", "pip install --index" "-url x"),
    ("another package index than PyPI", "https:" "//pypi.example.com/simple"),
    ("an address of somebody's network", "http://192." "168.0.7:8080"),
    ("a note of unfinished work", "# TO" "DO: more"),
])
def test_what_is_forbidden_is_found(what, line):
    assert re.search(FORBIDDEN[what], line)
    assert not re.search(FORBIDDEN[what], "pip install from https://pypi.org/simple; data/root/x, version 10.2.3")
