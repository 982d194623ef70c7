"""Bring labels from other tools and take them back: readers and writers by the tool's name."""

from collections.abc import Callable
from pathlib import Path

from posecascade.errors import InputError
from posecascade.exchange.coco import SCHEMA, read_coco, read_predictions, write_coco
from posecascade.exchange.cvat import LABELS, read_cvat, write_cvat
from posecascade.exchange.deeplabcut import read_deeplabcut
from posecascade.exchange.label_studio import INTERFACE, read_label_studio, write_label_studio
from posecascade.exchange.labelme import read_labelme
from posecascade.exchange.people import Options, People
from posecascade.exchange.sleap import read_sleap
from posecascade.exchange.yolo import read_yolo
from posecascade.files import did_you_mean

__all__ = ["READERS", "WRITERS", "Options", "People", "convert"]

READERS: dict[str, Callable[[Path, Options], People]] = {
    "coco": read_coco,
    "predictions": read_predictions,
    "cvat": read_cvat,
    "labelstudio": read_label_studio,
    "labelme": read_labelme,
    "yolo": read_yolo,
    "deeplabcut": read_deeplabcut,
    "sleap": read_sleap,
}
# Name -> suffix of the file, writer, suffix of the second file, which it writes next to the first.
WRITERS: dict[str, tuple[str, Callable[[People, Path], list[Path]], str]] = {
    "coco": (".json", write_coco, SCHEMA),
    "cvat": (".xml", write_cvat, LABELS),
    "labelstudio": (".json", write_label_studio, INTERFACE),
}


def convert(source: Path, output: Path, options: Options, *, read: str, write: str) -> tuple[People, list[Path]]:
    """Convert a source with the reader and writer of these names; return the people and the paths that were written.

    Raises InputError if a name is unknown, the source does not exist or would be replaced, or `output` has another
    suffix than the writer's.
    """
    for name, table in ((read, READERS), (write, WRITERS)):
        if name not in table:
            raise InputError(f"unknown tool {name!r}; {did_you_mean(name, table)}")
    suffix, writer, second = WRITERS[write]
    if output.suffix.lower() != suffix:
        raise InputError(f"--output={output}: expected a file with the suffix {suffix} for {write}")
    if not source.exists():
        raise InputError(f"{source}: does not exist; check the path")
    for path in (output, output.with_suffix(second)):
        if path.exists() and path.samefile(source):
            which = "is the source itself" if path == output else f"{path.name}, written next to it, is the source"
            raise InputError(f"--output={output}: {which}; choose another file")
    people = READERS[read](source, options)
    return people, writer(people, output)
