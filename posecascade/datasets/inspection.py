"""Find the faults of a data set: images, labels, duplicates, left and right, the order of the keypoints."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from posecascade.datasets.frames import inspect_frames
from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.geometry import inside
from posecascade.image_headers import image_header
from posecascade.images import ImageFile, decode
from posecascade.records import ImageSource, Record, Visibility
from posecascade.schema import SCHEMAS

DUPLICATE_DISTANCE = 0.03  # of the box's longer side: closer people of one image count as one person
MIN_COMMON = 3        # number of keypoints labeled in both, without which two people are not compared
MIN_TURN = 0.1        # of the torso's length: narrower shoulders or hips are seen from the side and have no direction
MAX_DEVIATION = 0.15  # of limb lengths: 0.03-0.06 in five data sets, 0.18-0.8 if read in a wrong order
MIN_RIGHT_ON_LEFT = 0.4  # share of upright people: 0.67-0.80 in five data sets; below it, left and right are exchanged
MIN_PEOPLE = 20       # people needed for a share or a median
EXAMPLES = 3          # of each problem in the table

# Orders of data sets other than those of the built-in schemas.
_CROWDPOSE = ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
              "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head_top", "neck")
_AI_CHALLENGER = ("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
                  "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck")
ORDERS = {name: schema.keypoints for name, schema in SCHEMAS.items()} | {
    "crowdpose": _CROWDPOSE, "ai_challenger": _AI_CHALLENGER}
# Median lengths divided by their sum; mean of LSP, LSPET and MPII's validation people.
_PROPORTIONS = {("shoulder", "elbow"): 0.155, ("elbow", "wrist"): 0.136, ("shoulder", "hip"): 0.280,
                ("hip", "knee"): 0.213, ("knee", "ankle"): 0.216}


@dataclass(frozen=True)
class _Opened:
    """Result of opening an image: an error, or width and height in the frame of the labels."""

    error: str | None
    missing: bool = False
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Report:
    """Findings about one data set; every tuple of strings names people or images.

    Attributes:
        people, images: their numbers; `images` is 0 in an annotations-only set.
        schema: name of the schema.
        occlusion_known: whether any label distinguishes occluded from visible keypoints.
        missing, corrupt: images that do not exist, or cannot be decoded completely.
        turned, stored, undecided, wrong_size: images with an EXIF rotation, and what `frames.Frames` says about them
            and about sizes.
        outside: people with labeled keypoints outside the image; `joints_outside` is the total of such keypoints.
        joints: how often each keypoint is visible, occluded and unlabeled.
        duplicates: groups of annotations of one person: the same image and nearly the same keypoints, or several images
            and identical keypoints.
        crossed: people whose shoulders and hips face opposite ways, among the `torsos` in which both directions are
            clear. A few are twisted acrobats; many mean that left and right are confused.
        torsos: see `crossed`.
        right_on_left: share of upright people whose right shoulder is on the image's left, as in people who face the
            camera; None if there are too few. Below MIN_RIGHT_ON_LEFT, left and right are probably exchanged in all.
        likely_order: None if the declared order of keypoints has a body's proportions, else the order in ORDERS that
            has them, or "unknown".
    """

    people: int
    images: int
    schema: str
    occlusion_known: bool
    missing: tuple[str, ...]
    corrupt: tuple[str, ...]
    turned: tuple[str, ...]
    stored: tuple[str, ...]
    undecided: tuple[str, ...]
    wrong_size: tuple[str, ...]
    outside: tuple[str, ...]
    joints_outside: int
    joints: dict[str, dict[str, int]]
    duplicates: tuple[tuple[str, ...], ...]
    crossed: tuple[str, ...]
    torsos: int
    right_on_left: float | None
    likely_order: str | None

    def as_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self)

    def table(self) -> str:
        """Return the text for the screen: a line per kind of finding with its first examples, then one per keypoint."""
        findings = [("people", str(self.people), ()), ("images", str(self.images), ()),
                 ("missing images", str(len(self.missing)), self.missing),
                 ("corrupt images", str(len(self.corrupt)), self.corrupt),
                 ("images of another size", str(len(self.wrong_size)), self.wrong_size),
                 ("images rotated by EXIF", str(len(self.turned)), self.turned),
                 ("  labels as stored", str(len(self.stored)), ()),
                 ("  frame undecided", str(len(self.undecided)), self.undecided),
                 ("keypoints outside images", str(self.joints_outside), self.outside),
                 ("duplicate people", str(len(self.duplicates)), [" = ".join(group) for group in self.duplicates]),
                 ("left/right suspicious", f"{len(self.crossed)} of {self.torsos}", self.crossed),
                 ("left/right exchanged", self._sides(), ()),
                 ("wrong keypoint order", self._order(), ())]
        lines = [f"{name:<26}{value}" + "".join(f"\n    {example}" for example in list(examples)[:EXAMPLES])
                 + (f"\n    ... and {len(examples) - EXAMPLES} more" if len(examples) > EXAMPLES else "")
                 for name, value, examples in findings]
        head = f"\n{'keypoint':<26}{'visible':>10}{'occluded':>10}{'unlabeled':>12}"
        rows = [f"{name:<26}{n['visible']:>10}{n['occluded'] if self.occlusion_known else '-':>10}"
                f"{n['unlabeled']:>12}" for name, n in self.joints.items()]
        return "\n".join([*lines, head, *rows])

    def _sides(self):
        if self.right_on_left is None:
            return "unknown, too few upright people"
        share = f"{self.right_on_left:.0%} of upright people have the right shoulder on the image's left"
        return f"likely: only {share}" if self.right_on_left < MIN_RIGHT_ON_LEFT else f"no ({share})"

    def _order(self):
        guess = {"unknown": "limbs do not have a body's proportions, and no known order fits"}.get(
            self.likely_order, f"looks like {self.likely_order}")
        return f"likely: read as {self.schema}, {guess}" if self.likely_order else "no"


def inspect(records: Sequence[Record]) -> Report:
    """Return the findings about all labels and images; every image is opened once.

    Raises InputError if there are no records.
    """
    if not records:
        raise InputError("the data set has no people; choose another --data or split")
    sources = {r.image_name: r.image for r in records if r.image}
    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        opened = dict(zip(sources, pool.map(_open, sources.values()), strict=True))
    outside = [(r.origin, count) for r in records if (count := _outside(r, opened.get(r.image_name)))]
    crossed, torsos = crossed_torsos(records)
    schema = records[0].schema
    frames = inspect_frames(records)
    broken = {name: image for name, image in opened.items() if image.error}
    return Report(
        people=len(records), images=len(sources), schema=schema.name,
        occlusion_known=any(r.occlusion_known for r in records),
        missing=tuple(name for name, image in broken.items() if image.missing),
        corrupt=tuple(image.error for image in broken.values() if image.error and not image.missing),
        turned=frames.turned, stored=frames.stored, undecided=frames.undecided, wrong_size=frames.wrong_size,
        outside=tuple(origin for origin, _ in outside), joints_outside=sum(count for _, count in outside),
        joints=_counts(records, schema), duplicates=duplicates(records), crossed=crossed, torsos=torsos,
        right_on_left=right_on_left(records), likely_order=likely_order(records))


def duplicates(records: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    """Return pairs of one image with nearly the same keypoints, and groups of several images with identical ones."""
    by_image, by_keypoints = defaultdict(list), defaultdict(list)
    for record in records:
        by_image[record.image_name].append(record)
        if record.labeled.sum() >= MIN_COMMON:
            by_keypoints[np.nan_to_num(record.keypoints, nan=-1e9).tobytes()].append(record)
    near = [(a.origin, b.origin) for people in by_image.values() for a, b in combinations(people, 2) if _is_same(a, b)]
    equal = [tuple(r.origin for r in people) for people in by_keypoints.values()
             if len({r.image_name for r in people}) > 1]
    return tuple(near + equal)


def crossed_torsos(records: Sequence[Record]) -> tuple[tuple[str, ...], int]:
    """Return the people with a crossed torso (shoulders left to right, hips right to left) and the number of torsos.

    Directions are measured across the torso, so that it may be upside down. A torso seen from the side (MIN_TURN) has
    no direction and is not counted.
    """
    crossed, count = [], 0
    for record, (shoulders, hips, axis) in _torsos(records):
        across = np.array([-axis[1], axis[0]])
        turns = np.array([shoulders, hips]) @ across / max(axis @ axis, 1e-9)
        if np.abs(turns).min() > MIN_TURN:
            count += 1
            if turns[0] * turns[1] < 0:
                crossed.append(record.origin)
    return tuple(crossed), count


def right_on_left(records: Sequence[Record]) -> float | None:
    """Return the share of upright people whose right shoulder is on the image's left; None if they are too few."""
    sides = [shoulders[0] > 0 for _, (shoulders, _, axis) in _torsos(records)
             if axis[1] > abs(axis[0]) and shoulders[0]]
    return float(np.mean(sides)) if len(sides) >= MIN_PEOPLE else None


