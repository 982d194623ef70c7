"""Small annotation files in the layouts that the readers read."""

import json

import numpy as np
import scipy.io

from posecascade.schema import COCO17


def write_lsp(folder, people, axes=(2, 1, 0), images=False):
    """`people` (N, 14, 3); `axes` (2, 1, 0) gives LSP's order (3, 14, N), (1, 2, 0) LSPET's (14, 3, N)."""
    (folder / "images").mkdir(parents=True) if images else folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": people.transpose(axes)})
    return folder


def lsp_people(rng, count, share):
    """(N, 14, 3): places in 100 x 200 pixels; of the flags `share` are 1, exactly."""
    flags = np.zeros(count * 14)
    flags[:round(share * flags.size)] = 1
    flags = flags.reshape(14, count).T  # by joint, so that everybody has both kinds
    return np.dstack([rng.uniform(0, 100, (count, 14)), rng.uniform(0, 200, (count, 14)), flags])


def coco(people, images=({"id": 1, "file_name": "a.jpg"},), names=COCO17.keypoints):
    return {"images": list(images), "annotations": list(people),
            "categories": [{"id": 1, "name": "person", "keypoints": list(names)}]}


def coco_person(image=1, codes=(2,) * 17, **fields):
    triples = [(10.5 + k, 20 + 2 * k, code) if code else (0, 0, 0) for k, code in enumerate(codes)]
    return {"image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": [n for t in triples for n in t], **fields}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path
