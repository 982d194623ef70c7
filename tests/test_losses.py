"""Test both losses against NumPy in float64: values, gradients, masks, reduction and extreme outputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.codec.targets import MIN_RADIUS, MIN_SIGMA
from posecascade.training.losses import OCCLUDED_PARTS, CascadeLoss, cell_cross_entropy, masked_mean

tf = pytest.importorskip("tensorflow")

PAPER = CascadeLoss(1.0, 1.0, 0.0, disc_radius=0.2, gaussian_sigma=0.15, stride=4)  # above MIN_RADIUS and MIN_SIGMA
MODES = pytest.mark.parametrize("mode", OCCLUDED_PARTS)


def with_(loss=PAPER, **changes):
    return CascadeLoss(**(vars(loss) | changes))


def people(rng, height=9, width=12, stride=4, keypoints=5, count=3, spread=4.0):
    """Return targets of unlabeled, occluded and visible keypoints, and random outputs."""
    points = rng.uniform(-3, [width * stride + 3, height * stride + 3], (count, keypoints, 2))
    weight = rng.integers(0, 2, (count, keypoints))
    visible = weight * rng.integers(0, 2, (count, keypoints))
    targets = np.concatenate([points, weight[..., None], visible[..., None]], -1).astype(np.float32)
    outputs = {name: (spread * rng.normal(size=(count, height, width, keypoints))).astype(np.float32)
               for name in ("parts", "heatmaps")}
    return targets, outputs


def by_hand(loss, targets, outputs):
    """Return L1 and L2 in float64, keypoint by keypoint, from the formulas in the module's docstring."""
    targets, logits, maps = (np.asarray(v, np.float64) for v in (targets, outputs["parts"], outputs["heatmaps"]))
    people, height, width, keypoints = logits.shape
    x, y = (np.arange(side * loss.stride).reshape(side, -1).mean(1) for side in (width, height))
    side = width * loss.stride
    radius = max(loss.disc_radius * side, MIN_RADIUS * loss.stride)
    sigma = max(loss.gaussian_sigma * side, MIN_SIGMA * loss.stride)
    sums, counts = [0.0, 0.0], [0, 0]
    for b in range(people):
        for k in range(keypoints):
            px, py, weight, visible = targets[b, k]
            away = np.hypot(x[None, :] - px, y[:, None] - py)
            disc, gauss = (away <= radius).astype(float), np.exp(-0.5 * (away / sigma) ** 2)
            if weight and not (loss.occluded_parts == "ignore" and not visible):
                disc = disc * (visible if loss.occluded_parts == "reject" else 1)
                z = logits[b, ..., k]
                entropy = disc * np.logaddexp(0, -z) + (1 - disc) * np.logaddexp(0, z)
                sums[0] += (entropy * (1 + loss.foreground_weight * disc)).sum()
                counts[0] += 1
            if weight:
                sums[1] += ((maps[b, ..., k] - gauss) ** 2 * (1 + loss.foreground_weight * gauss)).sum()
                counts[1] += 1
    return [total / max(count, 1) for total, count in zip(sums, counts, strict=True)]


