"""Synthetic people: reproducible, with the proportions of people, and labels that agree with the painted image."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from posecascade.datasets import FIRST_PIXEL, read, synthetic
from posecascade.errors import InputError
from posecascade.geometry import inside
from posecascade.images import shrunk
from posecascade.records import Visibility
from posecascade.rendering import bodies, figures, looks, painting, scenery
from posecascade.rendering.bodies import LIMITS, POINTS, Build, Camera, Pose
from posecascade.rendering.scenery import Thing
from posecascade.rendering.wardrobe import Outfit
from posecascade.schema import MPII16

SEED, PEOPLE = 3, range(60)
AVERAGE = Build(1.75, 1.0, 1.0, 1.0, 1.15)
PLAIN = Outfit("short", "trousers", 0.0, "short", "none", "none", False, False)
UPRIGHT = dict.fromkeys(LIMITS, 0.0) | {f"{side}_arm_lift": 25.0 for side in ("left", "right")}


@pytest.fixture(scope="module")
def scenes():
    return [synthetic.scene_of(SEED, index) for index in PEOPLE]


def skeleton(build=AVERAGE, **angles):
    return bodies.pose_skeleton(Pose("standing", UPRIGHT | angles, np.eye(3)), build)


def seen(yaw=0.0, distance=4.0, **angles):
    """Return a figure 200 pixels high in the middle of 256 x 256, turned by `yaw` degrees towards the image's right."""
    camera = Camera(bodies.turn_y(yaw), distance, 200 / 1.75 * distance, (128.0, 120.0))
    return figures.see(skeleton(**angles), camera, PLAIN)


def flags(figure, front=()):
    codes = synthetic.visibility_of(synthetic.Scene(256, 256, figure, tuple(front)))
    return dict(zip(MPII16.keypoints, codes.tolist(), strict=True))


def keypoint(figure, name):
    return figure.keypoints[MPII16.index(name)]


def touched(item, shape):
    """Return (H, W) bool: the pixels that painting a person or a thing changes from black or white."""
    changed = np.zeros(shape, bool)
    for shade in (0, 255):
        canvas, rng = np.full((*shape, 3), shade, np.uint8), np.random.default_rng(1)
        light = painting.random_light(rng)
        if isinstance(item, Thing):
            scenery.paint_things(canvas, [item], light, rng)
        else:
            looks.paint_figure(canvas, item, looks.random_look(rng, item), light, rng)
        changed |= (canvas != shade).any(-1)
    return changed


def at_keypoints(mask, scene):
    """Return (16,) of `mask` (H, W) at the keypoints' pixels; False for keypoints outside the image."""
    cells = np.rint(scene.person.keypoints).astype(int).clip(0, (scene.width - 1, scene.height - 1))
    return mask[cells[:, 1], cells[:, 0]] & inside(scene.person.keypoints, scene.width, scene.height)


def digest(seed, index):
    record = synthetic.record_of(seed, index)
    parts = (record.keypoints, record.visibility, record.image.read(), record.head_size, record.box.as_list())
    return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()


def test_person_depends_on_seed_and_index_only():
    keys = [(seed, index) for seed in (0, 1) for index in (0, 1, 10 ** 9)]
    first = [digest(*key) for key in keys]
    assert [digest(*key) for key in reversed(keys)] == first[::-1]
    assert len(set(first)) == len(keys)


