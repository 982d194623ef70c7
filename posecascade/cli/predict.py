"""posecascade-predict INPUT... [--model=MODEL] [--output=DIR]: predict human poses in images and videos.

INPUT is an image, a folder (the images directly in it, sorted by name), a video, the number of a camera, a .jsonl file
with lines {"image": PATH, "box": [x, y, w, h]}, or - for such lines on standard input. A relative PATH is resolved
against the working folder, then against the .jsonl file's folder. Without "box" the person is searched for. Images are
turned upright by their EXIF tag; boxes and keypoints are in pixels of the upright image.

Output in DIR:
  predictions.jsonl  one line {"image", "box", "keypoints": {NAME: [x, y, score, visibility]}} per person or frame;
                     "image" is VIDEO#0, VIDEO#1, ... for the frames of a video
  predictions.csv    the same as a table
  overlays/          NAME.jpg or NAME.mp4 with the poses drawn: keypoints with a score below --min_score are not drawn,
                     those with low visibility are drawn as circles
  results.json       with --format=coco, COCO's list of keypoint results; images.json has the images and their numbers

With --boxes the people are those of a detector, several per image. An image's number is that of its name
(000000000785.jpg), or of a COCO .json file given as INPUT, whose images are predicted.

Unreadable inputs are reported on standard error, one line each; the rest is written. The exit status is 2 if an INPUT
or a JSON line failed or no pose was written; unreadable images in a folder do not change it. Ctrl-C stops the command
(the way to end a camera); poses written so far are kept.
"""

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from posecascade import files, image_formats, images
from posecascade.cli import app, streams
from posecascade.cli.run_summary import RunSummary
from posecascade.drawing import draw_pose, write_image
from posecascade.errors import InputError
from posecascade.geometry import shrink_transform
from posecascade.inference import video
from posecascade.inference.inputs import requests_from
from posecascade.poses_io import PoseWriter, Request, answer

if TYPE_CHECKING:
    from posecascade.cli.coco_files import DetectedBoxes, ResultsFile

FLAGS = flags.FlagValues()
app.define_path("model", "base", "lite or base, which come with the package; a .keras file; the folder of a "
                "training run; or an export: its folder or one of its .tflite files", flag_values=FLAGS)
app.define_path("output", "poses", "folder to write to", flag_values=FLAGS)
flags.DEFINE_bool("draw", True, "draw the poses on copies of the images and videos, in overlays/", flag_values=FLAGS)
flags.DEFINE_bool("smooth", True, "smooth the keypoints of videos over time (One-Euro filter)", flag_values=FLAGS)
flags.DEFINE_bool("flip_test", False, "average the result with that of the mirrored image; takes twice the time",
                  flag_values=FLAGS)
flags.DEFINE_string("decoder", None, "how keypoints are read from the maps: argmax, quarter, dark or soft (default: "
                    "the decoder that the model was evaluated with)", flag_values=FLAGS)
flags.DEFINE_enum("protocol", "default", ("default", "paper"), "paper: decode as in the paper, by argmax at full "
                  "resolution, averaged with the mirrored image", flag_values=FLAGS)
flags.DEFINE_float("min_score", 0.25, "smallest score, 0 to 1, at which a keypoint is drawn; the .jsonl and .csv files "
                   "contain all keypoints", lower_bound=0, upper_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "number of images predicted at once", lower_bound=1, flag_values=FLAGS)

flags.DEFINE_enum("format", "jsonl", ("jsonl", "coco"), "coco: also write results.json, which pycocotools reads, and "
                  "images.json, the images with the numbers that it uses", flag_values=FLAGS)
app.define_path("boxes", None, "file of detected boxes, a list of {image_id, bbox, score, category_id}: predict in "
                "these boxes instead of searching for the person", flag_values=FLAGS)

OVERLAY_LIMIT = 4096       # px: larger images are drawn at reduced size
PIXELS_AT_ONCE = 10 ** 8   # of images waiting for a batch: 300 MB


class _Outputs:
    """The files and the summary of a run."""

    def __init__(self, folder: Path, writer: PoseWriter, results: "ResultsFile | None"):
        self.folder, self.writer, self.results = folder / "overlays", writer, results
        self.summary = RunSummary("posecascade-predict")
        self._names: set[str] = set()

    def unique(self, name: str, suffix: str) -> Path:
        """Return an unused path in overlays/: NAME, NAME_2, ..., unique also if the file system ignores case."""
        stem = Path(name).stem or "image"
        choice, number = stem, 1
        while (choice + suffix).lower() in self._names:
            number += 1
            choice = f"{stem}_{number}"
        self._names.add((choice + suffix).lower())
        return self.folder / (choice + suffix)

    def write(self, request: Request, pose, image) -> None:
        self.writer.write(answer(request.image, pose, request.box))
        if self.results:
            self.results.add(request, pose, image)
        self.summary.count()


