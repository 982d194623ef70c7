"""Inputs as people have them: any format by its content, Pillow images, names that are not UTF-8, home folders."""

import io
import json
import os
import warnings

import cv2
import numpy as np
import pytest
from image_files import chunk, tiff
from PIL import Image, ImageOps

from posecascade import files, image_formats, images
from posecascade.cli import app
from posecascade.drawing import write_image
from posecascade.errors import InputError
from posecascade.inference import video
from posecascade.inference.inputs import requests_from
from posecascade.poses_io import Request, requests

CLOSE = 25  # gray levels: lossy formats at the corners of a smooth image


def scene(height=40, width=56):
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x // width, 255 * y // height, 128 + 0 * x], -1).astype(np.uint8)


def saved(kind, image=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(scene()) if image is None else image
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF", "JPEG2000", "HEIF"])
def test_every_format_is_recognized_by_its_content_and_decoded(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = saved(kind)
    assert image_formats.kind_of(data[:image_formats.HEAD]) == "image"
    np.testing.assert_allclose(images.decode(data, "a", upright=True), scene(), atol=CLOSE)
    assert images.decode(data, "a", shrink=2).shape == (20, 28, 3)


@pytest.mark.parametrize("orientation", [3, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_format_is_turned_upright_with_and_without_transparency(kind, orientation, mode):
    stored = Image.fromarray(scene()).convert(mode)
    data = saved(kind, stored, exif=exif(orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_allclose(images.decode(data, "a", upright=True), upright, atol=CLOSE)


def test_transparent_png_is_turned_exactly():
    alpha = np.dstack([scene(), np.full((40, 56), 51, np.uint8)])
    data = cv2.imencode(".png", alpha)[1].tobytes()
    turned = data[:33] + chunk(b"eXIf", tiff(6)) + data[33:]
    np.testing.assert_array_equal(images.decode(turned, "a", upright=True),
                                  np.rot90(images.decode(data, "a"), -1))
    np.testing.assert_array_equal(images.decode(turned, "a"), images.decode(data, "a"))


def test_heic_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(image_formats, "_register_heif", lambda: False)
    monkeypatch.setattr(image_formats, "opened", lambda data: Image.open(io.BytesIO(b"")))
    with pytest.raises(InputError, match=r"^image a.heic: is HEIC, which needs the package pillow-heif"):
        images.decode(b"\0\0\0\x18ftypheic" + bytes(40), "a.heic")


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LA", "La", "RGBa"])
def test_pillow_images_are_converted_by_pillow_s_rules(mode):
    image = Image.fromarray(scene())
    image = image.quantize(64) if mode == "P" else image.convert("RGBA").quantize(64).convert("PA") if mode == "PA" \
        else image.convert("LA").convert("La") if mode == "La" else image.convert("RGBA").convert("RGBa") \
        if mode == "RGBa" else image.convert(mode)
    expected = (image.convert("LA") if mode == "La" else image).convert("RGB")
    np.testing.assert_allclose(images.from_array(image), np.asarray(expected), atol=1)


def test_pillow_images_are_turned_by_exif_and_ambiguous_modes_are_refused():
    image = Image.open(io.BytesIO(saved("JPEG", exif=exif(6))))
    np.testing.assert_array_equal(images.from_array(image), np.rot90(np.asarray(image), -1))
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert (images.from_array(deep) == 255).all()
    for mode in "IF":
        with pytest.raises(InputError, match=f"^image array: has Pillow's mode '{mode}', whose range"):
            images.from_array(Image.new(mode, (4, 4)))


def test_floats_of_a_normalized_image_and_channels_first_are_named():
    with pytest.raises(InputError, match=r"holds floats from -1 to 1, expected 0..1; undo the normalization"):
        images.from_array(np.linspace(-1, 1, 48).reshape(4, 4, 3))
    with pytest.raises(InputError, match="Move the channels to the end"):
        images.from_array(np.zeros((3, 40, 50), np.uint8))


def test_folder_is_read_by_content_and_what_is_skipped_is_counted(tmp_path):
    for name in ("A.JPG", "b.jfif", "c.heic", "noname"):  # c.heic is a JPEG
        (tmp_path / name).write_bytes(saved("JPEG"))
    (tmp_path / "d.avif").write_bytes(saved("AVIF"))
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    for number in range(9):
        (tmp_path / f"note{number}.txt").write_text("Gone")
    with video.Writer(tmp_path / "clip.mp4", 10) as writer:
        writer.write(scene())
    (tmp_path / "clip.mp4").rename(tmp_path / "clip.MOVIE")
    notes = []
    found = [request.path.name for request in requests_from(str(tmp_path), io.StringIO(), notes.append)]
    assert found == ["A.JPG", "b.jfif", "c.heic", "d.avif", "noname"]
    assert notes == [f"folder {tmp_path}: 1 skipped that are videos, to be given by name (clip.MOVIE); 9 skipped that "
                     "are not images (note0.txt, note1.txt, note2.txt, note3.txt, note4.txt, ...)"]


@pytest.mark.parametrize(("head", "kind"), [
    (b"\x47" + bytes(187) + b"\x47" + bytes(20), "video"), (bytes(4) + b"\x47" + bytes(191) + b"\x47", "video"),
    (b"FLV\1\5", "video"), (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6", "video"), (b"\0\0\0\x14ftyp3gp4", "video"),
    (b"RIFF\0\0\0\0AVI LIST", "video"), (b"\x1a\x45\xdf\xa3", "video"), (b"Gone with the wind" * 30, ""),
    (b"\0\0\0\x18ftypheic", "image"), (b"BMW is a car", ""), (b"", "")])
def test_videos_are_recognized_by_their_first_bytes(head, kind):
    assert image_formats.kind_of(head) == kind


def test_a_large_text_is_refused_without_decoding(tmp_path):
    (tmp_path / "notes.ext").write_text("Gone")
    [error] = requests_from(str(tmp_path / "notes.ext"), io.StringIO())
    assert str(error).startswith(f"{tmp_path}/notes.ext: is neither an image nor a video that can be recognized")


def test_gif_that_moves_is_a_video_and_a_still_one_an_image(tmp_path):
    (tmp_path / "still.gif").write_bytes(saved("GIF"))
    moving = [Image.new("L", (64, 48), 60 * i) for i in range(4)]
    moving[0].save(tmp_path / "moving.gif", save_all=True, append_images=moving[1:], duration=[100, 2000, 300, 500])
    assert [image_formats.kind_of_file(tmp_path / f"{name}.gif") for name in ("still", "moving")] == ["image", "video"]


def test_frames_have_the_intervals_of_the_time_stamps(tmp_path):
    moving = [Image.new("L", (64, 48), 60 * i) for i in range(4)]
    moving[0].save(tmp_path / "a.gif", save_all=True, append_images=moving[1:], duration=[100, 2000, 300, 500])
    with video.opened(tmp_path / "a.gif", "a") as opened:
        seconds = [opened.seconds() for _ in opened.frames]
    np.testing.assert_allclose(seconds[1:], [0.1, 2.0, 0.3])
    assert video.mean_rate(tmp_path / "a.gif", 25) == pytest.approx(3 / 2.4)


def test_time_lapse_keeps_its_rate(tmp_path):
    with video.Writer(tmp_path / "a.mp4", 0.2) as writer:
        for _ in range(4):
            writer.write(scene())
    with video.opened(tmp_path / "a.mp4", "a") as opened:
        assert opened.rate == pytest.approx(0.2)
        assert [opened.seconds() for _ in opened.frames] == pytest.approx([5.0] * 4)
    assert video.mean_rate(tmp_path / "a.mp4", 25) == pytest.approx(0.2)


NAME = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_utf_8_are_written_and_read(tmp_path):
    folder = tmp_path / NAME
    folder.mkdir()
    write_image(folder / f"{NAME}.jpg", scene())
    np.testing.assert_allclose(images.ImageFile(folder / f"{NAME}.jpg").read(), scene(), atol=CLOSE)
    with files.atomic_write(folder / f"{NAME}.mp4") as draft, video.Writer(draft, 10) as writer:
        writer.write(scene())
    with video.opened(folder / f"{NAME}.mp4", "a") as opened:
        assert len(list(opened.frames)) == 1
    assert sorted(path.name for path in folder.iterdir()) == [f"{NAME}.jpg", f"{NAME}.mp4"]


def test_name_of_the_greatest_length_is_written(tmp_path):
    write_image(tmp_path / f"{'a' * 251}.jpg", scene())
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


@pytest.mark.parametrize("name", [NAME, f"a\\{NAME}", "café", "a\\b", "日本", f"\\xe9{NAME}"])
def test_names_become_text_and_names_again(name):
    text = files.name_to_text(name)
    assert json.loads(json.dumps(text).encode("utf-8")) == text and text.encode("utf-8")
    assert files.name_from_text(text) == name


def test_json_line_of_such_a_name_finds_the_file(tmp_path):
    path = tmp_path / f"{NAME}.jpg"
    path.write_bytes(saved("JPEG"))
    line = json.dumps({"image": files.name_to_text(str(path))})
    [request] = requests([line], "a.jsonl", tmp_path)
    assert isinstance(request, Request) and request.path == path
    # A name that only looks like one: the file that exists counts.
    literal = tmp_path / r"caf\xe9.jpg"
    literal.write_bytes(b"")
    [request] = requests([line], "a.jsonl", tmp_path)
    assert request.path == literal


def test_home_folder_is_expanded_in_flags_and_unknown_ones_are_named(monkeypatch):
    from posecascade.cli import train

    monkeypatch.setenv("HOME", "/h/somebody")
    for flag in ("model_dir", "recipe"):
        train.FLAGS.unparse_flags()
        train.FLAGS(["posecascade-train", f"--{flag}=~/runs/a"])
        assert train.FLAGS[flag].value == "/h/somebody/runs/a"
    with pytest.raises(InputError, match=r"^~nobody-here/a: the home folder of nobody-here is unknown; set HOME"):
        files.expanded("~nobody-here/a")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(InputError, match=r"^~/a: the home folder of this user is unknown; set HOME, or give"):
        files.expanded("~/a")
    with pytest.raises(SystemExit), warnings.catch_warnings():
        train.FLAGS.unparse_flags()
        app.run(train.main, train.FLAGS, train.__doc__, ["posecascade-train", "--model_dir=~/a"])


def test_predictions_of_such_a_name_are_matched(tmp_path):
    from posecascade.evaluation.predictions import read_predictions
    from posecascade.geometry import Box
    from posecascade.records import Record
    from posecascade.schema import Schema

    schema = Schema("toy", ("head", "tail"))
    names = [f"{NAME}.jpg", r"caf\xe9b.jpg"]
    records = [Record(images.ImageFile(tmp_path / name), name, schema, Box(0, 0, 9, 9), np.array([[1, 2], [3, 4]]),
                      np.array([2, 2])) for name in names]
    lines = [{"image": files.name_to_text(name), "keypoints": {"head": [number, 1], "tail": [2, 2]}}
             for number, name in enumerate(names)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines[::-1])))
    found = read_predictions(str(tmp_path / "a.jsonl"), records)
    assert found.stages["keypoints"][:, 0, 0].tolist() == [0, 1]
