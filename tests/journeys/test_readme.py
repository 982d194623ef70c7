"""Run every command and block of the README; one command also in a new process."""

import json
import re
import subprocess
import sys
from pathlib import Path

from running import run_page

from posecascade.schema import LSP14


def test_blocks_of_the_readme_run(folder):
    shown = run_page("README.md", folder)
    assert [line.split()[0] for line in shown["python 0"]] == list(LSP14.keypoints)
    [line] = (folder / "poses" / "predictions.jsonl").read_text().splitlines()
    pose = json.loads(line)
    assert list(pose) == ["image", "box", "keypoints"] and list(pose["keypoints"]) == list(LSP14.keypoints)
    assert (folder / "poses" / "overlays" / "photo.jpg").is_file()
    assert {"best.keras", "metrics.json", "curve.png", "predictions.jpg"} <= {
        path.name for path in (folder / "runs" / "mine").iterdir()}
    assert (folder / "report.json").is_file() and (folder / "curve.png").is_file()
    tables = "\n".join(line for command, lines in shown.items() if "evaluate" in command for line in lines)
    assert re.search(r"^total +\d", tables, re.M)
    assert (folder / "exported" / "1" / "certificate.txt").is_file()


def test_first_command_runs_in_a_new_process(folder):
    done = subprocess.run([Path(sys.executable).with_name("posecascade-predict"), "photo.jpg", "--model=lite",
                           "--output=fresh"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "fresh" / "overlays" / "photo.jpg").is_file()
