"""COCO's files of posecascade-predict: images and detected boxes that it reads, results that it writes."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from posecascade import files
from posecascade.errors import InputError
from posecascade.evaluation import coco_results
from posecascade.geometry import moved_box
from posecascade.poses import Pose
from posecascade.poses_io import Request
from posecascade.schema import Schema

RESULTS, IMAGES = "results.json", "images.json"


def listed_images(path: Path) -> Iterator[Request | InputError]:
    """Yield a Request per image of a COCO file (`image_info_test2017.json`), or the error that it cannot be read."""
    from posecascade.datasets.coco_images import CocoImages  # not at the top: other INPUTs do not need the readers
    from posecascade.datasets.coco_options import Options
    from posecascade.datasets.sources import load_json

    try:
        content = load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("images"), list) or not content["images"]:
            raise InputError(f"{path}: has no list 'images'; expected COCO's layout. Give boxes with --boxes={path}")
        for number, image in CocoImages(path, content["images"], Options()).files().items():
            yield Request(image.name, image.path, in_folder=True, to_upright=image.to_upright(),
                          image_id=number if isinstance(number, int) else None)
    except InputError as error:
        yield error


class DetectedBoxes:
    """The boxes of a detector, by image.

    Attributes:
        excluded: a line about entries of the file that are not used; "" if there are none.
    """

    def __init__(self, path: str):
        """Read the file. Raises InputError if it is no list of detections."""
        detections, self.excluded = coco_results.read_detections(path)
        self._path, self._of_image, self._used = path, dict[int, list[coco_results.Instance]](), 0
        for detection in detections:
            self._of_image.setdefault(detection.image_id, []).append(detection)

    def requests(self, requests: Iterable[Request | InputError]) -> Iterator[Request | InputError]:
        """Yield a Request per box in each image; none for an image without boxes.

        An image has the number of its list, or else of its name: 785 for 000000000785.jpg.
        """
        for request in requests:
            if isinstance(request, InputError):
                yield request
                continue
            number = image_number(request)
            if number is None:
                yield InputError(f"image {request.image}: has no number to find its boxes in --boxes={self._path}; "
                                 "expected a name such as 000000000785.jpg, or INPUT to be COCO's list of the images")
                continue
            for detection in self._of_image.get(number, []):
                box, to = detection.box, request.to_upright
                box = moved_box(box, to) if box and to else box
                yield replace(request, box=box, image_id=number, score=detection.score)
                self._used += 1

    def check_used(self) -> None:
        """Raise InputError if no box was in an image."""
        if not self._used:
            raise InputError(f"--boxes={self._path}: none of its boxes is in the images (the first: image "
                             f"{next(iter(self._of_image))}); give the images that were searched")


def image_number(request: Request) -> int | None:
    """Return the image's number: of its list, or of a name of digits; None if it has neither."""
    stem = Path(request.image).stem
    if request.image_id is not None:
        return request.image_id
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 19 else None


class ResultsFile:
    """Collects poses, and writes them as COCO's list of keypoint results, next to a list of their images."""

    def __init__(self, schema: Schema):
        """`schema` is the model's."""
        self._schema = schema
        self._images: dict[str, tuple[int | None, int, int]] = {}
        self._poses: list[tuple[str, np.ndarray, float]] = []

    def add(self, request: Request, pose: Pose, image: np.ndarray) -> None:
        """Add the pose of a request; `image` is what it was predicted in."""
        name = str(request.path.resolve()) if request.path.is_file() else request.image
        keypoints, size = pose.keypoints, np.array(image.shape[1::-1])
        if request.to_upright:  # back to the pixels that the COCO file counts
            keypoints = request.to_upright.inverse()(keypoints)
            size = np.abs(request.to_upright.matrix[:, :2].T @ size).astype(int)
        self._images.setdefault(name, (image_number(request), int(size[0]), int(size[1])))
        score = request.score * float(pose.scores.mean())
        self._poses.append((name, np.column_stack([keypoints, pose.scores]), score))

    def write(self, folder: Path) -> None:
        """Write RESULTS and IMAGES; images without a number of their own count on from the largest."""
        first_of = {number: name for name, (number, _, _) in reversed(self._images.items()) if number is not None}
        numbers = {name: number for number, name in first_of.items()}
        others = [name for name in self._images if name not in numbers]
        numbers |= {name: number for number, name in enumerate(others, max(first_of, default=0) + 1)}
        images = [{"id": numbers[name], "file_name": files.relative_if_inside(name, folder), "width": width,
                   "height": height} for name, (_, width, height) in self._images.items()]
        files.write_json(folder / RESULTS, [coco_results.result(numbers[name], keypoints, score)
                                            for name, keypoints, score in self._poses])
        files.write_json(folder / IMAGES, {"images": images, "annotations": [],
                                           "categories": [coco_results.category(self._schema)]})
