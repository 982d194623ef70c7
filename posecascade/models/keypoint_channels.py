"""Which axes of a model's weights count keypoints; a warm start from another schema matches these by keypoint name."""

from posecascade.backend import keras, layers

# Layer names, from detector.py and regressor.py. Transposed convolutions among the writers also read keypoint maps.
READERS = ("from_parts",)
WRITERS = ("parts", "score", "score_coarse", "score_middle", "score_fine", "maps", "maps_quarter")


def keypoint_axes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    """Return, for each of the layer's weights, the axes that count keypoints as negative numbers; () if there is none.

    Kernels are (h, w, in, out), those of transposed convolutions (h, w, out, in); in the latter both count keypoints.
    """
    kernel: tuple[int, ...]
    bias: tuple[int, ...]
    if layer.name in READERS:
        kernel, bias = (-2,), ()
    elif layer.name in WRITERS:
        kernel, bias = (-2, -1) if isinstance(layer, layers.Conv2DTranspose) else (-1,), (-1,)
    else:
        kernel = bias = ()
    return [kernel if len(weight.shape) == 4 else bias for weight in layer.weights]
