"""Multinomial columns: counts x_1 … x_V of one row, as a total shared out.

    p(x | y) = p(L | y) L! / (x_1! … x_V!) prod_v theta_yv^x_v,    L = x_1 + … + x_V

The total has a histogram per class (no peer has one, so no peer can sample rows), smoothed towards that of all classes.
A total that training did not see has the value of a total of one row: it is scored, never drawn. Where some counts of a
row are not known, they are summed out exactly: the L - s that the known ones (sum s) leave fall on the unknown columns,

    p(x_known | y) = sum over L >= s of p(L | y) L! / (prod x_known! (L - s)!) prod theta^x_known theta_unknown^(L - s)

and a row whose known counts alone are above every total that was seen is read as complete: the unknown ones are 0.
Shapes: m rows along the last axis, C classes, V columns, H totals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, uniform
from genreg_nb.kernels import log_sum_exp

MOST_AT_ONCE = 1 << 20  # cells of the largest array made on the way
FIRST_SLAB, LAST_SLAB = 4, 4096  # units of a total that are shared out together: twice as many each time
STEP_TOTAL, STEP_UNITS = 2, 3  # of Stream.RENDER


class Totals(NamedTuple):
    """How often each row total was seen, by class."""

    values: Array  # float64 [H]: whole numbers, ascending
    n: Array  # float64 [C, H]

    def merge(self, other: Totals) -> Totals:
        """The histogram of both sets of rows."""
        values = np.union1d(self.values, other.values)
        n = np.zeros((len(self.n), len(values)))
        for part in (self, other):
            n[:, np.searchsorted(values, part.values)] += part.n
        return Totals(values, n)


class Counted(NamedTuple):
    """What rows of counts say: they are counted where none of the V cells is missing."""

    n: Array  # [C, V]: the sum of the counts
    log_factorials: Array  # [C]: the sum over rows of log(x_1! … x_V!), which only their log probability needs
    totals: Totals

    def merge(self, other: Counted) -> Counted:
        """The statistics of both sets of rows."""
        log_factorials = self.log_factorials + other.log_factorials
        return Counted(self.n + other.n, log_factorials, self.totals.merge(other.totals))


def count(x: Array, one_hot: Array) -> Counted:
    """The statistics of counts [V, m] whose classes are the rows' places of a weight in ``one_hot`` [m, C]."""
    if not len(x):
        empty = np.zeros((one_hot.shape[1], 0))
        return Counted(empty, empty.sum(1), Totals(np.zeros(0), empty))
    whole = ~np.isnan(x).any(0) & one_hot.any(1)
    x, one_hot = x[:, whole], one_hot[whole]
    values, at = np.unique(x.sum(0), return_inverse=True)
    n = np.zeros((len(values), one_hot.shape[1]))
    np.add.at(n, at, one_hot)
    return Counted((x @ one_hot).T, log_factorial(x).sum(0) @ one_hot, Totals(values, np.ascontiguousarray(n.T)))


@dataclass(frozen=True, eq=False)
class Shares:
    """Counts under the settings: how a total is drawn, and how it is shared out."""

    log_theta: Array  # [C, V]
    totals: Array  # [H], ascending
    log_total: Array  # [C, H + 1]; the last is of a total that training did not see


def shares(counted: Counted, alpha: float | Array) -> Shares:
    """theta = (n + alpha) / (N + alpha V), and a histogram of totals that takes alpha rows from that of all classes."""
    smoothed = counted.n + alpha
    with np.errstate(divide="ignore"):
        log_theta = np.log(smoothed) - np.log(smoothed.sum(1, keepdims=True))
    alpha, n = float(np.mean(alpha)), counted.totals.n
    rows = np.maximum(n.sum(), np.finfo(float).tiny)
    everywhere = np.append(n.sum(0), min(rows, 1.0)) / rows  # the last: of one row, or of all where they weigh less
    p = np.hstack([n, np.zeros((len(n), 1))]) + alpha * everywhere
    with np.errstate(divide="ignore", invalid="ignore"):  # alpha = 0: what was not seen is impossible
        log_total = np.log(p) - np.log(n.sum(1, keepdims=True) + alpha)
    return Shares(log_theta, counted.totals.values, log_total)


# ---- scoring ----


