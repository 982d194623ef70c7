"""Split TYPE:ROOT#OPTIONS: what the user states about a COCO file, after "#" in the data set's name."""

from dataclasses import dataclass
from pathlib import Path

from posecascade.errors import InputError
from posecascade.files import did_you_mean, expanded

FRAMES = ("upright", "stored")


@dataclass(frozen=True)
class Options:
    """What the user states about a COCO file.

    Attributes:
        category: name or id of the category to read; "" for those with the schema's keypoints.
        frame: "upright" or "stored", the pixels that labels count; "" to decide by the sizes in the list.
        resized: whether images that were scaled after labeling are accepted, and their labels scaled.
        images: the folder of the images; "" to search the root.
    """

    category: str = ""
    frame: str = ""
    resized: bool = False
    images: str = ""


def split_options(root: str) -> tuple[str, Options]:
    """Return ROOT without its options, and the options: "FILE#person" or "FILE#category=person,frame=stored".

    A "#" in the name of an existing file or folder belongs to the name. Raises InputError for unknown options.

    >>> split_options("people.json#person")[1].category
    'person'
    >>> split_options("people.json#frame=stored,resized=yes")[1]
    Options(category='', frame='stored', resized=True, images='')
    """
    path, text = root, ""
    while "#" in path and not Path(expanded(path)).exists():
        path, _, last = path.rpartition("#")
        text = f"{last}#{text}" if text else last
    return (path, _options(root, text)) if text else (path, Options())


def _options(root: str, text: str) -> Options:
    if "=" not in text:
        return Options(category=text)
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals and key:
            raise InputError(f"coco:{root}: {key!r} is no option; expected KEY=VALUE if there are several. Write "
                             f"category={key} for the category")
        if key not in Options.__dataclass_fields__:
            raise InputError(f"coco:{root}: unknown option {key!r}; {did_you_mean(key, Options.__dataclass_fields__)}")
        if not equals or not value or key in values:
            raise InputError(f"coco:{root}: option {key!r} has {'two values' if key in values else 'no value'}; "
                             f"expected {key}=VALUE once")
        values[key] = value
    for key, choices in (("frame", FRAMES), ("resized", ("yes", "no"))):
        if values.get(key, choices[0]) not in choices:
            raise InputError(f"coco:{root}: {key}={values[key]}; expected {' or '.join(choices)}")
    return Options(values.get("category", ""), values.get("frame", ""), values.get("resized") == "yes",
                   values.get("images", ""))
