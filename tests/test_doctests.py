"""The examples in docstrings run, and the public names have one."""

import doctest
import importlib
import inspect

import pytest

import posecascade

MODULES = ["errors", "files", "schema", "geometry", "images", "records", "poses", "poses_io", "checks",
           "codec.decoders", "evaluation.metrics"]
# Constants, and what needs a model: docs/ has examples, which tests/journeys run.
WITHOUT_EXAMPLE = {"Predictor", "load", "COCO17", "LSP14", "MPII16"}


def public(module) -> dict[str, object]:
    """Return the public functions and classes that the module itself defines, by name."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")
            and (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__}


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_give_what_they_show(module):
    found = importlib.import_module(f"posecascade.{module}")
    results = doctest.testmod(found, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
    assert results.attempted > 0


@pytest.mark.parametrize("name", sorted(set(posecascade.__all__) - WITHOUT_EXAMPLE))
def test_public_name_has_an_example(name):
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(posecascade, name), name)
    assert test.examples


@pytest.mark.parametrize("module", ["geometry", "schema", "codec.decoders", "evaluation.metrics"])
def test_public_function_has_an_example(module):
    finder = doctest.DocTestFinder(recurse=False)
    missing = [name for name, value in public(importlib.import_module(f"posecascade.{module}")).items()
               if not any(test.examples for test in finder.find(value, name))]
    assert missing == []
