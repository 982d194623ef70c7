"""Test augmentation: keypoints follow the image, variations keep limits and shares, all is random by one generator."""

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
    occluded,
    random_transform,
    target,
    transformed,
)

EVERY = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
MEASURED = 0.1  # crop pixels: centroid of a spot of 8 bits, shrunk and warped
PLACED = Augmentation(color_jitter=0, occluder_prob=0)  # geometry alone
UNLABELED, OCCLUDED, VISIBLE = Visibility
OCCLUDERS_INSIDE = range(6)  # seeds whose occluder covers some keypoints of the grid


def spots(height, width, places, sigma):
    """Return a black image with a red spot at the first place and a green one at the second."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for channel, place in enumerate(places):
        image[..., channel] = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma ** 2))
    return np.rint(image).astype(np.uint8)


def centroid(channel):
    weight = np.maximum(channel.astype(float) - 130, 0)  # excludes the gray border
    y, x = np.mgrid[:channel.shape[0], :channel.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def assert_same(one, other):
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    np.testing.assert_array_equal(one.visibility, other.visibility)


# --- geometry -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2 ** 32), side=st.floats(60, 560), flip=st.sampled_from([0.0, 1.0]),
       places=st.tuples(*[st.floats(15, 80)] * 4), schema=st.sampled_from(list(SCHEMAS.values())))
@settings(max_examples=60, deadline=None)
def test_spots_are_at_their_keypoints_and_a_flip_swaps_left_and_right(seed, side, flip, places, schema):
    """The left wrist is red, the right one green; after a flip the red one is the right wrist."""
    how = dataclasses.replace(PLACED, flip_prob=flip, half_body_prob=0)
    left, right = schema.index("left_wrist"), schema.index("right_wrist")
    box = Box(300 - side / 2, 280 - side / 2, side, side)
    transform = random_transform(person(schema, box=box), SIZE, np.random.default_rng(seed), how)
    ends = transform.inverse()(np.array(places).reshape(2, 2))
    points = np.full((schema.size, 2), 300.0)
    points[[left, right]] = ends
    image = spots(560, 600, ends, max(2.5 / transform.zoom, 1.5))
    record = Record(Picture(image), "somebody", schema, box, points, np.full(schema.size, 2))
    sample = load_sample(record, SIZE, np.random.default_rng(seed), how)
    if flip:
        left, right = right, left
    # The centroid of a spot that an edge of the image or crop cuts is not at its center.
    for channel, joint, end, place in ((0, left, ends[0], places[:2]), (1, right, ends[1], places[2:])):
        np.testing.assert_allclose(sample.keypoints[joint], place, atol=1e-9)
        if (end > 20 / transform.zoom).all() and (end < np.array([600, 560]) - 20 / transform.zoom).all():
            np.testing.assert_allclose(centroid(sample.image[..., channel]), place, atol=MEASURED)


@pytest.mark.parametrize("side", [60, 150, 600])
def test_sample_without_augmentation_is_the_crop_of_prediction(side, rng):
    """Evaluation during training and `Predictor` read the same pixels, whether the image is shrunk or not."""
    image = cv2.GaussianBlur(rng.integers(0, 256, (700, 800, 3), np.uint8), (0, 0), 2)
    record = person(image=image, box=Box(90, 50, side, side / 2))
    sample = load_sample(record, SIZE)
    plain = crop_transform(record.box, SIZE)
    expected = images.crop(image, plain, SIZE)
    assert np.abs(sample.image.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(transformed(record, expected, plain).keypoints, sample.keypoints)
    assert_same(sample, load_sample(record, SIZE, rng, NONE))


@pytest.mark.parametrize("seed", range(5))
def test_image_is_interpolated_once(seed):
    """The sample equals one warp of the full-size image by the composed transform, pixel for pixel."""
    record = person()
    transform = random_transform(record, SIZE, np.random.default_rng(seed), PLACED)
    sample = load_sample(record, SIZE, np.random.default_rng(seed), PLACED)
    np.testing.assert_array_equal(sample.image, images.warp(record.image.image, transform, SIZE))


@given(seed=st.integers(0, 2 ** 32))
@settings(max_examples=50, deadline=None)
def test_keypoints_outside_the_crop_have_weight_0(seed):
    rng = np.random.default_rng(seed)
    record = Record(Picture(np.zeros((50, 50, 3), np.uint8)), "a", LSP14, Box(60, 60, 100, 100),
                    rng.uniform(0, 220, (14, 2)), rng.integers(0, 3, 14))
    transform = random_transform(record, SIZE, np.random.default_rng(seed), PLACED)
    table = target(load_sample(record, SIZE, np.random.default_rng(seed), PLACED))
    order = LSP14.flip_order if np.linalg.det(transform.matrix[:, :2]) < 0 else np.arange(14)
    points, codes = transform(record.keypoints)[order], record.visibility[order]
    kept = (codes > 0) & inside(points, SIZE, SIZE)
    np.testing.assert_array_equal(table[:, 2], kept)
    np.testing.assert_array_equal(table[:, 3], kept & (codes == VISIBLE))
    np.testing.assert_allclose(table[kept, :2], points[kept], atol=1e-4)
    np.testing.assert_array_equal(table[~kept, :2], 0)
    assert table.dtype == np.float32


def test_variations_keep_limits_and_shares():
    """In 1000 draws each share is within 5 standard deviations of a binomial; angle and size are within limits."""
    how = Augmentation(flip_prob=0.3, scale_log_std=0.5, scale_range=(0.7, 1.4), rotation_std_deg=40,
                       rotation_max_deg=50, rotation_prob=0.6, shift_max=0.1, half_body_prob=0)
    record, plain = person(), crop_transform(person().box, SIZE)
    flips, rotated = 0, 0
    for seed in range(1000):
        transform = random_transform(record, SIZE, np.random.default_rng(seed), how)
        assert 0.7 - 1e-9 <= transform.zoom / plain.zoom <= 1.4 + 1e-9
        flips += np.linalg.det(transform.matrix[:, :2]) < 0
        down = transform.matrix[:, :2] @ [0, 1]  # a flip does not change y
        angle = np.degrees(np.arctan2(abs(down[0]), down[1]))
        assert angle <= 50 + 1e-9
        rotated += angle > 1e-9
        middle = transform.inverse()(np.full(2, (SIZE - 1) / 2)) - record.box.center
        assert np.abs(middle).max() <= 0.1 * record.box.side + 1e-9
    for count, share in ((flips, 0.3), (rotated, 0.6)):
        assert abs(count - 1000 * share) <= 5 * np.sqrt(1000 * share * (1 - share))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_half_body_is_the_box_of_the_upper_or_lower_keypoints(name):
    schema = SCHEMAS[name]
    record = person(schema)
    below = np.array([name.split("_")[-1] in ("hip", "knee", "ankle") for name in schema.keypoints])
    result = [half_body_box(record, np.random.default_rng(seed)) for seed in range(20)]
    expected = {Box.around(record.keypoints[half], min_size=40) for half in (below, ~below)}
    assert set(result) == expected


def test_half_bodies_occur_with_their_probability():
    record, how = person(), dataclasses.replace(NONE, half_body_prob=0.2)
    whole = crop_transform(record.box, SIZE).zoom
    halves = sum(random_transform(record, SIZE, np.random.default_rng(seed), how).zoom != whole for seed in range(1000))
    assert abs(halves - 200) <= 5 * np.sqrt(1000 * 0.2 * 0.8)


def test_half_body_with_few_keypoints_is_the_complete_box():
    feet = np.where(np.array(["ankle" in name or "knee" in name for name in LSP14.keypoints]), 2, 0)
    two = np.where(np.arange(14) < 2, 2, 0)
    for codes in (feet, two):
        record = person(visibility=codes)
        assert {half_body_box(record, np.random.default_rng(seed)) for seed in range(9)} == {record.box}


# --- colors and occluders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.1, 0.25])
def test_colors_change_within_their_strength_and_labels_do_not(strength):
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    sample = Sample(levels, np.zeros((14, 2)), np.full(14, 2), LSP14)
    result = np.stack([colored(sample, np.random.default_rng(seed), strength).image[0] for seed in range(60)])
    middle = np.arange(256)[:, None] - 128.0
    gain = np.array([(1 - strength) * (1 - strength / 3), (1 + strength) * (1 + strength / 3)])
    reach = np.sort(middle * gain, axis=1) + 128 + 255 * strength / 2 * np.array([-1, 1])
    low, high = np.clip(reach, 0, 255).T
    assert (result >= np.floor(low)[:, None]).all()
    assert (result <= high[:, None]).all()
    assert (np.diff(result.astype(int), axis=1) >= 0).all()  # the order of gray levels is kept
    assert np.ptp(result[:, 128].astype(float), axis=0).min() > 255 * strength / 2  # half of the range is used
    assert (result[:, 60] - result[:, 60, :1]).any()  # channels differ: the hue changes, not only the brightness
    one = colored(sample, np.random.default_rng(0), strength)
    assert one.keypoints is sample.keypoints
    assert one.visibility is sample.visibility


def test_strength_0_changes_nothing(rng):
    sample = sample_of(LSP14, rng)
    assert colored(sample, rng, 0) is sample


@EVERY
def test_covered_keypoints_become_occluded_and_keep_their_positions(schema, rng, monkeypatch):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, 40:] = True
    mask[0, 0] = True  # unlabeled keypoints, stored as NaN, must not be read as (0, 0)
    monkeypatch.setattr(augment, "paste_occluder", lambda image, *_: (np.where(mask[..., None], 9, image), mask))
    sample = sample_of(schema, rng)
    result = occluded(sample, rng, Augmentation(occluder_prob=1))
    hidden = np.rint(np.nan_to_num(sample.keypoints[:, 0])) >= 40
    expected = np.where(hidden & (sample.visibility == VISIBLE), OCCLUDED, sample.visibility)
    np.testing.assert_array_equal(result.visibility, expected)
    assert {*sample.visibility} == {UNLABELED, OCCLUDED, VISIBLE}
    np.testing.assert_array_equal(result.keypoints, sample.keypoints)
    assert (result.image[:, 40:] == 9).all()
    np.testing.assert_array_equal(target(result)[:, 2], target(sample)[:, 2])  # still in the loss


@pytest.mark.parametrize("seed", OCCLUDERS_INSIDE)
def test_pasted_object_hides_exactly_the_keypoints_it_covers(seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[4:92:8, 4:92:8]
    grid = dataclasses.replace(LSP14, keypoints=tuple(f"k{i}" for i in range(x.size)), pairs=(), limbs=(), head=None,
                               torso=None, sigmas=None)
    sample = Sample(np.full((SIZE, SIZE, 3), 250, np.uint8), np.stack([x.ravel(), y.ravel()], -1).astype(float),
                    np.full(x.size, VISIBLE, np.int8), grid)
    result = occluded(sample, rng, Augmentation(occluder_prob=1, occluder_size=(0.3, 0.5)))
    changed = (result.image != sample.image).any(-1)
    at_keypoints = changed[y.ravel(), x.ravel()]
    assert (result.visibility[at_keypoints] == OCCLUDED).all()
    assert (sample.image == 250).all()
    hidden = result.visibility == OCCLUDED
    # Nearly all covered pixels change (paint can by chance equal the background).
    assert hidden.any() and not hidden.all()
    assert at_keypoints[hidden].mean() > 0.8


def test_occluders_occur_with_their_probability():
    sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((14, 2)), np.full(14, VISIBLE), LSP14)
    pasted = [occluded(sample, np.random.default_rng(seed), Augmentation()) is not sample for seed in range(1000)]
    assert abs(sum(pasted) - 300) <= 5 * np.sqrt(1000 * 0.3 * 0.7)


# --- randomness -----------------------------------------------------------------------------------------------------


@EVERY
def test_same_generator_gives_the_same_sample_and_changes_no_argument(schema):
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


def test_steps_do_not_change_their_arguments(rng):
    sample = sample_of(LSP14, rng)
    copy = Sample(sample.image.copy(), sample.keypoints.copy(), sample.visibility.copy(), LSP14)
    colored(sample, rng, 0.3), occluded(sample, rng, Augmentation(occluder_prob=1)), target(sample)
    assert_same(sample, copy)


def test_unreadable_image_is_reported(tmp_path):
    record = dataclasses.replace(person(), image=images.ImageFile(tmp_path / "none.jpg"))
    with pytest.raises(InputError, match=r"none.jpg: cannot be read \(No such file or directory\); check the path"):
        load_sample(record, SIZE)


def test_empty_target_has_no_weight():
    assert empty_target(LSP14).shape == (14, 4)
    assert not empty_target(LSP14).any()


@pytest.mark.parametrize(("change", "problem"), [
    ({"flip_prob": 1.5}, "flip_prob is 1.5, expected 0 to 1"),
    ({"color_jitter": -0.1}, "color_jitter is -0.1, expected 0 to 1"),
    ({"rotation_std_deg": -1.0}, "rotation_std_deg is -1.0, expected at least 0"),
    ({"scale_log_std": float("nan")}, "scale_log_std is nan, expected at least 0"),
    ({"scale_range": (1.4, 0.7)}, "scale_range is [1.4, 0.7], expected [LOW, HIGH] with 0 < LOW <= HIGH"),
    ({"occluder_size": (0.0, 0.7)}, "occluder_size is [0.0, 0.7], expected [LOW, HIGH] with 0 < LOW <= HIGH")], ids=str)
def test_settings_outside_their_range_are_refused(change, problem):
    with pytest.raises(InputError) as caught:
        Augmentation(**change)
    assert str(caught.value) == problem
