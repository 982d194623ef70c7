"""Poses on a device, by a .tflite file that posecascade exported: one file, for numpy and ai-edge-litert alone.

    python pose_tflite.py MODEL.tflite INPUT... [--json=FILE] [--draw=DIR] [--show] [--threads=N] [--no-smooth]

INPUT is an image, a video or a camera's number; reading, drawing and showing them needs OpenCV. One line of JSON per
image or frame, {"image", "box", "keypoints": {NAME: [x, y, score, visibility]}}, goes to standard output or to FILE.
As a library:

    model = PoseModel("keypoints_int8.tflite")
    pose = model(image)                # (H, W, 3) uint8 RGB; or model(image, (x, y, w, h)) if the person's box is known
    track = Tracker(model)             # for video: follows the person, smooths the keypoints
    pose = track(frame, seconds)       # since the previous frame

It is a small copy of posecascade's predictor, images, video and smoothing; tests compare the two. Pixels
are (x, y), the center of the top left one is (0, 0); boxes are x, y, w, h. Apache-2.0.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

CONFIDENT, MIN_CONFIDENT, MIN_SIDE, UNSURE, TILES = 0.3, 3, 0.05, 0.4, 3  # the search
ROUNDS, MIN_SCORE_RATIO, CONVERGED_IOU, GRID, PADDING = 2, 0.8, 0.9, 32, 1.25
EDGE, DECODER = 1e-4, "decoder.tflite"  # the score calibration, exported files
FOLLOWED, USUAL_RATE, MIN_CUTOFF, GROWTH, SPEED_CUTOFF = 0.15, 25.0, 1.0, 10.0, 1.0  # video.py, smoothing.py
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".ts", ".3gp",
          ".flv", ".ogv")
MOVING = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"FLV", b"OggS", b"\0\0\x01\xba", b"GIF8")
LEFT, RIGHT, MIDDLE, OUTLINE = (255, 140, 60), (40, 130, 255), (90, 220, 90), (20, 20, 20)  # BGR, as in drawing.py


class InputError(ValueError):
    """An error that the user can fix, in one line."""


class Pose(NamedTuple):
    """Keypoints (K, 2) in pixels of the image, scores and visibility (K,) in 0..1, and the box that was cropped."""

    keypoints: np.ndarray
    scores: np.ndarray
    visibility: np.ndarray
    box: tuple


def contents_of(path):
    """Return an exported file's bytes, posecascade.json and decoder (or None); InputError if a byte has changed."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of posecascade-export") from None
    if data[-71:-64] != b"sha256:":
        raise InputError(f"{path}: does not end with the checksum of posecascade-export; copy it again, or give "
                         "another .tflite file")
    if hashlib.sha256(data[:-64]).hexdigest().encode() != data[-64:]:
        raise InputError(f"{path}: is damaged (its checksum differs); copy or download it again")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        decoder = archive.read(DECODER) if DECODER in archive.namelist() else None
        return data, json.loads(archive.read("posecascade.json")), decoder


