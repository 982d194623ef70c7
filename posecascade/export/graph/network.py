"""A trained model as TensorFlow functions from crops to confidences to joints, for whatever graph they go into."""

from collections.abc import Callable

import keras
import tensorflow as tf

from posecascade.export.graph.decoding import DECODERS, calibrated, value_at
from posecascade.formats.metadata import Metadata

Maps = dict[str, tf.Tensor]


class Network(tf.Module):
    """The model's variables and what it computes; saved with a graph, it loads without Keras.

    Attributes:
        names: of the maps it has, of "parts" and "heatmaps"; the last is the result.
        metadata: the model's.
    """

    def __init__(self, model: keras.Model, metadata: Metadata):
        """`model` maps (B, S, S, 3) RGB in 0..255 to "parts" (logits) and "heatmaps", as far as it has them."""
        super().__init__()
        # Not the model itself: saving a Keras model traces it with unknown sides, which cannot be up-sampled.
        model = float32(model)
        self.kept = [variable.value for variable in model.variables]
        self._call: Callable[[tf.Tensor], Maps] = lambda crops: model(crops, training=False)
        self.names = tuple(name for name in ("parts", "heatmaps") if name in model.output)
        self.metadata = metadata

    def maps(self, crops: tf.Tensor) -> Maps:
        """(B, S, S, 3) uint8 or float32 in 0..255 to maps (B, S/stride, S/stride, K) float32, "parts" in 0..1."""
        found = self._call(tf.cast(crops, tf.float32))
        if "parts" in found:
            found = found | {"parts": tf.sigmoid(found["parts"])}
        return {name: found[name] for name in self.names}

    def joints(self, maps: Maps) -> Maps:
        """As `Predictor` does: "keypoints" (B, K, 2) in pixels of the crop, "scores", "visibility" (B, K) in 0..1."""
        stride = self.metadata.stride
        places, peaks = DECODERS[self.metadata.decoder](maps[self.names[-1]], stride)
        peaks = tf.clip_by_value(peaks, 0, 1)
        seen = tf.clip_by_value(value_at(maps["parts"], places, stride), 0, 1) if "parts" in maps else peaks
        return {"keypoints": places, "scores": calibrated(peaks, self.metadata.calibration), "visibility": seen}


def float32(model: keras.Model) -> keras.Model:
    """The model itself, or a copy with the same weights that computes in float32 where it was of mixed precision."""
    if all(layer.compute_dtype == "float32" for layer in _flat(model)):
        return model

    def copy(layer):
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})

    twin = keras.models.clone_model(model, clone_function=copy, recursive=True)
    twin.set_weights(model.get_weights())
    return twin


def _flat(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer
