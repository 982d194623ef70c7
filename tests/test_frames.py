"""Labels count pixels of the image as it is shown, or as it is stored if its listed size says so."""

import json
from dataclasses import replace

import numpy as np
import pytest
from marked_people import ARM, SIZE, hits, marked, person, places, to_stored, write, write_image, write_list

from posecascade import images
from posecascade.datasets import read
from posecascade.datasets.frames import inspect_frames
from posecascade.datasets.inspection import inspect
from posecascade.errors import InputError
from posecascade.evaluation.predictions import read_predictions
from posecascade.image_headers import Header, read_header


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_are_taken_as_upright(tmp_path, rng, orientation, name, listed):
    record, = read(write(tmp_path, rng, orientation, listed=SIZE if listed else None, name=name), "all", ARM)
    assert [hits(record, shrink) for shrink in (1, 2)] == [3, 3]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_listed_size_of_the_stored_pixels_makes_labels_count_these(tmp_path, rng, orientation, name):
    spec = write(tmp_path, rng, orientation, upright=False, listed=SIZE[::-1], name=name)
    record, = read(spec, "all", ARM)
    assert [hits(record, shrink) for shrink in (1, 2)] == [3, 3]
    frames = inspect_frames([record])
    assert (len(frames.turned), len(frames.stored), len(frames.undecided)) == (1, 1, 0)


@pytest.mark.parametrize(("orientation", "size"), [(3, SIZE), (6, (90, 90)), (2, SIZE)])
def test_option_states_the_frame_where_sizes_cannot_tell(tmp_path, rng, orientation, size):
    spec = write(tmp_path, rng, orientation, upright=False, listed=size, size=size)
    undecided, = read(spec, "all", ARM)
    assert inspect_frames([undecided]).undecided == (undecided.image.name,)
    assert "undecided" in inspect_frames([undecided]).notes()[0] and hits(undecided) < 3
    stated, = read(f"{spec}#frame=stored", "all", ARM)
    assert hits(stated) == 3 and inspect_frames([stated]).undecided == ()


def test_option_overrules_listed_sizes(tmp_path, rng):
    spec = write(tmp_path, rng, 6, upright=True, listed=SIZE[::-1])  # a tool that lists stored sizes, but shows upright
    record, = read(f"{spec}#frame=upright", "all", ARM)
    assert hits(record) == 3


