"""Baum-Welch and sampling against hmmlearn, in CPU seconds on one thread.

The peer is hmmlearn's scaling mode, its fastest, in the same process on the same data from the same start; its default
mode is three times slower and more. The floor is what the arithmetic and the memory traffic alone would take on this
machine, 6 T K^2 floating point operations and 12 passes over a [T, K] array, at the rates that are measured here for
a product of the same inner size and for a copy. Memory is the growth of the process when four times the sequences are
learned from, beside what one array of all their states would take.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genreg_hmm.batches import buckets
from genreg_hmm.categorical import Categorical
from genreg_hmm.config import Config
from genreg_hmm.emissions import Diagonal
from genreg_hmm.learning import Parameters, Workspace, e_step, m_step
from genreg_hmm.model import HiddenMarkov
from genreg_hmm.sequences import Sequences

ML = Config(transition_prior=1, emission_prior=1)
SIZES = {"one sequence": (1, 100_000, 8, 4), "many sequences": (1000, 100, 16, 4), "text": (1000, 1000, 32, 96)}
GOALS = {"one sequence": 2.0, "many sequences": 4.0, "text": 6.0, "sampling": 50.0}


def cpu(call: Callable[[], Any], repeats: int) -> float:
    """The least CPU seconds of some runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def chain(draw: np.random.Generator, states: int) -> Any:
    table = draw.random((states, states)) + 1.6 * states * np.eye(states)
    return table / table.sum(1, keepdims=True)


def gaussian(name: str) -> tuple[Parameters, Sequences, Any]:
    from hmmlearn.hmm import GaussianHMM

    count, steps, states, size = SIZES[name]
    draw = np.random.default_rng(0)
    cdf, mean = chain(draw, states).cumsum(1), draw.normal(size=(states, size)) * 3
    z = np.zeros((count, steps), np.int64)
    for t in range(1, steps):
        z[:, t] = (cdf[z[:, t - 1]] < draw.random((count, 1))).sum(1).clip(max=states - 1)
    x = mean[z].reshape(-1, size) + draw.normal(size=(count * steps, size))
    start, first = np.full(states, 1 / states), mean + 0.5 * draw.normal(size=mean.shape)
    emission = Diagonal(first, np.ones_like(first), x.mean(0), np.full(size, 1e-12))
    parameters = Parameters(start, chain(draw, states), (emission,))
    peer = GaussianHMM(
        states, implementation="scaling", n_iter=10, tol=-np.inf, init_params="", covars_prior=0, min_covar=0
    )

    def run() -> None:
        peer.startprob_, peer.transmat_ = parameters.start, parameters.transition
        peer.means_, peer.covars_ = emission.mean, emission.variance
        peer.fit(x, [steps] * count)

    return parameters, Sequences(np.full(count, steps), (x,)), run


def text(count: int = SIZES["text"][0]) -> tuple[Parameters, Sequences, Any]:
    _, steps, states, size = SIZES["text"]
    draw = np.random.default_rng(0)
    x = draw.choice(size, count * steps, p=draw.dirichlet(np.full(size, 0.3)))
    p = draw.dirichlet(np.ones(size), states)
    parameters = Parameters(np.full(states, 1 / states), chain(draw, states), (Categorical(p, 1e-6),))

    def run() -> None:
        from hmmlearn.hmm import CategoricalHMM

        peer = CategoricalHMM(states, implementation="scaling", n_iter=1, tol=-np.inf, init_params="", n_features=size)
        peer.startprob_, peer.transmat_, peer.emissionprob_ = parameters.start, parameters.transition, p
        peer.fit(x[:, None], [steps] * count)

    return parameters, Sequences(np.full(count, steps), (x,)), run


def ours(parameters: Parameters, data: Sequences, iterations: int, dtype: torch.dtype) -> Callable[[], None]:
    held, work = list(buckets(data, parameters.emissions, parameters.states, dtype=dtype)), Workspace()

    def run() -> None:
        now = parameters
        for _ in range(iterations):
            now = m_step(now, e_step(now, held, dtype, work), ML)

    return run


