"""Joint schemas: names, left/right pairs, limbs and reference segments, built in or from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from posecascade.checks import dataclass_from
from posecascade.errors import InputError
from posecascade.files import did_you_mean, read_yaml


@dataclass(frozen=True)
class Schema:
    """The joints of a data set or model, in order.

    Attributes:
        name: short name, as given to `--schema` and in recipes.
        keypoints: K joint names; the order of every (K, ...) array.
        pairs: (left, right) names that a mirror exchanges.
        limbs: (from, to) names joined by a line in drawings.
        head: the two joints whose distance is the head size where a data set gives none, or None.
        torso: the two joints whose distance PCK refers to, or None.
        sigmas: K OKS fall-offs (COCO's `sigmas`, relative to the square root of the person's area), or None.
    """

    name: str
    keypoints: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    limbs: tuple[tuple[str, str], ...] = ()
    head: tuple[str, str] | None = None
    torso: tuple[str, str] | None = None
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        def refuse(problem: str) -> NoReturn:
            raise InputError(f"schema {self.name!r}: {problem}")

        if not self.keypoints:
            refuse("'keypoints' is empty; name at least one joint")
        double = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
        if double:
            refuse(f"'keypoints' names {', '.join(double)} more than once")
        segments = {"pairs": self.pairs, "limbs": self.limbs,
                    "head": (self.head,) if self.head else (), "torso": (self.torso,) if self.torso else ()}
        for field, couples in segments.items():
            for couple in couples:
                for name in couple:
                    if name not in self.keypoints:
                        refuse(f"{field!r} names unknown joint {name!r}; {did_you_mean(name, self.keypoints)}")
                if len(set(couple)) != 2:
                    refuse(f"{field!r} holds {list(couple)}, expected two different joints")
        paired = [name for couple in self.pairs for name in couple]
        if len(set(paired)) != len(paired):
            refuse("'pairs' names a joint more than once")
        if self.sigmas is not None and (
                len(self.sigmas) != self.size or not all(0 < sigma < np.inf for sigma in self.sigmas)):
            refuse(f"'sigmas' holds {list(self.sigmas)}, expected {self.size} positive numbers")

    @property
    def size(self) -> int:
        """Number of joints K."""
        return len(self.keypoints)

    @property
    def flip_order(self) -> np.ndarray:
        """(K,) int: `values[flip_order]` exchanges left and right along the joint axis; its own inverse."""
        twin = dict(self.pairs) | {b: a for a, b in self.pairs}
        return np.array([self.index(twin.get(name, name)) for name in self.keypoints])

    def index(self, name: str) -> int:
        """Position of joint `name`; InputError with the nearest name where there is none."""
        if name not in self.keypoints:
            raise InputError(f"schema {self.name!r} has no joint {name!r}; {did_you_mean(name, self.keypoints)}")
        return self.keypoints.index(name)

    def segment(self, which: str) -> tuple[int, int] | None:
        """Positions of the two joints of `head` or `torso`, or None where the schema defines none."""
        couple = {"head": self.head, "torso": self.torso}[which]
        return (self.index(couple[0]), self.index(couple[1])) if couple else None

    def order_from(self, other: "Schema") -> np.ndarray:
        """(K,) int: for each joint of this schema its position in `other`, by name, or -1 where it has none."""
        return np.array([other.keypoints.index(n) if n in other.keypoints else -1 for n in self.keypoints])

    def as_dict(self) -> dict[str, Any]:
        """The schema as plain lists and strings, as in its YAML file; `schema_from` reads it back."""
        segments = {key: list(value) for key in ("head", "torso") if (value := getattr(self, key))}
        sigmas = {"sigmas": list(self.sigmas)} if self.sigmas else {}
        return {"name": self.name, "keypoints": list(self.keypoints), "pairs": [list(p) for p in self.pairs],
                "limbs": [list(limb) for limb in self.limbs], **segments, **sigmas}


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{part}", f"right_{part}") for part in parts)


_ARMS_AND_LEGS = tuple((f"{side}_{a}", f"{side}_{b}") for side in ("right", "left") for a, b in (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")))
_LEGS = ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle")
_ARMS = ("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist")
_LIMB_PAIRS = _sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_TORSO = ("left_shoulder", "right_hip")  # LSP's reference distance, docs/paper.md "Evaluation"

# MPII calls `neck` "upper neck"; the same name as LSP's, because the paper's release maps one on the other.
MPII16 = Schema(
    "mpii16", _LEGS + ("pelvis", "thorax", "neck", "head_top") + _ARMS, _LIMB_PAIRS,
    _ARMS_AND_LEGS + (("thorax", "right_shoulder"), ("thorax", "left_shoulder"), ("pelvis", "right_hip"),
                      ("pelvis", "left_hip"), ("pelvis", "thorax"), ("thorax", "neck"), ("neck", "head_top")),
    head=("neck", "head_top"), torso=_TORSO,
    # COCO's fall-offs for the joints both have; CrowdPose's 0.079 for head and neck, hips' for the pelvis.
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
    """Return the schema that the mapping in a YAML file, a checkpoint or a recipe describes.

    Raises InputError with `origin` and the key if a key is unknown or missing, or holds a value of the wrong type. A
    key without a value counts as missing.
    """
    given = {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value
    return dataclass_from(Schema, given, origin)


def find_schema(name_or_file: str) -> Schema:
    """A built-in schema by name, or a user's own from its YAML file.

    Raises InputError naming the nearest built-in where neither exists.
    """
    if name_or_file in SCHEMAS:
        return SCHEMAS[name_or_file]
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"unknown schema {name_or_file!r}; {did_you_mean(name_or_file, SCHEMAS)} "
                         "(or give a .yaml file)")
    return schema_from(read_yaml(path, "schema"), str(path))