class PoseModel:
    """An exported model of either kind and any precision; call it. `names`, `limbs`, `pairs` describe its keypoints.

    Pass the module `cv2` if it is installed: crops then equal posecascade's; without it they differ by one gray level.
    """

    def __init__(self, path, threads=2, cv2=None):
        data, sidecar, decoder = contents_of(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError("ai-edge-litert is not installed; python -m pip install ai-edge-litert") from None
        card, self._cv2 = sidecar["model"], cv2
        self.names, self.limbs, self.pairs = (card["schema"][key] for key in ("keypoints", "limbs", "pairs"))
        self.size = card["input_size"]
        if sidecar["kind"] == "decoder":
            raise InputError(f"{path}: takes maps, expected a model of images; give a heatmaps or keypoints file")
        if sidecar["kind"] == "heatmaps" and decoder is None:
            raise InputError(f"{path}: holds no {DECODER} (exported before 2026-12); export the model again, or give a "
                             "keypoints file")
        self._curve = card.get("calibration", [1.0, 0.0])
        def runner(model):
            try:
                interpreter = Interpreter(model_content=model, num_threads=threads)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise InputError(f"{path}: LiteRT cannot run it on {threads} threads ({error}); check their number, or "
                                 "update ai-edge-litert") from None
            [key] = interpreter.get_signature_list()
            return interpreter.get_signature_runner(key)

        self._call, self._decode = runner(data), runner(decoder) if decoder else None
        self._dtype = self._call.get_input_details()["crop"]["dtype"]

    def __call__(self, image, box=None):
        """Return the pose of one person in (H, W, 3) uint8 RGB; without a box (x, y, w, h) search the image."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"image: has shape {image.shape} of {image.dtype}, expected (H, W, 3) uint8 RGB")
        if box is not None:
            if len(box) != 4 or not (np.abs(box).max() <= 1e7 and min(box[2:]) > 0 and max(box[2:]) >= 1e-3):
                raise InputError(f"box {box}: expected x, y, w, h in pixels with w, h > 0, none beyond 1e7")
            return self._look(image, tuple(map(float, box)))
        height, width = image.shape[:2]
        pose = self._look(image, box_in(-0.5, -0.5, width, height))
        if pose.scores.mean() < self._calibrated(np.float64(UNSURE)):
            pose = max([pose, *(self._look(image, box) for box in tile_boxes(width, height))],
                       key=lambda found: found.scores.mean())
        least = self._calibrated(np.float64(CONFIDENT))
        for _ in range(ROUNDS):
            box = confident_box(pose, image, least)
            again = box and self._look(image, box)
            if not again or again.scores.mean() < MIN_SCORE_RATIO * pose.scores.mean():
                break
            pose = again
        return pose

    def answer(self, image, pose):
        """Return the object of a line of predictions.jsonl."""
        rows = np.column_stack([pose.keypoints, pose.scores, pose.visibility]).tolist()
        return {"image": image, "box": [round(v, 3) for v in pose.box], "keypoints": {
            name: [round(x, 3), round(y, 3), round(score, 4), round(visibility, 4)]
            for name, (x, y, score, visibility) in zip(self.names, rows, strict=True)}}

    def _look(self, image, box):
        crop, scale, start = cropped(image, box, self.size, self._cv2)
        found = finite(self._call(crop=crop[None].astype(self._dtype)))
        if self._decode:
            found = finite(self._decode(**found))
        points, scores, visibility = (found[name][0] for name in ("keypoints", "scores", "visibility"))
        return Pose(points.astype(np.float64) / scale + start, scores, visibility, box)

    @property
    def followed(self):
        """The least score of a keypoint that counts for the next frame's box."""
        return self._calibrated(np.float64(FOLLOWED))

    def _calibrated(self, scores):
        if self._curve == [1.0, 0.0]:
            return scores
        inside = np.clip(scores, EDGE, 1 - EDGE)
        return 0.5 * (1 + np.tanh(0.5 * (self._curve[0] * (np.log(inside) - np.log1p(-inside)) + self._curve[1])))


def finite(arrays):
    """Return the arrays by name without NaN and infinities, which a diverged model gives."""
    return {name: np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0) for name, values in arrays.items()}


