"""posecascade-predict INPUT... [--model=MODEL] [--output=DIR]: poses by joint name, in pixels of the pictures given.

INPUT is a picture, a folder (the pictures directly in it, sorted by name), a video, a camera's number, a .jsonl file
of lines {"image": PATH, "box": [x, y, w, h]}, or - for such lines on standard input. Without "box" the person is
looked for. PATH counts from the working folder or, where nothing is there, from the file's. Pictures are turned
upright as their EXIF tag says; boxes and poses are in the upright picture's pixels.

DIR gets predictions.jsonl, a line {"image", "box", "keypoints": {NAME: [x, y, score, visibility]}} per person or
frame; predictions.csv, the same as a table; and overlays/NAME.jpg, or NAME.mp4 of a video, whose frames are "VIDEO#0"
and on. Joints with a score below --min_score are not drawn, those that the detector does not see are drawn hollow.

What cannot be read is told in a line each, the rest is written. The exit code is 2 where that was an INPUT or a line
of JSON, or where nothing was left; unreadable pictures in a folder are only told and counted. Interrupted with Ctrl-C,
which also ends a camera, it keeps what it has.
"""

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import flags

from posecascade import files, images
from posecascade.cli import app
from posecascade.cli.run_summary import Tally
from posecascade.drawing import draw_pose, write_image
from posecascade.errors import InputError
from posecascade.geometry import shrink_transform
from posecascade.inference import video
from posecascade.inference.inputs import requests_from
from posecascade.poses_io import PoseWriter, Request, answer

FLAGS = flags.FlagValues()
flags.DEFINE_string("model", "base", "base or lite, which come with the package, or a trained model: a .keras file, a "
                    "run's folder, or an export: its folder or one of its .tflite files", flag_values=FLAGS)
flags.DEFINE_string("output", "poses", "folder to write to", flag_values=FLAGS)
flags.DEFINE_bool("draw", True, "draw the poses on the pictures and videos", flag_values=FLAGS)
flags.DEFINE_bool("smooth", True, "smooth the joints of videos (One-Euro filter)", flag_values=FLAGS)
flags.DEFINE_bool("flip_test", False, "average with the mirrored picture: twice the time", flag_values=FLAGS)
flags.DEFINE_string("decoder", None, "argmax, quarter, dark or soft (default: the one the model was measured with)",
                    flag_values=FLAGS)
flags.DEFINE_enum("protocol", "default", ("default", "paper"), "paper: decode as the paper did (argmax at full "
                  "resolution, always flip-averaged)", flag_values=FLAGS)
flags.DEFINE_float("min_score", 0.25, "joints with a lower score are left out of overlays (not of the files)",
                   lower_bound=0, upper_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "pictures predicted at once", lower_bound=1, flag_values=FLAGS)

OVERLAY_LIMIT = 4096       # px: larger pictures are drawn shrunk
PIXELS_AT_ONCE = 10 ** 8   # of pictures waiting for a batch: 300 MB


class _Outputs:
    """The files of a run, and what went wrong."""

    def __init__(self, folder: Path, writer: PoseWriter):
        self.folder, self.writer = folder / "overlays", writer
        self.tally = Tally("posecascade-predict")
        self._names: set[str] = set()

    def unique(self, name: str, suffix: str) -> Path:
        """A path among the overlays that nothing has yet: NAME, NAME_2, ..., whatever the file system's case."""
        stem = Path(name).stem or "image"
        choice, number = stem, 1
        while (choice + suffix).lower() in self._names:
            number += 1
            choice = f"{stem}_{number}"
        self._names.add((choice + suffix).lower())
        return self.folder / (choice + suffix)

    def write(self, image: str, pose, box=None) -> None:
        self.writer.write(answer(image, pose, box))
        self.tally.count()


