"""Read the commands and code blocks of the README and of docs/; list which commands are not run, and why."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import posecascade

PACKAGE = Path(posecascade.__file__).resolve().parent
REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *(path.relative_to(REPOSITORY).as_posix() for path in sorted((REPOSITORY / "docs").glob("*.md"))),
         "export/web/README.md")
LANGUAGES = {"bash", "python", "yaml", "json", "text"}  # all but "text", which is a tree or output, are checked
NOT_RUN = {  # pattern of a command's beginning -> why no test here runs it
    r"pip install ": "needs a network",
    r"make (?:demo|test|docs)$": "makes an environment, which needs a network; the target must exist",
    r"npm ": "needs node; .ci/run runs it",
    r"python -m http\.server ": "a program of Python, and serves until it is interrupted",
    r"python benchmarks/\w+\.py ": "takes hours or needs other data; the file must exist",
    r"python pose_tflite\.py \S+ 0 --show$": "needs a camera and a screen",
    r"python pose_tflite\.py ": "the same line of export/device/README.md is run by tests/test_device_readme.py",
}


class Block(NamedTuple):
    """A fenced block: its language, the number of its first line, and its text."""

    language: str
    line: int
    text: str


def read(page: str) -> str:
    """Return the text of a page, named by its path in the repository."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def file_of(name: str) -> Path:
    """Return the path of a file in the repository; files of the package are those of the installed one."""
    return (PACKAGE.parent if name.startswith("posecascade/") else REPOSITORY) / name


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = read(page)
    return [Block(found[1], text.count("\n", 0, found.start()) + 1, found[2])
            for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)]


def commands(block: Block) -> list[str]:
    """Return the commands of a bash block, without comments; a backslash at the end joins two lines."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^| )#.*", "", line).strip() for line in lines) if line]


def all_commands() -> list[str]:
    """Return the commands of all pages."""
    return [line for page in PAGES for block in blocks(page) if block.language == "bash" for line in commands(block)]


def reason(command: str) -> str | None:
    """Return why no test here runs the command, or None if one does."""
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


def name_of(block: Block) -> str | None:
    """Return the file name in the comment that begins a YAML block."""
    found = re.match(r"# (\w+\.yaml)\n", block.text)
    return found and found[1]


def is_json(block: Block) -> bool:
    """Return whether every line of the block is JSON."""
    return all(json.loads(line) is not None for line in block.text.splitlines())
