"""Fixture `folder`: a working folder with every file that the commands of the README and of docs/ name."""

import json

import cv2
import documents
import keras
import numpy as np
import pytest
import scipy.io
import yaml

from posecascade.datasets.synthetic import record_of
from posecascade.records import converted
from posecascade.schema import COCO17, LSP14, schema_from

PEOPLE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory, exported):
    """Write data sets of a few rendered people, images and a video; link runs/lspet and exported to the small one."""
    place = tmp_path_factory.mktemp("documents")
    records = [converted(record_of(5, number), LSP14) for number in range(PEOPLE)]
    images = [record.image.read() for record in records]
    _write_lsp(place, records, images)
    _write_coco(place / "people.json", records, COCO17)
    [arms] = [block.text for block in documents.blocks("docs/data.md") if documents.name_of(block) == "arms.yaml"]
    _write_coco(place / "arms.json", records, schema_from(yaml.safe_load(arms), "docs/data.md"))

    boxes = [{"image_id": number, "category_id": 1, "bbox": record.box.as_list(), "score": 0.9}
             for number, record in enumerate(records, 1)]
    (place / "detections.json").write_text(json.dumps(boxes))
    (place / "people.jsonl").write_text('{"image": "photo.jpg", "box": [20, 20, 90, 100]}\n')
    cv2.imwrite(str(place / "photo.jpg"), images[0][..., ::-1])
    (place / "holiday").mkdir()
    cv2.imwrite(str(place / "holiday" / "beach.png"), images[1][..., ::-1])
    clip = cv2.VideoWriter(str(place / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 160))
    for _ in range(3):
        clip.write(cv2.resize(images[2], (160, 160)))
    clip.release()
    (place / "runs").mkdir()
    (place / "runs" / "lspet").symlink_to(exported.run)
    (place / "exported").symlink_to(exported.output)
    with pytest.MonkeyPatch.context() as patch:  # a training of a few steps takes less time than compiling it
        patch.setattr(keras.Model, "run_eagerly", property(lambda self: True, lambda self, value: None))
        yield place


def _write_lsp(place, records, images):
    for kind, digits in (("lspet", 5), ("lsp", 4)):
        (place / kind / "images").mkdir(parents=True)
        for number, image in enumerate(images, 1):
            cv2.imwrite(str(place / kind / "images" / f"im{number:0{digits}}.jpg"), image[..., ::-1])
    points = np.nan_to_num(np.stack([record.keypoints for record in records]))  # (N, 14, 2)
    codes = np.stack([record.visibility for record in records])
    lspet = np.concatenate([points, (codes > 0)[..., None]], -1).transpose(1, 2, 0)
    lsp = np.concatenate([points, (codes == 1)[..., None]], -1).transpose(2, 1, 0)
    scipy.io.savemat(place / "lspet" / "joints.mat", {"joints": lspet})
    scipy.io.savemat(place / "lsp" / "joints.mat", {"joints": lsp})
    scipy.io.savemat(place / "preds.mat", {"pred": points[PEOPLE // 2:].transpose(2, 1, 0)})


def _write_coco(file, records, schema):
    """Write the people in COCO's layout; keypoints that they do not have are unlabeled."""
    people = [{"image_id": number, "id": number, "category_id": 1, "iscrowd": 0, "bbox": _with_margin(record.box),
               "keypoints": [value for name in schema.keypoints for value in _keypoint(record, name)]}
              for number, record in enumerate(records, 1)]
    images = [{"id": number, "file_name": f"lspet/images/im{number:05}.jpg"} for number in range(1, PEOPLE + 1)]
    file.write_text(json.dumps({"images": images, "annotations": people, "categories": []}))


def _with_margin(box):
    return [box.x - 0.1 * box.w, box.y - 0.1 * box.h, 1.2 * box.w, 1.2 * box.h]


def _keypoint(record, name):
    if name not in LSP14.keypoints:
        return [0.0, 0.0, 0.0]
    k = LSP14.index(name)
    return [*map(float, np.nan_to_num(record.keypoints[k])), float(record.visibility[k])]
