"""Read videos and cameras, track one person's pose from frame to frame, and write videos."""

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

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silences FFmpeg; read when the first video is opened
SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".gif")
CODECS = {"av01": "AV1", "vvc1": "H.266", "vp09": "VP9", "hev1": "H.265", "hvc1": "H.265"}
USUAL_RATE = 25.0  # frames per second if the file or camera reports none
FOLLOWED = 0.15    # minimum peak of a keypoint that counts for the next frame's box; lower than in `search`
MIN_FOLLOWED = 3   # number of such keypoints; with fewer, the person is searched for again


@dataclass(frozen=True)
class Video:
    """An open video.

    Attributes:
        name: as passed to `opened`.
        rate: frames per second.
        frames: (H, W, 3) uint8 RGB each, turned upright; can be iterated once.
    """

    name: str
    rate: float
    frames: Iterator[np.ndarray]


@contextlib.contextmanager
def opened(source: Path | int, name: str) -> Iterator[Video]:
    """Open a video file, or the camera with that number, and close it when the block ends.

    Raises InputError if it cannot be opened or has no frame.
    """
    with _quiet():
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        read, first = capture.read() if capture.isOpened() else (False, None)
    if not read:
        problem = _problem(capture, source, name)
        capture.release()
        raise InputError(problem)
    rate = capture.get(cv2.CAP_PROP_FPS)
    try:
        yield Video(name, rate if math.isfinite(rate) and 1 <= rate <= 1000 else USUAL_RATE, _frames(capture, first))
    finally:
        capture.release()


def _problem(capture, source, name):
    """Return the message about a source without a frame; it names the codec of a file that could be opened."""
    if isinstance(source, int):
        return f"camera {name}: cannot be opened, or no frame can be decoded; check the number"
    code = (int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1")
    codec = CODECS.get(code.lower(), code) if capture.isOpened() and code.isprintable() else ""
    found = f"is coded in {codec}, which cannot be decoded here, or is damaged" if codec else \
        "cannot be opened, or no frame can be decoded"
    return (f"video {name}: {found}; copy it again, or convert it to H.264, as by ffmpeg -i {name} -c:v libx264 "
            "-pix_fmt yuv420p converted.mp4")


def _frames(capture, frame):
    read = True
    while read:
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        read, frame = capture.read()


def follow(predict: Callable, video: Video, *, smooth: bool,
           followed: float = FOLLOWED) -> Iterator[tuple[np.ndarray, object]]:
    """Yield each frame with its `Pose`.

    The crop is that of the box around the previous frame's keypoints. The person is searched for in the first frame,
    and after a frame in which fewer than MIN_FOLLOWED keypoints have a score of at least `followed`.

    Args:
        predict: `Predictor.predict`.
        video: the frames.
        smooth: apply the One-Euro filter to the keypoints; it is reset whenever the person is searched for.
        followed: FOLLOWED on the scale of the model's scores, that is, after its calibration.
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
    """Return the box to crop in the next frame, or None if the person is lost."""
    return pose.tight_box(followed, MIN_FOLLOWED, max(1.0, 0.05 * max(frame.shape[:2])))


class Writer:
    """Writes RGB frames as an MPEG-4 video; use it in a `with` block."""

    def __init__(self, path: Path, rate: float):
        """Create the file with the first frame; all frames must have its size."""
        self._path, self._rate = path, rate
        self._out: cv2.VideoWriter | None = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._out:
            self._out.release()

    def write(self, frame: np.ndarray) -> None:
        """Append (H, W, 3) uint8 RGB. Raises InputError if OpenCV cannot write videos."""
        # MPEG-4 needs even sides: the last row and column are repeated, because OpenCV would cut them off.
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
        if self._out is None:
            with _quiet():
                self._out = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate,
                                            frame.shape[1::-1])
            if not self._out.isOpened():
                raise InputError(f"{self._path}: this build of OpenCV cannot write .mp4 videos; pass --nodraw")
        self._out.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


@contextlib.contextmanager
def _quiet():
    """Silence OpenCV's log within the block; failures are reported as InputError instead."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