def likely_order(records: Sequence[Record]) -> str | None:
    """Return `Report.likely_order`: None, a key of ORDERS or "unknown"."""
    schema = records[0].schema
    points = np.stack([r.keypoints for r in records])
    own = _deviation(points, schema.keypoints)
    if not own > MAX_DEVIATION:  # also if it is NaN: unknown
        return None
    others = {name: _deviation(points, order) for name, order in ORDERS.items() if len(order) <= schema.size}
    best = min((name for name in others if np.isfinite(others[name])), key=others.__getitem__, default=None)
    return best if best and others[best] < min(MAX_DEVIATION, own / 2) else "unknown"


def _torsos(records):
    """Yield people with labeled shoulders and hips: the record, and the vectors between shoulders, hips, and middles.

    The first two point from right to left, the third from the middle of the shoulders to the middle of the hips.
    """
    corners = [f"{side}_{part}" for part in ("shoulder", "hip") for side in ("left", "right")]
    schema = records[0].schema
    if not set(corners) <= set(schema.keypoints):
        return
    at = [schema.index(name) for name in corners]
    for record in records:
        if record.labeled[at].all():
            points = record.keypoints[at]
            yield record, (points[0] - points[1], points[2] - points[3], points[2:].mean(0) - points[:2].mean(0))


