"""What hmmlearn's estimators share: see ``sklearn.py``."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from genreg.draft import Array
from genreg.random import Stream, normal, uniform
from genreg_hmm.batches import Bucket, buckets
from genreg_hmm.categorical import Categorical, Knobs
from genreg_hmm.config import Config
from genreg_hmm.decoding import decoded
from genreg_hmm.emissions import Emission
from genreg_hmm.learning import Parameters, e_step, log_likelihoods, m_step
from genreg_hmm.sampling import draw_paths
from genreg_hmm.sequences import Sequences
from genreg_hmm.start import Chance, free_parameters

LOG = logging.getLogger(__name__)


@dataclass
class Monitor:
    """How EM converged."""

    tol: float
    n_iter: int
    verbose: bool = False
    iter: int = 0
    history: deque[float] = field(default_factory=deque)

    def report(self, log_p: float) -> None:
        """Take in the log-likelihood before an iteration."""
        if self.verbose:
            print(f"{self.iter + 1:>10d} {log_p:>16.8f}")
        self.history.append(log_p)
        self.iter += 1

    @property
    def converged(self) -> bool:
        """Whether the iterations are used up, or the last one gained less than ``tol``."""
        few = len(self.history) >= 2 and self.history[-1] - self.history[-2] < self.tol
        return self.iter == self.n_iter or few


class BaseHMM(ABC):
    """What all estimators share; subclasses say what a state emits."""

    kind: ClassVar[str] = ""
    letters: ClassVar[str] = "st"
    startprob_: Array
    transmat_: Array
    n_features: int

    def __init__(
        self, n_components: int = 1, *, startprob_prior: float = 1.0, transmat_prior: float = 1.0,
        algorithm: str = "viterbi", random_state: Any = None, n_iter: int = 10, tol: float = 1e-2,
        verbose: bool = False, params: str | None = None, init_params: str | None = None,
        implementation: str = "scaling",
    ) -> None:  # fmt: skip
        self.n_components, self.startprob_prior, self.transmat_prior = n_components, startprob_prior, transmat_prior
        self.algorithm, self.random_state, self.n_iter, self.tol = algorithm, random_state, n_iter, tol
        self.verbose, self.implementation = verbose, implementation
        self.params = self.letters if params is None else params
        self.init_params = self.letters if init_params is None else init_params
        self.monitor_ = Monitor(tol, n_iter, verbose)

    # ---- scikit-learn's surface ----

    @classmethod
    def _names(cls) -> list[str]:
        known = [p for one in cls.__mro__ if "__init__" in vars(one) for p in inspect.signature(one).parameters]
        return sorted({name for name in known if name not in ("self", "args", "kwargs", "common")})

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The constructor's parameters."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set the constructor's parameters; raises ValueError for an unknown one."""
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name}; there are: {', '.join(self._names())}"
                )
            setattr(self, name, value)
        return self

    # ---- what subclasses say ----

    @abstractmethod
    def _emission(self) -> Emission:
        """The emission of the fitted attributes, and ``n_features``; raises ValueError where they cannot be."""

    @abstractmethod
    def _keep(self, emission: Emission) -> None:
        """Set the fitted attributes from an emission."""

    @abstractmethod
    def _start(self, cells: Array, chance: Chance) -> None:
        """Guess the attributes that ``init_params`` names from cells, as ``_cells`` makes them."""

    def _config(self) -> Config:
        return Config(transition_prior=max(1.0, float(self.transmat_prior)), emission_prior=1.0)

    def _cells(self, x: Any) -> Array:
        """X [N, D] as float64, NaN where missing; raises ValueError for what is none."""
        cells = np.asarray(x, np.float64)
        if cells.ndim != 2:
            raise ValueError(
                f"X has {cells.ndim} dimensions, and samples by features are 2: reshape(-1, 1) for one feature"
            )
        if np.isinf(cells).any():
            raise ValueError("X holds infinity; what is missing is NaN")
        if getattr(self, "n_features", cells.shape[1]) != cells.shape[1]:
            raise ValueError(f"X has {cells.shape[1]} features, and the model has {self.n_features}")
        return cells

    # ---- learning ----

    def fit(self, X: Any, lengths: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Baum-Welch on sequences that lie end to end, of the lengths given."""
        if self.init_params:
            vars(self).pop("n_features", None)
        data = self._data(X, lengths)
        if not data.lengths.sum():
            raise ValueError("X has no samples")
        self._initialize(data)
        self._check()
        self.monitor_ = Monitor(self.tol, self.n_iter, self.verbose)
        now, held, config = self._parameters(), self._held(data), self._config()
        for _ in range(self.n_iter):
            found = e_step(now, held, torch.float64)
            self.monitor_.report(found.log_likelihood)
            after = m_step(now, found, config)
            own = tuple(self._frozen(a, b) for a, b in zip(now.emissions, after.emissions, strict=True))
            now = Parameters(
                after.start if "s" in self.params else now.start,
                after.transition if "t" in self.params else now.transition, own,
            )  # fmt: skip
            if self.monitor_.converged:
                break
        self.startprob_, self.transmat_ = now.start, now.transition
        self._keep(now.emissions[0])
        return self

    def _frozen(self, before: Emission, after: Emission) -> Emission:
        """The parameters whose letters are not in ``params`` as they were."""
        names = {"m": "mean", "c": "variance covariance", "e": "probability", "l": "rate"}
        kept = [
            n for letter, all_ in names.items() if letter not in self.params for n in all_.split() if hasattr(before, n)
        ]
        return replace(after, **{name: getattr(before, name) for name in kept})  # type: ignore[type-var]

    def _initialize(self, data: Sequences) -> None:
        """Guess the attributes that ``init_params`` names; warn where one that was set is overwritten."""
        names = {
            "s": "startprob_", "t": "transmat_", "m": "means_", "c": "_covars", "e": "emissionprob_", "l": "lambdas_",
        }  # fmt: skip
        for letter, name in names.items():
            if letter in self.init_params and letter in self.letters and hasattr(self, name):
                LOG.warning("init_params has %s, so %s will be overwritten", letter, name)
        chance = Chance(self._seed(self.random_state), 0)
        if "s" in self.init_params:
            self.startprob_ = -np.log1p(-chance.uniform(self.n_components))
            self.startprob_ = self.startprob_ / self.startprob_.sum()
        if "t" in self.init_params:
            table = -np.log1p(-chance.uniform(self.n_components, self.n_components))
            self.transmat_ = table / table.sum(1, keepdims=True)
        self._start(data.parts[0], chance)
        if not (hasattr(self, "startprob_") and hasattr(self, "transmat_")):
            return  # left to be set: the check that follows says so
        free, size = free_parameters(self._parameters()), data.parts[0].size
        if free > size:
            LOG.warning("%d free parameters for %d numbers: EM will find a degenerate solution", free, size)

    def _seed(self, state: Any) -> int:
        if state is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        return int(state) if isinstance(state, (int, np.integer)) else int(state.randint(2**31 - 1))

    def _check(self) -> None:
        """Bring starts and transitions to float64; raise ValueError where they are no probabilities."""
        k = self.n_components
        for name, shape in (("startprob_", (k,)), ("transmat_", (k, k))):
            table = np.asarray(getattr(self, name), np.float64)
            if table.shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, and has {table.shape}")
            if (table < 0).any() or not np.allclose(table.sum(-1), 1):
                raise ValueError(
                    f"{name} holds probabilities, and {'it' if table.ndim == 1 else 'each row'} must sum to 1"
                )
            setattr(self, name, table)

    # ---- inference ----

    def _parameters(self) -> Parameters:
        return Parameters(np.asarray(self.startprob_, float), np.asarray(self.transmat_, float), (self._emission(),))

    def _data(self, x: Any, lengths: Any) -> Sequences:
        cells = self._cells(x)
        sizes = np.array([len(cells)] if lengths is None else lengths, np.int64)
        if sizes.sum() != len(cells):
            raise ValueError(f"lengths add up to {sizes.sum()}, and X has {len(cells)} samples")
        return Sequences(sizes, (cells,))

    def _ready(self, x: Any, lengths: Any) -> Sequences:
        if not hasattr(self, "transmat_"):
            raise ValueError(f"this {type(self).__name__} is not fitted: call fit first, or set its parameters")
        self._check()
        self._emission()
        return self._data(x, lengths)

    def _held(self, data: Sequences) -> list[Bucket]:
        return list(buckets(data, (self._emission(),), self.n_components))

    def score(self, X: Any, lengths: Any = None) -> float:  # noqa: N803
        """log p of all sequences together."""
        data = self._ready(X, lengths)
        return float(log_likelihoods(self._parameters(), self._held(data), len(data)).sum())

    def score_samples(self, X: Any, lengths: Any = None) -> tuple[float, Array]:  # noqa: N803
        """log p, and the probability of each state at each step."""
        return self.score(X, lengths), self.predict_proba(X, lengths)

    def predict_proba(self, X: Any, lengths: Any = None) -> Array:  # noqa: N803
        """The probability of each state at each step: [N, K]."""
        return decoded(self._parameters(), self._ready(X, lengths)).probability

    def decode(self, X: Any, lengths: Any = None, algorithm: str | None = None) -> tuple[float, Array]:  # noqa: N803
        """The likeliest path (viterbi) with its log probability, or the likeliest state of each step (map)."""
        chosen = algorithm or self.algorithm
        if chosen not in ("viterbi", "map"):
            raise ValueError(f"algorithm={chosen}: there are viterbi and map")
        if chosen == "map":
            states = self.predict_proba(X, lengths)
            return float(np.log(states.max(1)).sum()), states.argmax(1)
        found = decoded(self._parameters(), self._ready(X, lengths))
        return float(found.log_p.sum()), found.path

    def predict(self, X: Any, lengths: Any = None) -> Array:  # noqa: N803
        """The likeliest states by ``algorithm``: [N]."""
        return self.decode(X, lengths)[1]

    def sample(self, n_samples: int = 1, random_state: Any = None, currstate: int | None = None) -> tuple[Array, Array]:
        """Observations [n, D] and their states [n]; with ``currstate``, the chain goes on *after* that state."""
        self._check()
        seeds = np.array([self._seed(self.random_state if random_state is None else random_state)], np.uint64)
        start = self.startprob_ if currstate is None else self.transmat_[currstate]
        states = draw_paths(start, self.transmat_, uniform(seeds, (n_samples,), stream=Stream.PATH), seeds)[0]
        emission = self._emission()
        if isinstance(emission, Categorical):
            chance = uniform(seeds, (n_samples,), stream=Stream.RENDER)[0]
            return emission.draw(states, chance, np.full(n_samples, emission.empty), Knobs())[:, None], states
        size = self.n_features
        draws = (normal if self.kind == "gaussian" else uniform)(seeds, (n_samples, size), stream=Stream.RENDER)[0]
        made = emission.draw(states, draws, np.full((n_samples, size), np.nan), Knobs())
        return (made.astype(np.int64) if self.kind == "poisson" else made), states

    def get_stationary_distribution(self) -> Array:
        """The distribution over the states that a step leaves as it is."""
        values, vectors = np.linalg.eig(np.asarray(self.transmat_).T)
        found = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
        return np.asarray(found / found.sum())

    def aic(self, X: Any, lengths: Any = None) -> float:  # noqa: N803
        """Akaike's criterion: lower is better."""
        return 2 * free_parameters(self._parameters()) - 2 * self.score(X, lengths)

    def bic(self, X: Any, lengths: Any = None) -> float:  # noqa: N803
        """Schwarz's criterion: lower is better."""
        return free_parameters(self._parameters()) * float(np.log(len(X))) - 2 * self.score(X, lengths)