def main(arguments: list[str]) -> None:
    """Predict on every input; InputError at the end where one could not be read."""
    for name in ("model", "output"):
        if not FLAGS[name].value:
            example = "a model's name, file or folder" if name == "model" else "a folder to write to"
            raise InputError(f"--{name} is empty; pass --{name}=..., {example}")
    if not arguments:
        raise InputError("no INPUT is given; name pictures, folders, videos, a camera's number, .jsonl files or -")
    folder = Path(FLAGS.output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output={folder}: is a file, expected a folder")
    from posecascade.inference import predictor  # here, because a wrong flag need not wait for it

    with app.quietly():  # TensorFlow and LiteRT write start-up lines
        predict = predictor.load(FLAGS.model, flip_test=FLAGS.flip_test, decoder=FLAGS.decoder, protocol=FLAGS.protocol,
                                 batch_size=FLAGS.batch_size)
    try:
        tally = _predict_all(arguments, predict, folder)
    except OSError as error:  # of reading, every one is told where it happens
        raise InputError(f"--output={folder}: cannot be written ({error.strerror}); free or choose another") from None
    left_out = f" ({tally.unreadable} pictures could not be read)" if tally.unreadable else ""
    print(f"{tally.written} poses written to {folder / 'predictions.jsonl'}{left_out}")
    tally.check_failed()


def _predict_all(arguments, predict, folder: Path) -> Tally:
    stopped = None
    with files.atomic_write(folder / "predictions.csv") as table, \
            files.atomic_write(folder / "predictions.jsonl") as lines, \
            open(table, "w", encoding="utf-8", errors="surrogateescape", newline="") as rows, \
            open(lines, "w", encoding="utf-8") as text:
        outputs = _Outputs(folder, PoseWriter(text, rows, predict.schema.keypoints))
        try:
            for word in arguments:
                _predict_input(word, predict, outputs)
        except (InputError, KeyboardInterrupt) as error:  # what is done so far is kept
            stopped = error
        if not stopped:
            outputs.tally.check_written()
        elif not outputs.tally.written:
            raise stopped
    if stopped:
        raise stopped
    return outputs.tally


def _predict_input(word: str, predict, outputs: _Outputs) -> None:
    path = Path(word)
    if word.isdecimal() and not path.exists():
        _predict_video(int(word), word, predict, outputs)
    elif path.suffix.lower() in video.SUFFIXES and path.is_file():
        _predict_video(path, word, predict, outputs)
    else:
        _predict_pictures(wanted(word, sys.stdin), predict, outputs)


def _predict_pictures(asked: Iterable[Request | InputError], predict, outputs: _Outputs) -> None:
    waiting, pixels = [], 0
    for request in asked:
        if isinstance(request, InputError):
            outputs.tally.fail(request)
            continue
        try:
            picture = images.ImageFile(request.path, upright=True).read()
        except InputError as error:
            outputs.tally.pass_over(error) if request.in_folder else outputs.tally.fail(request.told(error))
            continue
        waiting.append((request, picture))
        pixels += picture.shape[0] * picture.shape[1]
        if len(waiting) == FLAGS.batch_size or pixels > PIXELS_AT_ONCE:
            _predict_batch(waiting, predict, outputs)
            waiting, pixels = [], 0
    if waiting:
        _predict_batch(waiting, predict, outputs)


def _predict_batch(waiting, predict, outputs: _Outputs) -> None:
    poses = predict.predict_batch([picture for _, picture in waiting], [request.box for request, _ in waiting])
    for (request, picture), pose in zip(waiting, poses, strict=True):
        outputs.write(request.image, pose, request.box)
        if FLAGS.draw:
            write_image(outputs.unique(request.image, ".jpg"), overlay(picture, pose))


def _predict_video(source: Path | int, word: str, predict, outputs: _Outputs) -> None:
    stopped = None
    try:
        with contextlib.ExitStack() as stack:
            frames = stack.enter_context(video.opened(source, word))
            writer = None
            if FLAGS.draw:
                name = word if isinstance(source, Path) else f"camera_{word}"
                draft = stack.enter_context(files.atomic_write(outputs.unique(name, ".mp4")))
                writer = stack.enter_context(video.Writer(draft, frames.rate))
            try:
                poses = video.follow(predict.predict, frames, smooth=FLAGS.smooth,
                                     followed=float(predict.calibration(np.float64(video.FOLLOWED))))
                for number, (frame, pose) in enumerate(poses):
                    outputs.write(f"{word}#{number}", pose)
                    if writer:
                        writer.write(overlay(frame, pose))
            except KeyboardInterrupt as error:  # how a camera is stopped: its video is kept too
                stopped = error
    except InputError as error:
        outputs.tally.fail(error)
    if stopped:
        raise stopped


def overlay(picture, pose):
    """The picture with its pose, shrunk where its longer side is beyond OVERLAY_LIMIT."""
    factor = -(-max(picture.shape[:2]) // OVERLAY_LIMIT)
    return draw_pose(images.shrunk(picture, factor), shrink_transform(factor)(pose.keypoints), pose.schema,
                     visibility=pose.visibility, scores=pose.scores, min_score=FLAGS.min_score)


def console() -> None:
    """The command `posecascade-predict`."""
    app.run(main, FLAGS, __doc__)
