"""Tables of DeepLabCut and SLEAP, CSV and HDF5, become the same people in COCO's layout."""

import json

import h5py
import numpy as np
import pytest
from exchange_files import refused, write_image

from posecascade import datasets
from posecascade.exchange import Options, convert
from posecascade.schema import find_schema


def converted(tmp_path, source, tool, **options):
    """Convert to people.json and read it with its schema; return the keypoints of each record, and the content."""
    people, paths = convert(source, tmp_path / "people.json", Options(**options), read=tool, write="coco")
    schema = find_schema(str(paths[1]))
    records = datasets.read(f"coco:{paths[0]}", "all", schema)
    return [{name: tuple(xy) for name, xy, code in zip(schema.keypoints, record.keypoints.tolist(), record.visibility,
                                                       strict=True) if code == 2} for record in records], \
        json.loads(paths[0].read_text()), dict(people.excluded)


# --- DeepLabCut ------------------------------------------------------------------------------------------------------

SINGLE = """scorer,Ann,Ann,Ann,Ann
bodyparts,Nose,Nose,tail base,tail base
coords,x,y,x,y
labeled-data/vid/img01.png,1.5,2.0,,
labeled-data/vid/img02.png,5.0,6.0,7.0,8.25
"""
SPLIT = """scorer,,,Ann,Ann,Ann,Ann,Ann,Ann
individuals,,,m1,m1,m2,m2,single,single
bodyparts,,,Nose,Nose,Nose,Nose,tail base,tail base
coords,,,x,y,x,y,x,y
labeled-data,vid,img01.png,1.5,2.0,,,7.0,8.25
labeled-data,vid,img02.png,5.0,6.0,3.0,4.0,,
"""


@pytest.fixture
def project(tmp_path):
    """A project's folder with the images of one video."""
    folder = tmp_path / "project" / "labeled-data" / "vid"
    for name in ("img01.png", "img02.png"):
        write_image(folder / name)
    (tmp_path / "project" / "config.yaml").write_text("Task: mice\nskeleton:\n- - Nose\n  - tail base\n")
    return folder


def test_deeplabcut_csv_of_one_individual(tmp_path, project):
    (project / "CollectedData_Ann.csv").write_text(SINGLE)
    people, content, _ = converted(tmp_path, project / "CollectedData_Ann.csv", "deeplabcut")
    assert people == [{"nose": (1.5, 2)}, {"nose": (5, 6), "tail_base": (7, 8.25)}]
    assert content["images"] == [{"id": n, "file_name": f"project/labeled-data/vid/img0{n}.png", "width": 200,
                                  "height": 100} for n in (1, 2)]
    assert content["categories"][0]["skeleton"] == [[1, 2]]


def test_deeplabcut_csv_of_several_individuals_and_a_path_in_three_cells(tmp_path, project):
    (project / "CollectedData_Ann.csv").write_text(SPLIT)
    people, content, _ = converted(tmp_path, project / "CollectedData_Ann.csv", "deeplabcut")
    assert people == [{"nose": (1.5, 2)}, {"tail_base": (7, 8.25)}, {"nose": (5, 6)}, {"nose": (3, 4)}]
    assert content["images"][0]["file_name"] == "project/labeled-data/vid/img01.png"


def write_axis(group, axis, levels):
    """An axis of several levels as pandas' fixed layout has it: the distinct texts of a level, and their codes."""
    group.attrs[f"{axis}_variety"], group.attrs[f"{axis}_nlevels"] = np.bytes_("multi"), len(levels[0])
    for n, texts in enumerate(zip(*levels, strict=True)):
        distinct = sorted(set(texts))
        group[f"{axis}_level{n}"] = np.array([text.encode() for text in distinct])
        group[f"{axis}_label{n}"] = np.array([distinct.index(text) for text in texts], np.int8)


