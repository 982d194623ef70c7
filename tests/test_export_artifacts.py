"""An export used by servers and devices: plain TensorFlow, damaged images, warm-up, TFLite's own readers."""

import io
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from exported import ALL_SIGNATURES, BATCH_SIZES, KINDS, LICENSE, PRECISIONS, SIZE, STRIDE, K, people
from image_files import jpeg, jpeg_of, png_of
from PIL import Image

tf = pytest.importorskip("tensorflow")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from ai_edge_litert.interpreter import Interpreter  # noqa: E402  (needs ai_edge_litert)

from posecascade.formats import tflite_file, tflite_metadata  # noqa: E402
from posecascade.formats.metadata import METADATA_FILE, metadata_dict  # noqa: E402

ANSWER = {"keypoints": (K, 2), "scores": (K,), "visibility": (K,), "box": (4,)}
FILES = [(kind, precision) for kind in KINDS for precision in PRECISIONS]
# Loads the SavedModel in a process that cannot import posecascade, like a server.
ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "posecascade":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy, tensorflow as tf
folder, out, *paths = sys.argv[1:]
files = []
for path in paths:
    with open(path, "rb") as file:
        files.append(file.read())
answer = tf.saved_model.load(folder).signatures["serving_default"](image_bytes=tf.constant(files))
numpy.savez(out, **{name: value.numpy() for name, value in answer.items()})
assert not [name for name in sys.modules if name.partition(".")[0] == "posecascade"]
"""


@pytest.fixture(scope="module")
def served(exported):
    """Return a function: signature, inputs by name -> outputs by name, of the SavedModel as a server loads it."""
    loaded = tf.saved_model.load(str(exported.version))

    def call(signature, **inputs):
        outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    call.signatures = set(loaded.signatures)
    return call


def png(image):
    """Encode a PNG by another library."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def rendered():
    """Return the images of four people, alternately as JPEG and PNG, and their boxes."""
    images, boxes = people(4)
    return [(jpeg if i % 2 == 0 else png)(image) for i, image in enumerate(images)], \
        np.float32([box.as_list() for box in boxes])


@pytest.mark.slow
def test_plain_tensorflow_serves_the_saved_model_without_posecascade(exported, served, rendered, tmp_path):
    names = [tmp_path / f"{i}.{'png' if i % 2 else 'jpg'}" for i in range(4)]
    for name, data in zip(names, rendered[0], strict=True):
        name.write_bytes(data)
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, exported.version, tmp_path / "answer.npz", *names],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = served("serving_default", image_bytes=rendered[0])
    with np.load(tmp_path / "answer.npz") as there:
        assert {name: there[name].shape for name in there} == {name: (4, *shape) for name, shape in ANSWER.items()}
        for name in there:
            assert there[name].dtype == np.float32 and np.isfinite(there[name]).all()
            np.testing.assert_allclose(there[name], here[name], atol=1e-3)  # the other process has other threads
    assert here["scores"].max(1).min() > 0.3 and (here["box"][:, 2:] > 0).all()  # a person was found in each


