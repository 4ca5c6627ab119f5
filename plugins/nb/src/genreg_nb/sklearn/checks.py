"""What comes in, checked in scikit-learn's words: rows, labels, weights and priors."""

from __future__ import annotations

from typing import Any

import numpy as np

from genreg.draft import Array

WIDEST = 1 << 20  # of the labels' range, for a table from label to code


def is_sparse(X: Any) -> bool:  # noqa: N803
    """Whether X is a SciPy sparse matrix, without importing SciPy."""
    return hasattr(X, "tocsr")


def as_rows(X: Any, who: str, *, sparse: bool) -> Any:  # noqa: N803
    """X as numbers [n, d], or as CSR; raises ValueError for what is none, naming what to do."""
    if is_sparse(X):
        if not sparse:
            raise TypeError(f"Sparse data was passed to {who}, which takes dense data: X.toarray()")
        return X.tocsr()
    rows = np.asarray(X)
    if rows.dtype.kind in "OUS":
        rows = rows.astype(np.float64)
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"{who} takes real numbers, not {rows.dtype}: Complex data not supported")
    if rows.ndim != 2:
        raise ValueError(f"Expected 2D array, got {rows.ndim}D array instead: X.reshape(-1, 1) is one column")
    for size, what in zip(rows.shape, ("sample(s)", "feature(s)"), strict=True):
        if not size:
            raise ValueError(
                f"Found array with 0 {what} (shape={rows.shape}) while a minimum of 1 is required by {who}."
            )
    return rows if rows.dtype in (np.float32, np.float64) or rows.dtype.kind != "f" else rows.astype(np.float32)


def refuse_not_finite(x: Array, who: str) -> None:
    """Raise ValueError where a number is NaN or infinite."""
    if x.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            looks_finite = np.isfinite(x.sum())
        if not looks_finite and not np.isfinite(x).all():
            raise ValueError(f"Input X contains NaN or infinity, which {who} does not take; MixedNB leaves NaN out")


def encoded(y: Any, classes: Array | None, rows: int) -> tuple[Array, Array]:
    """The code of each label among the classes (of ``y`` itself where None): int64 [n], and the classes ascending."""
    y = np.asarray(y)
    y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or len(y) != rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows}, {len(y)}]; y is [n]")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains NaN or infinity: leave these rows out")
    if y.dtype.kind in "iu" and int(y.max()) - int(y.min()) < WIDEST:
        low = int(y.min())
        there = np.zeros(int(y.max()) - low + 1, bool)
        offset = (y - low).astype(np.int64)
        there[offset] = True
        found = (np.flatnonzero(there) + low).astype(y.dtype)
        codes = (np.cumsum(there) - 1)[offset]
    else:
        found, codes = np.unique(y, return_inverse=True)
    if classes is None or np.array_equal(found, classes):
        return codes, found
    unknown = found[~np.isin(found, classes)]
    if unknown.size:
        raise ValueError(f"The target label(s) {unknown} in y do not exist in the initial classes {classes}")
    return np.searchsorted(classes, found)[codes], classes


def checked_weights(sample_weight: Any, rows: int) -> Array | None:
    """The weights as float64 [n]; raises ValueError where one is negative or not finite, or all are 0."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, np.float64)
    weights = np.full(rows, float(weights)) if weights.ndim == 0 else weights
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(rows,)}!")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        worst = weights[~(np.isfinite(weights) & (weights >= 0))][0]
        raise ValueError(f"sample_weight holds {worst:g}: weights are numbers from 0 on")
    if not weights.any():
        raise ValueError("sample_weight is 0 for every row: nothing is left to fit")
    return weights


def checked_priors(priors: Any, classes: int) -> Array:
    """Class probabilities as float64 [C]; raises ValueError where their number, sum or range is wrong."""
    p = np.asarray(priors, np.float64)
    if p.shape != (classes,):
        raise ValueError("Number of priors must match number of classes.")
    if not np.isclose(p.sum(), 1.0):
        raise ValueError("The sum of the priors should be 1.")
    if (p < 0).any():
        raise ValueError("Priors must be non-negative.")
    return p
