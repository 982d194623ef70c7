"""MoveNet Lightning's trunk and part maps as a start: python recipes/tools/movenet_start.py TRUNK.npz OUT.keras."""

import sys

from posecascade import pretrained
from posecascade.model_metadata import Metadata
from posecascade.models import cascade, load_backbone
from posecascade.schema import COCO17


def main(trunk: str, output: str) -> None:
    """Write OUTPUT; its regressor is untrained. InputError where TRUNK is not such a file."""
    model = cascade(COCO17.size, backbone="movenet", detector="narrow", width=48)
    load_backbone(model, "movenet", trunk)
    pretrained.save(model, output, Metadata(COCO17, 192, 4))


if __name__ == "__main__":
    main(*sys.argv[1:])
