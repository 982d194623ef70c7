"""Augmentation: dots where the transform says, limits and shares, occluders, chance from the generator alone."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_people import SIZE, Picture, person, sample_of

from posecascade import images
from posecascade.errors import InputError
from posecascade.geometry import Box, crop_transform, inside
from posecascade.records import Record, Sample, Visibility
from posecascade.schema import LSP14, SCHEMAS
from posecascade.training import augment
from posecascade.training.augment import (
    NONE,
    Augmentation,
    colored,
    empty_target,
    half_body_box,
    load_sample,
    moved,
    occluded,
    random_transform,
    target,
)

EVERY = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
MEASURED = 0.1  # crop pixels: centroid of a spot of 8 bits, shrunk and warped
PLACED = Augmentation(color_jitter=0, occluder_prob=0)  # geometry alone
UNLABELED, OCCLUDED, VISIBLE = Visibility


def spots(height, width, places, sigma):
    """Red at the first place, green at the second, on black."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for channel, place in enumerate(places):
        image[..., channel] = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma ** 2))
    return np.rint(image).astype(np.uint8)


def centroid(channel):
    weight = np.maximum(channel.astype(float) - 130, 0)  # the border's gray left out
    y, x = np.mgrid[:channel.shape[0], :channel.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def assert_same(one, other):
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    np.testing.assert_array_equal(one.visibility, other.visibility)


# --- places ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2 ** 32), side=st.floats(60, 560), flip=st.sampled_from([0.0, 1.0]),
       places=st.tuples(*[st.floats(15, 80)] * 4), schema=st.sampled_from(list(SCHEMAS.values())))
@settings(max_examples=60, deadline=None)
def test_a_dot_is_found_where_its_joint_went_and_a_flip_calls_it_by_its_twin_s_name(seed, side, flip, places, schema):
    """A red dot on the left wrist, a green one on the right; in the mirror the red one is a right wrist."""
    how = dataclasses.replace(PLACED, flip_prob=flip, half_body_prob=0)
    left, right = schema.index("left_wrist"), schema.index("right_wrist")
    box = Box(300 - side / 2, 280 - side / 2, side, side)
    where = random_transform(person(schema, box=box), SIZE, np.random.default_rng(seed), how)
    ends = where.inverse()(np.array(places).reshape(2, 2))
    points = np.full((schema.size, 2), 300.0)
    points[[left, right]] = ends
    image = spots(560, 600, ends, max(2.5 / where.zoom, 1.5))
    record = Record(Picture(image), "somebody", schema, box, points, np.full(schema.size, 2))
    sample = load_sample(record, SIZE, np.random.default_rng(seed), how)
    if flip:
        left, right = right, left
    # A spot that the picture's or the crop's edge cuts has its centroid elsewhere.
    for channel, joint, end, place in ((0, left, ends[0], places[:2]), (1, right, ends[1], places[2:])):
        np.testing.assert_allclose(sample.keypoints[joint], place, atol=1e-9)
        if (end > 20 / where.zoom).all() and (end < np.array([600, 560]) - 20 / where.zoom).all():
            np.testing.assert_allclose(centroid(sample.image[..., channel]), place, atol=MEASURED)


@pytest.mark.parametrize("side", [60, 150, 600])
def test_without_chance_it_is_the_crop_that_prediction_makes(side, rng):
    """Training's evaluation and `Predictor` see the same pixels, shrunk or not."""
    image = cv2.GaussianBlur(rng.integers(0, 256, (700, 800, 3), np.uint8), (0, 0), 2)
    record = person(image=image, box=Box(90, 50, side, side / 2))
    sample = load_sample(record, SIZE)
    wanted = images.crop(image, crop_transform(record.box, SIZE), SIZE)
    assert np.abs(sample.image.astype(int) - wanted).max() <= 1
    np.testing.assert_array_equal(moved(record, wanted, crop_transform(record.box, SIZE)).keypoints, sample.keypoints)
    assert_same(sample, load_sample(record, SIZE, rng, NONE))


def test_one_warp_makes_a_sample(monkeypatch):
    calls, real = [], cv2.warpAffine
    monkeypatch.setattr(cv2, "warpAffine", lambda *a, **k: calls.append(1) or real(*a, **k))
    load_sample(person(), SIZE, np.random.default_rng(0), dataclasses.replace(Augmentation(), occluder_prob=0))
    assert len(calls) == 1


