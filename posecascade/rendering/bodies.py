"""Random articulated bodies in three dimensions: joint limits, typical poses, proportions, skeleton and camera.

Frames: x to the person's left, y up, z forward, in meters, the pelvis at the origin. A camera looks along -z of its
own frame, so an unrotated person faces it, with the right side on the left of the image.
"""

import math
from dataclasses import dataclass

import numpy as np

from posecascade.schema import MPII16

# Degrees. "arm_lift" is the upper arm's angle from hanging down, "arm_plane" the direction it is lifted in (0 sideways,
# 90 forwards), "arm_twist" turns it inwards, "leg_bend" lifts the thigh forwards, "ankle" lifts the toes.
TRUNK_LIMITS = {
    "spine_bend": (-25, 75), "spine_side": (-30, 30), "spine_twist": (-40, 40),
    "neck_bend": (-45, 45), "neck_side": (-30, 30), "neck_twist": (-70, 70)}
ARM_LIMITS = {"arm_lift": (0, 175), "arm_plane": (-45, 125), "arm_twist": (-85, 80), "elbow": (0, 145),
              "wrist": (-50, 60)}
LEG_LIMITS = {"leg_bend": (-25, 120), "leg_spread": (-15, 60), "leg_twist": (-30, 40), "knee": (0, 140),
              "ankle": (-45, 25)}
LIMITS = TRUNK_LIMITS | {f"{side}_{name}": limits for side in ("left", "right")
                         for name, limits in (ARM_LIMITS | LEG_LIMITS).items()}

# Mean and standard deviation of every angle of a person standing at ease; the tables below list deviations from it.
_REST = {
    "spine_bend": (3, 5), "spine_side": (0, 5), "spine_twist": (0, 8), "neck_bend": (4, 10), "neck_side": (0, 6),
    "neck_twist": (0, 20), "arm_lift": (13, 7), "arm_plane": (15, 30), "arm_twist": (15, 20), "elbow": (20, 14),
    "wrist": (5, 12), "leg_bend": (3, 6), "leg_spread": (4, 4), "leg_twist": (8, 8), "knee": (6, 6), "ankle": (0, 5)}

# Name, share, then angles of both legs, of one leg, of the other leg (which is which is random), and of the trunk.
_STANCES = (
    ("standing", .30, {}, {}, {}, {}),
    ("leaning", .08, {}, {"leg_spread": (14, 6)}, {"knee": (25, 12), "leg_bend": (15, 8)}, {"spine_side": (0, 12)}),
    ("walking", .15, {}, {"leg_bend": (25, 7), "knee": (10, 7)}, {"leg_bend": (-14, 5), "knee": (25, 12)}, {}),
    ("running", .10, {}, {"leg_bend": (60, 18), "knee": (80, 20)}, {"leg_bend": (-15, 8), "knee": (40, 25)},
     {"spine_bend": (14, 8)}),
    ("sitting", .11, {"leg_bend": (84, 9), "knee": (82, 16), "leg_spread": (10, 9)}, {}, {}, {"spine_bend": (8, 10)}),
    ("crouching", .06, {"leg_bend": (95, 15), "knee": (112, 16), "leg_spread": (18, 10)}, {}, {},
     {"spine_bend": (25, 12)}),
    ("bending", .06, {"leg_bend": (45, 20), "knee": (25, 18)}, {}, {},
     {"spine_bend": (45, 18), "neck_bend": (-12, 15)}),
    ("kicking", .06, {}, {"leg_bend": (75, 30), "knee": (20, 18), "leg_spread": (20, 18)}, {"knee": (15, 10)},
     {"spine_bend": (-5, 12)}),
    ("sprawling", .08, {"leg_bend": (30, 40), "knee": (45, 40), "leg_spread": (25, 18), "ankle": (-15, 15)}, {}, {},
     {"spine_bend": (5, 22), "spine_side": (0, 14), "spine_twist": (0, 16)}))

