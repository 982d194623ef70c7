"""An export as servers and devices meet it: plain TensorFlow, damaged pictures, warm-up, TFLite's own readers."""

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

from posecascade.formats import (  # noqa: E402
    keras_file,
    tflite_file,
    tflite_metadata,
)

ANSWER = {"keypoints": (K, 2), "scores": (K,), "visibility": (K,), "box": (4,)}
FILES = [(kind, precision) for kind in KINDS for precision in PRECISIONS]
# What fails on a server must be tried where nothing of ours can be imported.
ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "posecascade":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy, tensorflow as tf
folder, out, *pictures = sys.argv[1:]
files = []
for path in pictures:
    with open(path, "rb") as file:
        files.append(file.read())
answer = tf.saved_model.load(folder).signatures["serving_default"](image_bytes=tf.constant(files))
numpy.savez(out, **{name: value.numpy() for name, value in answer.items()})
assert not [name for name in sys.modules if name.partition(".")[0] == "posecascade"]
"""


@pytest.fixture(scope="module")
def served(exported):
    """Signature, inputs by name -> outputs by name, of the SavedModel as a server loads it."""
    loaded = tf.saved_model.load(str(exported.version))

    def call(signature, **inputs):
        found = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    call.signatures = set(loaded.signatures)
    return call


def png(image):
    """A PNG as other people's programs write it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def rendered():
    """Four people's pictures, as JPEG and PNG by turns, and their boxes."""
    images, boxes = people(4)
    return [(jpeg if i % 2 == 0 else png)(image) for i, image in enumerate(images)], \
        np.float32([box.as_list() for box in boxes])


def test_plain_tensorflow_serves_it_where_posecascade_cannot_be_imported(exported, served, rendered, tmp_path):
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
            np.testing.assert_allclose(there[name], here[name], atol=1e-3)  # of another process's threads
    assert here["scores"].max(1).min() > 0.3 and (here["box"][:, 2:] > 0).all()  # somebody was found in each


