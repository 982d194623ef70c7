"""Record where a result comes from: what a resumed run must share with the first part, and the run's manifest."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import posecascade
from posecascade.backend import keras
from posecascade.errors import InputError
from posecascade.formats.metadata import with_current_keys
from posecascade.training.data import Splits
from posecascade.training.recipe import Recipe, differences, recipe_from

# Settings that change no weight: a run may be resumed with other values.
FREE = {"training": ("workers", "checkpoint_every_steps", "evaluate_every_epochs", "validation_people"),
        "data": ("sources",),
        "export": ("max_float_error_px", "max_pck_drop", "people", "calibration_crops", "max_calibration_error",
                   "batch_sizes")}
PACKAGES = ("keras", "tensorflow", "jax", "torch", "ai-edge-litert", "numpy", "opencv-python-headless")


def identity_of(recipe: Recipe, splits: Splits) -> dict:
    """Return what must be the same for a run to be resumed: recipe, data, schema and backend."""
    return {"recipe": recipe.as_dict(), "data": splits.fingerprint(), "schema": splits.schema.as_dict(),
            "backend": keras.backend.backend()}


def check_same(saved: Mapping, current: Mapping, folder: Path) -> int:
    """Return how many epochs `current` adds to the run in FOLDER, usually 0; all else must be the same.

    Raises InputError with the differences if FOLDER holds a run of another recipe, data, schema or backend.
    """
    before, now = (value["recipe"]["training"]["epochs"] for value in (saved, current))
    # A run of before December 2026 has the old keys, which its user cannot edit.
    one, other = (recipe_from(_without_free(with_current_keys(value["recipe"])), f"{folder}")
                  for value in (saved, current))
    changes = differences(one, other)
    if saved["data"] != current["data"]:
        changes.append("data: other people, labels or order")
    if saved.get("schema", current["schema"]) != current["schema"]:  # absent from runs of before 2026-11-25
        changes.append(f"schema: {current['schema']['name']} has other keypoints, pairs or segments now")
    if saved["backend"] != current["backend"]:
        changes.append(f"backend: {saved['backend']} -> {current['backend']}")
    if changes and (now <= before or changes != [f"training.epochs: {before} -> {now}"]):
        raise InputError(f"{folder}: holds a run that differs ({'; '.join(changes[:5])}); "
                         "give the same settings to resume it, or another --model_dir")
    return now - before


def _without_free(recipe):
    return {section: {key: value for key, value in knobs.items() if key not in FREE.get(section, ())}
            for section, knobs in recipe.items()}


def versions() -> dict[str, str]:
    """Return the versions of posecascade, Python, and those of PACKAGES that are installed."""
    installed = {"posecascade": posecascade.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def manifest(recipe: Recipe, splits: Splits, identity: Mapping) -> dict:
    """Return the resolved recipe, fingerprint and size of the data, versions and seed."""
    people = {source: {"train": len(train), "validation": len(validation.records)} for source, train, validation
              in zip(splits.sources, splits.train, splits.validation, strict=True)}
    return {"recipe": recipe.as_dict(), "seed": recipe.training.seed, "backend": identity["backend"],
            "data": {"fingerprint": identity["data"], "sources": list(splits.sources), "people": people},
            "schema": splits.schema.as_dict(), "versions": versions(), "platform": platform.platform()}
