"""From a recipe's sections to the things they name: networks, loss and optimiser."""

from collections.abc import Callable

import keras

from posecascade.errors import InputError
from posecascade.formats import keras_file
from posecascade.models import BACKBONES, OPTIONS, cascade, load_backbone, precision
from posecascade.schema import Schema
from posecascade.training.learner import Teacher, backbone_rates
from posecascade.training.losses import CascadeLoss
from posecascade.training.optimizers import make_optimizer
from posecascade.training.recipe import Recipe
from posecascade.training.schedule import spans

_SIDES = {"hourglass": 64}  # px that input sides must be multiples of; others, the coarsest tap's stride
_SIDE = 32


def check(recipe: Recipe) -> None:
    """InputError for settings that are valid alone and do not fit together, before anything is built."""
    model, training, data = recipe.model, recipe.training, recipe.data
    if not training.stages or sum(stage.share for stage in training.stages) <= 0:
        raise InputError("training.stages: no stage has a share above 0; give at least one")
    if data.weights and len(data.weights) != len(data.sources):
        raise InputError(f"data.weights: holds {len(data.weights)} shares for {len(data.sources)} data.sources; "
                         "give one each, or none")
    if data.weights and (min(data.weights) < 0 or sum(data.weights) <= 0):
        raise InputError(f"data.weights: {list(data.weights)}; give shares of 0 or more, one above 0")
    side = _SIDES.get(model.regressor, _SIDE) if model.pieces != "detector" else _SIDE
    for key, size in (("model.input_size", model.input_size),
                      *((f"training.stages[{i}].input_size", s.input_size) for i, s in enumerate(training.stages))):
        if size % side:
            raise InputError(f"{key}: {size} px, expected a multiple of {side} for this network; "
                             f"try {max(side, round(size / side) * side)}")
    if not 0 <= recipe.optimizer.ema < 1 or not 0 <= recipe.optimizer.momentum < 1:
        raise InputError("optimizer.ema and optimizer.momentum must be below 1")
    if any(not 0 < m < 1 for m in recipe.optimizer.milestones):
        raise InputError(f"optimizer.milestones: {list(recipe.optimizer.milestones)}; give parts of the run, "
                         "between 0 and 1")
    for number, stage in enumerate(training.stages):
        _check_stage(recipe, stage, f"training.stages[{number}]")


def _check_stage(recipe, stage, key):
    """What would stop the run, or make it idle, only when the stage begins."""
    pieces = ("detector", "regressor") if recipe.model.pieces == "cascade" else (recipe.model.pieces,)
    if stage.train not in ("joint", *pieces):
        raise InputError(f"{key}.train: {stage.train}, which model.pieces {recipe.model.pieces} leaves out; "
                         "let it train joint or build the cascade")
    weights = {"detector": recipe.loss.detection_weight, "regressor": recipe.loss.regression_weight}
    trained = pieces if stage.train == "joint" else (stage.train,)
    if not any(weights[piece] for piece in trained):
        raise InputError(f"loss: the weight of {' and '.join(trained)} is 0, so {key} learns nothing; raise it")
    blocks = len(BACKBONES[recipe.model.backbone].blocks)
    if stage.freeze > blocks:
        raise InputError(f"{key}.freeze: {stage.freeze} blocks, but backbone {recipe.model.backbone!r} has {blocks}; "
                         f"give 0 to {blocks}")


def build(recipe: Recipe, schema: Schema, tell: Callable[[str], None],
          begin: bool = True) -> tuple[keras.Model, keras.Model]:
    """The network to train, started as the recipe says, and a float32 twin of it for the averaged weights.

    Args:
        begin: False leaves the starting weights out: a run that goes on has its own, and may have lost those files.
    """
    model = recipe.model
    options = {name: getattr(model, name) for name in OPTIONS}
    twin = cascade(schema.size, **options)
    if begin and (model.pieces != "regressor" or model.regressor == "light"):
        load_backbone(twin, model.backbone, model.weights)
    if begin and model.start_from:
        start = keras_file.warm_start(twin, schema, model.start_from)
        new = f"; new joints: {', '.join(start.new_joints)}" if start.new_joints else ""
        tell(f"started from {model.start_from}: {start.copied} layers copied, {start.partly} in part, "
             f"{len(start.left)} new{new}")
    with precision(recipe.training.precision):
        network = cascade(schema.size, **options)
    network.set_weights(twin.get_weights())
    return network, twin


def loss_of(recipe: Recipe, train: str) -> CascadeLoss:
    """The loss of a stage: where one piece alone trains, the other's loss is left out."""
    loss, size = recipe.loss, recipe.model.input_size
    return CascadeLoss(loss.detection_weight if train != "regressor" else 0.0,
                       loss.regression_weight if train != "detector" else 0.0,
                       loss.foreground, loss.disc_radius / size, loss.sigma / size, recipe.model.stride,
                       loss.occluded_parts, loss.taught if loss.teacher else 0.0)


def teacher_of(recipe: Recipe, schema: Schema) -> Teacher | None:
    """The recipe's teacher, its joints in the order of `schema` by name; None where it has none.

    Raises InputError where its file cannot be used, or it lacks a joint or a map that is to be learned.
    """
    file = recipe.loss.teacher
    if not file:
        return None
    model, metadata = keras_file.load(file)
    model.trainable = False
    order = schema.order_from(metadata.schema)
    lacks = [name for name, at in zip(schema.keypoints, order, strict=True) if at < 0]
    wanted = {"detector": ("parts",), "regressor": ("heatmaps",)}.get(recipe.model.pieces, ("parts", "heatmaps"))
    lacks += [f"output {name!r}" for name in wanted if name not in model.output]
    if lacks:
        raise InputError(f"loss.teacher: {file} has no {', '.join(lacks)}; give a cascade of all joints of schema "
                         f"{schema.name!r}, or none")
    if metadata.stride != recipe.model.stride:
        raise InputError(f"loss.teacher: {file} has stride {metadata.stride}, model.stride is {recipe.model.stride}; "
                         "give one of the same stride")
    same = order.tolist() == list(range(metadata.schema.size))

    def teach(images):
        maps = model(images, training=False)
        return {name: maps[name] if same else keras.ops.take(maps[name], order, axis=-1) for name in wanted}

    return teach


def optimizer_of(recipe: Recipe, network: keras.Model) -> keras.optimizers.Optimizer:
    """A fresh optimiser for the weights that train now."""
    settings = recipe.optimizer
    blocks = BACKBONES[recipe.model.backbone].blocks
    optimizer = make_optimizer(
        settings.name, learning_rate=settings.learning_rate, momentum=settings.momentum,
        weight_decay=settings.weight_decay, clip_norm=settings.clip_norm, ema=settings.ema,
        rates=backbone_rates(network, blocks, settings.backbone_rate))
    optimizer.build(network.trainable_variables)
    return optimizer


def plan_of(recipe: Recipe, steps: int):
    """The recipe's stages as spans of steps."""
    return spans(recipe.training.stages, steps, recipe.model.input_size)
