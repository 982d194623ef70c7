"""The heatmap regressor: from sigmoid part maps and the image (or the detector's features) to confidence maps.

TensorFlow Lite's int8 quantizer refuses to concatenate a sigmoid's output with another tensor, because both would
need the same scale. A convolution of concatenated tensors equals the sum of one convolution of each, with the same
number of parameters if only one of them has a bias; every concatenation is built as such a sum here.
"""

from posecascade.backend import keras, layers
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.models.backbone import separable
from posecascade.models.detector import check_stride
from posecascade.models.hourglass import body

BODY_STRIDE = 4  # of the detector's features and of the last maps inside the paper's regressors
WIDE = 4         # layers of `light` at stride 8
STACK = ((64, 13), (128, 13), (128, 15), (512, 1), (512, 1))  # (channels, kernel) after the first, 64 9x9


def light(inputs, keypoints, stride, width):
    """Return the maps of the regressor for devices: four separable 5x5 at stride 8 between layers at stride 4.

    It reads the detector's features if there are any, else the image. 5x5 is the largest kernel for which LiteRT's CPU
    has a fast int8 path: with 7x7 the regressor took twice the detector's time.
    """
    joined = []
    if "parts" in inputs:
        parts = _reduce(inputs["parts"], BODY_STRIDE // stride, "parts_small")
        joined.append(layers.Conv2D(width, 1, name="from_parts")(parts))
    if "features" in inputs:
        joined.append(layers.Conv2D(width, 1, use_bias=not joined, name="from_features")(inputs["features"]))
    elif "image" in inputs:
        joined.append(layers.Conv2D(width, 2 * BODY_STRIDE, BODY_STRIDE, padding="same", use_bias=not joined,
                                    name="from_image")(_unit_image(inputs)))
    x = fine = _sum(joined)
    x = layers.AveragePooling2D(2, name="down")(x)
    for i in range(WIDE):
        x = separable(x, width, 5, name=f"wide_{i}")
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(x)
    x = separable(layers.Add(name="add")([x, fine]), width, 5, name=f"wide_{WIDE}")
    maps = layers.Conv2D(keypoints, 1, name="maps", dtype="float32", kernel_initializer=_small())(x)
    if stride == BODY_STRIDE:
        return maps
    return layers.UpSampling2D(BODY_STRIDE // stride, interpolation="bilinear", name="maps_up", dtype="float32")(maps)


def stack(inputs, keypoints, stride, width):
    """Return the maps of the paper's VGG regressor: large kernels at stride 4 (docs/paper.md "Networks", VGG).

    The image is averaged over cells of 4 x 4 px, and so are part maps at stride 1. Output stride 4 omits the last
    layer, the transposed convolution 8x8 to full resolution. `width` is not used.
    """
    joined = []
    if "image" in inputs:
        image = layers.AveragePooling2D(BODY_STRIDE, name="image_small")(_unit_image(inputs))
        joined.append(layers.Conv2D(64, 9, padding="same", kernel_initializer="he_normal", name="from_image")(image))
    if "parts" in inputs:
        parts = _reduce(inputs["parts"], BODY_STRIDE // stride, "parts_small")
        joined.append(layers.Conv2D(64, 9, padding="same", use_bias=not joined, kernel_initializer="he_normal",
                                    name="from_parts")(parts))
    x = layers.ReLU(name="conv_1_relu")(_sum(joined))
    for i, (channels, kernel) in enumerate(STACK, start=2):
        x = layers.Conv2D(channels, kernel, padding="same", activation="relu", kernel_initializer="he_normal",
                          name=f"conv_{i}")(x)
    return _paper_maps(x, keypoints, stride, kernel=8)


def hourglass(inputs, keypoints, stride, width):
    """Return the maps of the paper's ResNet regressor: one hourglass of depth 4 on the image in [0, 1] and part maps.

    Part maps at stride 4 are up-sampled to the image's size, so that the network is the released one at both strides.
    Output stride 4 omits the last layer, the transposed convolution 4x4 to full resolution. `width` is not used.
    """
    joined = []
    if "image" in inputs:
        joined.append(layers.Conv2D(64, 7, 2, name="from_image")(
            layers.ZeroPadding2D(3, name="image_pad")(_unit_image(inputs))))
    if "parts" in inputs:
        parts = inputs["parts"] if stride == 1 else \
            layers.UpSampling2D(stride, interpolation="bilinear", name="parts_large")(inputs["parts"])
        joined.append(layers.Conv2D(64, 7, 2, use_bias=not joined, name="from_parts")(
            layers.ZeroPadding2D(3, name="parts_pad")(parts)))
    return _paper_maps(body(_sum(joined)), keypoints, stride, kernel=BODY_STRIDE)


REGRESSORS = {"light": light, "stack": stack, "hourglass": hourglass}


def regressor(keypoints: int, *, kind: str = "light", stride: int = 4, width: int = 96, features: int | None = None,
              parts: bool = True, image: bool = True) -> keras.Model:
    """Return the model "regressor" from a dict of maps to {"heatmaps": (B, H/stride, W/stride, K) float32, linear}.

    Args:
        kind: one of REGRESSORS.
        stride: input pixels per cell of the part maps and of the confidence maps, 1 or 4.
        width: channels of `light`; the paper's regressors have fixed widths.
        features: channels of the input "features" (B, H/4, W/4, features) from the detector; None omits that input.
            Only `light` reads features, and instead of the image.
        parts: whether "parts", sigmoid part maps (B, H/stride, W/stride, K), are an input; False is the ablation.
        image: whether "image" (B, H, W, 3) in 0..255 is an input.
    Raises:
        InputError: unknown kind or stride; features for a kind that does not read them; no input at all.
    """
    if kind not in REGRESSORS:
        raise InputError(f"model.regressor: unknown regressor {kind!r}; {did_you_mean(kind, REGRESSORS)}")
    check_stride(stride)
    if features and kind != "light":
        raise InputError(f"model.regressor: {kind!r} does not read features; pass features=None or choose 'light'")
    inputs = {}
    if features:
        inputs["features"] = keras.Input((None, None, features), name="features")
    elif image:
        inputs["image"] = keras.Input((None, None, 3), name="image")
    if parts:
        inputs["parts"] = keras.Input((None, None, keypoints), name="parts")
    if not inputs:
        raise InputError("model.regressor: has no input; pass parts, features or image")
    return keras.Model(inputs, {"heatmaps": REGRESSORS[kind](inputs, keypoints, stride, width)}, name="regressor")


def _reduce(x, factor, name):
    return layers.AveragePooling2D(factor, name=name)(x) if factor > 1 else x


def _sum(joined):
    return layers.Add(name="join")(joined) if len(joined) > 1 else joined[0]


def _unit_image(inputs):
    return layers.Rescaling(1 / 255, name="image_scale", dtype="float32")(inputs["image"])


def _paper_maps(x, keypoints, stride, kernel):
    """Return maps by a 1x1 convolution and, at output stride 1, a transposed convolution K to K of stride 4."""
    maps = layers.Conv2D(keypoints, 1, name="maps_quarter", dtype="float32", kernel_initializer=_small())(x)
    return maps if stride == BODY_STRIDE else \
        layers.Conv2DTranspose(keypoints, kernel, BODY_STRIDE, padding="same", name="maps", dtype="float32")(maps)


def _small():
    return keras.initializers.RandomNormal(0.0, 0.01)
