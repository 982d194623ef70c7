"""Use the page of posecascade-demo as a user does, and compare its poses with Python's of the same images."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import expect

import posecascade

CLOSE = 2.0  # pixels of the image, as documented
SLOW = 60_000  # ms: limit of every wait, longer than a busy machine takes


def wait_for_status(page, text):
    """Wait until the status line contains the text."""
    expect(page.locator("#status")).to_contain_text(text, timeout=SLOW)


def wait_for_error(page, text):
    """Wait until the error line equals the text, or matches the pattern."""
    expect(page.locator("#error")).to_have_text(text, timeout=SLOW)


def poses_of(page, *files):
    """Choose each file on the page; return the downloaded lines of JSON."""
    lines = []
    for file in files:
        page.locator("#file").set_input_files(file)
        wait_for_status(page, "keypoints:")
        lines += download(page)
    return lines


def drop(page, file):
    """Drop a file on the page."""
    content = base64.b64encode(file.read_bytes()).decode()
    page.evaluate("""([name, content]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
        document.querySelector("#stage").dispatchEvent(
            new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }""", [file.name, content])


def download(page):
    """Download the lines of JSON and return them, parsed."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download JSON").click()
    assert waiting.value.suggested_filename == "predictions.jsonl"
    return [json.loads(line) for line in Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()]


def assert_equals_python(lines, model, files, close=CLOSE):
    """Assert that the lines have the poses of `posecascade.load(model)`, within `close` pixels."""
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
    """Return the image that a panel shows, (H, W, 3) uint8 RGB."""
    url = page.locator(f"#panel-{panel} canvas").evaluate("canvas => canvas.toDataURL()")
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def without_detector(path):
    """Return the bytes of a heatmaps file with random weights and without part maps."""
    import keras

    from posecascade.export.browser_model import maps_file
    from posecascade.formats import keras_file
    from posecascade.schema import LSP14

    image = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(LSP14.size, 3, strides=4, padding="same", name="heatmaps", activation="sigmoid")(image)
    keras_file.save(keras.Model(image, {"heatmaps": maps}), path, keras_file.Metadata(LSP14, 64, 4))
    return maps_file(str(path), "float32")
