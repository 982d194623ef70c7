"""Run every command and block of the pages on prediction and evaluation."""

import json
import re

from running import run_page

from posecascade.schema import LSP14, MPII16


def test_page_on_prediction(folder):
    shown = run_page("docs/predict.md", folder)
    assert [line.split()[0] for line in shown["python 0"]] == list(LSP14.keypoints)
    assert shown["python 1"] == ["[(14, 2), (14, 2)]"]
    lines = [json.loads(line) for line in (folder / "poses" / "predictions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["photo.jpg", "holiday/beach.png", "clip.mp4#0", "clip.mp4#1",
                                                 "clip.mp4#2"]
    assert all(list(line["keypoints"]) == list(MPII16.keypoints) for line in lines)


def test_page_on_evaluation(folder):
    shown = run_page("docs/evaluate.md", folder)
    assert (folder / "report.json").is_file() and (folder / "curve.png").is_file()
    [scored] = ["\n".join(lines) for command, lines in shown.items() if "--predictions=" in command]
    assert re.search(r"^total +100\.00", scored, re.M)  # preds.mat contains the labels
    assert any(line.startswith("total") for line in shown["python 0"])
