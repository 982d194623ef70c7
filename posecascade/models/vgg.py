"""VGG-16 (Simonyan & Zisserman 2014): five stages; the fully connected layers are fc6 and fc7 of the head `fcn`."""

from posecascade.backend import keras, layers
from posecascade.errors import InputError
from posecascade.models.backbone import Backbone, application_weights, image_layers, put_weights

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # (convolutions, channels)
MEAN_RGB = (123.68, 116.779, 103.939)  # subtracted from 0..255 when its weights were trained


def _build(image):
    x = layers.Rescaling(1.0, [-mean for mean in MEAN_RGB], name="rescale", dtype="float32")(image)
    taps = {}
    for stage, (count, channels) in enumerate(STAGES, start=1):
        for i in range(1, count + 1):
            x = layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal",
                              name=f"block{stage}_conv{i}")(x)
        x = layers.MaxPooling2D(2, name=f"block{stage}_pool")(x)
        taps[2 ** stage] = x
    return {stride: tap for stride, tap in taps.items() if stride >= 4}


def _load(model, weights):
    """Load a file saved from `keras.applications.VGG16` or its ImageNet weights; fc6 and fc7 too if both have them."""
    wants_top = any(layer.name == "fc6" and tuple(layer.kernel.shape[:3]) == (7, 7, 512)
                    for layer in image_layers(model))
    published = _read(weights, wants_top)
    arrays = {name: values for name, values in published.items() if name.startswith("block")}
    kernel, bias = arrays["block1_conv1"]
    arrays["block1_conv1"] = [kernel[:, :, ::-1], bias]  # trained on BGR, ours reads RGB
    if wants_top and "fc1" in published:
        arrays["fc6"] = [published["fc1"][0].reshape(7, 7, 512, -1), published["fc1"][1]]
        arrays["fc7"] = [published["fc2"][0][None, None], published["fc2"][1]]
    put_weights(model, arrays, weights)


def _read(weights, wants_top):
    def read(top):
        what = f"vgg16_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5"
        return application_weights(keras.applications.VGG16, weights, what, include_top=top,
                                   input_shape=(224, 224, 3))
    try:
        return read(wants_top)
    except InputError:
        if weights == "imagenet":
            raise
        try:
            return read(not wants_top)  # a file with (without) the top layers has the same five stages
        except InputError:
            pass
        raise


vgg16 = Backbone(_build, tuple(f"block{stage}" for stage in range(1, 6)), _load)
