"""hmmlearn's estimators over this package's recursions, so that a notebook moves over by an import.

``from genreg_hmm.sklearn import GaussianHMM`` in place of ``from hmmlearn.hmm import GaussianHMM``. The surface is the
same: ``fit``, ``score``, ``decode``, ``predict``, ``predict_proba``, ``sample``, with ``lengths`` and letters for
``params`` and ``init_params``. NaN is a missing cell. Where hmmlearn gives NaN for an empty state, or raises for an
outlier, these do neither; scikit-learn itself is not needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genreg.draft import Array
from genreg_hmm.categorical import Categorical
from genreg_hmm.config import Config
from genreg_hmm.emissions import Diagonal, Emission, Poisson
from genreg_hmm.estimator import BaseHMM
from genreg_hmm.gaussian import Full
from genreg_hmm.start import Chance, kmeans


class GaussianHMM(BaseHMM):
    """States that emit Gaussian readings; ``covars_`` reads as full matrices, and is set in the type's own shape."""

    kind, letters = "gaussian", "stmc"
    means_: Array

    def __init__(
        self, n_components: int = 1, covariance_type: str = "diag", min_covar: float = 1e-3, *,
        covars_prior: float = 1e-2, **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(n_components, **common)
        self.covariance_type, self.min_covar, self.covars_prior = covariance_type, min_covar, covars_prior

    @property
    def covars_(self) -> Array:
        """Covariance matrices: [K, D, D], or [D, D] where tied."""
        own = self._covars
        if self.covariance_type == "diag":
            return np.stack([np.diag(row) for row in own])
        return np.stack([np.eye(self.n_features) * v for v in own]) if self.covariance_type == "spherical" else own

    @covars_.setter
    def covars_(self, covars: Any) -> None:
        own, k = np.array(covars, np.float64), self.n_components
        if self.covariance_type == "spherical" and own.size == k:
            own = own.reshape(k)  # as columns or matrices of one number too
        d = own.shape[-1] if self.covariance_type != "spherical" else getattr(self, "n_features", 1)
        shapes = {"diag": (k, d), "spherical": (k,), "full": (k, d, d), "tied": (d, d)}
        if self.covariance_type not in shapes:
            raise ValueError(f"covariance_type={self.covariance_type}: there are {', '.join(shapes)}")
        if own.shape != shapes[self.covariance_type]:
            raise ValueError(
                f"{self.covariance_type} covars must have the shape {shapes[self.covariance_type]}, not {own.shape}"
            )
        if self.covariance_type in ("full", "tied"):
            if (np.linalg.eigvalsh(own) <= 0).any() or not np.allclose(own, own.swapaxes(-1, -2)):
                raise ValueError("covars must be symmetric and positive definite")
        elif (own <= 0).any():
            raise ValueError("covars must be above 0")
        self._covars = own

    def _config(self) -> Config:
        return super()._config().model_copy(update={"variance_prior": float(self.covars_prior)})

    def _emission(self) -> Emission:
        mean = np.asarray(self.means_, np.float64)
        if mean.ndim != 2 or len(mean) != self.n_components:
            raise ValueError(f"means_ must have one row per state, and has the shape {mean.shape}")
        self.n_features = mean.shape[1]
        shift, least = np.median(mean, 0), np.full(mean.shape[1], 1e-100)
        if self.covariance_type in ("full", "tied"):
            whole = np.broadcast_to(self._covars, (self.n_components, *self._covars.shape[-2:]))
            return Full(mean, whole, shift, least, self.covariance_type == "tied")
        own = self._covars[:, None] if self.covariance_type == "spherical" else self._covars
        return Diagonal(mean, np.broadcast_to(own, mean.shape), shift, least, self.covariance_type == "spherical")

    def _keep(self, emission: Emission) -> None:
        found = emission.tensors()
        self.means_ = found["mean"]
        if self.covariance_type in ("full", "tied"):
            self._covars = found["covariance"][0] if self.covariance_type == "tied" else found["covariance"]
        else:
            self._covars = found["variance"][:, 0] if self.covariance_type == "spherical" else found["variance"]

    def _start(self, cells: Array, chance: Chance) -> None:
        k, d = self.n_components, cells.shape[1]
        self.n_features = d
        filled = np.where(np.isnan(cells), np.nanmean(cells, 0), cells)
        if "m" in self.init_params:
            labels = kmeans(filled, k, chance)
            every = filled.mean(0)
            self.means_ = np.stack([filled[labels == i].mean(0) if (labels == i).any() else every for i in range(k)])
        if "c" in self.init_params:
            whole = np.atleast_2d(np.cov(filled.T, bias=len(filled) == 1)) + self.min_covar * np.eye(d)
            shapes = {"diag": np.tile(np.diag(whole), (k, 1)), "spherical": np.full(k, np.diag(whole).mean())}
            self.covars_ = {**shapes, "full": np.tile(whole, (k, 1, 1)), "tied": whole}.get(self.covariance_type, whole)


class CategoricalHMM(BaseHMM):
    """States that emit symbols 0, 1, …"""

    kind, letters = "categorical", "ste"
    emissionprob_: Array

    def __init__(
        self, n_components: int = 1, *, emissionprob_prior: float = 1.0, n_features: int | None = None, **common: Any
    ) -> None:
        super().__init__(n_components, **common)
        self.emissionprob_prior, self.n_symbols = emissionprob_prior, n_features
        if n_features is not None:
            self.n_features = n_features

    def _config(self) -> Config:
        return super()._config().model_copy(update={"emission_prior": max(1.0, float(self.emissionprob_prior))})

    def _cells(self, x: Any) -> Array:
        cells = np.asarray(x, np.float64)
        if cells.ndim != 2 or cells.shape[1] != 1:
            raise ValueError("X holds one column of symbols: reshape(-1, 1)")
        seen = cells[~np.isnan(cells)]
        if (seen != np.rint(seen)).any() or (seen < 0).any():
            raise ValueError("symbols are whole numbers from 0 on")
        known = self.n_symbols or (
            np.shape(getattr(self, "emissionprob_", [[]]))[1] if "e" not in self.init_params else 0
        )
        size = known or getattr(self, "n_features", int(seen.max(initial=0)) + 1)
        if (seen >= size).any():
            raise ValueError(f"the symbol {int(seen.max())} is outside the model's alphabet of {size}")
        self.n_features = int(size)
        return np.where(np.isnan(cells), size + 1, cells)[:, 0].astype(np.int64)

    def _emission(self) -> Emission:
        p = np.asarray(self.emissionprob_, np.float64)
        if p.ndim != 2 or len(p) != self.n_components or (p < 0).any() or not np.allclose(p.sum(1), 1):
            raise ValueError("emissionprob_ holds one row of probabilities per state, and each must sum to 1")
        self.n_features = p.shape[1]
        return Categorical(p, 1e-300)

    def _keep(self, emission: Emission) -> None:
        self.emissionprob_ = emission.tensors()["probability"]

    def _start(self, cells: Array, chance: Chance) -> None:  # noqa: ARG002
        if "e" in self.init_params:
            p = -np.log1p(-chance.uniform(self.n_components, self.n_features))
            self.emissionprob_ = p / p.sum(1, keepdims=True)


class PoissonHMM(BaseHMM):
    """States that emit counts."""

    kind, letters = "poisson", "stl"
    lambdas_: Array

    def _cells(self, x: Any) -> Array:
        cells = super()._cells(x)
        seen = cells[~np.isnan(cells)]
        if (seen != np.rint(seen)).any() or (seen < 0).any():
            raise ValueError("counts are whole numbers from 0 on")
        return cells

    def _emission(self) -> Emission:
        rate = np.asarray(self.lambdas_, np.float64)
        if rate.ndim != 2 or len(rate) != self.n_components or (rate <= 0).any():
            raise ValueError("lambdas_ holds one row of rates above 0 per state")
        self.n_features = rate.shape[1]
        return Poisson(rate)

    def _keep(self, emission: Emission) -> None:
        self.lambdas_ = emission.tensors()["rate"]

    def _start(self, cells: Array, chance: Chance) -> None:
        self.n_features = cells.shape[1]
        if "l" in self.init_params:
            spread = 0.5 + chance.uniform(self.n_components, cells.shape[1])
            self.lambdas_ = np.maximum(np.nanmean(cells, 0) * spread, 1e-3)


__all__ = ["CategoricalHMM", "GaussianHMM", "PoissonHMM"]