@MODES
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("foreground_weight", [0.0, 4.0])
def test_losses_equal_a_float64_implementation(mode, stride, foreground_weight, rng):
    loss = with_(foreground_weight=foreground_weight, stride=stride, occluded_parts=mode,
                 detection_weight=0.3, regression_weight=2.0)
    targets, outputs = people(rng, stride=stride)
    losses = {name: float(value) for name, value in loss(targets, outputs).items()}
    detection, regression = by_hand(loss, targets, outputs)
    # float32 sums of a hundred cells; no cell's center is on a disc's rim within rounding.
    assert losses["detection"] == pytest.approx(detection, rel=1e-5)
    assert losses["regression"] == pytest.approx(regression, rel=1e-5)
    assert losses["loss"] == pytest.approx(0.3 * detection + 2 * regression, rel=1e-5)
    assert list(losses) == ["loss", "detection", "regression"]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_distillation_counts_every_keypoint_in_addition_to_the_labels(share, rng):
    loss = with_(foreground_weight=2.0, detection_weight=0.3, regression_weight=2.0, distillation_weight=share)
    (targets, outputs), (_, teacher_outputs) = people(rng), people(rng)
    detection, regression = by_hand(loss, targets, outputs)
    z, maps, theirs, peaks = (np.float64(v) for v in (*outputs.values(), *teacher_outputs.values()))
    p, peaks = 1 / (1 + np.exp(-theirs)), np.clip(peaks, 0, 1)
    entropy = (p * np.logaddexp(0, -z) + (1 - p) * np.logaddexp(0, z)) * (1 + 2 * p)
    squared = (maps - peaks) ** 2 * (1 + 2 * peaks)
    detection, regression = ((1 - share) * label + share * cells.sum((1, 2)).mean()
                             for label, cells in ((detection, entropy), (regression, squared)))
    losses = {name: float(value) for name, value in loss(targets, outputs, teacher_outputs).items()}
    assert losses == pytest.approx({"loss": 0.3 * detection + 2 * regression, "detection": detection,
                                   "regression": regression}, rel=1e-5)
    del outputs["parts"]
    assert set(loss(targets, outputs, teacher_outputs)) == {"loss", "regression"}


def test_outputs_equal_to_the_teacher_have_no_gradient(rng):
    loss = with_(distillation_weight=1.0)
    targets, teacher_outputs = people(rng)
    teacher_outputs["heatmaps"] = np.clip(teacher_outputs["heatmaps"], 0, 1)
    with tf.GradientTape() as tape:
        outputs = {name: tf.Variable(value) for name, value in teacher_outputs.items()}
        value = loss(targets, outputs, teacher_outputs)["loss"]
    for gradient in tape.gradient(value, list(outputs.values())):
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


@given(z=st.floats(-1e4, 1e4, width=32), p=st.sampled_from([0.0, 1.0]) | st.floats(0, 1, width=32))
@settings(deadline=None)
def test_cross_entropy_is_exact_with_gradient_sigmoid_minus_target(z, p):
    logit = tf.constant([z])
    with tf.GradientTape() as tape:
        tape.watch(logit)
        value = cell_cross_entropy(np.float32([p]), logit)
    wide = np.float64(z)
    expected = p * np.logaddexp(0, -wide) + (1 - p) * np.logaddexp(0, wide)
    np.testing.assert_allclose(value, [expected], rtol=1e-5, atol=1e-6 * max(1, abs(z)))
    np.testing.assert_allclose(tape.gradient(value, logit), [0.5 * (1 + np.tanh(wide / 2)) - p], atol=1e-6)


def test_cross_entropy_gradient_at_zero_is_half():
    """Layers initialized to zero give logits of exactly 0 everywhere."""
    logits = tf.zeros(2)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = cell_cross_entropy(np.float32([0, 1]), logits)
    np.testing.assert_allclose(tape.gradient(value, logits), [0.5, -0.5])


