"""The paper's ResNet regressor: one hourglass of depth 4 of pre-activation residuals, every detail as released."""

from keras import layers

from posecascade.models.backbone import batch_norm

EPSILON = 1e-5
DEPTH = 4
INNER, OUTER = 256, 512  # channels inside the hourglass, and of what it passes up


def _bn_relu(x, name):
    return layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_bn", EPSILON))


def residual(x, filters, name):
    """Pre-activation bottleneck at half width: three times batch norm, ReLU, convolution (1x1, 3x3, 1x1); added to x.

    Where widths differ x passes a bare 1x1 convolution.
    """
    y = x
    for i, (channels, kernel) in enumerate(((filters // 2, 1), (filters // 2, 3), (filters, 1)), start=1):
        y = layers.Conv2D(channels, kernel, padding="same", name=f"{name}_{i}_conv")(_bn_relu(y, f"{name}_{i}"))
    if x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1, name=f"{name}_skip")(x)
    return layers.Add(name=f"{name}_add")([x, y])


def _residuals(x, widths, name):
    for i, width in enumerate(widths):
        x = residual(x, width, f"{name}_{i}")
    return x


def level(x, depth, name):
    """One level of the hourglass round those below: (B, h, w, 256) to (B, h, w, 512), h, w multiples of 2^depth."""
    skip = _residuals(x, (INNER, INNER, OUTER), f"{name}{depth}_skip")
    y = layers.MaxPooling2D(2, name=f"{name}{depth}_pool")(x)
    y = _residuals(y, (INNER, INNER, INNER), f"{name}{depth}_down")
    y = level(y, depth - 1, name) if depth > 1 else residual(y, OUTER, f"{name}{depth}_inner")
    y = residual(y, OUTER, f"{name}{depth}_after")
    y = layers.Conv2DTranspose(OUTER, 2, 2, name=f"{name}{depth}_up")(y)
    return layers.Add(name=f"{name}{depth}_add")([y, skip])


def body(x, name="glass"):
    """All between the first convolution's sum (B, H/2, W/2, 64) and the last maps: (B, H/4, W/4, 256)."""
    x = residual(_bn_relu(x, "first"), 128, "residual_0")
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = level(residual(residual(residual(x, 128, "residual_1"), 128, "residual_2"), INNER, "residual_3"), DEPTH, name)
    for i, channels in enumerate((OUTER, INNER)):
        x = _bn_relu(layers.Conv2D(channels, 1, name=f"head_{i}_conv")(x), f"head_{i}")
    return x