def test_damaged_image_does_not_change_other_rows(served, rendered, rng):
    good, boxes = rendered
    intact = good[0]
    bad = {"noise behind a header": intact[:40] + rng.bytes(len(intact) - 40), "truncated": intact[:len(intact) // 2],
           "empty": b"", "text": b"not an image, but a text\n", "a bomb": png_of(30000, 30000, 8, 2, b"small"),
           "a bomb too": jpeg_of(30000, 30000, np.zeros((8, 8, 3), np.uint8))}
    batch = [bad["truncated"], good[0], bad["noise behind a header"], bad["empty"], good[1], good[2], bad["text"],
             bad["a bomb"], good[3], bad["a bomb too"]]
    kept = [i for i, data in enumerate(batch) if data in good]
    broken = [i for i in range(len(batch)) if i not in kept]
    everywhere = np.resize(np.float32([20, 20, 150, 180]), (len(batch), 4))
    everywhere[kept] = boxes
    for signature, extra, alone in (("serving_default", {}, {}),
                                    ("with_boxes", {"boxes": everywhere}, {"boxes": boxes})):
        outputs = served(signature, image_bytes=batch, **extra)
        without = served(signature, image_bytes=good, **alone)
        assert set(outputs) == set(ANSWER)
        for name, values in outputs.items():
            assert np.isfinite(values).all() and not values[broken].any(), (signature, name)
            np.testing.assert_array_equal(values[kept], without[name])
        assert without["scores"].max(1).min() > 0.2


def test_warmup_covers_every_signature_and_batch_size(exported, served):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = exported.version / "assets.extra" / "tf_serving_warmup_requests"
    seen = Counter()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = logs.PredictionLog.FromString(record).predict_log.request
        signature = request.model_spec.signature_name
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        [size] = {len(value) for value in inputs.values()}
        outputs = served(signature, **inputs)
        assert {len(value) for value in outputs.values()} == {size}
        if signature != "model_card":
            assert all(np.isfinite(value).all() for value in outputs.values())
            assert any(value.any() for value in outputs.values())  # real people: zeros would skip parts of the graph
        seen[signature, size] += 1
    assert seen == {(signature, size): 1 for signature in ALL_SIGNATURES for size in BATCH_SIZES}
    assert served.signatures == set(ALL_SIGNATURES)


def test_model_card_returns_the_metadata_in_every_row(exported, served):
    outputs = served("model_card", query=np.array([b"", b"any", b"\xff"], object))
    asset = json.loads((exported.version / "assets" / "posecascade.json").read_text(encoding="utf-8"))
    assert [json.loads(card) for card in outputs["card"]] == [asset] * 3
    assert outputs["joints"].tolist() == [[name.encode() for name in exported.metadata.schema.keypoints]] * 3
    assert asset["license"] == LICENSE


# --- TFLite ---------------------------------------------------------------------------------------------------------


def unpacked(path):
    """Return the file's model as objects, by LiteRT's own schema."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
TYPES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}


def operators(model):
    """Yield (name, types of its inputs, types of its outputs) of every operator; a custom one has its own name."""
    for graph in model.subgraphs:
        def types(indices, graph=graph):
            return [TYPES[graph.tensors[index].type] for index in indices if index >= 0]

        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            yield code.customCode or NAMES[builtin], types(operator.inputs), types(operator.outputs)


@pytest.mark.parametrize(("kind", "precision"), FILES)
def test_file_is_called_by_its_signature(exported, kind, precision):
    interpreter = Interpreter(str(exported.tflite(kind, precision)))  # with the ZIP at its end
    call = interpreter.get_signature_runner()
    assert list(interpreter.get_signature_list()) == [kind]
    [(name, details)] = call.get_input_details().items()
    dtype = np.float32 if kind == "heatmaps" and precision != "int8" else np.uint8
    assert (name, tuple(details["shape"]), details["dtype"]) == ("crop", (1, SIZE, SIZE, 3), dtype)
    crop = np.random.default_rng(3).integers(0, 256, (1, SIZE, SIZE, 3)).astype(dtype)
    cells = (1, SIZE // STRIDE, SIZE // STRIDE, K)
    shapes = {"parts": cells, "heatmaps": cells} if kind == "heatmaps" else \
        {name: (1, *shape) for name, shape in ANSWER.items() if name != "box"}
    outputs = call(crop=crop)
    assert {name: (value.dtype, value.shape) for name, value in outputs.items()} == \
        {name: (np.float32, shape) for name, shape in shapes.items()}
    assert all(np.isfinite(value).all() for value in outputs.values())


@pytest.mark.parametrize(("kind", "precision"), FILES)
def test_file_computes_in_the_precision_of_its_name(exported, kind, precision):
    model = unpacked(exported.tflite(kind, precision))
    layers = [(name, *types) for name, *types in operators(model) if name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    assert len(layers) > 20
    constants = Counter(TYPES[tensor.type] for graph in model.subgraphs for tensor in graph.tensors
                        if model.buffers[tensor.buffer].data is not None and np.prod(tensor.shape) > 64)
    if precision == "int8":  # weights and activations; biases are INT32
        assert {tuple(types) for _, *types in layers for types in types} == {("INT8", "INT8", "INT32"), ("INT8",)}
    elif precision == "dynamic":
        assert all(outputs == ["FLOAT32"] and inputs[0] == "FLOAT32" for _, inputs, outputs in layers)
        assert sum(inputs[1] == "INT8" for _, inputs, _ in layers) > len(layers) / 2
    else:
        assert {types for _, *both in layers for types in map(tuple, both)} == {("FLOAT32",) * 3, ("FLOAT32",)}
        assert constants["INT8"] == 0 and (constants["FLOAT16"] > 20) == (precision == "float16")
    sizes = [exported.tflite(kind, other).stat().st_size for other in ("float32", precision)]
    assert precision == "float32" or sizes[1] < 0.65 * sizes[0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gpu_can_run_all_of_the_maps(exported, precision):
    names = {name for name, _, _ in operators(unpacked(exported.tflite("heatmaps", precision)))}
    # The network's layers and the conversions of quantized files; no peak search, no custom operator.
    assert names <= {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "RESIZE_BILINEAR", "LOGISTIC", "AVERAGE_POOL_2D",
                     "QUANTIZE", "DEQUANTIZE"}
    decoded = [name for name, _, _ in operators(unpacked(exported.tflite("keypoints", precision)))]
    assert "ARG_MAX" in decoded and all(isinstance(name, str) for name in decoded)  # a custom one's name is bytes
    assert not any(name.startswith(("Flex", "CUSTOM", "FLEX")) for name in decoded)


@pytest.mark.parametrize(("kind", "precision"), FILES)
def test_file_holds_keypoints_and_metadata(exported, kind, precision):
    metadata = exported.metadata
    contents = tflite_file.read(exported.tflite(kind, precision))
    assert contents.keypoints == metadata.schema.keypoints
    exported_metadata = contents.metadata
    assert tuple(exported_metadata[key] for key in ("kind", "precision", "license")) == (kind, precision, LICENSE)
    assert exported_metadata["model"] == metadata_dict(metadata)
    model = exported_metadata["model"]
    assert model["schema"]["limbs"] and model["recipe"]["model"]["backbone"] == "tiny"
    assert model["result"]["synthetic_pck_heatmaps"] > 0 and exported_metadata["manifest"]["versions"]
    tables = tflite_metadata.read(contents.model)
    assert tables["license"] == LICENSE and tables["associated_files"][0]["name"] == METADATA_FILE
    [graph] = tables["subgraph_metadata"]
    assert [entry["name"] for entry in graph["input_tensor_metadata"]] == ["crop"]
    outputs = {entry["name"]: entry["dimension_names"] for entry in graph["output_tensor_metadata"]}
    assert set(outputs) == ({"parts", "heatmaps"} if kind == "heatmaps" else {"keypoints", "scores", "visibility"})
    assert all("joint" in names for names in outputs.values())
    assert all(entry["associated_files"][0] == {"name": "joints.txt", "type": "TENSOR_AXIS_LABELS", "description":
                                                "Names along the axis 'joint', one per line."}
               for entry in graph["output_tensor_metadata"])