def log_counts(own: Shares, x: Array, *, exact: bool) -> Array:
    """log p(the known counts of x [V, m] | class): [C, m]. With ``exact`` no matrix product, whose bits depend on m."""
    known = ~np.isnan(x)
    seen = np.where(known, x, 0.0)
    log_p = _products(own.log_theta, seen, exact)
    log_p -= log_factorial(seen).sum(0)
    sums, some, whole = seen.sum(0), known.any(0), known.all(0)
    log_p[:, whole] += log_factorial(sums[whole]) + own.log_total[:, place(own, sums[whole])]
    partly = np.flatnonzero(some & ~whole)
    step = max(1, MOST_AT_ONCE // max(1, own.log_total.size))
    for start in range(0, len(partly), step):
        at = partly[start : start + step]
        log_p[:, at] += log_sum_exp(_by_total(own, sums[at], _log_unknown(own, known[:, at], exact)), -1)
    return log_p


def place(own: Shares, sums: Array) -> Array:
    """The index of each total, H for one that training did not see: int64 [m]."""
    at = np.searchsorted(own.totals, sums)
    found = np.append(own.totals, np.nan)[at] == sums
    return np.where(found, at, len(own.totals))


def _products(log_theta: Array, x: Array, exact: bool) -> Array:
    """sum_v log_theta_cv x_vm: [C, m]; ``exact``: in a fixed order, so that no row depends on the others."""
    if not exact:
        product: Array = log_theta @ x
        return product
    total = np.zeros((len(log_theta), x.shape[1]))
    for v in np.flatnonzero(x.any(1)):
        total += log_theta[:, v, None] * x[v]
    return total


def _log_unknown(own: Shares, known: Array, exact: bool) -> Array:
    """log of the share of the unknown columns: [C, m]."""
    with np.errstate(divide="ignore"):
        log_p: Array = np.log(_products(np.exp(own.log_theta), (~known).astype(np.float64), exact))
    return log_p


def _by_total(own: Shares, sums: Array, log_unknown: Array) -> Array:
    """The terms of the sum over L, without the factors that all share: [C, m, H + 1]; the last is L = s, not seen."""
    left = own.totals - sums[:, None]  # [m, H]
    possible = left >= 0
    ways = np.where(possible, log_factorial(own.totals) - log_factorial(np.maximum(left, 0)), -np.inf)
    terms = own.log_total[:, None, :-1] + ways + np.maximum(left, 0) * log_unknown[:, :, None]
    above = np.where(possible.any(1), -np.inf, log_factorial(sums)) + own.log_total[:, -1:]
    return np.concatenate([terms, above[:, :, None]], 2)


_FACTORIALS = np.cumsum(np.log(np.maximum(np.arange(256.0), 1)))


def log_factorial(n: Array) -> Array:
    """log n! of whole numbers: a table below 256, Stirling's series (to 1e-16 of it) from there on."""
    small = _FACTORIALS[np.minimum(n, 255).astype(np.int64)]
    if not (n > 255).any():
        return small
    x = np.maximum(n, 256.0)
    series = (1 - (1 / 30 - 1 / (105 * x * x)) / (x * x)) / (12 * x)
    return np.where(n > 255, (x + 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi) + series, small)


# ---- drawing ----


def draw_counts(own: Shares, labels: Array, seeds: Seeds, given: Array | None = None) -> Array:
    """Counts of rows of the classes ``labels`` [m], given some of them (NaN: not given): float64 [V, m]."""
    columns, rows = own.log_theta.shape[1], len(labels)
    known = np.zeros((columns, rows), bool) if given is None else ~np.isnan(given)
    made = np.zeros((columns, rows)) if given is None else np.where(known, given, 0.0)
    left = _draw_left(own, labels, seeds, made.sum(0), known)
    kinds = np.vstack([labels, known]) if known.any() else labels[None]
    patterns, group = np.unique(kinds, axis=1, return_inverse=True)
    for at, (label, *pattern) in enumerate(patterns.T):
        free = np.flatnonzero(~np.array(pattern, bool)) if pattern else np.arange(columns)
        mine = np.flatnonzero(group == at)
        if len(free):
            made[np.ix_(free, mine)] = _share_out(np.exp(own.log_theta[label, free]), left[mine], seeds[mine])
    return made


def _draw_left(own: Shares, labels: Array, seeds: Seeds, sums: Array, known: Array) -> Array:
    """What the total of each row leaves for its unknown columns: float64 [m]."""
    chance, left = uniform(seeds, stream=Stream.RENDER, step=STEP_TOTAL), np.zeros(len(labels))
    step = max(1, MOST_AT_ONCE // (len(own.totals) + 1))
    for label in np.unique(labels):
        one = Shares(own.log_theta[[label]], own.totals, own.log_total[[label]])
        free = np.flatnonzero((labels == label) & ~known.any(0))
        left[free] = own.totals[_pick(one.log_total[0, :-1], chance[free])]
        partly = np.flatnonzero((labels == label) & known.any(0) & ~known.all(0))
        for start in range(0, len(partly), step):
            at = partly[start : start + step]
            terms = _by_total(one, sums[at], _log_unknown(one, known[:, at], exact=True))[0]  # [m, H + 1]
            total = np.array([_pick(row, u) for row, u in zip(terms, chance[at], strict=True)], np.int64)
            left[at] = np.append(own.totals, np.nan)[total] - sums[at]
    return np.nan_to_num(left)


def _pick(log_p: Array, chance: Array) -> Array:
    """Places in log p, up to a constant, at uniform numbers: by the inverse of the cumulative probabilities."""
    cdf = np.cumsum(np.exp(log_p - log_p.max()))
    return np.searchsorted(cdf / cdf[-1], chance, side="right")


def _share_out(theta: Array, totals: Array, seeds: Seeds) -> Array:
    """Each total [m] shared out among the columns by theta [V]: float64 [V, m]. It costs one draw per unit."""
    if len(theta) == 1:
        return totals[None]
    cdf = np.cumsum(theta)
    cdf /= cdf[-1]
    made, done, size, slab = np.zeros((len(totals), len(theta))), 0, FIRST_SLAB, 0
    while (active := np.flatnonzero(totals > done)).size:
        step = max(1, MOST_AT_ONCE // size)
        for start in range(0, len(active), step):
            at = active[start : start + step]
            chance = uniform(seeds[at], (size,), stream=Stream.RENDER, step=STEP_UNITS + slab)
            row, unit = np.nonzero(np.arange(size) < (totals[at] - done)[:, None])
            column = np.searchsorted(cdf, chance[row, unit], side="right")
            made[at] += np.bincount(row * len(theta) + column, minlength=made[at].size).reshape(-1, len(theta))
        done, size, slab = done + size, min(2 * size, LAST_SLAB), slab + 1
    return made.T