def test_other_process_renders_the_same_without_a_backend():
    code = ("import sys; from tests.test_synthetic import digest; print(digest(4, 17)); "
            "assert not {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=os.path.dirname(os.path.dirname(__file__)), env=os.environ | {"PYTHONHASHSEED": "99"})
    assert found.stdout.strip() == digest(4, 17)


def test_splits_have_their_sizes_and_share_nobody():
    people = {split: read("synthetic:70@5", split) for split in ("train", "val", "test", "all")}
    assert {split: len(records) for split, records in people.items()} == {"train": 70, "val": 64, "test": 70, "all": 70}
    everybody = people["train"] + people["val"] + people["test"]
    assert len({record.image_name for record in everybody}) == len(everybody) == 204
    assert len({record.keypoints.tobytes() for record in everybody}) == 204
    assert [record.image_name for record in people["all"]] == [record.image_name for record in people["test"]]
    assert len(read("synthetic:2000", "val")) == 200


def test_largest_splits_share_nobody():
    starts = sorted({synthetic._FIRST[split] for split in ("train", "val", "test")})
    assert min(np.diff(starts)) >= synthetic.MAX_PEOPLE


def test_seed_changes_everybody_and_is_0_by_default():
    plain, zero, one = (read(f"synthetic:3{seed}", "train") for seed in ("", "@0", "@1"))
    for same, record, other in zip(plain, zero, one, strict=True):
        np.testing.assert_array_equal(same.keypoints, record.keypoints)
        assert not np.array_equal(record.keypoints, other.keypoints, equal_nan=True)
    assert FIRST_PIXEL["synthetic"] == 0


@pytest.mark.parametrize("root", ["abc", "0", "", "-3", "5@", "5@x", "1.5", "1e3", "5@1@2", "1000001", "5 ", "٣"])
def test_wrong_count_is_refused(root):
    with pytest.raises(InputError) as caught:
        read(f"synthetic:{root}", "train")
    assert str(caught.value) == (
        f"synthetic: {root!r} is not a number of people; give COUNT or COUNT@SEED, as in 2000 or 2000@7 "
        "(COUNT from 1 to 1000000, SEED from 0 to 999999999)")


def test_error_for_an_unknown_split_has_the_nearest():
    with pytest.raises(InputError, match="unknown split 'trian'; did you mean 'train'"):
        read("synthetic:5", "trian")


@pytest.mark.parametrize("index", range(4))
def test_images_have_the_documented_size_and_are_shrunk_by_blocks(index):
    record = synthetic.record_of(SEED, index)
    image = record.image.read()
    assert (image.dtype, image.ndim, image.shape[2], max(image.shape)) == (np.uint8, 3, 3, synthetic.SIZE)
    for factor in (2, 4, 8):
        np.testing.assert_array_equal(record.image.read(factor), shrunk(image, factor))
    assert max(synthetic.record_of(SEED, index, size=100).image.read().shape) == 100


@pytest.mark.parametrize("index", range(12))
def test_box_area_and_head_size_fit_the_person(index, scenes):
    scene, record = scenes[index], synthetic.record_of(SEED, index)
    x, y, w, h = record.box.as_list()
    points = record.keypoints[record.labeled]
    assert ((points >= (x - 1e-9, y - 1e-9)) & (points <= (x + w + 1e-9, y + h + 1e-9))).all()
    assert min(x, y) >= -4.5  # the minimum box is 8 pixels, of which half may be outside
    assert x + w <= scene.width + 3.5 and y + h <= scene.height + 3.5
    assert record.area == w * h and record.labeled.sum() >= 8
    # Relative to the stature, the skull is at least 0.101 by 0.095 and at most 0.1315 long in every view.
    assert np.hypot(.101, .095) <= record.head_size / .6 / scene.person.head_scale <= np.hypot(.1315, .1315)


def angle(a, b):
    return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


@pytest.mark.parametrize("seed", range(30))
def test_bones_have_their_lengths_and_angles_their_limits(seed):
    rng = np.random.default_rng(seed)
    pose, build = bodies.random_pose(rng), bodies.random_build(rng)
    assert pose.angles.keys() == LIMITS.keys()
    assert all(LIMITS[name][0] <= degrees <= LIMITS[name][1] for name, degrees in pose.angles.items())
    points = dict(zip(POINTS, bodies.pose_skeleton(pose, build).points, strict=True))
    for side in ("left", "right"):
        upper_arm, forearm, thigh, shin = (points[f"{side}_{b}"] - points[f"{side}_{a}"] for a, b in (
            ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")))
        shares = [np.linalg.norm(bone) / build.stature for bone in (upper_arm, forearm, thigh, shin)]
        np.testing.assert_allclose(shares, (.186, .146, .245, .246), atol=1e-9)  # Winter's table
        assert angle(upper_arm, forearm) == pytest.approx(pose.angles[f"{side}_elbow"], abs=1e-4)
        assert angle(thigh, shin) == pytest.approx(pose.angles[f"{side}_knee"], abs=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_mirrored_pose_gives_the_mirrored_body(seed):
    pose = bodies.random_pose(np.random.default_rng(seed))
    other = {"left": "right", "right": "left"}
    mirrored = {name: pose.angles[f"{other[side]}_{rest}"] if side in other else
                -pose.angles[name] if rest in ("side", "twist") else pose.angles[name]
                for name, side, rest in ((name, *name.split("_", 1)) for name in LIMITS)}
    points, image = (bodies.pose_skeleton(replace(pose, angles=angles, turn=np.eye(3)), AVERAGE).points
                     for angles in (pose.angles, mirrored))
    order = [POINTS.index(f"{other[name.split('_')[0]]}_{name.split('_')[1]}" if name.split("_")[0] in other else name)
             for name in POINTS]
    np.testing.assert_allclose(image, points[order] * (-1, 1, 1), atol=1e-9)


def test_angles_move_the_body_as_they_are_named():
    rest = dict(zip(POINTS, skeleton().points, strict=True))

    def moved(point, **angles):
        return dict(zip(POINTS, skeleton(**angles).points, strict=True))[point] - rest[point]

    assert moved("left_wrist", left_elbow=90)[2] > .2  # z is forward, x to the person's left, y up
    assert moved("left_ankle", left_knee=90)[2] < -.2
    assert moved("right_knee", right_leg_bend=90)[2] > .2
    assert moved("right_ankle", right_leg_spread=40)[0] < -.2
    assert moved("left_wrist", left_arm_lift=170)[1] > .8
    assert moved("right_wrist", right_arm_lift=90)[0] < -.2
    assert moved("head_top", spine_bend=60)[2] > .2
    assert moved("head_top", spine_side=20)[0] < -.1  # towards the right side, as turn_z turns what points up
    assert moved("left_toe", left_ankle=20)[1] > .02


def test_person_facing_the_camera_has_the_right_side_on_the_left_of_the_image():
    front, back = seen(0), seen(180)
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert keypoint(front, f"right_{name}")[0] < 128 < keypoint(front, f"left_{name}")[0]
        assert keypoint(back, f"left_{name}")[0] < 128 < keypoint(back, f"right_{name}")[0]
    head, ankle = keypoint(front, "head_top")[1], keypoint(front, "left_ankle")[1]
    assert 150 < ankle - head < 200
    assert head < keypoint(front, "neck")[1] < keypoint(front, "thorax")[1] < keypoint(front, "pelvis")[1] < ankle


@pytest.mark.parametrize("yaw", [0, 180, 35, -35, 215])
def test_all_keypoints_of_a_standing_person_are_visible(yaw):
    assert set(flags(seen(yaw)).values()) == {Visibility.VISIBLE}


@pytest.mark.parametrize(("yaw", "near", "far"), [(90, "right", "left"), (-90, "left", "right")])
def test_far_shoulder_and_hip_are_occluded_from_the_side(yaw, near, far):
    arms = {f"{side}_{name}": degrees for side in ("left", "right")
            for name, degrees in (("arm_lift", 60.0), ("arm_plane", 90.0))}
    figure = seen(yaw, **arms, **{f"{far}_leg_bend": 40.0})
    assert (keypoint(figure, "left_wrist")[0] > 140) == (yaw > 0)  # the person faces the image's right, arms forward
    codes = flags(figure)
    assert {codes[f"{far}_shoulder"], codes[f"{far}_hip"]} == {Visibility.OCCLUDED}
    shown = (f"{near}_shoulder", f"{near}_hip", f"{near}_elbow", f"{near}_wrist", f"{far}_knee")
    assert {codes[name] for name in shown} == {Visibility.VISIBLE}


@pytest.mark.parametrize(("yaw", "far"), [(62, "left"), (118, "left"), (-62, "right"), (-118, "right")])
def test_far_shoulder_is_occluded_by_the_trunk(yaw, far):
    codes = flags(seen(yaw))  # both arms are to the side of it
    assert codes[f"{far}_shoulder"] == Visibility.OCCLUDED
    assert codes["thorax"] == Visibility.VISIBLE


def test_wrist_in_front_of_the_chest_is_occluded_from_the_back():
    folded = {f"left_{name}": degrees for name, degrees in (
        ("arm_lift", 50.0), ("arm_plane", 70.0), ("arm_twist", 80.0), ("elbow", 110.0))}
    front, back = seen(0, **folded), seen(180, **folded)
    assert abs(keypoint(front, "left_wrist")[0] - 128) < 25
    assert flags(front)["left_wrist"] == Visibility.VISIBLE
    assert flags(back)["left_wrist"] == Visibility.OCCLUDED


def test_keypoints_outside_are_unlabeled_and_those_behind_a_person_occluded():
    figure = seen(0)
    moved = replace(figure, keypoints=figure.keypoints + np.array([0, 60.0]))
    expected = moved.keypoints[:, 1] < 255.5
    assert [code > 0 for code in flags(moved).values()] == expected.tolist()
    assert 0 < expected.sum() < 16
    assert set(flags(figure, [figure]).values()) == {Visibility.OCCLUDED}


def test_occluded_keypoints_are_those_covered_by_paint_or_by_the_body(scenes):
    hidden_by_front = 0
    for scene in scenes:
        shape = (scene.height, scene.width)
        within = inside(scene.person.keypoints, *shape[::-1])
        over = np.zeros(16, bool)
        for item in scene.front:
            over |= at_keypoints(touched(item, shape), scene)
        alone = synthetic.visibility_of(replace(scene, front=()))
        expected = np.where(over & within, Visibility.OCCLUDED, alone)
        np.testing.assert_array_equal(synthetic.visibility_of(scene), expected)
        np.testing.assert_array_equal(alone > 0, within)
        hidden_by_front += int((over & (alone == Visibility.VISIBLE)).sum())
    assert hidden_by_front > 20  # of 960 keypoints, so that the test is not vacuous


def test_things_in_front_change_the_pixels_of_occluded_keypoints_only(scenes):
    changes, covered = 0, 0
    for index, scene in zip(PEOPLE, scenes, strict=True):
        full, bare = (synthetic.painted(scene, np.random.default_rng(8), SEED, index, front=front)
                      for front in (True, False))
        changed = at_keypoints((full != bare).any(-1), scene)
        codes = synthetic.visibility_of(scene)
        assert not changed[codes == Visibility.VISIBLE].any()
        hidden = (codes == Visibility.OCCLUDED) & (synthetic.visibility_of(replace(scene, front=())) == 2)
        changes, covered = changes + int(changed[hidden].sum()), covered + int(hidden.sum())
        assert scene.front or (full == bare).all()
    assert changes >= .9 * covered > 0  # a thing may have the color of what it covers by chance


def test_visible_keypoints_are_on_the_painted_body(scenes):
    for scene in scenes:
        visible = synthetic.visibility_of(scene) == Visibility.VISIBLE
        body = painting.numbered(scene.person.polygons, (scene.height, scene.width)) > 0
        assert at_keypoints(body, scene)[visible].all()
        assert at_keypoints(touched(scene.person, body.shape), scene)[visible].all()


def test_most_keypoints_are_visible_and_some_are_not(scenes):
    codes = np.stack([synthetic.visibility_of(scene) for scene in scenes])
    assert .6 < (codes == Visibility.VISIBLE).mean() < .9
    assert (codes == Visibility.OCCLUDED).mean() > .1 and (codes == Visibility.UNLABELED).any()
    assert ((codes > 0).sum(axis=1) >= 8).all()
