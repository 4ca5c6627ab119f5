"""How fast is naive Bayes? Ratios to scikit-learn and to NumPy's own normals: CPU time of one thread, same process.

    python benchmarks/nb_speed.py

Each figure is the least of several repeats of both sides in turn. OPENBLAS_CORETYPE must not be set, so that both use
the kernels that their libraries choose. "No slower" (a goal of 1) allows 3 % for noise. Prints a Markdown table; the
exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse
import sklearn.naive_bayes as peer
from threadpoolctl import threadpool_limits

import genreg_nb.sklearn as own
from genreg.data import empty_batch
from genreg.draft import Array
from genreg.form import Form
from genreg.generate import generate
from genreg_nb.config import Column, Config, columns, conditions
from genreg_nb.counts import count
from genreg_nb.densities import densities
from genreg_nb.kernels import Moments
from genreg_nb.model import NaiveBayes
from genreg_nb.statistics import Statistics

ROWS, REPEATS = 1_000_000, 5


def seconds(theirs: Callable[[], object], ours: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """CPU seconds of each, the least of ``repeats`` taken in turn."""
    found: list[list[float]] = [[], []]
    for _ in range(repeats):
        for at, function in enumerate((theirs, ours)):
            start = time.process_time()
            function()
            found[at].append(time.process_time() - start)
    return min(found[0]), min(found[1])


def gaussian(draw: np.random.Generator, y: Array) -> Iterator[tuple[str, float, tuple[float, float]]]:
    """1,000,000 x 50 float32 in ten classes."""
    x = draw.standard_normal((ROWS, 50), dtype=np.float32)
    centers = draw.normal(0, 2, (10, 50)).astype(np.float32)
    for start in range(0, ROWS, 10_000):
        x[start : start + 10_000] += centers[y[start : start + 10_000]]
    yield (
        "Gaussian fit, 1M x 50 float32",
        2.5,
        seconds(lambda: peer.GaussianNB().fit(x, y), lambda: own.GaussianNB().fit(x, y)),
    )
    a, b = peer.GaussianNB().fit(x, y), own.GaussianNB().fit(x, y)
    joint = seconds(lambda: a.predict_joint_log_proba(x), lambda: b.predict_joint_log_proba(x))
    yield "Gaussian joint log probability, 1M x 50 float32", 7.0, joint


def categorical(draw: np.random.Generator, y: Array) -> Iterator[tuple[str, float, tuple[float, float]]]:
    """1,000,000 x 20 codes of 50 categories in ten classes."""
    x = draw.integers(0, 50, (ROWS, 20))
    fit = seconds(lambda: peer.CategoricalNB().fit(x, y), lambda: own.CategoricalNB().fit(x, y), 3)
    yield "categorical fit, 1M x 20", 10.0, fit
    a, b = peer.CategoricalNB().fit(x, y), own.CategoricalNB().fit(x, y)
    joint = seconds(lambda: a.predict_joint_log_proba(x), lambda: b.predict_joint_log_proba(x), 3)
    yield "categorical joint log probability, 1M x 20", 3.0, joint


def sparse(draw: np.random.Generator) -> Iterator[tuple[str, float | None, tuple[float, float]]]:
    """100,000 rows of about 54 words out of 5,000, in twenty classes; and 20,000 of them, dense."""
    lengths = draw.poisson(54, 100_000)
    words = (5000 * draw.random(lengths.sum()) ** 2).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    x = scipy.sparse.csr_matrix((np.ones(len(words)), words, ends), shape=(100_000, 5000))
    x.sum_duplicates()
    y = draw.integers(0, 20, 100_000)
    dense, labels = x[:20_000].toarray().astype(np.float32), y[:20_000]
    for name in ("MultinomialNB", "BernoulliNB"):
        theirs, ours = getattr(peer, name), getattr(own, name)
        goal = 1.0 if name == "MultinomialNB" else None
        fit = seconds(lambda theirs=theirs: theirs().fit(x, y), lambda ours=ours: ours().fit(x, y))
        yield f"{name} fit, 100k x 5k CSR, {x.nnz / 1e6:.1f}M cells", goal, fit
        a, b = theirs().fit(x, y), ours().fit(x, y)
        joint = seconds(lambda a=a: a.predict_joint_log_proba(x), lambda b=b: b.predict_joint_log_proba(x))
        yield f"{name} joint log probability, the same", goal, joint
        fit = seconds(lambda theirs=theirs: theirs().fit(dense, labels), lambda ours=ours: ours().fit(dense, labels), 3)
        yield f"{name} fit, 20k x 5k dense float32", None, fit


def family(draw: np.random.Generator) -> NaiveBayes:
    """A model of twenty Gaussian columns and a label of three classes."""
    numbers = [Column(name=f"x{j}", kind="gaussian") for j in range(20)]
    config = Config(label="y", columns=[*numbers, Column(name="y", kind="categorical", values=["a", "b", "c"])])
    full = np.full((3, 20), 100.0)
    moments = Moments(full, draw.normal(size=(3, 20)), full)
    nothing = count(np.zeros((0, 0)), np.zeros((0, 3)))
    return NaiveBayes(config, densities(config, Statistics(full[:, 0], moments, np.zeros((3, 0)), nothing)))


def sampled(draw: np.random.Generator) -> Iterator[tuple[str, float | None, tuple[float, float]]]:
    """1,000,000 rows of twenty columns and their label, against as many of NumPy's normals."""
    model, numpy = family(draw), np.random.default_rng(0)
    schema, seeds = columns(model.config), np.arange(ROWS, dtype=np.uint64)
    form, given = Form(schema, schema, conditions(model.config)), empty_batch(schema, ROWS)

    def bare() -> None:
        for start in range(0, ROWS, 65_536):
            own_seeds = seeds[start : start + 65_536]
            model.render(model.propose(own_seeds, given.slice(start, len(own_seeds))))

    def whole() -> None:
        for _ in generate(model, form, seeds, given, batch=65_536):
            pass

    yield (
        "sample 1M rows x 20 + label, propose and render",
        1 / 5,
        seconds(lambda: numpy.standard_normal((ROWS, 20)), bare),
    )
    yield "the same, the whole way of `genreg run`", 1 / 5, seconds(lambda: numpy.standard_normal((ROWS, 20)), whole)


def main() -> int:
    """Print the table; 1 when a goal is missed."""
    if "OPENBLAS_CORETYPE" in os.environ:
        sys.exit("unset OPENBLAS_CORETYPE: NumPy and SciPy bring one OpenBLAS each, and it would change both")
    draw = np.random.default_rng(0)
    y = draw.integers(0, 10, ROWS)
    missed = 0
    sys.stdout.write(
        "| what | peer, CPU s | own, CPU s | times as fast | at least | |\n|---|---:|---:|---:|---:|---|\n"
    )
    for measured in (gaussian(draw, y), categorical(draw, y), sparse(draw), sampled(draw)):
        for what, goal, (theirs, ours) in measured:
            verdict = "" if goal is None else "met" if theirs / ours >= (0.97 if goal == 1 else goal) else "**missed**"
            missed += "missed" in verdict
            bound = "" if goal is None else f"{goal:g}"
            sys.stdout.write(f"| {what} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.2f} | {bound} | {verdict} |\n")
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    with threadpool_limits(1):
        code = main()
    sys.exit(code)
