"""A SavedModel for TF Serving: signatures, what travels inside, and the requests a server warms up with."""

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
from posecascade.export.warmup import PLACE, requests, write_warmup

MODEL_CARD, JOINTS = "posecascade.json", "joints.txt"  # assets


def write(folder: Path, network: Network, card: Mapping, pictures: np.ndarray, batch_sizes: Sequence[int]) -> None:
    """Write the SavedModel into the existing `folder`.

    Args:
        network: the model.
        card: what is told of it; becomes an asset, beside a list of its joints, and what `model_card` answers.
        pictures: (N, H, W, 3) uint8 RGB of people, H = W = the input size, for the warm-up requests.
        batch_sizes: of the warm-up requests of each signature.
    """
    module = tf.Module()
    module.network = network
    module.serving = Serving(network).signatures(json.dumps(dict(card), ensure_ascii=False, allow_nan=False))
    drafts = folder / "assets.draft"
    drafts.mkdir()
    files.write_json(drafts / MODEL_CARD, dict(card))
    names = "".join(f"{name}\n" for name in network.metadata.schema.keypoints)
    (drafts / JOINTS).write_text(names, encoding="utf-8")
    module.assets = [tf.saved_model.Asset(str(drafts / name)) for name in (MODEL_CARD, JOINTS)]
    tf.saved_model.save(module, str(folder), signatures=dict(module.serving),
                        options=tf.saved_model.SaveOptions(experimental_debug_stripper=True))
    for path in drafts.iterdir():
        path.unlink()
    drafts.rmdir()
    write_warmup(folder / PLACE, requests(pictures, batch_sizes))


def operators(folder: Path) -> dict[str, int]:
    """How often each operation occurs in the graph and its functions, by name."""
    content = saved_model_pb2.SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = content.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return dict(sorted(Counter(node.op for node in nodes).items()))
