"""Data sets on disk, or rendered -> records: `read("TYPE:ROOT", split)`, and the table of types."""

from collections.abc import Callable

from posecascade.datasets import mpii
from posecascade.datasets.coco import read_coco
from posecascade.datasets.lsp import read_lsp, read_lspet
from posecascade.datasets.mpii import read_mpii, read_mpii_json, read_mpii_val
from posecascade.datasets.sources import SPLITS, hold_out
from posecascade.datasets.synthetic import read_synthetic
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.records import Record
from posecascade.schema import Schema

__all__ = ["FIRST_PIXEL", "READERS", "SPLITS", "hold_out", "parse", "read"]

READERS: dict[str, Callable[[str, str, Schema | None], list[Record]]] = {
    "lsp": read_lsp,
    "lspet": read_lspet,
    "mpii": read_mpii,
    "mpii_json": read_mpii_json,
    "mpii_val": read_mpii_val,
    "coco": read_coco,
    "synthetic": read_synthetic,
}

# Where the coordinates on disk begin to count, by type; the records count from 0. Predictions that others made for a
# data set count as its files do: subtract this from them before comparing.
FIRST_PIXEL: dict[str, int] = {kind: mpii.FIRST_PIXEL if kind.startswith("mpii") else 0 for kind in READERS}


def parse(spec: str) -> tuple[str, str]:
    """TYPE and ROOT of "TYPE:ROOT"; InputError for an unknown type or where there is no colon."""
    kind, colon, root = spec.partition(":")
    if not colon:
        raise InputError(f"--data={spec}: expected TYPE:ROOT, as in lspet:/data/lspet; "
                         f"TYPE is one of {', '.join(READERS)}")
    if kind not in READERS:
        raise InputError(f"--data={spec}: unknown type {kind!r}; {did_you_mean(kind, READERS)}")
    return kind, root


def read(spec: str, split: str, schema: Schema | None = None) -> list[Record]:
    """The people of one split ("train", "val", "test" or "all") of the data set at "TYPE:ROOT", in the file's order.

    Args:
        spec: "TYPE:ROOT", TYPE a key of READERS.
        schema: of a user's own files of type coco; the other types have theirs and do not use it.

    Pictures are not opened, not looked for and not rendered. Raises InputError, naming file and field, for whatever
    cannot be read, and where the split holds nobody.
    """
    kind, root = parse(spec)
    records = READERS[kind](root, split, schema)
    if not records:
        raise InputError(f"--data={spec}: split {split!r} holds nobody with a labeled joint; choose another split")
    return records
