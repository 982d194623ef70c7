"""Run every command and block of the pages on data and training."""

import re

import documents
import pytest
from running import run_page


@pytest.mark.parametrize("page", ["docs/getting-started.md", "docs/data.md"])
def test_blocks_of_the_page_run(folder, page):
    run_page(page, folder)
    if page == "docs/data.md":
        assert (folder / "check.json").is_file() and (folder / "samples.png").is_file()
        assert (folder / "runs" / "arms" / "best.keras").is_file()


def test_page_on_training_lists_the_files_of_a_run(folder):
    (folder / "runs" / "lspet").unlink()  # a command of this page writes it
    run_page("docs/train.md", folder)
    table = re.search(r"## What a run leaves\n(.*?)\n## ", documents.read("docs/train.md"), re.S)[1]
    cells = " ".join(re.findall(r"^\| (`.*?) \|", table, re.M))
    named = {name.rstrip("/") for name in re.findall(r"`(.*?)`", cells)}
    assert {path.name for path in (folder / "runs" / "lspet").iterdir()} == named
    assert all((folder / "runs" / name / "best.keras").is_file() for name in ("mine", "tuned", "student"))