_GESTURES = (
    ("hanging", .34, {}),
    ("akimbo", .08, {"arm_lift": (42, 6), "arm_plane": (-12, 8), "arm_twist": (62, 8), "elbow": (92, 10)}),
    ("holding", .14, {"arm_lift": (30, 10), "arm_plane": (75, 18), "arm_twist": (25, 15), "elbow": (92, 18)}),
    ("pointing", .12, {"arm_lift": (82, 16), "arm_plane": (62, 34), "arm_twist": (0, 30), "elbow": (18, 15)}),
    ("raised", .12, {"arm_lift": (148, 17), "arm_plane": (25, 25), "arm_twist": (0, 30), "elbow": (35, 28)}),
    ("waving", .06, {"arm_lift": (84, 14), "arm_plane": (8, 14), "arm_twist": (-72, 10), "elbow": (88, 20)}),
    ("folded", .04, {"arm_lift": (36, 6), "arm_plane": (72, 8), "arm_twist": (66, 8), "elbow": (98, 10)}),
    ("free", .10, {"arm_lift": (80, 45), "arm_plane": (40, 45), "arm_twist": (0, 45), "elbow": (55, 40)}))

# Lengths relative to the stature, after Drillis and Contini (1966) as in Winter, "Biomechanics of human movement".
_UPPER_ARM, _FOREARM, _HAND, _THIGH, _SHIN = .186, .146, .10, .245, .246
_SHOULDER_HALF, _HIP_HALF, _TRUNK, _NECK, _HEAD = .118, .053, .292, .052, .132

KEYPOINTS = MPII16.keypoints
# The keypoints and other points on which bodies are built, and the rigid parts that have a frame.
POINTS = (*KEYPOINTS, "waist", "head", "left_knuckles", "right_knuckles", "left_fingers", "right_fingers",
          "left_thumb", "right_thumb", "left_heel", "right_heel", "left_toe", "right_toe")
FRAMES = ("pelvis", "waist", "chest", "head")


@dataclass(frozen=True)
class Pose:
    """A body's pose.

    Attributes:
        stance: of the legs ("standing", "sitting", ...).
        angles: degrees by the names of LIMITS, and within LIMITS.
        turn: (3, 3) rotation of the pelvis against the ground; far from upright only in acrobatic or lying poses.
    """

    stance: str
    angles: dict[str, float]
    turn: np.ndarray


@dataclass(frozen=True)
class Build:
    """Body proportions: stature in meters; girth, shoulder and hip width relative to the average.

    `looseness` is the width of the clothes relative to the body's.
    """

    stature: float
    girth: float
    shoulders: float
    hips: float
    looseness: float


@dataclass(frozen=True)
class Skeleton:
    """A posed body: (P, 3) points in meters in the order of POINTS, and (4, 3, 3) frames in the order of FRAMES."""

    points: np.ndarray
    frames: np.ndarray
    build: Build


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: (3, 3) rotation from the person's frame, distance in meters, focal length, center in pixels."""

    rotation: np.ndarray
    distance: float
    focal: float
    center: tuple[float, float]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return pixels (..., 2), depths (...) in meters and pixels per meter (...) of points (..., 3)."""
        rotated = points @ self.rotation.T
        depth = np.maximum(self.distance - rotated[..., 2], 0.3)  # keeps every point in front of the lens
        scale = self.focal / depth
        pixels = np.stack([self.center[0] + rotated[..., 0] * scale, self.center[1] - rotated[..., 1] * scale], axis=-1)
        return pixels, depth, scale


def turn_x(degrees: float) -> np.ndarray:
    """Return the (3, 3) rotation of y towards z; what points up turns forwards."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(degrees: float) -> np.ndarray:
    """Return the (3, 3) rotation of z towards x; what points forwards turns to the person's left."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(degrees: float) -> np.ndarray:
    """Return the (3, 3) rotation of x towards y; what hangs down turns to the person's left."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def random_build(rng: np.random.Generator) -> Build:
    """Return a random build of an adult or a tall child: 1.45 to 2 m, from slender to stout."""
    drawn = np.clip(rng.normal((1.71, 1.0, 1.0, 1.0, 1.17), (.10, .13, .07, .07, .07)),
                    (1.45, .78, .85, .85, 1.06), (2.0, 1.4, 1.15, 1.2, 1.32))
    return Build(*drawn.tolist())


