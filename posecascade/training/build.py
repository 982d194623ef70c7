"""Check a recipe's settings against each other and build what it names: networks, loss, teacher and optimizer."""

from collections.abc import Callable

from posecascade.backend import keras, keras_settings
from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.models import BACKBONES, OPTIONS, cascade, load_backbone
from posecascade.schema import Schema
from posecascade.training.learner import Teacher, backbone_rates
from posecascade.training.losses import CascadeLoss
from posecascade.training.optimizers import make_optimizer
from posecascade.training.recipe import Recipe
from posecascade.training.schedule import Span, extended, learning_rate, spans

_SIDES = {"hourglass": 64}  # px that input sides must be multiples of, by regressor
_SIDE = 32  # px, of the others: the stride of the coarsest tap


def check(recipe: Recipe) -> None:
    """Raise InputError for settings that are valid by themselves but do not fit together; nothing is built."""
    model, training, data = recipe.model, recipe.training, recipe.data
    if not training.phases or sum(phase.share for phase in training.phases) <= 0:
        raise InputError("training.phases: no phase has a share above 0; give at least one")
    if data.sampling_weights and len(data.sampling_weights) != len(data.sources):
        raise InputError(f"data.sampling_weights: holds {len(data.sampling_weights)} shares for "
                         f"{len(data.sources)} data.sources; give one each, or none")
    if data.sampling_weights and (min(data.sampling_weights) < 0 or sum(data.sampling_weights) <= 0):
        raise InputError(f"data.sampling_weights: {list(data.sampling_weights)}; give shares of 0 or more, one above 0")
    side = _SIDES.get(model.regressor, _SIDE) if model.stages != "detector" else _SIDE
    for key, size in (("model.input_size", model.input_size),
                      *((f"training.phases[{i}].input_size", s.input_size) for i, s in enumerate(training.phases))):
        if size % side:
            raise InputError(f"{key}: {size} px, expected a multiple of {side} for this network; "
                             f"try {max(side, round(size / side) * side)}")
    if not 0 <= recipe.optimizer.ema_decay < 1 or not 0 <= recipe.optimizer.momentum < 1:
        raise InputError("optimizer.ema_decay and optimizer.momentum must be below 1")
    if any(not 0 < m < 1 for m in recipe.optimizer.milestones):
        raise InputError(f"optimizer.milestones: {list(recipe.optimizer.milestones)}; give fractions of the run, "
                         "between 0 and 1")
    for number, phase in enumerate(training.phases):
        _check_phase(recipe, phase, f"training.phases[{number}]")


def _check_phase(recipe, phase, key):
    """Raise InputError for settings that would stop the run, or train nothing, only once this phase begins."""
    stages = ("detector", "regressor") if recipe.model.stages == "cascade" else (recipe.model.stages,)
    if phase.train not in ("joint", *stages):
        raise InputError(f"{key}.train: {phase.train}, but model.stages is {recipe.model.stages}; "
                         "give train: joint, or model.stages: cascade")
    weights = {"detector": recipe.loss.detection_weight, "regressor": recipe.loss.regression_weight}
    trained = stages if phase.train == "joint" else (phase.train,)
    if not any(weights[stage] for stage in trained):
        raise InputError(f"loss: the weight of {' and '.join(trained)} is 0, so {key} learns nothing; give one above 0")
    blocks = len(BACKBONES[recipe.model.backbone].blocks)
    if phase.frozen_blocks > blocks:
        raise InputError(f"{key}.frozen_blocks: {phase.frozen_blocks} blocks, but backbone "
                         f"{recipe.model.backbone!r} has {blocks}; give 0 to {blocks}")


