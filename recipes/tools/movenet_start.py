"""Make an initial model with MoveNet's backbone and head: movenet_start.py TRUNK.npz OUT.keras [BACKBONE [WIDTH]].

BACKBONE is `movenet` (Lightning's, the default) or `movenet_thunder`; WIDTH is the regressor's channels (48).
"""

import sys

from posecascade.formats import keras_file
from posecascade.formats.metadata import Metadata
from posecascade.models import cascade, load_backbone
from posecascade.schema import COCO17

SIZES = {"movenet": 192, "movenet_thunder": 256}  # input sizes in pixels of the published models


def main(trunk: str, output: str, backbone: str = "movenet", width: str = "48") -> None:
    """Write OUTPUT, whose regressor is untrained. Raises InputError if TRUNK is not such a file."""
    model = cascade(COCO17.size, backbone=backbone, detector="narrow", width=int(width))
    load_backbone(model, backbone, trunk)
    keras_file.save(model, output, Metadata(COCO17, SIZES[backbone], 4))


if __name__ == "__main__":
    main(*sys.argv[1:])
