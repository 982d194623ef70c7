"""`inspect` reports each fault that is put into clean data, and no other."""

import json
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from posecascade import datasets
from posecascade.datasets.inspection import crossed_torsos, duplicates, inspect, right_on_left
from posecascade.datasets.keypoint_order import ORDERS, likely_order
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.image_headers import jpeg_facts
from posecascade.images import ImageFile
from posecascade.records import Record
from posecascade.schema import COCO17, LSP14, MPII16, Schema

# A person who stands and faces the camera, 120 x 240 pixels: right is on the image's left.
STANDING = {"nose": (60, 18), "left_eye": (64, 14), "right_eye": (56, 14), "left_ear": (70, 16), "right_ear": (50, 16),
            "head_top": (60, 0), "neck": (60, 40), "thorax": (60, 44), "pelvis": (60, 122)}
for side, sign in (("left", 1), ("right", -1)):
    STANDING |= {f"{side}_shoulder": (60 + 22 * sign, 45), f"{side}_elbow": (60 + 35 * sign, 85),
                 f"{side}_wrist": (60 + 38 * sign, 122), f"{side}_hip": (60 + 14 * sign, 120),
                 f"{side}_knee": (60 + 16 * sign, 178), f"{side}_ankle": (60 + 17 * sign, 236)}


def person(rng, schema=LSP14, image=None, number=0, noise=3.0):
    points = np.array([STANDING[name] for name in schema.keypoints], float) + rng.normal(0, noise, (schema.size, 2))
    points += [20, 30]
    return Record(image, f"mine, person {number}", schema, Box.around(points), points, np.full(schema.size, 2))


def people(rng, count=30, schema=LSP14):
    return [person(rng, schema, number=i) for i in range(count)]


def reordered(record, order):
    at = [record.schema.keypoints.index(name) for name in order]
    return replace(record, keypoints=record.keypoints[at], visibility=record.visibility[at])


def image_file(folder, name, size=(300, 160), **fields):
    """Write a JPEG or PNG of `size` (H, W) with a gradient, and return it."""
    path = folder / name
    rows = np.linspace(0, 255, size[0] * size[1]).reshape(size).astype(np.uint8)
    cv2.imwrite(str(path), cv2.cvtColor(rows, cv2.COLOR_GRAY2BGR))
    return ImageFile(path, **fields)


@pytest.mark.parametrize("schema", [LSP14, MPII16, COCO17], ids=lambda s: s.name)
def test_clean_data_have_no_findings(tmp_path, rng, schema):
    records = [person(rng, schema, image_file(tmp_path, f"{i}.jpg"), i) for i in range(30)]
    report = inspect(records)
    assert (report.people, report.images, report.torsos) == (30, 30, 30)
    assert not any((report.missing, report.corrupt, report.turned, report.outside, report.duplicates, report.crossed))
    assert (report.likely_order, report.right_on_left, report.joints_outside) == (None, 1.0, 0)
    assert report.joints["left_hip"] == {"visible": 30, "occluded": 0, "unlabeled": 0}


