"""The conformance server: TensorFlow Serving's rules for models, batches, JSON over REST, and status codes."""

import base64
import json

import numpy as np
import pytest
import urllib3
from served import MODEL, answering, service_of
from small_served import GOOD, JOINTS, SIDE, write

grpc = pytest.importorskip("grpc", reason="needs grpcio, of the extra `serving`")
pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
import model_server  # noqa: E402
from model_server_models import Config, Models, Refused  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from posecascade.client import connect  # noqa: E402

B64 = {"b64": base64.b64encode(GOOD).decode()}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a folder of two versions; keypoints of the second are 1000 px to the right."""
    folder = tmp_path_factory.mktemp("models")
    write(folder / "1")
    write(folder / "2", offset=1000)
    return folder


@pytest.fixture(scope="module")
def served(base):
    with answering(service_of(base, versions=(1, 2), labels={"stable": 1, "canary": 2})) as found:
        yield found


def rest(served, body, path=f"{MODEL}:predict", method="POST"):
    """Return the HTTP status and the answer's object."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    answer = urllib3.request(method, f"http://127.0.0.1:{served.rest_port}/v1/models/{path}", body=data, retries=False)
    return answer.status, json.loads(answer.data)


def test_rows_and_columns_are_answered_in_the_same_form(served):
    status, by_rows = rest(served, {"instances": [{"image_bytes": B64, "boxes": [1, 2, 3, 4]},
                                                  {"image_bytes": B64, "boxes": [1.5, 2, 3, 4]}],
                                    "signature_name": "with_boxes"})
    assert status == 200 and len(by_rows["predictions"]) == 2
    assert by_rows["predictions"][1]["box"] == [1.5, 2, 3, 4] and by_rows["predictions"][0]["scores"] == [0.5] * 3
    status, by_columns = rest(served, {"inputs": {"image_bytes": [B64, B64], "boxes": [[1, 2, 3, 4], [1.5, 2, 3, 4]]},
                                       "signature_name": "with_boxes"})
    assert status == 200 and by_columns["outputs"]["box"] == [row["box"] for row in by_rows["predictions"]]
    for short in ({"instances": [B64]}, {"instances": [{"image_bytes": B64}]}, {"inputs": [B64]},
                  {"inputs": {"image_bytes": [B64]}}):  # a single input may lack its name
        status, found = rest(served, short)
        assert status == 200, found
        [row] = found["predictions"] if "predictions" in found else [{k: v[0] for k, v in found["outputs"].items()}]
        assert row["keypoints"] == [[1000 + len(GOOD), k] for k in range(3)]


def test_text_is_returned_as_text_and_accepted_as_bytes(served):
    status, found = rest(served, {"instances": ["a", "b"], "signature_name": "model_card"})
    assert status == 200 and found["predictions"][1]["joints"] == list(JOINTS)
    assert json.loads(found["predictions"][0]["card"])["license"] == "a test's"
    status, found = rest(served, {"instances": [GOOD[3:].decode()]})
    assert status == 200 and not any(map(any, found["predictions"][0]["keypoints"]))  # text, but not an image