def random_pose(rng: np.random.Generator) -> Pose:
    """Return a random pose: a stance and a gesture of each arm, with all angles varied within LIMITS."""
    stance, _, both, first, second, trunk = _choose(_STANCES, rng)
    angles = {name: trunk.get(name) or _REST[name] for name in TRUNK_LIMITS}
    sides = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    gestures = [_choose(_GESTURES, rng)[2] for _ in sides]
    if rng.random() < 0.35:  # both arms alike
        gestures[1] = gestures[0]
    for side, own, gesture in zip(sides, (first, second), gestures, strict=True):
        angles |= {f"{side}_{name}": gesture.get(name) or _REST[name] for name in ARM_LIMITS}
        angles |= {f"{side}_{name}": own.get(name) or both.get(name) or _REST[name] for name in LEG_LIMITS}
    names = list(LIMITS)
    mean, spread = np.array([angles[name] for name in names]).T
    low, high = np.array([LIMITS[name] for name in names]).T
    drawn = np.clip(rng.normal(mean, spread), low, high)
    return Pose(stance, dict(zip(names, drawn.tolist(), strict=True)), _random_turn(stance, rng))


def _choose(table, rng):
    at = rng.random() * sum(row[1] for row in table)
    for row in table:
        at -= row[1]
        if at < 0:
            return row
    return table[-1]


def _random_turn(stance, rng):
    lean, side = rng.normal(0, 4, 2)
    chance = rng.random()
    if stance == "sprawling" and chance < 0.7:  # gymnasts, divers, lying people
        return turn_z(rng.uniform(-180, 180)) @ turn_x(rng.uniform(-90, 90))
    if stance not in ("sitting", "crouching") and chance < 0.04:  # handstands and cartwheels
        return turn_z(180 + rng.normal(0, 45))
    return turn_z(side) @ turn_x(lean)


def pose_skeleton(pose: Pose, build: Build) -> Skeleton:
    """Return the points and frames of a body of that build in that pose."""
    a, size = pose.angles, build.stature
    pelvis = pose.turn
    waist = pelvis @ _bent(a, "spine", 0.5)
    chest = pelvis @ _bent(a, "spine", 1.0)
    neck = chest @ _bent(a, "neck", 0.4)
    head = chest @ _bent(a, "neck", 1.0)
    points = {"pelvis": np.zeros(3)}
    points["waist"] = pelvis @ (0, .42 * _TRUNK * size, 0)
    points["thorax"] = points["waist"] + waist @ (0, .2 * _TRUNK * size, 0) + chest @ (0, .38 * _TRUNK * size, 0)
    points["neck"] = points["thorax"] + neck @ (0, _NECK * size, .01 * size)
    points["head"] = points["neck"] + head @ (0, .47 * _HEAD * size, .014 * size)
    points["head_top"] = points["neck"] + head @ (0, .94 * _HEAD * size, .006 * size)
    for side, sign in (("left", 1), ("right", -1)):
        points |= _arm(side, sign, a, chest, points["thorax"], build)
        points |= _leg(side, sign, a, pelvis, build)
    return Skeleton(np.array([points[name] for name in POINTS]), np.array([pelvis, waist, chest, head]), build)


def _bent(angles, name, share):
    return (turn_y(share * angles[f"{name}_twist"]) @ turn_z(share * angles[f"{name}_side"])
            @ turn_x(share * angles[f"{name}_bend"]))


