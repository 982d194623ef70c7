"""MobileNetV2 (Sandler et al. 2018) at widths 1.0 and 0.35, up to the last inverted residual."""

from functools import partial

from posecascade.backend import keras, layers
from posecascade.models.backbone import Backbone, application_weights, conv_bn, inverted_residual, put_weights

# (blocks, stride, expansion, channels at width 1.0) per stage, table 2 of the paper.
STAGES = ((1, 1, 1, 16), (2, 2, 6, 24), (3, 2, 6, 32), (4, 2, 6, 64), (3, 1, 6, 96), (3, 2, 6, 160), (1, 1, 6, 320))
STEM_CHANNELS = 32
BLOCKS = sum(count for count, *_ in STAGES)


def channels_at(width: float, full: int) -> int:
    """Return the multiple of 8 nearest to full x width, but at least 90% of it, as in the published networks."""
    rounded = max(8, int(full * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * full * width else rounded


def _build(width, image):
    # For even sizes "same" pads one row and column at the end only, like the explicit padding of the original.
    x = layers.Rescaling(1 / 127.5, -1, name="rescale", dtype="float32")(image)
    x = conv_bn(x, channels_at(width, STEM_CHANNELS), 3, 2, name="stem")
    at, number, taps = 2, 0, {}
    for count, stride, expansion, channels in STAGES:
        for i in range(count):
            x = inverted_residual(x, channels_at(width, channels), expansion=expansion, kernel=3,
                                  stride=stride if i == 0 else 1, name=f"block_{number:02d}")
            number += 1
        at *= stride
        taps[at] = x
    return {stride: tap for stride, tap in taps.items() if stride >= 4}


def _load(width, model, weights):
    """Load a file saved from `keras.applications.MobileNetV2(alpha=width, include_top=False)`, or ImageNet weights."""
    what = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224_no_top.h5"
    published = application_weights(keras.applications.MobileNetV2, weights, what, alpha=width,
                                    input_shape=(224, 224, 3))
    theirs = {"Conv1": "stem_conv", "bn_Conv1": "stem_bn"}
    for number in range(BLOCKS):
        source = f"block_{number}" if number else "expanded_conv"
        for part in ("expand", "depthwise", "project"):
            theirs[f"{source}_{part}"] = f"block_{number:02d}_{part}_conv"
            theirs[f"{source}_{part}_BN"] = f"block_{number:02d}_{part}_bn"
    put_weights(model, {theirs[name]: arrays for name, arrays in published.items() if name in theirs}, weights)


def _backbone(width):
    blocks = ("stem", *(f"block_{i:02d}" for i in range(BLOCKS)))
    return Backbone(partial(_build, width), blocks, partial(_load, width))


mobilenet_v2 = _backbone(1.0)
mobilenet_v2_035 = _backbone(0.35)
