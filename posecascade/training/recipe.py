"""Recipes: all settings of a training as frozen dataclasses, read from YAML with `--set` overrides and written back."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from posecascade.checks import dataclass_from, unknown_key
from posecascade.codec.decoders import DECODERS
from posecascade.errors import InputError
from posecascade.files import atomic_write, did_you_mean, read_yaml
from posecascade.formats.bundle import MAX_WARMUP_REQUESTS, SIGNATURES
from posecascade.formats.metadata import RENAMED_KEYS
from posecascade.models import BACKBONES, DETECTORS, REGRESSORS
from posecascade.training.augment import Augmentation
from posecascade.training.losses import OCCLUDED_PARTS
from posecascade.training.schedule import SCHEDULES, Phase

MAX_BATCH_SIZES = MAX_WARMUP_REQUESTS // len(SIGNATURES)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def _one_of(choices, default):
    return field(default=default, metadata={"choices": tuple(choices)})


def _at_least(low, default):
    return field(default=default, metadata={"low": low})


def _share(default):
    return field(default=default, metadata={"low": 0, "high": 1})


@dataclass(frozen=True)
class Data:
    """Settings of the training data.

    Attributes:
        sources: data sets as TYPE:ROOT; --data overrides them.
        sampling_weights: share of each data set in an epoch, one number per source; empty: everybody once per epoch.
        schema: the model's keypoints: a built-in name (lsp14, mpii16, coco17) or a .yaml file.
    """

    sources: tuple[str, ...] = ()
    sampling_weights: tuple[float, ...] = ()
    schema: str = "lsp14"


@dataclass(frozen=True)
class Model:
    """Settings of the network.

    Attributes:
        stages: the complete cascade, or one of its two stages alone.
        backbone: the network that computes the features of the image.
        detector: the head that makes part maps from these features.
        regressor: the network that makes confidence maps from the part maps and the image.
        stride: input pixels per cell of the maps.
        width: channels of the regressor.
        input_size: side of the square crop in pixels.
        regressor_sees_image: whether the regressor reads the image next to the part maps.
        backbone_weights: weights that the backbone starts with: none, imagenet or a file.
        init_from: a trained model (a .keras file, or a shipped model) whose weights are taken if they fit; keypoints
            are
            matched by name.
        decoder: how keypoints are read from the maps.
    """

    stages: str = _one_of(("cascade", "detector", "regressor"), "cascade")
    backbone: str = _one_of(BACKBONES, "efficientnet_lite0")
    detector: str = _one_of(DETECTORS, "topdown")
    regressor: str = _one_of(REGRESSORS, "light")
    stride: int = _one_of((1, 4), 4)
    width: int = _at_least(8, 96)
    input_size: int = _at_least(32, 192)
    regressor_sees_image: bool = True
    backbone_weights: str = "none"
    init_from: str = ""
    decoder: str = _one_of(DECODERS, "soft")


@dataclass(frozen=True)
class Loss:
    """Settings of the losses of the two stages (`training.losses`).

    Attributes:
        detection_weight: weight of the detector's loss (sigmoid cross-entropy of the part maps).
        regression_weight: weight of the regressor's loss (squared error of the confidence maps).
        foreground_weight: additional weight of the cells inside discs and Gaussians.
        disc_radius_px: radius of the detector's targets, in pixels of an input of `model.input_size`.
        gaussian_sigma_px: standard deviation of the regressor's targets, in the same pixels.
        occluded_parts: detector target for occluded keypoints: "detect" = as visible, "ignore" = excluded from the
            loss,
            "reject" = all-zero map.
        teacher: a trained cascade (a file, or a shipped model) whose maps are learned in addition to the labels.
        distillation_weight: share of both losses that is computed against the teacher's maps.
    """

    detection_weight: float = _at_least(0, 0.1)
    regression_weight: float = _at_least(0, 0.2)
    foreground_weight: float = _at_least(0, 4.0)
    disc_radius_px: float = _at_least(0, 7.5)
    gaussian_sigma_px: float = _at_least(0, 5.25)
    occluded_parts: str = _one_of(OCCLUDED_PARTS, "detect")
    teacher: str = ""
    distillation_weight: float = _share(0.5)


@dataclass(frozen=True)
class Optimizer:
    """Settings of the optimizer.

    Attributes:
        name: the optimizer.
        learning_rate: the highest learning rate.
        backbone_lr_factor: multiplier of the learning rate for the backbone.
        momentum: of sgd and rmsprop.
        weight_decay: of adamw.
        clip_norm: limit of the gradient's norm; 0 means none.
        ema_decay: decay of the averaged weights, which are evaluated and saved; 0 means no average.
        schedule: the learning rate over the run: constant, cosine to zero, or multiplied by step_factor at each
            milestone.
        warmup_steps: steps over which the learning rate rises linearly.
        milestones: for the step schedule, positions relative to the run, between 0 and 1.
        step_factor: for the step schedule.
    """

    name: str = _one_of(("sgd", "rmsprop", "adam", "adamw"), "adamw")
    learning_rate: float = _at_least(0, 1.5e-3)
    backbone_lr_factor: float = _at_least(0, 0.5)
    momentum: float = _share(0.9)
    weight_decay: float = _at_least(0, 0.01)
    clip_norm: float = _at_least(0, 5.0)
    ema_decay: float = _share(0.998)
    schedule: str = _one_of(SCHEDULES, "cosine")
    warmup_steps: int = _at_least(0, 300)
    milestones: tuple[float, ...] = ()
    step_factor: float = _at_least(0, 0.1)


@dataclass(frozen=True)
class Training:
    """Settings of the training run.

    Attributes:
        epochs: number of passes through the data.
        batch_size: people per step.
        phases: parts of the run, one after the other; see training.phases.
        seed: of initialization, order and augmentation.
        precision: of the arithmetic while training; evaluated and saved models are float32.
        workers: threads that make batches.
        checkpoint_every_steps: how often the state for resuming is saved.
        evaluate_every_epochs: how often the validation people are measured.
        validation_people: limit of their number; 0 means all.
    """

    epochs: int = _at_least(1, 17)
    batch_size: int = _at_least(1, 32)
    phases: tuple[Phase, ...] = (Phase(),)
    seed: int = _at_least(0, 0)
    precision: str = _one_of(PRECISIONS, "float32")
    workers: int = _at_least(1, 2)
    checkpoint_every_steps: int = _at_least(1, 250)
    evaluate_every_epochs: int = _at_least(1, 1)
    validation_people: int = _at_least(0, 0)


@dataclass(frozen=True)
class Export:
    """Limits that an export must keep, or it is refused.

    Attributes:
        max_float_error_px: limit of the 99th percentile of the distance between a float artifact's keypoints and the
            model's, in pixels of the crop.
        max_pck_drop: points of PCK that an artifact with 8-bit weights may lose.
        people: validation people measured, at most.
        calibration_crops: augmented crops on which the ranges of int8 activations are calibrated.
        max_calibration_error: expected calibration error of the scores above which a calibration curve is added; 1
            never.
        batch_sizes: batch sizes for which warm-up requests are written.
    """

    max_float_error_px: float = _at_least(0, 0.1)
    max_pck_drop: float = _at_least(0, 1.0)
    people: int = _at_least(1, 500)
    calibration_crops: int = _at_least(1, 200)
    max_calibration_error: float = _share(0.1)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self):
        if not 1 <= len(self.batch_sizes) <= MAX_BATCH_SIZES or min(self.batch_sizes) < 1:
            raise InputError(f"batch_sizes is {list(self.batch_sizes)}, expected 1 to {MAX_BATCH_SIZES} whole numbers "
                             "from 1 on, as in [1, 4]")


@dataclass(frozen=True)
class Recipe:
    """All settings of a training; a recipe file holds those that differ from these defaults."""

    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    export: Export = Export()

    def as_dict(self) -> dict:
        """Return nested dicts, lists, numbers and strings, which `recipe_from` reads back."""
        return _plain(dataclasses.asdict(self))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def recipe_names() -> dict[str, Path]:
    """Return the files of the package's recipes by name."""
    # In an installation recipes are inside the package (setup.cfg), in a checkout next to it.
    here = Path(__file__).resolve().parents[1]
    folder = here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe by name or from a YAML file, with `KEY=VALUE` overrides such as "training.epochs=3".

    Raises InputError with file, key, the value found and the nearest valid key or values.
    """
    path = recipe_names().get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise InputError(f"unknown recipe {name_or_file!r}; {did_you_mean(name_or_file, recipe_names())} "
                         "(or give a .yaml file)")
    return overridden(recipe_from(read_yaml(path, "recipe") or {}, f"recipe {path}"), overrides)


def overridden(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with other values, each "KEY=VALUE" with a dotted key; raises InputError as `load_recipe`."""
    for override in overrides:
        recipe = _overridden(recipe, override)
    return recipe


