"""CategoricalNB: counts of codes, all columns in one ``bincount`` per chunk; the joint adds rows of tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, uniform
from genreg_nb.densities import cumulative
from genreg_nb.model import draw_levels
from genreg_nb.sklearn.arrays import CHUNK, pieces
from genreg_nb.sklearn.checks import refuse_not_finite
from genreg_nb.sklearn.discrete import Discrete, refuse_negative


class CategoricalNB(Discrete):
    """Categorical naive Bayes of codes 0, 1, 2, …, as scikit-learn's; a code that it has not seen is improbable."""

    _categorical, _positive = True, True

    def __init__(
        self,
        *,
        alpha: Any = 1.0,
        force_alpha: bool = True,
        fit_prior: bool = True,
        class_prior: Any = None,
        min_categories: Any = None,
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior
        self.min_categories = min_categories

    def _rows(self, X: Any, *, first: bool) -> Array:  # noqa: N803
        rows = self._numbers(X, first=first)
        refuse_not_finite(rows, "CategoricalNB")
        codes: Array = rows if rows.dtype.kind in "iu" else rows.astype(np.int64)  # cut, as scikit-learn does
        refuse_negative(codes, "CategoricalNB")
        return codes

    def _start(self, rows: Array) -> None:
        self._start_classes()
        self.category_count_ = [np.zeros((len(self.classes_), 0)) for _ in range(rows.shape[1])]
        self.n_categories_ = self._least_categories(rows.shape[1])

    def _least_categories(self, columns: int) -> Array:
        least = np.asarray(0 if self.min_categories is None else self.min_categories)
        if least.dtype.kind != "i":
            raise ValueError(f"'min_categories' should have integral type. Got {least.dtype} instead.")
        if least.ndim and least.shape != (columns,):
            want = f"'min_categories' should have shape ({columns},) when an array-like is provided"
            raise ValueError(f"{want}. Got {least.shape} instead.")
        return np.broadcast_to(least, (columns,)).astype(np.int64)

    def _count(self, rows: Array, codes: Array, weights: Array | None) -> None:
        classes, columns = len(self.classes_), rows.shape[1]
        self.n_categories_ = np.maximum(self.n_categories_, rows.max(0).astype(np.int64) + 1)
        first = np.cumsum(self.n_categories_) - self.n_categories_
        width = int(self.n_categories_.sum())
        total: Array = np.zeros(classes * width)
        for at, x in pieces(rows, max(2 * CHUNK, classes * width // columns)):
            flat = x + first
            flat += (codes[at] * width)[:, None]
            weight = None if weights is None else np.repeat(weights[at], columns)
            total += np.bincount(flat.ravel(), weight, minlength=classes * width)
        counts = np.split(total.reshape(classes, width), first[1:], axis=1)
        for j, (old, new) in enumerate(zip(self.category_count_, counts, strict=True)):
            self.category_count_[j] = new + np.pad(old, [(0, 0), (0, new.shape[1] - old.shape[1])])
        self.class_count_ += np.bincount(codes, weights, minlength=classes)

    def _smooth(self, alpha: Any) -> None:
        every = np.broadcast_to(np.asarray(alpha), (self.n_features_in_,))
        with np.errstate(divide="ignore"):
            cells = [np.log((n + a).sum(1, keepdims=True)) for n, a in zip(self.category_count_, every, strict=True)]
            parts = zip(self.category_count_, every, cells, strict=True)
            self.feature_log_prob_ = [np.log(n + a) - cell for n, a, cell in parts]
            self._unseen = [np.log(a) - cell for a, cell in zip(every, cells, strict=True)]  # a code without rows

    def _joint(self, rows: Array) -> Array:
        tables = [
            np.ascontiguousarray(np.hstack([table, unseen]).T)
            for table, unseen in zip(self.feature_log_prob_, self._unseen, strict=True)
        ]  # [k_j + 1, C]
        joint = np.empty((len(rows), len(self.classes_)))
        part = np.empty((CHUNK, len(self.classes_)))
        for at, x in pieces(rows):
            own, some = joint[at], part[: len(x)]
            own[:] = self.class_log_prior_
            for table, level in zip(tables, np.ascontiguousarray(x.T), strict=True):
                np.take(table, level, 0, out=some, mode="clip")  # all codes from k_j on are the last row
                own += some
        return joint

    def _draw(self, codes: Array, seeds: Seeds) -> Array:
        chance = uniform(seeds, (self.n_features_in_,), stream=Stream.RENDER, step=1)
        pick = tuple(cumulative(table) for table in self.feature_log_prob_)
        return draw_levels(pick, codes, chance).T.astype(np.int64)
