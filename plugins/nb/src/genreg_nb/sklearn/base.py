"""What all classifiers share: parameters, the order of fitting, and what follows from a joint probability."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from genreg.draft import Array
from genreg_nb.sklearn.checks import checked_weights, encoded


class NotFittedError(ValueError, AttributeError):
    """A classifier is asked before it has seen data (of the same bases as scikit-learn's)."""


class Classifier(ABC):
    """A naive Bayes classifier in scikit-learn's manner, without scikit-learn, of rows in whatever form.

    Fitting calls ``_rows``, ``_start`` once, ``_count`` and ``_read``; predicting calls ``_rows`` and ``_joint``.
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

    def set_params(self, **params: Any) -> Self:
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
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

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803
        """Count further rows; the first call names all ``classes`` that can come. Equal to one ``fit`` of all rows."""
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if known is not None and classes is not None and not np.array_equal(known, np.sort(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}")
        return self._learn(X, y, np.unique(classes) if known is None else known, sample_weight)

    def _learn(self, X: Any, y: Any, classes: Array | None, sample_weight: Any) -> Self:  # noqa: N803
        """Check rows, labels and weights, then count; ``classes`` [C] are those that can come, None: those that do."""
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

    @abstractmethod
    def _rows(self, X: Any, *, first: bool) -> Any:  # noqa: N803
        """The n rows of X, checked; with ``first`` its columns are remembered, else they are compared."""

    @abstractmethod
    def _start(self, rows: Any) -> None:
        """Check the parameters against ``classes_`` and the columns of these rows, and set all counts to 0."""

    @abstractmethod
    def _count(self, rows: Any, codes: Array, weights: Array | None) -> None:
        """Add rows of the classes ``codes`` [n], each counted ``weights`` [n] times (None: once)."""

    @abstractmethod
    def _read(self) -> None:
        """Set the fitted attributes, from the counts."""

    @abstractmethod
    def _joint(self, rows: Any) -> Array:
        """log p(x, y): [n, C]."""

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

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet: call fit or partial_fit first"
            )
