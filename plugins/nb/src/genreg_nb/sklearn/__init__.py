"""scikit-learn's naive Bayes classifiers, faster, and able to sample: move a notebook over by an import.

    from genreg_nb.sklearn import BernoulliNB, CategoricalNB, GaussianNB, MixedNB, MultinomialNB

The same parameters, methods, fitted attributes and numbers (a variance floor that is a share of the largest column's
variance, and so on), and beside them ``sample``, in which one seed is one row. ``MixedNB`` takes a table with columns
of every kind and missing cells. scikit-learn need not be installed; where it is, the classifiers fit into its pipelines
and searches. Where it is wrong, this is not: ``partial_fit`` equals ``fit``, float32 data with an offset keep their
variance, and a category that training did not see is improbable rather than an IndexError.
"""

from __future__ import annotations

from genreg_nb.sklearn.base import NotFittedError
from genreg_nb.sklearn.categorical import CategoricalNB
from genreg_nb.sklearn.discrete import BernoulliNB, MultinomialNB
from genreg_nb.sklearn.gaussian import GaussianNB
from genreg_nb.sklearn.mixed import MixedNB

__all__ = ["BernoulliNB", "CategoricalNB", "GaussianNB", "MixedNB", "MultinomialNB", "NotFittedError"]
