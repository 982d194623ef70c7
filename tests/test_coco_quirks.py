"""Random COCO files with the quirks of many tools: a person is read right or refused by name, never silently wrong."""

import shutil
import unicodedata
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marked_people import ARM, hits, marked, person, places, to_stored, write_image, write_list

from posecascade.datasets import read
from posecascade.datasets.frames import inspect_frames
from posecascade.errors import InputError
from posecascade.training.augment import load_sample

SIZES = [(120, 60), (60, 120), (90, 90), (121, 75)]
# What a tool makes of "set/NAME", and where the file is below the root.
PATHS = {
    "as given": ("set/{}", "images/set/{}"), "bare": ("{}", "images/{}"), "next to the list": ("set/{}", "set/{}"),
    "backslashes": ("images\\set\\{}", "images/set/{}"), "escaped": ("set%2F{}", "images/set/{}"),
    "label studio": ("/data/local-files/?d=set/{}", "images/set/{}"), "upload": ("../../media/4/{}", "images/{}"),
    "another machine": ("/srv/elsewhere/set/{}", "images/set/{}"), "windows": ("C:\\data\\{}", "deep/down/{}"),
    "another folder": ("old/{}", "new/{}"), "missing": ("set/{}", None), "twice": ("old/{}", "new/{} newer/{}"),
    "decomposed": ("é/{}", "images/" + unicodedata.normalize("NFD", "é") + "/{}"), "outside": ("../{}", "../{}"),
}
FOUND = set(PATHS) - {"missing", "twice", "outside"}


@dataclass(frozen=True)
class Quirk:
    """One image with one person, and how its tool wrote them."""

    path: str
    size: tuple[int, int]
    orientation: int
    suffix: str
    upright: bool
    listed: str
    category: int
    nested: bool
    repeated_id: bool

    @property
    def labeled_size(self):
        """The size of the frame that labels count pixels in."""
        return self.size if self.upright or self.orientation < 5 else self.size[::-1]

    @property
    def listed_size(self):
        """The size that the list gives, if any."""
        width, height = self.labeled_size
        return {"right": (width, height), "none": None, "zero": (0, 0), "scaled": (3 * width, 3 * height),
                "wrong": (width + 40, height + 3)}[self.listed]

    @property
    def is_told(self):
        """Whether the frame follows from what is written, or is the default."""
        swaps = self.orientation >= 5 and self.size[0] != self.size[1]
        return self.upright or self.orientation == 1 or (swaps and self.listed in ("right", "scaled"))


QUIRKS = st.builds(
    Quirk, st.sampled_from(sorted(PATHS)), st.sampled_from(SIZES), st.integers(1, 8),
    st.sampled_from([".jpg", ".png", ".JPG", ".webp"]), st.booleans(),
    st.sampled_from(["right", "right", "none", "zero", "scaled", "wrong"]), st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([False] * 15 + [True]), st.sampled_from([False] * 15 + [True]))


def write(root, quirks, seed):
    """Write the images and their list as the quirks say; return the data set's name."""
    rng = np.random.default_rng(seed)
    images, people = [], []
    for number, quirk in enumerate(quirks, 1):
        points, name = places(rng, quirk.size), f"{number} a{quirk.suffix}"
        for place in (PATHS[quirk.path][1] or "").split(" "):
            if place:
                write_image(root / place.format(name), marked(points, quirk.size), quirk.orientation)
        labels = points if quirk.upright else to_stored(points, quirk.size, quirk.orientation)
        labels = (labels + 0.5) * (3 if quirk.listed == "scaled" else 1) - 0.5
        size = quirk.listed_size and dict(zip(("width", "height"), quirk.listed_size, strict=True))
        given_name = PATHS[quirk.path][0].format(name.replace(" ", "%20") if quirk.path == "escaped" else name)
        images.append({"id": 1 if quirk.repeated_id else number, "file_name": given_name, **(size or {})})
        people.append(person(images[-1]["id"], labels, number, category_id=quirk.category))
        if quirk.nested:
            people[-1]["keypoints"] = np.reshape(people[-1]["keypoints"], (3, 3)).tolist()
    categories = [{"id": 2, "name": "dog", "keypoints": ["nose", "tail", "paw"]},
                  {"id": 1, "name": "arm", "keypoints": list(ARM.keypoints)}]
    return write_list(root / "people.json", images, people, categories)


def spoils_all(quirks):
    """Whether the list as a whole must be refused: its ids or shapes are broken, or files are ambiguous."""
    ids = [1 if quirk.repeated_id else number for number, quirk in enumerate(quirks, 1)]
    arms = [quirk for quirk in quirks if quirk.category == 1]
    return len(set(ids)) < len(ids) or not arms or any(q.nested or q.path == "twice" for q in arms)


@pytest.mark.parametrize("resized", ["no", "yes"])
@settings(max_examples=100)
@given(quirks=st.lists(QUIRKS, min_size=1, max_size=4), seed=st.integers(0, 999))
def test_person_is_read_right_or_refused_by_name(tmp_path_factory, resized, quirks, seed):
    root = tmp_path_factory.mktemp("quirks") / "root"
    try:
        check(write(root, quirks, seed), quirks, resized == "yes")
    finally:
        shutil.rmtree(root.parent)


def check(spec, quirks, resized):
    """Compare what is read with the quirks."""
    notes = []
    try:
        records = read(f"{spec}#category=arm,resized={'yes' if resized else 'no'}", "all", ARM, notes)
    except InputError as error:
        lost = all(quirk.path not in FOUND for quirk in quirks if quirk.category == 1)
        assert spoils_all(quirks) or (resized and lost)
        assert "people.json" in str(error)
        return
    assert not spoils_all(quirks)
    arms = {number: quirk for number, quirk in enumerate(quirks, 1) if quirk.category == 1}
    assert (len(arms) < len(quirks)) == any("excluded annotations of others" in note for note in notes)
    expected = [number for number, quirk in arms.items() if not resized or quirk.path in FOUND]
    assert [record.person_id for record in records] == expected
    for record in records:
        check_person(record, arms[record.person_id], resized)


def check_person(record, quirk, resized):
    """Read the person's image, and compare what is at its keypoints."""
    right = quirk.path in FOUND and (quirk.listed not in ("scaled", "wrong") or (resized and quirk.listed == "scaled"))
    try:
        record.image.read()
    except InputError as error:
        assert not right and record.image.name in str(error)
        assert ("tried" in str(error)) == (quirk.path not in FOUND)
        return
    assert right
    undecided = record.image.name in inspect_frames([record]).undecided
    assert undecided == (quirk.orientation != 1 and record.image.by_size
                         and (record.image.size is None or quirk.size[0] == quirk.size[1] or quirk.orientation < 5))
    if quirk.is_told:
        assert [hits(record, shrink) for shrink in (1, 2)] == [3, 3]
        assert load_sample(record, 64).image.shape == (64, 64, 3)
    else:
        assert undecided  # said by `check` and at the start of training, which name the option that states the frame
