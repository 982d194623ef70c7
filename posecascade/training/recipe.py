"""Recipes: every knob there is, as frozen dataclasses, read from YAML with `--set` overrides and written back."""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from posecascade.codec.decoders import DECODERS
from posecascade.errors import InputError
from posecascade.files import atomic_write, did_you_mean, read_yaml
from posecascade.models import BACKBONES, DETECTORS, REGRESSORS
from posecascade.training.augment import Augmentation
from posecascade.training.losses import OCCLUDED_PARTS
from posecascade.training.schedule import SCHEDULES, Stage

MAX_BATCH_SIZES = 250  # TF Serving takes 1000 warm-up requests, and there are four signatures
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def _one_of(choices, default):
    return field(default=default, metadata={"choices": tuple(choices)})


def _at_least(low, default):
    return field(default=default, metadata={"low": low})


def _share(default):
    return field(default=default, metadata={"low": 0, "high": 1})


@dataclass(frozen=True)
class Data:
    """Which people: `sources` are TYPE:ROOT (or --data); `weights` their shares in an epoch; `schema` of the model."""

    sources: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    schema: str = "lsp14"


@dataclass(frozen=True)
class Model:
    """Which network; `input_size` in pixels, `weights` of the backbone: "none", "imagenet" or a file.

    `start_from` is a `.keras` file trained before, whose weights are taken where they fit, joints by name.
    """

    pieces: str = _one_of(("cascade", "detector", "regressor"), "cascade")
    backbone: str = _one_of(BACKBONES, "efficientnet_lite0")
    detector: str = _one_of(DETECTORS, "topdown")
    regressor: str = _one_of(REGRESSORS, "light")
    stride: int = _one_of((1, 4), 4)
    width: int = _at_least(8, 96)
    input_size: int = _at_least(32, 192)
    reads_image: bool = True
    weights: str = "none"
    start_from: str = ""
    decoder: str = _one_of(DECODERS, "soft")


@dataclass(frozen=True)
class Loss:
    """The two losses (`losses`); `disc_radius` and `sigma` in pixels of an input of `model.input_size`.

    `teacher` is a trained cascade, a file or a model of the package, whose maps are learned beside the labels;
    `taught` is their part in both losses.
    """

    detection_weight: float = _at_least(0, 0.1)
    regression_weight: float = _at_least(0, 0.2)
    foreground: float = _at_least(0, 4.0)
    disc_radius: float = _at_least(0, 7.5)
    sigma: float = _at_least(0, 5.25)
    occluded_parts: str = _one_of(OCCLUDED_PARTS, "detect")
    teacher: str = ""
    taught: float = _share(0.5)


@dataclass(frozen=True)
class Optimizer:
    """How weights move: `backbone_rate` is the backbone's factor on `learning_rate`; `ema` 0 means no average.

    Schedules: cosine to zero; step multiplies by `drop` at each of `milestones`, given in parts of the run.
    """

    name: str = _one_of(("sgd", "rmsprop", "adam", "adamw"), "adamw")
    learning_rate: float = _at_least(0, 1.5e-3)
    backbone_rate: float = _at_least(0, 0.5)
    momentum: float = _share(0.9)
    weight_decay: float = _at_least(0, 0.01)
    clip_norm: float = _at_least(0, 5.0)
    ema: float = _share(0.998)
    schedule: str = _one_of(SCHEDULES, "cosine")
    warmup_steps: int = _at_least(0, 300)
    milestones: tuple[float, ...] = ()
    drop: float = _at_least(0, 0.1)


@dataclass(frozen=True)
class Training:
    """The run itself; `save_every` in steps, `evaluate_every` in epochs; `validation_people` 0 means all of them."""

    epochs: int = _at_least(1, 17)
    batch_size: int = _at_least(1, 32)
    stages: tuple[Stage, ...] = (Stage(),)
    seed: int = _at_least(0, 0)
    precision: str = _one_of(PRECISIONS, "float32")
    workers: int = _at_least(1, 2)
    save_every: int = _at_least(1, 250)
    evaluate_every: int = _at_least(1, 1)
    validation_people: int = _at_least(0, 0)


