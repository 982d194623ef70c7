"""Describe the parts of a clothed body as hulls of balls on its skeleton.

A ball is at a point of the skeleton, or between two, moved by an offset in the frame of a rigid part. Lengths are
relative to the stature. Tables depend only on the few values of an `Outfit` and are cached; the build, which varies
continuously, is applied as powers.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from posecascade.rendering.bodies import FRAMES, POINTS
from posecascade.rendering.painting import pick

MATERIALS = ("skin", "top", "bottom", "shoes", "hair", "hat", "bag", "accent", "face")
SKULL = np.array([.050, .066, .058])  # half axes of the ellipsoid with the face
POWERS = ("girth", "shoulders", "hips", "looseness")  # of `Build`, in this order
_AS_IS = (0.0, 0.0, 0.0, 0.0)
_TURNS = np.arange(14) * (2 * np.pi / 14)


@dataclass(frozen=True)
class Outfit:
    """The clothes and hair that change the outline."""

    sleeves: str  # "none", "short", "long"
    legs: str  # "shorts", "trousers", "bare"
    skirt: float  # share of the thighs that it covers (above 1: of the shins too), 0 for none
    hair: str  # "bald", "short", "bob", "long", "tail"
    hat: str  # "none", "cap", "beanie"
    front: str  # "none", "collar", "shirt", "print", "tie"
    bag: bool
    feminine: bool


class Ball(NamedTuple):
    """A ball at `share` of the way from `point` to `other`, moved by `offset` in `frame`; lengths over the stature.

    wide, deep and fat are the powers (POWERS) of the build by which the offset's x, its z and the radius grow.
    """

    point: str
    other: str
    share: float
    frame: str
    offset: tuple[float, float, float]
    radius: float
    wide: tuple[float, ...]
    deep: tuple[float, ...]
    fat: tuple[float, ...]


class Solid(NamedTuple):
    """A part: `hulls` are lists of balls; `axis` is two balls, the ends of its texture.

    part and material are names; bias: meters added to its depth; facing: 1 for a decoration that is visible from the
    chest's front only, -1 from behind, 0 for other parts; roundness: 1 for a cylinder.
    """

    part: str
    material: str
    axis: tuple[Ball, Ball]
    hulls: list[list[Ball]]
    bias: float = 0.0
    facing: int = 0
    roundness: float = 1.0


class Table(NamedTuple):
    """Balls as arrays: places (N, 3) int (point, other, frame), numbers (N, 17); the solids and their ball counts."""

    places: np.ndarray
    numbers: np.ndarray
    solids: tuple[Solid, ...]
    sizes: tuple[int, ...]


def random_outfit(rng: np.random.Generator) -> Outfit:
    """Return random everyday or sports clothes."""
    feminine = bool(rng.random() < .5)
    skirt = pick(rng, (0.0, .4, .6, .85, 1.1, 1.6), (.65, .07, .08, .08, .07, .05)) if feminine else 0.0
    hair = pick(rng, ("bald", "short", "bob", "long", "tail"),
                (0, .15, .25, .35, .25) if feminine else (.13, .77, .06, .02, .02))
    return Outfit(pick(rng, ("none", "short", "long"), (.17, .43, .40)),
                  "bare" if skirt else pick(rng, ("shorts", "trousers", "bare"), (.27, .68, .05)), skirt, hair,
                  pick(rng, ("none", "cap", "beanie"), (.82, .1, .08)),
                  pick(rng, ("none", "collar", "shirt", "print", "tie"), (.12, .28, .28, .25, .07)),
                  bool(rng.random() < .08), feminine)


def tables_of(outfit: Outfit) -> list[Table]:
    """Return all parts of the clothed body; of parts at equal depth the later one is painted over the earlier."""
    return [_trunk(outfit.front, outfit.feminine, outfit.bag), _skirt(outfit.skirt), _head(outfit.hair, outfit.hat),
            _arms(outfit.sleeves), _legs(outfit.legs)]


def _ball(point, radius=0.0, *, other=None, share=0.0, frame="pelvis", offset=(0.0, 0.0, 0.0), wide=_AS_IS, deep=_AS_IS,
          fat=_AS_IS):
    return Ball(point, other or point, share, frame, offset, radius, wide, deep, fat)


def _table(solids: list[Solid]) -> Table:
    rows = [[*solid.axis, *(ball for hull in solid.hulls for ball in hull)] for solid in solids]
    balls = [ball for row in rows for ball in row]
    places = np.array([(POINTS.index(b.point), POINTS.index(b.other), FRAMES.index(b.frame)) for b in balls],
                      int).reshape(-1, 3)
    numbers = np.array([(b.share, *b.offset, b.radius, *b.wide, *b.deep, *b.fat) for b in balls],
                       float).reshape(-1, 17)
    return Table(places, numbers, tuple(solids), tuple(len(row) for row in rows))


def _ring(point, frame, y, half, deep, wide, z=0.0):
    """Return a horizontal ellipse, whose depth grows with the girth."""
    return [_ball(point, frame=frame, offset=(half * float(np.cos(t)), y, z + deep * float(np.sin(t))), wide=wide,
                  deep=(1.0, 0, 0, 0)) for t in _TURNS]


def _on_chest(x, y, z, radius=0.0, fat=_AS_IS):
    return _ball("thorax", radius, frame="chest", offset=(x, y, z), deep=(1.0, 0, 0, 0), fat=fat)


_HIP_RING = _ring("pelvis", "pelvis", .012, .093, .066, (.5, 0, 1.0, 0))
_SPINE = (_ball("thorax"), _ball("pelvis"))
_GIRTH = (1.0, 0, 0, 0)


@functools.cache
def _trunk(front: str, feminine: bool, bag: bool) -> Table:
    waist = .071 if feminine else .078
    rings = [_ring("thorax", "chest", -.02, .090, .048, (.3, 1.0, 0, 0), -.004),
             _ring("thorax", "chest", -.085, .092, .064, (.6, 1.0, 0, 0), .004),
             _ring("waist", "waist", 0.0, waist, .056, _GIRTH), _HIP_RING,
             _ring("pelvis", "pelvis", -.045, .084, .058, (.5, 0, 1.0, 0))]
    pairs = [above + below for above, below in itertools.pairwise(rings)]
    yoke = [_ball("left_shoulder", .035, fat=(.5, 0, 0, 0)), _on_chest(0, .014, -.008, .040),
            _ball("right_shoulder", .035, fat=(.5, 0, 0, 0))]
    belly = [_ball("waist", .052, frame="waist", offset=(0, -.02, .012), fat=(2.5, 0, 0, 0))]
    chest = [[_on_chest(side * .042, -.088, .040, .034, _GIRTH) for side in (-1, 1)]] if feminine else []
    thighs = [_ball("left_hip", .047, fat=_GIRTH), _ball("right_hip", .047, fat=_GIRTH)]
    solids = [
        Solid("hips", "bottom", (_ball("waist"), _ball("pelvis")), [*pairs[2:], thighs], .035, roundness=.85),
        Solid("torso", "top", _SPINE, [yoke, *pairs[:3], belly, *chest], roundness=.85),
        Solid("neck", "skin", (_ball("neck"), _ball("thorax")), [
            [_ball("neck", .030, fat=(.5, 0, 0, 0)), _on_chest(0, .014, .002, .033, (.5, 0, 0, 0))]], -.015)]
    solids += [Solid("torso", material, _SPINE, [[_on_chest(x, y, z, .002) for x, y, z in corners]], -.004, facing, .85)
               for material, facing, corners in _DECORATIONS[front]]
    if bag:
        corners = [_on_chest(x, y, -.1, .035) for x, y in ((-.045, -.03), (.045, -.03), (-.05, -.19), (.05, -.19))]
        solids.append(Solid("bag", "bag", (_on_chest(0, 0, -.1), _on_chest(0, -.2, -.1)), [corners], -.01))
    return _table(solids)


# Material, visible from the front (1) or behind (-1), corners on the chest.
_NECKLINE = ("skin", 1, ((-.032, .012, .040), (.032, .012, .040), (0, -.042, .064)))
_PLACKET = ("accent", 1, ((0, -.04, .066), (0, -.12, .070), (0, -.26, .064)))
_TIE = ("accent", 1, ((-.007, -.03, .066), (.007, -.03, .066), (.013, -.2, .068), (-.013, -.2, .068)))
_BADGE = ("accent", 1, ((-.045, -.07, .066), (.045, -.07, .066), (.045, -.125, .068), (-.045, -.125, .068)))
_NUMBER = ("accent", -1, ((-.04, -.05, -.062), (.04, -.05, -.062), (.04, -.15, -.06), (-.04, -.15, -.06)))
_DECORATIONS = {"none": (), "collar": (_NECKLINE,), "shirt": (_NECKLINE, _PLACKET),
                "print": (_NECKLINE, _BADGE, _NUMBER), "tie": (_TIE,)}


@functools.cache
def _skirt(length: float) -> Table:
    if not length:
        return _table([])
    ends = [_ball(f"{side}_hip", .04 + .022 * length, other=f"{side}_knee", share=min(length, 1.0)) if length <= 1 else
            _ball(f"{side}_knee", .04 + .022 * length, other=f"{side}_ankle", share=length - 1)
            for side in ("left", "right")]
    return _table([Solid("skirt", "bottom", (_ball("pelvis"), ends[0]), [_HIP_RING + ends], -.07, roundness=.85)])


def _on_head(x, y, z, radius=0.0):
    return _ball("head", radius, frame="head", offset=(x, y, z))


@functools.cache
def _head(hair: str, hat: str) -> Table:
    axis = (_ball("head_top"), _ball("neck"))
    skull = [_on_head(0, .015, -.007, .0505), _on_head(0, -.005, .006, .0475), _on_head(0, -.04, .014, .026)]
    nose = [_on_head(0, .012, .053, .004), _on_head(0, -.012, .060, .009)]
    solids = []
    # Hair and nose have their own axes and so their own depths: seen from behind, hair covers the face.
    if hair in ("bob", "long"):
        crown, nape = _on_head(0, .005, -.016, .055), _on_head(0, -.05, -.03, .046 if hair == "bob" else .05)
        solids.append(Solid("hair", "hair", (crown, nape), [[crown, nape]], -.055))
    if hair == "long":
        low = _ball("thorax", .042, frame="chest", offset=(0, -.05, -.05))
        solids.append(Solid("hair", "hair", (nape, low), [[nape, low]], -.03))
    if hair == "tail":
        tail = [_on_head(0, .03, -.06, .014), _on_head(0, -.01, -.088, .02), _on_head(0, -.09, -.085, .009)]
        solids.append(Solid("hair", "hair", (tail[0], tail[2]), [tail], -.05))
    if hair != "bald":
        volume = .0525 if hair == "short" else .056
        solids.append(Solid("hair", "hair", axis, [
            [_on_head(0, .018, -.011, volume), _on_head(0, -.006, -.014, volume - .006)]], -.055))
    solids.append(Solid("head", "face", axis, [skull], -.06))
    if hair in ("short", "bald", "tail"):
        ears = [[_on_head(side * .050, .004, -.006, .011), _on_head(side * .046, -.016, -.002, .007)]
                for side in (-1, 1)]
        solids += [Solid("head", "skin", (ear[0], ear[1]), [ear], -.055) for ear in ears]
    solids.append(Solid("head", "skin", (nose[0], nose[1]), [nose], -.09))
    if hat != "none":
        solids.append(Solid("hat", "hat", axis, [
            [_on_head(0, .032, -.006, .046), _on_head(0, .028, -.014, .0475), _on_head(0, .02, -.004, .050)]], -.11))
    if hat == "cap":
        brim = [_on_head(-.04, .026, .04, .005), _on_head(.04, .026, .04, .005), _on_head(0, .018, .105, .014)]
        solids.append(Solid("hat", "hat", (brim[0], brim[2]), [brim], -.08))
    return _table(solids)


def _limb(part, material, first, second, balls, bias, fat=_AS_IS):
    """Return a part from `first` to `second`; `balls` are (share of the way, radius) each."""
    hull = [_ball(first, radius, other=second, share=share, fat=fat) for share, radius in balls]
    return Solid(part, material, (_ball(first), _ball(second)), [hull], bias)


@functools.cache
def _arms(sleeves: str) -> Table:
    material = "top" if sleeves == "long" else "skin"
    skin = (.7, 0, 0, 0)
    fat = (.7, 0, 0, 1.0) if sleeves == "long" else skin
    solids = []
    for side in ("left", "right"):
        shoulder, elbow, wrist, knuckles, fingers, thumb = (f"{side}_{name}" for name in (
            "shoulder", "elbow", "wrist", "knuckles", "fingers", "thumb"))
        upper, lower = ((0, .033), (.4, .030), (1, .0255)), ((0, .0255), (.25, .027), (.97, .0165))
        solids += [_limb(f"{side}_upper_arm", material, shoulder, elbow, upper, -.03, fat),
                   _limb(f"{side}_forearm", material, elbow, wrist, lower, -.032, fat)]
        hand = [[_ball(wrist, .0165, fat=skin), _ball(knuckles, .0205, fat=skin)],
                [_ball(knuckles, .0195, fat=skin), _ball(fingers, .010, fat=skin)],
                [_ball(wrist, .013, other=knuckles, share=.3, fat=skin), _ball(thumb, .0075, fat=skin)]]
        solids.append(Solid(f"{side}_hand", "skin", (_ball(wrist), _ball(fingers)), hand, -.034))
        if sleeves == "short":
            solids.append(_limb(f"{side}_sleeve", "top", shoulder, elbow, ((0, .034), (.5, .031)), -.031,
                                (.7, 0, 0, 1.0)))
    return _table(solids)


@functools.cache
def _legs(legs: str) -> Table:
    material = "bottom" if legs == "trousers" else "skin"
    fat = (.8, 0, 0, 1.0) if legs == "trousers" else (.8, 0, 0, 0)
    hem, over_shoes = (.026, .012) if legs == "trousers" else (.020, 0.0)
    thigh, shin = ((0, .050), (.4, .046), (1, .033)), ((0, .032), (.28, .035), (.97, hem))
    solids = []
    for side in ("left", "right"):
        hip, knee, ankle, heel, toe = (f"{side}_{name}" for name in ("hip", "knee", "ankle", "heel", "toe"))
        foot = [_ball(ankle, .021), _ball(heel, .025), _ball(heel, .024, other=toe, share=.65), _ball(toe, .018)]
        solids += [Solid(f"{side}_foot", "shoes", (_ball(ankle), _ball(toe)), [foot], over_shoes),
                   _limb(f"{side}_shin", material, knee, ankle, shin, .005, fat),
                   _limb(f"{side}_thigh", material, hip, knee, thigh, 0.0, fat)]
        if legs == "shorts":
            solids.append(_limb(f"{side}_leg", "bottom", hip, knee, ((0, .050), (.72, .043)), -.001, (.8, 0, 0, 1.0)))
    return _table(solids)
