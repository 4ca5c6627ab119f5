"""Schedules: functions of the step, never of the clock, so that a resumed run is the same run."""

from __future__ import annotations

import math


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` at progress 0 to ``end`` at 1.

    >>> [cosine(p, 1.0, 0.0) for p in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return end + (start - end) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def linear(progress: float, start: float, end: float) -> float:
    """A straight line from ``start`` at progress 0 to ``end`` at 1, level outside.

    >>> linear(0.25, 0.0, 2.0)
    0.5
    """
    return start + (end - start) * min(max(progress, 0.0), 1.0)


def warmed(step: int, warmup: int) -> float:
    """The share of the learning rate that a step has reached; 1 from step ``warmup`` - 1 on.

    >>> [warmed(step, 4) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def decay_of(ema: float, step: int) -> float:
    """The decay of the average at a step: short at first, so that the initial weights are soon forgotten.

    >>> round(decay_of(0.998, 0), 3), decay_of(0.998, 100_000)
    (0.1, 0.998)
    """
    return min(ema, (step + 1) / (step + 10))
