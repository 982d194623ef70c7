"""Predict the people in a detector's boxes, several per image, and score them like people of other programs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from posecascade.datasets.coco_background import Background
from posecascade.errors import InputError
from posecascade.evaluation import evaluate, matching
from posecascade.evaluation.coco_results import Instance
from posecascade.evaluation.predictions import Predictions, from_instances
from posecascade.records import ImageSource, Record


def predicted_in_boxes(predict: evaluate.Predict, records: Sequence[Record], detections: Sequence[Instance],
                       origin: Path | str, *, background: Background | None = None,
                       batch_size: int = 32) -> Predictions:
    """Return the model's predictions for all detections in the images of the records and of the background.

    A person's score is the detection's times the mean score of the keypoints, by which COCO's AP sorts.

    Args:
        predict: as in `evaluate.predicted`.
        records: the people of the data set, all of one schema.
        detections: boxes in the images' pixels; those in other images are excluded.
        origin: the file of the detections, for messages.
        background: images without people, in which a detection is wrong.
        batch_size: boxes per call of `predict`.

    Raises InputError if no detection is in these images.
    """
    images: dict[int, ImageSource | None] = dict(background.images) if background else {}
    images |= {number: r.image for number, r in zip(matching.image_ids(records).tolist(), records, strict=True)}
    inside = [detection for detection in detections if detection.image_id in images]
    if not inside:
        raise InputError(f"{origin}: none of its {len(detections)} boxes is in the images of the data (the first box: "
                         f"image {detections[0].image_id}; the data: image {next(iter(images))}); choose another "
                         "--data or --split")
    schema = records[0].schema
    nothing = np.zeros((schema.size, 2)), np.zeros(schema.size)
    boxes = [Record(images[d.image_id], f"{origin}: image {d.image_id}", schema, d.box, *nothing) for d in inside
             if d.box]  # all have one: `read_detections`
    found = evaluate.predicted(predict, boxes, batch_size=batch_size)
    points, scores = found.stages[list(found.stages)[-1]], np.asarray(found.scores)
    instances = [replace(d, score=d.score * float(scores[i, found.known].mean()),
                         keypoints=np.column_stack([points[i], scores[i]]))
                 for i, d in enumerate(inside) if found.readable[i]]
    return from_instances(origin, instances, records, found.known, found.skipped)
