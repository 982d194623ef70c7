"""Measure the throughput of a served model with concurrent clients, compared with the network alone.

  python benchmarks/serving.py --model=exported [--images=DIR] [--malformed=0.05] [--requests=20000]

Start the conformance server (tests/model_server.py) in a new process and send requests by `posecascade.client` from
threads of this process; both share the cores. Print requests/s, latency, the server's memory over time, and images/s
relative to those of the network alone (`heatmaps` on crops in memory, the better of batches of one and eight). Load and
network are timed alternately, so that a busy machine slows both equally. Each answer is compared with the one for a
single request: malformed requests of other clients must not change it. `--server=grpc://...` uses a running server.
"""

import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from absl import flags

from posecascade import images
from posecascade.client import Client, ServerError, connect
from posecascade.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("model", "exported", "folder written by posecascade-export", flag_values=FLAGS)
flags.DEFINE_string("server", "", "URL of a running server (default: start one)", flag_values=FLAGS)
flags.DEFINE_string("images", "", "folder of JPEG files (default: rendered people)", flag_values=FLAGS)
flags.DEFINE_integer("requests", 400, "number of requests per turn, of all clients together", flag_values=FLAGS)
flags.DEFINE_integer("clients", 8, "number of clients, one thread each", flag_values=FLAGS)
flags.DEFINE_integer("rows", 1, "number of images in a request", flag_values=FLAGS)
flags.DEFINE_integer("turns", 3, "number of times that network and load are timed", flag_values=FLAGS)
flags.DEFINE_bool("boxes", True, "send boxes (signature with_boxes); without, the server searches for the person",
                  flag_values=FLAGS)
flags.DEFINE_bool("rest", False, "use REST instead of gRPC", flag_values=FLAGS)
flags.DEFINE_string("batching", "", "batching_parameters.txt for the server (default: no batching)", flag_values=FLAGS)
flags.DEFINE_float("malformed", 0.0, "share of malformed requests, 0 to 1", flag_values=FLAGS)
flags.DEFINE_string("bare", "", "internal: time the network of this SavedModel and exit", flag_values=FLAGS)

SERVER = Path(__file__).resolve().parents[1] / "tests" / "model_server.py"
TOLERANCE = 0.05  # px: batches of another size sum in another order
MEMORY_POINTS = 10
SECONDS = 4  # for which the network is timed per batch size


def bare(folder: str) -> float:
    """Return the images/s of the network alone, with the better of two batch sizes."""
    import tensorflow as tf

    network = tf.saved_model.load(folder).signatures["heatmaps"]
    side = network.structured_input_signature[1]["crops"].shape[1]
    rates = []
    for size in (1, 8):
        crops = tf.constant(np.random.default_rng(size).integers(0, 256, (size, side, side, 3), np.uint8))
        for _ in range(3):
            network(crops=crops)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            network(crops=crops)["heatmaps"].numpy()
            count += size
        rates.append(count / (time.perf_counter() - began))
    return max(rates)


