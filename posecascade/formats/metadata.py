"""What must be known of a model to use it: its joints, sizes, decoder, recipe and result, as JSON has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from posecascade.codec.decoders import DECODERS
from posecascade.codec.score_calibration import IDENTITY, Calibration
from posecascade.errors import InputError
from posecascade.schema import Schema, schema_from

FORMAT = 1


@dataclass(frozen=True)
class Metadata:
    """What a model file says of its model.

    Attributes:
        schema: its joints; the channels of its outputs, in order.
        input_size: side in pixels of the square crop it was trained on.
        stride: input pixels per cell of its output maps.
        recipe: the resolved recipe it was trained by, as plain values.
        result: what was measured on it, as plain values.
        decoder: the one of `codec.DECODERS` that its results were measured with.
        calibration: the curve from its maps' peaks to the scores it gives.
    """

    schema: Schema
    input_size: int
    stride: int
    recipe: dict = field(default_factory=dict)
    result: dict = field(default_factory=dict)
    decoder: str = "soft"
    calibration: Calibration = IDENTITY


def metadata_dict(metadata: Metadata) -> dict:
    """The metadata as JSON has them; `metadata_from` reads them back."""
    return _plain({"format": FORMAT, "schema": metadata.schema.as_dict(), "input_size": metadata.input_size,
                   "stride": metadata.stride, "decoder": metadata.decoder,
                   "calibration": [metadata.calibration.slope, metadata.calibration.offset], "recipe": metadata.recipe,
                   "result": metadata.result})


def metadata_from(value: object, origin: str) -> Metadata:
    """What `metadata_dict` gave; other keys are passed over. Raises InputError, which `origin` begins."""
    def wrong(key, expected):
        raise InputError(f"{origin}: {key!r} holds {value.get(key)!r}, expected {expected}; get the file again")

    if not isinstance(value, Mapping):
        raise InputError(f"{origin}: holds {type(value).__name__}, expected an object; get the file again")
    if value.get("format") != FORMAT:
        wrong("format", f"{FORMAT} (of this version of posecascade)")
    for key in ("input_size", "stride"):
        if type(value.get(key)) is not int or value[key] < 1:
            wrong(key, "a positive whole number")
    for key in ("recipe", "result"):
        if not isinstance(value.get(key), Mapping):
            wrong(key, "an object")
    if value.get("decoder") not in DECODERS:
        wrong("decoder", f"one of {', '.join(DECODERS)}")
    curve = value.get("calibration", [1.0, 0.0])  # files of before 2026-11-25 have none
    if not (isinstance(curve, list) and len(curve) == 2 and all(type(number) in (int, float) for number in curve)
            and np.isfinite(curve).all() and curve[0] > 0):
        wrong("calibration", "a slope above 0 and an offset")
    return Metadata(schema_from(value.get("schema"), f"{origin}, 'schema'"), value["input_size"], value["stride"],
                    dict(value["recipe"]), dict(value["result"]), value["decoder"], Calibration(*map(float, curve)))


def _plain(value):
    """`value` as JSON has it: NumPy numbers and arrays as Python's, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
