"""Record, one annotated person on disk, and Sample, the same person in memory; used by the whole package."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.schema import Schema


class Visibility(IntEnum):
    """Label of a keypoint, in COCO's codes."""

    UNLABELED = 0
    OCCLUDED = 1
    VISIBLE = 2


class ImageSource(Protocol):
    """Source of an image: a file (`images.ImageFile`) or the renderer (`datasets.synthetic`)."""

    @property
    def name(self) -> str:
        """Return the path, or a description of what is rendered; for messages and outputs."""

    def read(self, shrink: int = 1) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB, both sides divided by `shrink` (1, 2, 4 or 8).

        Raises InputError if the file is missing or cannot be decoded.
        """


@dataclass(frozen=True)
class Record:
    """One annotated person.

    Attributes:
        image: the source of the image, or None in an annotations-only data set.
        origin: the location of the annotation, for messages ("joints.mat, person 17").
        schema: names the K keypoints.
        box: the person in image pixels, tight around the keypoints or as in the data set.
        keypoints: (K, 2) float64, image pixels; NaN if unlabeled.
        visibility: (K,) int8, codes of `Visibility`.
        head_size: PCKh's reference in image pixels, if the data set has one.
        area: of the person in square pixels, for OKS; of the box if the data set has none.
        image_id, person_id: the data set's own numbers, -1 if it has none.
        occlusion_known: whether `visibility` distinguishes occluded from visible keypoints (LSPET's flags do not).
        square: the data set's own crop of the person (MPII's center and scale), as the box whose crop it is; used by
            the paper's protocol only.

    >>> from posecascade import Schema
    >>> record = Record(None, "a.json, person 0", Schema("toy", ("head", "tail")), Box(0, 0, 9, 9),
    ...                 np.array([[1, 2], [0, 0]]), np.array([2, 0]))
    >>> record.labeled.tolist(), record.keypoints.tolist()
    ([True, False], [[1.0, 2.0], [nan, nan]])
    """

    image: ImageSource | None
    origin: str
    schema: Schema
    box: Box
    keypoints: np.ndarray
    visibility: np.ndarray
    head_size: float | None = None
    area: float | None = None
    image_id: int = -1
    person_id: int = -1
    occlusion_known: bool = True
    square: Box | None = None

    def __post_init__(self) -> None:
        keypoints = np.array(self.keypoints, np.float64)
        visibility = np.array(self.visibility, np.int8)
        size = self.schema.size
        if keypoints.shape != (size, 2) or visibility.shape != (size,):
            raise InputError(f"{self.origin}: has keypoints of shape {keypoints.shape} and visibility of shape "
                             f"{visibility.shape}, schema {self.schema.name!r} has {size} keypoints; "
                             "pass --schema or fix the file")
        if not ((visibility >= Visibility.UNLABELED) & (visibility <= Visibility.VISIBLE)).all():
            raise InputError(f"{self.origin}: visibility is {visibility.tolist()}, expected 0 (unlabeled), "
                             "1 (occluded) or 2 (visible) each; fix the file")
        keypoints[visibility == Visibility.UNLABELED] = np.nan
        if not np.isfinite(keypoints[visibility > 0]).all():
            raise InputError(f"{self.origin}: a labeled keypoint has no finite coordinates; fix the file")
        for name, array in (("keypoints", keypoints), ("visibility", visibility)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def labeled(self) -> np.ndarray:
        """Return (K,) bool: which keypoints have a label."""
        return self.visibility > Visibility.UNLABELED

    def length(self, which: str) -> float | None:
        """Return the pixels between the two keypoints of the schema's `head` or `torso`; None if one is unlabeled."""
        ends = self.schema.segment(which)
        if ends is None or not self.labeled[list(ends)].all():
            return None
        return float(np.linalg.norm(self.keypoints[ends[0]] - self.keypoints[ends[1]]))

    @property
    def image_name(self) -> str:
        """Return the image's name, or the annotation's if there is no image."""
        return self.image.name if self.image else self.origin


@dataclass(frozen=True)
class Sample:
    """A person in memory: the input and the output of augmentation.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) float64 in this image's pixels; NaN if unlabeled.
        visibility: (K,) int8.
        schema: names the keypoints.
    """

    image: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    schema: Schema


def converted(record: Record, schema: Schema) -> Record:
    """Return the record in another schema, matched by the keypoints' names; those without a match are unlabeled."""
    if record.schema == schema:
        return record
    order = schema.order_from(record.schema)
    return replace(record, schema=schema, keypoints=np.where(order[:, None] >= 0, record.keypoints[order], np.nan),
                   visibility=np.where(order >= 0, record.visibility[order], Visibility.UNLABELED))


def checked_conversion(records: Iterable[Record], schema: Schema) -> list[Record]:
    """Return the records in `schema`, without people that have no labeled keypoint in it.

    Raises InputError if nobody remains.
    """
    records = list(records)
    kept = [r for r in (converted(record, schema) for record in records) if r.labeled.any()]
    if not kept:
        other = records[0].schema.name if records else "none"
        raise InputError(f"no person has a labeled keypoint of schema {schema.name!r} (data: {len(records)} people, "
                         f"schema {other!r}); choose another --data or schema")
    return kept
