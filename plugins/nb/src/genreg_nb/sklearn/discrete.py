"""BernoulliNB and MultinomialNB: sums of columns by class, dense or CSR, and what the discrete classifiers share."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, uniform
from genreg_nb.counts import MOST_AT_ONCE, Counted, Totals, draw_counts, shares
from genreg_nb.kernels import LEAST
from genreg_nb.sklearn.arrays import ArrayClassifier, hot, pieces
from genreg_nb.sklearn.checks import is_sparse, refuse_not_finite

LEAST_ALPHA = 1e-10


class Discrete(ArrayClassifier):
    """A classifier of counts: a prior that is counted, uniform or given, and pseudo-counts alpha."""

    alpha: Any
    fit_prior: bool
    class_prior: Any
    force_alpha: bool
    class_count_: Array
    feature_log_prob_: Any

    @abstractmethod
    def _smooth(self, alpha: Any) -> None:
        """Set ``feature_log_prob_`` from the counts, with pseudo-counts ``alpha``: a number, or an array [d]."""

    def _start_classes(self) -> None:
        """Check the prior, and set the count of each class to 0."""
        if self.class_prior is not None:
            prior = np.asarray(self.class_prior, np.float64)
            if prior.shape != self.classes_.shape:
                raise ValueError("Number of priors must match number of classes.")
            if not ((prior >= 0) & (prior <= 1)).all():
                wrong = prior[~((prior >= 0) & (prior <= 1))][0]
                raise ValueError(f"class_prior holds {wrong:g}: a probability lies between 0 and 1")
        self.class_count_ = np.zeros(len(self.classes_))

    def _read(self) -> None:
        self._alpha = self._checked_alpha()
        self._smooth(self._alpha)
        with np.errstate(divide="ignore"):  # a class without rows is impossible
            if self.class_prior is not None:
                self.class_log_prior_ = np.log(np.asarray(self.class_prior, np.float64))
            elif self.fit_prior:
                self.class_log_prior_ = np.log(self.class_count_) - np.log(self.class_count_.sum())
            else:
                self.class_log_prior_ = np.full(len(self.classes_), -np.log(len(self.classes_)))

    def _log_prior(self) -> Array:
        return self.class_log_prior_

    def _checked_alpha(self) -> Any:
        """``alpha`` as a float, or as float64 [d]; at least LEAST_ALPHA where ``force_alpha`` is off."""
        alpha = np.asarray(self.alpha, np.float64)
        if alpha.ndim and alpha.shape != (self.n_features_in_,):
            raise ValueError(
                "When alpha is an array, it should contains `n_features`. "
                f"Got {alpha.shape[0]} elements instead of {self.n_features_in_}."
            )
        if not (alpha >= 0).all():
            raise ValueError(
                "All values in alpha must be greater than 0." if alpha.ndim else f"alpha is {alpha:g}, below 0"
            )
        if alpha.min() < LEAST_ALPHA and not self.force_alpha:
            warnings.warn(
                f"alpha too small will result in numeric errors, setting alpha = {LEAST_ALPHA:.1e}. "
                "Use `force_alpha=True` to keep alpha unchanged.",
                stacklevel=5,  # the caller of fit or partial_fit
            )
            alpha = np.maximum(alpha, LEAST_ALPHA)
        return alpha if alpha.ndim else float(alpha)


def class_sums(rows: Any, codes: Array, weights: Array | None, classes: int) -> Array:
    """The weighted sum of each column in each class, of rows [n, d], dense or CSR: float64 [C, d]."""
    if is_sparse(rows):
        return _sparse_sums(rows, codes, weights, classes)
    total = np.zeros((classes, rows.shape[1]))
    dtype = np.float32 if rows.dtype == bool and weights is None else np.float64  # ones of a chunk: exact in both
    for at, x in pieces(rows, max(64, MOST_AT_ONCE // rows.shape[1])):
        one_hot = hot(codes[at], None if weights is None else weights[at], classes, dtype)
        total += one_hot.T @ x.astype(dtype, copy=False)
    return total


def _sparse_sums(rows: Any, codes: Array, weights: Array | None, classes: int) -> Array:
    width = rows.shape[1]
    if classes * width > MOST_AT_ONCE:  # a table that leaves the cache: SciPy's product is faster
        return np.ascontiguousarray(np.asarray(rows.T @ hot(codes, weights, classes)).T)
    flat = np.repeat(codes * width, np.diff(rows.indptr))
    flat += rows.indices
    data = rows.data if weights is None else rows.data * np.repeat(weights, np.diff(rows.indptr))
    return np.bincount(flat, data, minlength=classes * width).reshape(classes, width)


def refuse_negative(rows: Any, who: str) -> None:
    """Raise ValueError, in scikit-learn's words, where a number is negative."""
    data = rows.data if is_sparse(rows) else rows
    if data.size and data.min() < 0:
        raise ValueError(f"Negative values in data passed to {who} (input X)")


