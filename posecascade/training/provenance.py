"""Where a result comes from: what a run must share with its earlier self, and the manifest beside its models."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import keras

import posecascade
from posecascade.errors import InputError
from posecascade.training.data import Splits
from posecascade.training.recipe import Recipe, differences, recipe_from

# Settings that change no weight: a run may go on with others.
FREE = {"training": ("workers", "checkpoint_every_steps", "evaluate_every_epochs", "validation_people"),
        "data": ("sources",),
        "export": ("max_float_error_px", "max_pck_drop", "people", "calibration_crops", "max_calibration_error",
                   "batch_sizes")}
PACKAGES = ("keras", "tensorflow", "jax", "torch", "ai-edge-litert", "numpy", "opencv-python-headless")


def identity_of(recipe: Recipe, people: Splits) -> dict:
    """What must be the same for a run to go on: recipe, people, joints, backend."""
    return {"recipe": recipe.as_dict(), "data": people.fingerprint(), "schema": people.schema.as_dict(),
            "backend": keras.backend.backend()}


def check_same(found: Mapping, wanted: Mapping, folder: Path) -> None:
    """InputError, naming what differs, where FOLDER holds a run of another recipe, data or backend."""
    one, other = (recipe_from(_without_free(value["recipe"]), f"{folder}") for value in (found, wanted))
    changes = differences(one, other)
    if found["data"] != wanted["data"]:
        changes.append("data: other people, labels or order than it was begun with")
    if found.get("schema", wanted["schema"]) != wanted["schema"]:  # a run of before 2026-11-25 did not say
        changes.append(f"schema: {wanted['schema']['name']} has other joints, pairs or segments now")
    if found["backend"] != wanted["backend"]:
        changes.append(f"backend: {found['backend']} -> {wanted['backend']}")
    if changes:
        raise InputError(f"{folder}: holds a run that differs ({'; '.join(changes[:5])}); "
                         "give the same settings to go on, or another --model_dir")


def _without_free(recipe):
    return {section: {key: value for key, value in knobs.items() if key not in FREE.get(section, ())}
            for section, knobs in recipe.items()}


def versions() -> dict[str, str]:
    """Return the versions of posecascade, Python, and those of PACKAGES that are installed."""
    found = {"posecascade": posecascade.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def manifest(recipe: Recipe, people: Splits, identity: Mapping) -> dict:
    """Resolved recipe, fingerprint and size of the data, versions and seed."""
    return {"recipe": recipe.as_dict(), "seed": recipe.training.seed, "backend": identity["backend"],
            "data": {"fingerprint": identity["data"], "sources": list(people.sources),
                     "people": {source: {"train": len(train), "validation": len(kept.records)} for source, train, kept
                                in zip(people.sources, people.train, people.validation, strict=True)}},
            "schema": people.schema.as_dict(), "versions": versions(), "platform": platform.platform()}
