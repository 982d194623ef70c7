"""Videos and cameras: frames in, the pose followed from frame to frame, frames out."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference.smoothing import one_euro

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg keeps still; read when the first video is opened
SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".gif")
USUAL_RATE = 25.0   # frames per second, where a file or camera does not tell
FOLLOWED = 0.15     # peak from which a joint counts for the next frame's box: lower than when a person is looked for
MIN_FOLLOWED = 3  # such joints; with fewer the person is looked for again


@dataclass(frozen=True)
class Video:
    """An open video.

    Attributes:
        name: as given.
        rate: frames per second.
        frames: (H, W, 3) uint8 RGB each, turned upright; can be gone through once.
    """

    name: str
    rate: float
    frames: Iterator[np.ndarray]


@contextlib.contextmanager
def opened(source: Path | int, name: str) -> Iterator[Video]:
    """A video file, or the camera of that number, closed when the block ends.

    Raises InputError where it cannot be opened or has no frame.
    """
    with _quiet():
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        read, first = capture.read() if capture.isOpened() else (False, None)
    if not read:
        capture.release()
        kind = "camera" if isinstance(source, int) else "video"
        hint = "check its number" if kind == "camera" else "copy it again or convert it to .mp4"
        raise InputError(f"{kind} {name}: cannot be opened, or has no frame that can be decoded; {hint}")
    rate = capture.get(cv2.CAP_PROP_FPS)
    try:
        yield Video(name, rate if math.isfinite(rate) and 1 <= rate <= 1000 else USUAL_RATE, _frames(capture, first))
    finally:
        capture.release()


def _frames(capture, frame):
    read = True
    while read:
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        read, frame = capture.read()


def follow(predict: Callable, video: Video, *, smooth: bool,
           followed: float = FOLLOWED) -> Iterator[tuple[np.ndarray, object]]:
    """Each frame with its pose, a `poses.Pose`.

    The crop is that of the box round the joints of the frame before. In the first frame, and where fewer than
    MIN_FOLLOWED joints reach a score of `followed`, the person is looked for.

    Args:
        predict: `Predictor.predict`.
        smooth: One-Euro filter over the joints, begun anew whenever the person is looked for.
        followed: FOLLOWED on the scale of the scores, where a curve has made these of the maps' peaks.
    """
    box, state = None, None
    for frame in video.frames:
        if box is None:
            state = None
        pose = predict(frame, box)
        if smooth:
            state = one_euro(state, pose.keypoints, 1 / video.rate, max(pose.box.w, pose.box.h))
            pose = replace(pose, keypoints=state.points)
        yield frame, pose
        box = next_box(pose, frame, followed)


def next_box(pose, frame: np.ndarray, followed: float = FOLLOWED) -> Box | None:
    """Where to look in the next frame, or None where the person is lost."""
    sure = pose.scores >= followed
    if sure.sum() < min(MIN_FOLLOWED, len(sure)):
        return None
    return Box.around(pose.keypoints[sure], min_size=max(1.0, 0.05 * max(frame.shape[:2])))


class Writer:
    """Writes RGB frames as an MPEG-4 video; use it in a `with` block."""

    def __init__(self, path: Path, rate: float):
        """The file is begun with the first frame, whose size all have."""
        self._path, self._rate = path, rate
        self._out: cv2.VideoWriter | None = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._out:
            self._out.release()

    def write(self, frame: np.ndarray) -> None:
        """Append (H, W, 3) uint8 RGB. Raises InputError where OpenCV cannot write videos."""
        # MPEG-4 has even sides; OpenCV would cut a row off, so one is repeated.
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
        if self._out is None:
            with _quiet():
                self._out = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate,
                                            frame.shape[1::-1])
            if not self._out.isOpened():
                raise InputError(f"{self._path}: this OpenCV cannot write .mp4 videos; pass --nodraw")
        self._out.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


@contextlib.contextmanager
def _quiet():
    """Keeps OpenCV's own words off the screen while it tries; what went wrong is said by us."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