def _bare_elsewhere(base: Path) -> float:
    newest = max((path for path in base.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    done = subprocess.run([sys.executable, __file__, f"--bare={newest}"], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def files_and_boxes(folder: str) -> list[tuple[bytes, list[float]]]:
    """Return files with a box in the middle of each image."""
    if folder:
        encoded = [path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.suffix.lower() == ".jpg"]
    else:
        import cv2

        from posecascade import datasets
        encoded = [cv2.imencode(".jpg", record.image.read()[..., ::-1])[1].tobytes()
                   for record in datasets.read("synthetic:8", "test")]
    sizes = [images.decode(data, "file", upright=True).shape for data in encoded]
    return [(data, [width / 4, height / 8, width / 2, height * 3 / 4])
            for data, (height, width, _) in zip(encoded, sizes, strict=True)]


class Load:
    """Concurrent clients, their latencies and wrong answers."""

    def __init__(self, url: str, inputs: list, reference: np.ndarray):
        """`inputs` are files and boxes, `reference` (N, K, 2) the keypoints of each in a request of its own."""
        self.url, self.inputs, self.reference = url, inputs, reference
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self.malformed = 0

    def run(self, count: int, every: int = 0, then=lambda: None) -> float:
        """Send `count` requests and return requests/s; `then` is called after every `every` of them."""
        numbers, threads = itertools.count(), []
        began = time.perf_counter()
        for _ in range(FLAGS.clients):
            threads.append(threading.Thread(target=self._client, args=(numbers, count, every, then)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return count / (time.perf_counter() - began)

    def _client(self, numbers, count, every, then):
        with connect(self.url, timeout=60, parallel=1, batch_size=FLAGS.rows) as client:
            while (number := next(numbers)) < count:
                if every and number % every == every - 1:
                    then()
                if (number * 7919) % 10_000 < 10_000 * FLAGS.malformed:
                    self._malformed(client, number)
                else:
                    self._well_formed(client, number)

    def _well_formed(self, client: Client, number: int):
        rows = [(number + row) % len(self.inputs) for row in range(FLAGS.rows)]
        began = time.perf_counter()
        try:
            poses = client.predict([self.inputs[row][0] for row in rows],
                                   [self.inputs[row][1] if FLAGS.boxes else None for row in rows])
        except InputError as error:
            self.wrong.append(f"request {number}: {error}")
            return
        self.seconds.append(time.perf_counter() - began)
        off = np.abs(np.stack([pose.keypoints for pose in poses]) - self.reference[rows]).max()
        if off > TOLERANCE:
            self.wrong.append(f"request {number}: keypoints differ by {off:.3f} px from those of a single request")

    def _malformed(self, client: Client, number: int):
        """Send one of several requests that must fail."""
        data, box = self.inputs[number % len(self.inputs)]
        column, box = np.array([data, None], object)[:1], np.float32([box])
        requests = [("serving_default", {"image_bytes": column[:, None]}), ("nothing", {"image_bytes": column}),
                    ("with_boxes", {"image_bytes": column}), ("with_boxes", {"image_bytes": box, "boxes": box}),
                    ("with_boxes", {"image_bytes": column, "boxes": box[:, :3]}), None, None]
        request = requests[number % len(requests)]
        try:
            if request:
                client._transport.predict(*request, 60)  # the client itself does not send such requests
            else:
                client.predict([data[:len(data) // 3]], [box[0] if FLAGS.boxes else None])
        except (InputError, ServerError):
            self.malformed += 1
        else:
            self.wrong.append(f"malformed request {number} was answered")


def memory(process: subprocess.Popen) -> float:
    """Return the resident memory of the process in MB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def started(base: Path) -> tuple[subprocess.Popen, str]:
    """Start a conformance server; return its process and URL when it is ready."""
    arguments = [f"--model_base_path={base}", "--model_name=pose", "--port=0", "--rest_api_port=0"]
    if FLAGS.batching:
        arguments += ["--enable_batching", f"--batching_parameters_file={FLAGS.batching}"]
    process = subprocess.Popen([sys.executable, SERVER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True)
    ports = json.loads(process.stdout.readline())
    return process, f"http://127.0.0.1:{ports['rest']}/v1/models/pose" if FLAGS.rest else \
        f"grpc://127.0.0.1:{ports['grpc']}/pose"


def main() -> None:
    """Measure and print the table."""
    FLAGS(sys.argv)
    if FLAGS.bare:
        print(bare(FLAGS.bare))
        return
    base, process, url = Path(FLAGS.model), None, FLAGS.server
    inputs = files_and_boxes(FLAGS.images)
    if not url:
        process, url = started(base)
    try:
        _measure(url, base, inputs, process)
    finally:
        if process:
            process.terminate()


def _measure(url, base, inputs, process):
    with connect(url, timeout=60) as client:
        reference = np.stack([client.predict([data], [box if FLAGS.boxes else None])[0].keypoints
                              for data, box in inputs])
    load, alone, rates, memory_mb = Load(url, inputs, reference), [], [], []
    load.run(4 * FLAGS.clients)  # to open connections and start threads
    load.seconds.clear()
    every = max(1, FLAGS.requests * FLAGS.turns // MEMORY_POINTS)
    for _ in range(FLAGS.turns):
        alone.append(_bare_elsewhere(base))
        rates.append(load.run(FLAGS.requests, every, lambda: memory_mb.append(memory(process)) if process else None))
        print(f"bare {alone[-1]:.1f} images/s, load {rates[-1]:.1f} requests/s", file=sys.stderr)
    rate, network = statistics.median(rates), statistics.median(alone)
    share = statistics.median(r * FLAGS.rows / a for r, a in zip(rates, alone, strict=True))
    p50, p99 = np.percentile(1000 * np.array(load.seconds), [50, 99])
    print("| clients x images | requests/s | images/s | bare images/s | share | p50 ms | p99 ms |")
    print(f"| {FLAGS.clients} x {FLAGS.rows} | {rate:.1f} | {rate * FLAGS.rows:.1f} | {network:.1f} | "
          f"{100 * share:.0f} % | {p50:.0f} | {p99:.0f} |")
    print(f"malformed {load.malformed}, wrong {len(load.wrong)}, memory {' '.join(f'{mb:.0f}' for mb in memory_mb)} MB")
    for line in load.wrong[:5]:
        print(line)


if __name__ == "__main__":
    main()
