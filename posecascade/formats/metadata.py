"""Metadata of a trained model: its keypoints, sizes, decoder, recipe and results; to and from JSON values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posecascade.checks import value_from
from posecascade.codec.decoders import DECODERS
from posecascade.codec.score_calibration import IDENTITY, Calibration
from posecascade.errors import InputError
from posecascade.schema import Schema, schema_from

FORMAT = 1
# Names of the metadata and of the list of keypoints: in a .keras or .npz file, in a .tflite file, in a SavedModel's
# assets and in an export's folder.
METADATA_FILE = "posecascade.json"
KEYPOINTS_FILE = "joints.txt"
# Recipe keys renamed on 2026-12-01: the old name -> the new one. A recipe with an old name is refused
# (`training.recipe`); in the metadata of a model trained earlier it is replaced when the file is read.
RENAMED_KEYS = {
    "data.weights": "data.sampling_weights",
    "model.pieces": "model.stages",
    "model.weights": "model.backbone_weights",
    "model.start_from": "model.init_from",
    "model.reads_image": "model.regressor_sees_image",
    "loss.foreground": "loss.foreground_weight",
    "loss.disc_radius": "loss.disc_radius_px",
    "loss.sigma": "loss.gaussian_sigma_px",
    "loss.taught": "loss.distillation_weight",
    "augmentation.flip": "augmentation.flip_prob",
    "augmentation.zoom": "augmentation.scale_log_std",
    "augmentation.zoom_range": "augmentation.scale_range",
    "augmentation.rotation": "augmentation.rotation_std_deg",
    "augmentation.rotation_limit": "augmentation.rotation_max_deg",
    "augmentation.rotated": "augmentation.rotation_prob",
    "augmentation.shift": "augmentation.shift_max",
    "augmentation.colour": "augmentation.color_jitter",
    "augmentation.half_body": "augmentation.half_body_prob",
    "augmentation.occluder": "augmentation.occluder_prob",
    "optimizer.backbone_rate": "optimizer.backbone_lr_factor",
    "optimizer.ema": "optimizer.ema_decay",
    "optimizer.drop": "optimizer.step_factor",
    "training.stages": "training.phases",
    "training.phases[].rate": "training.phases[].lr_factor",
    "training.phases[].freeze": "training.phases[].frozen_blocks",
    "training.save_every": "training.checkpoint_every_steps",
    "training.evaluate_every": "training.evaluate_every_epochs",
    "export.float_distance": "export.max_float_error_px",
    "export.quantised_loss": "export.max_pck_drop",
    "export.score_error": "export.max_calibration_error",
    "export.calibration": "export.calibration_crops",
}

_KEYS: dict[str, tuple[type, dict[str, Any]]] = {  # with the type and limits of each
    "input_size": (int, {"low": 1}), "stride": (int, {"low": 1}), "recipe": (dict, {}), "result": (dict, {}),
    "decoder": (str, {"choices": tuple(DECODERS)})}


@dataclass(frozen=True)
class Metadata:
    """What is needed to use a model.

    Attributes:
        schema: names the keypoints, in the order of the output channels.
        input_size: side in pixels of the square crop that the model was trained on.
        stride: input pixels per cell of the output maps.
        recipe: the resolved recipe of the training, as plain values.
        result: figures measured on the model, as plain values.
        decoder: the key of `codec.decoders.DECODERS` that the results were measured with.
        calibration: the curve from peaks of the maps to scores.
    """

    schema: Schema
    input_size: int
    stride: int
    recipe: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    decoder: str = "soft"
    calibration: Calibration = IDENTITY


def metadata_dict(metadata: Metadata) -> dict[str, Any]:
    """Return the metadata as JSON values, which `metadata_from` reads back."""
    plain: dict[str, Any] = _plain({
        "format": FORMAT, "schema": metadata.schema.as_dict(), "input_size": metadata.input_size,
        "stride": metadata.stride, "decoder": metadata.decoder,
        "calibration": [metadata.calibration.slope, metadata.calibration.offset], "recipe": metadata.recipe,
        "result": metadata.result})
    return plain


def metadata_from(value: object, origin: str) -> Metadata:
    """Return the metadata that `metadata_dict` wrote; other keys are ignored.

    Raises InputError, beginning with `origin`, if a key is missing or holds a wrong value.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{origin}: holds {type(value).__name__}, expected an object; get the file again")
    if value.get("format") != FORMAT:
        raise InputError(f"{origin}: format is {value.get('format')!r}, expected {FORMAT} (of this version of "
                         "posecascade); get the file again")
    try:
        checked = {key: value_from(hint, value.get(key), origin, key, limits) for key, (hint, limits) in _KEYS.items()}
        # Files written before 2026-11-25 have no calibration.
        curve = value_from(tuple[float, float], value.get("calibration", [1.0, 0.0]), origin, "calibration")
        if curve[0] <= 0:
            raise InputError(f"{origin}: calibration is {list(curve)}, expected a slope above 0 and an offset")
    except InputError as error:
        raise InputError(f"{error}; get the file again") from None
    checked["recipe"] = with_current_keys(checked["recipe"])
    return Metadata(schema_from(value.get("schema"), f"{origin}, 'schema'"), calibration=Calibration(*curve), **checked)


def with_current_keys(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the recipe, nested mappings as in YAML, with every renamed key under its current name."""
    renamed: dict[str, Any] = {}
    for key, value in recipe.items():
        path = RENAMED_KEYS.get(f"{prefix}{key}", f"{prefix}{key}")
        if isinstance(value, Mapping):
            value = with_current_keys(value, f"{path}.")
        elif isinstance(value, (list, tuple)):
            value = [with_current_keys(item, f"{path}[].") if isinstance(item, Mapping) else item for item in value]
        renamed[path.removeprefix(prefix)] = value
    return renamed


def _plain(value: Any) -> Any:
    """Return `value` as JSON values: NumPy numbers and arrays as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