def floor(steps: int, states: int, dtype: torch.dtype) -> float:
    a, b = torch.ones(1000, states, dtype=dtype), torch.ones(states, states, dtype=dtype)
    out = torch.empty(1000, states, dtype=dtype)
    flops = 200 * 2 * 1000 * states**2 / cpu(lambda: [torch.mm(a, b, out=out) for _ in range(200)], 3)
    block = torch.ones(1 << 20, dtype=dtype)
    other = torch.empty_like(block)
    numbers = 50 * block.numel() / cpu(lambda: [other.copy_(block) for _ in range(50)], 3)
    return 6 * steps * states**2 / flops + 12 * steps * states / numbers


def learning() -> list[tuple[str, float, float, float, float]]:
    rows = []
    for name in ("one sequence", "many sequences", "text"):
        parameters, data, peer = text() if name == "text" else gaussian(name)
        iterations = 1 if name == "text" else 10
        theirs = cpu(peer, 2) / iterations
        for dtype in (torch.float64, torch.float32):
            own = cpu(ours(parameters, data, iterations, dtype), 4) / iterations
            label = f"{name}, {str(dtype).removeprefix('torch.')}"
            rows.append((label, theirs, own, theirs / own, floor(int(data.lengths.sum()), parameters.states, dtype)))
    return rows


def sampling() -> tuple[float, float]:
    from hmmlearn.hmm import GaussianHMM

    parameters, data, _ = gaussian("one sequence")
    columns = [{"name": f"x{d}", "kind": "gaussian"} for d in range(4)]
    model = HiddenMarkov(Config.model_validate({"states": 8, "columns": columns}), parameters)
    import pyarrow as pa

    steps = int(data.lengths[0])
    given = pa.RecordBatch.from_pydict({"length": pa.array([steps], pa.int64())})
    peer = GaussianHMM(8)
    peer.startprob_, peer.transmat_ = parameters.start, parameters.transition
    peer.means_, peer.covars_ = parameters.emissions[0].mean, parameters.emissions[0].variance
    own = cpu(lambda: model.render(model.propose(np.zeros(1, np.uint64), given)), 4)
    return cpu(lambda: peer.sample(steps, random_state=0), 1), own


def peak(count: int) -> float:
    """Peak MB of a process that learns from so many texts."""
    done = subprocess.run([sys.executable, __file__, str(count)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> int:
    torch.set_num_threads(1)
    print("| EM step | hmmlearn, s | genreg, s | times faster | goal | floor, s | over the floor |")
    print("|---|---|---|---|---|---|---|")
    missed = False
    for label, theirs, own, ratio, least in learning():
        name, kind = label.split(", ")
        counts = name != "text" or kind == "float32"
        missed |= counts and ratio < GOALS[name]
        goal = f"{GOALS[name]:g}" if counts else "-"
        print(f"| {label} | {theirs:.3f} | {own:.4f} | **{ratio:.1f}** | {goal} | {least:.4f} | {own / least:.1f} |")
    theirs, own = sampling()
    missed |= theirs / own < GOALS["sampling"]
    print(f"| sampling 100,000 steps | {theirs:.3f} | {own:.4f} | **{theirs / own:.0f}** | {GOALS['sampling']:g} | | |")
    one, four = peak(1000), peak(4000)
    steps, states = 3 * SIZES["text"][0] * SIZES["text"][1], SIZES["text"][2]
    whole, cells = steps * states * 4 / 1e6, steps * 8 / 1e6
    print(f"\nFour times the text took {four - one:.0f} MB more, of which {2 * cells:.0f} MB hold the symbols;")
    print(f"one array of all their states would be {whole:.0f} MB, and EM needs three.")
    missed |= four - one > 0.5 * whole
    return int(missed)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        made, texts, _ = text(int(sys.argv[1]))
        ours(made, texts, 1, torch.float32)()
        status = Path("/proc/self/status").read_text("ascii")  # what getrusage says is the parent's too
        print(int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1e3)
    else:
        sys.exit(main())
