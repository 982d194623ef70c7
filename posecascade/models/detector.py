"""The part detector: a backbone and one of four heads, from an image to one logit map per keypoint."""

from posecascade.backend import keras, layers
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.models.backbone import separable
from posecascade.models.backbones import find_backbone

STRIDES = (1, 4)
# Sigmoid(-3) = 0.05 is about a disc's share of the map (BUILD_NOTES, "First trials").
INITIAL_LOGIT = -3.0  # bias of the part logits
NARROW_FIRST, NARROW, NARROW_LAST, NARROW_MAPS = 64, {16: 32}, 24, 96  # channels of MoveNet's top-down path
FC_CHANNELS = 4096  # VGG-16's two fully connected layers, as convolutions


def topdown_features(taps, width):
    """Return the taps merged from the coarsest to the finest at `width` channels: (B, H/4, W/4, width)."""
    coarsest, *finer = sorted(taps, reverse=True)
    x = layers.Conv2D(width, 1, name=f"lateral_{coarsest}")(taps[coarsest])
    for stride in finer:
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up_{stride}")(x)
        lateral = layers.Conv2D(width, 1, name=f"lateral_{stride}")(taps[stride])
        x = separable(layers.Add(name=f"add_{stride}")([x, lateral]), width, 5, name=f"top_{stride}")
    return x


def topdown(taps, keypoints, stride, width):
    """Return the light head's maps: `topdown_features`, then a 1x1 convolution, up-sampled at stride 1."""
    features = topdown_features(taps, width)
    logits = layers.Conv2D(keypoints, 1, name="parts", dtype="float32", kernel_initializer=_small(),
                           bias_initializer=keras.initializers.Constant(INITIAL_LOGIT))(features)
    return {"parts": _enlarge(logits, min(taps) // stride, "parts_up"), "features": features}


def fcn(taps, keypoints, stride, width):
    """Return the maps of the paper's VGG head, FCN-8s: scores of the three coarsest taps, up-sampled and added.

    On VGG-16: fc6 (7x7), fc7 (1x1) and scores at strides 32, 16 (pool4) and 8 (pool3). Up-sampling is bilinear and
    fixed (docs/paper.md "Networks", VGG). `width` is not used.
    """
    coarse, middle, fine = sorted(taps, reverse=True)[:3]
    x = layers.Conv2D(FC_CHANNELS, 7, padding="same", activation="relu", name="fc6")(taps[coarse])
    x = layers.Conv2D(FC_CHANNELS, 1, activation="relu", name="fc7")(x)
    x = layers.Conv2D(keypoints, 1, name="score_coarse", kernel_initializer=_small(),
                      bias_initializer=keras.initializers.Constant(INITIAL_LOGIT))(x)
    for name, tap in (("middle", middle), ("fine", fine)):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up_{name}")(x)
        score = layers.Conv2D(keypoints, 1, kernel_initializer=_small(), name=f"score_{name}")(taps[tap])
        x = layers.Add(name=f"add_{name}")([x, score])
    logits = layers.Activation("linear", name="parts", dtype="float32")(x)
    return {"parts": _enlarge(logits, fine // stride, "parts_up")}


def deconv(taps, keypoints, stride, width):
    """Return the maps of the paper's ResNet head: 1x1 to K maps, then one transposed convolution K to K; no batch norm.

    Kernel and stride of the latter are the coarsest tap's stride over the output's. On ResNet (tap at 16) that is
    kernel 16, stride 16 to full resolution as released, and kernel 4, stride 4 for output stride 4. `width` is not
    used.
    """
    factor = max(taps) // stride
    x = layers.Conv2D(keypoints, 1, name="score")(taps[max(taps)])
    return {"parts": layers.Conv2DTranspose(keypoints, factor, factor, name="parts", dtype="float32",
                                            bias_initializer=keras.initializers.Constant(INITIAL_LOGIT))(x)}


def narrow(taps, keypoints, stride, width):
    """Return the maps of MoveNet's head for small devices: `topdown` with 64 to 24 channels, 3x3 and no batch norms.

    Up-sampled and lateral maps have as many channels as the coarser level. `width` is not used.
    """
    coarsest, *finer = sorted(taps, reverse=True)
    x = layers.Conv2D(NARROW_FIRST, 1, name=f"narrow_lateral_{coarsest}")(taps[coarsest])
    for at in finer:
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"narrow_up_{at}")(x)
        lateral = layers.Conv2D(x.shape[-1], 1, name=f"narrow_lateral_{at}")(taps[at])
        x = _thin(layers.Add(name=f"narrow_add_{at}")([x, lateral]), NARROW.get(at, NARROW_LAST), f"narrow_{at}")
    maps = _thin(x, NARROW_MAPS, "narrow_maps")
    logits = layers.Conv2D(keypoints, 1, name="parts", dtype="float32", kernel_initializer=_small(),
                           bias_initializer=keras.initializers.Constant(INITIAL_LOGIT))(maps)
    return {"parts": _enlarge(logits, min(taps) // stride, "parts_up"), "features": x}


DETECTORS = {"topdown": topdown, "fcn": fcn, "deconv": deconv, "narrow": narrow}


def part_detector(keypoints: int, *, backbone: str = "efficientnet_lite0", head: str = "topdown", stride: int = 4,
                  width: int = 96) -> keras.Model:
    """Return the model "detector" from "image" (B, H, W, 3) float32 RGB in 0..255 to part logits.

    Args:
        backbone: one of `models.BACKBONES`; H and W must be multiples of its coarsest stride.
        head: one of DETECTORS.
        stride: input pixels per cell of the logits, 1 or 4.
        width: channels of the top-down path.
    Returns:
        a model whose outputs are a dict: "parts" logits (B, H/stride, W/stride, K) float32 and, from the heads
        `topdown` and `narrow`, "features" (B, H/4, W/4, channels).
    Raises:
        InputError: unknown backbone, head or stride.
    """
    if head not in DETECTORS:
        raise InputError(f"model.detector: unknown detector {head!r}; {did_you_mean(head, DETECTORS)}")
    check_stride(stride)
    image = keras.Input((None, None, 3), name="image")
    taps = find_backbone(backbone).build(image)
    return keras.Model(image, DETECTORS[head](taps, keypoints, stride, width), name="detector")


def check_stride(stride):
    """Raise InputError for an output stride other than STRIDES."""
    if stride not in STRIDES:
        raise InputError(f"model.stride: {stride!r}, expected 1 (the paper's) or 4")


def _thin(x, filters, name):
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    return layers.Conv2D(filters, 1, activation="relu", name=name)(x)


def _small():
    return keras.initializers.RandomNormal(0.0, 0.01)


def _enlarge(x, factor, name):
    return layers.UpSampling2D(factor, interpolation="bilinear", name=name, dtype="float32")(x) if factor > 1 else x
