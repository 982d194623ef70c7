"""Records: checked when created, immutable, converted to other schemas by the keypoints' names."""

from dataclasses import replace

import numpy as np
import pytest

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.records import Record, Visibility, checked_conversion, converted
from posecascade.schema import LSP14, MPII16, SCHEMAS, Schema

EVERY = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
TOY = Schema("toy", ("left_hand", "right_hand", "head"), (("left_hand", "right_hand"),), head=("head", "left_hand"))


def person(schema=TOY, points=None, visibility=None, **options):
    points = np.arange(2.0 * schema.size).reshape(-1, 2) if points is None else points
    visibility = np.full(schema.size, 2) if visibility is None else visibility
    return Record(None, "annot.json, person 17", schema, Box(0, 0, 9, 9), points, visibility, **options)


def by_name(record):
    return {name: (*record.keypoints[i], record.visibility[i]) for i, name in enumerate(record.schema.keypoints)
            if record.labeled[i]}


@pytest.mark.parametrize("other", SCHEMAS.values(), ids=lambda schema: schema.name)
@EVERY
def test_conversion_keeps_the_keypoints_that_both_schemas_have(schema, other, rng):
    record = person(schema, rng.uniform(0, 99, (schema.size, 2)), rng.integers(0, 3, schema.size), head_size=12.0)
    result = converted(record, other)
    assert result.schema == other
    assert by_name(result) == {name: v for name, v in by_name(record).items() if name in other.keypoints}
    assert np.isnan(result.keypoints[~result.labeled]).all()
    assert (result.head_size, result.box, result.origin) == (record.head_size, record.box, record.origin)
    back = converted(result, schema)
    assert by_name(back) == by_name(result)


def test_conversion_to_an_equal_schema_returns_the_record():
    record = person()
    assert converted(record, replace(TOY)) is record


def test_coordinates_of_unlabeled_keypoints_are_nan():
    """Data sets write (0, 0), negative numbers or NaN for them."""
    record = person(points=[[0, 0], [-1, -1], [np.nan, np.nan]], visibility=[0, 0, 0])
    assert np.isnan(record.keypoints).all()
    assert not record.labeled.any()
    # A labeled keypoint may be at (0, 0) or outside the image.
    assert person(points=[[0, 0], [-5, 2], [3, 4]]).labeled.all()


def test_arrays_of_a_record_are_read_only_copies():
    points, visibility = np.ones((3, 2)), np.array([2, 1, 0])
    record = person(points=points, visibility=visibility)
    points[:], visibility[:] = 7, 1
    np.testing.assert_array_equal(record.visibility, [2, 1, 0])
    np.testing.assert_array_equal(record.keypoints[:2], 1)
    for array in (record.keypoints, record.visibility):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert (record.keypoints.dtype, record.visibility.dtype) == (np.float64, np.int8)


@pytest.mark.parametrize(("points", "visibility", "problem"), [
    (np.zeros((2, 2)), [2, 2, 2], "has keypoints of shape (2, 2) and visibility of shape (3,), schema 'toy' has 3 "
                                  "keypoints; pass --schema or fix the file"),
    (np.zeros((3, 3)), [2, 2, 2], "has keypoints of shape (3, 3) and visibility of shape (3,), schema 'toy' has 3 "
                                  "keypoints; pass --schema or fix the file"),
    (np.zeros((3, 2)), [2, 2], "has keypoints of shape (3, 2) and visibility of shape (2,), schema 'toy' has 3 "
                               "keypoints; pass --schema or fix the file"),
    (np.zeros((3, 2)), [2, 3, -1], "visibility is [2, 3, -1], expected 0 (unlabeled), 1 (occluded) or 2 (visible) "
                                   "each; fix the file"),
    ([[0, 0], [np.nan, 1], [0, 0]], [2, 1, 0], "a labeled keypoint has no finite coordinates; fix the file"),
    ([[0, 0], [np.inf, 1], [0, 0]], [2, 2, 0], "a labeled keypoint has no finite coordinates; fix the file")], ids=str)
def test_wrong_record_is_refused_with_its_origin(points, visibility, problem):
    with pytest.raises(InputError) as caught:
        person(points=points, visibility=visibility)
    assert str(caught.value) == f"annot.json, person 17: {problem}"


def test_length_needs_two_labeled_ends():
    record = person(points=[[0, 0], [1, 1], [3, 4]])
    assert record.length("head") == 5
    assert record.length("torso") is None  # the schema has none
    for hidden, length in ((Visibility.OCCLUDED, 5), (Visibility.UNLABELED, None)):
        assert person(points=[[0, 0], [1, 1], [3, 4]], visibility=[hidden, 2, 2]).length("head") == length


def test_people_without_a_keypoint_in_the_schema_are_dropped():
    thorax = np.where(np.array(MPII16.keypoints) == "thorax", 2, 0)
    people = [person(MPII16), person(MPII16, visibility=thorax)]
    [kept] = checked_conversion(people, LSP14)
    assert kept.schema == LSP14
    with pytest.raises(InputError) as caught:
        checked_conversion(people[1:], LSP14)
    assert str(caught.value) == ("no person has a labeled keypoint of schema 'lsp14' (data: 1 people, schema "
                                 "'mpii16'); choose another --data or schema")
    with pytest.raises(InputError, match=r"\(data: 0 people, schema 'none'\)"):
        checked_conversion([], LSP14)


def test_record_without_an_image_is_named_by_its_origin():
    class Image:
        name = "a.jpg"

    assert person().image_name == "annot.json, person 17"
    assert replace(person(), image=Image()).image_name == "a.jpg"