def cropped(image, box, size, cv2=None):
    """Return the crop around the box, (size, size, 3) uint8, its scale, and the place of its pixel 0 in the image."""
    x, y, w, h = box
    scale = size / (PADDING * max(w, h))
    start = np.array([x + w / 2, y + h / 2]) - (size - 1) / 2 / scale
    factor = 1
    while factor < 64 and 1 / scale >= 2 * factor:  # blocks are averaged first, so that nothing is skipped
        factor *= 2
    limits = np.array(image.shape[1::-1])
    low = np.clip(np.floor(start / factor).astype(int) - 2, 0, None) * factor
    high = np.clip((np.ceil((start + (size - 1) / scale) / factor).astype(int) + 3) * factor, 0, limits)
    if (high <= low).any():
        return np.full((size, size, 3), 127, np.uint8), scale, start
    part = shrunk(image[low[1]:high[1], low[0]:high[0]], factor)
    if cv2:
        shift = (size - 1) / 2 - scale * np.array([x + w / 2, y + h / 2]) + scale * (low + (factor - 1) / 2)
        matrix = np.column_stack([np.eye(2) * (scale * factor), shift])
        return cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
                              borderValue=(127, 127, 127)), scale, start
    part = np.pad(part, ((1, 1), (1, 1), (0, 0)), constant_values=127)  # gray outside the image
    for axis in (0, 1):
        at = (start[1 - axis] - low[1 - axis] - (factor - 1) / 2 + np.arange(size) / scale) / factor + 1
        floor = np.floor(at)
        share = (at - floor).astype(np.float32).reshape((size, 1, 1) if axis == 0 else (1, size, 1))
        one, two = (part.take(np.clip(floor + more, 0, part.shape[axis] - 1).astype(int), axis).astype(np.float32)
                    for more in (0, 1))
        part = one + (two - one) * share
    return np.rint(part).astype(np.uint8), scale, start


