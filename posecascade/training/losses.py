"""The cascade's two losses, each joint's map summed over its cells and averaged over labeled joints.

With N the labeled joints of the batch (weight 1), p the targets of `codec`, i running over the cells of a map:

    L1 = 1/N sum_n sum_i  c_i (softplus(z_i) - p_i z_i)          z: part logits      (docs/paper.md "Losses")
    L2 = 1/N sum_n sum_i  c_i (m_i - M_i)^2                      m, M: maps, targets (docs/paper.md "Losses")
    loss = detection_weight * L1 + regression_weight * L2        c_i = 1 + foreground_weight * target_i (0: the paper)

The sum over cells, not their mean, is the paper's reduction; a mean makes an all-zero map look perfect and leaves
the regressor at zero for thousands of steps. Unlabeled joints have weight 0 and take no part.

Beside the labels a student may follow a teacher, a trained cascade, as in Zhang et al., "Fast Human Pose Estimation"
(CVPR 2019): L1 and L2 are then (1 - d) x that of the labels + d x that against the teacher's maps, in which
every joint counts, labeled or not.
Axes: B people, H rows, W columns, K joints.
"""

from dataclasses import dataclass

from keras import ops

from posecascade.codec.targets import confidence_maps, part_discs

OCCLUDED_PARTS = ("detect", "ignore", "reject")


@dataclass(frozen=True)
class CascadeLoss:
    """The combined loss as a function of targets and outputs.

    Attributes:
        detection_weight, regression_weight: of L1 and L2; 0 leaves a loss out.
        foreground_weight: extra weight of cells on a part.
        disc_radius, sigma: of the targets, in parts of the input's side.
        occluded_parts: what the detector learns of a joint flagged occluded: to "detect" it like any other,
            nothing ("ignore"), or that no part is to be seen there ("reject").
        stride: input pixels per cell of the outputs.
        distillation_weight: the teacher's part in both losses, 0 to 1.
    """

    detection_weight: float
    regression_weight: float
    foreground_weight: float
    disc_radius: float
    sigma: float
    stride: int
    occluded_parts: str = "detect"
    distillation_weight: float = 0.0

    def __call__(self, targets, outputs, teacher_outputs=None) -> dict:
        """The scalars `loss`, and of `detection` and `regression` those that `outputs` allow (unweighted).

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
            followed = self.distillation(teacher_outputs, outputs)
            share = self.distillation_weight
            losses = {name: (1 - share) * value + share * followed[name] for name, value in losses.items()}
        weights = {"detection": self.detection_weight, "regression": self.regression_weight}
        return {"loss": sum(weights[name] * value for name, value in losses.items()), **losses}

    def detection(self, targets, logits):
        """L1 from part logits (B, H, W, K): a scalar."""
        points, weight, visible = targets[..., :2], targets[..., 2], targets[..., 3]
        height, width = _sides(logits)
        discs = part_discs(points, height, width, stride=self.stride,
                                 radius=self._pixels(self.disc_radius, width))
        if self.occluded_parts == "reject":
            discs = discs * visible[:, None, None, :]
        if self.occluded_parts == "ignore":
            weight = weight * visible
        return masked_mean(cell_cross_entropy(discs, logits) * (1 + self.foreground_weight * discs), weight)

    def regression(self, targets, maps):
        """L2 from confidence maps (B, H, W, K): a scalar."""
        height, width = _sides(maps)
        wanted = confidence_maps(targets[..., :2], height, width, stride=self.stride,
                                       sigma=self._pixels(self.sigma, width))
        squared = ops.square(ops.cast(maps, "float32") - wanted)
        return masked_mean(squared * (1 + self.foreground_weight * wanted), targets[..., 2])

    def distillation(self, teacher_outputs, outputs):
        """L1 and L2 by name, of outputs against the teacher's: its sigmoid part maps, and its maps within 0 and 1."""
        losses = {}
        if "parts" in outputs:
            wanted = ops.sigmoid(ops.cast(teacher_outputs["parts"], "float32"))
            cells = cell_cross_entropy(wanted, outputs["parts"]) * (1 + self.foreground_weight * wanted)
            losses["detection"] = masked_mean(cells, ops.ones_like(wanted[:, 0, 0]))
        if "heatmaps" in outputs:
            wanted = ops.minimum(ops.maximum(ops.cast(teacher_outputs["heatmaps"], "float32"), 0.0), 1.0)
            squared = ops.square(ops.cast(outputs["heatmaps"], "float32") - wanted)
            losses["regression"] = masked_mean(squared * (1 + self.foreground_weight * wanted),
                                               ops.ones_like(wanted[:, 0, 0]))
        return losses

    def _pixels(self, part, width):
        return part * ops.cast(width * self.stride, "float32")


def _sides(maps):
    """Height and width: numbers where the graph knows them, else scalar tensors."""
    shape = ops.shape(maps)
    return shape[1], shape[2]


def cell_cross_entropy(targets, logits):
    """Per cell: -p log s(z) - (1 - p) log(1 - s(z)) = max(z, 0) - p z + log(1 + exp(-|z|)), finite for any finite z."""
    logits = ops.cast(logits, "float32")
    positive = logits >= 0  # not relu and abs: their gradients at 0 would add up to -p instead of 1/2 - p
    return ops.where(positive, logits, 0.0) - targets * logits + ops.log1p(
        ops.exp(ops.where(positive, -logits, logits)))


def masked_mean(cells_BHWK, weight_BK):
    """Each map summed over its cells, averaged over the joints with weight 1; 0 where none has."""
    maps = ops.sum(cells_BHWK, axis=(1, 2))
    return ops.sum(maps * weight_BK) / ops.maximum(ops.sum(weight_BK), 1.0)