@dataclass(frozen=True)
class Export:
    """What an export must keep, or it is refused; measured on `people` kept for validation.

    `float_distance` is the 99th percentile of how far a joint of a float artefact may lie from the model's, in pixels
    of the crop; `quantised_loss` how many points of PCK an artefact with int8 weights may lose. int8 activations are
    calibrated on `calibration` augmented crops. Scores whose expected calibration error is above `score_error` get a
    curve that brings it down; 1 leaves them as they are. Warm-up requests are written for `batch_sizes`.
    """

    float_distance: float = _at_least(0, 0.1)
    quantised_loss: float = _at_least(0, 1.0)
    people: int = _at_least(1, 500)
    calibration: int = _at_least(1, 200)
    score_error: float = _share(0.1)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self):
        if not 1 <= len(self.batch_sizes) <= MAX_BATCH_SIZES or min(self.batch_sizes) < 1:
            raise InputError(f"batch_sizes is {list(self.batch_sizes)}, expected 1 to {MAX_BATCH_SIZES} whole numbers "
                             "from 1 on, as in [1, 4]")


@dataclass(frozen=True)
class Recipe:
    """One result's settings; a recipe file holds what differs from these defaults."""

    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    export: Export = Export()

    def as_dict(self) -> dict:
        """Plain nested dicts, lists, numbers and strings; `recipe_from` reads them back."""
        return _plain(dataclasses.asdict(self))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def recipe_names() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    # Installed, recipes are inside the package (setup.cfg); in a checkout, next to it.
    here = Path(__file__).resolve().parents[1]
    folder = here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name or from a YAML file, with `KEY=VALUE` overrides such as "training.epochs=3".

    Raises InputError naming file, key, what was found and the nearest valid key or values.
    """
    path = recipe_names().get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise InputError(f"unknown recipe {name_or_file!r}; {did_you_mean(name_or_file, recipe_names())} "
                         "(or give a .yaml file)")
    return overridden(recipe_from(read_yaml(path, "recipe") or {}, f"recipe {path}"), overrides)


def overridden(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with other values, each "KEY=VALUE" with a dotted key; InputError as `load_recipe`."""
    for override in overrides:
        recipe = _overridden(recipe, override)
    return recipe


def recipe_from(value: Mapping, origin: str) -> Recipe:
    """A recipe from nested mappings; `origin` begins the errors."""
    return _build(Recipe, value, origin, "")


def _overridden(recipe, override):
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and name):
        raise InputError(f"--set={override}: expected KEY=VALUE with a dotted key, like training.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set={override}: the value is no YAML; quote it or write it as in a recipe") from None
    known = recipe.as_dict()
    if section in known and name in known[section]:
        known[section][name] = value
        return recipe_from(known, f"--set={override}")
    keys = [f"{part}.{knob}" for part, knobs in known.items() for knob in knobs]
    raise InputError(f"--set={override}: unknown key {key!r}; {did_you_mean(key, keys)}")


def _build(cls, value, origin, prefix):
    """`cls` from a mapping, every key and value checked; `prefix` is the dotted path so far."""
    if not isinstance(value, Mapping):
        raise InputError(f"{origin}: {prefix.rstrip('.') or 'the recipe'} holds {value!r}, expected a mapping of keys")
    known = {item.name: item for item in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in known:
            raise InputError(f"{origin}: unknown key {prefix + str(key)!r}; {did_you_mean(str(key), known)}")
    checked = {key: _checked(hints[key], known[key].metadata, item, origin, prefix + key)
               for key, item in value.items()}
    try:
        return cls(**checked)
    except InputError as error:
        raise InputError(f"{origin}: {prefix}{error}") from None


def _checked(hint, limits, value, origin, key):
    def refuse(expected):
        raise InputError(f"{origin}: {key} is {value!r}, expected {expected}")

    if dataclasses.is_dataclass(hint):
        return _build(hint, value, origin, key + ".")
    if typing.get_origin(hint) is tuple:
        inner, *rest = typing.get_args(hint)
        length = None if rest == [Ellipsis] else 1 + len(rest)
        if not isinstance(value, (list, tuple)) or (length and len(value) != length):
            refuse(f"a list of {length or 'any number of'} values")
        return tuple(_checked(inner, {}, item, origin, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        value = _number(value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        refuse({int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint])
    if "choices" in limits and value not in limits["choices"]:
        raise InputError(f"{origin}: {key} is {value!r}; {did_you_mean(str(value), map(str, limits['choices']))}")
    if "low" in limits and not limits["low"] <= value <= limits.get("high", math.inf):
        refuse(f"{limits['low']} to {limits['high']}" if "high" in limits else f"at least {limits['low']}")
    return value


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the recipe, every key of it, as YAML that `load_recipe` reads; whole or not at all."""
    with atomic_write(path) as draft:
        draft.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False), encoding="utf-8")


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The dotted keys whose values differ, as "key: value here -> value there"."""
    here, there = one.as_dict(), other.as_dict()
    return [f"{section}.{key}: {here[section][key]} -> {there[section][key]}"
            for section in here for key in here[section] if here[section][key] != there[section][key]]
