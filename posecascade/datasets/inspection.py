"""Find the faults of a data set: images, labels, duplicates, left and right, the order of the keypoints."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from posecascade.datasets.frames import inspect_frames
from posecascade.datasets.keypoint_order import UNKNOWN, likely_order
from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.geometry import inside
from posecascade.image_headers import image_header
from posecascade.images import ImageFile, decode
from posecascade.records import ImageSource, Record, Visibility

DUPLICATE_DISTANCE = 0.03  # of the box's longer side: closer people of one image count as one person
MIN_COMMON = 3        # number of keypoints labeled in both, without which two people are not compared
MIN_TURN = 0.1        # of the torso's length: narrower shoulders or hips are seen from the side and have no direction
MIN_RIGHT_ON_LEFT = 0.4  # share of upright people: 0.67-0.80 in five data sets; below it, left and right are exchanged
MIN_PEOPLE = 20       # people needed for a share
EXAMPLES = 3          # of each problem in the table


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
        likely_order: see `keypoint_order.likely_order`; None if no other order of the keypoints fits better.
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
        if not self.likely_order:
            return "no"
        guess = "no known order fits" if self.likely_order == UNKNOWN else f"looks like {self.likely_order}"
        return f"likely: read as {self.schema}, {guess}"


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
