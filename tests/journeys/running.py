"""Run the blocks of a page in order, commands and Python in this process, in a folder with the files that they name."""

import contextlib
import importlib
import io
import os
import shlex
from pathlib import Path

import documents
import yaml
from exported import ended

from posecascade.schema import find_schema
from posecascade.training.recipe import load_recipe

# Added to every training, so that it takes seconds: few steps of a small network at a small size.
SMALL = ("--set=training.epochs=1", "--set=model.input_size=64", "--set=training.batch_size=8",
         "--set=training.phases=[{share: 1}]", "--set=training.validation_people=4",
         "--set=model.backbone_weights=none", "--set=loss.disc_radius_px=3", "--set=loss.gaussian_sigma_px=2",
         "--set=optimizer.warmup_steps=0")
TINY = "--set=model.backbone=tiny"  # unless the command sets model.init_from
FAST = ("--threads=1", "--num_rounds=1", "--num_runs=1")  # added to every benchmark
MADE_ONCE = "posecascade-export"  # only its flags are checked: the fixture `exported` runs the installed command


def run_page(page: str, folder: Path, server=None) -> dict[str, list[str]]:
    """Run every block of the page.

    Returns:
        the lines on standard output, by command, or by "python 0", "python 1", ... for the Python blocks.
    """
    shown, count = {}, 0
    with _inside(folder):
        for block in documents.blocks(page):
            where = f"{page}:{block.line}"
            if block.language == "bash":
                shown |= {line: _run(line, where, server) for line in documents.commands(block)
                          if not documents.reason(line)}
            elif block.language == "python":
                shown[f"python {count}"] = _execute(block.text, where)
                count += 1
            elif block.language == "yaml":
                _write_yaml(block, where)
            elif block.language == "json":
                assert documents.is_json(block), where
    return shown


@contextlib.contextmanager
def _inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def completed(line: str, server=None) -> list[str]:
    """Return the words of a command with its placeholders replaced, and with flags that make it short."""
    name, *words = shlex.split(line)
    if server and name == "posecascade-client":
        words = [word.replace("localhost:8500", f"localhost:{server().grpc_port}").replace(
            "localhost:8501", f"localhost:{server().rest_port}") for word in words]
    if any("arms.yaml" in word for word in words):
        words = [word.replace("people.json", "arms.json") for word in words]
    words = [word.replace("lspet:DIR", "lspet:lspet").replace("lsp:DIR", "lsp:lsp") for word in words]
    if name == "posecascade-train":
        words += SMALL if any("init_from" in word for word in words) else (*SMALL, TINY)
        words += ["--data=synthetic:12"] if "--recipe=quickstart" in words else []
    if name == "posecascade-benchmark":
        words += FAST
    return [name, *words]


def _run(line, where, server):
    name, *words = completed(line, server)
    command = importlib.import_module(f"posecascade.cli.{name.removeprefix('posecascade-')}")
    if name == MADE_ONCE:
        command.FLAGS.unparse_flags()
        assert command.FLAGS([name, *words])[1:] == [], where
        load_recipe("quickstart", command.FLAGS.set)  # its overrides are valid
        return []
    if name == "posecascade-demo" and not any(word.startswith("--output") for word in words):
        return []  # serves until it is interrupted: test_docs_export.py runs it
    code, output, errors = ended(command, *words)
    assert (code, errors) == (0, []), f"{where}: {line}\n{output}\n{errors}"
    return output


def _execute(text, where):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(text, where, "exec"), {"__name__": "__main__"})
    return output.getvalue().splitlines()


def _write_yaml(block, where):
    """Write a block to the file that it names, and check it: it is a recipe or a schema of keypoints."""
    name = documents.name_of(block)
    assert name, f"{where}: does not begin with '# NAME.yaml'"
    Path(name).write_text(block.text)
    if "keypoints" in yaml.safe_load(block.text):
        find_schema(name)
    else:
        load_recipe(name)
