"""Records -> what is wrong with a data set: pictures, labels, doubles, left and right, the order of the joints."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.geometry import inside
from posecascade.images import ImageFile, decode, jpeg_segments
from posecascade.records import ImageSource, Record, Visibility
from posecascade.schema import SCHEMAS

SAME_PLACE = 0.03   # of the box's longer side: two people of one image whose joints lie this close are one
MIN_COMMON = 3    # joints labeled in both before two people are compared
CLEAR_TURN = 0.1    # of the torso's length: shoulders or hips that are nearer side on say nothing about their order
UNLIKE_A_BODY = 0.15  # deviation of limb lengths: 0.03-0.06 in five data sets, 0.18-0.8 where read in a wrong order
EXCHANGED = 0.4     # share of upright people whose right shoulder is on the image's left: 0.67-0.80 in five data sets
MIN_PEOPLE = 20   # before a share or a median is taken for a fact about the data set
EXAMPLES = 3        # of each problem in the table

# Orders that data sets come in, beside those of the built-in schemas.
_CROWDPOSE = ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
              "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head_top", "neck")
_AI_CHALLENGER = ("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
                  "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck")
ORDERS = {name: schema.keypoints for name, schema in SCHEMAS.items()} | {
    "crowdpose": _CROWDPOSE, "ai_challenger": _AI_CHALLENGER}
# Median lengths in parts of their sum; mean of LSP, LSPET and MPII's validation people.
_PROPORTIONS = {("shoulder", "elbow"): 0.155, ("elbow", "wrist"): 0.136, ("shoulder", "hip"): 0.280,
                ("hip", "knee"): 0.213, ("knee", "ankle"): 0.216}


@dataclass(frozen=True)
class Picture:
    """What opening a picture showed: an error, or width, height (stored pixels) and the EXIF orientation (1: none)."""

    error: str | None
    missing: bool = False
    width: int = 0
    height: int = 0
    orientation: int = 1


@dataclass(frozen=True)
class Report:
    """The state of one data set; every tuple of strings names people or pictures.

    Attributes:
        people, images: how many; `images` counts pictures, 0 in an annotations-only set.
        missing, corrupt: pictures that are not there, or cannot be decoded to their end.
        turned: pictures with an EXIF rotation; their labels are taken as counted in stored pixels.
        outside: people with labeled joints outside their picture; `joints_outside` of them in all.
        joints: for each joint how often it is visible, occluded and unlabeled.
        duplicates: groups of people that are one: the same image and nearly the same joints, or identical joints.
        crossed: people whose shoulders and hips face opposite ways, of `torsos` where both could be seen. A few are
            twisted acrobats; many mean that left and right are confused.
        right_on_left: share of upright people whose right shoulder is on the image's left, as in people who face the
            camera; None where there are too few. Below EXCHANGED, left and right look exchanged throughout.
        likely_order: the order of joints (ORDERS) that gives a body's proportions where the declared one does not,
            "unknown" where none does, None where the declared one does.
    """

    people: int
    images: int
    schema: str
    occlusion_known: bool
    missing: tuple[str, ...]
    corrupt: tuple[str, ...]
    turned: tuple[str, ...]
    outside: tuple[str, ...]
    joints_outside: int
    joints: dict[str, dict[str, int]]
    duplicates: tuple[tuple[str, ...], ...]
    crossed: tuple[str, ...]
    torsos: int
    right_on_left: float | None
    likely_order: str | None

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def table(self) -> str:
        """Lines for the screen: one per kind of finding with its first examples, then one per joint."""
        found = [("people", str(self.people), ()), ("images", str(self.images), ()),
                 ("missing images", str(len(self.missing)), self.missing),
                 ("corrupt images", str(len(self.corrupt)), self.corrupt),
                 ("images turned by EXIF", str(len(self.turned)), self.turned),
                 ("joints outside the image", str(self.joints_outside), self.outside),
                 ("duplicate people", str(len(self.duplicates)), [" = ".join(group) for group in self.duplicates]),
                 ("left/right suspicious", f"{len(self.crossed)} of {self.torsos}", self.crossed),
                 ("left/right exchanged", self._sides(), ()),
                 ("likely wrong joint order", self._order(), ())]
        lines = [f"{name:<26}{value}" + "".join(f"\n    {example}" for example in list(examples)[:EXAMPLES])
                 + (f"\n    ... and {len(examples) - EXAMPLES} more" if len(examples) > EXAMPLES else "")
                 for name, value, examples in found]
        head = f"\n{'joint':<26}{'visible':>10}{'occluded':>10}{'unlabeled':>12}"
        rows = [f"{name:<26}{n['visible']:>10}{n['occluded'] if self.occlusion_known else '-':>10}"
                f"{n['unlabeled']:>12}" for name, n in self.joints.items()]
        return "\n".join([*lines, head, *rows])

    def _sides(self):
        if self.right_on_left is None:
            return "unknown, too few upright people"
        share = f"{self.right_on_left:.0%} of upright people have the right shoulder on the image's left"
        return f"likely: only {share}" if self.right_on_left < EXCHANGED else f"no ({share})"

    def _order(self):
        guess = {"unknown": "limbs are unlike a body's, and no known order fits"}.get(
            self.likely_order, f"looks like {self.likely_order}")
        return f"yes: read as {self.schema}, {guess}" if self.likely_order else "no"


def inspect(records: Sequence[Record]) -> Report:
    """Look at every label and open every picture once.

    Raises InputError where there is nobody.
    """
    if not records:
        raise InputError("the data set holds nobody; choose another --data or split")
    sources = {r.image_name: r.image for r in records if r.image}
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        pictures = dict(zip(sources, pool.map(_look, sources.values()), strict=True))
    outside = [(r.origin, count) for r in records if (count := _outside(r, pictures.get(r.image_name)))]
    crossed, torsos = crossed_torsos(records)
    schema = records[0].schema
    broken = {name: picture for name, picture in pictures.items() if picture.error}
    return Report(
        people=len(records), images=len(sources), schema=schema.name,
        occlusion_known=any(r.occlusion_known for r in records),
        missing=tuple(name for name, picture in broken.items() if picture.missing),
        corrupt=tuple(picture.error for picture in broken.values() if picture.error and not picture.missing),
        turned=tuple(name for name, picture in pictures.items() if picture.orientation != 1),
        outside=tuple(origin for origin, _ in outside), joints_outside=sum(count for _, count in outside),
        joints=_counts(records, schema), duplicates=duplicates(records), crossed=crossed, torsos=torsos,
        right_on_left=right_on_left(records), likely_order=likely_order(records))


def duplicates(records: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    """Pairs of one image with nearly the same joints, and groups of several images with identical ones."""
    by_image, by_joints = defaultdict(list), defaultdict(list)
    for record in records:
        by_image[record.image_name].append(record)
        if record.labeled.sum() >= MIN_COMMON:
            by_joints[np.nan_to_num(record.keypoints, nan=-1e9).tobytes()].append(record)
    near = [(a.origin, b.origin) for people in by_image.values() for a, b in combinations(people, 2) if _same(a, b)]
    equal = [tuple(r.origin for r in people) for people in by_joints.values()
             if len({r.image_name for r in people}) > 1]
    return tuple(near + equal)


def crossed_torsos(records: Sequence[Record]) -> tuple[tuple[str, ...], int]:
    """The people whose torso is crossed (shoulders run left to right, hips right to left), and how many had one.

    Directions are taken across the torso, so people upside down count as others do; a torso seen from the side
    (CLEAR_TURN) has no direction and is not counted.
    """
    crossed, seen = [], 0
    for record, (shoulders, hips, axis) in _torsos(records):
        across = np.array([-axis[1], axis[0]])
        turns = np.array([shoulders, hips]) @ across / max(axis @ axis, 1e-9)
        if np.abs(turns).min() > CLEAR_TURN:
            seen += 1
            if turns[0] * turns[1] < 0:
                crossed.append(record.origin)
    return tuple(crossed), seen


def right_on_left(records: Sequence[Record]) -> float | None:
    """Share of upright people whose right shoulder is left of their left one in the picture; None of too few."""
    sides = [shoulders[0] > 0 for _, (shoulders, _, axis) in _torsos(records)
             if axis[1] > abs(axis[0]) and shoulders[0]]
    return float(np.mean(sides)) if len(sides) >= MIN_PEOPLE else None


def likely_order(records: Sequence[Record]) -> str | None:
    """The joint order in ORDERS that gives a body's proportions where the declared one does not; see `Report`."""
    schema = records[0].schema
    points = np.stack([r.keypoints for r in records])
    own = _deviation(points, schema.keypoints)
    if not own > UNLIKE_A_BODY:  # NaN: not to be told
        return None
    others = {name: _deviation(points, order) for name, order in ORDERS.items() if len(order) <= schema.size}
    best = min((name for name in others if np.isfinite(others[name])), key=others.__getitem__, default=None)
    return best if best and others[best] < min(UNLIKE_A_BODY, own / 2) else "unknown"


