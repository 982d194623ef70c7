"""Decode maps into keypoints with NumPy: four decoders, and reading maps at given positions.

Axes: B people, H rows, W columns, K keypoints. Coordinates are (x, y) in input pixels; the center of cell u of a map
at stride s is at s * u + (s - 1) / 2 (posecascade.geometry).
"""

import numpy as np

SOFT_WINDOW = 2.0        # cells: sigma of the window in `soft_argmax`, BUILD_NOTES, "First trials"
DARK_SIGMA = 1.0         # cells: smoothing before the Newton step of DARK, which needs maps smooth across three cells
QUARTER = 0.25           # cells: the step of `quarter_offset`
MIN_LOGARITHM = 1e-10    # map values are raised to this before `dark` takes their logarithm
MIN_DETERMINANT = 1e-9   # per cell^4: flatter maps have no peak for `dark`
DARK_STEP = 1.0          # cells: the longest step of `dark` per axis
SOFT_REACH = int(3 * SOFT_WINDOW)  # cells: half width of the window of `soft_argmax`
SOFT_ROUNDS = 12         # number of times the window is re-centered
SOFT_STEP = 1.5          # cells: the largest distance per axis from the highest cell
MIN_TOTAL = 1e-12        # the sum of squared map values is raised to this before a division by it


def cells_to_pixels(cells, stride: int):
    """Return map coordinates (..., 2) in cells as input pixels; `pixels_to_cells` is the inverse.

    >>> cells_to_pixels(np.array([1.0, 2.0]), 4).tolist()
    [5.5, 9.5]
    """
    return cells * stride + (stride - 1) / 2


def pixels_to_cells(pixels, stride: int):
    """Return input pixels (..., 2) as map coordinates in cells.

    >>> pixels_to_cells(np.array([5.5, 9.5]), 4).tolist()
    [1.0, 2.0]
    """
    return (pixels - (stride - 1) / 2) / stride


def argmax(maps: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each keypoint at the center of its map's highest cell, the paper's decoder.

    Args:
        maps: (B, H, W, K) float array; a constant map gives its first cell.
        stride: input pixels per cell.
    Returns:
        keypoints (B, K, 2) float64 in input pixels, and the highest values (B, K) float64.

    It inverts `confidence_maps` within stride / 2 per axis.

    >>> maps = np.zeros((1, 4, 4, 1))
    >>> maps[0, 1, 1:3, 0] = 1.0, 0.5
    >>> [array.tolist() for array in argmax(maps, stride=4)]
    [[[[5.5, 5.5]]], [[1.0]]]
    """
    cells, scores = _peaks(maps)
    return cells_to_pixels(cells.astype(np.float64), stride), scores


def quarter_offset(maps: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `argmax` moved a quarter of a cell towards the higher neighbor on each axis (Newell et al. 2016).

    A cell at the map's edge, which lacks a neighbor, is not moved along that axis.

    >>> maps = np.zeros((1, 4, 4, 1))
    >>> maps[0, 1, 1:3, 0] = 1.0, 0.5
    >>> quarter_offset(maps, stride=4)[0].tolist()
    [[[6.5, 5.5]]]
    """
    cells, scores = _peaks(maps)
    patch = _patches(maps, cells, 1)
    step = np.stack([patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]], axis=-1)
    return cells_to_pixels(cells + QUARTER * np.sign(step) * _between(maps, cells), stride), scores


