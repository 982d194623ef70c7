"""decoder.tflite returns the keypoints of `codec.decoders` and is part of each file of maps."""

import numpy as np
import pytest
import spots
from exported import PRECISIONS, people

from posecascade.benchmark import benchmark
from posecascade.codec import decoders
from posecascade.codec.score_calibration import IDENTITY, Calibration
from posecascade.errors import InputError
from posecascade.export import tflite
from posecascade.export.graph.network import Network
from posecascade.formats import runtime, tflite_file, tflite_graphs, tflite_metadata
from posecascade.formats.metadata import Metadata
from posecascade.schema import schema_from

CLOSE_PX = 1e-3     # of the input: the decoder computes in float32, the codec in float64
CLOSE_SCORE = 1e-5  # of scores and visibility
SIZE, STRIDE = 16, 4


def peaks(size, centers, widths=1.5, tops=0.9):
    """Return (size, size, K) maps, each a Gaussian of its top around its center (x, y), in cells."""
    x, y = np.arange(size)[None, :, None], np.arange(size)[:, None, None]
    cx, cy = np.transpose(centers)
    return tops * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / np.square(widths))


def maps():
    """Return heatmaps, part maps (SIZE, SIZE, K): every kind of map that a decoder has to handle."""
    inside, at_edges = np.array([[7.3, 8.1], [9.6, 5.2]]), np.array([[0, 0], [14.4, 5.2], [-0.4, 4.6]])
    several = peaks(SIZE, [[3, 3], [8.6, 9.1], [6, 7]], tops=[0.5, 1.2, 0.3])  # above 1; a second peak
    several += peaks(SIZE, [[8.2, 12.4], [4.1, 6.6], [7.4, 7.7]], tops=[0.499, 0.7, 0.2])
    flat = np.zeros((SIZE, SIZE, 5))
    flat[..., 1] = 0.5  # all cells are equal: the first is used
    flat[2, 2:4, 2] = 0.8  # two are equal
    flat[3, 3, 3] = 1.2  # clipped to 1
    flat[..., 4] -= 0.05  # clipped to 0
    heatmaps = [peaks(SIZE, inside), peaks(SIZE, at_edges, [1.3, 2, 3]), several, flat]
    parts = [peaks(SIZE, inside + 1, 3.0), peaks(SIZE, at_edges, 4), peaks(SIZE, [[8, 12], [8, 9], [2, 2]], 2.0),
             np.ones(flat.shape)]
    return np.concatenate(heatmaps, -1), np.concatenate(parts, -1)


@pytest.mark.parametrize(("name", "calibration"), [("soft", Calibration(2.028, -1.127)), ("dark", IDENTITY)])
def test_decoder_returns_the_keypoints_of_the_codec(name, calibration):
    heatmaps, parts = (values[None].astype(np.float32) for values in maps())
    schema = schema_from({"name": "any", "keypoints": [f"keypoint_{k}" for k in range(heatmaps.shape[-1])]}, "any")
    metadata = Metadata(schema, SIZE * STRIDE, STRIDE, decoder=name, calibration=calibration)
    decoder = tflite.decoder(Network(spots.network(), metadata))  # only the names of the network's maps matter
    found = runtime.interpreter(decoder).get_signature_runner("decoder")(heatmaps=heatmaps, parts=parts)
    points, values = decoders.DECODERS[name](heatmaps, STRIDE)
    np.testing.assert_allclose(found["keypoints"], points, atol=CLOSE_PX)
    np.testing.assert_allclose(found["scores"], calibration(np.clip(values, 0, 1)), atol=CLOSE_SCORE)
    np.testing.assert_allclose(found["visibility"], np.clip(decoders.value_at(parts, points, STRIDE), 0, 1),
                               atol=CLOSE_SCORE)


def test_every_file_of_maps_holds_the_decoder_and_no_other_does(exported):
    alone = tflite_file.read(exported.version / "tflite" / tflite_metadata.DECODER_FILE)
    assert alone.metadata["kind"] == "decoder" and alone.decoder is None
    for precision in PRECISIONS:
        assert tflite_file.read(exported.tflite("keypoints", precision)).decoder is None
        inside = tflite_file.read(exported.tflite("heatmaps", precision))
        assert tflite_graphs.operators(inside.decoder) == tflite_graphs.operators(alone.model)
        listed = tflite_metadata.read(inside.model)["associated_files"]
        assert [file["name"] for file in listed] == ["posecascade.json", "decoder.tflite"]
    [subgraph] = tflite_metadata.read(alone.model)["subgraph_metadata"]
    assert {tensor["name"] for tensor in subgraph["input_tensor_metadata"]} == {"heatmaps", "parts"}


def test_decoder_agrees_with_the_predictor_on_people(exported):
    images, boxes = people(3)
    run, metadata = runtime.load(exported.tflite("heatmaps", "float32"))
    from posecascade.inference.predictor import Predictor

    predictor = Predictor(run, metadata.schema, metadata.input_size, metadata.stride, metadata.decoder,
                          calibration=metadata.calibration)
    crops = predictor.crops(images, boxes)[0]
    maps = run(crops)
    stages, scores, visibility = predictor._keypoints(crops)
    decode = runtime.interpreter(tflite_file.read(exported.tflite("heatmaps", "int8")).decoder).get_signature_runner()
    for i in range(len(crops)):
        found = decode(**{name: values[i:i + 1] for name, values in maps.items()})
        np.testing.assert_allclose(found["keypoints"][0], stages["heatmaps"][i], atol=CLOSE_PX)
        np.testing.assert_allclose(found["scores"][0], scores[i], atol=CLOSE_SCORE)
        np.testing.assert_allclose(found["visibility"][0], visibility[i], atol=CLOSE_SCORE)


def test_decoder_is_refused_by_predict_and_benchmark(exported):
    path = exported.version / "tflite" / "decoder.tflite"
    for use in (runtime.load, benchmark.files_of):
        with pytest.raises(InputError, match="takes maps, expected a model of images; give a heatmaps or keypoints f"):
            use(path)
    assert path not in benchmark.files_of(exported.output) and len(benchmark.files_of(exported.output)) == 8
