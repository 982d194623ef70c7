"""Import Keras; say in one line why it cannot be imported, and keep the user's keras.json out of our networks.

Every module of the package takes Keras from here: Keras reads KERAS_BACKEND and keras.json when it is imported.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posecascade.errors import InputError, first_line
from posecascade.files import did_you_mean

BACKENDS = ("tensorflow", "jax", "torch")  # that can train
FLOATX, IMAGE_DATA_FORMAT = "float32", "channels_last"


def config_file() -> Path:
    """Return the path of the keras.json that Keras reads."""
    home = os.path.expanduser("~")
    return Path(os.environ.get("KERAS_HOME") or Path(home if os.access(home, os.W_OK) else "/tmp", ".keras"),
                "keras.json").expanduser()


def unusable(error: Exception) -> str:
    """Return the message about an `error` of importing Keras: the setting that causes it, and how to change it."""
    path, variable = config_file(), os.environ.get("KERAS_BACKEND")
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError):  # Keras ignores such a file
        settings = {}
    if not isinstance(settings, dict):
        return f"{path}: holds {type(settings).__name__}; expected a mapping of keys. Delete the file"
    name = variable or settings.get("backend", "tensorflow")
    origin, undo = (f"KERAS_BACKEND={name}", "unset the variable") if variable else \
        (f"{path}: backend is {name!r}", "delete the line")
    if isinstance(error, ImportError):
        return f"{origin}: cannot be imported ({first_line(error)}); install {name}, or {undo}"
    if f"backend : {name}" in str(error):
        return f"{origin}: unknown backend; {did_you_mean(str(name), BACKENDS)}"
    return f"{path}: Keras refuses it ({first_line(error)}); correct or delete the file"


try:
    import keras
    from keras import layers, ops
except ImportError as error:
    if (error.name or "").partition(".")[0] not in (*BACKENDS, "openvino"):
        raise  # an installation that is broken otherwise
    raise InputError(unusable(error)) from None
except (ValueError, TypeError, AttributeError) as error:
    raise InputError(unusable(error)) from None

__all__ = ["BACKENDS", "keras", "keras_settings", "layers", "ops"]


@contextmanager
def keras_settings(policy: str = FLOATX) -> Iterator[None]:
    """Set the dtype policy ("float32", "mixed_bfloat16", "mixed_float16") of networks built within the block.

    Within it Keras' other settings are its own defaults, float32 and channels last, whatever keras.json says; the
    user's are restored when the block ends.
    """
    config = keras.config
    before = config.floatx(), config.image_data_format(), config.dtype_policy()
    config.set_floatx(FLOATX)
    config.set_image_data_format(IMAGE_DATA_FORMAT)
    config.set_dtype_policy(policy)
    try:
        yield
    finally:
        config.set_floatx(before[0])
        config.set_image_data_format(before[1])
        config.set_dtype_policy(before[2])
