"""When what happens: the phases of a run as spans of steps, and the learning rate at every step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

TRAINS = ("joint", "detector", "regressor")
SCHEDULES = ("constant", "cosine", "step")


@dataclass(frozen=True)
class Phase:
    """A part of the run: `share` of the epochs relative to the other phases', what trains, and at which size.

    `input_size` 0 means the model's; `lr_factor` multiplies the learning rate; `frozen_blocks` is the number of
    early backbone blocks whose weights stay as they are.
    """

    train: str = field(default="joint", metadata={"choices": TRAINS})
    share: float = field(default=1.0, metadata={"low": 0})
    input_size: int = field(default=0, metadata={"low": 0})
    lr_factor: float = field(default=1.0, metadata={"low": 0})
    frozen_blocks: int = field(default=0, metadata={"low": 0})


@dataclass(frozen=True)
class Span:
    """A phase in steps: from `start` up to, not including, `end`.

    Attributes:
        fresh: the step from which its optimizer counts: its start, or that of an earlier span that trains the same
            weights, whose optimizer then goes on.
    """

    start: int
    end: int
    fresh: int
    size: int
    train: str
    frozen_blocks: int
    lr_factor: float


def spans(phases: Sequence[Phase], steps: int, input_size: int) -> list[Span]:
    """Return the phases laid over `steps` by their shares; phases too short for a single step are skipped."""
    total = sum(phase.share for phase in phases)
    found: list[Span] = []
    done, start = 0.0, 0
    for phase in phases:
        done += phase.share
        end = round(steps * done / total)
        if end > start:
            last = found[-1] if found else None
            goes_on = last is not None and (last.train, last.frozen_blocks) == (phase.train, phase.frozen_blocks)
            found.append(Span(start, end, last.fresh if goes_on else start, phase.input_size or input_size,
                              phase.train, phase.frozen_blocks, phase.lr_factor))
        start = end
    return found


def learning_rate(step: int, steps: int, span: Span, *, rate: float, schedule: str, warmup_steps: int,
                  milestones: Sequence[float] = (), step_factor: float = 0.1) -> float:
    """The rate of one step.

    Args:
        step: from 0, within `span`; `steps` is the length of the run.
        rate: the highest, which the span multiplies by its own.
        schedule: "constant"; "cosine", from `rate` to 0 over the whole run; or "step", multiplied by `step_factor` at
            each of `milestones`, given in parts of the run.
        warmup_steps: the rate rises linearly over so many steps after a fresh optimizer begins.
    """
    done = step / steps
    factor = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)),
              "step": step_factor ** sum(done >= milestone for milestone in milestones)}[schedule]
    warm = min(1.0, (step - span.fresh + 1) / warmup_steps) if warmup_steps else 1.0
    return rate * span.lr_factor * factor * warm