@given(seed=st.integers(0, 2 ** 32))
@settings(max_examples=50, deadline=None)
def test_joints_that_leave_the_crop_get_weight_0_and_are_not_put_on_its_edge(seed):
    rng = np.random.default_rng(seed)
    record = Record(Picture(np.zeros((50, 50, 3), np.uint8)), "a", LSP14, Box(60, 60, 100, 100),
                    rng.uniform(0, 220, (14, 2)), rng.integers(0, 3, 14))
    where = random_transform(record, SIZE, np.random.default_rng(seed), PLACED)
    table = target(load_sample(record, SIZE, np.random.default_rng(seed), PLACED))
    order = LSP14.flip_order if np.linalg.det(where.matrix[:, :2]) < 0 else np.arange(14)
    points, codes = where(record.keypoints)[order], record.visibility[order]
    kept = (codes > 0) & inside(points, SIZE, SIZE)
    np.testing.assert_array_equal(table[:, 2], kept)
    np.testing.assert_array_equal(table[:, 3], kept & (codes == VISIBLE))
    np.testing.assert_allclose(table[kept, :2], points[kept], atol=1e-4)
    np.testing.assert_array_equal(table[~kept, :2], 0)
    assert table.dtype == np.float32


def test_variations_keep_their_limits_and_shares():
    """Of 1000 draws each share lies within 5 deviations of a binomial; the angle and size within their limits."""
    how = Augmentation(flip_prob=0.3, scale_log_std=0.5, scale_range=(0.7, 1.4), rotation_std_deg=40,
                       rotation_max_deg=50, rotation_prob=0.6, shift_max=0.1, half_body_prob=0)
    record, plain = person(), crop_transform(person().box, SIZE)
    flips, turned = 0, 0
    for seed in range(1000):
        where = random_transform(record, SIZE, np.random.default_rng(seed), how)
        assert 0.7 - 1e-9 <= where.zoom / plain.zoom <= 1.4 + 1e-9
        flips += np.linalg.det(where.matrix[:, :2]) < 0
        down = where.matrix[:, :2] @ [0, 1]  # a mirror leaves y as it is
        angle = np.degrees(np.arctan2(abs(down[0]), down[1]))
        assert angle <= 50 + 1e-9
        turned += angle > 1e-9
        middle = where.inverse()(np.full(2, (SIZE - 1) / 2)) - record.box.center
        assert np.abs(middle).max() <= 0.1 * record.box.side + 1e-9
    for count, share in ((flips, 0.3), (turned, 0.6)):
        assert abs(count - 1000 * share) <= 5 * np.sqrt(1000 * share * (1 - share))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_half_a_body_is_the_upper_or_the_lower_joints_box(name):
    schema = SCHEMAS[name]
    record = person(schema)
    below = np.array([name.split("_")[-1] in ("hip", "knee", "ankle") for name in schema.keypoints])
    found = [half_body_box(record, np.random.default_rng(seed)) for seed in range(20)]
    wanted = {Box.around(record.keypoints[half], min_size=40) for half in (below, ~below)}
    assert set(found) == wanted


def test_half_bodies_come_in_their_share():
    record, how = person(), dataclasses.replace(NONE, half_body_prob=0.2)
    whole = crop_transform(record.box, SIZE).zoom
    halves = sum(random_transform(record, SIZE, np.random.default_rng(seed), how).zoom != whole for seed in range(1000))
    assert abs(halves - 200) <= 5 * np.sqrt(1000 * 0.2 * 0.8)


def test_half_a_body_with_few_joints_is_the_whole():
    feet = np.where(np.array(["ankle" in name or "knee" in name for name in LSP14.keypoints]), 2, 0)
    two = np.where(np.arange(14) < 2, 2, 0)
    for codes in (feet, two):
        record = person(visibility=codes)
        assert {half_body_box(record, np.random.default_rng(seed)) for seed in range(9)} == {record.box}


# --- colors and occluders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.1, 0.25])
def test_colors_change_within_their_strength_and_nothing_else_does(strength):
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    sample = Sample(levels, np.zeros((14, 2)), np.full(14, 2), LSP14)
    found = np.stack([colored(sample, np.random.default_rng(seed), strength).image[0] for seed in range(60)])
    middle = np.arange(256)[:, None] - 128.0
    gain = np.array([(1 - strength) * (1 - strength / 3), (1 + strength) * (1 + strength / 3)])
    reach = np.sort(middle * gain, axis=1) + 128 + 255 * strength / 2 * np.array([-1, 1])
    low, high = np.clip(reach, 0, 255).T
    assert (found >= np.floor(low)[:, None]).all()
    assert (found <= high[:, None]).all()
    assert (np.diff(found.astype(int), axis=1) >= 0).all()  # brighter stays brighter
    assert np.ptp(found[:, 128].astype(float), axis=0).min() > 255 * strength / 2  # half of the range is used
    assert (found[:, 60] - found[:, 60, :1]).any()  # channels differ: a cast, not only brightness
    one = colored(sample, np.random.default_rng(0), strength)
    assert one.keypoints is sample.keypoints
    assert one.visibility is sample.visibility


def test_no_strength_is_no_change(rng):
    sample = sample_of(LSP14, rng)
    assert colored(sample, rng, 0) is sample


