"""Encode keypoints as the targets of the two losses: part discs and confidence maps, on any Keras backend.

Axes: B people, H rows, W columns, K keypoints. Coordinates are (x, y) in input pixels; the center of cell u of a map
at stride s is at s * u + (s - 1) / 2 (posecascade.geometry).
"""

from posecascade.backend import ops

MIN_RADIUS = 1.6  # cells: a smaller disc could contain no cell center and give an all-zero target
MIN_SIGMA = 1.3   # cells: with less, the three samples around a peak do not determine its position to 0.05 cells


def _offsets(keypoints_BK2, height, width, stride):
    """Return distances in pixels from each keypoint to each cell center, along x (B, 1, W, K) and y (B, H, 1, K)."""
    x = ops.cast(ops.arange(width), "float32") * stride + (stride - 1) / 2
    y = ops.cast(ops.arange(height), "float32") * stride + (stride - 1) / 2
    return (ops.expand_dims(x[None, :, None] - keypoints_BK2[:, None, :, 0], 1),
            ops.expand_dims(y[None, :, None] - keypoints_BK2[:, None, :, 1], 2))


def part_discs(keypoints, height: int, width: int, *, stride: int, radius: float):
    """Return the detector's targets: 1 within `radius` of the keypoint, else 0 (docs/paper.md, "Losses": L1).

    Args:
        keypoints: (B, K, 2) float32, input pixels, finite (give absent keypoints any number and weight 0).
        height, width: of the map, in cells.
        radius: input pixels, a number or scalar tensor; raised to MIN_RADIUS cells.
    Returns:
        (B, height, width, K) float32 tensor of the running backend.
    """
    dx, dy = _offsets(keypoints, height, width, stride)
    return ops.cast(dx * dx + dy * dy <= ops.square(ops.maximum(radius, MIN_RADIUS * stride)), "float32")


def confidence_maps(keypoints, height: int, width: int, *, stride: int, sigma: float):
    """Return the regressor's targets: a Gaussian of peak 1 around each keypoint (docs/paper.md, "Losses": L2).

    Arguments and result are those of `part_discs`; `sigma` is in input pixels and raised to MIN_SIGMA cells. Decoders
    invert it within 0.05 cells: `dark` for keypoints two cells inside the map, `soft_argmax` for keypoints six cells
    inside (the half width of its window) and sigma up to 2.5 times SOFT_WINDOW.
    """
    dx, dy = _offsets(keypoints, height, width, stride)
    scale = -0.5 / ops.square(ops.maximum(sigma, MIN_SIGMA * stride))
    return ops.exp(dx * dx * scale) * ops.exp(dy * dy * scale)