def main(arguments: list[str]) -> None:
    """Predict every input; raise InputError at the end if one failed."""
    for name in ("model", "output"):
        if not FLAGS[name].value:
            expected = "the name, file or folder of a model" if name == "model" else "a folder to write to"
            raise InputError(f"--{name}: is empty; expected {expected}")
    if not arguments:
        raise InputError("no INPUT given; expected images, folders, videos, the number of a camera, .jsonl files or -")
    folder = Path(FLAGS.output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output={folder}: is a file; expected a folder")
    boxes = _coco_files().DetectedBoxes(FLAGS.boxes) if FLAGS.boxes else None
    if boxes and boxes.excluded:
        print(boxes.excluded, file=sys.stderr)
    from posecascade.inference import predictor  # not at the top: --help and wrong flags do not need the runtimes

    with app.quietly():  # TensorFlow and LiteRT write start-up lines
        predict = predictor.load(FLAGS.model, flip_test=FLAGS.flip_test, decoder=FLAGS.decoder, protocol=FLAGS.protocol,
                                 batch_size=FLAGS.batch_size)
    try:
        summary = _predict_all(arguments, predict, folder, boxes)
    except OSError as error:  # of writing: errors of reading are InputErrors
        raise InputError(f"--output={folder}: cannot be written ({error.strerror}); free disk space "
                         "or choose another folder") from None
    unreadable = f" ({summary.unreadable} images could not be read)" if summary.unreadable else ""
    streams.say(f"{summary.written} poses written to {folder / 'predictions.jsonl'}{unreadable}")
    summary.check_failed()


def _coco_files():
    """Return the module of COCO's files; not imported at the top, because it loads the readers of all data sets."""
    from posecascade.cli import coco_files

    return coco_files


def _predict_all(arguments, predict, folder: Path, boxes: "DetectedBoxes | None") -> RunSummary:
    stopped = None
    files.remove_drafts(folder, ("predictions.csv", "predictions.jsonl", "*.jpg", "*.mp4"))
    with files.atomic_write(folder / "predictions.csv") as table, \
            files.atomic_write(folder / "predictions.jsonl") as lines, \
            open(table, "w", encoding="utf-8", newline="") as rows, \
            open(lines, "w", encoding="utf-8") as text:
        outputs = _Outputs(folder, PoseWriter(text, rows, predict.schema.keypoints),
                           _coco_files().ResultsFile(predict.schema) if FLAGS.format == "coco" else None)
        try:
            for argument in arguments:
                _predict_input(argument, predict, outputs, boxes)
            if boxes and not outputs.summary.failed:
                boxes.check_used()
        except (InputError, KeyboardInterrupt) as error:  # poses written so far are kept
            stopped = error
        if not stopped:
            outputs.summary.check_written()
        elif not outputs.summary.written:
            raise stopped
    if outputs.results:
        outputs.results.write(folder)
    if stopped:
        raise stopped
    return outputs.summary


def _predict_input(argument: str, predict, outputs: _Outputs, boxes: "DetectedBoxes | None") -> None:
    path = Path(argument)
    if argument.isdecimal() and not path.exists():
        _predict_video(int(argument), argument, predict, outputs)
    elif path.is_file() and image_formats.kind_of_file(path) == "video":
        _predict_video(path, argument, predict, outputs)
    else:
        requests = _coco_files().listed_images(path) if path.suffix.lower() == ".json" else \
            requests_from(argument, sys.stdin, outputs.summary.note)
        _predict_images(boxes.requests(requests) if boxes else requests, predict, outputs)


def _predict_images(requests: Iterable[Request | InputError], predict, outputs: _Outputs) -> None:
    waiting, pixels, path, image = [], 0, None, np.empty((0, 0, 3), np.uint8)
    for request in requests:
        if isinstance(request, InputError):
            outputs.summary.fail(request)
            continue
        try:
            if request.path != path:  # several boxes of an image follow each other
                image, path = images.ImageFile(request.path, upright=True).read(), request.path
                count = image_formats.frame_count(path)
                if count > 1:
                    outputs.summary.note(f"image {request.image}: holds {count} images; the first was read")
        except InputError as error:
            outputs.summary.skip(error) if request.in_folder else outputs.summary.fail(request.with_origin(error))
            continue
        waiting.append((request, image))
        pixels += image.shape[0] * image.shape[1]
        if len(waiting) == FLAGS.batch_size or pixels > PIXELS_AT_ONCE:
            _predict_batch(waiting, predict, outputs)
            waiting, pixels = [], 0
    if waiting:
        _predict_batch(waiting, predict, outputs)


def _predict_batch(waiting, predict, outputs: _Outputs) -> None:
    poses = predict.predict_batch([image for _, image in waiting], [request.box for request, _ in waiting])
    for (request, image), pose in zip(waiting, poses, strict=True):
        outputs.write(request, pose, image)
        if FLAGS.draw:
            write_image(outputs.unique(request.image, ".jpg"), overlay(image, pose))


def _predict_video(source: Path | int, argument: str, predict, outputs: _Outputs) -> None:
    stopped = None
    try:
        with contextlib.ExitStack() as stack:
            frames = stack.enter_context(video.opened(source, argument))
            writer = None
            if FLAGS.draw:
                name = argument if isinstance(source, Path) else f"camera_{argument}"
                draft = stack.enter_context(files.atomic_write(outputs.unique(name, ".mp4")))
                rate = video.mean_rate(source, frames.rate) if isinstance(source, Path) else frames.rate
                writer = stack.enter_context(video.Writer(draft, rate))
            try:
                poses = video.follow(predict.predict, frames, smooth=FLAGS.smooth,
                                     followed=float(predict.calibration(np.float64(video.FOLLOWED))))
                for number, (frame, pose) in enumerate(poses):
                    outputs.write(Request(f"{argument}#{number}", Path(f"{argument}#{number}")), pose, frame)
                    if writer:
                        writer.write(overlay(frame, pose))
            except KeyboardInterrupt as error:  # Ctrl-C stops a camera; the video written so far is kept
                stopped = error
    except InputError as error:
        outputs.summary.fail(error)
    if stopped:
        raise stopped


def overlay(image, pose):
    """Return the image with its pose drawn, at reduced size if its longer side exceeds OVERLAY_LIMIT."""
    factor = -(-max(image.shape[:2]) // OVERLAY_LIMIT)
    return draw_pose(images.shrunk(image, factor), shrink_transform(factor)(pose.keypoints), pose.schema,
                     visibility=pose.visibility, scores=pose.scores, min_score=FLAGS.min_score)


def console() -> None:
    """The command `posecascade-predict`."""
    app.run(main, FLAGS, __doc__)
