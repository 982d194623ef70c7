"""Read data sets from disk, or render them, as records: `read("TYPE:ROOT", split)` and the table of types."""

from collections.abc import Callable
from pathlib import Path

from posecascade.datasets import mpii
from posecascade.datasets.coco import read_coco
from posecascade.datasets.coco_options import split_options
from posecascade.datasets.lsp import read_lsp, read_lspet
from posecascade.datasets.mpii import read_mpii, read_mpii_json, read_mpii_val
from posecascade.datasets.sources import SPLITS, hold_out
from posecascade.datasets.synthetic import read_synthetic
from posecascade.errors import InputError
from posecascade.files import did_you_mean, expanded
from posecascade.records import Record
from posecascade.schema import Schema

__all__ = ["FIRST_PIXEL", "READERS", "SPLITS", "hold_out", "parse", "read", "stated_frame"]

READERS: dict[str, Callable[[str, str, Schema | None], list[Record]]] = {
    "lsp": read_lsp,
    "lspet": read_lspet,
    "mpii": read_mpii,
    "mpii_json": read_mpii_json,
    "mpii_val": read_mpii_val,
    "coco": read_coco,
    "synthetic": read_synthetic,
}

# The coordinate of the first pixel in a type's files; in records it is 0. Predictions that others made for a data set
# count as its files do: subtract this number from them before comparing.
FIRST_PIXEL: dict[str, int] = {kind: mpii.FIRST_PIXEL if kind.startswith("mpii") else 0 for kind in READERS}


def parse(spec: str) -> tuple[str, str]:
    """Return TYPE and ROOT of "TYPE:ROOT"; of type coco, ROOT includes the options after "#".

    Raises InputError if the type is unknown or takes no options, or there is no colon.

    >>> parse("lspet:/data/lspet")
    ('lspet', '/data/lspet')
    """
    kind, colon, root = spec.partition(":")
    if not colon:
        raise InputError(f"--data={spec}: expected TYPE:ROOT, as in lspet:/data/lspet; "
                         f"TYPE is one of {', '.join(READERS)}")
    if kind not in READERS:
        raise InputError(f"--data={spec}: unknown type {kind!r}; {did_you_mean(kind, READERS)}")
    if kind != "coco" and "#" in root and not Path(expanded(root)).exists():
        raise InputError(f"--data={spec}: type {kind} takes no options, and {root!r} does not exist; expected "
                         f"{kind}:ROOT. Remove #{root.rpartition('#')[2]} (coco:FILE#OPTIONS takes options)")
    return kind, root


def stated_frame(spec: str) -> str:
    """Return the frame of the labels that the data set's options state, "upright" or "stored"; "" if none.

    >>> stated_frame("coco:people.json#frame=stored"), stated_frame("lspet:/data/lspet")
    ('stored', '')
    """
    kind, root = parse(spec)
    return split_options(root)[1].frame if kind == "coco" else ""


def read(spec: str, split: str, schema: Schema | None = None, notes: list[str] | None = None) -> list[Record]:
    """Return the people of one split of the data set at "TYPE:ROOT", in the order of the file.

    Images are not opened or rendered. Raises InputError, with file and field, if something cannot be
    read, and if the split is empty.

    Args:
        spec: "TYPE:ROOT"; TYPE is a key of READERS. "coco:ROOT#OPTIONS" has options (`datasets.coco_options`).
        split: "train", "val", "test" or "all".
        schema: of custom files of type coco; the other types have a schema of their own and ignore it.
        notes: a line is appended for everything that was excluded or looks doubtful: annotations of other categories,
            missing images, repeated ids.

    >>> len(read("synthetic:2", "train"))
    2
    """
    kind, root = parse(spec)
    records = read_coco(root, split, schema, notes) if kind == "coco" else READERS[kind](root, split, schema)
    if not records:
        raise InputError(f"--data={spec}: split {split!r} has nobody with a labeled keypoint; choose another split")
    return records
