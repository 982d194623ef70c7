"""Keypoint schemas: names, left/right pairs, limbs and reference segments; built in or from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from posecascade.checks import dataclass_from
from posecascade.errors import InputError
from posecascade.files import did_you_mean, read_yaml

REFERENCES = ("torso", "box", "pixels")


@dataclass(frozen=True)
class Schema:
    """The keypoints of a data set or model, in order.

    Attributes:
        name: short name, as given to `--schema` and in recipes.
        keypoints: K names; the order of every (K, ...) array.
        pairs: (left, right) names that a mirror exchanges.
        limbs: (from, to) names connected by a line in drawings.
        head: the two keypoints whose distance is the head size if a data set has none of its own, or None.
        torso: the two keypoints whose distance is PCK's reference, or None.
        sigmas: K fall-offs for OKS (COCO's `sigmas`, relative to the square root of the person's area), or None.
        reference: length that PCK is relative to: "torso", "box" (the longer side of the person's box) or "pixels" (100
            pixels of the image); None for the torso if the schema has one, else the box.

    >>> face = Schema("face", ("nose", "left_eye", "right_eye"), pairs=(("left_eye", "right_eye"),))
    >>> face.size, face.index("left_eye")
    (3, 1)
    >>> face.flip_order.tolist()
    [0, 2, 1]
    >>> face.order_from(COCO17).tolist()
    [0, 1, 2]
    """

    name: str
    keypoints: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    limbs: tuple[tuple[str, str], ...] = ()
    head: tuple[str, str] | None = None
    torso: tuple[str, str] | None = None
    sigmas: tuple[float, ...] | None = None
    reference: str | None = field(default=None, metadata={"choices": REFERENCES})

    def __post_init__(self) -> None:
        def refuse(problem: str) -> NoReturn:
            raise InputError(f"schema {self.name!r}: {problem}")

        if not self.keypoints:
            refuse("'keypoints' is empty; name at least one keypoint")
        repeated = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
        if repeated:
            refuse(f"'keypoints' names {', '.join(repeated)} more than once")
        segments = {"pairs": self.pairs, "limbs": self.limbs,
                    "head": (self.head,) if self.head else (), "torso": (self.torso,) if self.torso else ()}
        for key, couples in segments.items():
            for couple in couples:
                for name in couple:
                    if name not in self.keypoints:
                        refuse(f"{key!r} names unknown keypoint {name!r}; {did_you_mean(name, self.keypoints)}")
                if len(set(couple)) != 2:
                    refuse(f"{key!r} holds {list(couple)}, expected two different keypoints")
        paired = [name for couple in self.pairs for name in couple]
        if len(set(paired)) != len(paired):
            refuse("'pairs' names a keypoint more than once")
        if self.sigmas is not None and (
                len(self.sigmas) != self.size or not all(0 < sigma < np.inf for sigma in self.sigmas)):
            refuse(f"'sigmas' holds {list(self.sigmas)}, expected {self.size} positive numbers")

        if self.reference == "torso" and not self.torso:
            refuse("'reference' is 'torso', but there is no 'torso'; add it, or choose box or pixels")

    @property
    def size(self) -> int:
        """Return the number of keypoints K."""
        return len(self.keypoints)

    @property
    def flip_order(self) -> np.ndarray:
        """Return (K,) int: `values[flip_order]` exchanges left and right along the keypoint axis; its own inverse."""
        twin = dict(self.pairs) | {b: a for a, b in self.pairs}
        return np.array([self.index(twin.get(name, name)) for name in self.keypoints])

    def index(self, name: str) -> int:
        """Return the index of keypoint `name`. Raises InputError with the nearest name if there is none."""
        if name not in self.keypoints:
            raise InputError(f"schema {self.name!r} has no keypoint {name!r}; {did_you_mean(name, self.keypoints)}")
        return self.keypoints.index(name)

    def segment(self, which: str) -> tuple[int, int] | None:
        """Return the indices of the two keypoints of `head` or `torso`, or None if the schema defines none."""
        couple = {"head": self.head, "torso": self.torso}[which]
        return (self.index(couple[0]), self.index(couple[1])) if couple else None

    def order_from(self, other: "Schema") -> np.ndarray:
        """Return (K,) int: the index of each keypoint in `other`, matched by name; -1 if it has none of that name."""
        return np.array([other.keypoints.index(n) if n in other.keypoints else -1 for n in self.keypoints])

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and strings, as in a YAML file, which `schema_from` reads back."""
        segments = {key: list(value) for key in ("head", "torso") if (value := getattr(self, key))}
        others: dict[str, Any] = {"sigmas": list(self.sigmas)} if self.sigmas else {}
        others |= {"reference": self.reference} if self.reference else {}
        return {"name": self.name, "keypoints": list(self.keypoints), "pairs": [list(p) for p in self.pairs],
                "limbs": [list(limb) for limb in self.limbs], **segments, **others}


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{part}", f"right_{part}") for part in parts)


