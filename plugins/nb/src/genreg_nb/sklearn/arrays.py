"""Classifiers of arrays: rows [n, d] of numbers are checked, remembered by their columns' names, and sampled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, categorical
from genreg_nb.sklearn.base import Classifier
from genreg_nb.sklearn.checks import as_rows, encoded

CHUNK = 4096  # rows at a time: what is made of them stays in the cache


class ArrayClassifier(Classifier):
    """A classifier of numbers [n, d], or of CSR where ``_sparse`` says so, that draws rows class by class."""

    @abstractmethod
    def _log_prior(self) -> Array:
        """log p(y): float64 [C]."""

    @abstractmethod
    def _draw(self, codes: Array, seeds: Seeds) -> Array:
        """A row of each class in ``codes`` [n], row i from seed i alone: [n, d]."""

    def _numbers(self, X: Any, *, first: bool) -> Any:  # noqa: N803
        """X as an array [n, d] or CSR; with ``first`` its columns are remembered, else they are compared."""
        rows = as_rows(X, type(self).__name__, sparse=self._sparse)
        columns = getattr(X, "columns", None)
        named = columns is not None and all(isinstance(name, str) for name in columns)
        names = np.array(columns, object) if named else None
        if first:
            self.n_features_in_ = rows.shape[1]
            if names is not None:
                self.feature_names_in_ = names
        elif rows.shape[1] != self.n_features_in_:
            want = f"{type(self).__name__} is expecting {self.n_features_in_} features as input"
            raise ValueError(f"X has {rows.shape[1]} features, but {want}")
        elif names is not None and not np.array_equal(names, getattr(self, "feature_names_in_", names)):
            raise ValueError(
                f"The feature names should match those that were passed during fit: {', '.join(self.feature_names_in_)}"
            )
        return rows

    def sample(self, n_samples: int = 1, *, y: Any = None, seed: int = 0) -> tuple[Any, Array]:
        """Rows and their classes, (X [n, d], y [n]); with ``y``, of that class, or of these n classes.

        Row i follows from seed + i alone, whatever the number of rows.
        """
        self._check_fitted()
        seeds = np.arange(n_samples, dtype=np.uint64) + np.uint64(seed)
        if y is None:
            codes = categorical(seeds, self._log_prior(), stream=Stream.PRIOR)
        else:
            codes, _ = encoded(np.broadcast_to(y, (n_samples,)), self.classes_, n_samples)
        return self._draw(codes, seeds), self.classes_[codes]


def pieces(rows: Any, size: int = CHUNK) -> Iterator[tuple[slice, Any]]:
    """The rows a chunk at a time, with their place."""
    for start in range(0, rows.shape[0], size):
        at = slice(start, min(start + size, rows.shape[0]))
        yield at, rows[at]


def hot(codes: Array, weights: Array | None, classes: int, dtype: Any = np.float64) -> Array:
    """The weight of each row in the place of its class: [n, C]."""
    one: Array = np.take(np.eye(classes, dtype=dtype), codes, 0, mode="clip")
    if weights is not None:
        one *= weights[:, None].astype(dtype)
    return one
