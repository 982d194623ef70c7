"""Lay the phases of a run out over its steps and compute the learning rate of every step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

TRAINS = ("joint", "detector", "regressor")
SCHEDULES = ("constant", "cosine", "step")


@dataclass(frozen=True)
class Phase:
    """A part of the run.

    Attributes:
        train: which weights are trained.
        share: length relative to the other phases'.
        input_size: side of the crop in pixels; 0 means model.input_size.
        lr_factor: multiplier of the learning rate.
        frozen_blocks: number of early blocks of the backbone that stay unchanged.
    """

    train: str = field(default="joint", metadata={"choices": TRAINS})
    share: float = field(default=1.0, metadata={"low": 0})
    input_size: int = field(default=0, metadata={"low": 0})
    lr_factor: float = field(default=1.0, metadata={"low": 0})
    frozen_blocks: int = field(default=0, metadata={"low": 0})


@dataclass(frozen=True)
class Span:
    """A phase in steps, from `start` up to but not including `end`.

    Attributes:
        fresh: the step at which its optimizer is created: `start`, or that of an earlier span that trains the same
            weights and whose optimizer is kept.
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
    laid: list[Span] = []
    done, start = 0.0, 0
    for phase in phases:
        done += phase.share
        end = round(steps * done / total)
        if end > start:
            last = laid[-1] if laid else None
            continues = last is not None and (last.train, last.frozen_blocks) == (phase.train, phase.frozen_blocks)
            laid.append(Span(start, end, last.fresh if continues else start, phase.input_size or input_size,
                             phase.train, phase.frozen_blocks, phase.lr_factor))
        start = end
    return laid


def extended(laid: Sequence[Span], steps: int) -> list[Span]:
    """Return the spans with the last one made longer, to end at `steps`: what a run with more epochs still trains."""
    return [*laid[:-1], replace(laid[-1], end=steps)]


def learning_rate(step: int, steps: int, span: Span, *, rate: float, schedule: str, warmup_steps: int,
                  milestones: Sequence[float] = (), step_factor: float = 0.1) -> float:
    """Return the learning rate of one step.

    Args:
        step: counted from 0, within `span`; `steps` is the length of the run.
        rate: the highest rate; the span's `lr_factor` multiplies it.
        schedule: "constant"; "cosine", from `rate` to 0 over the whole run; or "step", multiplied by `step_factor` at
            each of `milestones`, which are fractions of the run.
        warmup_steps: number of steps over which the rate rises linearly after an optimizer was created.
    """
    done = step / steps
    factor = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)),
              "step": step_factor ** sum(done >= milestone for milestone in milestones)}[schedule]
    warm = min(1.0, (step - span.fresh + 1) / warmup_steps) if warmup_steps else 1.0
    return rate * span.lr_factor * factor * warm
