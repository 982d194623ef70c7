"""Build the cascade: part detector and regressor in one functional model, or either stage alone for the ablation."""

from posecascade.backend import keras, layers
from posecascade.errors import InputError
from posecascade.files import did_you_mean
from posecascade.models.backbones import find_backbone
from posecascade.models.detector import part_detector, topdown_features
from posecascade.models.regressor import regressor as build_regressor

STAGES = ("cascade", "detector", "regressor")
OPTIONS = ("stages", "backbone", "detector", "regressor", "stride", "width", "regressor_sees_image")  # of `cascade()`


def cascade(keypoints: int, *, stages: str = "cascade", backbone: str = "efficientnet_lite0",
            detector: str = "topdown", regressor: str = "light", stride: int = 4, width: int = 96,
            regressor_sees_image: bool = True) -> keras.Model:
    """Return one model from the image to the maps of both stages, trained end to end (docs/paper.md "Idea").

    It consists of plain Keras layers: a saved model loads without this package.

    Args:
        keypoints: K, the number of keypoints.
        stages: "cascade"; "detector", the part maps alone; or "regressor", the regressor without part maps: `light`
            reads backbone features, the paper's kinds read the image alone.
        backbone: one of `models.BACKBONES`.
        detector: one of `models.DETECTORS`.
        regressor: one of `models.REGRESSORS`.
        stride: input pixels per cell of both outputs, 1 (the paper's) or 4.
        width: channels of the top-down path and of the light regressor.
        regressor_sees_image: whether the regressor reads the image (or features of it) in addition to the part maps.
    Returns:
        model from the tensor "image" (B, H, W, 3) float32 RGB in 0..255, H and W multiples of 32 (hourglass: 64), to
        a dict of "parts" (logits, from the detector) and "heatmaps" (linear, from the regressor), each
        (B, H/stride, W/stride, K) float32. `get_layer("detector")` and `get_layer("regressor")` are its nested models.
    Raises:
        InputError: a name or number is not supported.
    """
    if stages not in STAGES:
        raise InputError(f"model.stages: unknown stages {stages!r}; {did_you_mean(stages, STAGES)}")
    image = keras.Input((None, None, 3), name="image")
    if stages == "regressor":
        maps = _regressor_alone(image, keypoints, backbone, regressor, stride, width)
        return keras.Model(image, maps, name="cascade")
    detected = part_detector(keypoints, backbone=backbone, head=detector, stride=stride, width=width)(image)
    if stages == "detector":
        return keras.Model(image, {"parts": detected["parts"]}, name="cascade")
    features = detected.get("features") if regressor_sees_image and regressor == "light" else None
    stage = build_regressor(keypoints, kind=regressor, stride=stride, width=width, image=regressor_sees_image,
                            features=None if features is None else features.shape[-1])
    inputs = {"image": image, "features": features,
              "parts": layers.Activation("sigmoid", name="part_maps", dtype="float32")(detected["parts"])}
    maps = stage({name: inputs[name] for name in stage.input})
    return keras.Model(image, {"parts": detected["parts"], "heatmaps": maps["heatmaps"]}, name="cascade")


def _regressor_alone(image, keypoints, backbone, kind, stride, width):
    if kind != "light":
        return build_regressor(keypoints, kind=kind, stride=stride, parts=False)({"image": image})
    inner = keras.Input((None, None, 3), name="image")
    trunk = keras.Model(inner, topdown_features(find_backbone(backbone).build(inner), width), name="features")
    stage = build_regressor(keypoints, kind=kind, stride=stride, width=width, parts=False, features=width)
    return stage({"features": trunk(image)})
