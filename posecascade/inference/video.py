"""Read videos and cameras, track one person's pose from frame to frame, and write videos."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from posecascade import files
from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.inference.smoothing import one_euro

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silences FFmpeg; read when the first video is opened
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
        interval: returns the seconds between the last frame and the one before; None if they are always 1 / rate.
    """

    name: str
    rate: float
    frames: Iterator[np.ndarray]
    interval: Callable[[], float] | None = None

    def seconds(self) -> float:
        """Return the seconds between the last frame of `frames` and the one before; after the first, 1 / rate."""
        return self.interval() if self.interval else 1 / self.rate


@contextlib.contextmanager
def opened(source: Path | int, name: str) -> Iterator[Video]:
    """Open a video file, or the camera with that number, and close it when the block ends.

    Raises InputError if it cannot be opened or has no frame.
    """
    with _capture(source) as capture:
        with _quiet():
            read, first = capture.read() if capture.isOpened() else (False, None)
        if not read:
            raise InputError(_problem(capture, source, name))
        rate = capture.get(cv2.CAP_PROP_FPS)
        clock = _Clock(capture, rate if math.isfinite(rate) and 0 < rate <= 1000 else USUAL_RATE,
                       camera=isinstance(source, int))
        yield Video(name, clock.rate, _frames(capture, first, clock), lambda: clock.seconds)


def mean_rate(source: Path, rate: float) -> float:
    """Return the mean number of frames per second by the time stamps of a video file; `rate` if it has none.

    The frames are decoded once more: a file says at its beginning how many there are per second, but if their intervals
    vary, that is not their mean.
    """
    with _capture(source) as capture:
        clock = _Clock(capture, rate, camera=False)
        while capture.grab():
            clock.tick()
    return (clock.frames - 1) / clock.total if clock.frames > 1 else rate


@contextlib.contextmanager
def _capture(source):
    """Yield OpenCV's reader of a file or camera, and close it."""
    with contextlib.nullcontext(source) if isinstance(source, int) else files.unicode_path(source) as path:
        with _quiet():
            capture = cv2.VideoCapture(path if isinstance(path, int) else str(path))
        try:
            yield capture
        finally:
            capture.release()


class _Clock:
    """Measures the time between frames: by the time stamps of a file, by the clock for a camera.

    Attributes:
        rate: frames per second, for frames without valid time stamps.
        seconds: between the last two frames.
        frames, total: number of frames, and the sum of their intervals in seconds.
    """

    def __init__(self, capture, rate: float, camera: bool):
        self.rate, self.seconds, self.frames, self.total = rate, 1 / rate, 0, 0.0
        self._now = time.monotonic if camera else lambda: capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._last = 0.0

    def tick(self) -> None:
        """Note that a frame was read."""
        now = self._now()
        passed = now - self._last
        if self.frames:
            self.seconds = passed if math.isfinite(passed) and passed > 0 else 1 / self.rate
            self.total += self.seconds
        self._last, self.frames = now, self.frames + 1


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


def _frames(capture, frame, clock):
    read = True
    while read:
        clock.tick()
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
            state = one_euro(state, pose.keypoints, video.seconds(), max(pose.box.w, pose.box.h))
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
            with _quiet(), files.unicode_path(self._path) as path:
                self._out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate,
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
