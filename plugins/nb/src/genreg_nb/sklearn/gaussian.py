"""GaussianNB: p(x_j | y) normal, moments by two matrix products per chunk in the data's dtype, summed up in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, normal
from genreg_nb.kernels import Moments, Quadratic, moments, ratio, shift_of
from genreg_nb.sklearn.arrays import CHUNK, ArrayClassifier, hot, pieces
from genreg_nb.sklearn.checks import checked_priors, refuse_not_finite

LEAST_VAR = 1e-300  # of a column that is constant in a class, with var_smoothing 0: its inverse is still a number


class GaussianNB(ArrayClassifier):
    """Gaussian naive Bayes, as scikit-learn's: ``epsilon_``, a share of the largest variance, is added to each."""

    def __init__(self, *, priors: Any = None, var_smoothing: float = 1e-9) -> None:
        self.priors = priors
        self.var_smoothing = var_smoothing

    def _rows(self, X: Any, *, first: bool) -> Array:  # noqa: N803
        numbers: Array = self._numbers(X, first=first)
        return numbers

    def _start(self, rows: Array) -> None:
        if not self.var_smoothing >= 0:
            raise ValueError(f"var_smoothing must be at least 0, not {self.var_smoothing}")
        if self.priors is not None:
            checked_priors(self.priors, len(self.classes_))
        zeros = np.zeros((len(self.classes_), rows.shape[1]))
        self._moments = Moments(zeros, zeros, zeros)
        self._unweighted = Moments(zeros[0], zeros[0], zeros[0])  # the floor looks at data, whatever they weigh
        self._class_count = zeros[:, 0]
        self._dtype = np.float32 if rows.dtype == np.float32 else np.float64
        self._shift = shift_of(rows[:CHUNK].T.astype(self._dtype))

    def _count(self, rows: Array, codes: Array, weights: Array | None) -> None:
        shape = len(self.classes_)
        own = Moments(*(np.zeros_like(part) for part in self._moments))
        every = Moments(*(np.zeros_like(part[:1]) for part in self._moments))
        for at, x in pieces(rows):
            columns = x.T.astype(self._dtype, copy=False)  # [d, m]
            weight = None if weights is None else weights[at]
            one_hot = hot(codes[at], weight, shape, self._dtype)
            own = own.merge(moments(columns, codes[at], one_hot, self._shift, missing=False))
            if weights is not None:
                ones = np.ones((len(x), 1), self._dtype)
                every = every.merge(moments(columns, np.zeros(len(x), np.int64), ones, self._shift))
        if not np.isfinite(own.mean).all():
            refuse_not_finite(rows, "GaussianNB")
        whole = own.overall() if weights is None else Moments(*(part[0] for part in every))
        self._moments, self._unweighted = self._moments.merge(own), self._unweighted.merge(whole)
        self._class_count = self._class_count + np.bincount(codes, weights, minlength=shape)

    def _read(self) -> None:
        n, mean, m2 = self._moments
        self.epsilon_ = self.var_smoothing * float(ratio(self._unweighted.m2, self._unweighted.n).max())
        self.theta_ = mean.astype(self._dtype)
        self.var_ = (ratio(m2, n) + self.epsilon_).astype(self._dtype)
        self.class_count_ = self._class_count.astype(self._dtype)
        shares = self._class_count / self._class_count.sum()
        self.class_prior_ = np.array(shares if self.priors is None else self.priors, self._dtype)

    def _log_prior(self) -> Array:
        with np.errstate(divide="ignore"):  # a class without rows is impossible
            log_p: Array = np.log(np.asarray(self.class_prior_, np.float64))
        return log_p

    def _joint(self, rows: Array) -> Array:
        dtype = np.float32 if rows.dtype == np.float32 and self._dtype == np.float32 else np.float64
        form = Quadratic.of(self.theta_, np.sqrt(np.maximum(np.asarray(self.var_, np.float64), LEAST_VAR)), dtype)
        prior = self._log_prior().astype(dtype)[:, None]
        joint = np.empty((len(self.classes_), len(rows)), dtype)
        refuse_not_finite(rows, "GaussianNB")
        for at, x in pieces(rows):
            np.add(form.log_p(x.T.astype(dtype, copy=False)), prior, out=joint[:, at])
        return joint.T

    def _draw(self, codes: Array, seeds: Seeds) -> Array:
        made = normal(seeds, (self.n_features_in_,), stream=Stream.RENDER)
        made *= np.sqrt(np.asarray(self.var_, np.float64))[codes]
        made += np.asarray(self.theta_, np.float64)[codes]
        return made.astype(self._dtype, copy=False)
