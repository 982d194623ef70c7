"""Which weights of a model belong to single joints: what a warm start across schemas matches by joint name."""

import keras
from keras import layers

# Layer names, from detector.py and regressor.py. Transposed convolutions among the writers also read joints.
READERS = ("from_parts",)
WRITERS = ("parts", "score", "score_coarse", "score_middle", "score_fine", "maps", "maps_quarter")


def joint_axes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    """For each of the layer's weights the axes that count joints, as negative numbers; () where none does.

    Kernels are (h, w, in, out), of transposed convolutions (h, w, out, in), and then both are joints.
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
