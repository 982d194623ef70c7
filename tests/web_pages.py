"""The page of posecascade-demo as a user reads and uses it, and Python's poses of the same images."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import expect

import posecascade

CLOSE = 2.0  # pixels of the image, as documented
SLOW = 60_000  # ms: longer than any busy machine takes; nothing here depends on it


def says(page, text):
    """Wait until the status line holds the text."""
    expect(page.locator("#status")).to_contain_text(text, timeout=SLOW)


def complains(page, text):
    """Wait until the line of errors is the text."""
    expect(page.locator("#error")).to_have_text(text, timeout=SLOW)


def given(page, *files):
    """Choose each file; return the downloaded lines of JSON."""
    found = []
    for file in files:
        page.locator("#file").set_input_files(file)
        says(page, "keypoints:")
        found += downloaded(page)
    return found


def dropped(page, file):
    """Drop a file on the page."""
    content = base64.b64encode(file.read_bytes()).decode()
    page.evaluate("""([name, content]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
        document.querySelector("#stage").dispatchEvent(
            new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }""", [file.name, content])


def downloaded(page):
    """Download the lines of JSON."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download JSON").click()
    assert waiting.value.suggested_filename == "predictions.jsonl"
    return [json.loads(line) for line in Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()]


def assert_as_python(lines, model, files, close=CLOSE):
    """Assert that the lines are those of `posecascade.load(model)`, up to `close` pixels."""
    predictor = posecascade.load(model)
    for line, file in zip(lines, files, strict=True):
        pose = predictor.predict(file)
        assert list(line) == ["image", "box", "keypoints"] and line["image"] == file.name
        assert list(line["keypoints"]) == list(pose.names)
        table = np.array(list(line["keypoints"].values()))
        assert np.linalg.norm(table[:, :2] - pose.keypoints, axis=1).max() < close
        np.testing.assert_allclose(line["box"], pose.box.as_list(), atol=close)
        if close == CLOSE:
            np.testing.assert_allclose(table[:, 2:], np.stack([pose.scores, pose.visibility], 1), atol=0.02)


def canvas(page, panel):
    """Return what a panel shows, (H, W, 3) uint8."""
    url = page.locator(f"#panel-{panel} canvas").evaluate("canvas => canvas.toDataURL()")
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def without_detector(path):
    """Return a sealed file of a model with random weights that has only confidence maps."""
    import keras

    from posecascade.export.browser_model import maps_file
    from posecascade.formats import keras_file
    from posecascade.schema import LSP14

    image = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(LSP14.size, 3, strides=4, padding="same", name="heatmaps", activation="sigmoid")(image)
    keras_file.save(keras.Model(image, {"heatmaps": maps}), path, keras_file.Metadata(LSP14, 64, 4))
    return maps_file(str(path), "float32")
