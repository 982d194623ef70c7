"""The body of the paper's ResNet regressor: one hourglass of depth 4 of pre-activation residuals, as released."""

from posecascade.backend import layers
from posecascade.models.backbone import batch_norm

EPSILON = 1e-5
DEPTH = 4
INNER, OUTER = 256, 512  # channels inside the hourglass, and of its levels' outputs


def _bn_relu(x, name):
    return layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_bn", EPSILON))


def residual(x, filters, name):
    """Return x plus a pre-activation bottleneck of half width (1x1, 3x3, 1x1); x gets a 1x1 first if widths differ."""
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
    """Return x (B, h, w, 256) after `depth` nested levels: (B, h, w, 512); h and w are multiples of 2^depth."""
    skip = _residuals(x, (INNER, INNER, OUTER), f"{name}{depth}_skip")
    y = layers.MaxPooling2D(2, name=f"{name}{depth}_pool")(x)
    y = _residuals(y, (INNER, INNER, INNER), f"{name}{depth}_down")
    y = level(y, depth - 1, name) if depth > 1 else residual(y, OUTER, f"{name}{depth}_inner")
    y = residual(y, OUTER, f"{name}{depth}_after")
    y = layers.Conv2DTranspose(OUTER, 2, 2, name=f"{name}{depth}_up")(y)
    return layers.Add(name=f"{name}{depth}_add")([y, skip])


def body(x, name="glass"):
    """Return the regressor's features (B, H/4, W/4, 256) from the sum of its first convolutions (B, H/2, W/2, 64)."""
    x = residual(_bn_relu(x, "first"), 128, "residual_0")
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = level(residual(residual(residual(x, 128, "residual_1"), 128, "residual_2"), INNER, "residual_3"), DEPTH, name)
    for i, channels in enumerate((OUTER, INNER)):
        x = _bn_relu(layers.Conv2D(channels, 1, name=f"head_{i}_conv")(x), f"head_{i}")
    return x
