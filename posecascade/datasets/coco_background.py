"""What COCO files hold besides people with keypoints: images without people, crowds, people without keypoints."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from posecascade.datasets.coco import annotation_files
from posecascade.datasets.coco_categories import Categories
from posecascade.datasets.coco_images import CocoImages
from posecascade.datasets.coco_options import split_options
from posecascade.datasets.sources import load_json
from posecascade.geometry import Box
from posecascade.images import ImageFile
from posecascade.records import Record
from posecascade.schema import COCO17


@dataclass(frozen=True)
class Ignored:
    """A region in which COCO's AP counts predictions neither as right nor as wrong.

    Attributes:
        image_id: the image's number.
        box: of the region.
        area: of the crowd or person in square pixels.
        crowd: whether it holds several people.
    """

    image_id: int
    box: Box
    area: float
    crowd: bool


@dataclass(frozen=True)
class Background:
    """The images of a split, with and without people, and their regions to ignore.

    Attributes:
        images: number -> file.
        ignored: crowds, and people without keypoints.
    """

    images: dict[int, ImageFile] = field(default_factory=dict)
    ignored: tuple[Ignored, ...] = ()


def read_background(root: str, split: str, records: Sequence[Record]) -> Background:
    """Return the background of the split that `records` are the people of (`coco.read_coco`).

    Annotations of categories that are not read are no part of it. If the split is held out of a file, images without
    people are in the splits "test" and "all" alone.
    """
    files, held_out = annotation_files(root, split)
    options = split_options(root)[1]
    with_people = {record.image_id for record in records}
    images: dict[int, ImageFile] = {}
    ignored: list[Ignored] = []
    for path in files:
        content = load_json(path)
        listed = CocoImages(path, content["images"], options).files()
        images |= {number: image for number, image in listed.items() if isinstance(number, int)}
        categories = Categories(path, content, records[0].schema if records else COCO17, options.category)
        ignored += [region for annotation in content["annotations"]
                    if categories.is_read(annotation) and (region := _ignored(annotation))]
    if held_out and split not in ("test", "all"):
        images = {number: image for number, image in images.items() if number in with_people}
    return Background(images, tuple(region for region in ignored if region.image_id in images))


def _ignored(annotation: dict[str, Any]) -> Ignored | None:
    """Return a crowd or a person without labeled keypoints as COCO's evaluation sees it; None for what it counts."""
    crowd, image_id = bool(annotation.get("iscrowd")), annotation.get("image_id")
    labeled = any(list(annotation.get("keypoints") or ())[2::3])
    if (labeled and not crowd) or not isinstance(image_id, int):
        return None
    try:
        box = Box(*map(float, annotation["bbox"]))
        area = float(annotation.get("area") or box.w * box.h)
    except (KeyError, TypeError, ValueError):  # no box, or an empty one: there is no region
        return None
    return Ignored(image_id, box, area, crowd)
