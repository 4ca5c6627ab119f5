"""What draws cost: ``python benchmarks/draws.py`` prints a Markdown table, and exits 1 if a goal is missed.

CPU time of one process, the least of several repeats; the peer draws as many numbers from one NumPy generator.
The goal: a million normals at four or more per seed cost at most five times ``Generator.standard_normal``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from genreg.random import Stream, categorical, normal, uniform

COUNT = 1_000_000
GOAL = 5.0
REPEATS = 9


def seconds(function: Callable[[], object]) -> float:
    """CPU seconds of the fastest of REPEATS calls."""
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found)


def main() -> int:
    """Measure, print, and say by the exit code whether the goal is met."""
    peer = np.random.default_rng(0)
    log_p = np.log(np.arange(1.0, 11.0))
    peers = {
        "normal": seconds(lambda: peer.standard_normal(COUNT)),
        "uniform": seconds(lambda: peer.random(COUNT)),
        "categorical": seconds(lambda: peer.choice(10, COUNT, p=np.exp(log_p) / np.exp(log_p).sum())),
    }
    rows: list[tuple[str, int, float, float | None]] = []
    for width in (4, 64, 1000):
        seeds = np.arange(COUNT // width, dtype=np.uint64)
        rows.append(("normal", width, seconds(partial(normal, seeds, (width,), stream=Stream.PRIOR)), GOAL))
    for width in (1, 4, 64, 1000):
        seeds = np.arange(COUNT // width, dtype=np.uint64)
        rows.append(("uniform", width, seconds(partial(uniform, seeds, (width,), stream=Stream.PRIOR)), None))
    seeds = np.arange(COUNT, dtype=np.uint64)
    rows.append(("categorical", 1, seconds(partial(categorical, seeds, log_p, stream=Stream.PRIOR)), None))

    print(f"| {COUNT:,} draws | per seed | ms | numpy, ms | ratio | goal |\n|---|---:|---:|---:|---:|---:|")
    for name, width, mine, goal in rows:
        ratio = mine / peers[name]
        figures = f"{mine * 1e3:.1f} | {peers[name] * 1e3:.1f} | {ratio:.2f} | {f'≤ {goal:g}' if goal else ''}"
        print(f"| {name} | {width} | {figures} |")
    return int(any(goal and mine / peers[name] > goal for name, _, mine, goal in rows))


if __name__ == "__main__":
    sys.exit(main())
