"""Load on a served model: concurrent clients, files in and keypoints out, beside the bare network on the same cores.

  python benchmarks/serving.py --model=exported [--pictures=DIR] [--malformed=0.05] [--requests=20000]

Starts the conformance server (tests/model_server.py) in a process of its own and asks it through `posecascade.client`
from threads of this one, so that server and clients share the cores. Prints requests/s, their latency, the share of the
bare network's images/s (`heatmaps` on crops in memory, the better of one and eight at a time; in turns with the load,
so that a busy machine slows both alike), and the server's memory on the way. Each answer is compared with that which
its picture has when it is asked about alone: malformed requests in between must change none. `--server=grpc://...`
loads a server that runs already instead.
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
flags.DEFINE_string("model", "exported", "folder of posecascade-export's versions", flag_values=FLAGS)
flags.DEFINE_string("server", "", "URL of a server that runs already", flag_values=FLAGS)
flags.DEFINE_string("pictures", "", "folder of JPEG files (default: rendered people)", flag_values=FLAGS)
flags.DEFINE_integer("requests", 400, "in a turn, all clients together", flag_values=FLAGS)
flags.DEFINE_integer("clients", 8, "threads", flag_values=FLAGS)
flags.DEFINE_integer("rows", 1, "pictures in a request", flag_values=FLAGS)
flags.DEFINE_integer("turns", 3, "of bare network and load", flag_values=FLAGS)
flags.DEFINE_bool("boxes", True, "with_boxes; else serving_default, which looks for the person", flag_values=FLAGS)
flags.DEFINE_bool("rest", False, "over REST instead of gRPC", flag_values=FLAGS)
flags.DEFINE_string("batching", "", "a batching_parameters.txt for the server", flag_values=FLAGS)
flags.DEFINE_float("malformed", 0.0, "share of requests that no server can answer", flag_values=FLAGS)
flags.DEFINE_string("bare", "", "of the benchmark itself: time the network of this SavedModel", flag_values=FLAGS)

SERVER = Path(__file__).resolve().parents[1] / "tests" / "model_server.py"
AWAY = 0.05  # px by which an answer may lie elsewhere in another batch, where sums come in another order
MEMORY_POINTS = 10
SECONDS = 4  # for which the bare network is timed at a size


def bare(folder: str) -> float:
    """images/s of the network alone, at the better of two batch sizes."""
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


def pictures(folder: str) -> list[tuple[bytes, list[float]]]:
    """Files and a box in each: the middle of the picture, as if a detector had said so."""
    if folder:
        found = [path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.suffix.lower() == ".jpg"]
    else:
        import cv2

        from posecascade import datasets
        found = [cv2.imencode(".jpg", record.image.read()[..., ::-1])[1].tobytes()
                 for record in datasets.read("synthetic:8", "test")]
    sizes = [images.decode(data, "picture", upright=True).shape for data in found]
    return [(data, [width / 4, height / 8, width / 2, height * 3 / 4])
            for data, (height, width, _) in zip(found, sizes, strict=True)]


class Load:
    """Clients that ask at once, and what came of it."""

    def __init__(self, url: str, asked: list, reference: np.ndarray):
        """`asked` are files and boxes, `reference` (N, K, 2) the joints that each has when it is asked about alone."""
        self.url, self.asked, self.reference = url, asked, reference
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self.malformed = 0

    def run(self, count: int, every: int = 0, then=lambda: None) -> float:
        """Requests/s of `count`; `then` is called after each `every` of them."""
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
        rows = [(number + row) % len(self.asked) for row in range(FLAGS.rows)]
        began = time.perf_counter()
        try:
            found = client.predict([self.asked[row][0] for row in rows],
                                   [self.asked[row][1] if FLAGS.boxes else None for row in rows])
        except InputError as error:
            self.wrong.append(f"request {number}: {error}")
            return
        self.seconds.append(time.perf_counter() - began)
        away = np.abs(np.stack([pose.keypoints for pose in found]) - self.reference[rows]).max()
        if away > AWAY:
            self.wrong.append(f"request {number}: joints lie {away:.3f} px from those of the picture asked about alone")

    def _malformed(self, client: Client, number: int):
        """One of several that must fail, each in its own way."""
        data, box = self.asked[number % len(self.asked)]
        column, box = np.array([data, None], object)[:1], np.float32([box])
        ways = [("serving_default", {"image_bytes": column[:, None]}), ("nothing", {"image_bytes": column}),
                ("with_boxes", {"image_bytes": column}), ("with_boxes", {"image_bytes": box, "boxes": box}),
                ("with_boxes", {"image_bytes": column, "boxes": box[:, :3]}), None, None]
        way = ways[number % len(ways)]
        try:
            if way:
                client._transport.predict(*way, 60)  # what the client itself would never send
            else:
                client.predict([data[:len(data) // 3]], [box[0] if FLAGS.boxes else None])
        except (InputError, ServerError):
            self.malformed += 1
        else:
            self.wrong.append(f"malformed request {number} was answered")


def memory(process: subprocess.Popen) -> float:
    """MB that the process has in memory."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def started(base: Path) -> tuple[subprocess.Popen, str]:
    """A conformance server, ready, and its URL."""
    words = [f"--model_base_path={base}", "--model_name=pose", "--port=0", "--rest_api_port=0"]
    if FLAGS.batching:
        words += ["--enable_batching", f"--batching_parameters_file={FLAGS.batching}"]
    process = subprocess.Popen([sys.executable, SERVER, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True)
    ports = json.loads(process.stdout.readline())
    return process, f"http://127.0.0.1:{ports['rest']}/v1/models/pose" if FLAGS.rest else \
        f"grpc://127.0.0.1:{ports['grpc']}/pose"


def main() -> None:
    """Print the table."""
    FLAGS(sys.argv)
    if FLAGS.bare:
        print(bare(FLAGS.bare))
        return
    base, process, url = Path(FLAGS.model), None, FLAGS.server
    asked = pictures(FLAGS.pictures)
    if not url:
        process, url = started(base)
    try:
        _measure(url, base, asked, process)
    finally:
        if process:
            process.terminate()


def _measure(url, base, asked, process):
    with connect(url, timeout=60) as client:
        reference = np.stack([client.predict([data], [box if FLAGS.boxes else None])[0].keypoints
                              for data, box in asked])
    load, alone, rates, kept = Load(url, asked, reference), [], [], []
    load.run(4 * FLAGS.clients)  # connections and threads
    load.seconds.clear()
    every = max(1, FLAGS.requests * FLAGS.turns // MEMORY_POINTS)
    for _ in range(FLAGS.turns):
        alone.append(_bare_elsewhere(base))
        rates.append(load.run(FLAGS.requests, every, lambda: kept.append(memory(process)) if process else None))
        print(f"bare {alone[-1]:.1f} images/s, load {rates[-1]:.1f} requests/s", file=sys.stderr)
    rate, network = statistics.median(rates), statistics.median(alone)
    share = statistics.median(r * FLAGS.rows / a for r, a in zip(rates, alone, strict=True))
    p50, p99 = np.percentile(1000 * np.array(load.seconds), [50, 99])
    print("| clients x pictures | requests/s | images/s | bare images/s | share | p50 ms | p99 ms |")
    print(f"| {FLAGS.clients} x {FLAGS.rows} | {rate:.1f} | {rate * FLAGS.rows:.1f} | {network:.1f} | "
          f"{100 * share:.0f} % | {p50:.0f} | {p99:.0f} |")
    print(f"malformed {load.malformed}, wrong {len(load.wrong)}, memory {' '.join(f'{mb:.0f}' for mb in kept)} MB")
    for line in load.wrong[:5]:
        print(line)


if __name__ == "__main__":
    main()