_ARMS_AND_LEGS = tuple((f"{side}_{a}", f"{side}_{b}") for side in ("right", "left") for a, b in (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")))
_LEGS = ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle")
_ARMS = ("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist")
_LIMB_PAIRS = _sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_TORSO = ("left_shoulder", "right_hip")  # LSP's reference distance, docs/paper.md "Evaluation"

# MPII calls `neck` "upper neck"; it has the name of LSP's because the paper's release maps one to the other.
MPII16 = Schema(
    "mpii16", _LEGS + ("pelvis", "thorax", "neck", "head_top") + _ARMS, _LIMB_PAIRS,
    _ARMS_AND_LEGS + (("thorax", "right_shoulder"), ("thorax", "left_shoulder"), ("pelvis", "right_hip"),
                      ("pelvis", "left_hip"), ("pelvis", "thorax"), ("thorax", "neck"), ("neck", "head_top")),
    head=("neck", "head_top"), torso=_TORSO,
    # COCO's fall-offs for the keypoints that both have; CrowdPose's 0.079 for head and neck, the hips' for the pelvis.
    sigmas=(.089, .087, .107, .107, .087, .089, .107, .079, .079, .079, .062, .072, .079, .079, .072, .062))

LSP14 = Schema(
    "lsp14", _LEGS + _ARMS + ("neck", "head_top"), _LIMB_PAIRS,
    _ARMS_AND_LEGS + (("neck", "right_shoulder"), ("neck", "left_shoulder"), ("right_shoulder", "right_hip"),
                      ("left_shoulder", "left_hip"), ("right_hip", "left_hip"), ("neck", "head_top")),
    head=("neck", "head_top"), torso=_TORSO,
    sigmas=(.089, .087, .107, .107, .087, .089, .062, .072, .079, .079, .072, .062, .079, .079))

COCO17 = Schema(
    "coco17",
    ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
     "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
     "left_ankle", "right_ankle"),
    _sides("eye", "ear") + _LIMB_PAIRS,
    _ARMS_AND_LEGS + (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
                      ("right_shoulder", "right_hip"), ("nose", "left_eye"), ("nose", "right_eye"),
                      ("left_eye", "left_ear"), ("right_eye", "right_ear")),
    torso=_TORSO,
    sigmas=(.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089))

SCHEMAS = {schema.name: schema for schema in (MPII16, LSP14, COCO17)}


def schema_from(value: object, origin: str) -> Schema:
    """Return the schema described by the mapping of a YAML file, a checkpoint or a recipe.

    Raises InputError with `origin` and the key if a key is unknown or missing, or has a value of the wrong type. A key
    without a value counts as missing.

    >>> schema_from({"name": "face", "keypoints": ["nose", "left_eye", "right_eye"]}, "face.yaml").size
    3
    >>> schema_from({"name": "face"}, "face.yaml")
    Traceback (most recent call last):
    posecascade.errors.InputError: face.yaml: keypoints is missing; add it
    """
    given = {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value
    return dataclass_from(Schema, given, origin)


def find_schema(name_or_file: str) -> Schema:
    """Return a built-in schema by name, or a custom one from a YAML file.

    Raises InputError with the nearest built-in name if there is neither.

    >>> find_schema("lsp14") == LSP14
    True
    """
    if name_or_file in SCHEMAS:
        return SCHEMAS[name_or_file]
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"unknown schema {name_or_file!r}; {did_you_mean(name_or_file, SCHEMAS)} "
                         "(or give a .yaml file)")
    return schema_from(read_yaml(path, "schema"), str(path))