def recipe_from(value: Mapping, origin: str) -> Recipe:
    """Return a recipe from nested mappings; error messages begin with `origin`."""
    return dataclass_from(Recipe, value, origin, unknown=_unknown)


def _overridden(recipe, override):
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and name):
        raise InputError(f"--set={override}: expected KEY=VALUE with a dotted key, like training.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set={override}: the value is not YAML; quote it or write it as in a recipe") from None
    known = recipe.as_dict()
    if section in known and name in known[section]:
        known[section][name] = value
        return recipe_from(known, f"--set={override}")
    keys = [f"{section}.{name}" for section, settings in known.items() for name in settings]
    raise InputError(f"--set={override}: {_unknown(key, key, keys)}")


def _unknown(path, key, known):
    """Return the message for an unknown key: its present name if it was renamed, else the nearest valid key."""
    new = RENAMED_KEYS.get(re.sub(r"\[\d+\]", "[]", path))
    return f"unknown key {path!r}; it is now {new!r}" if new else unknown_key(path, key, known)


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the recipe with all its keys atomically as YAML that `load_recipe` reads."""
    with atomic_write(path) as draft:
        draft.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False), encoding="utf-8")


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Return the keys whose values differ, as "section.key: value of `one` -> value of `other`"."""
    before, after = one.as_dict(), other.as_dict()
    return [f"{section}.{key}: {before[section][key]} -> {after[section][key]}"
            for section in before for key in before[section] if before[section][key] != after[section][key]]