def _torsos(records):
    """For people with four corners: right-to-left vectors of shoulders and hips, and the way from neck to pelvis."""
    corners = [f"{side}_{part}" for part in ("shoulder", "hip") for side in ("left", "right")]
    schema = records[0].schema
    if not set(corners) <= set(schema.keypoints):
        return
    at = [schema.index(name) for name in corners]
    for record in records:
        if record.labeled[at].all():
            places = record.keypoints[at]
            yield record, (places[0] - places[1], places[2] - places[3], places[2:].mean(0) - places[:2].mean(0))


def _deviation(points, order):
    """Mean |log| of limb lengths over _PROPORTIONS, NaN where it cannot be told: joints missing, too few people."""
    ends = [[(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right")] for a, b in _PROPORTIONS]
    if not all(name in order for limb in ends for couple in limb for name in couple):
        return np.nan
    labeled = np.isfinite(points[..., 0])
    low, high = (pick(np.where(labeled[..., None], points, fill), axis=1)
                 for pick, fill in ((np.min, np.inf), (np.max, -np.inf)))
    side = np.maximum((high - low).max(-1), 1.0)
    medians = []
    for limb in ends:
        lengths = np.concatenate([np.linalg.norm(points[:, order.index(a)] - points[:, order.index(b)], axis=-1) / side
                                  for a, b in limb])
        lengths = lengths[np.isfinite(lengths)]
        medians.append(np.median(lengths) if len(lengths) >= MIN_PEOPLE else np.nan)
    parts = np.maximum(np.array(medians) / np.sum(medians), 1e-6)
    return float(np.abs(np.log(parts / list(_PROPORTIONS.values()))).mean())


def _same(a, b):
    common = a.labeled & b.labeled
    if common.sum() < MIN_COMMON:
        return False
    reach = SAME_PLACE * max(min(max(r.box.w, r.box.h) for r in (a, b)), 1.0)
    return np.linalg.norm(a.keypoints[common] - b.keypoints[common], axis=-1).mean() < reach


def _counts(records, schema):
    codes = np.stack([r.visibility for r in records])
    return {name: {code.name.lower(): int((codes[:, k] == code).sum()) for code in Visibility}
            for k, name in enumerate(schema.keypoints)}


def _outside(record, picture):
    """How many labeled joints lie outside the picture; 0 where there is none to compare with."""
    if picture is None or picture.error:
        return 0
    return int((~inside(record.keypoints[record.labeled], picture.width, picture.height)).sum())


def _look(source: ImageSource) -> Picture:
    """Decode a picture to its end, eight times smaller, which is faster and finds the same faults."""
    try:
        if not isinstance(source, ImageFile):
            height, width = source.read().shape[:2]
            return Picture(None, width=width, height=height)
        if not source.path.is_file():
            return Picture("is missing", missing=True)
        data = read_bytes(source.path, "image")
        small = decode(data, source.name, shrink=8)
        size, orientation = jpeg_facts(data)
        height, width = size or decode(data, source.name).shape[:2]
        return Picture(None, width=width, height=height, orientation=orientation) if small.size else Picture("is empty")
    except InputError as error:
        return Picture(str(error))


def jpeg_facts(data: bytes) -> tuple[tuple[int, int] | None, int]:
    """Return (height, width) in stored pixels, None if `data` is no JPEG, and the EXIF orientation (1: upright)."""
    size, orientation = None, 1
    for marker, start, end in jpeg_segments(data) if data[:2] == b"\xff\xd8" else ():
        body = data[start:end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:  # start of frame
            size = (int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"))
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = _orientation(body[6:])
    return size, orientation


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block; 1 where it has none or makes no sense."""
    orders: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
    order = orders.get(tiff[:2])
    if order is None:
        return 1
    start = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[start:start + 2], order)
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        if int.from_bytes(tiff[entry:entry + 2], order) == 0x0112:
            value = int.from_bytes(tiff[entry + 8:entry + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1
