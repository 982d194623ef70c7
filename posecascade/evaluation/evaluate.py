"""Evaluate a predictor on labeled records; used by the trainer, the command line and the export alike."""

import contextlib
import importlib.util
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from posecascade.datasets.coco_background import Background, Ignored
from posecascade.errors import InputError
from posecascade.evaluation import matching, metrics
from posecascade.evaluation.predictions import Predictions
from posecascade.evaluation.report import MEASURES, PIXELS, Measure, Report, measure_of
from posecascade.files import did_you_mean
from posecascade.geometry import Box
from posecascade.poses import Pose
from posecascade.records import Record
from posecascade.schema import Schema

Predict = Callable[[list[np.ndarray], list[Box]], list[Pose]]
BoxOf = Callable[[Record, np.ndarray], Box]

METRICS = (*MEASURES, "oks")
UNREADABLE_LIMIT = 0.01  # maximum share of unreadable images that are skipped
PAPER_LSP_SCALE = 0.89   # docs/paper.md "Test time": on LSP, the crop is 200 px x 0.89 around the image's center
_BATCHES_AHEAD = 1       # batches read while one is predicted; more would use memory without being faster
_AT_ONCE = 2             # batches predicted in parallel: one is decoded while the network runs on the next
_MISSED = 1e6            # px: coordinate passed to COCO's evaluation for a keypoint that is not predicted


def annotated_box(record: Record, image: np.ndarray) -> Box:
    """Return the person's box in the data set."""
    return record.box


def paper_box(record: Record, image: np.ndarray) -> Box:
    """Return the paper's box on MPII, 200 px x scale around the center; the annotated box for records without them."""
    return record.square or record.box


def paper_lsp_box(record: Record, image: np.ndarray) -> Box:
    """Return the paper's box on LSP: a square of 178 px around the image's center, wherever the person is."""
    height, width = image.shape[:2]
    return Box.from_center_scale(((width - 1) / 2, (height - 1) / 2), PAPER_LSP_SCALE)


def evaluate(predict: Predict, records: Sequence[Record], *, metric: str, batch_size: int = 32,
             box_of: BoxOf = annotated_box, draws: int = 1000, seed: int = 0) -> Report:
    """Predict all records and return the report: `predicted`, then `score`.

    Args:
        predict: (images, boxes in their pixels) -> poses in the same pixels, of any schema; keypoints are matched by
            name.
        records: people with images, all of one schema.
        metric: one of METRICS.
        batch_size: people per call of `predict`.
        box_of: the box to crop for each record.
        draws: number of resamples of the bootstrap.
        seed: of the bootstrap.
    """
    predictions = predicted(predict, records, batch_size=batch_size, box_of=box_of)
    return score(predictions, records, metric=metric, draws=draws, seed=seed)


def predicted(predict: Predict, records: Sequence[Record], *, batch_size: int = 32,
              box_of: BoxOf = annotated_box) -> Predictions:
    """Return the model's predictions for all records, in the records' schema.

    Images are read ahead in threads, and `predict` is called from two threads at a time. Unreadable images are skipped
    and listed in the result. Raises InputError if their share exceeds UNREADABLE_LIMIT, if a record has no image, or
    if the model and the data have no keypoint in common.
    """
    for record in records:
        if record.image is None:
            raise InputError(f"{record.origin}: has no image to predict on; add the images or pass --predictions")
    poses: list[Pose | None] = []
    skipped: list[str] = []
    waiting: deque[tuple[list[np.ndarray | InputError], Future]] = deque()

    def collect():
        images, future = waiting.popleft()
        of_readable = iter(future.result())
        poses.extend(None if isinstance(image, InputError) else next(of_readable) for image in images)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for people, images in _read_ahead(records, batch_size):
            readable = [(r, image) for r, image in zip(people, images, strict=True)
                        if not isinstance(image, InputError)]
            errors = [image for image in images if isinstance(image, InputError)]
            skipped += [r.image_name for r, image in zip(people, images, strict=True) if isinstance(image, InputError)]
            if len(skipped) > UNREADABLE_LIMIT * len(records):
                raise InputError(f"{errors[-1]} ({len(skipped)} of {len(records)} images are unreadable so far; at "
                                 f"most {UNREADABLE_LIMIT:.0%} are skipped)")
            boxes = [box_of(r, image) for r, image in readable]
            waiting.append((images, pool.submit(predict, [image for _, image in readable], boxes)))
            if len(waiting) == _AT_ONCE:
                collect()
        while waiting:
            collect()
    return collected(poses, records[0].schema, tuple(skipped))