def test_images_of_coco_count_stored_pixels_even_where_sizes_cannot_tell(tmp_path, rng):
    spec = write(tmp_path, rng, 3, upright=False, listed=SIZE)
    path = tmp_path / "people.json"
    content = json.loads(path.read_text())
    content["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/a.jpg"
    path.write_text(json.dumps(content))
    record, = read(spec, "all", ARM)
    assert hits(record) == 3


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_image_scaled_after_labeling_is_refused_and_can_be_accepted(tmp_path, rng, orientation, scale):
    labeled = tuple(int(side * scale) for side in SIZE)
    spec = write(tmp_path, rng, orientation, listed=labeled, scale=scale)
    record, = read(spec, "all", ARM)
    stored = f", {SIZE[1]} x {SIZE[0]} as stored" if orientation != 1 else ""
    problem = (f"image {record.image.name}: is {SIZE[0]} x {SIZE[1]} pixels{stored}; expected {labeled[0]} x "
               f"{labeled[1]}, the size given with its labels (images[].width and height). It was scaled by "
               f"{1 / scale:.4g}: give the original image, or add resized=yes to scale the labels "
               "(coco:FILE#resized=yes)")
    for shrink in (1, 8):
        with pytest.raises(InputError) as error:
            record.image.read(shrink)
        assert str(error.value) == problem
    assert inspect_frames([record]).wrong_size == (problem,)
    accepted, = read(f"{spec}#resized=yes", "all", ARM)
    assert hits(accepted) == 3 and inspect_frames([accepted]).wrong_size == ()
    np.testing.assert_allclose(accepted.keypoints, (record.keypoints + 0.5) / scale - 0.5)
    assert accepted.box.side == pytest.approx(record.box.side / scale)
    assert accepted.area == pytest.approx(record.area / scale ** 2)


@pytest.mark.parametrize("resized", ["", "#resized=yes"])
@pytest.mark.parametrize(("listed", "fix"), [
    ((200, 60), "Give the image that was labeled"), ((60, 120), "It was rotated after labeling")])
def test_image_of_another_shape_is_refused(tmp_path, rng, listed, fix, resized):
    record, = read(write(tmp_path, rng, listed=listed) + resized, "all", ARM)
    with pytest.raises(InputError, match=f"is 120 x 60 pixels; expected {listed[0]} x {listed[1]}, .*{fix}"):
        record.image.read()


@pytest.mark.parametrize("listed", [(360, 180), (180, 360)])
@pytest.mark.parametrize("upright", [True, False])
def test_stated_frame_holds_for_scaled_images_whichever_size_is_listed(tmp_path, rng, upright, listed):
    spec = write(tmp_path, rng, 6, upright=upright, listed=listed, scale=3)
    record, = read(f"{spec}#frame={'upright' if upright else 'stored'},resized=yes", "all", ARM)
    assert [hits(record, shrink) for shrink in (1, 2)] == [3, 3]


def test_image_that_the_decoder_does_not_turn_as_its_header_says_is_refused(tmp_path, rng, monkeypatch):
    record, = read(write(tmp_path, rng, 1, listed=SIZE[::-1]), "all", ARM)
    monkeypatch.setattr(images, "image_header", lambda data: Header(SIZE, 6))
    with pytest.raises(InputError, match="is 120 x 60 pixels; expected 60 x 120"):
        record.image.read()


def test_people_without_an_image_have_no_scale(tmp_path, rng):
    spec = write(tmp_path, rng, listed=(240, 120))
    (tmp_path / "images" / "a.jpg").unlink()
    notes = []
    with pytest.raises(InputError, match="has nobody"):
        read(f"{spec}#resized=yes", "all", ARM, notes)
    assert notes == [f"{tmp_path / 'people.json'}: excludes 1 people, whose scale is unknown without a readable image"]


@pytest.mark.parametrize(("width", "height"), [("120", 60), (120.5, 60), (-120, 60)])
def test_size_that_is_no_number_of_pixels_is_refused(tmp_path, rng, width, height):
    spec = write(tmp_path, rng, listed=(width, height))
    with pytest.raises(InputError, match=r"people\.json: image 'a\.jpg' has width .* Fix or remove them"):
        read(spec, "all", ARM)


def test_size_of_zero_or_null_is_unknown(tmp_path, rng):
    for listed in ((0, 0), (None, None), (120, None)):
        record, = read(write(tmp_path, rng, 6, listed=listed), "all", ARM)
        assert record.image.size is None and hits(record) == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_predictions_in_upright_pixels_are_compared_in_the_labels_frame(tmp_path, rng, orientation):
    """Two people of one image, matched by their boxes: predicted upright, labeled in stored pixels."""
    points, other = places(rng, SIZE), places(rng, SIZE)
    write_image(tmp_path / "images" / "a.jpg", marked(points, SIZE), orientation)
    stored = [to_stored(p, SIZE, orientation) for p in (points, other)]
    spec = write_list(tmp_path / "people.json", [{"id": 1, "file_name": "a.jpg"}],
                      [person(1, stored[0]), person(1, stored[1], 2)])
    records = read(f"{spec}#frame=stored", "all", ARM)
    lines = [{"image": "a.jpg", "box": [*p.min(0).tolist(), *np.ptp(p, axis=0).tolist()],
              "keypoints": {name: [*map(float, xy), 1.0, 1.0] for name, xy in zip(ARM.keypoints, p, strict=True)}}
             for p in (other, points)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    predictions = read_predictions(tmp_path / "a.jsonl", records)
    np.testing.assert_allclose(predictions.stages["keypoints"], stored, atol=1e-9)


def test_predictions_for_a_scaled_image_are_refused(tmp_path, rng):
    records = read(write(tmp_path, rng, listed=(240, 120), scale=2), "all", ARM)
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": "a.jpg", "keypoints": {"wrist": [1, 2]}}))
    with pytest.raises(InputError, match="is 120 x 60 pixels; expected 240 x 120"):
        read_predictions(tmp_path / "a.jsonl", records)


@pytest.mark.parametrize(("upright", "listed"), [(True, None), (True, SIZE), (False, SIZE[::-1])])
def test_check_counts_keypoints_outside_in_the_labels_frame(tmp_path, rng, upright, listed):
    records = read(write(tmp_path, rng, 6, upright=upright, listed=listed), "all", ARM)
    points = np.array([[0, 0], np.array(SIZE if upright else SIZE[::-1]) - 1, [0, 130]])
    report = inspect([replace(records[0], keypoints=points)])
    assert (report.joints_outside, len(report.turned), len(report.stored)) == (1, 1, int(not upright))
    assert (report.corrupt, report.wrong_size) == ((), ())
    lines = report.table().splitlines()
    assert f"  labels as stored        {int(not upright)}" in lines


def test_check_lists_wrong_sizes(tmp_path, rng):
    report = inspect(read(write(tmp_path, rng, listed=(240, 120)), "all", ARM))
    assert (len(report.wrong_size), report.corrupt, report.missing) == (1, (), ())
    assert f"images of another size    1\n    {report.wrong_size[0]}" in report.table()


def test_limited_check_says_how_many_headers_were_read(tmp_path, rng):
    records = [read(write(tmp_path / str(i), rng, 6), "all", ARM)[0] for i in range(4)]
    frames = inspect_frames(records, limit=2)
    assert (frames.images, frames.checked) == (4, 2)
    assert "2 images of 2 checked, among 4 are rotated" in frames.notes()[0]


def test_coco_mini_counts_stored_pixels_of_upright_images(shared_data):
    records = read(f"coco:{shared_data / 'coco_mini'}", "all")
    frames = inspect_frames(records)
    assert (frames.wrong_size, frames.undecided, frames.checked) == ((), (), frames.images)
    assert records[0].image.read().shape[1::-1] == read_header(records[0].image.path).stored
