"""Flips change pixels, coordinates, visibility and channels consistently, in every schema."""

import dataclasses

import numpy as np
import pytest
from toy_people import SIZE, person, sample_of

from posecascade.codec.targets import confidence_maps, part_discs
from posecascade.records import Record, Sample, converted
from posecascade.schema import SCHEMAS
from posecascade.training.augment import NONE, load_sample, target

EVERY = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)


def flipped(sample):
    """Return the mirrored sample, by indexing alone."""
    order = sample.schema.flip_order
    keypoints = np.column_stack([sample.image.shape[1] - 1 - sample.keypoints[:, 0], sample.keypoints[:, 1]])
    return Sample(sample.image[:, ::-1], keypoints[order], sample.visibility[order], sample.schema)


@EVERY
def test_maps_of_a_mirrored_person_are_mirrored_maps_with_exchanged_channels(schema, rng):
    sample = sample_of(schema, rng)
    mirror = flipped(sample)
    for make in (lambda points: part_discs(points, 24, 24, stride=4, radius=8),
                 lambda points: confidence_maps(points, 24, 24, stride=4, sigma=6)):
        plain, swapped = (np.asarray(make(target(s)[None, :, :2]))[0] * target(s)[:, 2] for s in (sample, mirror))
        np.testing.assert_allclose(swapped, plain[:, ::-1][..., schema.flip_order], atol=1e-5)


@EVERY
def test_flipping_crop_equals_the_flipped_crop(schema, rng):
    record = person(schema, visibility=rng.integers(0, 3, schema.size))
    plain = load_sample(record, SIZE)
    mirror = load_sample(record, SIZE, rng, dataclasses.replace(NONE, flip_prob=1))
    expected = flipped(plain)
    np.testing.assert_allclose(mirror.keypoints, expected.keypoints, atol=1e-9)
    np.testing.assert_array_equal(mirror.visibility, expected.visibility)
    assert np.abs(mirror.image.astype(int) - expected.image).max() <= 1  # bilinear weights are rounded differently


@pytest.mark.parametrize("other", SCHEMAS.values(), ids=lambda schema: schema.name)
@EVERY
def test_flip_and_conversion_commute(schema, other, rng):
    record = person(schema, visibility=rng.integers(0, 3, schema.size))
    how = dataclasses.replace(NONE, flip_prob=1)
    first = load_sample(converted(record, other), SIZE, rng, how)
    mirror = load_sample(record, SIZE, rng, how)
    back = converted(Record(None, "a", schema, record.box, mirror.keypoints, mirror.visibility), other)
    np.testing.assert_array_equal(first.keypoints, back.keypoints)
    np.testing.assert_array_equal(first.visibility, back.visibility)
