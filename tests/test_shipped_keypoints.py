"""The models that come with the package give the keypoints that they gave when their files were committed.

Renew golden/shipped_keypoints.json only with new weights, and say so in CHANGELOG.md:

    python tests/test_shipped_keypoints.py
"""

import json
import os
import platform
import zlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import posecascade
from posecascade import datasets

GOLDEN = Path(__file__).parent / "golden" / "shipped_keypoints.json"
# Pixels of the image. The same machine repeats the last digit; other processors and OpenCV 4 round crops and sums
# differently, which moves keypoints of a given crop by hundredths of a pixel (BUILD_NOTES, "Export").
TOLERANCE = 0.1
RENDERED = "3@11"  # three rendered people, seed 11


def poses(name: str) -> dict[str, list]:
    """Return image name -> K rows of x, y, score and visibility, for a model of the package."""
    photo = pytest.importorskip("skimage.data").astronaut()
    predictor = posecascade.load(name)
    found = {"astronaut": predictor.predict(photo), "astronaut in a box": predictor.predict(photo, (60, 0, 320, 512))}
    for i, record in enumerate(datasets.read(f"synthetic:{RENDERED}", "train")):
        found[f"rendered {i}"] = predictor.predict(record.image.read(), record.box)
    return {image: [[round(float(value), 4) for value in row]
                    for row in np.column_stack([pose.keypoints, pose.scores, pose.visibility])]
            for image, pose in found.items()}


def machine() -> str:
    """Return what the last digits depend on: the processor's model, and the versions of what computes."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    processor = platform.machine()
    if "flags" in facts:  # of Linux on x86
        processor = f"{facts['model name']} {zlib.crc32(facts['flags'].encode())}"
    packages = ("tensorflow", "keras", "numpy", "opencv-python-headless")
    return ", ".join([processor, f"{os.cpu_count()} threads",
                      *(f"{package} {metadata.version(package)}" for package in packages)])


@pytest.mark.parametrize("name", ["base", "lite"])
def test_shipped_models_give_the_committed_keypoints(name):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    committed, now = golden[name], poses(name)
    assert list(now) == list(committed)
    if golden["machine"] == machine():
        assert now == committed
    for image, rows in now.items():
        np.testing.assert_allclose(np.array(rows)[:, :2], np.array(committed[image])[:, :2], atol=TOLERANCE,
                                   err_msg=f"{name}, {image}")
        np.testing.assert_allclose(np.array(rows)[:, 2:], np.array(committed[image])[:, 2:], atol=0.01,
                                   err_msg=f"{name}, {image}")


if __name__ == "__main__":
    content = {"machine": machine(), **{name: poses(name) for name in ("base", "lite")}}
    GOLDEN.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