def score(predictions: Predictions, records: Sequence[Record], *, metric: str, draws: int = 1000,
          seed: int = 0, background: Background | None = None) -> Report:
    """Return the report on predictions for these records, all of one schema.

    `background` is what the data set has besides these people; COCO's AP uses it if several people were predicted per
    image.

    Raises InputError for an unknown metric, or if nobody has a reference length.
    """
    if metric not in METRICS:
        raise InputError(f"unknown metric {metric!r}; {did_you_mean(metric, METRICS)}")
    measure = measure_of(metric, records[0].schema)
    true = np.stack([record.keypoints for record in records])
    true[:, ~predictions.known] = np.nan
    true[~predictions.readable] = np.nan
    reference = np.array([_reference(record, measure) for record in records])
    stages = {name: metrics.distances(points, true, reference) for name, points in predictions.stages.items()}
    without_reference = np.isnan(reference) & predictions.readable
    if metric != "oks" and all(np.isnan(distances).all() for distances in stages.values()):
        raise InputError(f"none of {len(records)} people can be counted for {measure.name}: "
                         f"{int(without_reference.sum())} have no {measure.reference} size; choose another --metric "
                         f"(one of {', '.join(METRICS)})")
    occlusion_known = np.array([record.occlusion_known for record in records])
    codes = np.stack([record.visibility for record in records]) * occlusion_known[:, None]
    numbers: dict[str, int] = {}
    images = np.array([numbers.setdefault(record.image_name, len(numbers)) for record in records])
    return Report(measure, records[0].schema, stages, codes, predictions.visibility, images,
                  int(without_reference.sum()),
                  predictions.missing, predictions.skipped,
                  average_precision(predictions, records, background) if metric == "oks" else None, draws, seed)


def average_precision(predictions: Predictions, records: Sequence[Record],
                      background: Background | None = None) -> dict[str, float | None]:
    """Return COCO's keypoint AP and AR in 0..1 by pycocotools, and the mean OKS; None for an empty size class.

    Every record is a ground truth. The detections are `predictions.instances` in the images of the records and of the
    background; without instances one per record, whose score is the mean score of its keypoints (1 without scores).
    Keypoints that the model does not predict count as unlabeled. A schema without sigmas has
    metrics.DEFAULT_SIGMA for each keypoint. Raises InputError if pycocotools is not installed.
    """
    schema = records[0].schema
    sigmas = np.array(schema.sigmas or [metrics.DEFAULT_SIGMA] * schema.size)
    points = list(predictions.stages.values())[-1]
    counted = np.stack([r.labeled for r in records]) & predictions.known & predictions.readable[:, None]
    true = np.where(counted[..., None], np.stack([r.keypoints for r in records]), np.nan)
    areas = np.array([r.area or r.box.w * r.box.h for r in records])
    oks = metrics.oks(points, true, areas, sigmas)
    scores = np.ones(len(records)) if predictions.scores is None else predictions.scores[:, predictions.known].mean(1)
    ids = matching.image_ids(records).tolist()
    truths, detections = [], []
    for i, record in enumerate(records):
        if not predictions.readable[i]:
            continue
        truths.append({"id": i + 1, "image_id": ids[i], "category_id": 1, "iscrowd": 0, "area": float(areas[i]),
                       "bbox": record.box.as_list(), "num_keypoints": int(counted[i].sum()),
                       "keypoints": _flat(true[i], 2.0 * counted[i], 0.0)})
        if np.isfinite(points[i]).all(-1).any():
            detections.append({"image_id": ids[i], "category_id": 1, "score": float(scores[i]),
                               "keypoints": _flat(points[i], np.ones(schema.size), _MISSED)})
    images = set(ids)
    if predictions.instances is not None:
        unreadable = {number for number, readable in zip(ids, predictions.readable, strict=True) if not readable}
        background = background or Background()
        images = (images | set(background.images)) - unreadable
        truths += [_ignored(len(records) + n, region, schema) for n, region in enumerate(background.ignored, 1)
                   if region.image_id in images]
        # What is not predicted is 0, 0, as in a list of results.
        detections = [{"image_id": instance.image_id, "category_id": 1, "score": instance.score,
                       "keypoints": _flat(instance.keypoints[:, :2], np.ones(schema.size), 0.0)}
                      for instance in predictions.instances if instance.image_id in images]
    figures = _coco_figures(sorted(images), truths, detections, sigmas)
    return {"mean": None if np.isnan(oks).all() else float(np.nanmean(oks))} | figures


