"""Pose: one person's keypoints in image pixels, the result of the Predictor, the client and the exported models."""

from dataclasses import dataclass, field

import numpy as np

from posecascade.geometry import Box
from posecascade.schema import Schema


@dataclass(frozen=True)
class Pose:
    """One person's keypoints.

    Attributes:
        keypoints: (K, 2) float64, pixels of the input image.
        scores: (K,) in 0..1: the keypoint's peak in the last stage's map, after the model's calibration if it has one.
        visibility: (K,) in 0..1: the detector's confidence at the keypoint predicted by the regressor; low values mean
            it is probably occluded. Equal to the scores if the model has no detector.
        schema: names the keypoints.
        box: the person's box, which was cropped.
        stages: the keypoints predicted by each stage alone, (K, 2) each, by the name of its output; the last is the
            result.

    >>> from posecascade import Schema
    >>> pose = Pose(np.array([[10.0, 20.0], [30.0, 60.0]]), np.array([0.9, 0.2]), np.array([0.8, 0.1]),
    ...             Schema("toy", ("head", "tail")), Box(0, 0, 50, 80))
    >>> pose.names
    ('head', 'tail')
    >>> pose.as_dict()
    {'head': [10.0, 20.0, 0.9, 0.8], 'tail': [30.0, 60.0, 0.2, 0.1]}
    """

    keypoints: np.ndarray
    scores: np.ndarray
    visibility: np.ndarray
    schema: Schema
    box: Box
    stages: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the K names of the keypoints."""
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
        """Return {NAME: [x, y, score, visibility]}, as in the lines of predictions.jsonl."""
        table = np.column_stack([self.keypoints, self.scores, self.visibility])
        return {name: row.tolist() for name, row in zip(self.names, table, strict=True)}