def write_pandas(path, columns, index, values):
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame")
        write_axis(group, "axis0", columns)
        write_axis(group, "block0_items", columns)
        if isinstance(index[0], tuple):
            write_axis(group, "axis1", index)
        else:
            group.attrs["axis1_variety"] = np.bytes_("regular")
            group["axis1"] = np.array([text.encode() for text in index])
        group["block0_values"] = values
    return path


@pytest.mark.parametrize("index", [[("labeled-data", "vid", f"img0{n}.png") for n in (1, 2)],
                                   [f"labeled-data/vid/img0{n}.png" for n in (1, 2)]])
def test_deeplabcut_hdf5_in_the_fixed_layout_of_pandas(tmp_path, project, index):
    columns = [("Ann", animal, part, axis) for animal in ("m1", "m2") for part in ("Nose", "tail base")
               for axis in "xy"]
    values = np.arange(16.0).reshape(2, 8)
    values[0, 1] = values[0, 4:] = np.nan
    source = write_pandas(project / "CollectedData_Ann.h5", columns, index, values)
    people, content, _ = converted(tmp_path, source, "deeplabcut")
    assert people == [{"tail_base": (2, 3)}, {"nose": (8, 9), "tail_base": (10, 11)},
                      {"nose": (12, 13), "tail_base": (14, 15)}]
    assert content["images"][1]["file_name"] == "project/labeled-data/vid/img02.png"


def test_pickled_names_of_deeplabcut_are_not_loaded(tmp_path, project):
    source = project / "CollectedData_Ann.h5"
    with h5py.File(source, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame_table")
        group["table"] = np.zeros(2)
    assert refused(source, "deeplabcut", tmp_path) == (
        "DIR/project/labeled-data/vid/CollectedData_Ann.h5: is pandas' table layout, in which the names are pickled "
        "Python objects; expected the .csv. Give CollectedData_Ann.csv, which DeepLabCut writes next to it")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("labeled-data/vid/img01.png", "0", "has the frame number 0 for an image; expected paths such as "
     "labeled-data/video/img01.png. Give CollectedData_*.csv of the folder labeled-data"),
    ("1.5,2.0,,", "1.5,2.0,",
     "row labeled-data/vid/img01.png: holds 3 values; expected 4 numbers or blanks. Fix the row"),
    ("1.5", "a", "row labeled-data/vid/img01.png: holds 4 values; expected 4 numbers or blanks. Fix the row"),
    ("coords,x,y", "coords,x,x", "bodypart 'Nose' has not one column x and one y; expected both for each bodypart. Fix "
                                 "the header"),
    ("scorer", "score", "begins with score, bodyparts, coords, labeled-data/vid/img01.png; expected rows scorer, "
                        "(individuals,) bodyparts, coords as in CollectedData_*.csv"),
])
def test_deeplabcut_refuses_other_tables(tmp_path, project, old, new, message):
    (project / "CollectedData_Ann.csv").write_text(SINGLE.replace(old, new, 1))
    assert message in refused(project / "CollectedData_Ann.csv", "deeplabcut", tmp_path)


# --- SLEAP -----------------------------------------------------------------------------------------------------------

ANALYSIS = """track,frame_idx,instance.score,Nose.x,Nose.y,Nose.score,tail.x,tail.y,tail.score
track_0,3,0.9,1.5,2.0,0.9,,,
track_1,3,0.8,5.0,6.0,0.9,7.0,8.25,0.7
,12,,3.0,4.0,,nan,nan,
track_0,99,0.9,1.0,1.0,0.9,1,1,
"""


@pytest.fixture
def frames(tmp_path):
    """A folder with frames 3 and 12 of a video."""
    for name in ("frame_000003.png", "frame_000012.png", "notes.txt"):
        write_image(tmp_path / "frames" / name) if name.endswith("png") else (tmp_path / "frames" / name).write_text("")
    return tmp_path / "frames"


