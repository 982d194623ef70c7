"""A TFLite model with its card, sealed: the bytes of a file."""

from collections.abc import Mapping
from pathlib import Path

import posecascade
from posecascade import files
from posecascade.formats.metadata import Metadata, metadata_dict
from posecascade.formats.tflite_file import seal
from posecascade.training.provenance import versions

# Of the weights, unless the user says others.
TERMS = "the terms of the data it was trained on, see data.sources in the recipe"
DESCRIPTIONS = {
    "heatmaps": "A crop of one person to the detector's part maps and the regressor's confidence maps; the center of "
                "cell u lies at stride * u + (stride - 1) / 2 pixels of the crop.",
    "keypoints": "A crop of one person to joints in pixels of the crop, with scores and visibility.",
    "decoder": "The maps of a heatmaps file to joints in pixels of the crop, with scores and visibility.",
}


def card_of(model_file: Path, metadata: Metadata, license: str, manifest: Mapping | None) -> dict:
    """The model card that travels with whatever is made of the model file."""
    return {"model": metadata_dict(metadata), "license": license, "manifest": manifest,
            "source": {"file": model_file.name, "sha256": files.sha256(model_file)}, "exported_by": versions()}


def sealed_file(model: bytes, kind: str, precision: str, metadata: Metadata, card: Mapping,
                decoder: bytes | None = None) -> bytes:
    """The bytes of a sealed file of a converter's model; `kind` is one of DESCRIPTIONS, `decoder` as in `seal`."""
    return seal(model, sidecar={**card, "kind": kind, "precision": precision}, joints=metadata.schema.keypoints,
                name=f"posecascade {kind} ({precision})", description=DESCRIPTIONS[kind],
                version=posecascade.__version__, author="posecascade", license=card["license"],
                decoder=decoder)
