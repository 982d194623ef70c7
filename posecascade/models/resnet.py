"""ResNet-50 and -152 as in the paper's released model: strides on the 3x3 convolutions, last stage at stride 16.

`keras.applications` is not used, because the networks differ: the released one has its strides on the 3x3 convolutions
(like torchvision's) and its fourth stage at stride 1 without dilation, and reads RGB in [0, 1] (docs/paper.md
"Networks"). Kernels have the same shapes, so Keras' ImageNet weights can be loaded; they are a good start, not an exact
one: in the blocks with a stride the stride was on the convolution before, and the last stage had half the resolution.
Training the detector corrects this. `stride_on="1x1"` and `last_stride=2` give Keras' network.
Convolutions have biases before their batch norms, as in Keras and in the released parameter count.
"""

from functools import partial

import numpy as np

from posecascade.backend import keras, layers
from posecascade.models.backbone import Backbone, application_weights, batch_norm, put_weights

RESNET50, RESNET152 = (3, 4, 6, 3), (3, 8, 36, 3)
WIDTHS = (64, 128, 256, 512)  # of the bottlenecks; their outputs are four times as wide
EPSILON = 1e-5
MEAN_BGR = np.array([103.939, 116.779, 123.68])  # subtracted from 0..255 when Keras' weights were trained


def _conv(x, filters, kernel, stride, name):
    """Return x after a convolution padded equally on all sides ("same" would pad strided ones at the end only)."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, kernel, stride, name=f"{name}_conv")(x)


def _conv_bn(x, filters, kernel, stride, name):
    return batch_norm(_conv(x, filters, kernel, stride, name), f"{name}_bn", EPSILON)


def bottleneck(x, width, stride, stride_on, name):
    """Return x after 1x1, 3x3, 1x1 to four times `width`, added to x (after a 1x1 if shapes differ), then ReLU."""
    first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
    y = layers.ReLU(name=f"{name}_1_relu")(_conv_bn(x, width, 1, first, f"{name}_1"))
    y = layers.ReLU(name=f"{name}_2_relu")(_conv_bn(y, width, 3, second, f"{name}_2"))
    y = _conv_bn(y, 4 * width, 1, 1, f"{name}_3")
    if stride > 1 or x.shape[-1] != 4 * width:
        x = _conv_bn(x, 4 * width, 1, stride, f"{name}_0")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, y]))


def resnet(depths, image, *, stride_on="3x3", last_stride=1):
    """Return taps of an image in 0..255 at strides 4 (256 channels), 8 (512), 16 (2048; 1024 if `last_stride` is 2)."""
    x = layers.Rescaling(1 / 255, name="rescale", dtype="float32")(image)
    x = layers.ReLU(name="stem_relu")(_conv_bn(x, WIDTHS[0], 7, 2, "stem"))
    # Padding with zeros does not change the maximum of a ReLU's output.
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(layers.ZeroPadding2D(1, name="stem_pool_pad")(x))
    at, number, taps = 4, 0, {}
    for count, width, stage_stride in zip(depths, WIDTHS, (1, 2, 2, last_stride), strict=True):
        for i in range(count):
            x = bottleneck(x, width, stage_stride if i == 0 else 1, stride_on, f"block_{number:02d}")
            number += 1
        at *= stage_stride
        taps[at] = x
    return taps


def _load(depths, model, weights):
    """Load a file saved from `keras.applications.ResNet50/152(include_top=False)`, or their ImageNet weights."""
    size, build = {RESNET50: (50, keras.applications.ResNet50), RESNET152: (152, keras.applications.ResNet152)}[depths]
    published = application_weights(build, weights, f"resnet{size}_weights_tf_dim_ordering_tf_kernels_notop.h5",
                                    input_shape=(224, 224, 3))
    names = {"conv1": "stem"}
    blocks = [f"conv{stage + 2}_block{i + 1}_{part}" for stage, count in enumerate(depths) for i in range(count)
              for part in range(4)]
    names |= {theirs: f"block_{at // 4:02d}_{at % 4}" for at, theirs in enumerate(blocks)}
    arrays = {f"{names[name.rsplit('_', 1)[0]]}_{name.rsplit('_', 1)[1]}": values
              for name, values in published.items()}
    arrays["stem_conv"] = _reading_unit_rgb(*arrays["stem_conv"])
    put_weights(model, arrays, weights)


def _reading_unit_rgb(kernel, bias):
    """Return the first convolution for RGB in [0, 1] instead of BGR in 0..255 minus its mean; equal off the border."""
    return [kernel[:, :, ::-1] * np.float32(255), (bias - np.einsum("hwio,i->o", kernel, MEAN_BGR)).astype(np.float32)]


def _backbone(depths):
    blocks = ("stem", *(f"block_{i:02d}" for i in range(sum(depths))))
    return Backbone(partial(resnet, depths), blocks, partial(_load, depths))


resnet50 = _backbone(RESNET50)
resnet152 = _backbone(RESNET152)
