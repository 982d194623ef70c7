"""Schemas: published orders and pairs, mirrors, conversions by name, YAML files, error messages."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.errors import InputError
from posecascade.schema import COCO17, LSP14, MPII16, SCHEMAS, Schema, find_schema, schema_from

EVERY = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)

# The orders in the data sets' documentation, and the mirror pairs of other code bases (HRNet's `flip_pairs`), copied by
# hand.
ORDERS = {
    "mpii16": "r ankle, r knee, r hip, l hip, l knee, l ankle, pelvis, thorax, neck, head top, r wrist, r elbow, "
              "r shoulder, l shoulder, l elbow, l wrist",
    "lsp14": "r ankle, r knee, r hip, l hip, l knee, l ankle, r wrist, r elbow, r shoulder, l shoulder, l elbow, "
             "l wrist, neck, head top",
    "coco17": "nose, l eye, r eye, l ear, r ear, l shoulder, r shoulder, l elbow, r elbow, l wrist, r wrist, l hip, "
              "r hip, l knee, r knee, l ankle, r ankle"}
FLIP_PAIRS = {
    "mpii16": [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)],
    "lsp14": [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)],
    "coco17": [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)]}


@st.composite
def schemas(draw):
    """Generate schemas with any names and pairs."""
    names = draw(st.lists(st.text("abco _019é'#:-", min_size=1, max_size=8), min_size=1, max_size=9, unique=True))
    shuffled = draw(st.permutations(names))
    pairs = tuple(zip(shuffled[::2], shuffled[1::2], strict=False))[:draw(st.integers(0, 4))]
    couple = st.tuples(st.sampled_from(names), st.sampled_from(names)).filter(lambda ends: ends[0] != ends[1])
    limbs = tuple(draw(st.lists(couple, max_size=3))) if len(names) > 1 else ()
    segments = [draw(st.none() | couple) if len(names) > 1 else None for _ in range(2)]
    sigmas = draw(st.none() | st.lists(st.floats(0.001, 1), min_size=len(names), max_size=len(names)).map(tuple))
    # No control characters, which YAML cannot contain unescaped.
    name = draw(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=9))
    reference = draw(st.sampled_from((None, "box", "pixels")))
    return Schema(name, tuple(names), pairs, limbs, *segments, sigmas, reference)


@EVERY
def test_keypoints_are_in_the_order_of_the_data_set(schema):
    names = [name.replace("r ", "right_").replace("l ", "left_").replace("head top", "head_top")
             for name in ORDERS[schema.name].split(", ")]
    assert schema.keypoints == tuple(names)
    assert schema.size == len(names)


@EVERY
def test_flip_order_exchanges_the_published_pairs(schema):
    expected = np.arange(schema.size)
    for one, other in FLIP_PAIRS[schema.name]:
        expected[[one, other]] = other, one
    np.testing.assert_array_equal(schema.flip_order, expected)
    np.testing.assert_array_equal(schema.flip_order[schema.flip_order], np.arange(schema.size))


@EVERY
def test_limbs_and_sigmas_are_symmetric(schema):
    assert all(name.startswith(("left_", "right_")) for pair in schema.pairs for name in pair)
    twins = [schema.keypoints[i] for i in schema.flip_order]
    for name, twin in zip(schema.keypoints, twins, strict=True):
        swapped = {"left_": name.replace("left_", "right_"), "right_": name.replace("right_", "left_")}
        assert twin == next((other for side, other in swapped.items() if name.startswith(side)), name)
    mirror = dict(zip(schema.keypoints, twins, strict=True))
    limbs = {frozenset(limb) for limb in schema.limbs}
    assert limbs == {frozenset(mirror[name] for name in limb) for limb in limbs}
    assert len(limbs) == len(schema.limbs)
    np.testing.assert_array_equal(schema.sigmas, np.array(schema.sigmas)[schema.flip_order])


def test_sigmas_are_those_of_coco():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    published = cocoeval.Params("keypoints").kpt_oks_sigmas
    np.testing.assert_allclose(COCO17.sigmas, published)
    for schema in (MPII16, LSP14):
        order = schema.order_from(COCO17)
        np.testing.assert_array_equal(np.array(schema.sigmas)[order >= 0], np.array(COCO17.sigmas)[order[order >= 0]])


def test_reference_segments_are_those_of_the_papers():
    assert MPII16.segment("head") == (8, 9)
    assert LSP14.segment("torso") == (9, 2)  # the release's "points 10 and 3", counted from 1
    assert COCO17.segment("head") is None


def test_keypoints_are_matched_by_name_between_schemas():
    # The paper's release: LSP 1-6 -> MPII 1-6, 7-12 -> 11-16, 13-14 -> 9-10.
    np.testing.assert_array_equal(LSP14.order_from(MPII16), [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9])
    np.testing.assert_array_equal(MPII16.order_from(LSP14), [0, 1, 2, 3, 4, 5, -1, -1, 12, 13, 6, 7, 8, 9, 10, 11])


@pytest.mark.parametrize("other", SCHEMAS.values(), ids=lambda schema: schema.name)
@EVERY
def test_order_from_matches_names_and_commutes_with_the_mirror(schema, other):
    order = schema.order_from(other)
    for name, at in zip(schema.keypoints, order, strict=True):
        assert (other.keypoints[at] == name) if at >= 0 else name not in other.keypoints
    mirrored = np.where(order >= 0, other.flip_order[order], -1)
    np.testing.assert_array_equal(order[schema.flip_order], mirrored)


@given(schemas())
@settings(max_examples=50, deadline=None)
def test_schema_survives_yaml(schema):
    assert schema_from(yaml.safe_load(yaml.safe_dump(schema.as_dict(), allow_unicode=True)), "a") == schema


@given(schemas())
@settings(deadline=None)
def test_flip_order_of_any_schema_exchanges_its_pairs(schema):
    order = schema.flip_order
    np.testing.assert_array_equal(order[order], np.arange(schema.size))
    moved = {schema.keypoints[i] for i in np.flatnonzero(order != np.arange(schema.size))}
    assert moved == {name for pair in schema.pairs for name in pair}


def test_custom_schema_is_read_from_yaml(tmp_path):
    path = tmp_path / "mouse.yaml"
    path.write_text("name: mouse\nkeypoints: [nose, left_ear, right_ear, tail]\npairs: [[left_ear, right_ear]]\n"
                    "limbs:\n- [nose, tail]\nhead: [left_ear, right_ear]\nsigmas: [0.1, 0.2, 0.2, 1]\n", "utf-8")
    assert find_schema(str(path)) == Schema(
        "mouse", ("nose", "left_ear", "right_ear", "tail"), (("left_ear", "right_ear"),), (("nose", "tail"),),
        head=("left_ear", "right_ear"), sigmas=(0.1, 0.2, 0.2, 1))
    assert find_schema("lsp14") is LSP14


GOOD = {"name": "toy", "keypoints": ["a", "b", "c"]}


@pytest.mark.parametrize(("change", "problem"), [
    ({"keypoints": []}, "in: schema 'toy': 'keypoints' is empty; name at least one keypoint"),
    ({"keypoints": ["a", "b", "a"]}, "in: schema 'toy': 'keypoints' names a more than once"),
    ({"keypoints": [1, 2]}, "in: keypoints[0] is 1, expected text"),
    ({"keypoints": "abc"}, "in: keypoints is 'abc', expected a list of texts"),
    ({"pairs": [["a", "left_bb"]]}, "in: schema 'toy': 'pairs' names unknown keypoint 'left_bb'; choose from a, b, c"),
    ({"pairs": [["a", "a"]]}, "in: schema 'toy': 'pairs' holds ['a', 'a'], expected two different keypoints"),
    ({"pairs": [["a", "b"], ["b", "c"]]}, "in: schema 'toy': 'pairs' names a keypoint more than once"),
    ({"pairs": {"a": "b"}},
     "in: pairs is {'a': 'b'}, expected a list of lists of 2 texts"),
    ({"limbs": [["a", "b", "c"]]},
     "in: limbs[0] is ['a', 'b', 'c'], expected a list of 2 texts"),
    ({"head": ["a"]}, "in: head is ['a'], expected a list of 2 texts"),
    ({"torso": ["a", "bb"]}, "in: schema 'toy': 'torso' names unknown keypoint 'bb'; did you mean 'b'?"),
    ({"reference": "torso"}, "in: schema 'toy': 'reference' is 'torso', but there is no 'torso'; add it, or choose box "
     "or pixels"),
    ({"sigmas": [1, 2]}, "in: schema 'toy': 'sigmas' holds [1.0, 2.0], expected 3 positive numbers"),
    ({"sigmas": [1, 2, 0]}, "in: schema 'toy': 'sigmas' holds [1.0, 2.0, 0.0], expected 3 positive numbers"),
    ({"sigmas": [1, 2, float("nan")]}, "in: sigmas[2] is nan, expected a number"),
    ({"sigmas": "small"}, "in: sigmas is 'small', expected a list of numbers"),
    ({"keypoint": ["a"]}, "in: unknown key 'keypoint'; did you mean 'keypoints'?"),
    ({"keypoints": None}, "in: keypoints is missing; add it")],
    ids=str)
def test_wrong_schema_is_refused(change, problem):
    with pytest.raises(InputError) as caught:
        schema_from(GOOD | change, "in")
    assert str(caught.value) == problem


@pytest.mark.parametrize("key", ["name", "keypoints"])
def test_missing_key_is_reported(key):
    with pytest.raises(InputError) as caught:
        schema_from({k: v for k, v in GOOD.items() if k != key}, "in")
    assert str(caught.value) == f"in: {key} is missing; add it"


@pytest.mark.parametrize(("content", "problem"), [
    (None, "schema {path}: cannot be read (No such file or directory); check the path"),
    (b"", "{path}: the schema holds None, expected a mapping of keys"),
    (b"- a", "{path}: the schema holds ['a'], expected a mapping of keys"),
    (b"\xff", "schema {path}: is not YAML ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)")],
    ids=str)
def test_file_without_a_schema_is_refused(tmp_path, content, problem):
    path = tmp_path / "toy.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        find_schema(str(path))
    assert str(caught.value) == problem.format(path=path)


def test_broken_yaml_is_refused_in_one_line(tmp_path):
    path = tmp_path / "toy.yml"
    path.write_text("name: [\n")
    with pytest.raises(InputError, match=f"^schema {path}: is not YAML \\(.*line 2") as caught:
        find_schema(str(path))
    assert "\n" not in str(caught.value)


def test_error_for_an_unknown_name_has_the_nearest():
    with pytest.raises(InputError) as caught:
        find_schema("mpi16")
    assert str(caught.value) == "unknown schema 'mpi16'; did you mean 'mpii16'? (or give a .yaml file)"
    with pytest.raises(InputError) as caught:
        LSP14.index("left_anke")
    assert str(caught.value) == "schema 'lsp14' has no keypoint 'left_anke'; did you mean 'left_ankle'?"


def test_yaml_file_cannot_execute_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
    with pytest.raises(InputError, match="is not YAML"):
        find_schema(str(path))
    assert not (tmp_path / "made").exists()


@EVERY
def test_equal_schemas_have_equal_hashes(schema):
    assert replace(schema) == schema
    assert {schema: 1}[replace(schema)] == 1
