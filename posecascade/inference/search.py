"""Find the person in an image whose box is unknown: look at the complete image, then at tiles, then at closer crops.

The first look is a crop of the complete image. If its mean score is below UNSURE, TILES squares of the shorter side
along the longer side are predicted too, and the pose with the highest mean score is kept. Then the box around the
keypoints with a score of at least CONFIDENT is predicted, up to ROUNDS times, until the box stops moving. If fewer than
MIN_CONFIDENT keypoints reach that score, or the mean score falls below MIN_SCORE_RATIO times the previous one, the
previous pose is kept.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from posecascade.codec.score_calibration import Calibration
from posecascade.geometry import CROP_PADDING, Box
from posecascade.poses import Pose

CONFIDENT = 0.3        # minimum score of a keypoint that counts for the next crop
MIN_CONFIDENT = 3      # keypoints that a new crop needs: fewer say little about where the person is
MIN_SIDE = 0.05        # of the image's longer side: no new crop is smaller
UNSURE = 0.4           # mean score of the first look below which tiles are predicted too
TILES = 3              # squares along the longer side
ROUNDS = 2             # crops after the first look and the tiles
MIN_SCORE_RATIO = 0.8  # of the previous mean score: a new crop with less is dropped; a peak between cells loses some
CONVERGED_IOU = 0.9    # intersection over union at which two boxes count as the same
GRID = 32              # a new crop's edges lie on a grid of its longer side / GRID to 2 * GRID pixels


def refined(predict: Callable[[list[np.ndarray], list[Box]], list[Pose]], images: Sequence[np.ndarray],
            poses: Sequence[Pose], unknown: Sequence[int], calibration: Calibration) -> list[Pose]:
    """Return the poses, those of images with an unknown person improved by tiles and closer crops.

    Args:
        predict: images and boxes to poses, such as a `Predictor`.
        images: (H, W, 3) uint8 RGB each.
        poses: the first look's, one per image.
        unknown: indices of the images whose box was not given.
        calibration: of the model's scores, which the thresholds are brought through.
    """
    poses = list(poses)
    min_score, unsure = (float(calibration(np.float64(score))) for score in (CONFIDENT, UNSURE))
    tiles = [(i, box) for i in unknown if poses[i].scores.mean() < unsure for box in tile_boxes(images[i])]
    for (i, _), pose in zip(tiles, predict([images[i] for i, _ in tiles], [box for _, box in tiles]), strict=True):
        poses[i] = max(poses[i], pose, key=lambda candidate: candidate.scores.mean())
    for _ in range(ROUNDS):
        closer = {i: box for i in unknown if (box := confident_box(poses[i], images[i], min_score))}
        again = predict([images[i] for i in closer], list(closer.values()))
        better = {i: pose for i, pose in zip(closer, again, strict=True)
                  if pose.scores.mean() >= MIN_SCORE_RATIO * poses[i].scores.mean()}
        poses = [better.get(i, pose) for i, pose in enumerate(poses)]
        unknown = list(better)
    return poses


def whole_box(image: np.ndarray) -> Box:
    """Return the box whose crop is the square around the complete image."""
    height, width = image.shape[:2]
    return _box_in(-0.5, -0.5, width, height)


def tile_boxes(image: np.ndarray) -> list[Box]:
    """Return the boxes whose crops are TILES squares of the shorter side along the longer; none for a square image."""
    height, width = image.shape[:2]
    shorter = min(width, height)
    return [_box_in((width - shorter) * tile / (TILES - 1) - 0.5, (height - shorter) * tile / (TILES - 1) - 0.5,
                    shorter, shorter) for tile in range(TILES) if width != height]


def _box_in(x, y, width, height):
    # In whole pixels, so that the box, and with it the crop, is the same in single and double precision.
    side = math.ceil(max(width, height) / CROP_PADDING)
    return Box(x + (width - side) / 2, y + (height - side) / 2, side, side)


def confident_box(pose: Pose, image: np.ndarray, min_score: float = CONFIDENT) -> Box | None:
    """Return the box of the keypoints with a score of `min_score` or more; None if they are few or it is the same box.

    Its edges are rounded outwards to a grid of a power of two pixels. Otherwise, two runtimes whose first results
    differ by a thousandth of a pixel would continue with different crops, and return different keypoints.
    """
    tight = pose.tight_box(min_score, MIN_CONFIDENT, max(1.0, MIN_SIDE * max(image.shape[:2])))
    if tight is None:
        return None
    step = 2.0 ** math.floor(math.log2(max(tight.w, tight.h) / GRID))
    low = np.floor(np.array([tight.x, tight.y]) / step) * step
    size = np.ceil(np.array([tight.x + tight.w, tight.y + tight.h]) / step) * step - low
    box = Box(*map(float, low), *map(float, size))
    return None if box.iou(pose.box) >= CONVERGED_IOU else box
