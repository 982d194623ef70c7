"""The backbones of MoveNet Lightning and Thunder (Google 2021): MobileNetV2 without batch norms, trained on poses."""

from functools import partial

from posecascade.backend import keras, layers
from posecascade.errors import InputError
from posecascade.models.backbone import Backbone, image_layers, put_weights, read_npz
from posecascade.models.mobilenet import BLOCKS, STAGES, STEM_CHANNELS, channels_at

HEAD_CHANNELS = 1280  # of both widths
COCO_KEYPOINTS = 17  # channels of its published part maps, in COCO's order
# Blocks after which its top-down path reads a stride; these are not the last blocks of that stride.
TAPS = {4: 2, 8: 5, 16: 9}
# Layers of the head `narrow`, which has the published head's shapes, and their arrays.
_NARROW = {"narrow_lateral_32": "lateral_32", "narrow_maps_depthwise": "heatmap/depthwise",
           "narrow_maps": "heatmap/pointwise", **{f"narrow_lateral_{stride}": f"lateral_{stride}" for stride in TAPS},
           **{f"narrow_{stride}_depthwise": f"top_{stride}/depthwise" for stride in TAPS},
           **{f"narrow_{stride}": f"top_{stride}/pointwise" for stride in TAPS}}


def _conv(x, filters, kernel=1, stride=1, *, name, relu6=True):
    x = layers.Conv2D(filters, kernel, stride, padding="same", name=f"{name}_conv")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu6 else x


def _block(x, filters, expansion, stride, name):
    channels = x.shape[-1]
    y = _conv(x, expansion * channels, name=f"{name}_expand") if expansion > 1 else x
    y = layers.DepthwiseConv2D(3, stride, padding="same", name=f"{name}_depthwise_conv")(y)
    y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(y)
    y = _conv(y, filters, name=f"{name}_project", relu6=False)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and channels == filters else y


def _build(width, image):
    x = layers.Rescaling(1 / 127.5, -1, name="rescale", dtype="float32")(image)
    x = _conv(x, channels_at(width, STEM_CHANNELS), 3, 2, name="stem")
    after = []
    for count, stride, expansion, channels in STAGES:
        for i in range(count):
            x = _block(x, channels_at(width, channels), expansion, stride if i == 0 else 1, f"block_{len(after):02d}")
            after.append(x)
    return {stride: after[block] for stride, block in TAPS.items()} | {32: _conv(x, HEAD_CHANNELS, name="head")}


def _load(name, model, weights):
    """Load an .npz with `kernel` and `bias` of `stem`, `block_NN/{expand,depthwise,project}` and `head`.

    If the model has the head `narrow`, its layers are loaded too, from `lateral_N`, `top_N/{depthwise,pointwise}` and
    `heatmap/{depthwise,pointwise}`; if it has COCO's 17 keypoints, also from `heatmap/out`.
    """
    published = f"MoveNet {name.capitalize()}'s trunk"
    if weights == "imagenet":
        raise InputError("model.backbone_weights: MoveNet's trunk was trained on poses, not ImageNet; give the .npz of "
                         f"{published}, or 'none'")
    arrays = read_npz(weights, f"of {published}")
    names = {"stem_conv": "stem", "head_conv": "head"}
    for number in range(BLOCKS):
        for part in ("expand", "depthwise", "project")[number == 0:]:
            names[f"block_{number:02d}_{part}_conv"] = f"block_{number:02d}/{part}"
    by_name = {layer.name: layer for layer in image_layers(model)}
    names |= {layer: array for layer, array in _NARROW.items() if layer in by_name}
    if "narrow_maps" in by_name and by_name["parts"].filters == COCO_KEYPOINTS:
        names["parts"] = "heatmap/out"
    put_weights(model, {layer: _weights(arrays, array, by_name.get(layer), weights, published)
                        for layer, array in names.items()}, str(weights))


def _weights(arrays, name, layer: keras.layers.Layer | None, origin, published):
    fields = ("kernel", "bias") if layer is None or layer.use_bias else ("kernel",)
    for field in fields:
        if f"{name}/{field}" not in arrays:
            raise InputError(f"{origin}: array '{name}/{field}' is missing; expected those of {published}")
    return [arrays[f"{name}/{field}"] for field in fields]


def _backbone(name, width):
    blocks = ("stem", *(f"block_{i:02d}" for i in range(BLOCKS)), "head")
    return Backbone(partial(_build, width), blocks, partial(_load, name))


movenet = _backbone("lightning", 1.0)
movenet_thunder = _backbone("thunder", 1.75)
