"""The people a run trains and is measured on: all its data sets, in the model's schema."""

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
    """Those of one data set who are kept for measuring.

    Attributes:
        name: the type of the data set, with a number where several are of one type; begins the log's columns.
        metric: one of `evaluation.METRICS`.
    """

    name: str
    metric: str
    records: list[Record]


@dataclass(frozen=True)
class Splits:
    """Everybody, by data set.

    Attributes:
        schema: the model's, which all records have.
        sources: TYPE:ROOT of each data set.
        train: lists of records, one for each data set.
        validation: likewise.
    """

    schema: Schema
    sources: tuple[str, ...]
    train: list[list[Record]]
    validation: list[Validation]

    @cached_property
    def everybody(self) -> list[Record]:
        """All who are trained on."""
        return [record for records in self.train for record in records]

    def fingerprint(self) -> str:
        """SHA-256 over names of pictures, boxes, keypoints and flags of all who are trained on, wherever they lie."""
        digest = hashlib.sha256()
        for record in self.everybody:
            digest.update(Path(record.image_name).name.encode())
            for values in (record.box.as_list(), record.keypoints, record.visibility):
                digest.update(np.ascontiguousarray(values, np.float64).tobytes())
        return digest.hexdigest()


def read_splits(sources: Sequence[str], schema_name: str) -> Splits:
    """`people_of` the schema with that name or in that YAML file, which then is that of COCO-style files too."""
    if not sources:
        raise InputError("no data set is given; add --data=TYPE:ROOT, as in --data=lspet:/data/lspet")
    return people_of(sources, find_schema(schema_name), own=schema_name.endswith((".yaml", ".yml")))


def people_of(sources: Sequence[str], schema: Schema, *, own: bool = False) -> Splits:
    """The "train" and "val" people of every TYPE:ROOT in the schema, which, `own`, COCO-style files have already.

    Raises InputError where a source cannot be read, shares no joint with the schema, or has nobody who can be measured.
    """
    files_schema = schema if own else None
    train, validation = [], []
    for source in sources:
        kind = datasets.parse(source)[0]
        train.append(checked_conversion(datasets.read(source, "train", files_schema), schema))
        kept = checked_conversion(datasets.read(source, "val", files_schema), schema)
        number = sum(other.startswith(f"{kind}:") for other in sources[:len(validation)]) + 1
        metric = default_metric(kind, kept)
        check_measurable(kept, metric, source)
        validation.append(Validation(kind if number == 1 else f"{kind}{number}", metric, kept))
    return Splits(schema, tuple(sources), train, validation)
