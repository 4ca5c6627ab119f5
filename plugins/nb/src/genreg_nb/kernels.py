"""Moments and log densities of Gaussian columns, as two matrix products each.

    sum x, sum x^2 of each class        = [x - s, (x - s)^2] @ one-hot           s: a shift, near the mean
    log p(x | y) for every class        = (x - c) @ (mean - c)/var - (x - c)^2 @ 1/(2 var) + constant(y)

A product of squares loses what cancels. So sums that have lost too much are measured once more from their own means,
and columns whose classes lie too many deviations apart are scored by the plain formula. Both are in the dtype of x;
sums of chunks are added up in float64. Rows lie along the last axis. Shapes: m rows, C classes, G columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from genreg.draft import Array

LOST = {4: 1e2, 8: 1e4}  # by bytes: the ratio of squares from the shift and from the mean that sums may have
APART = {4: 1e3, 8: 1e6}  # the squared distance between classes, in variances, that a product may have
LEAST = -1e300  # the least log density: of cells so far out that their squared distance overflows


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations from it, of observed cells: float64, of one shape."""

    n: Array
    mean: Array
    m2: Array

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of cells (Chan, Golub and LeVeque, 1979)."""
        n = self.n + other.n
        share = ratio(other.n, n)
        delta = other.mean - self.mean
        return Moments(n, self.mean + delta * share, self.m2 + other.m2 + delta**2 * self.n * share)

    def overall(self) -> Moments:
        """The moments of all classes together: those of the first axis merged."""
        return reduce(Moments.merge, [Moments(*row) for row in zip(*self, strict=True)])


def log_sum_exp(x: Array, axis: int = 0) -> Array:
    """log of the sum of exp over an axis."""
    most = x.max(axis, keepdims=True)
    total: Array = most.squeeze(axis) + np.log(np.exp(x - most).sum(axis))
    return total


def ratio(a: Array, n: Array) -> Array:
    """a / n, and 0 where there is nothing (n = 0)."""
    return np.divide(a, n, out=np.zeros(np.broadcast(a, n).shape), where=n > 0)


def shift_of(x: Array) -> Array:
    """A number near the mean of each column [G], so that an offset cancels; exactly the constant of a constant one."""
    if not x.size:
        return np.zeros(len(x), x.dtype)
    seen = ~np.isnan(x)
    first = np.nan_to_num(np.take_along_axis(x, seen.argmax(1)[:, None], 1))[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        near = first + np.where(seen, x - first[:, None], 0).mean(1)
    shift: Array = np.where(np.isfinite(near), near, first).astype(x.dtype, copy=False)
    return shift


def moments(x: Array, labels: Array, one_hot: Array, shift: Array, *, missing: bool = True) -> Moments:
    """The moments of each class and column [C, G]; ``one_hot`` [m, C] holds the rows' weights.

    NaN cells are left out; without ``missing`` there are none, and a NaN becomes a mean.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        away = x - shift[:, None]
        sums = away @ one_hot
        n = np.tile((np.ones(len(one_hot), x.dtype) @ one_hot).astype(np.float64), (len(x), 1))
        if missing and not np.isfinite(sums).all():  # 0 NaN = NaN: the product has met one
            seen = ~np.isnan(away)
            away[~seen] = 0
            sums, n = away @ one_hot, (seen.astype(x.dtype) @ one_hot).astype(np.float64)
        mean = ratio(sums.astype(np.float64), n)
        np.multiply(away, away, out=away)
        squares = (away @ one_hot).astype(np.float64)
        m2 = squares - mean**2 * n
        mean = np.where(n > 0, shift[:, None].astype(np.float64) + mean, 0.0)
        if not (squares <= LOST[x.itemsize] * m2).all():
            mean, m2 = _from_the_mean(x, labels, one_hot, n, mean)
    return Moments(n.T, mean.T, m2.T)


def _from_the_mean(x: Array, labels: Array, one_hot: Array, n: Array, mean: Array) -> tuple[Array, Array]:
    """The means [G, C] put right, and the squared deviations from them, of which nothing cancels."""
    away = x.astype(np.float64) - np.take(mean, labels, 1, mode="clip")  # rows left out have no weight in one_hot
    away[np.isnan(away) & np.isnan(x)] = 0
    one_hot = one_hot.astype(np.float64)
    rest = ratio(away @ one_hot, n)
    return mean + rest, away**2 @ one_hot - rest**2 * n


def log_normal(x: Array, mean: Array, sd: Array) -> Array:
    """log of the normal density, broadcast; 0 for a missing x. It may overflow to -inf, and is never NaN."""
    with np.errstate(over="ignore"):
        log_p: Array = x - mean
        log_p *= np.sqrt(0.5) / sd
        log_p *= log_p
    np.subtract(-np.log(sd) - 0.5 * np.log(2 * np.pi), log_p, out=log_p)
    missing = np.isnan(x)
    if missing.any():
        log_p[..., missing] = 0.0
    return log_p


@dataclass(frozen=True, eq=False)
class Quadratic:
    """log p(x | y) as a quadratic form in x - center, computed in float64 and held in the dtype of x."""

    mean: Array  # [C, G] float64
    sd: Array  # [C, G] float64
    center: Array  # [G]
    linear: Array  # [C, G]
    square: Array  # [C, G]
    constant: Array  # [C, G]
    apart: Array  # int64: columns that cancel too much for the product

    @classmethod
    def of(cls, mean: Array, sd: Array, dtype: type[np.floating] = np.float64) -> Quadratic:
        """The form of Gaussian columns with these means and deviations [C, G], which are above 0."""
        mean, sd = np.asarray(mean, np.float64), np.asarray(sd, np.float64)
        center = mean.mean(0).astype(dtype)
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            z = (mean - center) / sd
            linear, square = (z / sd).astype(dtype), (-0.5 / sd**2).astype(dtype)
            constant = -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
            good = (z**2 <= APART[np.dtype(dtype).itemsize]) & np.isfinite(linear) & np.isfinite(square) & (square != 0)
        apart = np.flatnonzero(~good.all(0))
        linear[:, apart], square[:, apart], constant[:, apart] = 0, 0, 0
        return cls(mean, sd, center, linear, square, constant, apart)

    def log_p(self, x: Array) -> Array:
        """The sum over the observed columns of x [G, m], for each class: [C, m], at least LEAST."""
        with np.errstate(over="ignore", invalid="ignore"):
            away = x - self.center[:, None]
            total: Array = self.linear @ away
            if np.isfinite(total.sum()):
                total += self.constant.sum(1, keepdims=True).astype(x.dtype)
            else:  # 0 NaN = NaN: the product has met one, or a number that is far out
                seen = ~np.isnan(away)
                away[~seen] = 0
                total = self.linear @ away
                total += self.constant.astype(x.dtype) @ seen.astype(x.dtype)
            np.multiply(away, away, out=away)
            total += self.square @ away
        for j in self.apart:
            total += log_normal(x[j].astype(np.float64), self.mean[:, j, None], self.sd[:, j, None])
        odd = np.flatnonzero(~np.isfinite(total).all(0))
        if odd.size:
            total[:, odd] = self.by_column(x[:, odd])
        return total

    def by_column(self, x: Array) -> Array:
        """The same by the plain formula, column by column: the bits of a row are the same in any batch."""
        total = np.zeros((len(self.mean), x.shape[1]))
        for j, column in enumerate(x):
            if not np.isnan(column).all():
                total += log_normal(column.astype(np.float64), self.mean[:, j, None], self.sd[:, j, None])
        return np.maximum(total, LEAST if x.itemsize == 8 else np.finfo(np.float32).min, out=total)
