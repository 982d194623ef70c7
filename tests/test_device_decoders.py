"""The decoders of the kit export/device in C++ and Kotlin give what the codec gives, by golden vectors.

Where the codec has changed on purpose, renew the vectors and mend the decoders:

    python tests/test_device_decoders.py
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posecascade.codec import decoders
from posecascade.codec.score_calibration import Calibration
from posecascade.inference.predictor import Predictor
from posecascade.schema import schema_from

KIT = Path(__file__).resolve().parents[1] / "export" / "device"
GOLDEN = KIT / "golden" / "decoder.txt"
CLOSE = 1e-4  # px, and of scores: what the programs allow
LIMIT = 100_000  # bytes: what is committed stays small
SAID = re.compile(r"(\d+) cases; joints differ by (\d\.\d+) px at most, scores and visibility by (\d\.\d+)\n")


def peaks(height, width, places, widths=1.5, tops=0.9):
    """(height, width, K) maps, each a Gaussian of its top round its place (x, y), in cells."""
    x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    cx, cy = np.transpose(places)
    return tops * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / np.square(widths))


def cases():
    """(heatmaps, parts, stride, calibration) of everything that a decoder meets."""
    rng = np.random.default_rng(57)
    curve = Calibration(2.028, -1.127)
    inside = rng.uniform(7, 12, (3, 2))
    yield peaks(20, 20, inside), peaks(20, 20, inside + 1, 3.0), 4, Calibration()
    at_edges = np.array([[0, 0], [13.4, 5.2], [6.3, 8.7], [-0.4, 4.6]])  # also beyond the edge
    yield peaks(10, 14, at_edges, [1.3, 2, 1.5, 3]), peaks(10, 14, at_edges, 4), 2, curve
    yield rng.normal(0.1, 0.3, (12, 9, 4)), rng.uniform(0, 1, (12, 9, 4)), 8, curve  # of nothing, some below 0
    several = peaks(16, 12, [[3, 3], [8.6, 9.1], [6, 7]], tops=[0.5, 1.2, 0.3])  # more than 1; a second peak
    several += peaks(16, 12, [[8.2, 12.4], [4.1, 6.6], [7.4, 7.7]], tops=[0.499, 0.7, 0.2])
    yield several, peaks(16, 12, [[8, 12], [8, 9], [2, 2]], 2.0), 4, curve
    flat = np.zeros((6, 7, 5))
    flat[..., 1] = 0.5  # all cells are equal: the first counts
    flat[2, 2:4, 2] = 0.8  # two are
    flat[3, 3, 3] = 1.2  # counts as 1
    flat[..., 4] -= 0.05  # counts as 0
    yield flat, np.ones(flat.shape), 1, Calibration()
    plateau = np.zeros((15, 17, 2))
    plateau[2:12, 7:14] = 0.3
    plateau[7, 7] = 0.31  # the mean lies far from the highest cell: further than the decoder goes
    plateau[7, 8, 1], plateau[:, 14, 1] = 0.9, 0.89  # as far away as the window reaches
    yield plateau, peaks(15, 17, [[8, 7], [9, 7]]), 4, Calibration()
    yield np.full((1, 1, 1), 0.7), np.full((1, 1, 1), 0.2), 4, Calibration()
    yield rng.uniform(0, 1, (2, 3, 2)), rng.uniform(0, 1, (2, 3, 2)), 4, Calibration(1.0, 0.5)


def expected(heatmaps, parts, stride, calibration):
    """(K, 4): x, y, score and visibility, by the road that posecascade-predict takes."""
    joints = heatmaps.shape[2]
    schema = schema_from({"name": "golden", "keypoints": [f"joint_{k}" for k in range(joints)]}, "golden")
    crops = np.zeros((1, heatmaps.shape[0] * stride, heatmaps.shape[1] * stride, 3), np.uint8)
    road = Predictor(lambda _: {"parts": parts[None], "heatmaps": heatmaps[None]}, schema, crops.shape[1], stride,
                     calibration=calibration)
    stages, [scores], [visibility] = road._joints(crops)
    return np.column_stack([stages["heatmaps"][0], scores, visibility])


def golden() -> str:
    """The vectors' file: the number of cases; of each height, width, joints, stride, slope and offset, then both maps,
    then x, y, score and visibility of each joint."""
    given = list(cases())
    lines = [f"{len(given)}"]
    for heatmaps, parts, stride, calibration in given:
        heatmaps, parts = (np.round(maps, 4).astype(np.float32) for maps in (heatmaps, parts))
        lines.append(f"{' '.join(map(str, heatmaps.shape))} {stride} {calibration.slope:g} {calibration.offset:g}")
        for maps in (heatmaps, parts):
            lines += [" ".join(f"{value:.4f}".rstrip("0").rstrip(".") for value in row.ravel()) for row in maps]
        lines += [" ".join(f"{value:.6f}" for value in row) for row in expected(heatmaps, parts, stride, calibration)]
    return "\n".join(lines).replace("-0 ", "0 ") + "\n"


def test_the_vectors_are_what_the_codec_gives_now():
    old, new = (text.split() for text in (GOLDEN.read_text(), golden()))
    assert len(old) == len(new) and GOLDEN.stat().st_size < LIMIT
    np.testing.assert_allclose(np.array(old, float), np.array(new, float), atol=2e-6)  # of the sixth digit


def test_the_vectors_tell_decoders_apart():
    """Every part of the decoder moves some joint: a port that lacks it would be found."""
    whole = [expected(*case) for case in cases()]

    def differs(**changes):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(decoders, name, value)
            away = [np.abs(expected(*case) - old).max() for case, old in zip(cases(), whole, strict=True)]
            return max(away) > 10 * CLOSE

    assert not differs()
    for name, value in (("SOFT_REACH", 5), ("SOFT_WINDOW", 1.9), ("SOFT_ROUNDS", 3), ("SOFT_STEP", 1.0)):
        assert differs(**{name: value}), name
    places = [decoders.argmax(maps[None], stride)[0][0] for maps, _, stride, _ in cases()]
    assert max(np.abs(old[:, :2] - new).max() for old, new in zip(whole, places, strict=True)) > 1


def checked(command, vectors) -> tuple[int, str]:
    done = subprocess.run([*command, vectors], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def holds(command, tmp_path):
    """The program finds the vectors right, and a change in any column of the joints wrong."""
    code, told = checked(command, GOLDEN)
    count, place, share = SAID.fullmatch(told).groups()
    assert code == 0 and int(count) == len(list(cases())) and max(float(place), float(share)) <= CLOSE
    *lines, last = GOLDEN.read_text().splitlines()
    for column in range(4):
        words = last.split()
        words[column] = f"{float(words[column]) + 10 * CLOSE:.6f}"
        other = tmp_path / "other.txt"
        other.write_text("\n".join([*lines, " ".join(words)]) + "\n")
        assert checked(command, other)[0] == 1
    other.write_text("\n".join(lines))
    code, told = checked(command, other)
    assert code and told == ""  # cut short


def test_the_c_plus_plus_decoder_gives_the_vectors(tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("needs a C++ compiler, g++ or clang++")
    program = tmp_path / "check_golden"
    done = subprocess.run([compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program,
                           KIT / "cpp" / "check_golden.cpp"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    holds([program], tmp_path)


def test_the_kotlin_decoder_gives_the_vectors(tmp_path):
    if not shutil.which("kotlinc") or not shutil.which("kotlin"):
        pytest.skip("needs kotlinc and kotlin")
    done = subprocess.run(["kotlinc", KIT / "android" / "PoseDecoder.kt", KIT / "android" / "CheckGolden.kt", "-d",
                           tmp_path / "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    holds(["kotlin", "-cp", tmp_path / "check", "posecascade.CheckGoldenKt"], tmp_path)


if __name__ == "__main__":
    GOLDEN.write_text(golden())
    sys.stdout.write(f"renewed {GOLDEN}\n")
