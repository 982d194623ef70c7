"""posecascade-evaluate --model=MODEL --data=TYPE:ROOT [...]: score a model, or a file of predictions, by PCK and OKS.

  posecascade-evaluate --model=MODEL --data=lsp:DIR --json=report.json --plot=curve.png
  posecascade-evaluate --predictions=preds.mat --data=mpii_val:DIR
  posecascade-evaluate --model=MODEL --data=coco:DIR --boxes=detections.json --results=results.json

The command prints a table per data set, in per cent with 95 % bootstrap intervals. "limbs" is the mean over shoulders,
elbows, wrists, hips, knees and ankles; "auc" is the area under the curve from 0 to the main threshold.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from posecascade import datasets, files
from posecascade.cli import app, streams
from posecascade.datasets import coco_background
from posecascade.datasets.coco_background import Background
from posecascade.errors import InputError
from posecascade.evaluation import coco_results, detected, evaluate, matching, metrics, predictions
from posecascade.evaluation.predictions import Predictions
from posecascade.evaluation.report import Report, compare, comparison_table
from posecascade.records import Record
from posecascade.schema import find_schema

FLAGS = flags.FlagValues()
app.define_path("model", None, "lite or base, which come with the package; a .keras file; the folder of a training "
                "run; or an export: its folder or one of its .tflite files", flag_values=FLAGS)
app.define_path("predictions", None, "file of predictions to score instead of a model: JSON lines (.jsonl), or an "
                "array `pred` or `preds` of shape (N, K, 2) or (2, K, N) in a .mat, .h5, .hdf5 or .json file, "
                "or COCO's list of keypoint results (.json)", flag_values=FLAGS)
app.define_path("boxes", None, "file of detected boxes, a list of {image_id, bbox, score, category_id}: predict in "
                "these boxes instead of the annotated ones; people that were not detected count as missed",
                flag_values=FLAGS)
app.define_path("results", None, "file to write the predictions to, as COCO's list of keypoint results, which "
                "pycocotools reads; for one data set", flag_values=FLAGS)
flags.DEFINE_multi_string("data", [], "TYPE:ROOT, a data set; TYPE is one of " + ", ".join(datasets.READERS),
                          flag_values=FLAGS)
flags.DEFINE_enum("split", None, datasets.SPLITS, "split of each data set (default: test for lsp, val for the others)",
                  flag_values=FLAGS)
app.define_path("schema", None, "keypoint schema of data sets of type coco: a name or a .yaml file (default: "
                "coco17)", flag_values=FLAGS)
flags.DEFINE_enum("metric", None, evaluate.METRICS, "pck: PCK relative to the torso; pckh: PCK relative to the head; "
                  "oks: pck, and COCO's AP by pycocotools (default: pckh for MPII with head sizes, oks for COCO if "
                  "pycocotools is installed, otherwise pck)", flag_values=FLAGS)
flags.DEFINE_enum("protocol", "default", ("default", "paper"), "paper: as in the paper, decode by argmax at full "
                  "resolution, average with the mirrored image, crop MPII by its center and scale and LSP around the "
                  "image's center", flag_values=FLAGS)
flags.DEFINE_bool("flip_test", False, "average the result with that of the mirrored image; takes twice the time",
                  flag_values=FLAGS)
app.define_path("compare", None, "second model or file of predictions, for the paired difference between both",
                flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "number of people predicted at once", lower_bound=1, flag_values=FLAGS)
app.define_path("json", None, "file to write the report to, as JSON", flag_values=FLAGS)
app.define_path("plot", None, "file to draw the curves of PCK over the threshold into: .png, .svg or .pdf",
                flag_values=FLAGS)

DEFAULT_SPLITS = {"lsp": "test"}  # the official split; for other types "val", which is not trained on
PLOT_SUFFIXES = (".png", ".svg", ".pdf")

Answer = Callable[[list[Record]], Predictions]


@dataclass(frozen=True)
class _Data:
    spec: str
    kind: str
    split: str
    records: list[Record]
    metric: str
    background: Background | None


def main(arguments: list[str]) -> None:
    """Evaluate on every --data and print its table, then write --json and --plot."""
    _check(arguments)
    schema = find_schema(FLAGS.schema) if FLAGS.schema else None
    sets = [_read(spec, schema) for spec in FLAGS.data]
    models: dict[str, Callable] = {}
    first, second = {}, {}
    say = streams.say if FLAGS.json or FLAGS.plot else print  # the files are written also if nobody reads the tables
    for data in sets:
        first[data.spec] = _report(FLAGS.predictions or FLAGS.model, bool(FLAGS.predictions), data, models)
        say(f"\n{data.spec} (split {data.split})\n{first[data.spec].table()}")
        if FLAGS.compare:
            is_file = Path(FLAGS.compare).suffix.lower() in predictions.FORMATS
            second[data.spec] = _report(FLAGS.compare, is_file, data, models)
            names = (FLAGS.predictions or FLAGS.model, FLAGS.compare)
            say(f"\n{comparison_table(compare(first[data.spec], second[data.spec]), names)}")
    if FLAGS.json:
        files.write_json(FLAGS.json, _content(sets, first, second))
    if FLAGS.plot:
        _plot(Path(FLAGS.plot), first, second)


def _check(arguments):
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; options begin with --")
    if FLAGS.model and FLAGS.predictions:
        raise InputError("--model and --predictions are both given; pass one of them, and the other as --compare")
    if not FLAGS.model and not FLAGS.predictions:
        raise InputError("nothing to evaluate; pass --model=MODEL or --predictions=FILE")
    if not FLAGS.data:
        raise InputError("--data: is missing; pass TYPE:ROOT, such as --data=lsp:/data/lsp")
    if len(set(FLAGS.data)) < len(FLAGS.data):
        raise InputError("--data: the same data set is given more than once; pass each once")
    if FLAGS.predictions and not FLAGS.compare and (FLAGS.flip_test or FLAGS.protocol != "default"):
        raise InputError("--flip_test and --protocol need a --model; predictions in a file are already decoded")
    if FLAGS.boxes and not FLAGS.model:
        raise InputError("--boxes: needs a --model to predict in them; add --model=MODEL")
    if FLAGS.boxes and FLAGS.protocol == "paper":
        raise InputError("--boxes: --protocol=paper has boxes of its own; remove one of them")
    if FLAGS.results and len(FLAGS.data) > 1:
        raise InputError(f"--results={FLAGS.results}: holds the results of one data set, {len(FLAGS.data)} are given; "
                         "evaluate each on its own")
    if FLAGS.plot and Path(FLAGS.plot).suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"--plot={FLAGS.plot}: unknown suffix; expected one of {', '.join(PLOT_SUFFIXES)}")


def _read(spec, schema) -> _Data:
    kind, root = datasets.parse(spec)
    split = FLAGS.split or DEFAULT_SPLITS.get(kind, "val")
    notes: list[str] = []
    records = datasets.read(spec, split, schema, notes)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    if FLAGS.boxes or FLAGS.results:  # before hours of predicting
        matching.check_numbered(records, f"--boxes={FLAGS.boxes}" if FLAGS.boxes else f"--results={FLAGS.results}")
    metric = FLAGS.metric or evaluate.default_metric(kind, records)
    # Only COCO's AP, of several people per image, counts what is predicted besides the people of the records.
    several = FLAGS.boxes or FLAGS.predictions or FLAGS.compare
    background = coco_background.read_background(root, split, records) \
        if several and kind == "coco" and metric == "oks" else None
    return _Data(spec, kind, split, records, metric, background)


def _report(source: str, is_file: bool, data: _Data, models: dict[str, Callable]) -> Report:
    found = _predictions(source, is_file, data, models)
    if FLAGS.results and source == (FLAGS.predictions or FLAGS.model):
        files.write_json(FLAGS.results, predictions.as_results(found, data.records, FLAGS.results))
    return evaluate.score(found, data.records, metric=data.metric, background=data.background)


def _predictions(source: str, is_file: bool, data: _Data, models: dict[str, Callable]) -> Predictions:
    if is_file:
        return predictions.read_predictions(source, data.records, first_pixel=datasets.FIRST_PIXEL[data.kind])
    if source not in models:
        from posecascade.inference import predictor  # not at the top: files of predictions do not need the runtimes

        with app.quietly():  # TensorFlow and LiteRT write start-up lines
            models[source] = predictor.load(source, flip_test=FLAGS.flip_test, protocol=FLAGS.protocol)
    if FLAGS.boxes:
        detections, excluded = coco_results.read_detections(FLAGS.boxes)
        if excluded:
            print(excluded, file=sys.stderr)
        return detected.predicted_in_boxes(_with_progress(models[source], len(detections)), data.records, detections,
                                           FLAGS.boxes, background=data.background, batch_size=FLAGS.batch_size)
    box_of = evaluate.annotated_box
    if FLAGS.protocol == "paper":
        box_of = evaluate.paper_lsp_box if data.kind == "lsp" else evaluate.paper_box
    return evaluate.predicted(_with_progress(models[source], len(data.records)), data.records,
                              batch_size=FLAGS.batch_size, box_of=box_of)


def _with_progress(predict, people: int):
    """Return `predict`, which also shows its progress if standard error is a terminal."""
    if not sys.stderr.isatty():
        return predict
    done = 0

    def predict_and_report(images, boxes):
        nonlocal done
        poses = predict(images, boxes)
        done += len(images)
        print(f"\r{done} of {people} people", end="\n" if done == people else "", file=sys.stderr, flush=True)
        return poses

    return predict_and_report


def _content(sets, first, second) -> dict:
    """Return the content of the --json file: the settings, and a report per data set."""
    entries = {}
    for data in sets:
        entries[data.spec] = {"split": data.split, **first[data.spec].as_dict()}
        if FLAGS.compare:
            entries[data.spec]["comparison"] = {"with": FLAGS.compare,
                                                "rows": compare(first[data.spec], second[data.spec])}
    return {"model": FLAGS.model, "predictions": FLAGS.predictions, "protocol": FLAGS.protocol,
            "flip_test": FLAGS.flip_test or FLAGS.protocol == "paper", "data": entries}


def _plot(path: Path, first: dict[str, Report], second: dict[str, Report]) -> None:
    """Draw one panel per data set: per cent of keypoints against the threshold, a line per stage."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not at the top: its import takes half a second
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(first), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, spec in zip(figure.subplots(1, len(first), squeeze=False)[0], first, strict=True):
        report = first[spec]
        lines = {name: (distances, "-") for name, distances in report.stages.items()}
        if spec in second:
            lines[f"compared: {Path(FLAGS.compare).name}"] = (second[spec].result, "--")
        for name, (distances, style) in lines.items():
            axes.plot(metrics.thresholds(report.measure.limit), report.curve(distances), style, label=name)
        axes.set(title=spec, xlabel=f"threshold relative to the {report.measure.reference}", ylim=(0, 100),
                 xlim=(0, report.measure.limit), ylabel=f"{report.measure.name}, per cent of keypoints")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    with files.atomic_write(path) as draft:
        figure.savefig(draft)


def console() -> None:
    """The command `posecascade-evaluate`."""
    app.run(main, FLAGS, __doc__)