def test_sleap_csv_names_frames_by_number(tmp_path, frames):
    (tmp_path / "clip.analysis.csv").write_text(ANALYSIS)
    people, content, excluded = converted(tmp_path, tmp_path / "clip.analysis.csv", "sleap", images=frames)
    assert people == [{"nose": (1.5, 2)}, {"nose": (5, 6), "tail": (7, 8.25)}, {"nose": (3, 4)}]
    assert [image["file_name"] for image in content["images"]] == ["frames/frame_000003.png", "frames/frame_000012.png"]
    assert excluded == {"labeled frames without an image": 1}


@pytest.mark.parametrize("axes", [None, ("frame", "track", "node", "xy"), ("track", "xy", "node", "frame")])
def test_sleap_hdf5_in_every_order_of_axes(tmp_path, frames, axes):
    table = np.full((13, 2, 2, 2), np.nan)  # frame, track, node, xy
    table[3, 0, 0], table[3, 1], table[12, 0, 0] = (1.5, 2), [(5, 6), (7, 8.25)], (3, 4)
    order = axes or ("track", "xy", "node", "frame")  # what SLEAP itself writes, without naming the axes
    with h5py.File(tmp_path / "clip.analysis.h5", "w") as file:
        file.create_dataset("tracks", data=table.transpose([("frame", "track", "node", "xy").index(a) for a in order]),
                            compression="gzip")
        if axes:
            file["tracks"].attrs["dims"] = json.dumps(axes)
        file["node_names"] = [b"Nose", b"tail"]
        file["edge_names"] = [(b"Nose", b"tail")]
        file["track_names"] = [b"track_0", b"track_1"]
        file["track_occupancy"] = np.isfinite(table).any((2, 3)).astype(np.uint8)
        file["video_path"] = "clip.mp4"
    people, content, _ = converted(tmp_path, tmp_path / "clip.analysis.h5", "sleap", images=frames)
    assert people == [{"nose": (1.5, 2)}, {"nose": (5, 6), "tail": (7, 8.25)}, {"nose": (3, 4)}]
    assert content["categories"][0]["skeleton"] == [[1, 2]]


def test_sleap_needs_the_frames_as_images(tmp_path, frames):
    source = tmp_path / "clip.analysis.csv"
    source.write_text(ANALYSIS)
    assert refused(source, "sleap", tmp_path) == (
        "DIR/clip.analysis.csv: labels frames of a video; expected them as images. Extract them, and give their folder "
        "with --images; each name ends in the frame's number, as in frame_000012.png")
    write_image(frames / "other_12.png")
    assert refused(source, "sleap", tmp_path, images=frames) == (
        "--images=DIR/frames: frame_000012.png and other_12.png both are frame 12; expected one image per frame. Give "
        "a folder of one video's frames")
    for number in (1, 2, 3):
        write_image(tmp_path / "counted" / f"{number:06}.png")
    assert refused(source, "sleap", tmp_path, images=tmp_path / "counted") == (
        "--images=DIR/counted: its images count from 1, SLEAP's frames from 0; expected the frame 0, or the labeled "
        "frames alone. Extract them again (ffmpeg: -start_number 0)")
    (tmp_path / "empty").mkdir()
    assert refused(source, "sleap", tmp_path, images=tmp_path / "empty").startswith(
        "--images=DIR/empty: has no image of the labeled frames (3, ...); expected names")
    (tmp_path / "a.slp").write_bytes(b"")
    assert refused(tmp_path / "a.slp", "sleap", tmp_path) == (
        "DIR/a.slp: is a project of SLEAP; expected an analysis file. Use File > Export Analysis HDF5 or CSV in SLEAP")


@pytest.mark.parametrize("tool", ["deeplabcut", "sleap"])
def test_damaged_hdf5_is_refused(tmp_path, tool):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    assert refused(tmp_path / "a.h5", tool, tmp_path).startswith("DIR/a.h5: is not a complete")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = 1
    assert refused(tmp_path / "b.h5", tool, tmp_path).startswith("DIR/b.h5: has x; expected ")
