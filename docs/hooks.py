"""MkDocs hooks: pages made at build time, from the code and from files outside docs/, so that they cannot go stale.

The command line reference is made from the commands' absl flags, the recipe reference from the dataclasses, and the
model cards, the kits' READMEs, the experiments and the changelog become pages of the site. Links between Markdown files
are those of the repository, so that they also work where the repository is browsed; here they are rewritten.
"""

import dataclasses
import posixpath
import re
import typing
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {  # file of the repository -> page of the site
    "export/README.md": "contract.md",
    "export/serving/README.md": "serving.md",
    "export/device/README.md": "device.md",
    "export/web/README.md": "browser.md",
    "posecascade/weights/base.md": "model-base.md",
    "posecascade/weights/lite.md": "model-lite.md",
    "recipes/EXPERIMENTS.md": "experiments.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
COMMANDS = ("train", "evaluate", "predict", "export", "data", "benchmark", "demo", "client")
MARKER = re.compile(r"<!-- generated: (\w+) -->")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files, config):
    """Add the pages whose sources are outside docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=with_site_links(text, posixpath.dirname(source))))
    return files


def on_page_markdown(markdown, page, **_):
    """Rewrite the links of pages in docs/ and fill in the generated parts."""
    if page.file.src_uri not in PAGES.values():
        markdown = with_site_links(markdown, "docs")
    return MARKER.sub(lambda found: GENERATED[found[1]](), markdown)


def with_site_links(text: str, folder: str) -> str:
    """Return the Markdown with links that lead to pages; a link to a file that is no page becomes its path as code.

    Args:
        folder: where the Markdown file is, relative to the repository; links are relative to it.
    """
    def replaced(found):
        image, label, target = found.groups()
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"\w+:", path):
            return found[0]
        there = posixpath.normpath(posixpath.join(folder, path))
        if there.startswith("docs/"):
            return f"{image}[{label}]({there.removeprefix('docs/')}{mark}{anchor})"
        if there in PAGES:
            return f"{image}[{label}]({PAGES[there]}{mark}{anchor})"
        return label if label.startswith("`") else f"{label} (`{there}`)" if label != there else f"`{there}`"

    blocks = re.split(r"(^```.*?^```)", text, flags=re.S | re.M)
    return "".join(block if block.startswith("```") else LINK.sub(replaced, block) for block in blocks)


def cli_reference() -> str:
    """Return a section per command: its help text and a table of its flags."""
    return "\n".join(command_reference(command) for command in COMMANDS)


def command_reference(command: str) -> str:
    """Return the section of one command."""
    from importlib import import_module

    module = import_module(f"posecascade.cli.{command}")
    lines = [f"## posecascade-{command}", "", "```text", module.__doc__.strip(), "```", "",
             "| flag | default | |", "|---|---|---|"]
    for name in sorted(module.FLAGS):
        flag = module.FLAGS[name]
        choices, text = re.fullmatch(r"(?:<([^>]*)>: )?(.*)", flag.help, re.S).groups()
        allowed = f"one of {', '.join(f'`{choice}`' for choice in choices.split('|'))}: " if choices else ""
        lines.append(f"| `--{name}` | {_default(flag.default)} | {allowed}{_cell(text)} |")
    return "\n".join(lines) + "\n"


def recipe_reference() -> str:
    """Return a section per part of a recipe: its docstring and a table of its keys."""
    from posecascade.training.recipe import Recipe

    sections, waiting = [], [(name, kind) for name, kind in typing.get_type_hints(Recipe).items()]
    for section, kind in waiting:
        sections.append(section_reference(section, kind))
        waiting += [(f"{section}.{name}", inner) for name, inner in _nested(kind)]
    return "\n".join(sections)


def section_reference(section: str, kind: type) -> str:
    """Return the section of one dataclass of the recipe."""
    summary, described = _described(kind)
    lines = [f"## {section}", "", summary, "", "| key | type | default | allowed | |", "|---|---|---|---|---|"]
    hints, default = typing.get_type_hints(kind), kind()
    for field in dataclasses.fields(kind):
        lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(getattr(default, field.name))} | "
                     f"{_allowed(field.metadata)} | {_cell(described.get(field.name, ''))} |")
    return "\n".join(lines) + "\n"


def _nested(kind):
    """Names and dataclasses of the fields that are lists of dataclasses."""
    for name, hint in typing.get_type_hints(kind).items():
        for inner in typing.get_args(hint):
            if dataclasses.is_dataclass(inner):
                yield name, inner


def _described(kind) -> tuple[str, dict[str, str]]:
    """The docstring's text, and the text of each key under "Attributes:"."""
    text = re.sub(r"\n {4}", "\n", (kind.__doc__ or "").strip())
    summary, _, attributes = text.partition("Attributes:")
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", attributes, re.S | re.M)
    return summary.strip(), {name: " ".join(entry.split()) for name, entry in entries}


def _type(hint) -> str:
    if typing.get_origin(hint) is not tuple:
        return f"{hint.__name__.lower()} mapping" if dataclasses.is_dataclass(hint) else hint.__name__
    inner, *rest = typing.get_args(hint)
    return f"list of {_type(inner)}" + ("" if Ellipsis in rest else f", {1 + len(rest)} long")


def _allowed(limits) -> str:
    if "choices" in limits:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    if "high" in limits:
        return f"{limits['low']} to {limits['high']}"
    return f"{limits['low']} or more" if "low" in limits else ""


def _default(value) -> str:
    if value in (None, "", [], ()):
        return ""
    if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        return "one, with its defaults"
    shown = str(value).lower() if isinstance(value, bool) else list(value) if isinstance(value, tuple) else value
    return f"`{shown}`"


def _cell(text) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


GENERATED = {"cli": cli_reference, "recipes": recipe_reference}
