"""Read all data sets of a run in the model's schema, split into training and validation records."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from posecascade import datasets
from posecascade.errors import InputError
from posecascade.evaluation.evaluate import check_measurable, default_metric
from posecascade.records import Record, checked_conversion
from posecascade.schema import Schema, find_schema


@dataclass(frozen=True)
class Validation:
    """The validation split of one data set.

    Attributes:
        name: the type of the data set, followed by a number from the second of that type on; prefix of its columns in
            the log.
        metric: one of `evaluation.METRICS`.
    """

    name: str
    metric: str
    records: list[Record]


@dataclass(frozen=True)
class Splits:
    """The training and validation records of a run, by data set.

    Attributes:
        schema: the model's schema; all records are converted to it.
        sources: TYPE:ROOT of each data set.
        train: one list of records per data set.
        validation: one validation split per data set.
        notes: lines about what was excluded from the data sets or looks doubtful.
    """

    schema: Schema
    sources: tuple[str, ...]
    train: list[list[Record]]
    validation: list[Validation]
    notes: tuple[str, ...] = ()

    @cached_property
    def train_records(self) -> list[Record]:
        """Return the training records of all data sets, in order."""
        return [record for records in self.train for record in records]

    def fingerprint(self) -> str:
        """Return a SHA-256 over the training records: image file names, boxes, keypoints and flags, but no folders.

        A frame of the labels that a source states is part of it too.
        """
        digest = hashlib.sha256("".join(map(datasets.stated_frame, self.sources)).encode())
        for record in self.train_records:
            digest.update(Path(record.image_name).name.encode())
            for values in (record.box.as_list(), record.keypoints, record.visibility):
                digest.update(np.ascontiguousarray(values, np.float64).tobytes())
        return digest.hexdigest()


def read_splits(sources: Sequence[str], schema_name: str) -> Splits:
    """Return `load_splits` of the schema with that name, or of a YAML file; COCO-style files then have that schema."""
    if not sources:
        raise InputError("no data set is given; add --data=TYPE:ROOT, as in --data=lspet:/data/lspet")
    return load_splits(sources, find_schema(schema_name), custom=schema_name.endswith((".yaml", ".yml")))


def read_split(source: str, split: str, schema: Schema, files_schema: Schema | None = None,
               notes: list[str] | None = None) -> list[Record]:
    """Return the records of one split of TYPE:ROOT, converted to the schema.

    Args:
        files_schema: what COCO-style files are annotated in; None: as their categories say.
        notes: see `datasets.read`.
    Raises:
        InputError: the source cannot be read, or shares no keypoint with the schema.
    """
    return checked_conversion(datasets.read(source, split, files_schema, notes), schema)


def load_splits(sources: Sequence[str], schema: Schema, *, custom: bool = False) -> Splits:
    """Return the "train" and "val" records of every TYPE:ROOT, converted to the schema.

    Args:
        custom: whether the schema is the user's own, which COCO-style files are then already annotated in.
    Raises:
        InputError: a source cannot be read, shares no keypoint with the schema, or has no person that can be measured.
    """
    files_schema = schema if custom else None
    train, validation = [], []
    notes: list[str] = []
    for source in sources:
        kind = datasets.parse(source)[0]
        train.append(read_split(source, "train", schema, files_schema, notes))
        records = read_split(source, "val", schema, files_schema, notes)
        number = sum(other.startswith(f"{kind}:") for other in sources[:len(validation)]) + 1
        metric = default_metric(kind, records)
        check_measurable(records, metric, source)
        validation.append(Validation(kind if number == 1 else f"{kind}{number}", metric, records))
    return Splits(schema, tuple(sources), train, validation, tuple(dict.fromkeys(notes)))
