"""Report a run while it goes on: a progress bar with the time left, log.csv, TensorBoard scalars and images."""

import csv
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from posecascade import files

LOG, EVENTS = "log.csv", "tensorboard"


class ProgressBar:
    """A tqdm bar on standard error, in steps; not drawn if that is no terminal (`keras.utils.Progbar` would be).

    The bar starts with the first step's end, because compilation makes that step much slower than the others.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._bar: tqdm | None = None

    def show(self, step: int, epoch: str, losses: Mapping[str, float]) -> None:
        """Set the bar to `step`; tqdm redraws it at most twice a second."""
        if self._bar is None:
            width = {"ncols": 80, "nrows": 24} if _columns() == 0 else {"dynamic_ncols": True}
            self._bar = tqdm(total=self._steps, initial=step, unit="step", file=sys.stderr, disable=None, leave=False,
                             mininterval=0.5, **width)
        self._bar.set_description_str(f"epoch {epoch}", refresh=False)
        self._bar.set_postfix(losses, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()

    def above(self, log: Callable[[str], None]) -> Callable[[str], None]:
        """Return a `log` whose lines appear above the bar."""
        def log_above(line):
            with tqdm.external_write_mode():
                log(line)
        return log_above


def _columns() -> int | None:
    """Return the width of the terminal; 0 if a terminal does not say it, in which tqdm would draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or no file
        return None


def write_log(folder: Path, history: Sequence[Mapping]) -> None:
    """Rewrite FOLDER/log.csv from all rows, so that an epoch repeated after an interruption is listed once."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with files.atomic_write(folder / LOG) as draft, open(draft, "w", newline="", encoding="utf-8") as text:
        table = csv.DictWriter(text, columns, restval="")
        table.writeheader()
        table.writerows(history)


class Events:
    """Writes TensorBoard's event files without TensorFlow, which tensorboard's own writer would import.

    Args:
        step: steps done before; TensorBoard drops what an interrupted process had written beyond them.
    """

    def __init__(self, folder: Path, step: int):
        events_folder = folder / EVENTS
        events_folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(events_folder / name, "ab")  # noqa: SIM115 (closed by `close`)
        self._writer = RecordWriter(self._file)
        self._add(0, file_version="brain.Event:2")
        self._add(step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point of a curve per name; None values are skipped."""
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)
                                               for name, value in values.items() if value is not None]))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write an image, (H, W, 3) uint8 RGB."""
        _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        encoded = Summary.Image(height=image.shape[0], width=image.shape[1], colorspace=3,
                                encoded_image_string=png.tobytes())
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, image=encoded)]))

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._file.close()

    def flush(self) -> None:
        """Write what is buffered to the file."""
        self._file.flush()

    def _add(self, step, **content):
        self._writer.write(Event(step=step, wall_time=time.time(), **content).SerializeToString())
