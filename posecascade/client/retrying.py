"""Errors of a server, and retries: exponential backoff with jitter, within a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from posecascade.errors import InputError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds, before the jitter
SHORTEST = 1e-3  # seconds that a try gets if the pause before it took longer than planned
TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # codes of failures that may be temporary
TOO_LARGE = "TOO_LARGE"  # not a gRPC code: a smaller request may succeed
# A server that batches merges the requests of several clients. A request whose tensors differ in shape or type from the
# others' makes all requests of the batch fail (tensorflow_serving/batching/batching_session.cc); retried, only itself.
NEIGHBORS = ("from different tasks", "Tensor concat operation failed")
# gRPC and the batching queue have no code for a request that is too large: only the message says so.
_TOO_LARGE = ("larger than max", "is larger than maximum input batch size")

T = TypeVar("T")


class ServerError(InputError):
    """The server refused a request, or is unreachable.

    Attributes:
        code: name of the gRPC status code, also over REST; or TOO_LARGE.
    """

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = TOO_LARGE if any(words in message for words in _TOO_LARGE) else code

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in TRANSIENT or any(words in str(self) for words in NEIGHBORS)


def with_retries(ask: Callable[[float], T], timeout: float, rng: np.random.Generator, *,
                 clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return the result of `ask`, which is called with the remaining seconds, again after each transient ServerError.

    The pause before retry n (from 0) is drawn uniformly from 0 to min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** n) seconds, so
    that clients that failed together do not retry together. Raises the last ServerError if the next try would begin
    after `timeout` seconds.
    """
    deadline, tries = clock() + timeout, 0
    while True:
        try:
            return ask(max(deadline - clock(), SHORTEST))
        except ServerError as error:
            pause = rng.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** tries))
            tries += 1
            if not error.transient:
                raise
            if clock() + pause >= deadline:
                raise ServerError(f"{error} (after {tries} tries in {timeout:g} s)", error.code) from None
        sleep(pause)