def test_a_damaged_picture_costs_its_own_row_and_no_other(served, rendered, rng):
    good, boxes = rendered
    whole = good[0]
    bad = {"noise behind a header": whole[:40] + rng.bytes(len(whole) - 40), "cut short": whole[:len(whole) // 2],
           "empty": b"", "text": b"no picture, but a text\n", "a bomb": png_of(30000, 30000, 8, 2, b"small"),
           "a bomb too": jpeg_of(30000, 30000, np.zeros((8, 8, 3), np.uint8))}
    batch = [bad["cut short"], good[0], bad["noise behind a header"], bad["empty"], good[1], good[2], bad["text"],
             bad["a bomb"], good[3], bad["a bomb too"]]
    kept = [i for i, data in enumerate(batch) if data in good]
    broken = [i for i in range(len(batch)) if i not in kept]
    everywhere = np.resize(np.float32([20, 20, 150, 180]), (len(batch), 4))
    everywhere[kept] = boxes
    for signature, extra, alone in (("serving_default", {}, {}),
                                    ("with_boxes", {"boxes": everywhere}, {"boxes": boxes})):
        found = served(signature, image_bytes=batch, **extra)
        without = served(signature, image_bytes=good, **alone)
        assert set(found) == set(ANSWER)
        for name, values in found.items():
            assert np.isfinite(values).all() and not values[broken].any(), (signature, name)
            np.testing.assert_array_equal(values[kept], without[name])
        assert without["scores"].max(1).min() > 0.2


def test_every_signature_is_warmed_up_at_every_batch_size_and_answers_the_requests(exported, served):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = exported.version / "assets.extra" / "tf_serving_warmup_requests"
    seen = Counter()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = logs.PredictionLog.FromString(record).predict_log.request
        signature = request.model_spec.signature_name
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        [size] = {len(value) for value in inputs.values()}
        found = served(signature, **inputs)
        assert {len(value) for value in found.values()} == {size}
        if signature != "model_card":
            assert all(np.isfinite(value).all() for value in found.values())
            assert any(value.any() for value in found.values())  # real people: an answer of zeros warms up little
        seen[signature, size] += 1
    assert seen == {(signature, size): 1 for signature in ALL_SIGNATURES for size in BATCH_SIZES}
    assert served.signatures == set(ALL_SIGNATURES)


def test_the_model_card_is_answered_as_its_asset_has_it_to_every_row(exported, served):
    found = served("model_card", query=np.array([b"", b"any", b"\xff"], object))
    asset = json.loads((exported.version / "assets" / "posecascade.json").read_text(encoding="utf-8"))
    assert [json.loads(card) for card in found["card"]] == [asset] * 3
    assert found["joints"].tolist() == [[name.encode() for name in exported.metadata.schema.keypoints]] * 3
    assert asset["license"] == LICENSE


# --- TFLite ---------------------------------------------------------------------------------------------------------


def unpacked(path):
    """The file's model as objects, by LiteRT's own schema."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
TYPES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}


def operators(model):
    """(name, types of its inputs, types of its outputs) of every operator; a custom one has its own name."""
    for graph in model.subgraphs:
        def types(indices, graph=graph):
            return [TYPES[graph.tensors[index].type] for index in indices if index >= 0]

        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            yield code.customCode or NAMES[builtin], types(operator.inputs), types(operator.outputs)


@pytest.mark.parametrize(("kind", "precision"), FILES)
def test_a_device_calls_a_file_by_its_signature(exported, kind, precision):
    interpreter = Interpreter(str(exported.tflite(kind, precision)))  # with the ZIP behind it, as it lies on the disk
    call = interpreter.get_signature_runner()
    assert list(interpreter.get_signature_list()) == [kind]
    [(name, taken)] = call.get_input_details().items()
    wanted = np.float32 if kind == "heatmaps" and precision != "int8" else np.uint8
    assert (name, tuple(taken["shape"]), taken["dtype"]) == ("crop", (1, SIZE, SIZE, 3), wanted)
    crop = np.random.default_rng(3).integers(0, 256, (1, SIZE, SIZE, 3)).astype(wanted)
    cells = (1, SIZE // STRIDE, SIZE // STRIDE, K)
    shapes = {"parts": cells, "heatmaps": cells} if kind == "heatmaps" else \
        {name: (1, *shape) for name, shape in ANSWER.items() if name != "box"}
    found = call(crop=crop)
    assert {name: (value.dtype, value.shape) for name, value in found.items()} == \
        {name: (np.float32, shape) for name, shape in shapes.items()}
    assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize(("kind", "precision"), FILES)
def test_a_file_computes_in_the_precision_that_its_name_says(exported, kind, precision):
    model = unpacked(exported.tflite(kind, precision))
    layers = [(name, *types) for name, *types in operators(model) if name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    assert len(layers) > 20
    constants = Counter(TYPES[tensor.type] for graph in model.subgraphs for tensor in graph.tensors
                        if model.buffers[tensor.buffer].data is not None and np.prod(tensor.shape) > 64)
    if precision == "int8":  # weights and activations; biases are the products' sums
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
def test_nothing_keeps_a_gpu_from_taking_the_whole_of_the_maps(exported, precision):
    names = {name for name, _, _ in operators(unpacked(exported.tflite("heatmaps", precision)))}
    # The layers of the network, and the quantized files' ways in and out; no search for peaks, no custom operator.
    assert names <= {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "RESIZE_BILINEAR", "LOGISTIC", "AVERAGE_POOL_2D",
                     "QUANTIZE", "DEQUANTIZE"}
    decoded = [name for name, _, _ in operators(unpacked(exported.tflite("keypoints", precision)))]
    assert "ARG_MAX" in decoded and all(isinstance(name, str) for name in decoded)  # a custom one's name is bytes
    assert not any(name.startswith(("Flex", "CUSTOM", "FLEX")) for name in decoded)


@pytest.mark.parametrize(("kind", "precision"), FILES)
def test_a_file_names_its_joints_and_carries_its_card(exported, kind, precision):
    metadata = exported.metadata
    content = tflite_file.unseal(exported.tflite(kind, precision))
    assert content.joints == metadata.schema.keypoints
    card = content.sidecar
    assert (card["kind"], card["precision"], card["license"]) == (kind, precision, LICENSE)
    assert card["model"] == keras_file.metadata_dict(metadata)
    assert card["model"]["schema"]["limbs"] and card["model"]["recipe"]["model"]["backbone"] == "tiny"
    assert card["model"]["result"]["synthetic_pck_heatmaps"] > 0 and card["manifest"]["versions"]
    told = tflite_metadata.read(content.model)
    assert told["license"] == LICENSE and told["associated_files"][0]["name"] == tflite_metadata.SIDECAR
    [graph] = told["subgraph_metadata"]
    assert [entry["name"] for entry in graph["input_tensor_metadata"]] == ["crop"]
    outputs = {entry["name"]: entry["dimension_names"] for entry in graph["output_tensor_metadata"]}
    assert set(outputs) == ({"parts", "heatmaps"} if kind == "heatmaps" else {"keypoints", "scores", "visibility"})
    assert all("joint" in names for names in outputs.values())
    assert all(entry["associated_files"][0] == {"name": "joints.txt", "type": "TENSOR_AXIS_LABELS", "description":
                                                "Names along the axis 'joint', one per line."}
               for entry in graph["output_tensor_metadata"])
