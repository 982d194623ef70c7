"""Convert files of other tools in tests, and read what they became."""

import json

import cv2
import numpy as np
import pytest

from posecascade import datasets
from posecascade.errors import InputError
from posecascade.exchange import Options, convert
from posecascade.schema import find_schema

WIDTH, HEIGHT = 200, 100


def write_image(path, size=(WIDTH, HEIGHT)):
    """Write a gray image and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), 99, np.uint8))
    return path


def converted(tmp_path, source, tool, **options):
    """Convert to people.json and read it with its schema; return the records, what was excluded, the content."""
    output = tmp_path / "people.json"
    people, paths = convert(source, output, Options(**options), read=tool, write="coco")
    assert paths == [output, tmp_path / "people.yaml"]
    records = datasets.read(f"coco:{output}", "all", find_schema(str(paths[1])))
    return records, dict(people.excluded), json.loads(output.read_text())


def points(record):
    """The keypoints of a record as (name, x, y, code)."""
    return [(name, *np.round(xy, 2).tolist(), int(code)) for name, xy, code in
            zip(record.schema.keypoints, record.keypoints, record.visibility, strict=True) if code]


def refused(source, tool, tmp_path, **options):
    """Return the message with which the source is refused, the folder of the test as DIR; nothing is written."""
    with pytest.raises(InputError) as error:
        convert(source, tmp_path / "people.json", Options(**options), read=tool, write="coco")
    assert not (tmp_path / "people.json").exists()
    return str(error.value).replace(str(tmp_path), "DIR")
