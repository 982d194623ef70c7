"""posecascade-predict on files with several images, and with names that are not UTF-8."""

import json
import os

import skimage.data
from PIL import Image
from test_cli_predict import DONE, model, overlays, run  # noqa: F401  (fixtures)

from posecascade.drawing import write_image
from posecascade.inference import video


def test_of_several_images_in_a_file_the_first_is_read_and_this_is_said(run):  # noqa: F811
    pages = [Image.new("RGB", (64, 48), (0, 0, shade)) for shade in (250, 3)]
    pages[0].save("a.png", save_all=True, append_images=pages[1:])
    pages[0].save("plain.png")
    code, [line, plain], _, errors = run("a.png", "plain.png", "--nodraw")
    assert (code, errors) == (DONE, ["posecascade-predict: image a.png: holds 2 images; the first was read"])
    assert line["keypoints"] == plain["keypoints"]


def test_names_that_are_not_utf_8_lose_no_results_and_no_drafts_stay(run, tmp_path):  # noqa: F811
    name = os.fsdecode(b"caf\xe9")
    write_image(tmp_path / f"{name}.jpg", skimage.data.astronaut()[:100, :100])
    with video.Writer(tmp_path / "a.mp4", 0.5) as writer:
        for _ in range(3):
            writer.write(skimage.data.astronaut()[:100, :100])
    os.rename("a.mp4", f"{name}.mts")
    code, lines, _, errors = run(f"{name}.jpg", f"{name}.mts")
    assert (code, errors) == (DONE, [])
    assert [line["image"] for line in lines] == [r"caf\xe9.jpg", *(rf"caf\xe9.mts#{i}" for i in range(3))]
    assert overlays(tmp_path) == [f"{name}.jpg", f"{name}.mp4"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "overlays", "predictions.csv", "predictions.jsonl"]
    with video.opened(tmp_path / "out" / "overlays" / f"{name}.mp4", "overlay") as back:
        assert back.rate == 0.5
    (tmp_path / "again.jsonl").write_text(json.dumps(lines[0]))
    assert run("again.jsonl", "--nodraw")[1][0]["keypoints"].keys() == lines[0]["keypoints"].keys()
