"""The statistics read under the settings: log p(y) and log p(x_j | y), and the joint that adds them up.

Smoothing lives here, and never in the statistics. A missing cell is left out of the product. The joint comes in two
ways: by matrix products, fast, for scoring, whose last bits depend on the batch; and ``exact``, column by column, for
drawing, whose bits are those of the row alone. Shapes: m rows, C classes, G Gaussian columns, K categorical and
Bernoulli ones with W levels in all, V multinomial ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genreg.draft import Array
from genreg_nb.config import Config
from genreg_nb.counts import Shares, log_counts, log_factorial, shares
from genreg_nb.kernels import LEAST, Moments, Quadratic, log_normal, ratio
from genreg_nb.statistics import Cells, Statistics

FLOOR = 1e-18  # the least variance, as a share of the column's own (of its squared value where it is constant)
TINY = 1e-300  # the least variance of all: its inverse is still a number


@dataclass(frozen=True, eq=False)
class Densities:
    """log p(y) and log p(x_j | y), ready to be added up."""

    log_prior: Array  # [C]
    mean: Array  # [C, G]
    sd: Array  # [C, G]: to draw with; 0 where a column is constant
    sd_scored: Array  # [C, G]: to score with; never 0
    constant: Array  # bool [G]: one value in all classes, which says nothing of the class
    log_levels: Array  # [C, W + 1]; the last is 0, for missing cells
    pick: tuple[Array, ...]  # K of [C, k_j]: cumulative probabilities of the levels that training saw
    shares: Shares  # of the counts

    @cached_property
    def form(self) -> Quadratic:
        """The Gaussian columns that are not constant, ready to be multiplied."""
        return Quadratic.of(self.mean[:, ~self.constant], self.sd_scored[:, ~self.constant])


def densities(config: Config, statistics: Statistics) -> Densities:
    """Read the statistics under the settings."""
    mean, sd, sd_scored, constant = _gaussians(statistics.moments, config.var_smoothing)
    log_levels = [_log_levels(statistics.levels[:, block], config.alpha) for _, block in config.blocks]
    return Densities(
        log_prior=_log_prior(config, statistics.classes),
        mean=mean,
        sd=sd,
        sd_scored=sd_scored,
        constant=constant,
        log_levels=np.hstack([*log_levels, np.zeros((len(config.classes), 1))]),
        pick=tuple(cumulative(log_p[:, :-1]) for log_p in log_levels),
        shares=shares(statistics.counted, config.alpha),
    )


def cumulative(log_p: Array) -> Array:
    """Cumulative probabilities along the last axis, which end in 1."""
    cdf = np.cumsum(np.exp(log_p), -1)
    total: Array = cdf / cdf[..., -1:]
    return total


def _gaussians(moments: Moments, var_smoothing: float) -> tuple[Array, Array, Array, Array]:
    # var = M2 / n + var_smoothing * (the column's variance over all classes): scikit-learn's rule, but for the column's
    # own variance where scikit-learn takes the largest of all columns. A class that has no cell of a column takes
    # the moments of all classes; a constant column is drawn as that constant, and scored with a narrow peak around it.
    n, mean, m2 = moments.overall()  # of each column: [G]
    overall = ratio(m2, n)
    empty = moments.n == 0
    variance = np.where(empty, overall, ratio(moments.m2, moments.n)) + var_smoothing * overall
    floor = np.maximum(FLOOR * np.where(overall > 0, overall, np.maximum(mean**2, 1.0)), TINY)
    mean = np.where(empty, mean, moments.mean)
    return mean, np.sqrt(variance), np.sqrt(np.maximum(variance, floor)), overall == 0


def _log_levels(n: Array, alpha: float) -> Array:
    # p = (n_level + alpha) / (n + alpha k): scikit-learn's, for k levels. The bucket of unseen values is a level only
    # if training put something in it (k + 1 then). Where it did not, it still has the value of a level that no row had,
    # alpha / (n + alpha k): finite, the same question to every class, and outside the sum over the k levels, which is
    # exactly 1. It is scored and conditioned on, never drawn: there is no value to write.
    k = n.shape[1] - 1 + bool(n[:, -1].any())
    log_p: Array = np.log(n + alpha) - np.log(n.sum(1, keepdims=True) + alpha * k)
    return log_p


def _log_prior(config: Config, classes: Array) -> Array:
    if config.priors == "uniform":
        weights = np.ones_like(classes)
    else:
        weights = classes if config.priors == "empirical" else np.array(config.priors)
    with np.errstate(divide="ignore"):  # a class without rows is impossible: log 0 = -inf
        log_p: Array = np.log(weights) - np.log(weights.sum())
    return log_p


def log_joint(density: Densities, rows: Cells, *, exact: bool = False) -> Array:
    """log p(y, the observed features) of every class y, whatever the rows' labels: float64 [C, m].

    Constant columns are left to ``log_constants``: they add the same to all classes, so much that the rest would drown.
    """
    numbers = rows.numbers if not density.constant.any() else rows.numbers[~density.constant]
    joint = density.form.by_column(numbers) if exact else density.form.log_p(numbers)
    missing = density.log_levels.shape[1] - 1
    for level in rows.levels:
        if (level < missing).any():
            joint += np.take(density.log_levels, level, 1)
    if len(rows.counts) and not np.isnan(rows.counts).all():
        joint += log_counts(density.shares, rows.counts, exact=exact)
    return np.maximum(joint, LEAST, out=joint) + density.log_prior[:, None]


def log_constants(density: Densities, rows: Cells) -> Array:
    """log p(the observed cells of constant columns): float64 [m]."""
    log_p = np.zeros(len(rows.labels))
    for j in np.flatnonzero(density.constant):
        log_p += log_normal(rows.numbers[j], density.mean[0, j], density.sd_scored[0, j])
    return np.maximum(log_p, LEAST)


def log_likelihood(density: Densities, statistics: Statistics) -> float:
    """The weighted sum of log p(y, x) over the rows that the statistics were measured on, which say all that it needs.

    The counts of a row that lacks one of them are left out, as they are when counting.
    """
    seen, (n, mean, m2) = statistics.classes > 0, statistics.moments
    squares = m2 + n * (mean - density.mean) ** 2
    logs = n * (0.5 * np.log(2 * np.pi) + np.log(density.sd_scored)) + 0.5 * squares / density.sd_scored**2
    total = statistics.classes[seen] @ density.log_prior[seen] - logs.sum()
    total += (statistics.levels * density.log_levels[:, :-1]).sum()
    counted, own = statistics.counted, density.shares
    ways = (counted.totals.n @ log_factorial(counted.totals.values)).sum() - counted.log_factorials.sum()
    return float(total + ways + (counted.n * own.log_theta).sum() + (counted.totals.n * own.log_total[:, :-1]).sum())
