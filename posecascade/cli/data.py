"""posecascade-data check|show|convert [SOURCE] [--data=TYPE:ROOT] [--output=FILE]: inspect and convert data sets.

check: find missing and corrupt images, keypoints outside the image, duplicate people, swapped left and right, and a
       wrong order of keypoints. Prints a table per data set, and writes JSON to --output (a .json file, or check.json
       in a folder).
show:  draw a sheet of people as annotated and after augmentation, with the training targets. --output is a .png or
       .jpg file, or a folder for samples.png.
convert: bring labels from another tool, --from=TOOL, into COCO's layout, with a schema of their keypoints next to it;
       or take a COCO file or predictions (predictions.jsonl, COCO results) to an annotation tool, --to=TOOL, to correct
       them there. Images are not copied.
"""

from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from posecascade import datasets, exchange, files
from posecascade.cli import app, streams
from posecascade.datasets.inspection import inspect
from posecascade.drawing import write_image
from posecascade.errors import InputError
from posecascade.records import Record
from posecascade.schema import find_schema

FLAGS = flags.FlagValues()
_DATA = flags.DEFINE_multi_string(
    "data", [], f"TYPE:ROOT, a data set; TYPE is one of {', '.join(datasets.READERS)}", flag_values=FLAGS)
_OUTPUT = app.define_path("output", None, "file or folder to write to; required by show", flag_values=FLAGS)
_SCHEMA = app.define_path("schema", None, "keypoint schema of data sets of type coco: a name or a .yaml file "
                          "(default: coco17); for convert, the order and names of the keypoints", flag_values=FLAGS)
_COUNT = flags.DEFINE_integer("count", 8, "number of people on the sheet of show", lower_bound=1, upper_bound=200,
                              flag_values=FLAGS)
_SIZE = flags.DEFINE_integer("size", 192, "side of the crops on the sheet of show, in pixels", lower_bound=32,
                             upper_bound=1024, flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 1, "seed of show's choice of people and of their augmentation", lower_bound=0,
                             flag_values=FLAGS)
_SPLIT = flags.DEFINE_string("split", "all", f"split of each data set: one of {', '.join(datasets.SPLITS)}",
                             flag_values=FLAGS)

_FROM = flags.DEFINE_enum("from", None, list(exchange.READERS), "tool whose labels convert reads", flag_values=FLAGS)
_TO = flags.DEFINE_enum("to", "coco", list(exchange.WRITERS), "tool for which convert writes", flag_values=FLAGS)
_IMAGES = app.define_path("images", None, "folder of the images for convert (default: where the tool keeps them)",
                          flag_values=FLAGS)
_CATEGORY = flags.DEFINE_string("category", None, "skeleton, class or label to convert, if there are several",
                                flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Run `check`, `show` or `convert`."""
    actions = {"check": check, "show": show}
    if arguments and arguments[0] == "convert":
        convert(arguments[1:])
        return
    if len(arguments) != 1 or arguments[0] not in actions:
        given = " ".join(arguments)
        raise InputError(f"unknown action {given!r}; {files.did_you_mean(given, [*actions, 'convert'])}" if given
                         else "no action given; expected check, show or convert")
    if not _DATA.value:
        raise InputError("no data set given; add --data=TYPE:ROOT")
    actions[arguments[0]]()


def check() -> None:
    """Print a table per data set; write all of them as JSON if --output is given."""
    path = _output("check.json", (".json",)) if _OUTPUT.value else None
    reports = {}
    say = streams.say if path else partial(print, flush=True)
    for spec in _DATA.value:
        notes: list[str] = []
        report = inspect(_read(spec, notes))
        say("\n".join((f"{spec} ({_SPLIT.value})\n{report.table()}", *(f"note: {note}" for note in notes))) + "\n")
        reports[spec] = report.as_dict() | {"notes": notes}
    if path:
        files.write_json(path, reports)
        streams.say(f"wrote {path}")


def show() -> None:
    """Write the sheet, with people of all data sets in turn."""
    if not _OUTPUT.value:
        raise InputError("--output: is missing; show needs it. Add --output=FILE.png")
    path = _output("samples.png", (".png", ".jpg", ".jpeg"))
    sets = {spec: [record for record in _read(spec) if record.image] for spec in _DATA.value}
    for spec, records in sets.items():
        if not records:
            raise InputError(f"--data={spec}: has annotations, but no images to show; add the folder images/")
    app.load_backend()  # not at the top: `check` does not need Keras
    from posecascade.training.recipe import Loss, Model
    from posecascade.training.samples import samples_sheet

    model, loss, size = Model(), Loss(), _SIZE.value // 4 * 4  # a multiple of the targets' stride
    image, origins = samples_sheet(
        list(sets.values()), _COUNT.value, np.random.default_rng(_SEED.value), size=size, stride=model.stride,
        disc_radius=loss.disc_radius_px * size / model.input_size,
        sigma=loss.gaussian_sigma_px * size / model.input_size)
    write_image(path, image)
    for row, origin in enumerate(origins, 1):
        print(f"row {row}: {origin}")
    print(f"wrote {path}: annotated, augmented, part discs, Gaussians (left blue, right orange)")


def convert(arguments: list[str]) -> None:
    """Write the labels of SOURCE in another tool's layout; print what was written and what was left out."""
    if len(arguments) != 1:
        raise InputError(f"convert: {len(arguments)} sources are given; expected one file or folder")
    if not _FROM.value or not _OUTPUT.value:
        raise InputError("convert: --from and --output are needed; such as convert export.json --from=labelstudio "
                         "--output=people.json")
    if len(_DATA.value) > 1:
        raise InputError("convert: --data is given more than once; expected the one data set of the results")
    options = exchange.Options(Path(_IMAGES.value) if _IMAGES.value else None, _CATEGORY.value or "",
                               find_schema(_SCHEMA.value) if _SCHEMA.value else None, "".join(_DATA.value))
    people, paths = exchange.convert(Path(arguments[0]), Path(_OUTPUT.value), options, read=_FROM.value,
                                     write=_TO.value)
    missing = sum(not Path(image.path).is_file() for image in people.images)
    for what, count in people.excluded.items():
        print(f"excluded: {count} {what}")
    if missing:
        print(f"missing: {missing} of {len(people.images)} images, which keep the paths of {arguments[0]}")
    print(f"wrote {' and '.join(map(str, paths))}: {people.count} people in {len(people.images)} images, "
          f"{people.schema.size} keypoints")


def _read(spec: str, notes: list[str] | None = None) -> list[Record]:
    schema = find_schema(_SCHEMA.value) if _SCHEMA.value else None
    if schema and not any(datasets.parse(other)[0] == "coco" for other in _DATA.value):
        raise InputError(f"--schema: applies to data sets of type coco, but --data={spec} has a schema of its own; "
                         "remove --schema")
    return datasets.read(spec, _SPLIT.value, schema, notes)


def _output(name: str, suffixes: tuple[str, ...]) -> Path:
    """Return the file to write: --output if it has one of `suffixes`, otherwise `name` in that folder."""
    path = Path(str(_OUTPUT.value))
    if path.suffix.lower() in suffixes and not path.is_dir():
        return path
    if path.suffix and not path.is_dir():
        raise InputError(f"--output={path}: expected a folder, or a file with the suffix {' or '.join(suffixes)}")
    return path / name


def console() -> None:
    """The command `posecascade-data`."""
    app.run(main, FLAGS, __doc__)