def _arm(side, sign, angles, chest, thorax, build):
    lift, plane, twist, elbow, wrist = (math.radians(angles[f"{side}_{name}"]) for name in ARM_LIMITS)
    size = build.stature
    shrug = .03 * max(0.0, lift - 1.0)  # a lifted arm raises the shoulder
    shoulder = thorax + chest @ np.array([sign * _SHOULDER_HALF * build.shoulders, -.012 + shrug, 0]) * size
    along = np.array([sign * math.sin(lift) * math.cos(plane), -math.cos(lift), math.sin(lift) * math.sin(plane)])
    forward = _swing(along) @ (0, 0, 1)  # direction in which the elbow bends, before the twist
    flexed = forward * math.cos(twist) + sign * _cross(along, forward) * math.sin(twist)
    upper, lower, palm, thumb = (chest @ _between(along, flexed, angle) for angle in (
        0.0, elbow, elbow + wrist, elbow + wrist + math.pi / 2))
    at_elbow = shoulder + upper * _UPPER_ARM * size
    at_wrist = at_elbow + lower * _FOREARM * size
    return {f"{side}_shoulder": shoulder, f"{side}_elbow": at_elbow, f"{side}_wrist": at_wrist,
            f"{side}_knuckles": at_wrist + palm * .55 * _HAND * size,
            f"{side}_fingers": at_wrist + palm * _HAND * size,
            f"{side}_thumb": at_wrist + (palm * .55 + thumb * .3) * _HAND * size}


def _between(along, flexed, angle):
    return along * math.cos(angle) + flexed * math.sin(angle)


def _cross(a, b):
    """Return the cross product of two vectors, five times as fast as numpy.cross."""
    (p, q, r), (x, y, z) = a.tolist(), b.tolist()
    return np.array([q * z - r * y, r * x - p * z, p * y - q * x])


def _swing(along):
    """Return the smallest rotation from a hanging arm to `along` (never straight up, by the limit of arm_lift)."""
    x, y, z = along.tolist()
    cross = np.array([[0, -x, 0], [x, 0, z], [0, -z, 0]])  # of the hanging arm with `along`
    return np.eye(3) + cross + cross @ cross / (1 - y)


def _leg(side, sign, angles, pelvis, build):
    bend, spread, twist, knee, ankle = (angles[f"{side}_{name}"] for name in LEG_LIMITS)
    size = build.stature
    thigh = pelvis @ turn_x(-bend) @ turn_z(sign * spread) @ turn_y(sign * twist)
    shin = thigh @ turn_x(knee)
    foot = shin @ turn_x(-ankle)
    hip = pelvis @ (sign * _HIP_HALF * build.hips * size, 0, 0)
    at_knee = hip + thigh @ (0, -_THIGH * size, 0)
    at_ankle = at_knee + shin @ (0, -_SHIN * size, 0)
    return {f"{side}_hip": hip, f"{side}_knee": at_knee, f"{side}_ankle": at_ankle,
            f"{side}_heel": at_ankle + foot @ np.array([0, -.022, -.028]) * size,
            f"{side}_toe": at_ankle + foot @ np.array([0, -.028, .095]) * size}


def random_view(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return the (3, 3) rotation and distance in meters of a camera in front, to a side, behind or anywhere."""
    side = rng.random()
    yaw = (rng.normal(0, 25) if side < .4 else (90 if rng.random() < .5 else -90) + rng.normal(0, 18) if side < .6
           else 180 + rng.normal(0, 28) if side < .8 else rng.uniform(-180, 180))
    tilt = rng.normal(6, 7) if rng.random() < 0.85 else rng.uniform(-25, 55)
    roll = rng.normal(0, 3)
    distance = 1.8 + rng.gamma(2.0, 1.6)
    return turn_z(roll) @ turn_x(tilt) @ turn_y(yaw), float(distance)