@pytest.mark.parametrize(("body", "words"), [
    (b"", "JSON Parse error"), (b"{", "JSON Parse error"), ([1], "Is not object"), ({}, "Missing 'inputs' or"),
    ({"inputs": [B64], "instances": [B64]}, "expecting only one of"), ({"instances": 5}, "to be an list/array"),
    ({"instances": []}, "No values in 'instances'"), ({"instances": [B64], "signature_name": 1}, "must be a string"),
    ({"instances": [B64], "signature_name": "other"}, '"other" not found in signature def'),
    ({"instances": [5]}, "not of expected type: string"), ({"instances": [True]}, "not of expected type: string"),
    ({"instances": [{"b64": "%"}]}, "Unable to base64 decode"), ({"instances": [{"b64": "_-_-"}]}, "base64 decode"),
    ({"instances": [{"b64": 5}]}, "keys must be equal to: image_bytes"),
    ({"instances": [[B64, {"b64": 5}]]}, "not formatted correctly for base64 data"),
    ({"instances": [B64, {"image_bytes": B64}]}, "Expecting value/list but got object at item 1"),
    ({"instances": [{"image_bytes": B64}, B64]}, "Expecting object but got list at item 1"),
    ({"instances": [B64], "signature_name": "with_boxes"}, "expecting list of objects"),
    ({"instances": [{"image_bytes": B64}], "signature_name": "with_boxes"}, "keys must be equal to: boxes,image_bytes"),
    ({"inputs": [B64], "signature_name": "with_boxes"}, "expecting an object as multiple input tensors"),
    ({"inputs": {"boxes": [[1, 2, 3, 4]]}, "signature_name": "with_boxes"}, "Missing named input: image_bytes"),
    ({"inputs": {"image_bytes": [B64], "boxes": [["x", 2, 3, 4]]}, "signature_name": "with_boxes"}, "type: float"),
    ({"inputs": {"image_bytes": [B64], "boxes": [[1e39, 2, 3, 4]]}, "signature_name": "with_boxes"}, "loss of"),
    ({"inputs": {"image_bytes": [B64, B64], "boxes": [[1, 2], [3]]}, "signature_name": "with_boxes"}, "size: 1 at"),
    ({"inputs": {"image_bytes": [B64], "boxes": [[1, [2]]]}, "signature_name": "with_boxes"}, "unexpected level: 2"),
    ({"inputs": {"image_bytes": [B64], "boxes": [[1], 2]}, "signature_name": "with_boxes"}, "incorrect level: 2"),
    ({"inputs": {"image_bytes": [B64], "boxes": [[1, 2, 3]]}, "signature_name": "with_boxes"}, "Expects arg boxes"),
    ({"instances": [[B64]]}, "Expects arg image_bytes"),
    ({"inputs": {"crops": [[[[300, 0, 0]]]]}, "signature_name": "heatmaps"}, "not of expected type: uint8"),
    ({"inputs": {"crops": [[[[1.5, 0, 0]]]]}, "signature_name": "heatmaps"}, "not of expected type: uint8")],
    ids=lambda value: str(value)[:60])
def test_invalid_rest_request_is_a_400_with_the_reason(served, body, words):
    status, found = rest(served, body)
    assert status == 400 and words in found["error"]


def test_bare_nan_and_infinity_are_accepted(served):
    body = json.dumps({"inputs": {"image_bytes": [B64], "boxes": [[float("nan"), 2, 3, float("inf")]]},
                       "signature_name": "with_boxes"}).encode()
    assert b"NaN" in body and b"Infinity" in body
    status, found = rest(served, body)
    assert status == 200 and np.isnan(found["outputs"]["box"][0][0]) and found["outputs"]["box"][0][3] == np.inf


@pytest.mark.parametrize(("method", "path", "status", "words"), [
    ("GET", "nobody", 404, "Could not find any versions of model nobody"),
    ("GET", f"{MODEL}/versions/9", 404, f"Could not find version 9 of model {MODEL}"),
    ("POST", "nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
    ("POST", f"{MODEL}/versions/9:predict", 404, f"Servable not found for request: Specific({MODEL}, 9)"),
    ("POST", f"{MODEL}/labels/next:predict", 400, "Unrecognized servable version label: next"),
    ("POST", f"{MODEL}:classify", 400, "classification"), ("POST", f"{MODEL}:pose", 400, "Malformed request: POST"),
    ("GET", f"{MODEL}/versions/one", 400, "Malformed request: GET")])
def test_unknown_models_versions_and_paths_are_refused(served, method, path, status, words):
    found = rest(served, {"instances": [B64]} if method == "POST" else None, path, method)
    assert found[0] == status and words in found[1]["error"]


def test_versions_and_labels_are_found_and_the_highest_is_the_default(served):
    for path, shift in (("", 1000), ("/versions/1", 0), ("/versions/2", 1000), ("/labels/stable", 0),
                        ("/labels/canary", 1000)):
        status, found = rest(served, {"instances": [B64]}, f"{MODEL}{path}:predict")
        assert status == 200 and found["predictions"][0]["keypoints"][0] == [len(GOOD) + shift, 0]
        with connect(served.grpc + path) as client:
            assert client.predict([GOOD])[0].keypoints[0].tolist() == [len(GOOD) + shift, 0]
    status, found = rest(served, None, MODEL, "GET")
    assert status == 200 and [(entry["version"], entry["state"], entry["status"]["error_code"])
                              for entry in found["model_version_status"]] == [("2", "AVAILABLE", "OK"),
                                                                              ("1", "AVAILABLE", "OK")]


def test_signatures_are_available_over_both_apis(served):
    status, found = rest(served, None, f"{MODEL}/metadata", "GET")
    assert status == 200 and "model_card" in found["metadata"]["signature_def"]["signature_def"]
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = MODEL
        answer, signatures = stub.GetModelMetadata(request), get_model_metadata_pb2.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(signatures) and answer.model_spec.version.value == 2
        assert signatures.signature_def["heatmaps"].inputs["crops"].tensor_shape.dim[1].size == SIDE
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest(model_spec=request.model_spec))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        status = model_service_pb2_grpc.ModelServiceStub(channel)
        assert status.GetModelStatus


