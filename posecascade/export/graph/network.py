"""A trained model as TensorFlow functions from crops to maps and from maps to keypoints, for exported graphs."""

from collections.abc import Callable

import tensorflow as tf

from posecascade.backend import keras
from posecascade.export.graph.decoding import DECODERS, calibrated, value_at
from posecascade.formats.metadata import Metadata

Maps = dict[str, tf.Tensor]


class Network(tf.Module):
    """Hold a model's variables and functions; saved with a graph, it loads without Keras.

    Attributes:
        names: of the model's maps, among "parts" and "heatmaps"; the last is the result.
        metadata: the model's.
    """

    def __init__(self, model: keras.Model, metadata: Metadata):
        """Wrap `model`, from (B, S, S, 3) RGB in 0..255 to "parts" (logits), "heatmaps", or both."""
        super().__init__()
        # Not the model itself: saving a Keras model traces it with unknown sides, which cannot be upsampled.
        model = float32(model)
        self.kept = [variable.value for variable in model.variables]
        self._call: Callable[[tf.Tensor], Maps] = lambda crops: model(crops, training=False)
        self.names = tuple(name for name in ("parts", "heatmaps") if name in model.output)
        self.metadata = metadata

    def maps(self, crops: tf.Tensor) -> Maps:
        """Compute maps (B, S/stride, S/stride, K) float32 of (B, S, S, 3) in 0..255; "parts" are in 0..1."""
        outputs = self._call(tf.cast(crops, tf.float32))
        if "parts" in outputs:
            outputs = outputs | {"parts": tf.sigmoid(outputs["parts"])}
        return {name: outputs[name] for name in self.names}

    def keypoints(self, maps: Maps) -> Maps:
        """Decode as `Predictor` does: "keypoints" (B, K, 2) in pixels of the crop, "scores", "visibility" (B, K)."""
        stride = self.metadata.stride
        keypoints, peaks = DECODERS[self.metadata.decoder](maps[self.names[-1]], stride)
        peaks = tf.clip_by_value(peaks, 0, 1)
        visibility = tf.clip_by_value(value_at(maps["parts"], keypoints, stride), 0, 1) if "parts" in maps else peaks
        return {"keypoints": keypoints, "scores": calibrated(peaks, self.metadata.calibration),
                "visibility": visibility}


def float32(model: keras.Model) -> keras.Model:
    """Return the model itself, or, if it has mixed precision, a copy with the same weights that computes in float32."""
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
