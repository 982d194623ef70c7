"""When what happens: the stages of a run as spans of steps, and the learning rate at every step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

TRAINS = ("joint", "detector", "regressor")
SCHEDULES = ("constant", "cosine", "step")


@dataclass(frozen=True)
class Stage:
    """A part of the run: `share` of the epochs relative to the other stages', what trains, and at which size.

    `input_size` 0 means the model's; `rate` multiplies the learning rate; `freeze` is the number of early backbone
    blocks that stay as they are.
    """

    train: str = field(default="joint", metadata={"choices": TRAINS})
    share: float = field(default=1.0, metadata={"low": 0})
    input_size: int = field(default=0, metadata={"low": 0})
    rate: float = field(default=1.0, metadata={"low": 0})
    freeze: int = field(default=0, metadata={"low": 0})


@dataclass(frozen=True)
class Span:
    """A stage in steps: from `start` up to, not including, `end`.

    Attributes:
        fresh: the step from which its optimiser counts: its start, or that of an earlier span that trains the same
            weights, whose optimiser then goes on.
    """

    start: int
    end: int
    fresh: int
    size: int
    train: str
    freeze: int
    rate: float


def spans(stages: Sequence[Stage], steps: int, input_size: int) -> list[Span]:
    """The stages laid over `steps` by their shares; stages too short for a single step are left out."""
    total = sum(stage.share for stage in stages)
    found: list[Span] = []
    done, start = 0.0, 0
    for stage in stages:
        done += stage.share
        end = round(steps * done / total)
        if end > start:
            last = found[-1] if found else None
            goes_on = last is not None and (last.train, last.freeze) == (stage.train, stage.freeze)
            found.append(Span(start, end, last.fresh if goes_on else start, stage.input_size or input_size,
                              stage.train, stage.freeze, stage.rate))
        start = end
    return found


def learning_rate(step: int, steps: int, span: Span, *, rate: float, schedule: str, warmup_steps: int,
                  milestones: Sequence[float] = (), drop: float = 0.1) -> float:
    """The rate of one step.

    Args:
        step: from 0, within `span`; `steps` is the length of the run.
        rate: the highest, which the span multiplies by its own.
        schedule: "constant"; "cosine", from `rate` to 0 over the whole run; or "step", multiplied by `drop` at each
            of `milestones`, given in parts of the run.
        warmup_steps: the rate rises linearly over so many steps after a fresh optimiser begins.
    """
    done = step / steps
    factor = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)),
              "step": drop ** sum(done >= milestone for milestone in milestones)}[schedule]
    warm = min(1.0, (step - span.fresh + 1) / warmup_steps) if warmup_steps else 1.0
    return rate * span.rate * factor * warm
