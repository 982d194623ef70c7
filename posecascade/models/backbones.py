"""The table of backbones; load weights into a model's backbone and freeze its early blocks."""

from posecascade.backend import keras
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.models.backbone import Backbone, image_layers
from posecascade.models.efficientnet_lite import efficientnet_lite0, efficientnet_lite2
from posecascade.models.mobilenet import mobilenet_v2, mobilenet_v2_035
from posecascade.models.movenet import movenet, movenet_thunder
from posecascade.models.resnet import resnet50, resnet152
from posecascade.models.tiny import tiny
from posecascade.models.vgg import vgg16

BACKBONES = {
    "tiny": tiny,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite2": efficientnet_lite2,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v2_035": mobilenet_v2_035,
    "movenet": movenet,
    "movenet_thunder": movenet_thunder,
    "resnet50": resnet50,
    "resnet152": resnet152,
    "vgg16": vgg16,
}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of that name; InputError with the nearest name if there is none."""
    if name not in BACKBONES:
        raise InputError(f"model.backbone: unknown backbone {name!r}; {did_you_mean(str(name), BACKBONES)}")
    return BACKBONES[name]


def load_backbone(model: keras.Model, backbone: str, weights: str) -> None:
    """Load weights into the model's backbone layers: "imagenet", a file's path, or "none", which changes nothing.

    Raises InputError if the file or the download is not what the backbone expects.
    """
    load = find_backbone(backbone).load
    if weights != "none":
        load(model, weights)


def freeze(model: keras.Model, blocks: int, backbone: str) -> None:
    """Make the first `blocks` blocks of the model's backbone untrainable and the others trainable.

    Frozen batch norms use their stored statistics, as Keras does for untrainable ones. It takes effect when the model
    is compiled. Raises InputError if the backbone has fewer blocks.
    """
    prefixes = find_backbone(backbone).blocks
    if not 0 <= blocks <= len(prefixes):
        raise InputError(f"frozen_blocks: {blocks} blocks, but backbone {backbone!r} has {len(prefixes)}; "
                         f"give 0 to {len(prefixes)}")
    for layer in image_layers(model):
        block = next((i for i, prefix in enumerate(prefixes) if layer.name.startswith(f"{prefix}_")), None)
        if block is not None:
            layer.trainable = block >= blocks
