"""Labels count pixels of the image as it is shown, or as it is stored if its listed size says so."""

import json
from dataclasses import replace

import numpy as np
import pytest
from marked_people import ARM, hits, marked, person, places, to_stored, write_image, write_list

from posecascade.datasets import read
from posecascade.datasets.frames import inspect_frames
from posecascade.errors import InputError
from posecascade.evaluation.predictions import read_predictions
from posecascade.image_headers import read_header
from posecascade.training.preflight import check_frames

SIZE = (120, 60)  # width and height of the upright image


def size_of(size):
    return {} if size is None else {"width": size[0], "height": size[1]}


def write(folder, rng, orientation=1, *, upright=True, listed=None, size=SIZE, name="a.jpg", scale=1.0):
    """Write one image and its list, labeled in one of the frames at `scale` times its size; return the data set."""
    points = places(rng, size)
    write_image(folder / "images" / name, marked(points, size), orientation)
    labels = points if upright else to_stored(points, size, orientation)
    labels = (labels + 0.5) * scale - 0.5
    return write_list(folder / "people.json", [{"id": 1, "file_name": name, **size_of(listed)}], [person(1, labels)])


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
    assert accepted.box.side == pytest.approx(record.box.side / scale)
    assert accepted.area == pytest.approx(record.area / scale ** 2)


@pytest.mark.parametrize("resized", ["", "#resized=yes"])
def test_image_of_another_shape_is_refused(tmp_path, rng, resized):
    record, = read(write(tmp_path, rng, listed=(200, 60)) + resized, "all", ARM)
    with pytest.raises(InputError, match=r"is 120 x 60 pixels; expected 200 x 60, .*Give the image that was labeled"):
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


def test_start_of_training_reports_rotated_images_and_refuses_wrong_sizes(tmp_path, rng):
    turned = read(write(tmp_path / "turned", rng, 6), "all", ARM)
    assert check_frames(turned) == [
        "1 images are rotated by EXIF: labels count stored pixels in 0, upright pixels in 1 (1 undecided, such as "
        f"{turned[0].image.name}; state it with #frame=stored or #frame=upright)"]
    scaled = read(write(tmp_path / "scaled", rng, listed=(240, 120)), "all", ARM)
    with pytest.raises(InputError, match=r"expected 240 x 120, .*\(1 of 1 images checked; run posecascade-data check"):
        check_frames(scaled)
    many = [*turned * 30, *scaled]
    many = [replace(r, image=replace(r.image, path=write_image(tmp_path / f"{i}.jpg", marked(places(rng, SIZE), SIZE))))
            for i, r in enumerate(many)]
    assert "1 images do not have the size that was labeled; image" in check_frames(many)[0]


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