def _deviation(points, order):
    """Return the mean |log| of limb lengths divided by _PROPORTIONS; NaN if keypoints or people are missing."""
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
    shares = np.maximum(np.array(medians) / np.sum(medians), 1e-6)
    return float(np.abs(np.log(shares / list(_PROPORTIONS.values()))).mean())


def _is_same(a, b):
    common = a.labeled & b.labeled
    if common.sum() < MIN_COMMON:
        return False
    limit = DUPLICATE_DISTANCE * max(min(max(r.box.w, r.box.h) for r in (a, b)), 1.0)
    return np.linalg.norm(a.keypoints[common] - b.keypoints[common], axis=-1).mean() < limit


def _counts(records, schema):
    codes = np.stack([r.visibility for r in records])
    return {name: {code.name.lower(): int((codes[:, k] == code).sum()) for code in Visibility}
            for k, name in enumerate(schema.keypoints)}


def _outside(record, image):
    """Return the number of labeled keypoints outside the opened image; 0 if it could not be opened."""
    if image is None or image.error:
        return 0
    return int((~inside(record.keypoints[record.labeled], image.width, image.height)).sum())


def _open(source: ImageSource) -> _Opened:
    """Decode an image completely, but eight times smaller, which is faster and finds the same faults."""
    try:
        if not isinstance(source, ImageFile):
            height, width = source.read().shape[:2]
            return _Opened(None, width=width, height=height)
        if not source.path.is_file():
            return _Opened("is missing", missing=True)
        data = read_bytes(source.path, "image")
        small = decode(data, source.name, shrink=8)
        width, height = _labeled_size(source, data)
        return _Opened(None, width=width, height=height) if small.size else _Opened("is empty")
    except InputError as error:
        return _Opened(str(error))


def _labeled_size(source: ImageFile, data: bytes) -> tuple[int, int]:
    """Return width and height of the image in the frame of its labels."""
    header = image_header(data)
    if source.size or not header:
        return source.size or decode(data, source.name, upright=source.upright).shape[1::-1]
    return header.upright if source.upright else header.stored