def product(rows: Any, table: Array) -> Array:
    """Rows [n, d], dense or CSR, times a table [C, d]: float64 [n, C]. log 0 counts as LEAST, so that 0 log 0 = 0."""
    table = np.maximum(table, LEAST)
    if is_sparse(rows):
        return np.asarray(rows @ np.ascontiguousarray(table.T))
    made = np.empty((len(rows), len(table)))
    for at, x in pieces(rows, max(64, MOST_AT_ONCE // rows.shape[1])):
        np.matmul(x.astype(np.float64, copy=False), table.T, out=made[at])
    return made


class MultinomialNB(Discrete):
    """Multinomial naive Bayes of counts, as scikit-learn's. Rows are sampled with a total of the class's histogram."""

    _sparse, _positive = True, True

    def __init__(
        self, *, alpha: Any = 1.0, force_alpha: bool = True, fit_prior: bool = True, class_prior: Any = None
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior

    def _rows(self, X: Any, *, first: bool) -> Any:  # noqa: N803
        rows = self._numbers(X, first=first)
        refuse_negative(rows, "MultinomialNB")
        data = rows.data if is_sparse(rows) else rows
        if data.size and not data.max() < np.inf:
            refuse_not_finite(data, "MultinomialNB")
        return rows

    def _start(self, rows: Any) -> None:
        self._start_classes()
        self.feature_count_ = np.zeros((len(self.classes_), rows.shape[1]))
        self._totals: Totals | None = Totals(np.zeros(0), np.zeros((len(self.classes_), 0)))

    def _count(self, rows: Any, codes: Array, weights: Array | None) -> None:
        self.feature_count_ += class_sums(rows, codes, weights, len(self.classes_))
        self.class_count_ += np.bincount(codes, weights, minlength=len(self.classes_))
        totals = np.asarray(rows @ np.ones(rows.shape[1])) if is_sparse(rows) else rows.sum(1, dtype=np.float64)
        if self._totals is not None:
            found = histogram(totals, codes, weights, len(self.classes_))
            self._totals = None if found is None else self._totals.merge(found)

    def _smooth(self, alpha: Any) -> None:
        smoothed = self.feature_count_ + alpha
        with np.errstate(divide="ignore", invalid="ignore"):
            log_p = np.log(smoothed) - np.log(smoothed.sum(1, keepdims=True))
        self.feature_log_prob_ = np.where(np.isnan(log_p), -np.inf, log_p)  # alpha = 0, and a class without any count

    def _joint(self, rows: Any) -> Array:
        joint = product(rows, self.feature_log_prob_)
        joint += self.class_log_prior_
        return joint

    def _draw(self, codes: Array, seeds: Seeds) -> Array:
        if self._totals is None:
            raise ValueError(
                "these rows are not counts but fractions, so no row total can be drawn: fit counts to sample"
            )
        counted = Counted(self.feature_count_, np.zeros(len(codes)), self._totals)
        return draw_counts(shares(counted, self._alpha), codes, seeds).T.astype(np.int64)


def histogram(totals: Array, codes: Array, weights: Array | None, classes: int) -> Totals | None:
    """How often each total comes, by class; None where they are no whole numbers."""
    if (totals % 1).any():
        return None
    most = int(totals.max()) + 1
    if most * classes <= MOST_AT_ONCE:
        values, at = np.arange(most), totals.astype(np.int64)
    else:
        values, at = np.unique(totals, return_inverse=True)
    n = np.bincount(codes * len(values) + at, weights, minlength=classes * len(values)).reshape(classes, -1)
    seen = np.flatnonzero(n.any(0))
    return Totals(values[seen].astype(np.float64), n[:, seen].astype(np.float64))


class BernoulliNB(Discrete):
    """Bernoulli naive Bayes of whether a number is above ``binarize``, as scikit-learn's."""

    _sparse = True

    def __init__(
        self,
        *,
        alpha: Any = 1.0,
        force_alpha: bool = True,
        binarize: float | None = 0.0,
        fit_prior: bool = True,
        class_prior: Any = None,
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.binarize = binarize
        self.fit_prior = fit_prior
        self.class_prior = class_prior

    def _rows(self, X: Any, *, first: bool) -> Any:  # noqa: N803
        rows = self._numbers(X, first=first)
        data = rows.data if is_sparse(rows) else rows
        refuse_not_finite(data, "BernoulliNB")
        if self.binarize is None:
            if data.size and (data.min() < 0 or data.max() > 1):
                raise ValueError("BernoulliNB(binarize=None) takes 0, 1 and probabilities, and X holds others")
            return rows
        if not is_sparse(rows):
            return rows > self.binarize
        if self.binarize < 0:
            raise ValueError("binarize is below 0, where the zeros of sparse data count as ones: pass X.toarray()")
        ones = rows.astype(np.float64)
        ones.data = (rows.data > self.binarize).astype(np.float64)
        return ones

    def _start(self, rows: Any) -> None:
        self._start_classes()
        self.feature_count_ = np.zeros((len(self.classes_), rows.shape[1]))

    def _count(self, rows: Any, codes: Array, weights: Array | None) -> None:
        self.feature_count_ += class_sums(rows, codes, weights, len(self.classes_))
        self.class_count_ += np.bincount(codes, weights, minlength=len(self.classes_))

    def _smooth(self, alpha: Any) -> None:
        cells = np.log(self.class_count_[:, None] + 2 * alpha)
        with np.errstate(divide="ignore"):
            self.feature_log_prob_ = np.log(self.feature_count_ + alpha) - cells

    def _joint(self, rows: Any) -> Array:
        with np.errstate(divide="ignore"):
            absent = np.log(-np.expm1(self.feature_log_prob_))
        if np.isfinite(absent).all() and np.isfinite(self.feature_log_prob_).all():
            joint = product(rows, self.feature_log_prob_ - absent)
            joint += self.class_log_prior_ + absent.sum(1)
            return joint
        joint = np.empty((rows.shape[0], len(self.classes_)))  # alpha = 0: what was never seen is impossible
        for at, x in pieces(rows):
            x = x.toarray() if is_sparse(x) else x
            joint[at] = product(x, self.feature_log_prob_) + product(1.0 - x, absent) + self.class_log_prior_
        return joint

    def _draw(self, codes: Array, seeds: Seeds) -> Array:
        chance = uniform(seeds, (self.n_features_in_,), stream=Stream.RENDER, step=1)
        made: Array = (chance < np.exp(self.feature_log_prob_)[codes]).astype(np.int64)
        return made
