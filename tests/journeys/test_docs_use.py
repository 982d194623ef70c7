"""Run every command and block of the pages on prediction and evaluation."""

import json
import re

from exchange_sources import write_sources
from running import run_page

from posecascade import datasets
from posecascade.schema import LSP14, MPII16, find_schema


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
    [scored] = ["\n".join(lines) for command, lines in shown.items() if "--predictions=preds.mat" in command]
    assert re.search(r"^total +100\.00", scored, re.M)  # preds.mat contains the labels
    model, read = ["\n".join(lines) for command, lines in shown.items() if "results.json" in command]
    assert re.search(r"^OKS .*", model, re.M)[0].split("AP ")[1] == re.search(r"^OKS .*", read, re.M)[0].split("AP ")[1]
    assert any(line.startswith("total") for line in shown["python 0"])


def test_page_on_labels_of_other_tools(folder):
    write_sources(folder)
    shown = run_page("docs/exchange.md", folder)
    for name, people in (("mine", 2), ("street", 2), ("more", 1), ("yolo", 1), ("lab", 1), ("clip", 1)):
        schema = find_schema(str(folder / name / "people.yaml"))
        records = datasets.read(f"coco:{folder / name / 'people.json'}", "all", schema)
        assert len(records) == people and all(record.image.path.is_file() for record in records)
    assert not [line for lines in shown.values() for line in lines if line.startswith(("excluded:", "missing:"))]
    [task] = json.loads((folder / "poses" / "tasks.json").read_text())
    assert len(task["predictions"][0]["result"]) == 1 + 2 * MPII16.size
    assert (folder / "poses" / "upload.labels.json").is_file()
