"""Test the learning curve, and the sheet of poses with the maps of each stage."""

import cv2
import numpy as np
import pytest
from small_runs import cut, write_people

from posecascade import datasets
from posecascade.codec import targets
from posecascade.drawing import TILE_GAP
from posecascade.inference.predictor import Predictor, run_of
from posecascade.schema import COCO17
from posecascade.training import figures

PEAKS = {"parts": 0.75, "heatmaps": 0.5}


def predictor(stages=("parts", "heatmaps")):
    """Return a predictor that puts every keypoint in the middle of a crop of 64 px, with PEAKS."""
    def run(images):
        middle = np.full((len(images), COCO17.size, 2), 33.5, np.float32)
        peaked = np.asarray(targets.confidence_maps(middle, 16, 16, stride=4, sigma=6.0))
        probabilities = np.clip(PEAKS["parts"] * peaked, 1e-6, 1)
        maps = {"parts": np.log(probabilities / (1 - probabilities)), "heatmaps": PEAKS["heatmaps"] * peaked}
        return {name: maps[name] for name in stages}
    return Predictor(run_of(run), COCO17, 64, 4)


@pytest.fixture
def people(tmp_path):
    path = write_people(tmp_path, 6)
    for image in tmp_path.glob("*.jpg"):
        cv2.imwrite(str(image), np.zeros((64, 48, 3), np.uint8))
    return datasets.read(f"coco:{path}", "all")


def rows_and_columns(sheet):
    step = figures.TILE + TILE_GAP
    assert ((np.array(sheet.shape[:2]) - TILE_GAP) % step == 0).all()
    return tuple((np.array(sheet.shape[:2]) - TILE_GAP) // step)


def tile(sheet, row, column):
    step = figures.TILE + TILE_GAP
    top, left = TILE_GAP + row * step, TILE_GAP + column * step
    return sheet[top:top + figures.TILE, left:left + figures.TILE]


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 4)), (4, (4, 4)), (6, (3, 8))])
def test_sheet_shows_labels_pose_and_maps_of_both_stages(people, count, shape):
    sheet, peaks = figures.poses_sheet(predictor(), people[:count])
    assert sheet.dtype == np.uint8 and rows_and_columns(sheet) == shape
    assert peaks == pytest.approx(PEAKS, rel=1e-5)
    labels, pose, parts, heatmaps = (tile(sheet, 0, column).astype(int) for column in range(4))
    # On black images the tiles show the map values in the keypoints' colors, rounded twice.
    parts, heatmaps = parts[66:126, 66:126], heatmaps[66:126, 66:126]
    assert parts.max() > 100
    np.testing.assert_allclose(parts / PEAKS["parts"], heatmaps / PEAKS["heatmaps"], atol=2 / PEAKS["heatmaps"])
    assert labels.max() > 200 and np.abs(labels - pose).max() > 200  # the predicted keypoints are all in one place


def test_sheet_of_a_detector_has_three_tiles_per_person(people):
    sheet, peaks = figures.poses_sheet(predictor(("parts",)), people[:2])
    assert rows_and_columns(sheet) == (2, 3) and set(peaks) == {"parts"}


def test_unreadable_people_are_skipped(people, tmp_path):
    whole, _ = figures.poses_sheet(predictor(), people[1:2])
    cut(tmp_path / "0000.jpg")
    np.testing.assert_array_equal(figures.poses_sheet(predictor(), people[:2])[0], whole)
    sheet, peaks = figures.poses_sheet(predictor(), people[:1])
    assert peaks == {} and rows_and_columns(sheet) == (1, 1) and np.ptp(sheet, axis=(0, 1)).max() == 0


HISTORIES = {  # rows of a log -> the points of each line drawn
    "empty": ([], {}),
    "first epoch": ([{"epoch": 1, "loss": 2.0, "a_pck": 10.0, "result": None}],
                    {"loss": [[1, 2]], "a_pck": [[1, 10]]}),
    "zero loss": ([{"epoch": 1, "loss": 2.0, "detection": 3.0},
                   {"epoch": 2, "loss": 1.0, "detection": 0.0, "a_pck": 50.0}],
                  {"loss": [[1, 2], [2, 1]], "detection": [[1, 3], [2, 0]], "a_pck": [[2, 50]]}),
    "not every epoch": ([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "a_pck": 40.0, "b_pck": 30.0},
                         {"epoch": 3, "loss": 0.5}],
                        {"loss": [[1, 2], [2, 1], [3, 0.5]], "a_pck": [[2, 40]], "b_pck": [[2, 30]]})}


@pytest.mark.parametrize(("history", "lines"), HISTORIES.values(), ids=HISTORIES)
def test_curve_has_the_points_of_the_log(history, lines):
    left, right = figures.curve_figure(history, ["a_pck", "b_pck"]).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in (*left.lines, *right.lines)}
    assert drawn == lines
    assert {line.get_label() for line in right.lines} == {name for name in lines if name.endswith("_pck")}


def test_curve_is_written_as_an_image(tmp_path):
    images = []
    for name in ("empty", "zero loss"):
        figures.learning_curve(tmp_path / figures.CURVE, HISTORIES[name][0], ["a_pck"])
        assert [path.name for path in tmp_path.iterdir()] == [figures.CURVE]
        images.append(cv2.imread(str(tmp_path / figures.CURVE)))
    assert images[0].shape == images[1].shape == (400, 1000, 3)
    assert (images[0] != images[1]).any(-1).sum() > 1000  # lines and legend
