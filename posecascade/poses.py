"""Pose: one person's joints in the pixels of the picture given, as every road to them answers."""

from dataclasses import dataclass, field

import numpy as np

from posecascade.geometry import Box
from posecascade.schema import Schema


@dataclass(frozen=True)
class Pose:
    """One person's joints.

    Attributes:
        keypoints: (K, 2) float64, pixels of the picture given.
        scores: (K,) in 0..1: the joint's peak in the map of the last stage, calibrated where the model has a curve.
        visibility: (K,) in 0..1: the detector's map at the joint's final place (docs/paper.md, "Idea"); the scores
            where the model has no detector.
        schema: names the joints.
        box: the person as it was cropped.
        stages: the joints that each stage gives alone, (K, 2) each, by the name of its output; the last is the result.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    visibility: np.ndarray
    schema: Schema
    box: Box
    stages: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """K joint names."""
        return self.schema.keypoints

    def tight_box(self, min_score: float, min_keypoints: int, min_size: float) -> Box | None:
        """Return the tight box around the keypoints with a score of at least `min_score`.

        The box is at least `min_size` pixels wide and high. None if there are fewer than `min_keypoints` of them (in a
        smaller schema: not all).
        """
        confident = self.scores >= min_score
        if confident.sum() < min(min_keypoints, self.schema.size):
            return None
        return Box.around(self.keypoints[confident], min_size=min_size)

    def as_dict(self) -> dict[str, list[float]]:
        """{NAME: [x, y, score, visibility]}, as the command writes it."""
        table = np.column_stack([self.keypoints, self.scores, self.visibility])
        return {name: row.tolist() for name, row in zip(self.names, table, strict=True)}