def shrunk(image, factor):
    """Return the averages of blocks of factor x factor pixels; edge pixels repeat to complete blocks."""
    if factor == 1:
        return image
    rest = [(0, -side % factor) for side in image.shape[:2]]
    total = np.pad(image, (*rest, (0, 0)), "edge") if np.any(rest) else image
    for axis in (0, 1):
        parts = [total[i::factor] if axis == 0 else total[:, i::factor] for i in range(factor)]
        total = parts[0].astype(np.uint16 if factor <= 16 else np.uint32)  # 16 x 16 x 255 is below 2 ** 16
        for part in parts[1:]:
            total += part
    return ((total + 2) // 4 if factor == 2 else np.rint(total / factor ** 2)).astype(np.uint8)  # as OpenCV rounds


def box_around(pose, image, least):
    """Return the tight box of the keypoints with a score of `least` or more; None if they are too few."""
    confident = pose.scores >= least
    if confident.sum() < min(MIN_CONFIDENT, len(confident)):
        return None
    low, high = pose.keypoints[confident].min(0), pose.keypoints[confident].max(0)
    size = np.maximum(high - low, max(1.0, MIN_SIDE * max(image.shape[:2])))
    return (*map(float, (low + high) / 2 - size / 2), *map(float, size))


def box_in(x, y, width, height):
    """Return the box whose crop is the square around these pixels."""
    side = math.ceil(max(width, height) / PADDING)
    return (x + (width - side) / 2, y + (height - side) / 2, float(side), float(side))


def tile_boxes(width, height):
    """Return the squares of the shorter side along an image's longer one; none for a square image."""
    shorter = min(width, height)
    return [box_in((width - shorter) * part / (TILES - 1) - 0.5, (height - shorter) * part / (TILES - 1) - 0.5,
                   shorter, shorter) for part in range(TILES) if width != height]


def confident_box(pose, image, least):
    """Return the box to crop next, on a grid of about 1/32 of its side; None if it hardly differs from the last one."""
    box = box_around(pose, image, least)
    if box is None:
        return None
    step = 2.0 ** math.floor(math.log2(max(box[2:]) / GRID))
    low = [math.floor(v / step) * step for v in box[:2]]
    size = [math.ceil((v + side) / step) * step - start for v, side, start in zip(box, box[2:], low, strict=False)]
    new, old = (*low, *size), pose.box
    both = math.prod(max(min(new[i] + new[i + 2], old[i] + old[i + 2]) - max(new[i], old[i]), 0.0) for i in (0, 1))
    return None if both / (new[2] * new[3] + old[2] * old[3] - both) >= CONVERGED_IOU else new


class Tracker:
    """Follows one person: crops around the last frame's keypoints and smooths them with a One-Euro filter."""

    def __init__(self, model, smooth=True):
        self._model, self._smooth, self._box, self._state = model, smooth, None, None

    def __call__(self, frame, seconds):
        """Return the pose in a frame (H, W, 3) uint8 RGB, `seconds` after the previous one."""
        pose = self._model(frame, self._box)
        if self._smooth:
            pose = pose._replace(keypoints=self._filtered(pose.keypoints, max(seconds, 1e-3), max(pose.box[2:])))
        self._box = box_around(pose, frame, self._model.followed)
        if self._box is None:
            self._state = None
        return pose

    def _filtered(self, points, seconds, size):
        def weight(cutoff):
            return 1 / (1 + 1 / (2 * math.pi * cutoff * seconds))

        last, speed = self._state or (points, np.zeros_like(points))
        speed = speed + weight(SPEED_CUTOFF) * ((points - last) / seconds - speed)
        cutoff = MIN_CUTOFF + GROWTH * np.linalg.norm(speed, axis=-1, keepdims=True) / size
        self._state = (last + weight(cutoff) * (points - last), speed)
        return self._state[0]


# What follows needs OpenCV.


def read_image(cv2, path):
    """Return (H, W, 3) uint8 RGB, turned upright, transparency over white."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"image {path}: cannot be read ({error.strerror}); check the path") from None
    at, jpeg = 2, data[:3] == b"\xff\xd8\xff"
    while jpeg and data[at:at + 1] == b"\xff" and data[at + 1:at + 2] != b"\xda":  # up to the scan, past thumbnails
        at += 1 if data[at + 1:at + 2] == b"\xff" else 2 + int.from_bytes(data[at + 2:at + 4], "big")
    if jpeg and data.find(b"\xff\xd9", at) < 0:
        raise InputError(f"image {path}: the JPEG data end too early; copy the file again")
    encoded = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR if jpeg else cv2.IMREAD_UNCHANGED) if data else None
    if image is not None and not jpeg and image.shape[2:] != (4,):  # unchanged, it would not be turned either
        image = cv2.imdecode(encoded, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise InputError(f"image {path}: cannot be decoded; save it again as JPEG or PNG")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2:] == (4,):
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        turned = orientation(data)
        image = image.swapaxes(0, 1) if turned >= 5 else image
        image = image[:, ::-1] if turned in (2, 3, 6, 7) else image
        image = image[::-1] if turned in (3, 4, 7, 8) else image
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB)


def orientation(data):
    """Return the EXIF orientation in the bytes of a PNG or WebP; 1 if there is none."""
    png = data[:4] == b"\x89PNG"
    at, order = (8, "big") if png else (12, "little")
    while data[:4] in (b"\x89PNG", b"RIFF") and at + 8 <= len(data):
        span, kind = (data[at:at + 4], data[at + 4:at + 8]) if png else (data[at + 4:at + 8], data[at:at + 4])
        length = int.from_bytes(span, order)
        if kind in (b"eXIf", b"EXIF"):
            tiff = data[at + 8:at + 8 + length].removeprefix(b"Exif\0\0")
            end = "little" if tiff[:2] == b"II" else "big"
            first = int.from_bytes(tiff[4:8], end) + 2
            for entry in range(first, first + 12 * int.from_bytes(tiff[first - 2:first], end), 12):
                if int.from_bytes(tiff[entry:entry + 2], end) == 0x0112:
                    return int.from_bytes(tiff[entry + 8:entry + 10], end)
        at += 8 + length + (4 if png else length % 2)
    return 1


def is_video(path):
    """Return whether the file is a video, by its first bytes or, if these say nothing, by its name."""
    try:
        with open(path, "rb") as file:
            head = file.read(400)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    stream = any(head[at:at + 1] == head[at + step:at + step + 1] == b"G" for at, step in ((0, 188), (4, 192)))
    image = head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM"))
    return not image and (stream or head.startswith(MOVING) or Path(path).suffix.lower() in VIDEOS)


@contextlib.contextmanager
def unicode_path(path):
    """Yield a path of the file that OpenCV can open: it crashes on names that are not UTF-8."""
    if not any("\ud800" <= character <= "\udfff" for character in str(path)):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / ("file.mp4" if Path(path).suffix == ".mp4" else "file")
        link.symlink_to(Path(path).absolute())
        yield str(link)


def text_of(name):
    """Return a file's name as text, as posecascade writes it: bytes that are not UTF-8 as \\xNN."""
    if not any("\ud800" <= character <= "\udfff" for character in name):
        return name
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name.replace("\\", "\\\\"))