def grpc_refusal(served, change):
    """Return the code and text with which a changed request is refused."""
    import tensorflow as tf

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, "with_boxes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([GOOD]))
    request.inputs["boxes"].CopyFrom(tf.make_tensor_proto(np.float32([[1, 2, 3, 4]])))
    change(request, tf)
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel, pytest.raises(grpc.RpcError) as refused:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    return refused.value.code().name, refused.value.details()


@pytest.mark.parametrize(("change", "code", "words"), [
    (lambda r, tf: r.model_spec.Clear(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (lambda r, tf: setattr(r.model_spec, "signature_name", "x"), "FAILED_PRECONDITION", 'signature key "x" not found'),
    (lambda r, tf: r.inputs.pop("boxes"), "INVALID_ARGUMENT", "Missing but required: {boxes}"),
    (lambda r, tf: r.inputs["more"].CopyFrom(r.inputs["boxes"]), "INVALID_ARGUMENT", "Sent extra: {more}"),
    (lambda r, tf: r.inputs["boxes"].tensor_shape.dim.add(size=7), "INVALID_ARGUMENT", "tensor parsing error: boxes"),
    (lambda r, tf: r.inputs["boxes"].CopyFrom(r.inputs["image_bytes"]), "INVALID_ARGUMENT", "Expects arg boxes"),
    (lambda r, tf: r.output_filter.append("depth"), "INVALID_ARGUMENT", "alias not found in signature: depth"),
    (lambda r, tf: r.output_filter.extend(["box", "box"]), "INVALID_ARGUMENT", "duplicate output")])
def test_invalid_grpc_request_has_its_code(served, change, code, words):
    found = grpc_refusal(served, change)
    assert found[0] == code and words in found[1]


def test_version_with_failing_warm_up_is_not_served(tmp_path):
    from posecascade.export.warmup import WARMUP_FILE, write_warmup

    write(tmp_path / "1")
    service = service_of(tmp_path)
    spec = service.spec(MODEL, None, None)
    assert service.models.find(spec)[0] == 1 and service.models.find(spec)[1].warmed == 2
    write(tmp_path / "3", warm=False)
    write_warmup(tmp_path / "3" / WARMUP_FILE, [("nothing", {})])
    (tmp_path / "notes").mkdir()
    models = Models({MODEL: Config(tmp_path, versions=(1, 3))})
    models.refresh()
    assert models.find(spec)[0] == 1 and models.states(spec)[1] is None and "'nothing'" in models.states(spec)[3]
    alone = Models({MODEL: Config(tmp_path)})
    alone.refresh()
    with pytest.raises(Refused, match="Servable not found"):
        alone.find(spec)


def test_new_version_replaces_the_old_one(tmp_path):
    write(tmp_path / "1")
    service = service_of(tmp_path)
    write(tmp_path / "10", joints=(*JOINTS, "pelvis"), offset=5)
    with answering(service) as served, connect(served.grpc) as client:
        assert client.predict([GOOD])[0].names == JOINTS
        service.models.refresh()
        [pose] = client.predict([GOOD])  # the client reads the new version's keypoints
        assert pose.names == (*JOINTS, "pelvis") and pose.keypoints[3].tolist() == [len(GOOD) + 5, 3]
        assert client.status() == {10: "AVAILABLE"}


def test_metrics_count_requests_by_status(base):
    with answering(service_of(base)) as served:
        rest(served, {"instances": [B64]})
        rest(served, {"instances": [[B64]]})
        text = urllib3.request("GET", f"http://127.0.0.1:{served.rest_port}/metrics").data.decode()
    assert f'request_count{{model_name="{MODEL}",status="OK"}} 1' in text
    assert f'request_count{{model_name="{MODEL}",status="INVALID_ARGUMENT"}} 1' in text


def test_start_requires_the_same_flags_as_tensorflow_serving(base, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(f'model_config_list {{ config {{ name: "a" base_path: "{base}" '
                      'version_labels { key: "x" value: 1 }}}')
    for words, problem in (([f"--model_base_path={base}", "--batching_parameters_file=x"], "without --enable_batching"),
                           ([f"--model_config_file={config}"], "--allow_version_labels_for_unavailable_models")):
        model_server.FLAGS.unparse_flags()
        with pytest.raises(SystemExit, match=problem):
            model_server.main(["model_server", *words])
