"""What the classifiers share: parameters, the checks of what comes in, and what follows from a joint probability."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, categorical

CHUNK = 4096  # rows at a time: what is made of them stays in the cache
WIDEST = 1 << 20  # of the labels' range, for a table from label to code


class NotFittedError(ValueError, AttributeError):
    """A classifier is asked before it has seen data (of the same bases as scikit-learn's)."""


class Classifier:
    """A naive Bayes classifier in scikit-learn's manner, without scikit-learn.

    A kind of it has ``_start`` (nothing is counted yet), ``_count`` (of rows), ``_read`` (the attributes, from the
    counts), ``_joint`` (log p(x, y) of rows) and ``_draw`` (rows of classes).
    """

    _categorical = False  # what scikit-learn's tags say
    _sparse = False
    _positive = False
    _estimator_type = "classifier"

    classes_: Array
    n_features_in_: int

    # ---- parameters ----

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - nothing is nested
        """The parameters by name."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> Classifier:
        """Change parameters; raises ValueError for one that is not there."""
        for name, value in params.items():
            if name not in self.get_params():
                there = ", ".join(self.get_params())
                raise ValueError(f"{type(self).__name__} has no parameter {name}; there are: {there}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        usual = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        changed = {name: value for name, value in self.get_params().items() if value is not usual[name]}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks before it takes the classifier into a pipeline or a search."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(poor_score=self._sparse or self._categorical),
            input_tags=InputTags(sparse=self._sparse, categorical=self._categorical, positive_only=self._positive),
        )

    # ---- fitting ----

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:  # noqa: N803 - scikit-learn's name
        """Count rows X [n, d] of classes y [n], and forget what was counted before; what is refused changes nothing."""
        before = dict(vars(self))
        self._forget()
        try:
            return self._learn(X, y, None, sample_weight)
        except BaseException:
            self._forget()
            vars(self).update(before)
            raise

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:  # noqa: N803
        """Count further rows; the first call names all ``classes`` that can come. Equal to one ``fit`` of all rows."""
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if known is not None and classes is not None and not np.array_equal(known, np.sort(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}")
        return self._learn(X, y, np.unique(classes) if known is None else known, sample_weight)

    def _learn(self, X: Any, y: Any, classes: Array | None, sample_weight: Any) -> Any:  # noqa: N803
        first = not hasattr(self, "classes_")
        rows = self._rows(X, first=first)
        codes, classes = encoded(y, classes, rows.shape[0])
        weights = checked_weights(sample_weight, rows.shape[0])
        if first:
            self.classes_ = classes
            self._start(rows)
        self._count(rows, codes, weights)
        self._read()
        return self

    def _rows(self, X: Any, *, first: bool) -> Any:  # noqa: N803
        """X as an array [n, d] of numbers; with ``first`` its columns are remembered, else they are compared."""
        names = getattr(X, "columns", None)
        rows = as_rows(X, type(self).__name__, sparse=self._sparse)
        names = None if names is None or not all(isinstance(name, str) for name in names) else np.array(names, object)
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

    def _start(self, rows: Any) -> None:
        raise NotImplementedError

    def _count(self, rows: Any, codes: Array, weights: Array | None) -> None:
        raise NotImplementedError

    def _read(self) -> None:
        raise NotImplementedError

    def _joint(self, rows: Any) -> Array:
        raise NotImplementedError

    def _draw(self, codes: Array, seeds: Seeds) -> Any:
        raise NotImplementedError

    def _log_prior(self) -> Array:
        raise NotImplementedError

    # ---- what follows from the joint ----

    def predict_joint_log_proba(self, X: Any) -> Array:  # noqa: N803
        """log p(x, y): [n, C]."""
        self._check_fitted()
        return self._joint(self._rows(X, first=False))

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The most probable class of each row: [n]."""
        codes = self.predict_joint_log_proba(X).argmax(1)
        best: Array = self.classes_[codes]
        return best

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """log p(y | x): [n, C]."""
        joint = self.predict_joint_log_proba(X)
        most = joint.max(1, keepdims=True)
        log_p: Array = joint - most - np.log(np.exp(joint - most).sum(1, keepdims=True))
        return log_p

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """p(y | x): [n, C]."""
        p: Array = np.exp(self.predict_log_proba(X))
        return p

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The share of rows (or of their weight) whose class is predicted."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

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

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet: call fit or partial_fit first"
            )


# ---- what comes in ----


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
