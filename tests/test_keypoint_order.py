"""A wrong order of keypoints is found in people who sit or are half unlabeled; a right one is never doubted."""

from dataclasses import replace

import numpy as np
import pytest

from posecascade import datasets
from posecascade.datasets.inspection import MIN_RIGHT_ON_LEFT, right_on_left
from posecascade.datasets.keypoint_order import (
    MIN_SCORE,
    ORDERS,
    exchange_scores,
    likely_order,
    order_score,
    people,
)
from posecascade.geometry import Box
from posecascade.records import Record
from posecascade.schema import COCO17, LSP14, MPII16, Schema

REAL = {"lspet": "lspet", "lsp_test": "lsp", "reader_samples/lsp_joints.mat": "lsp", "mpii_val": "mpii_val",
        "coco_mini": "coco", "everyday": "coco", "everyday_more": "coco"}
# Sitting, seen from the front: hips and knees at nearly the same height, hands on the knees.
SITTING = {"nose": (0, 10), "eye": (4, 6), "ear": (10, 8), "head_top": (0, -8), "neck": (0, 30), "thorax": (0, 36),
           "pelvis": (0, 110), "shoulder": (22, 38), "elbow": (32, 76), "wrist": (20, 108), "hip": (15, 110),
           "knee": (22, 118), "ankle": (20, 178)}


def sitting(rng, schema, count=60, unlabeled=0.3, height=150):
    """Return people whose ankles are below the image's edge, with keypoints unlabeled at random."""
    records = []
    for number in range(count):
        points = []
        for name in schema.keypoints:
            side, _, kind = name.partition("_")
            x, y = SITTING[kind if side in ("left", "right") else name]
            points.append((x if side == "left" else -x if side == "right" else x, y))
        points = np.array(points) + rng.normal(0, 4, (schema.size, 2))
        codes = np.where((points[:, 1] < height) & (rng.random(schema.size) > unlabeled), 2, 0)
        codes[0] = 2
        records.append(Record(None, str(number), schema, Box(0, 0, 90, 190), points, codes))
    return records


def exchanged(records, a, b):
    order = np.arange(records[0].schema.size)
    order[[a, b]] = b, a
    return reordered(records, order)


def reordered(records, order):
    return [replace(r, keypoints=r.keypoints[order], visibility=r.visibility[order]) for r in records]


@pytest.mark.parametrize("schema", [LSP14, COCO17, MPII16], ids=lambda s: s.name)
def test_people_who_sit_and_are_cut_off_have_their_declared_order(rng, schema):
    assert likely_order(sitting(rng, schema)) is None


@pytest.mark.parametrize(("first", "second"), [
    ("left_wrist", "left_elbow"), ("left_shoulder", "right_shoulder"), ("right_hip", "left_shoulder"),
    ("nose", "right_wrist"), ("left_knee", "left_hip")])
def test_two_exchanged_keypoints_are_named(rng, first, second):
    ends = sorted((COCO17.index(first), COCO17.index(second)))
    expected = " and ".join(COCO17.keypoints[k] for k in ends) + " exchanged"
    assert likely_order(exchanged(sitting(rng, COCO17, 150), *ends)) == expected


def test_keypoints_without_known_names_are_not_judged(rng):
    schema = Schema("leaf", ("tip", "left_edge", "right_edge"))
    records = [Record(None, str(i), schema, Box(0, 0, 9, 9), rng.uniform(0, 99, (3, 2)), [2, 2, 2]) for i in range(30)]
    assert likely_order(records) is None
    single = Schema("nose", ("nose",))
    assert likely_order([Record(None, "a", single, Box(0, 0, 9, 9), [[1, 1]], [2])]) is None


@pytest.fixture(scope="module", params=REAL)
def real(shared_data, request):
    """Hold the people of a right data set, without their images."""
    path = shared_data / request.param
    if not path.exists():
        pytest.skip(f"needs {path}")
    return [replace(r, image=None) for r in datasets.read(f"{REAL[request.param]}:{path}", "all")]


def test_right_data_are_not_doubted(real):
    points, schema = people(real), real[0].schema
    assert max(exchange_scores(points, schema).values()) < -2.5
    assert max(order_score(points, schema, order) for order in ORDERS.values()
               if len(order) <= schema.size and order != schema.keypoints) < -4
    assert likely_order(real) is None
    assert right_on_left(real) > 0.6


def test_any_two_keypoints_exchanged_are_found(real):
    points, schema = people(real), real[0].schema
    scores = exchange_scores(points, schema)
    for a, b in sorted(scores, key=scores.__getitem__)[-4:]:  # the four that are found least clearly
        wrong = points.copy()
        wrong[:, [a, b]] = points[:, [b, a]]
        assert exchange_scores(wrong, schema)[a, b] == pytest.approx(-scores[a, b])
        assert -scores[a, b] > MIN_SCORE + 0.5
    assert likely_order(exchanged(real, schema.index("left_wrist"), schema.index("left_knee"))) == \
        " and ".join(sorted(("left_wrist", "left_knee"), key=schema.index)) + " exchanged"


def test_exchanged_left_and_right_are_found(real):
    assert right_on_left(reordered(real, real[0].schema.flip_order)) < MIN_RIGHT_ON_LEFT


def test_other_known_orders_are_found(real):
    schema = real[0].schema
    for name, order in ORDERS.items():
        if len(order) > schema.size or order == schema.keypoints or not set(order) <= set(schema.keypoints):
            continue
        rest = [k for k, keypoint in enumerate(schema.keypoints) if keypoint not in order]
        stored = [*(schema.index(keypoint) for keypoint in order), *rest]
        assert likely_order(reordered(real, stored)) == name
    stored = [*range(5, schema.size), *range(5)]  # of a set that is not known
    assert likely_order(reordered(real, stored)) is not None
