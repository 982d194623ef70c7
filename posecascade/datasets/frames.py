"""Compare the images of a data set with the frame and size that its labels were made for, by the files' headers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from posecascade.errors import InputError
from posecascade.image_headers import read_header
from posecascade.images import ImageFile
from posecascade.records import Record


@dataclass(frozen=True)
class Frames:
    """What the headers of the images say. Images that are missing or of an unknown kind are not counted.

    Attributes:
        images: number of images in the data set.
        checked: number of those whose header was read.
        turned: images with an EXIF rotation.
        stored: of those, images whose labels count stored pixels.
        undecided: of those, images whose size does not tell the frame; their labels count upright pixels, those of
            COCO's own images stored ones.
        wrong_size: a message for each image that does not have the size that was labeled.
    """

    images: int
    checked: int
    turned: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    wrong_size: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Return lines for the start of a run: nothing if no image is rotated or has the wrong size."""
        of = "" if self.checked == self.images else f" of {self.checked} checked, among {self.images}"
        notes = []
        if self.wrong_size:
            notes.append(f"{len(self.wrong_size)} images{of} do not have the size that was labeled; "
                         f"{self.wrong_size[0]}")
        if self.turned:
            notes.append(f"{len(self.turned)} images{of} are rotated by EXIF: labels count stored pixels in "
                         f"{len(self.stored)}, upright pixels in {len(self.turned) - len(self.stored)}"
                         + (f" ({len(self.undecided)} undecided, such as {self.undecided[0]}; state it with "
                            "#frame=stored or #frame=upright)" if self.undecided else ""))
        return notes


def inspect_frames(records: Sequence[Record], limit: int | None = None) -> Frames:
    """Return the findings about all image files of the records, or about `limit` of them, evenly spread."""
    images = list({r.image_name: r.image for r in records if isinstance(r.image, ImageFile)}.values())
    count = len(images) if limit is None else min(limit, len(images))
    chosen = [images[i] for i in np.linspace(0, len(images) - 1, count).astype(int)] if images else []
    with ThreadPoolExecutor() as pool:
        findings = list(zip(chosen, pool.map(_finding, chosen), strict=True))

    def names(kind):
        return tuple(image.name for image, (kinds, _) in findings if kind in kinds)

    return Frames(len(images), sum(bool(kinds) for _, (kinds, _) in findings), names("turned"), names("stored"),
                  names("undecided"), tuple(problem for _, (_, problem) in findings if problem))


def _finding(image: ImageFile) -> tuple[tuple[str, ...], str]:
    """Return what the header says, nothing if there is none, and the message about a wrong size."""
    try:
        header = read_header(image.path)
    except InputError:
        return (), ""
    if not header:
        return (), ""
    try:
        upright = image.is_upright(header.stored, header.upright)
    except InputError as error:
        return ("read",), str(error)
    if header.orientation == 1:
        return ("read",), ""
    undecided = image.by_size and (image.size is None or header.stored == header.upright)
    return ("read", "turned", *["stored"] * (not upright), *["undecided"] * undecided), ""
