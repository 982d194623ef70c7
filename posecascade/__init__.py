"""posecascade: part detection, then heatmap regression: 2D human pose estimation in Keras.

    import posecascade
    pose = posecascade.load("model.keras").predict("photo.jpg")
    pose.keypoints, pose.scores, pose.visibility, pose.names

Importing it loads no backend. `load` loads Keras for a .keras file, TensorFlow for an export, and neither for a .tflite
file.
"""

from typing import TYPE_CHECKING

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.poses import Pose
from posecascade.schema import COCO17, LSP14, MPII16, Schema

if TYPE_CHECKING:
    from posecascade.inference.predictor import Predictor, load

__version__ = "0.1.0"  # the only place: setup.cfg reads it here

__all__ = ["COCO17", "LSP14", "MPII16", "Box", "InputError", "Pose", "Predictor", "Schema", "load"]


def __getattr__(name: str) -> object:
    """Import `Predictor` and `load` when they are first used."""
    if name not in ("Predictor", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from posecascade.inference import predictor

    return {"Predictor": predictor.Predictor, "load": predictor.load}[name]


def __dir__() -> list[str]:
    """List the names of the module, with those that are imported late."""
    return sorted({*globals(), *__all__})
