"""Check all pages of the documentation: every command is tested, links exist, tables are complete."""

import importlib
import json
import posixpath
import re
import sys

import documents
import pytest
import yaml
from documents import NOT_RUN, PAGES, REPOSITORY
from test_architecture import ROOMS

from posecascade.datasets import READERS
from posecascade.training.recipe import Recipe, recipe_names

README_LIMIT = 8192  # bytes
# By test_readme.py and test_docs_*.py.
TESTED = {"README.md", "docs/getting-started.md", "docs/data.md", "docs/train.md", "docs/predict.md",
          "docs/evaluate.md", "docs/exchange.md", "docs/export.md", "docs/models.md", "export/web/README.md"}


@pytest.fixture(scope="module")
def hooks():
    """Import docs/hooks.py, which MkDocs runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "docs"))
        yield importlib.import_module("hooks")
        sys.modules.pop("hooks")


def prose(page):
    return re.sub(r"^```.*?^```$", "", documents.read(page), flags=re.S | re.M)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_known_language(page):
    assert [b for b in documents.blocks(page) if b.language not in documents.LANGUAGES] == []
    indented = re.search(r"^ {4}(posecascade-|python |pip |make )", prose(page), re.M)
    assert not indented, "only commands in fenced blocks are run"


@pytest.mark.parametrize("page", PAGES)
def test_page_with_commands_or_code_has_a_test(page):
    run = [line for block in documents.blocks(page) if block.language == "bash"
            for line in documents.commands(block) if not documents.reason(line)]
    run += [block for block in documents.blocks(page) if block.language in ("python", "yaml")]
    assert page in TESTED or not run


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_exception_is_needed_and_its_file_exists(pattern):
    lines = [line for line in documents.all_commands() if re.match(pattern, line)]
    assert lines
    for line in lines:
        program = re.match(r"python (\S+/\S+\.py)", line)
        assert not program or (REPOSITORY / program[1]).is_file(), line
        target = re.match(r"make (\w+)", line)
        assert not target or re.search(rf"^{target[1]}:", documents.read("Makefile"), re.M), line
        if line.startswith("python pose_tflite"):
            assert f"    {line}\n" in documents.read("export/device/README.md")


def test_every_command_is_documented():
    shown = {line.split()[0] for line in documents.all_commands() if not documents.reason(line)}
    assert shown == {f"posecascade-{name}" for name in ("train", "evaluate", "predict", "export", "data", "benchmark",
                                                        "demo", "client")}


@pytest.mark.parametrize("page", [*PAGES, "export/README.md", "export/serving/README.md", "export/device/README.md",
                                  "recipes/EXPERIMENTS.md"])
def test_every_link_to_a_file_exists(page):
    for target in re.findall(r"\]\((?!http)([^)\s#]+)", prose(page)):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        assert documents.file_of(name).exists(), target


def test_readme_is_short():
    assert (REPOSITORY / "README.md").stat().st_size <= README_LIMIT


def test_site_has_every_page(hooks):
    tags = re.sub(r"!!python\S*", "", documents.read("mkdocs.yml"))

    def pages(item):
        if isinstance(item, str):
            return [item]
        return [page for value in (item.values() if isinstance(item, dict) else item) for page in pages(value)]

    written = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert sorted(pages(yaml.safe_load(tags)["nav"])) == sorted(written | set(hooks.PAGES.values()))
    assert all(documents.file_of(source).is_file() for source in hooks.PAGES)


def test_links_are_rewritten_for_the_site(hooks):
    text = ("[a](../export/web/README.md#use-it) [b](train.md) [c](https://x.org) ![d](web.jpg) [e](../setup.cfg) "
            "[f](#g)\n```text\n[h](../export/README.md)\n```\n")
    assert hooks.with_site_links(text, "docs") == (
        "[a](browser.md#use-it) [b](train.md) [c](https://x.org) ![d](web.jpg) e (`setup.cfg`) [f](#g)\n"
        "```text\n[h](../export/README.md)\n```\n")


def test_references_have_every_flag_and_every_key(hooks):
    commands = hooks.cli_reference()
    for command in hooks.COMMANDS:
        flags = importlib.import_module(f"posecascade.cli.{command}").FLAGS
        assert all(f"| `--{name}` |" in commands for name in flags)
    keys = hooks.recipe_reference()
    for section, values in Recipe().as_dict().items():
        part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", keys, re.S | re.M)[1]
        assert re.findall(r"^\| `(\w+)`", part, re.M) == list(values)
    assert "| `share` |" in keys


def test_tables_have_every_recipe_and_type_of_data():
    def first_cells(page):
        cells = re.findall(r"^\|([^|]+)\|", documents.read(page), re.M)
        return set().union(*(re.findall(r"`(\w+)`", cell) for cell in cells))

    assert first_cells("docs/data.md") >= set(READERS)
    assert first_cells("docs/train.md") >= set(recipe_names())


def test_tables_of_the_ablation_have_its_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "benchmarks"))
        ablation = importlib.import_module("ablation")
        for name in ("ablation", "ablation_plots", "hidden_people"):
            sys.modules.pop(name)
    results = json.loads(documents.read("benchmarks/ablation.json"))["runs"]
    page = documents.read("docs/claims.md")
    assert ablation.table(results) in page and ablation.keypoints_table(results) in page


def test_table_of_rooms_equals_that_of_the_architecture_tests():
    section = documents.read("docs/architecture.md").partition("## Where a sample goes")[0]
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", section, re.M)
    assert {room: " ".join(re.findall(r"`([\w.]+)`", others)) for room, others in rows} == ROOMS
