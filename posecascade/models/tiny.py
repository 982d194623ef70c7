"""A backbone of 25,000 parameters for the quickstart and for tests; it trains from scratch within minutes on a CPU."""

from posecascade.backend import layers
from posecascade.errors import InputError
from posecascade.models.backbone import Backbone, conv_bn, separable

CHANNELS = {4: 24, 8: 48, 16: 64, 32: 96}
STEM_CHANNELS = 16


def _build(image):
    x = layers.Rescaling(1 / 127.5, -1, name="rescale", dtype="float32")(image)
    x = conv_bn(x, STEM_CHANNELS, 3, 2, name="stem")
    taps = {}
    for number, (stride, channels) in enumerate(CHANNELS.items()):
        name = f"block_{number:02d}"
        # A plain convolution at stride 4, because a separable one saves no time on a CPU there.
        x = conv_bn(x, channels, 3, 2, name=f"{name}_down") if stride == 4 else \
            separable(x, channels, 3, stride=2, name=f"{name}_down")
        taps[stride] = x = layers.Add(name=f"{name}_add")([x, separable(x, channels, 3, name=f"{name}_keep")])
    return taps


def _load(model, weights):
    raise InputError(f"model.backbone_weights: {weights!r}, but backbone 'tiny' has no published weights; give 'none'")


tiny = Backbone(_build, ("stem", *(f"block_{i:02d}" for i in range(len(CHANNELS)))), _load)