@EVERY
def test_what_an_occluder_covers_is_occluded_and_its_joints_keep_their_place(schema, rng, monkeypatch):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, 40:] = True
    mask[0, 0] = True  # where unlabeled joints would seem to be
    monkeypatch.setattr(augment, "paste_occluder", lambda image, *_: (np.where(mask[..., None], 9, image), mask))
    sample = sample_of(schema, rng)
    found = occluded(sample, rng, Augmentation(occluder_prob=1))
    hidden = np.rint(np.nan_to_num(sample.keypoints[:, 0])) >= 40
    wanted = np.where(hidden & (sample.visibility == VISIBLE), OCCLUDED, sample.visibility)
    np.testing.assert_array_equal(found.visibility, wanted)
    assert {*sample.visibility} == {UNLABELED, OCCLUDED, VISIBLE}
    np.testing.assert_array_equal(found.keypoints, sample.keypoints)
    assert (found.image[:, 40:] == 9).all()
    np.testing.assert_array_equal(target(found)[:, 2], target(sample)[:, 2])  # still in the loss


@pytest.mark.parametrize("seed", range(6))
def test_a_pasted_object_changes_pixels_near_what_it_hides_alone(seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[4:92:8, 4:92:8]
    grid = dataclasses.replace(LSP14, keypoints=tuple(f"k{i}" for i in range(x.size)), pairs=(), limbs=(), head=None,
                               torso=None, sigmas=None)
    sample = Sample(np.full((SIZE, SIZE, 3), 250, np.uint8), np.stack([x.ravel(), y.ravel()], -1).astype(float),
                    np.full(x.size, VISIBLE, np.int8), grid)
    found = occluded(sample, rng, Augmentation(occluder_prob=1, occluder_size=(0.3, 0.5)))
    changed = (found.image != sample.image).any(-1)
    at_joints = changed[y.ravel(), x.ravel()]
    assert (found.visibility[at_joints] == OCCLUDED).all()
    assert (sample.image == 250).all()
    hidden = found.visibility == OCCLUDED
    # Covered pixels nearly all change (paint may by chance equal the ground): most hidden joints lie on changed ones.
    assert at_joints[hidden].mean() > 0.8 if hidden.any() else True


def test_occluders_come_in_their_share(monkeypatch):
    monkeypatch.setattr(augment, "paste_occluder", lambda image, *_: (image, np.ones(image.shape[:2], bool)))
    sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((14, 2)), np.full(14, VISIBLE), LSP14)
    hidden = [occluded(sample, np.random.default_rng(seed), Augmentation()).visibility[0] == OCCLUDED
              for seed in range(1000)]
    assert abs(sum(hidden) - 300) <= 5 * np.sqrt(1000 * 0.3 * 0.7)


# --- chance ---------------------------------------------------------------------------------------------------------


@EVERY
def test_the_same_generator_gives_the_same_sample_and_nothing_given_is_changed(schema):
    record, world = person(schema), np.random.get_state()  # noqa: NPY002
    before = record.image.image.copy(), record.keypoints.copy(), record.visibility.copy()
    first, again = (load_sample(record, SIZE, np.random.default_rng(5), Augmentation()) for _ in range(2))
    assert_same(first, again)
    other = load_sample(record, SIZE, np.random.default_rng(6), Augmentation())
    assert (other.image != first.image).any()
    for array, was in zip((record.image.image, record.keypoints, record.visibility), before, strict=True):
        np.testing.assert_array_equal(array, was)
    for mine, theirs in zip(np.random.get_state(), world, strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(mine, theirs)


def test_stages_change_nothing_that_they_are_given(rng):
    sample = sample_of(LSP14, rng)
    copy = Sample(sample.image.copy(), sample.keypoints.copy(), sample.visibility.copy(), LSP14)
    colored(sample, rng, 0.3), occluded(sample, rng, Augmentation(occluder_prob=1)), target(sample)
    assert_same(sample, copy)


def test_a_picture_that_cannot_be_read_is_told(tmp_path):
    record = dataclasses.replace(person(), image=images.ImageFile(tmp_path / "none.jpg"))
    with pytest.raises(InputError, match=r"none.jpg: cannot be read \(No such file or directory\); check the path"):
        load_sample(record, SIZE)


def test_an_empty_target_teaches_nothing():
    assert empty_target(LSP14).shape == (14, 4)
    assert not empty_target(LSP14).any()


@pytest.mark.parametrize(("change", "problem"), [
    ({"flip_prob": 1.5}, "flip_prob is 1.5, expected 0 to 1"),
    ({"color_jitter": -0.1}, "color_jitter is -0.1, expected 0 to 1"),
    ({"rotation_std_deg": -1.0}, "rotation_std_deg is -1.0, expected at least 0"),
    ({"scale_log_std": float("nan")}, "scale_log_std is nan, expected at least 0"),
    ({"scale_range": (1.4, 0.7)}, "scale_range is [1.4, 0.7], expected [LOW, HIGH] with 0 < LOW <= HIGH"),
    ({"occluder_size": (0.0, 0.7)}, "occluder_size is [0.0, 0.7], expected [LOW, HIGH] with 0 < LOW <= HIGH")], ids=str)
def test_knobs_beyond_their_range_are_refused(change, problem):
    with pytest.raises(InputError) as caught:
        Augmentation(**change)
    assert str(caught.value) == problem
