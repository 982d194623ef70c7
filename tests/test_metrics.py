"""Metrics: independent implementations in loops, invariants, and published figures of published predictions."""

import itertools
import math

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from posecascade import datasets
from posecascade.evaluation import metrics

coordinates = st.floats(-1000, 1000, allow_nan=False).map(lambda v: round(v, 3))


@st.composite
def people(draw):
    """Predicted and true keypoints (N, K, 2), some unlabeled, and reference lengths (N,) of at least 1 px."""
    count, joints = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    predicted, true = (draw(arrays(np.float64, (count, joints, 2), elements=coordinates)) for _ in range(2))
    true[draw(arrays(bool, (count, joints)))] = np.nan
    return predicted, true, draw(arrays(np.float64, count, elements=st.floats(1, 500)))


def counted_by_hand(predicted, true, reference, at):
    """Hits and counts per keypoint, computed by loops over Python floats."""
    joints = predicted.shape[1]
    hits, counts = [0] * joints, [0] * joints
    for person in range(len(predicted)):
        for k in range(joints):
            if math.isnan(true[person, k, 0]):
                continue
            counts[k] += 1
            off = math.dist(predicted[person, k], true[person, k])
            hits[k] += off / reference[person] <= at
    return hits, counts


@given(people(), st.floats(0, 2))
def test_hits_and_counts_equal_those_of_a_loop(some, at):
    distances = metrics.distances(*some)
    assume(not np.isclose(distances, at, rtol=1e-12, atol=0).any())  # rounding may differ at the threshold
    hits, counts = (values.sum(axis=0) for values in metrics.pck(distances, at))
    expected = counted_by_hand(*some, at)
    np.testing.assert_array_equal(hits, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


@given(people(), st.sampled_from([0.25, 0.5, 2.0, 1024.0]))
def test_distances_do_not_depend_on_the_image_s_scale(some, factor):
    predicted, true, reference = some
    np.testing.assert_array_equal(metrics.distances(predicted * factor, true * factor, reference * factor),
                                  metrics.distances(predicted, true, reference))


@given(people(), st.lists(st.floats(0, 3), min_size=2, max_size=5))
def test_larger_threshold_never_has_fewer_hits(some, limits):
    distances = metrics.distances(*some)
    hits = [metrics.pck(distances, at)[0] for at in sorted(limits)]
    for narrow, wide in itertools.pairwise(hits):
        assert (narrow <= wide).all()


@given(people(), st.randoms(use_true_random=False))
def test_order_of_people_does_not_matter(some, random):
    order = list(range(len(some[0])))
    random.shuffle(order)
    one, other = (metrics.distances(*values) for values in (some, tuple(v[order] for v in some)))
    np.testing.assert_array_equal(metrics.rate(*metrics.pck(one, 0.2)), metrics.rate(*metrics.pck(other, 0.2)))


@given(people())
def test_perfect_prediction_has_100_in_every_metric(some):
    _, true, reference = some
    distances = metrics.distances(np.nan_to_num(true), true, reference)
    for hits, counts in (metrics.pck(distances, 0.0), metrics.area(distances, 0.2)):
        values = metrics.rate(hits.ravel(), counts.ravel())
        assert np.isnan(values) if np.isnan(true).all() else values == pytest.approx(100, abs=1e-9)


def test_pck_of_an_example_counted_by_hand():
    """Torso 10 px; keypoints off by 0, 2 (at the threshold), 2.5 and 20 px, one unlabeled, one not predicted."""
    true = np.zeros((1, 6, 2))
    true[0, 4] = np.nan
    predicted = np.array([[[0, 0], [2, 0], [1.5, 2], [0, 20], [0, 0], [np.nan, 0]]])
    distances = metrics.distances(predicted, true, np.array([10.0]))
    np.testing.assert_array_equal(distances, [[0, 0.2, 0.25, 2, np.nan, np.inf]])
    hits, counts = metrics.pck(distances, 0.2)
    np.testing.assert_array_equal(hits, [[1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(counts, [[1, 1, 1, 1, 0, 1]])


def test_reference_of_zero_allows_exact_hits_only_and_nan_is_not_counted():
    predicted = np.array([[[1.0, 1], [3, 3]]] * 2)
    distances = metrics.distances(predicted, np.ones((2, 2, 2)), np.array([0.0, np.nan]))
    np.testing.assert_array_equal(distances, [[0, np.inf], [np.nan, np.nan]])


def test_thresholds_are_the_floats_nearest_to_the_decimals():
    assert metrics.thresholds(0.2).tolist() == [float(f"0.{i:02d}") for i in range(21)]
    assert metrics.thresholds(0.5)[-1] == 0.5


@given(people(), st.sampled_from([0.2, 0.5]))
def test_area_equals_the_trapezoidal_rule_on_the_curve(some, limit):
    distances = metrics.distances(*some)
    assume(not np.isnan(distances).all())
    steps = metrics.thresholds(limit)
    curve = [metrics.rate(*map(np.ravel, metrics.pck(distances, at))) for at in steps]
    expected = np.trapezoid(curve, steps) / limit
    assert metrics.rate(*map(np.ravel, metrics.area(distances, limit))) == pytest.approx(expected, abs=1e-9)


def test_interval_equals_that_of_a_loop_over_the_same_draws(rng):
    hits = rng.integers(0, 2, (30, 1)).astype(float)
    counts = np.maximum(hits, rng.integers(0, 2, (30, 1)))
    low, high = metrics.interval(hits, counts, np.random.default_rng(3), 200)
    again = np.random.default_rng(3).integers(30, size=(200, 30))
    rates = [100 * hits[draw].sum() / counts[draw].sum() for draw in again]
    assert (low[0], high[0]) == pytest.approx(tuple(np.percentile(rates, [2.5, 97.5])))
    assert 0 <= low[0] < metrics.rate(hits, counts)[0] < high[0] <= 100


def test_interval_has_the_width_of_the_normal_approximation(rng):
    """For a share p of n independent people, p +- 1.96 sqrt(p (1 - p) / n)."""
    hits = (np.arange(2000) < 1400)[:, None].astype(float)
    low, high = metrics.interval(hits, np.ones_like(hits), rng, 1000)
    half = 100 * 1.96 * math.sqrt(0.7 * 0.3 / 2000)
    assert low[0] == pytest.approx(70 - half, abs=0.2 * half)  # 1000 draws: the quantile is known to about 8 %
    assert high[0] == pytest.approx(70 + half, abs=0.2 * half)


def test_intervals_are_reproducible_and_nan_for_columns_without_counts():
    hits, counts = np.array([[1.0, 0], [0, 0], [1, 0]]), np.array([[1.0, 0], [1, 0], [1, 0]])
    first, second = (np.array(metrics.interval(hits, counts, np.random.default_rng(5), 50)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.isnan(first[:, 1]).all() and np.isfinite(first[:, 0]).all()
    assert np.isnan(metrics.rate(hits, counts)[1])


def test_interval_does_not_depend_on_the_chunk_size(rng, monkeypatch):
    hits, counts = rng.integers(0, 2, (20, 3)).astype(float), np.ones((20, 3))
    in_one_chunk = metrics.interval(hits, counts, np.random.default_rng(1), 40)
    monkeypatch.setattr(metrics, "_CHUNK", 60)
    np.testing.assert_array_equal(in_one_chunk, metrics.interval(hits, counts, np.random.default_rng(1), 40))


def test_paired_interval_of_similar_models_is_narrow(rng):
    """Two models that differ on 10 of 500 people: pairing removes the variance between people."""
    hits = rng.integers(0, 2, (500, 1)).astype(float)
    better = hits.copy()
    better[np.flatnonzero(hits[:, 0] == 0)[:10]] = 1
    ones = np.ones_like(hits)
    low, high = metrics.paired_interval((better, ones), (hits, ones), np.random.default_rng(0), 1000)
    draws = np.random.default_rng(0).integers(500, size=(1000, 500))
    expected = np.percentile([100 * (better[d] - hits[d]).mean() for d in draws], [2.5, 97.5])
    assert (low[0], high[0]) == pytest.approx(tuple(expected))
    assert 0 < low[0] <= 2 <= high[0] < 4
    same = metrics.paired_interval((hits, ones), (hits, ones), rng, 100)
    assert same[0][0] == same[1][0] == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_roc_auc_is_the_share_of_correctly_ordered_pairs(values):
    scores, positive = np.array([v[0] for v in values], float), np.array([v[1] for v in values])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    auc = metrics.roc_auc(scores, positive)
    assert math.isnan(auc) if not pairs else auc == pytest.approx(sum(pairs) / len(pairs))


def test_oks_equals_that_of_pycocotools(rng):
    """`COCOeval.computeOks` for each person."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    sigmas = rng.uniform(0.03, 0.1, 17)
    true, predicted = rng.uniform(0, 200, (2, 6, 17, 2))
    predicted = true + (predicted - 100) * rng.choice([0.02, 0.2], (6, 1, 1))
    labeled = rng.random((6, 17)) < 0.8
    areas = rng.uniform(500, 20000, 6)
    codes = np.where(labeled, 2.0, 0.0)
    truth = coco.COCO()
    truth.dataset = {"info": {}, "images": [{"id": i} for i in range(6)], "categories": [{"id": 1}], "annotations": [
        {"id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "area": areas[i], "bbox": [0, 0, 9, 9],
         "num_keypoints": int(labeled[i].sum()), "keypoints": np.c_[true[i], codes[i]].ravel().tolist()}
        for i in range(6)]}
    truth.createIndex()
    detections = [{"image_id": i, "category_id": 1, "score": 1.0,
                   "keypoints": np.c_[predicted[i], np.ones(17)].ravel().tolist()} for i in range(6)]
    run = evaluation.COCOeval(truth, truth.loadRes(detections), "keypoints")
    run.params.kpt_oks_sigmas = sigmas
    run.evaluate()
    expected = [run.ious[i, 1][0, 0] for i in range(6)]
    counted = np.where(labeled[..., None], true, np.nan)
    np.testing.assert_allclose(metrics.oks(predicted, counted, areas, sigmas), expected, rtol=1e-9)


@settings(max_examples=30)
@given(people(), st.floats(10, 1e5))
def test_oks_is_between_0_and_1_and_1_for_perfect_keypoints(some, area):
    predicted, true, _ = some
    areas, sigmas = np.full(len(true), area), np.full(true.shape[1], 0.05)
    values, best = metrics.oks(predicted, true, areas, sigmas), metrics.oks(np.nan_to_num(true), true, areas, sigmas)
    counted = ~np.isnan(true).all(axis=(1, 2))
    assert (best[counted] == 1).all() and np.isnan(best[~counted]).all()
    assert ((values[counted] >= 0) & (values[counted] <= 1)).all()


# --- published figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, total, area, visible, occluded",
                         [("bulat2016", 90.7, 63.4, 92.5, 67.7), ("insafutdinov2016", 90.1, 66.1, 92.0, 67.2)])
def test_published_lsp_predictions_have_the_published_figures(shared_data, method, total, area, visible, occluded):
    records = datasets.read(f"lsp:{shared_data / 'lsp_test'}", "test")
    predicted = scipy.io.loadmat(shared_data / "lsp_test" / "predictions" / f"{method}.mat")["pred"].transpose(2, 1, 0)
    reference = np.array([record.length("torso") for record in records])
    assert reference.min() == pytest.approx(2.55, abs=0.01)  # the shortest torso is counted too
    distances = metrics.distances(predicted, np.stack([record.keypoints for record in records]), reference)
    hits, counts = metrics.pck(distances, 0.2)
    codes = np.stack([record.visibility for record in records])
    figures = [hits.sum() / counts.sum() * 100, metrics.rate(*map(np.ravel, metrics.area(distances, 0.2))),
               hits[codes == 2].mean() * 100, hits[codes == 1].mean() * 100]
    assert figures == pytest.approx([total, area, visible, occluded], abs=0.05)


@pytest.mark.parametrize("name, expected", [("bearpaw-hg_s1_b1.mat", 85.085), ("tompson.h5", 82.337)])
def test_published_mpii_predictions_have_the_published_figure(shared_data, name, expected):
    records = datasets.read(f"mpii_val:{shared_data / 'mpii_val'}", "val")
    path = shared_data / "mpii_val" / name
    if path.suffix == ".mat":
        predicted = scipy.io.loadmat(path)["preds"]
    else:
        with h5py.File(path) as file:
            predicted = file["preds"][()].transpose(2, 1, 0)
    distances = metrics.distances(predicted - 1.0, np.stack([record.keypoints for record in records]),
                                  np.array([record.head_size for record in records]))
    hits, counts = (np.delete(values, [6, 7], axis=1).sum() for values in metrics.pck(distances, 0.5))
    assert 100 * hits / counts == pytest.approx(expected, abs=0.01)