def test_missing_corrupt_and_rotated_images_are_listed(tmp_path, rng):
    whole = image_file(tmp_path, "whole.jpg").path.read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    contents = {"short.jpg": whole[:-200], "text.jpg": b"hello", "empty.png": b"",
                "turned.jpg": whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    image_file(tmp_path, "gray.png")
    names = ["whole.jpg", *contents, "absent.jpg", "gray.png", "whole.jpg"]
    report = inspect([person(rng, image=ImageFile(tmp_path / name), number=i) for i, name in enumerate(names)])
    assert report.images == len(set(names))
    assert report.missing == (str(tmp_path / "absent.jpg"),)
    assert [message.split(":")[0] for message in report.corrupt] == \
        [f"image {tmp_path / name}" for name in ("short.jpg", "text.jpg", "empty.png")]
    assert report.turned == (str(tmp_path / "turned.jpg"),)


def test_jpeg_facts_agree_with_the_decoded_image(tmp_path):
    for size in ((8, 8), (301, 77)):
        data = image_file(tmp_path, "a.jpg", size).path.read_bytes()
        assert jpeg_facts(data) == (size, 1)
    assert jpeg_facts(b"\x89PNG") == (None, 1)
    for kept in range(0, len(data), 7):  # truncated data never raise an error
        jpeg_facts(data[:kept])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_keypoints_outside_are_counted_exactly(tmp_path, rng, suffix):
    image = image_file(tmp_path, f"a.{suffix}", (50, 41))
    points = np.full((14, 2), 20.0)
    points[:5] = [[-0.5, 0], [-0.6, 0], [40.4, 49.4], [40.5, 20], [20, 49.5]]
    record = Record(image, "mine, person 1", LSP14, Box(0, 0, 40, 40), points, np.full(14, 2))
    report = inspect([record])
    assert (report.joints_outside, report.outside) == (3, ("mine, person 1",))


def test_unlabeled_and_occluded_keypoints_are_counted(rng):
    codes = np.full(14, 2)
    codes[[0, 1]] = 0, 1
    report = inspect([replace(r, visibility=codes) for r in people(rng, 5)])
    assert report.joints["right_ankle"] == {"visible": 0, "occluded": 0, "unlabeled": 5}
    assert report.joints["right_knee"] == {"visible": 0, "occluded": 5, "unlabeled": 0}
    assert report.images == 0


def test_duplicates_are_close_in_one_image_or_identical_in_several(rng, tmp_path):
    image, other = ImageFile(tmp_path / "a.jpg"), ImageFile(tmp_path / "b.jpg")
    first = person(rng, image=image, number=1)
    near = replace(first, origin="near", keypoints=first.keypoints + 3)
    aside = replace(first, origin="aside", keypoints=first.keypoints + [40, 0])
    copied = replace(first, origin="copied", image=other)
    assert duplicates([first, aside]) == ()
    assert duplicates([first, near]) == ((first.origin, "near"),)
    assert duplicates([first, copied]) == ((first.origin, "copied"),)
    assert duplicates([first, replace(near, image=other)]) == ()


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_crossed_torsos_are_found_at_every_angle(rng, turn):
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = [replace(r, keypoints=r.keypoints @ rotation.T) for r in people(rng, 10)]
    assert crossed_torsos(upright) == ((), 10)
    arms = [LSP14.index(f"{side}_{part}") for part in ("shoulder", "elbow", "wrist") for side in ("left", "right")]
    swapped = upright[3].keypoints.copy()
    swapped[arms] = swapped[[LSP14.flip_order[i] for i in arms]]
    upright[3] = replace(upright[3], keypoints=swapped)
    assert crossed_torsos(upright) == (("mine, person 3",), 10)


def test_torso_from_the_side_is_not_counted(rng):
    narrow = []
    for record in people(rng, 4):
        points = record.keypoints.copy()
        points[:, 0] = 60 + 0.1 * (points[:, 0] - points[:, 0].mean())
        narrow.append(replace(record, keypoints=points))
    assert crossed_torsos(narrow) == ((), 0)


def test_exchanged_left_and_right_are_found_in_upright_people(rng):
    records = people(rng)
    exchanged = [replace(r, keypoints=r.keypoints[LSP14.flip_order]) for r in records]
    assert right_on_left(records) == 1
    assert right_on_left(exchanged) == 0
    assert right_on_left(records[:5]) is None
    assert "likely: only 0%" in inspect(exchanged).table()


@pytest.mark.parametrize("order", sorted(set(ORDERS) - {"lsp14", "mpii16", "coco17"}))
def test_other_keypoint_order_is_found(rng, order):
    records = [reordered(r, ORDERS[order]) for r in people(rng)]
    assert likely_order(records) == order
    assert f"read as lsp14, looks like {order}" in inspect(records).table()


def test_lsp_order_read_as_mpii_is_found(rng):
    """Some tools store LSP's 14 keypoints and two dummies, which are read as MPII here."""
    records = []
    for lsp in people(rng):
        points = np.vstack([lsp.keypoints, np.full((2, 2), np.nan)])
        records.append(Record(None, lsp.origin, MPII16, lsp.box, points, [2] * 14 + [0, 0]))
    assert likely_order(records) == "lsp14"


def test_unknown_keypoint_order_is_found(rng):
    order = list(LSP14.keypoints)
    order = order[7:] + order[:7]
    records = [reordered(r, order) for r in people(rng)]
    assert likely_order(records) == "unknown"


def test_order_of_a_schema_without_limbs_is_not_checked(rng):
    schema = Schema("hand", ("thumb", "index", "palm"))
    records = [Record(None, str(i), schema, Box(0, 0, 9, 9), rng.uniform(0, 9, (3, 2)), [2, 2, 2]) for i in range(30)]
    report = inspect(records)
    assert (report.likely_order, report.torsos, report.right_on_left) == (None, 0, None)
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["schema"] == "hand"


def test_empty_data_are_refused():
    with pytest.raises(InputError, match="the data set has no people"):
        inspect([])


@pytest.mark.parametrize("spec", ["lsp:lsp_test", "mpii_val:mpii_val", "coco:coco_mini", "coco:everyday"])
def test_real_data_have_their_declared_order(shared_data, spec):
    kind, folder = spec.split(":")
    records = [replace(r, image=None) for r in datasets.read(f"{kind}:{shared_data / folder}", "all")]
    assert likely_order(records) is None
    assert right_on_left(records) > 0.6
    exchanged = [replace(r, keypoints=r.keypoints[r.schema.flip_order], visibility=r.visibility[r.schema.flip_order])
                 for r in records]
    assert right_on_left(exchanged) < 0.4
    crossed, torsos = crossed_torsos(records)
    assert 0 < len(crossed) < 0.1 * torsos
