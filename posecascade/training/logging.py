"""What a run tells while it goes on: a line with the time left, log.csv, and TensorBoard scalars and pictures."""

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

from posecascade import files

LOG, EVENTS = "log.csv", "tensorboard"
_LINE_EVERY = 0.5  # seconds between two drawings of the line
_ERASE = "\r\x1b[K"  # back to the line's begin, and nothing behind it


class Progressbar:
    """One line on a terminal, redrawn; nothing where standard error is none (its log would be a line per step)."""

    def __init__(self, steps: int, batch_size: int):
        self._steps, self._batch_size = steps, batch_size
        self._begin: tuple[float, int] | None = None
        self._drawn: float | None = None

    def show(self, step: int, epoch: str, losses: Mapping[str, float]) -> None:
        """Draw, unless it was drawn just now; from the second step on, the first one's time being the compiler's."""
        now = time.monotonic()
        self._begin = self._begin or (now, step)
        done = step - self._begin[1]
        recent = self._drawn is not None and now - self._drawn < _LINE_EVERY
        if not done or recent or not sys.stderr.isatty():
            return
        self._drawn = now
        seconds = max(now - self._begin[0], 1e-9) / done
        filled = 20 * step // self._steps
        shown = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        line = (f"[{'=' * filled}{' ' * (20 - filled)}] step {step}/{self._steps}  epoch {epoch}  "
                f"{clock(seconds * (self._steps - step))} left  {self._batch_size / seconds:.0f} images/s  {shown}")
        print(f"{_ERASE}{line[:_columns() - 1]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn is not None:
            print(_ERASE, end="", file=sys.stderr, flush=True)

    def above(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """`tell` for lines that stay, so that they do not begin behind this one."""
        def told(line):
            self.clear()
            tell(line)
        return told


def _columns():
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0 where a terminal tells nothing
    except OSError:
        return 80


def clock(seconds: float) -> str:
    """H:MM:SS."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def write_log(folder: Path, history: Sequence[Mapping]) -> None:
    """FOLDER/log.csv anew from all rows, so that an epoch trained twice after a kill stands there once."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with files.atomic_write(folder / LOG) as draft, open(draft, "w", newline="", encoding="utf-8") as text:
        table = csv.DictWriter(text, columns, restval="")
        table.writeheader()
        table.writerows(history)


class Events:
    """TensorBoard's event files, written without TensorFlow (tensorboard's own writer would import it).

    Args:
        step: after which this process goes on; TensorBoard drops what a killed one had written beyond it.
    """

    def __init__(self, folder: Path, step: int):
        place = folder / EVENTS
        place.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(place / name, "ab")  # noqa: SIM115 (closed by `close`)
        self._writer = RecordWriter(self._file)
        self._add(0, file_version="brain.Event:2")
        self._add(step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of a curve for each name."""
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)
                                               for name, value in values.items() if value is not None]))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture (H, W, 3) uint8 RGB."""
        _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        picture = Summary.Image(height=image.shape[0], width=image.shape[1], colorspace=3,
                                encoded_image_string=png.tobytes())
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, image=picture)]))

    def close(self) -> None:
        """Everything on disk."""
        self._file.close()

    def flush(self) -> None:
        """Let a reader see what was written so far."""
        self._file.flush()

    def _add(self, step, **content):
        self._writer.write(Event(step=step, wall_time=time.time(), **content).SerializeToString())