def build(recipe: Recipe, schema: Schema, log: Callable[[str], None],
          begin: bool = True) -> tuple[keras.Model, keras.Model]:
    """Return the network to train, with the recipe's initial weights, and a float32 twin for the averaged weights.

    Args:
        begin: False skips the initial weights: a resumed run has its own, and their files may be gone.
    """
    model = recipe.model
    options = {name: getattr(model, name) for name in OPTIONS}
    twin = cascade(schema.size, **options)
    if begin and (model.stages != "regressor" or model.regressor == "light"):
        load_backbone(twin, model.backbone, model.backbone_weights)
    if begin and model.init_from:
        start = keras_file.warm_start(twin, schema, model.init_from)
        new = f"; new keypoints: {', '.join(start.new_keypoints)}" if start.new_keypoints else ""
        log(f"started from {model.init_from}: {start.copied} layers copied, {start.partly} in part, "
            f"{len(start.left)} new{new}")
    with keras_settings(recipe.training.precision):
        network = cascade(schema.size, **options)
    network.set_weights(twin.get_weights())
    return network, twin


def loss_of(recipe: Recipe, train: str) -> CascadeLoss:
    """Return the loss of a phase; if it trains one stage alone, the other stage's loss has weight 0."""
    loss, size = recipe.loss, recipe.model.input_size
    return CascadeLoss(loss.detection_weight if train != "regressor" else 0.0,
                       loss.regression_weight if train != "detector" else 0.0,
                       loss.foreground_weight, loss.disc_radius_px / size, loss.gaussian_sigma_px / size,
                       recipe.model.stride, loss.occluded_parts, loss.distillation_weight if loss.teacher else 0.0)


def teacher_of(recipe: Recipe, schema: Schema) -> Teacher | None:
    """Return the recipe's teacher, whose maps have the keypoints of `schema` in its order, or None without a teacher.

    Raises InputError if its file cannot be used, or if it lacks a keypoint or an output that the recipe trains.
    """
    file = recipe.loss.teacher
    if not file:
        return None
    model, metadata = keras_file.load(file)
    model.trainable = False
    order = schema.order_from(metadata.schema)
    missing = [name for name, at in zip(schema.keypoints, order, strict=True) if at < 0]
    outputs = {"detector": ("parts",), "regressor": ("heatmaps",)}.get(recipe.model.stages, ("parts", "heatmaps"))
    missing += [f"output {name!r}" for name in outputs if name not in model.output]
    if missing:
        raise InputError(f"loss.teacher: {file} has no {', '.join(missing)}; give a cascade with all keypoints of "
                         f"schema {schema.name!r}, or none")
    if metadata.stride != recipe.model.stride:
        raise InputError(f"loss.teacher: {file} has stride {metadata.stride}, model.stride is {recipe.model.stride}; "
                         "give one of the same stride")
    same_order = order.tolist() == list(range(metadata.schema.size))

    def teach(images):
        maps = model(images, training=False)
        return {name: maps[name] if same_order else keras.ops.take(maps[name], order, axis=-1) for name in outputs}

    return teach


def optimizer_of(recipe: Recipe, network: keras.Model) -> keras.optimizers.Optimizer:
    """Return a new optimizer for the network's trainable weights."""
    settings = recipe.optimizer
    blocks = BACKBONES[recipe.model.backbone].blocks
    optimizer = make_optimizer(
        settings.name, learning_rate=settings.learning_rate, momentum=settings.momentum,
        weight_decay=settings.weight_decay, clip_norm=settings.clip_norm, ema_decay=settings.ema_decay,
        rates=backbone_rates(network, blocks, settings.backbone_lr_factor))
    optimizer.build(network.trainable_variables)
    return optimizer


def plan_of(recipe: Recipe, steps: int, planned: int | None = None) -> list[Span]:
    """Return the recipe's phases as spans of steps.

    If `planned` is given, the phases were laid over that many steps, and the last is longer, up to `steps`.
    """
    laid = spans(recipe.training.phases, planned or steps, recipe.model.input_size)
    return extended(laid, steps) if planned else laid


def rate_of(recipe: Recipe, step: int, steps: int, span: Span) -> float:
    """Return the learning rate of one step of a run of `steps`."""
    settings = recipe.optimizer
    return learning_rate(step, steps, span, rate=settings.learning_rate, schedule=settings.schedule,
                         warmup_steps=settings.warmup_steps, milestones=settings.milestones,
                         step_factor=settings.step_factor)
