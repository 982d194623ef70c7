"""Record, one annotated person on disk, and Sample, the same in memory: the types that all stages share."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.schema import Schema


class Visibility(IntEnum):
    """What is known of a joint, in COCO's codes."""

    UNLABELED = 0
    OCCLUDED = 1
    VISIBLE = 2


class ImageSource(Protocol):
    """Where a picture comes from: a file (`images.ImageFile`) or the renderer (`datasets.synthetic`)."""

    @property
    def name(self) -> str:
        """For messages and outputs: the path, or what was rendered."""

    def read(self, shrink: int = 1) -> np.ndarray:
        """(H, W, 3) uint8 RGB, shrunk `shrink` (1, 2, 4 or 8) times.

        Raises InputError where the file is missing or cannot be decoded.
        """


@dataclass(frozen=True)
class Record:
    """One annotated person.

    Attributes:
        image: where the picture is, or None in an annotations-only data set.
        origin: where the annotation is, for messages ("joints.mat, person 17").
        schema: names the K joints.
        box: the person in image pixels, tight round the joints or as the data set gives it.
        keypoints: (K, 2) float64, image pixels; NaN where unlabeled.
        visibility: (K,) int8, codes of `Visibility`.
        head_size: the PCKh reference in image pixels, where the data set gives one.
        area: of the person in square pixels, for OKS; of the box where the data set gives none.
        image_id, person_id: the data set's own numbers, -1 where it has none.
        square: the data set's own crop of the person (MPII's center and scale), as the box whose crop it is; the
            paper's protocol uses it, nothing else.
        occlusion_known: whether `visibility` tells occluded from visible joints (LSPET's flags do not).
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
                             f"{visibility.shape}, schema {self.schema.name!r} has {size} joints; "
                             "pass --schema or mend the file")
        if not np.isin(visibility, list(Visibility)).all():
            raise InputError(f"{self.origin}: visibility is {visibility.tolist()}, expected 0 (unlabeled), "
                             "1 (occluded) or 2 (visible) each; mend the file")
        keypoints[visibility == Visibility.UNLABELED] = np.nan
        if not np.isfinite(keypoints[visibility > 0]).all():
            raise InputError(f"{self.origin}: a labeled joint has no finite coordinates; mend the file")
        for name, array in (("keypoints", keypoints), ("visibility", visibility)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def labeled(self) -> np.ndarray:
        """(K,) bool."""
        return self.visibility > Visibility.UNLABELED

    def length(self, which: str) -> float | None:
        """Pixels between the two joints of the schema's `head` or `torso`; None where either is unlabeled."""
        ends = self.schema.segment(which)
        if ends is None or not self.labeled[list(ends)].all():
            return None
        return float(np.linalg.norm(self.keypoints[ends[0]] - self.keypoints[ends[1]]))

    @property
    def image_name(self) -> str:
        """The picture's name, or the annotation's where there is no picture."""
        return self.image.name if self.image else self.origin


@dataclass(frozen=True)
class Sample:
    """A person in memory: what augmentation takes and gives.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) float64 in this image's pixels; NaN where unlabeled.
        visibility: (K,) int8.
        schema: names the joints.
    """

    image: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    schema: Schema


def converted(record: Record, schema: Schema) -> Record:
    """The record in another schema, joint by joint *name*; joints that it lacks become unlabeled."""
    if record.schema == schema:
        return record
    order = schema.order_from(record.schema)
    return replace(record, schema=schema, keypoints=np.where(order[:, None] >= 0, record.keypoints[order], np.nan),
                   visibility=np.where(order >= 0, record.visibility[order], Visibility.UNLABELED))


def checked_conversion(records: Iterable[Record], schema: Schema) -> list[Record]:
    """All records in `schema`, leaving out people without a labeled joint there; InputError where none is left."""
    records = list(records)
    kept = [r for r in (converted(record, schema) for record in records) if r.labeled.any()]
    if not kept:
        had = records[0].schema.name if records else "none"
        raise InputError(f"no person has a labeled joint of schema {schema.name!r} (data: {len(records)} people, "
                         f"schema {had!r}); choose another --data or schema")
    return kept
