"""Run requests of several clients as one, like TensorFlow Serving's BatchingSession and SharedBatchScheduler.

After tensorflow_serving/batching/batching_session.cc and TensorFlow's shared_batch_scheduler.h: one queue per signature
and threads shared by all queues. A batch runs when it is full, or when its first request has waited long enough and a
thread is free. If it fails, all its requests fail.
"""

import bisect
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from concurrent.futures import Future

import grpc
import numpy as np
from model_server_models import Refused, Run, invalid

# Defaults of the server (shared_batch_scheduler.h, Options).
DEFAULTS = {"max_batch_size": 1000, "batch_timeout_micros": 0, "max_enqueued_batches": 10, "num_batch_threads": 2}


class _Batch:
    """Hold requests that will run together."""

    def __init__(self, run: Run):
        self.run, self.tasks, self.rows, self.began = run, [], 0, time.monotonic()


class Batcher:
    """Run the requests passed to `submit` in batches."""

    def __init__(self, parameters):
        """Start the threads. `parameters` is a BatchingParameters message; ValueError if the server would refuse it."""
        values = {name: getattr(parameters, name).value if parameters.HasField(name) else default
                  for name, default in DEFAULTS.items()}
        self._max_rows, self._enqueued = values["max_batch_size"], values["max_enqueued_batches"]
        self._wait, self._allowed = values["batch_timeout_micros"] / 1e6, list(parameters.allowed_batch_sizes)
        if self._allowed and (self._allowed[-1] != self._max_rows or sorted(set(self._allowed)) != self._allowed):
            raise ValueError(f"allowed_batch_sizes {self._allowed} must rise to max_batch_size {self._max_rows}")
        if parameters.pad_variable_length_inputs:
            raise ValueError("pad_variable_length_inputs is not implemented: it reads beyond a shape's end if a client "
                             "sends another rank (batching_util.cc)")
        self._queues: OrderedDict[Hashable, deque[_Batch]] = OrderedDict()
        self._changed = threading.Condition()
        self.sizes: deque[int] = deque(maxlen=10_000)  # requests in each of the last batches
        for _ in range(values["num_batch_threads"]):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, key: Hashable, run: Run, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of one request's rows when they are computed."""
        if any(not values.ndim for values in inputs.values()):
            raise invalid("Batching Run() input tensors must have at least one dimension.")
        if len({len(values) for values in inputs.values()}) > 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(next(iter(inputs.values())))
        if rows > self._max_rows:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self._max_rows}")
        done = Future()
        with self._changed:
            queue = self._queues.setdefault(key, deque())
            if not queue or queue[-1].rows + rows > self._max_rows:
                if len(queue) >= self._enqueued:
                    raise Refused(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue to which this task was "
                                                               "submitted is full")
                queue.append(_Batch(run))
            queue[-1].tasks.append((inputs, rows, done))
            queue[-1].rows += rows
            self._changed.notify()
        return done.result()

    def _work(self):
        while True:
            batch = self._next()
            self.sizes.append(len(batch.tasks))
            try:
                outputs = batch.run(self._merged(batch))
            except Refused as error:
                for _, _, done in batch.tasks:
                    done.set_exception(error)
                continue
            start = 0
            for _, rows, done in batch.tasks:
                done.set_result({name: values[start:start + rows] for name, values in outputs.items()})
                start += rows

    def _next(self) -> _Batch:
        with self._changed:
            while True:
                soonest = None
                for key, queue in self._queues.items():
                    if not queue:
                        continue
                    left = 0 if len(queue) > 1 or queue[0].rows == self._max_rows else \
                        queue[0].began + self._wait - time.monotonic()
                    if left <= 0:
                        self._queues.move_to_end(key)  # round robin
                        return queue.popleft()
                    soonest = left if soonest is None else min(soonest, left)
                self._changed.wait(soonest)

    def _merged(self, batch):
        """Return the rows of all requests, padded to an allowed size with the last request's first row."""
        merged = {}
        first, last = batch.tasks[0][0], batch.tasks[-1][0]
        missing = self._allowed[bisect.bisect_left(self._allowed, batch.rows)] - batch.rows if self._allowed else 0
        for name, reference in first.items():
            parts = [inputs[name] for inputs, _, _ in batch.tasks]
            if any(part.shape[1:] != reference.shape[1:] for part in parts):
                raise Refused(grpc.StatusCode.FAILED_PRECONDITION,
                              f"Tensors with name '{name}' from different tasks have different shapes and padding is "
                              "turned off. Set pad_variable_length_inputs to true, or ensure that all tensors with the "
                              "same name have equal dimensions starting with the first dim.")
            if any(part.dtype != reference.dtype for part in parts):
                raise Refused(grpc.StatusCode.INTERNAL, "Tensor concat operation failed: Cannot concatenate tensors "
                                                        "that have different data types.")
            merged[name] = np.concatenate(parts + [last[name][:1]] * missing)
        return merged
