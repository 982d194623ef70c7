"""Write the files of other tools that docs/exchange.md names: small ones, of two keypoints or COCO's."""

import json

import cv2
import numpy as np

from posecascade.exchange import WRITERS
from posecascade.exchange.people import LabeledImage, People, Person
from posecascade.geometry import Box
from posecascade.schema import COCO17, LSP14

SIZE = (160, 120)
TABLE = "scorer,Ann,Ann\nbodyparts,nose,nose\ncoords,x,y\nlabeled-data/clip/img01.png,30,40\n"
ANALYSIS = "track,frame_idx,instance.score,nose.x,nose.y,nose.score\ntrack_0,7,0.9,30,40,0.9\n"


def write_sources(folder):
    """Write a source per tool into the folder, each with its images."""
    _write_image(folder / "a.png")
    people = People(LSP14, (LabeledImage(str(folder / "a.png"), SIZE, (_person(LSP14, 10), _person(LSP14, 60))),))
    for name, file in (("labelstudio", "export.json"), ("cvat", "annotations.xml")):
        WRITERS[name][1](people, folder / file)
    _write_image(folder / "labelme" / "b.png")
    (folder / "labelme" / "b.json").write_text(json.dumps({
        "version": "5.5.0", "flags": {}, "imagePath": "b.png", "imageData": None, "imageHeight": SIZE[1],
        "imageWidth": SIZE[0], "shapes": [{"label": "nose", "points": [[30, 40]], "group_id": None,
                                           "shape_type": "point", "flags": {}}]}))
    _write_image(folder / "pose" / "images" / "train" / "c.jpg")
    (folder / "pose" / "labels" / "train").mkdir(parents=True)
    row = " ".join(["0 0.5 0.5 0.5 0.5", *["0.5 0.5 2"] * COCO17.size])
    (folder / "pose" / "labels" / "train" / "c.txt").write_text(row)
    (folder / "pose" / "data.yaml").write_text("train: images/train\nkpt_shape: [17, 3]\nnames: {0: person}\n")
    _write_image(folder / "labeled-data" / "clip" / "img01.png")
    (folder / "labeled-data" / "clip" / "CollectedData_Ann.csv").write_text(TABLE)
    _write_image(folder / "frames" / "frame_000007.png")
    (folder / "clip.analysis.csv").write_text(ANALYSIS)


def _person(schema, left):
    points = {name: (left + 3.0 * k, 10.0 + 5 * k, 1 + k % 2) for k, name in enumerate(schema.keypoints)}
    return Person(points, Box(left - 5, 5, 50, 90))


def _write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), 99, np.uint8))
