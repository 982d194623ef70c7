"""Write a SavedModel for TF Serving: its signatures, assets and warm-up requests."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from posecascade import files
from posecascade.export.graph.network import Network
from posecascade.export.graph.serving import Serving
from posecascade.export.warmup import WARMUP_FILE, requests, write_warmup
from posecascade.formats.metadata import KEYPOINTS_FILE, METADATA_FILE


def write(folder: Path, network: Network, metadata: Mapping, images: np.ndarray, batch_sizes: Sequence[int]) -> None:
    """Write the SavedModel into the existing `folder`.

    Args:
        network: the model.
        metadata: become an asset, next to a list of the keypoints, and the answer of `model_card`.
        images: (N, S, S, 3) uint8 RGB of people, S the input size, for the warm-up requests.
        batch_sizes: of each signature's warm-up requests.
    """
    module = tf.Module()
    module.network = network
    module.serving = Serving(network).signatures(json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False))
    drafts = folder / "assets.draft"
    drafts.mkdir()
    files.write_json(drafts / METADATA_FILE, dict(metadata))
    names = "".join(f"{name}\n" for name in network.metadata.schema.keypoints)
    (drafts / KEYPOINTS_FILE).write_text(names, encoding="utf-8")
    module.assets = [tf.saved_model.Asset(str(drafts / name)) for name in (METADATA_FILE, KEYPOINTS_FILE)]
    tf.saved_model.save(module, str(folder), signatures=dict(module.serving),
                        options=tf.saved_model.SaveOptions(experimental_debug_stripper=True))
    for path in drafts.iterdir():
        path.unlink()
    drafts.rmdir()
    write_warmup(folder / WARMUP_FILE, requests(images, batch_sizes))


def operators(folder: Path) -> dict[str, int]:
    """Return how often each operation occurs in the graph and its functions, by name."""
    content = saved_model_pb2.SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = content.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return dict(sorted(Counter(node.op for node in nodes).items()))