def default_metric(kind: str, records: Sequence[Record]) -> str:
    """Return the usual metric for a type of data set (a key of `datasets.READERS`)."""
    if kind == "coco" and records[0].schema.sigmas and pycocotools_is_installed():
        return "oks"
    return "pckh" if kind.startswith("mpii") and any(r.head_size is not None for r in records) else "pck"


def check_measurable(records: Sequence[Record], metric: str, origin: str) -> None:
    """Raise InputError, beginning with `origin`, if nobody has the reference length of PCK or PCKh."""
    measure = measure_of(metric, records[0].schema)
    if all(np.isnan(_reference(record, measure)) for record in records):
        raise InputError(f"{origin}: none of {len(records)} people has a {measure.reference} size, which "
                         f"{measure.name} needs; set '{measure.reference}' in the schema to two keypoints, or label "
                         "them")


def pycocotools_is_installed() -> bool:
    """Return whether `average_precision` can run; pycocotools is an optional dependency."""
    return importlib.util.find_spec("pycocotools") is not None


def _coco_figures(images, truths, detections, sigmas: np.ndarray) -> dict[str, float | None]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise InputError("--metric=oks: needs pycocotools, which is not installed; "
                         "pip install pycocotools, or pass --metric=pck") from None
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {"info": {}, "images": [{"id": i} for i in images], "annotations": truths,
                         "categories": [{"id": 1, "name": "person"}]}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(detections) if detections else COCO(), "keypoints")
        run.params.kpt_oks_sigmas = sigmas
        run.evaluate()
        run.accumulate()
        run.summarize()
    order = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
    return {name: float(value) if value >= 0 else None for name, value in zip(order, run.stats, strict=True)}


def _ignored(number: int, region: Ignored, schema: Schema) -> dict:
    return {"id": number, "image_id": region.image_id, "category_id": 1, "iscrowd": int(region.crowd),
            "area": region.area, "bbox": region.box.as_list(), "num_keypoints": 0, "keypoints": [0] * 3 * schema.size}


def _flat(points, codes, placeholder):
    finite = np.where(np.isfinite(points), points, placeholder)
    return np.column_stack([finite, codes]).ravel().tolist()


def _reference(record: Record, measure: Measure) -> float:
    """Return the person's reference length in pixels, NaN if it has none."""
    if measure.reference in ("box", "pixels"):
        return PIXELS if measure.reference == "pixels" else max(record.box.w, record.box.h)
    annotated = record.head_size if measure.reference == "head" else None
    length = record.length(measure.reference) if annotated is None else annotated
    return np.nan if length is None else length


def collected(poses: "list[Pose | None]", schema: Schema, skipped: tuple[str, ...] = ()) -> Predictions:
    """Return poses, one per record (None if its image is unreadable), as Predictions in the records' schema.

    Raises InputError if the schema of the poses and `schema` have no keypoint in common.
    """
    model = next(pose for pose in poses if pose is not None)
    order = schema.order_from(model.schema)
    known = order >= 0
    if not known.any():
        raise InputError(f"the model's keypoints ({model.schema.name}) and the data's ({schema.name}) have no name in "
                         "common; choose another --data or --schema")

    def arranged(of):
        values = np.full((len(poses), schema.size, *of(model).shape[1:]), np.nan)
        for i, pose in enumerate(poses):
            if pose is not None:
                values[i, known] = of(pose)[order[known]]
        return values

    stages = {name: arranged(lambda pose, name=name: pose.stages[name]) for name in model.stages} \
        or {"keypoints": arranged(lambda pose: pose.keypoints)}
    return Predictions(stages, np.nan_to_num(arranged(lambda pose: pose.scores)),
                       np.nan_to_num(arranged(lambda pose: pose.visibility)), known,
                       np.array([pose is not None for pose in poses]), skipped=skipped)


def _read_ahead(records, batch_size) -> Iterator[tuple[Sequence[Record], list[np.ndarray | InputError]]]:
    """Yield batches of people with their images; an InputError replaces an unreadable image."""
    waiting: deque[tuple[Sequence[Record], list[Future]]] = deque()
    with ThreadPoolExecutor(max(os.cpu_count() or 1, 2)) as pool:
        for start in range(0, len(records), batch_size):
            people = records[start:start + batch_size]
            waiting.append((people, [pool.submit(_read, record) for record in people]))
            if len(waiting) > _BATCHES_AHEAD:
                people, futures = waiting.popleft()
                yield people, [future.result() for future in futures]
        for people, futures in waiting:
            yield people, [future.result() for future in futures]


def _read(record: Record) -> np.ndarray | InputError:
    try:
        return record.image.read()
    except InputError as error:
        return error
