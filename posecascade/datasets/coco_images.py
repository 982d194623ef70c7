"""The images of a COCO file: their files, the frame that labels count pixels in, and the size that was labeled."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecascade.datasets.coco_options import Options
from posecascade.datasets.image_search import ImageSearch
from posecascade.datasets.sources import splits_in
from posecascade.errors import InputError
from posecascade.files import expanded
from posecascade.geometry import Affine, moved_box
from posecascade.image_headers import read_header
from posecascade.images import ImageFile, scale_factor
from posecascade.records import Record

OWN = "cocodataset.org"  # in `coco_url` of COCO's own images, whose labels count stored pixels


class CocoImages:
    """The images that a file lists, by id. Files are looked for when an annotation needs them."""

    def __init__(self, path: Path, entries: list, options: Options) -> None:
        """Check the `entries` of the list. Raises InputError for a damaged one, or two images with the same id."""
        self._path, self._options = path, options
        self._repeated = 0
        self._entries: dict[int | str, dict] = {}
        for number, entry in enumerate(entries):
            self._add(number, entry, entries)
        self._search = self._searching()
        self._files: dict[int | str, ImageFile] = {}
        self._lost = 0

    def of(self, origin: str, image_id: object) -> ImageFile:
        """Return the image of an annotation. Raises InputError if it is not listed or several files could be it."""
        if not isinstance(image_id, (int, str)) or image_id not in self._entries:
            raise InputError(f"{origin}: 'image_id' {image_id!r} is not among the images; fix the file")
        if image_id not in self._files:
            self._files[image_id] = self._file(self._entries[image_id])
        return self._files[image_id]

    def files(self) -> dict[int | str, ImageFile]:
        """Return all images by id, those of annotations and others."""
        return {image_id: self.of(str(self._path), image_id) for image_id in self._entries}

    def scaled(self, records: list[Record]) -> list[Record]:
        """Return the records with labels scaled to the images, for images that were scaled after labeling.

        People without a readable image are excluded, since the scale is unknown.
        """
        known: dict[int, tuple[ImageFile, Affine | None] | None] = {
            id(image): _rescaled(image) for image in self._files.values()}
        found = [(record, known[id(record.image)]) for record in records]
        self._lost += sum(scaled is None for _, scaled in found)
        return [_moved(record, *scaled) for record, scaled in found if scaled]

    def notes(self) -> Iterator[str]:
        """Yield lines about images that are listed twice, missing, or found by their names alone."""
        if self._repeated:
            yield f"{self._path}: {self._repeated} images are listed more than once"
        missing = [image for image in self._files.values() if image.tried]
        if 0 < len(missing) < len(self._files):  # without any image, only the annotations are given
            yield (f"{self._path}: {len(missing)} of {len(self._files)} images are missing; the first, "
                   f"{missing[0].path.name}: {missing[0].tried}")
        if self._search.by_name_alone:
            name, file = next(iter(self._search.by_name_alone.items()))
            yield (f"{self._path}: {len(self._search.by_name_alone)} of {len(self._files)} images were found by their "
                   f"names alone, such as {name} as {file}")
        if self._lost:
            yield f"{self._path}: excludes {self._lost} people, whose scale is unknown without a readable image"

    def _add(self, number: int, entry: Any, entries: list) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)) \
                or not isinstance(entry.get("file_name"), str):
            raise InputError(f"{self._path}: images[{number}] has no 'id' or 'file_name'; add them")
        other = self._entries.setdefault(entry["id"], entry)
        if other is entry:
            return
        if any(other.get(key) != entry.get(key) for key in ("file_name", "width", "height")):
            first = next(i for i, candidate in enumerate(entries) if candidate is other)
            raise InputError(f"{self._path}: images[{first}] ({other['file_name']!r}) and images[{number}] "
                             f"({entry['file_name']!r}) both have the id {entry['id']!r}, as in lists that were "
                             "merged; expected different ids. Number the images of one list again, and the 'image_id' "
                             "of its annotations")
        self._repeated += 1

    def _searching(self) -> ImageSearch:
        """Return the search below the file's folder: for annotations/mine_train.json, the folder of annotations/."""
        base = self._path.parent.parent if self._path.parent.name.lower() == "annotations" else self._path.parent
        words = self._path.stem.split("_")
        subsets = ["_".join(words[start:]) for start in range(len(words)) if words[start:] != [""]]
        folders = [*(top / subset for subset in subsets for top in (base, base / "images")), base / "images", base,
                   self._path.parent]
        if self._options.images:
            base = Path(expanded(self._options.images))
            if not base.is_dir():
                raise InputError(f"coco: images={base}: is not a folder; give the folder of the images")
            folders = [*(base / subset for subset in subsets), base]
        return ImageSearch((entry["file_name"] for entry in self._entries.values()), base,
                           list(dict.fromkeys(folder for folder in folders if folder.is_dir())), subsets,
                           splits_in(self._path.stem))

    def _file(self, entry: dict) -> ImageFile:
        try:
            path, tried = self._search.find(entry["file_name"])
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from None
        own = OWN in str(entry.get("coco_url"))
        upright = self._options.frame == "upright" if self._options.frame else not own
        return ImageFile(path, upright, self._size(entry), by_size=not self._options.frame, tried=tried)

    def _size(self, entry: dict) -> tuple[int, int] | None:
        width, height = entry.get("width"), entry.get("height")
        if not width or not height:  # 0, null or nothing: some tools do not know the size
            return None
        if not all(isinstance(side, (int, float)) and 0 < side < 2 ** 31 and side == round(side)
                   for side in (width, height)):
            raise InputError(f"{self._path}: image {entry['file_name']!r} has width {width!r} and height {height!r}; "
                             "expected numbers of pixels. Fix or remove them")
        return int(width), int(height)


def _rescaled(image: ImageFile) -> tuple[ImageFile, Affine | None] | None:
    """Return the image as it is now, and the map of its labels to it; None if the image cannot be read.

    An image that was not scaled evenly is returned unchanged, and refused when it is read.
    """
    header = read_header(image.path) if image.path.is_file() else None
    if not header:
        return None
    if image.size is None or image.size in (header.upright, header.stored):
        return image, None
    upright, labeled = image.upright, image.size
    own, other = (header.upright, header.stored) if upright else (header.stored, header.upright)
    if not scale_factor(labeled, own):
        if not scale_factor(labeled, other):
            return image, None
        if image.by_size:
            upright, own = not upright, other
        else:  # the stated frame holds, and the list has the size in the other one
            labeled = labeled[::-1]
    x, y = (now / before for now, before in zip(own, labeled, strict=True))
    # The corner of the image stays at -0.5, the edge of the first pixel.
    return replace(image, size=own, upright=upright), Affine(np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]]))


def _moved(record: Record, image: ImageFile, to_image: Affine | None) -> Record:
    if to_image is None:
        return record
    return replace(record, image=image, box=moved_box(record.box, to_image), keypoints=to_image(record.keypoints),
                   area=None if record.area is None else record.area * to_image.zoom ** 2)
