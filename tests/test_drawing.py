"""Drawings: positions and colors of keypoints, hollow occluded ones, maps, sheets, and written files."""

import cv2
import numpy as np
import pytest

from posecascade import drawing
from posecascade.drawing import LEFT, MIDDLE, OUTLINE, RIGHT, draw_maps, draw_pose, keypoint_colors, sheet, write_image
from posecascade.errors import InputError
from posecascade.schema import LSP14, SCHEMAS, Schema

GRAY = np.full((200, 300, 3), 120, np.uint8)
TOY = Schema("toy", ("left_hand", "right_hand", "head"), pairs=(("left_hand", "right_hand"),),
             limbs=(("left_hand", "head"), ("right_hand", "head")))
POINTS = np.array([[220.0, 150.0], [80.0, 150.0], [150.0, 40.0]])


def touched(image):
    """Return (x, y) of the pixels that differ from the background."""
    return np.argwhere((image != GRAY).any(-1))[:, ::-1]


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)
def test_colors_depend_on_the_side(schema):
    for name, color in zip(schema.keypoints, keypoint_colors(schema), strict=True):
        assert color == {"left": LEFT, "right": RIGHT}.get(name.split("_")[0], MIDDLE)


def test_keypoints_and_limbs_have_their_position_and_color():
    image = draw_pose(GRAY, POINTS, TOY)
    for point, color in zip(POINTS.astype(int), (LEFT, RIGHT, MIDDLE), strict=True):
        assert tuple(image[point[1], point[0]]) == color
    for hand, color in ((0, LEFT), (1, RIGHT)):
        x, y = ((POINTS[hand] + POINTS[2]) / 2).astype(int)
        assert tuple(image[y, x]) == color
    # Everything drawn is near a limb: within half its width, including outline and dot.
    distance = np.min([distances(touched(image), POINTS[a], POINTS[2]) for a in (0, 1)], axis=0)
    assert distance.max() <= 8


