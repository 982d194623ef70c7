"""The cascade's two losses: each keypoint's map is summed over its cells and averaged over labeled keypoints.

N is the number of labeled keypoints of the batch (weight 1), p the targets of `codec`, i runs over the cells of a map:

    L1 = 1/N sum_n sum_i  c_i (softplus(z_i) - p_i z_i)          z: part logits      (docs/paper.md "Losses")
    L2 = 1/N sum_n sum_i  c_i (m_i - M_i)^2                      m, M: maps, targets (docs/paper.md "Losses")
    loss = detection_weight * L1 + regression_weight * L2        c_i = 1 + foreground_weight * target_i (0: the paper)

The sum over cells, not their mean, is the paper's reduction; with a mean an all-zero map has almost no loss and the
regressor stays at zero for thousands of steps. Unlabeled keypoints have weight 0 and are ignored.

A network can also be distilled from a trained cascade, its teacher, as in Zhang et al., "Fast Human Pose Estimation"
(CVPR 2019): L1 and L2 are then (1 - d) x the loss against the labels + d x the loss against the teacher's maps, in
which every keypoint counts, labeled or not.
Axes: B people, H rows, W columns, K keypoints.
"""

from dataclasses import dataclass

from posecascade.backend import ops
from posecascade.codec.targets import confidence_maps, part_discs

OCCLUDED_PARTS = ("detect", "ignore", "reject")


@dataclass(frozen=True)
class CascadeLoss:
    """The combined loss as a function of targets and outputs.

    Attributes:
        detection_weight, regression_weight: of L1 and L2; 0 excludes a loss.
        foreground_weight: extra weight of cells on a part.
        disc_radius, gaussian_sigma: of the target maps, as fractions of the input's side (the recipe's `disc_radius_px`
            and `gaussian_sigma_px` over `model.input_size`).
        occluded_parts: detector target for occluded keypoints: "detect" = as visible, "ignore" = excluded from the
            loss, "reject" = all-zero map.
        stride: input pixels per cell of the outputs.
        distillation_weight: share of the teacher in both losses, 0 to 1.
    """

    detection_weight: float
    regression_weight: float
    foreground_weight: float
    disc_radius: float
    gaussian_sigma: float
    stride: int
    occluded_parts: str = "detect"
    distillation_weight: float = 0.0

    def __call__(self, targets, outputs, teacher_outputs=None) -> dict:
        """Return the scalars `loss` and, for each of the outputs, the unweighted `detection` and `regression`.

        Args:
            targets: (B, K, 4) float32 x, y (input pixels), weight, visible, from `augment.target`.
            outputs: dict of `parts` logits and/or `heatmaps`, each (B, H, W, K).
            teacher_outputs: the teacher's outputs for the same images, in the same form, or None.
        """
        targets = ops.cast(targets, "float32")
        losses = {}
        if "parts" in outputs:
            losses["detection"] = self.detection(targets, outputs["parts"])
        if "heatmaps" in outputs:
            losses["regression"] = self.regression(targets, outputs["heatmaps"])
        if teacher_outputs is not None:
            distilled = self.distillation(teacher_outputs, outputs)
            share = self.distillation_weight
            losses = {name: (1 - share) * value + share * distilled[name] for name, value in losses.items()}
        weights = {"detection": self.detection_weight, "regression": self.regression_weight}
        return {"loss": sum(weights[name] * value for name, value in losses.items()), **losses}

    def detection(self, targets, logits):
        """Return L1 of part logits (B, H, W, K), a scalar."""
        points, weight, visible = targets[..., :2], targets[..., 2], targets[..., 3]
        height, width = _sides(logits)
        discs = part_discs(points, height, width, stride=self.stride, radius=self._pixels(self.disc_radius, width))
        if self.occluded_parts == "reject":
            discs = discs * visible[:, None, None, :]
        if self.occluded_parts == "ignore":
            weight = weight * visible
        return masked_mean(cell_cross_entropy(discs, logits) * (1 + self.foreground_weight * discs), weight)

    def regression(self, targets, maps):
        """Return L2 of confidence maps (B, H, W, K), a scalar."""
        height, width = _sides(maps)
        target_maps = confidence_maps(targets[..., :2], height, width, stride=self.stride,
                                      sigma=self._pixels(self.gaussian_sigma, width))
        squared = ops.square(ops.cast(maps, "float32") - target_maps)
        return masked_mean(squared * (1 + self.foreground_weight * target_maps), targets[..., 2])

    def distillation(self, teacher_outputs, outputs):
        """Return L1 and L2 by name against the teacher's sigmoid part maps and its confidence maps clipped to 0..1."""
        losses = {}
        if "parts" in outputs:
            target_maps = ops.sigmoid(ops.cast(teacher_outputs["parts"], "float32"))
            cells = cell_cross_entropy(target_maps, outputs["parts"]) * (1 + self.foreground_weight * target_maps)
            losses["detection"] = masked_mean(cells, ops.ones_like(target_maps[:, 0, 0]))
        if "heatmaps" in outputs:
            target_maps = ops.minimum(ops.maximum(ops.cast(teacher_outputs["heatmaps"], "float32"), 0.0), 1.0)
            squared = ops.square(ops.cast(outputs["heatmaps"], "float32") - target_maps)
            losses["regression"] = masked_mean(squared * (1 + self.foreground_weight * target_maps),
                                               ops.ones_like(target_maps[:, 0, 0]))
        return losses

    def _pixels(self, fraction, width):
        return fraction * ops.cast(width * self.stride, "float32")


def _sides(maps):
    """Return height and width, as numbers if the graph knows them, else as scalar tensors."""
    shape = ops.shape(maps)
    return shape[1], shape[2]


def cell_cross_entropy(targets, logits):
    """Return -p log s(z) - (1 - p) log(1 - s(z)) of each cell, finite for any finite z.

    It is computed as max(z, 0) - p z + log(1 + exp(-|z|)).
    """
    logits = ops.cast(logits, "float32")
    positive = logits >= 0  # instead of relu and abs, whose gradients at 0 would add up to -p instead of 1/2 - p
    return ops.where(positive, logits, 0.0) - targets * logits + ops.log1p(
        ops.exp(ops.where(positive, -logits, logits)))


def masked_mean(cells_BHWK, weight_BK):
    """Return the maps' sums over cells, averaged over the keypoints with weight 1; 0 if there is none."""
    maps = ops.sum(cells_BHWK, axis=(1, 2))
    return ops.sum(maps * weight_BK) / ops.maximum(ops.sum(weight_BK), 1.0)
