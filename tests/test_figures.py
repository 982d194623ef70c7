"""The learning curve is drawn whatever the log has; the sheet shows everybody readable with the maps of each stage."""

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
    """One that puts every joint at the middle of a crop of 64 px, with the peaks above."""
    def run(images):
        middle = np.full((len(images), COCO17.size, 2), 33.5, np.float32)
        maps = np.asarray(targets.confidence_maps(middle, 16, 16, stride=4, sigma=6.0))
        probabilities = np.clip(PEAKS["parts"] * maps, 1e-6, 1)
        found = {"parts": np.log(probabilities / (1 - probabilities)), "heatmaps": PEAKS["heatmaps"] * maps}
        return {name: found[name] for name in stages}
    return Predictor(run_of(run), COCO17, 64, 4)


@pytest.fixture
def people(tmp_path):
    path = write_people(tmp_path, 6)
    for picture in tmp_path.glob("*.jpg"):
        cv2.imwrite(str(picture), np.zeros((64, 48, 3), np.uint8))
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
def test_everybody_has_labels_pose_and_the_maps_of_both_stages(people, count, shape):
    sheet, peaks = figures.poses_sheet(predictor(), people[:count])
    assert sheet.dtype == np.uint8 and rows_and_columns(sheet) == shape
    assert peaks == pytest.approx(PEAKS, rel=1e-5)
    labels, pose, parts, heatmaps = (tile(sheet, 0, column).astype(int) for column in range(4))
    # Black pictures: what is seen of the maps is each one's values in the joints' colors, rounded twice.
    parts, heatmaps = parts[66:126, 66:126], heatmaps[66:126, 66:126]
    assert parts.max() > 100
    np.testing.assert_allclose(parts / PEAKS["parts"], heatmaps / PEAKS["heatmaps"], atol=2 / PEAKS["heatmaps"])
    assert labels.max() > 200 and np.abs(labels - pose).max() > 200  # all joints in one place are not the labels


def test_a_detector_alone_has_three_tiles(people):
    sheet, peaks = figures.poses_sheet(predictor(("parts",)), people[:2])
    assert rows_and_columns(sheet) == (2, 3) and set(peaks) == {"parts"}


def test_the_unreadable_are_left_out(people, tmp_path):
    whole, _ = figures.poses_sheet(predictor(), people[1:2])
    cut(tmp_path / "0000.jpg")
    np.testing.assert_array_equal(figures.poses_sheet(predictor(), people[:2])[0], whole)
    sheet, peaks = figures.poses_sheet(predictor(), people[:1])
    assert peaks == {} and sheet.ndim == 3


@pytest.mark.parametrize("history", [
    [], [{"epoch": 1, "loss": 2.0, "a_pck": 10.0, "result": None}],
    [{"epoch": 1, "loss": 2.0, "detection": 3.0}, {"epoch": 2, "loss": 1.0, "detection": 0.0, "a_pck": 50.0}]])
def test_the_curve_is_a_picture_whatever_the_log_has(history, tmp_path):
    figures.learning_curve(tmp_path / figures.CURVE, history, ["a_pck", "b_pck"])
    assert [path.name for path in tmp_path.iterdir()] == [figures.CURVE]
    assert cv2.imread(str(tmp_path / figures.CURVE)).shape == (400, 1000, 3)


def test_the_curve_draws_the_log_s_points(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda figure, draft: drawn.append(figure))
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "a_pck": 40.0}, {"epoch": 3, "loss": 0.5}]
    figures.learning_curve(tmp_path / figures.CURVE, history, ["a_pck"])
    left, right = drawn[0].axes
    assert [(line.get_label(), line.get_xydata().tolist()) for line in (*left.lines, *right.lines)] == [
        ("loss", [[1, 2], [2, 1], [3, 0.5]]), ("a_pck", [[2, 40]])]