def dark(maps: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `argmax` after one Newton step on the logarithm of the smoothed map (Zhang et al. 2020, "DARK").

    The step is at most one cell per axis. It is 0 if the map has no peak, and along an axis at whose edge the cell is.

    >>> maps = np.zeros((1, 4, 4, 1))
    >>> maps[0, 1, 1:3, 0] = 1.0, 0.5
    >>> dark(maps, stride=4)[0].round(3).tolist()
    [[[6.795, 5.5]]]
    """
    cells, scores = _peaks(maps)
    logs = np.log(np.maximum(_smooth3(_patches(maps, cells, 2)), MIN_LOGARITHM))
    dx, dy = (logs[..., 1, 2] - logs[..., 1, 0]) / 2, (logs[..., 2, 1] - logs[..., 0, 1]) / 2
    dxx = logs[..., 1, 2] - 2 * logs[..., 1, 1] + logs[..., 1, 0]
    dyy = logs[..., 2, 1] - 2 * logs[..., 1, 1] + logs[..., 0, 1]
    dxy = (logs[..., 2, 2] - logs[..., 2, 0] - logs[..., 0, 2] + logs[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy * dxy
    peaked = (determinant > MIN_DETERMINANT) & (dxx < 0)
    safe = np.where(peaked, determinant, 1.0)
    step = np.stack([(dxy * dy - dyy * dx) / safe, (dxy * dx - dxx * dy) / safe], axis=-1)
    moved = peaked[..., None] & _between(maps, cells)
    return cells_to_pixels(cells + np.where(moved, np.clip(step, -DARK_STEP, DARK_STEP), 0.0), stride), scores


def soft_argmax(maps: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean position under the squared map times a Gaussian window that is re-centered SOFT_ROUNDS times.

    Re-centering removes the bias of the window towards the highest cell, at which it starts. Near an edge only cells
    whose mirror image about the peak is also on the map are counted; otherwise the missing half would bias the mean
    inwards.

    >>> maps = np.zeros((1, 4, 4, 1))
    >>> maps[0, 1, 1:3, 0] = 1.0, 0.5
    >>> soft_argmax(maps, stride=4)[0].round(3).tolist()
    [[[6.251, 5.5]]]
    """
    cells, scores = _peaks(maps)
    reach = np.arange(-SOFT_REACH, SOFT_REACH + 1, dtype=np.float64)
    last = np.array([maps.shape[2] - 1, maps.shape[1] - 1])
    counted = np.abs(reach) <= np.minimum(cells, last - cells)[..., None]
    patch = np.maximum(_patches(maps, cells, SOFT_REACH), 0) ** 2
    patch *= counted[..., 1, :, None] & counted[..., 0, None, :]
    offset = np.zeros(cells.shape)
    for _ in range(SOFT_ROUNDS):
        window_x, window_y = (np.exp(-0.5 * ((reach - offset[..., axis, None]) / SOFT_WINDOW) ** 2) for axis in (0, 1))
        across = patch @ np.stack([window_x, window_x * reach], -1)
        (total, x), (y, _) = np.moveaxis(np.stack([window_y, window_y * reach], -2) @ across, (-2, -1), (0, 1))
        mean = np.stack([x, y], -1) / np.maximum(total, MIN_TOTAL)[..., None]
        offset = np.clip(mean, -SOFT_STEP, SOFT_STEP)
    return cells_to_pixels(cells + offset, stride), scores


DECODERS = {"argmax": argmax, "quarter": quarter_offset, "dark": dark, "soft": soft_argmax}


def value_at(maps: np.ndarray, points: np.ndarray, stride: int) -> np.ndarray:
    """Return each map's bilinearly interpolated value at one point, such as the detector's at a predicted keypoint.

    Args:
        maps: (B, H, W, K) float array.
        points: (B, K, 2) finite, input pixels; points outside read the nearest edge cell.
        stride: input pixels per cell.
    Returns:
        (B, K) float64.

    >>> maps = np.zeros((1, 4, 4, 1))
    >>> maps[0, 1, 1:3, 0] = 1.0, 0.5
    >>> value_at(maps, np.array([[[7.5, 5.5]]]), stride=4).tolist()
    [[0.75]]
    """
    people, height, width, keypoints = maps.shape
    cells = np.clip(pixels_to_cells(np.asarray(points, np.float64), stride), 0, [width - 1, height - 1])
    low = np.minimum(np.floor(cells).astype(int), [max(width - 2, 0), max(height - 2, 0)])
    fraction = cells - low
    b, k = np.arange(people)[:, None], np.arange(keypoints)[None]

    def corner(right, down):
        return maps[b, np.minimum(low[..., 1] + down, height - 1), np.minimum(low[..., 0] + right, width - 1), k]

    upper = corner(0, 0) * (1 - fraction[..., 0]) + corner(1, 0) * fraction[..., 0]
    lower = corner(0, 1) * (1 - fraction[..., 0]) + corner(1, 1) * fraction[..., 0]
    return upper * (1 - fraction[..., 1]) + lower * fraction[..., 1]


def _peaks(maps):
    """Return the highest cell (B, K, 2) int as (x, y), and its value (B, K) float64."""
    people, height, width, keypoints = maps.shape
    flat = np.asarray(maps).reshape(people, height * width, keypoints)
    at = flat.argmax(axis=1)
    scores = np.take_along_axis(flat, at[:, None], axis=1)[:, 0]
    return np.stack([at % width, at // width], axis=-1), scores.astype(np.float64)


def _between(maps, cells):
    """Return (B, K, 2) bool: whether the cells (x, y) have neighbors on both sides along x, and along y."""
    return (cells > 0) & (cells < np.array([maps.shape[2] - 1, maps.shape[1] - 1]))


def _patches(maps, cells, radius):
    """Return windows (B, K, 2r + 1, 2r + 1) float64 around the cells; outside the map, edge values are repeated."""
    people, height, width, keypoints = maps.shape
    reach = np.arange(-radius, radius + 1)
    rows = np.clip(cells[..., 1, None] + reach, 0, height - 1)[..., :, None]
    columns = np.clip(cells[..., 0, None] + reach, 0, width - 1)[..., None, :]
    b, k = np.arange(people)[:, None, None, None], np.arange(keypoints)[None, :, None, None]
    return np.asarray(maps)[b, rows, columns, k].astype(np.float64)


def _smooth3(patch):
    """Return 5 x 5 windows smoothed by a separable 3-tap Gaussian to 3 x 3."""
    side = np.exp(-0.5 / DARK_SIGMA ** 2)
    taps = np.array([side, 1.0, side]) / (1 + 2 * side)
    rows = sum(t * patch[..., i:i + 3, :] for i, t in enumerate(taps))
    return sum(t * rows[..., i:i + 3] for i, t in enumerate(taps))