def gradients(loss, targets, outputs):
    tensors = {name: tf.constant(value) for name, value in outputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        losses = loss(targets, tensors)
    return {name: float(v) for name, v in losses.items()}, tape.gradient(losses["loss"], tensors)


@pytest.mark.parametrize("logit", [-1e4, 1e4, -88.8, 88.8, 0.0])
def test_extreme_outputs_have_finite_losses_and_gradients(logit, rng):
    targets, outputs = people(rng)
    outputs = {"parts": np.full_like(outputs["parts"], logit), "heatmaps": np.full_like(outputs["heatmaps"], logit)}
    losses, slopes = gradients(with_(foreground_weight=4.0), targets, outputs)
    assert np.isfinite(list(losses.values())).all()
    for slope in slopes.values():
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 0


def test_gradients_equal_difference_quotients(rng):
    loss = with_(detection_weight=0.3, regression_weight=2.0)
    targets, outputs = people(rng)
    _, slopes = gradients(loss, targets, outputs)
    step = 1e-4
    for name in outputs:
        for place in [tuple(rng.integers(0, side) for side in outputs[name].shape) for _ in range(12)]:
            values = []
            for sign in (-1, 1):
                moved = {n: v.astype(np.float64) for n, v in outputs.items()}
                moved[name][place] += sign * step
                detection, regression = by_hand(loss, targets, moved)
                values.append(0.3 * detection + 2 * regression)
            # The difference quotient is off by step^2 of the third derivative, float32 by 1e-6 of the values.
            assert float(slopes[name][place]) == pytest.approx((values[1] - values[0]) / (2 * step), rel=1e-3, abs=1e-5)


@MODES
def test_unlabeled_keypoints_are_ignored(mode, rng):
    targets, outputs = people(rng)
    loss = with_(occluded_parts=mode)
    losses, slopes = gradients(loss, targets, outputs)
    absent = targets[..., 2] == 0
    assert absent.any()
    elsewhere = targets.copy()
    elsewhere[absent, :2] = rng.uniform(-1e4, 1e4, (absent.sum(), 2))
    changed = {name: np.where(absent[:, None, None, :], 100, value).astype(np.float32)
               for name, value in outputs.items()}
    assert gradients(loss, elsewhere, changed)[0] == pytest.approx(losses)
    for slope in slopes.values():
        assert not slope.numpy().transpose(0, 3, 1, 2)[absent].any()


@MODES
def test_batch_without_labels_has_zero_loss(mode, rng):
    targets, outputs = people(rng)
    losses, slopes = gradients(with_(occluded_parts=mode), np.zeros_like(targets), outputs)
    assert list(losses.values()) == [0, 0, 0]
    assert not any(slope.numpy().any() for slope in slopes.values())


def discs_of(loss, targets, shape):
    """Return the number of disc cells per labeled keypoint: at logit 0 each adds log 2 per unit of weight."""
    plain, marked = (float(with_(loss, foreground_weight=f)(targets, {"parts": np.zeros(shape, np.float32)})[
        "detection"])
                     for f in (0.0, 1.0))
    return (marked - plain) / np.log(2)


def test_occluded_keypoints_are_detected_ignored_or_rejected(rng):
    """One visible and one occluded keypoint in the middle; the regressor is trained on both in every mode."""
    targets = np.array([[[24, 24, 1, 1], [24, 24, 1, 0]]], np.float32)
    shape = (1, 12, 12, 2)
    cells = discs_of(with_(occluded_parts="detect"), targets, shape)
    assert cells > 5
    assert discs_of(with_(occluded_parts="ignore"), targets, shape) == pytest.approx(cells, rel=1e-4)
    assert discs_of(with_(occluded_parts="reject"), targets, shape) == pytest.approx(cells / 2, rel=1e-4)
    outputs = {"parts": rng.normal(size=shape).astype(np.float32), "heatmaps": np.zeros(shape, np.float32)}
    losses = {mode: {name: float(v) for name, v in with_(occluded_parts=mode)(targets, outputs).items()}
             for mode in OCCLUDED_PARTS}
    assert len({values["regression"] for values in losses.values()}) == 1
    # Ignored: the map of the occluded keypoint has no effect.
    free = outputs["parts"].copy()
    free[..., 1] += 5
    ignoring = with_(occluded_parts="ignore")
    assert float(ignoring(targets, {"parts": free})["detection"]) == pytest.approx(losses["ignore"]["detection"])
    # Rejected: an empty map of the occluded keypoint costs nothing.
    rejecting = with_(occluded_parts="reject")
    sure = {"parts": np.stack([outputs["parts"][..., 0], np.full(shape[:3], -20, np.float32)], -1)}
    alone = float(ignoring(targets, sure)["detection"])
    assert float(rejecting(targets, sure)["detection"]) == pytest.approx(alone / 2, rel=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_radii_grow_with_the_input_size(factor):
    """Phases may train on larger crops: the disc keeps its share of the image, so its cells grow by the square."""
    loss, cells = with_(disc_radius=0.3, gaussian_sigma=0.1), []
    for side in (96, 96 * factor):
        targets = np.array([[[side / 2, side / 2, 1, 1]]], np.float32)
        shape = (1, side // 4, side // 4, 1)
        cells.append(discs_of(loss, targets, shape))
        # Likewise the Gaussian: its squared sum is pi sigma^2 (in cells), which an all-zero map costs.
        cost = float(loss(targets, {"heatmaps": np.zeros(shape, np.float32)})["regression"])
        assert cost == pytest.approx(np.pi * (0.1 * side / 4) ** 2, rel=0.01)
    rim = 2 * np.pi * 0.3 * 96 / 4  # cells of which half may fall on either side, in the smaller map
    for count, side in zip(cells, (96, 96 * factor), strict=True):
        assert count == pytest.approx(np.pi * (0.3 * side / 4) ** 2, abs=rim / 2 * side / 96)


def test_right_outputs_have_no_loss_and_zero_maps_the_same_at_every_size(rng):
    """Losses are sums over cells, not means: a larger empty background does not lower the loss of a zero map."""
    targets = np.array([[[40, 40, 1, 1]]], np.float32)
    loss = CascadeLoss(1.0, 1.0, 0.0, disc_radius=1e-9, gaussian_sigma=1e-9, stride=4)  # both are raised
    small, large = (float(loss(targets, {"heatmaps": np.zeros((1, side, side, 1), np.float32)})["loss"])
                    for side in (20, 40))
    assert small == pytest.approx(large, rel=1e-5)
    assert small == pytest.approx(np.pi * MIN_SIGMA ** 2, rel=0.01)
    cells = np.arange(20) * 4 + 1.5
    gauss = np.exp(-0.5 * ((cells - 40) / (MIN_SIGMA * 4)) ** 2)
    disc = np.hypot(*np.meshgrid(cells - 40, cells - 40)) <= MIN_RADIUS * 4
    outputs = {"heatmaps": np.float32(np.outer(gauss, gauss))[None, ..., None],
               "parts": np.float32(np.where(disc, 1e4, -1e4))[None, ..., None]}
    assert float(loss(targets, outputs)["loss"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["parts", "heatmaps"])
def test_single_output_has_its_own_loss_only(name, rng):
    targets, outputs = people(rng)
    whole = with_()(targets, outputs)
    kind = {"parts": "detection", "heatmaps": "regression"}[name]
    losses = with_(detection_weight=0.5, regression_weight=0.5)(targets, {name: outputs[name]})
    assert set(losses) == {"loss", kind}
    assert float(losses[kind]) == float(whole[kind])
    assert float(losses["loss"]) == 0.5 * float(losses[kind])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_outputs_are_summed_in_float32(half, rng):
    targets, outputs = people(rng, height=48, width=48)
    rounded = {name: tf.cast(value, half) for name, value in outputs.items()}
    wide = {name: tf.cast(value, "float32") for name, value in rounded.items()}
    for name, value in PAPER(targets, rounded).items():
        assert value.dtype == "float32"
        assert float(value) == float(PAPER(targets, wide)[name])


def test_loss_runs_in_a_graph_with_unknown_sizes(rng):
    @tf.function(input_signature=[tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None, None, None))])
    def graph(targets, maps):
        return with_()(targets, {"parts": maps, "heatmaps": maps})

    for height, width in ((9, 12), (6, 8)):
        targets, outputs = people(rng, height, width)
        expected = with_()(targets, {"parts": outputs["parts"], "heatmaps": outputs["parts"]})
        for name, value in graph(targets, outputs["parts"]).items():
            assert float(value) == pytest.approx(float(expected[name]), rel=1e-5)


def test_masked_mean_is_over_labeled_keypoints():
    cells = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    weight = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    sums = cells.sum((1, 2))
    assert float(masked_mean(cells, weight)) == (sums[0, 0] + sums[0, 2] + sums[1, 2]) / 3
