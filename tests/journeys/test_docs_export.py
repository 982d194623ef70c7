"""Run every command and block of the pages on export, models and the browser, with a server of the small export."""

import contextlib
import functools
import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from exported import K
from running import run_page

from posecascade.schema import MPII16


@pytest.fixture
def server(exported):
    """Return a function that starts a server of the export at its first call and returns its ports."""
    with contextlib.ExitStack() as stack:
        @functools.cache
        def ports():
            from served import answering, service_of

            return stack.enter_context(answering(service_of(exported.output, versions=(1,), labels={"stable": 1})))

        yield ports


@pytest.mark.slow
def test_page_on_export(folder, server):
    shown = run_page("docs/export.md", folder, server)
    lines = [json.loads(line) for name in ("poses.jsonl", "more.jsonl")
             for line in (folder / name).read_text().splitlines()]
    assert [line["image"] for line in lines] == ["photo.jpg", "holiday/beach.png", "photo.jpg"]
    assert all(list(line["keypoints"]) == list(MPII16.keypoints) for line in lines)
    assert len(json.loads((folder / "times.json").read_text())["rows"]) == 8  # TFLite files
    assert (folder / "site" / "index.html").is_file() and (folder / "site" / "model.tflite.gz").is_file()
    served, keypoints, maps = (shown[f"python {number}"] for number in range(3))
    assert [line.split()[0] for line in served] == list(MPII16.keypoints)
    for lines, count in ((keypoints, 4 * K), (maps, 2 * K)):
        numbers = np.fromstring(re.sub(r"[\[\]]", " ", " ".join(lines)), sep=" ")
        assert len(numbers) == count and np.isfinite(numbers).all()


@pytest.mark.parametrize("page", ["docs/models.md", "export/web/README.md"])
def test_blocks_of_the_page_run(folder, page):
    run_page(page, folder)


def test_demo_serves_its_page_until_it_is_interrupted(exported):
    file = exported.tflite("heatmaps", "float32")  # the default, `lite`, would take longer
    command = [Path(sys.executable).with_name("posecascade-demo"), "--port=0", f"--model={file}"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        line = process.stdout.readline()
        with urllib.request.urlopen(re.search(r"http://\S+", line)[0]) as answer:
            assert b"<title>posecascade</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        assert (process.wait(), process.stderr.read()) == (0, "\n")
