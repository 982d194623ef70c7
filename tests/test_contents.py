"""What is said about files that are not what was expected: what they are, and what to do; byte order marks are read."""

import io
import json

import pytest
from annotations import coco, coco_person, write_json

from posecascade.datasets import read
from posecascade.datasets.sources import load_json, load_mat
from posecascade.errors import InputError
from posecascade.evaluation.predictions import read_predictions
from posecascade.inference.inputs import requests_from

COCO = "Export or convert it to COCO's keypoints JSON"
JSON = json.dumps(coco([coco_person()]), indent=1)
MARK = b"\xef\xbb\xbf"


def error_of(function, *arguments):
    with pytest.raises(InputError) as raised:
        function(*arguments)
    return str(raised.value)


@pytest.mark.parametrize(("content", "problem"), [
    (b"", "is empty; expected JSON. Copy or download it again"),
    (b"image,x,y\na.jpg,3,4\n", f"is a table (CSV); expected JSON. {COCO}"),
    (MARK + b"scorer;DLC;DLC\nbodyparts;nose;nose\n", f"is a table (CSV); expected JSON. {COCO}"),
    (b"# of our lab\ntrain: images\nkpt_shape: [17, 3]\n", f"is YAML; expected JSON. {COCO}"),
    (b"<?xml version='1.0'?>\n<annotations>", f"is XML; expected JSON. {COCO}"),
    (b"<!DOCTYPE html><html>", "is a web page, as a failed download leaves; expected JSON. Download the file again"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS; expected JSON. Run: git lfs pull"),
    (b"\x1f\x8b\x08\0\0", "is compressed by gzip; expected JSON. Unpack it: gunzip FILE"),
    (b"PK\x03\x04\0\0", "is a zip archive; expected JSON. Unpack it"),
    (b"MATLAB 5.0 MAT-file, Platform", "is a MATLAB file; expected JSON. Give a JSON file"),
    (b"\x80\x04\x95\0\0", "is a Python pickle; expected JSON. Save its values as JSON"),
    (JSON.replace("a.jpg", "M\xfcller.jpg").encode("latin-1"),
     "is not UTF-8 text (byte 0xfc in line 5); expected UTF-8. Save it as UTF-8; if it is Latin-1: iconv -f LATIN1 -t "
     "UTF-8 FILE > NEW"),
    (b'{"image": "a.jpg"}\n{"image": "b.jpg"}\n',
     "holds more than one value, the second in line 2; expected one JSON value. JSON lines have the suffix .jsonl, and "
     "are read as predictions and inputs only"),
    (b'{"a": [1,\n 2,]}', None), (b'{"a": 1,}', None),
    (JSON[:-20].encode(), None), (JSON[:40].encode(), None)], ids=lambda value: str(value)[:20])
def test_file_that_is_not_json_is_recognized(tmp_path, content, problem):
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    error = error_of(load_json, path)
    if problem:
        assert error == f"{path}: {problem}"
    elif content.endswith(b"}"):  # written by hand, and whole
        assert error.startswith(f"{path}: is not JSON (") and error.endswith("); fix the file there")
    else:
        assert error.startswith(f"{path}: is not a complete JSON file (")
        assert error.endswith("); copy or unpack it again")


@pytest.mark.parametrize(("content", "problem"), [
    (b"# Created by Octave 8.4.0, Mon Dec 01 2026\n# name: joints\n",
     "is a text file of Octave; expected MATLAB. Save it again with: save -v7 FILE VARIABLE"),
    (JSON.encode(), "is JSON; expected MATLAB. Give a MATLAB file, or the type of data set that has JSON"),
    (b"1,2,3\n4,5,6\n", f"is a table (CSV); expected MATLAB. {COCO}"),
    (b"\x93NUMPY\x01\0", "is a NumPy array; expected MATLAB. Save it as JSON: json.dump(array.tolist(), file)")],
    ids=lambda value: str(value)[:20])
def test_file_that_is_not_matlab_s_is_recognized(tmp_path, content, problem):
    path = tmp_path / "joints.mat"
    path.write_bytes(content)
    assert error_of(load_mat, path, "joints") == f"{path}: {problem}"


def test_damaged_binary_files_are_not_taken_for_text(tmp_path, rng):
    path = tmp_path / "joints.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    assert "is not a complete MATLAB file" in error_of(load_mat, path, "joints")
    path.write_bytes(b"a,b\n" + rng.bytes(500) + b"\0")
    assert "is not a complete MATLAB file" in error_of(load_mat, path, "joints")


def test_byte_order_marks_are_read(tmp_path):
    path = write_json(tmp_path / "labels.json", coco([coco_person()]))
    plain = read(f"coco:{path}", "all")
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(JSON, encoding=encoding)
        assert [record.keypoints.tolist() for record in read(f"coco:{path}", "all")] == [
            record.keypoints.tolist() for record in plain]
    lines = tmp_path / "poses.jsonl"
    lines.write_bytes(MARK + b'{"image": "a.jpg", "keypoints": {"nose": [3, 4, 0.5]}}\r\n')
    assert read_predictions(lines, plain).stages["keypoints"][0, 0].tolist() == [3, 4]
    assert [request.image for request in requests_from(str(lines), io.StringIO())] == ["a.jpg"]


def test_only_image_cannot_be_split(tmp_path):
    path = write_json(tmp_path / "labels.json", coco([coco_person(), coco_person()]))
    assert len(read(f"coco:{path}", "train")) == len(read(f"coco:{path}", "all")) == 2
    assert error_of(read, f"coco:{path}", "val") == (
        f"{path}, annotations[0]: is of the only image with labeled people, {tmp_path / 'a.jpg'}; expected two or "
        "more, because one is kept for validation. Add images; to evaluate, pass --split=all")
