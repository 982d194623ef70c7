"""Write small annotation files in the layouts of the data sets."""

import json

import numpy as np
import scipy.io

from posecascade.schema import COCO17


def write_lsp(folder, people, axes=(2, 1, 0), images=False):
    """Write `people` (N, 14, 3); `axes` (2, 1, 0) is LSP's order (3, 14, N), (1, 2, 0) is LSPET's (14, 3, N)."""
    (folder / "images").mkdir(parents=True) if images else folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": people.transpose(axes)})
    return folder


def lsp_people(rng, count, share):
    """Return (N, 14, 3): coordinates in 100 x 200 pixels, and flags of which exactly `share` are 1."""
    flags = np.zeros(count * 14)
    flags[:round(share * flags.size)] = 1
    flags = flags.reshape(14, count).T  # filled keypoint by keypoint, so that every person has both flags
    return np.dstack([rng.uniform(0, 100, (count, 14)), rng.uniform(0, 200, (count, 14)), flags])


def coco(people, images=({"id": 1, "file_name": "a.jpg"},), names=COCO17.keypoints):
    """Return the content of a COCO file."""
    return {"images": list(images), "annotations": list(people),
            "categories": [{"id": 1, "name": "person", "keypoints": list(names)}]}


def coco_person(image=1, codes=(2,) * 17, **fields):
    """Return an annotation of a COCO file, with one code per keypoint."""
    triples = [(10.5 + k, 20 + 2 * k, code) if code else (0, 0, 0) for k, code in enumerate(codes)]
    return {"image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": [n for t in triples for n in t], **fields}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path