def frames(cv2, word):
    """Yield (name, RGB image, seconds since the previous frame or None for an image) of an INPUT."""
    camera = word.isdecimal() and not Path(word).exists()
    if not camera and not is_video(word):
        yield text_of(word), read_image(cv2, word), None
        return
    with contextlib.nullcontext(int(word)) if camera else unicode_path(word) as source:
        capture = cv2.VideoCapture(source)
    read, frame = capture.read()
    if not read:
        raise InputError(f"{'camera' if camera else 'video'} {word}: cannot be opened, or has no frame; check its "
                         f"{'number' if camera else 'path, or convert it to .mp4 in H.264'}")

    def now():  # a camera gives a frame whenever the model is ready
        return time.monotonic() if camera else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    usual, number, last = 1 / frame_rate(cv2, capture), 0, now()
    seconds = usual
    while read:
        yield text_of(f"{word}#{number}"), cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), seconds
        read, frame = capture.read()
        number, before, last = number + 1, last, now()
        seconds = last - before if last > before else usual


def frame_rate(cv2, capture):
    """Return the frames per second that a video or camera says it has."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= 1000 else USUAL_RATE


def mean_rate(cv2, word):
    """Return the mean number of frames per second of a video file, by its time stamps."""
    with unicode_path(word) as source:
        capture = cv2.VideoCapture(source)
    times = []
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    passed = times[-1] - times[0] if times else 0
    return (len(times) - 1) / passed if passed > 0 else frame_rate(cv2, capture)


def open_video(cv2, path, word, seconds, image):
    """Return the writer of a video of images of this size, at the mean rate of the video `word`."""
    rate = mean_rate(cv2, word) if Path(word).is_file() else 1 / seconds
    with contextlib.suppress(OSError):  # reported when it is not opened
        Path(path).touch()  # what a link points to
    with unicode_path(path) as target:
        return cv2.VideoWriter(target, cv2.VideoWriter_fourcc(*"mp4v"), rate, image.shape[1::-1])


def write_jpeg(cv2, path, canvas):
    """Write the image; return whether that was possible."""
    written, data = cv2.imencode(".jpg", canvas)
    try:
        return written and Path(path).write_bytes(data.tobytes()) > 0
    except OSError:
        return False


def drawn(cv2, image, pose, model, least):
    """Return the image, BGR, with limbs and keypoints: left blue, right orange, occluded hollow."""
    image, width = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), max(round(max(image.shape[:2]) / 250), 1)
    colors = {name: color for pair in model.pairs for name, color in zip(pair, (LEFT, RIGHT), strict=True)}
    places = np.rint(np.clip(pose.keypoints, -30000, 30000)).astype(int).tolist()
    at = {name: place for name, place, score in zip(model.names, places, pose.scores, strict=True) if score >= least}
    for a, b in model.limbs:
        if a in at and b in at:
            ours = {colors[name] for name in (a, b) if name in colors}
            cv2.line(image, at[a], at[b], ours.pop() if len(ours) == 1 else MIDDLE, width, cv2.LINE_AA)
    for name, seen in zip(model.names, pose.visibility, strict=True):
        if name in at:
            cv2.circle(image, at[name], 2 * width, OUTLINE, -1, cv2.LINE_AA)
            inner, thickness = (2 * width - 1, -1) if seen >= 0.5 else (2 * width, max(width // 2, 1))
            cv2.circle(image, at[name], inner, colors.get(name, MIDDLE), thickness, cv2.LINE_AA)
    return image


def output_path(folder, word, suffix, used):
    """Return a path in the folder that no earlier input used."""
    stem, number = Path(word).stem, 1
    while (path := folder / (f"{stem}_{number}" if number > 1 else stem)) in used:
        number += 1
    used.append(path)
    return f"{path}{suffix}"


def predict_all(options, lines):
    """Predict on all inputs, write `lines`, and return how many inputs could not be read."""
    os.environ |= {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}  # this file reports errors itself
    try:
        import cv2
    except ImportError:
        raise InputError("OpenCV is not installed; python -m pip install opencv-python, or use PoseModel on arrays "
                         "from Python") from None
    model, used, failed = PoseModel(options.model, options.threads, cv2), [], 0
    for word in options.inputs:
        track, video, path = Tracker(model, smooth=not options.no_smooth), None, None
        try:
            for name, image, seconds in frames(cv2, word):
                pose = track(image, seconds) if seconds else model(image)
                print(json.dumps(model.answer(name, pose)), file=lines, flush=True)
                if not (options.draw or options.show):
                    continue
                canvas = drawn(cv2, image, pose, model, options.min_score)
                if options.draw:
                    path = path or output_path(options.draw, word, ".mp4" if seconds else ".jpg", used)
                    if seconds and not video:
                        video = open_video(cv2, path, word, seconds, image)
                    if not (video.isOpened() if video else write_jpeg(cv2, path, canvas)):
                        raise InputError(f"{path}: cannot be written; choose another --draw, or omit it")
                if video:
                    video.write(canvas)
                if options.show and stop_requested(cv2, canvas, 1 if seconds else 0):
                    break
        except InputError as error:
            failed += 1
            print(f"pose_tflite.py: {error}", file=sys.stderr)
        finally:
            if video:
                video.release()
    return failed


def stop_requested(cv2, canvas, milliseconds):
    """Show the image; return whether q or Escape was pressed within the time (0: no limit)."""
    try:
        cv2.imshow("posecascade", canvas)
        return cv2.waitKey(milliseconds) in (ord("q"), 27)
    except cv2.error:
        raise InputError("this OpenCV has no windows; install opencv-python in place of opencv-python-headless, or "
                         "omit --show") from None


def main():
    """Run the command; return 0, 2 if something could not be read or written, or 130 if it was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", help="a .tflite file of posecascade-export")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="an image, a video or a camera's number")
    parser.add_argument("--json", metavar="FILE", help="write the lines here instead of to standard output")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write images and videos with the poses drawn")
    parser.add_argument("--show", action="store_true", help="show them in a window; q ends")
    parser.add_argument("--threads", type=int, default=2, help="of the interpreter (default: 2)")
    parser.add_argument("--no-smooth", action="store_true", help="do not smooth the keypoints of videos")
    parser.add_argument("--min_score", type=float, default=0.25, help="keypoints below are not drawn (default: 0.25)")
    options = parser.parse_args()
    draft, code = options.json and Path(f"{options.json}.part"), 2
    try:
        if options.draw:
            options.draw.mkdir(parents=True, exist_ok=True)
        with open(draft, "w", encoding="utf-8") if draft else contextlib.nullcontext(sys.stdout) as lines:
            code = 2 if predict_all(options, lines) else 0
    except BrokenPipeError:  # the reader (such as head) has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (InputError, OSError) as error:
        print(f"pose_tflite.py: {error}", file=sys.stderr)
    except KeyboardInterrupt:  # the usual way to stop a camera: its lines are kept
        code = 130
    finally:
        if draft and draft.exists():
            draft.replace(options.json) if draft.stat().st_size else draft.unlink()
    return code


if __name__ == "__main__":
    sys.exit(main())
