"""What a server refuses, and the one way to ask again: jittered pauses that double, within one deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from posecascade.errors import InputError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds, before the jitter
TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # what may be otherwise a moment later
TOO_LARGE = "TOO_LARGE"  # not one of gRPC's codes: less at once may be taken
# A server that batches merges requests of several clients; one whose tensors have another shape or type than its
# neighbors' fails all of their batch (tensorflow_serving/batching/batching_session.cc). Asked again, only that one.
NEIGHBORS = ("from different tasks", "Tensor concat operation failed")
# gRPC and the batching queue tell by words alone that something is too large.
_TOO_LARGE = ("larger than max", "is larger than maximum input batch size")

T = TypeVar("T")


class ServerError(InputError):
    """The server refuses a request, or cannot be reached.

    Attributes:
        code: the name of gRPC's status code, also over REST; or TOO_LARGE.
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
    """What `ask` gives, given the seconds that are left; asked again while a ServerError is transient.

    The pause before try n + 1 is drawn from 0 to min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** n) seconds, so that clients that
    failed together do not come back together. Raises the last ServerError when the next try would begin after `timeout`
    seconds.
    """
    deadline, tries = clock() + timeout, 0
    while True:
        try:
            return ask(deadline - clock())
        except ServerError as error:
            pause = rng.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** tries))
            tries += 1
            if not error.transient:
                raise
            if clock() + pause >= deadline:
                raise ServerError(f"{error} (after {tries} tries in {timeout:g} s)", error.code) from None
        sleep(pause)
