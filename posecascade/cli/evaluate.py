"""posecascade-evaluate: score a model, or predictions that others made, by the field's protocols.

  posecascade-evaluate --model=MODEL --data=lsp:DIR --json=report.json --plot=curve.png
  posecascade-evaluate --predictions=preds.mat --data=mpii_val:DIR

Tables give per cent with 95 % bootstrap intervals; an "auc" is the area under the curve up to its last threshold,
"limbs" all shoulders, elbows, wrists, hips, knees and ankles together.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from posecascade import datasets, files
from posecascade.cli import app
from posecascade.errors import InputError
from posecascade.evaluation import evaluate, metrics, predictions
from posecascade.evaluation.predictions import Predictions
from posecascade.evaluation.report import Report, compare, comparison_table
from posecascade.records import Record
from posecascade.schema import find_schema

FLAGS = flags.FlagValues()
flags.DEFINE_string("model", None, "base or lite, which come with the package, or a trained model: a .keras file, a "
                    "run's folder, or an export: its folder or one of its .tflite files", flag_values=FLAGS)
flags.DEFINE_string("predictions", None, "score this file instead of a model: JSON lines (.jsonl), or an array `pred` "
                    "or `preds` (N, K, 2) or (2, K, N) in .mat, .h5 or .json", flag_values=FLAGS)
flags.DEFINE_multi_string("data", [], "TYPE:ROOT, repeatable; TYPE is one of " + ", ".join(datasets.READERS),
                          flag_values=FLAGS)
flags.DEFINE_enum("split", None, datasets.SPLITS, "of each data set (default: test for lsp, else val)",
                  flag_values=FLAGS)
flags.DEFINE_string("schema", None, "joints of your own COCO-style file: a name or a .yaml file", flag_values=FLAGS)
flags.DEFINE_enum("metric", None, evaluate.METRICS, "pckh (MPII), pck (of the torso) or oks (pck and COCO's AP); "
                  "default: by the data set", flag_values=FLAGS)
flags.DEFINE_enum("protocol", "default", ("default", "paper"), "paper: decode as the paper did (argmax at full "
                  "resolution, always flip-averaged; MPII cropped by its center and scale, LSP round the picture's "
                  "middle)", flag_values=FLAGS)
flags.DEFINE_bool("flip_test", False, "average with the mirrored picture", flag_values=FLAGS)
flags.DEFINE_string("compare", None, "a second model or predictions file, for the paired difference",
                    flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "people predicted at once", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string("json", None, "write the report to this file", flag_values=FLAGS)
flags.DEFINE_string("plot", None, "draw the curves into this .png, .svg or .pdf file", flag_values=FLAGS)

DEFAULT_SPLITS = {"lsp": "test"}  # the official one; elsewhere "val", so that nobody scores what was trained on
PLOT_SUFFIXES = (".png", ".svg", ".pdf")

Answer = Callable[[list[Record]], Predictions]


@dataclass(frozen=True)
class _Data:
    spec: str
    kind: str
    split: str
    records: list[Record]
    metric: str


def main(arguments: list[str]) -> None:
    """Evaluate on every --data, print its table, and write --json and --plot when all are done."""
    _check(arguments)
    schema = find_schema(FLAGS.schema) if FLAGS.schema else None
    sets = [_read(spec, schema) for spec in FLAGS.data]
    models: dict[str, Callable] = {}
    first, second = {}, {}
    for data in sets:
        first[data.spec] = _report(FLAGS.predictions or FLAGS.model, bool(FLAGS.predictions), data, models)
        print(f"\n{data.spec} (split {data.split})\n{first[data.spec].table()}")
        if FLAGS.compare:
            is_file = Path(FLAGS.compare).suffix.lower() in predictions.FORMATS
            second[data.spec] = _report(FLAGS.compare, is_file, data, models)
            names = (FLAGS.predictions or FLAGS.model, FLAGS.compare)
            print(f"\n{comparison_table(compare(first[data.spec], second[data.spec]), names)}")
    if FLAGS.json:
        files.write_json(FLAGS.json, _content(sets, first, second))
    if FLAGS.plot:
        _plot(Path(FLAGS.plot), first, second)


def _check(arguments):
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; every option begins with --")
    if bool(FLAGS.model) == bool(FLAGS.predictions):
        raise InputError("give either --model=PATH_OR_NAME or --predictions=FILE" +
                         (", not both; --compare takes the second" if FLAGS.model else ""))
    if not FLAGS.data:
        raise InputError("--data is missing; give TYPE:ROOT, as in --data=lsp:/data/lsp")
    if len(set(FLAGS.data)) < len(FLAGS.data):
        raise InputError("--data names the same data set more than once; give each once")
    if FLAGS.predictions and not FLAGS.compare and (FLAGS.flip_test or FLAGS.protocol != "default"):
        raise InputError("--flip_test and --protocol are for a --model; predictions in a file are already decoded")
    if FLAGS.plot and Path(FLAGS.plot).suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"--plot={FLAGS.plot}: unknown suffix; expected one of {', '.join(PLOT_SUFFIXES)}")


def _read(spec, schema) -> _Data:
    kind, _ = datasets.parse(spec)
    split = FLAGS.split or DEFAULT_SPLITS.get(kind, "val")
    records = datasets.read(spec, split, schema)
    return _Data(spec, kind, split, records, FLAGS.metric or evaluate.default_metric(kind, records))


def _report(source: str, is_file: bool, data: _Data, models: dict[str, Callable]) -> Report:
    if is_file:
        found = predictions.read_predictions(source, data.records, first_pixel=datasets.FIRST_PIXEL[data.kind])
        return evaluate.score(found, data.records, metric=data.metric)
    if source not in models:
        from posecascade.inference import predictor  # here, because a predictions file does not need it

        with app.quietly():  # TensorFlow and LiteRT write start-up lines
            models[source] = predictor.load(source, flip_test=FLAGS.flip_test, protocol=FLAGS.protocol)
    box_of = evaluate.annotated_box
    if FLAGS.protocol == "paper":
        box_of = evaluate.paper_lsp_box if data.kind == "lsp" else evaluate.paper_box
    return evaluate.evaluate(_told(models[source], len(data.records)), data.records, metric=data.metric,
                               batch_size=FLAGS.batch_size, box_of=box_of)


def _told(predict, people: int):
    """`predict`, which on a terminal also tells how far it is."""
    if not sys.stderr.isatty():
        return predict
    done = 0

    def telling(images, boxes):
        nonlocal done
        poses = predict(images, boxes)
        done += len(images)
        print(f"\r{done} of {people} people", end="\n" if done == people else "", file=sys.stderr, flush=True)
        return poses

    return telling


def _content(sets, first, second) -> dict:
    """The JSON file: what was scored, and a report for every data set."""
    entries = {}
    for data in sets:
        entries[data.spec] = {"split": data.split, **first[data.spec].as_dict()}
        if FLAGS.compare:
            entries[data.spec]["comparison"] = {"with": FLAGS.compare,
                                                "rows": compare(first[data.spec], second[data.spec])}
    return {"model": FLAGS.model, "predictions": FLAGS.predictions, "protocol": FLAGS.protocol,
            "flip_test": FLAGS.flip_test or FLAGS.protocol == "paper", "data": entries}


def _plot(path: Path, first: dict[str, Report], second: dict[str, Report]) -> None:
    """One panel per data set: per cent of joints over the threshold, a line for each stage."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(first), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, spec in zip(figure.subplots(1, len(first), squeeze=False)[0], first, strict=True):
        report = first[spec]
        lines = {name: (parts, "-") for name, parts in report.stages.items()}
        if spec in second:
            lines[f"compared: {Path(FLAGS.compare).name}"] = (second[spec].result, "--")
        for name, (parts, style) in lines.items():
            axes.plot(metrics.thresholds(report.measure.limit), report.curve(parts), style, label=name)
        axes.set(title=spec, xlabel=f"threshold, parts of the {report.measure.reference}", ylim=(0, 100),
                 xlim=(0, report.measure.limit), ylabel=f"{report.measure.name}, per cent of joints")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    with files.atomic_write(path) as draft:
        figure.savefig(draft)


def console() -> None:
    """The command `posecascade-evaluate`."""
    app.run(main, FLAGS, __doc__)