def distances(points, start, end):
    along = np.clip((points - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
    return np.linalg.norm(points - start - along[:, None] * (end - start), axis=-1)


def test_half_pixels_are_drawn_and_the_input_is_not_changed():
    one = Schema("one", ("nose",))
    middles = [touched(draw_pose(GRAY, np.array([[100 + shift, 50.0]]), one)).mean(0)[0] for shift in (0, 0.5)]
    assert middles[0] == pytest.approx(100, abs=0.05) and middles[1] == pytest.approx(100.5, abs=0.1)
    assert (GRAY == 120).all()


@pytest.mark.parametrize("visibility", [np.array([0.9, 0.1, 1.0]), np.array([True, False, True]),
                                        np.array([2, 1, 2])], ids=["share", "flag", "code"])
def test_occluded_keypoints_are_hollow_and_limbs_to_them_thin(visibility):
    big = np.full((600, 900, 3), 120, np.uint8)  # so that half a limb's width is several pixels
    seen, hidden = draw_pose(big, 3 * POINTS, TOY), draw_pose(big, 3 * POINTS, TOY, visibility=visibility)
    assert tuple(hidden[450, 660]) == LEFT and tuple(hidden[120, 450]) == MIDDLE
    assert tuple(hidden[450, 240]) == OUTLINE
    assert (hidden[440:461, 230:251] == RIGHT).all(-1).any()  # a ring
    widths = [(image[300:330] == RIGHT).all(-1).sum() for image in (seen, hidden)]
    assert 0.3 * widths[0] < widths[1] < 0.7 * widths[0]


def test_unlabeled_low_scored_and_nonfinite_keypoints_are_not_drawn():
    for options in ({"visibility": np.array([0, 2, 2])}, {"scores": np.array([0.2, 0.3, 0.9]), "min_score": 0.3}):
        image = draw_pose(GRAY, POINTS, TOY, **options)
        assert touched(image)[:, 0].max() < 170  # the left arm is not drawn
        assert tuple(image[150, 80]) == RIGHT
    lost = POINTS.copy()
    lost[0, 1] = np.nan
    np.testing.assert_array_equal(draw_pose(GRAY, lost, TOY), draw_pose(GRAY, POINTS, TOY, visibility=[0, 2, 2]))
    np.testing.assert_array_equal(draw_pose(GRAY, np.full((3, 2), np.nan), TOY), GRAY)
    np.testing.assert_array_equal(draw_pose(GRAY, POINTS, TOY, scores=np.zeros(3), min_score=0.1), GRAY)


def test_keypoints_far_outside_the_image_can_be_drawn():
    far = POINTS + [[1e12, -1e12], [-400, 0], [0, 0]]
    assert draw_pose(GRAY, far, TOY).shape == GRAY.shape
    draw_pose(np.zeros((1, 1, 3), np.uint8), POINTS, TOY)
    flipped_view = GRAY[:, ::-1]
    assert draw_pose(flipped_view, POINTS, TOY).shape == GRAY.shape


def test_each_map_is_drawn_in_its_hue():
    maps = np.zeros((20, 30, 3), np.float32)
    maps[5, 10, 0] = maps[5, 20, 1] = maps[15, 10, 2] = 1
    image = draw_maps(GRAY, maps, TOY)
    assert image.shape == GRAY.shape
    # Cell u covers ten pixels; its center is at 10 u + 4.5. The hues of three keypoints are 0, 120 and 240 degrees.
    found = [cv2.cvtColor(image[y:y + 1, x:x + 1], cv2.COLOR_RGB2HSV)[0, 0]
             for x, y in ((104, 54), (204, 54), (104, 154))]
    assert [int(hue) for hue, _, _ in found] == [0, 60, 120]
    np.testing.assert_array_equal(image[100, 250], [72, 72, 72])  # 0.6 of the background


def test_values_of_maps_are_clipped():
    maps = np.full((4, 4, 3), np.nan, np.float32)
    maps[0, 0] = [-5, 1e9, 0]
    clipped = np.zeros_like(maps)
    clipped[0, 0] = [0, 1, 0]
    drawn = draw_maps(GRAY, maps, TOY)
    np.testing.assert_array_equal(drawn, draw_maps(GRAY, clipped, TOY))
    assert (drawn != draw_maps(GRAY, np.zeros_like(maps), TOY)).any()


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_sheet_has_every_complete_image_in_its_tile(count):
    images = [np.full((30 + 40 * (i % 2), 50, 3), 60 + 20 * i, np.uint8) for i in range(count)]
    whole = sheet(images, 3, tile=64)
    rows = -(-count // 3)
    step = 64 + drawing.TILE_GAP
    assert whole.shape == (rows * step + drawing.TILE_GAP, 3 * step + drawing.TILE_GAP, 3)
    for i, image in enumerate(images):
        found = np.argwhere((whole == 60 + 20 * i).all(-1))
        height, width = found.max(0) - found.min(0) + 1
        assert max(height, width) == 64
        assert width / height == pytest.approx(50 / image.shape[0], rel=0.03)
        top, left = drawing.TILE_GAP + i // 3 * step, drawing.TILE_GAP + i % 3 * step
        assert (found >= [top, left]).all() and (found < [top + 64, left + 64]).all()


def test_written_image_is_read_back_unchanged(tmp_path, rng):
    image = rng.integers(0, 256, (9, 7, 3), np.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1], image)
    with pytest.raises(InputError, match=r"a.odd: cannot be written as an image; give a name that ends with .jpg"):
        write_image(tmp_path / "a.odd", image)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_limbs_of_every_schema_can_be_drawn(rng):
    for schema in (*SCHEMAS.values(), LSP14):
        assert (draw_pose(GRAY, rng.uniform(0, 200, (schema.size, 2)), schema) != GRAY).any()
