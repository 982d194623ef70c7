"""Describe a converted TFLite model in the metadata of its file, and return the file's bytes."""

from collections.abc import Mapping
from pathlib import Path

import posecascade
from posecascade import files
from posecascade.formats import tflite_file
from posecascade.formats.metadata import Metadata, metadata_dict
from posecascade.training.provenance import versions

# License of the weights unless the user gives one.
TERMS = "the terms of the data it was trained on, see data.sources in the recipe"
DESCRIPTIONS = {  # in the files, so they do not change with the package's language
    "heatmaps": "A crop of one person to the detector's part maps and the regressor's confidence maps; the center of "
                "cell u lies at stride * u + (stride - 1) / 2 pixels of the crop.",
    "keypoints": "A crop of one person to joints in pixels of the crop, with scores and visibility.",
    "decoder": "The maps of a heatmaps file to joints in pixels of the crop, with scores and visibility.",
}


def export_metadata(model_file: Path, metadata: Metadata, license: str, manifest: Mapping | None) -> dict:
    """Return the metadata of everything that is exported from the model file, as JSON values."""
    return {"model": metadata_dict(metadata), "license": license, "manifest": manifest,
            "source": {"file": model_file.name, "sha256": files.sha256(model_file)}, "exported_by": versions()}


def file_bytes(model: bytes, kind: str, precision: str, metadata: Metadata, exported: Mapping,
               decoder: bytes | None = None) -> bytes:
    """Return the bytes of a file of a converter's model.

    Args:
        model: the converter's output.
        kind: one of DESCRIPTIONS.
        precision: one of `tflite.PRECISIONS`.
        metadata: the model's.
        exported: what `export_metadata` returns.
        decoder: as in `tflite_file.to_bytes`.
    """
    return tflite_file.to_bytes(
        model, metadata={**exported, "kind": kind, "precision": precision}, keypoints=metadata.schema.keypoints,
        name=f"posecascade {kind} ({precision})", description=DESCRIPTIONS[kind], version=posecascade.__version__,
        author="posecascade", license=exported["license"], decoder=decoder)
