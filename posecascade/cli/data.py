"""posecascade-data check|show --data=TYPE:ROOT [--data=...] [--output=DIR_OR_FILE]: inspect annotated people.

check: pictures that are missing or corrupt, joints outside, doubles, left and right, order of joints; prints a table
       for each data set, and writes JSON to --output (a .json file, or check.json in a folder).
show:  a sheet of people as annotated and as augmented, with the targets made from them; --output is a .png or .jpg
       file, or a folder for samples.png.
"""

from pathlib import Path

import numpy as np
from absl import flags

from posecascade import datasets, files
from posecascade.cli import app
from posecascade.datasets.inspection import inspect
from posecascade.drawing import write_image
from posecascade.errors import InputError
from posecascade.records import Record
from posecascade.schema import find_schema

FLAGS = flags.FlagValues()
_DATA = flags.DEFINE_multi_string(
    "data", [], f"TYPE:ROOT, may be given several times; TYPE is one of {', '.join(datasets.READERS)}",
    flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "file or folder to write to; show needs it", flag_values=FLAGS)
_SCHEMA = flags.DEFINE_string("schema", None, "joints of the user's own files of type coco: a name or a .yaml file",
                              flag_values=FLAGS)
_COUNT = flags.DEFINE_integer("count", 8, "people on the sheet", lower_bound=1, upper_bound=200, flag_values=FLAGS)
_SIZE = flags.DEFINE_integer("size", 192, "side of the sheet's crops in pixels", lower_bound=32, upper_bound=1024,
                             flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 1, "of the choice of people and of their augmentation", lower_bound=0,
                             flag_values=FLAGS)
_SPLIT = flags.DEFINE_string("split", "all", f"one of {', '.join(datasets.SPLITS)}", flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Run `check` or `show`; InputError for another word, for no --data, or what the readers refuse."""
    actions = {"check": check, "show": show}
    if len(arguments) != 1 or arguments[0] not in actions:
        found = " ".join(arguments) or "nothing"
        raise InputError(f"found {found!r}, expected check or show; {files.did_you_mean(found, actions)}")
    if not _DATA.value:
        raise InputError("no data set is given; add --data=TYPE:ROOT")
    actions[arguments[0]]()


def check() -> None:
    """Print a table per data set; write all of them as JSON where --output is given."""
    path = _output("check.json", (".json",)) if _OUTPUT.value else None
    reports = {}
    for spec in _DATA.value:
        reports[spec] = inspect(_read(spec))
        print(f"{spec} ({_SPLIT.value})\n{reports[spec].table()}\n", flush=True)
    if path:
        files.write_json(path, {spec: report.as_dict() for spec, report in reports.items()})
        print(f"wrote {path}")


def show() -> None:
    """Write the sheet; the data sets take turns."""
    if not _OUTPUT.value:
        raise InputError("show needs a place for its sheet; add --output=FILE.png")
    path = _output("samples.png", (".png", ".jpg", ".jpeg"))
    sets = {spec: [record for record in _read(spec) if record.image] for spec in _DATA.value}
    for spec, records in sets.items():
        if not records:
            raise InputError(f"--data={spec}: has annotations but no pictures to show; add images/")
    app.load_backend()  # here, because it takes seconds that `check` need not wait
    from posecascade.training.recipe import Loss, Model
    from posecascade.training.samples import samples_sheet

    model, loss, size = Model(), Loss(), _SIZE.value // 4 * 4  # whole cells of the targets' maps
    image, origins = samples_sheet(
        list(sets.values()), _COUNT.value, np.random.default_rng(_SEED.value), size=size, stride=model.stride,
        disc_radius=loss.disc_radius_px * size / model.input_size,
        sigma=loss.gaussian_sigma_px * size / model.input_size)
    write_image(path, image)
    for row, origin in enumerate(origins, 1):
        print(f"row {row}: {origin}")
    print(f"wrote {path}: annotated, augmented, part discs, Gaussians (left blue, right orange)")


def _read(spec: str) -> list[Record]:
    schema = find_schema(_SCHEMA.value) if _SCHEMA.value else None
    if schema and not any(datasets.parse(other)[0] == "coco" for other in _DATA.value):
        raise InputError(f"--schema describes files of type coco, but --data={spec} has its own joints; "
                         "leave --schema out")
    return datasets.read(spec, _SPLIT.value, schema)


def _output(name: str, suffixes: tuple[str, ...]) -> Path:
    """The file to write: --output itself if it ends as it should, else `name` in that folder."""
    path = Path(str(_OUTPUT.value))
    if path.suffix.lower() in suffixes and not path.is_dir():
        return path
    if path.suffix and not path.is_dir():
        raise InputError(f"--output={path}: expected a folder or a file that ends with {' or '.join(suffixes)}")
    return path / name


def console() -> None:
    """The command `posecascade-data`."""
    app.run(main, FLAGS, __doc__)
