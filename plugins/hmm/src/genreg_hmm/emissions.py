"""Emissions: p(x | state) as evidence for the recursions, sums for learning, and draws.

Here are the dense ones; full covariances are in ``gaussian.py``, symbols in ``categorical.py``. Dense ones are
exponential families: log p(x | k) is features(x) . natural[k], so that evidence and sums are one matrix product each;
the features of what is missing are 0, whence it is left out exactly. Parameters are float64 NumPy arrays; shapes: K
states, N steps, D columns, F features, V symbols.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from genreg.draft import Array
from genreg_hmm.categorical import Evidence, Knobs, knobbed, pick
from genreg_hmm.config import Config

E = TypeVar("E", bound="Emission")
LEAST_RATE = 1e-10


class Emission(Protocol):
    """What the recursions and learning ask of an emission; ``prepare`` is done once, the rest at every EM step."""

    @property
    def empty(self) -> Any:
        """What ``prepare`` makes of a missing step: padding is filled with it."""
        ...

    def prepare(self, cells: Array, /) -> Array:
        """Cells as the other methods take them: [N, F] or [N]."""
        ...

    def evidence(self, cells: Tensor, dtype: torch.dtype, /) -> Evidence:
        """p(x | k), scaled by its maximum over the states where it is a density."""
        ...

    def log_density(self, cells: Tensor, /) -> Tensor:
        """log p(x | k): [N, K]."""
        ...

    def sums(self, cells: Tensor, weight: Tensor, /) -> Tensor:
        """Sufficient statistics of steps weighted with [N, K]: float64."""
        ...

    def maximize(self: E, sums: Tensor, config: Config, /) -> E:
        """The parameters that are likeliest given the sums and the priors; a state without mass keeps its own."""
        ...

    def penalty(self, config: Config, /) -> float:
        """log of the priors' density, up to a constant."""
        ...

    @property
    def expected(self) -> Array:
        """What a state emits on average, [K, D], or the probabilities of its symbols, [K, V]."""
        ...

    @property
    def free(self) -> int:
        """How many numbers are free to be learned."""
        ...

    def tensors(self) -> dict[str, Array]:
        """Parameters by name, float64, the state along the first axis."""
        ...

    def reseed(self: E, into: int, of: int, noise: float, /) -> E:
        """State ``into`` as a displaced copy of state ``of``."""
        ...

    def draw(self, states: Array, chance: Array, cells: Array, knobs: Knobs, /) -> Array:
        """One draw per step: [N, D] or [N], of states [N] with chance [N, D] or [N]; cells given are kept."""
        ...


# ---- dense: exponential families ----


@dataclass(frozen=True)
class Linear(ABC):
    """What all dense families share. ``log_density`` is their own: it keeps digits that a product loses."""

    @property
    @abstractmethod
    def natural(self) -> Array:
        """The natural parameters: [F, K]."""

    def evidence(self, cells: Tensor, dtype: torch.dtype, /) -> Evidence:
        """exp(log p - max over k of log p), of log p = features . natural."""
        natural = torch.as_tensor(np.array(self.natural), dtype=cells.dtype, device=cells.device)
        return scaled((cells @ natural).to(dtype))

    def sums(self, cells: Tensor, weight: Tensor, /) -> Tensor:
        """Expected features: float64 [K, F]."""
        return weight.double().T @ cells.double()


def scaled(log_p: Tensor) -> Evidence:
    """Evidence from log densities, in place; a step that is impossible in all states has the scale -inf."""
    top = log_p.amax(1, keepdim=True)
    if not bool(torch.isfinite(top).all()):
        safe = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
        return Evidence(log_p.sub_(safe).exp_(), top.squeeze(1))
    return Evidence(log_p.sub_(top).exp_(), top.squeeze(1))


@dataclass(frozen=True, eq=False)
class Diagonal(Linear):
    """Gaussian columns that are independent given the state; ``spherical`` ones share the variance of a state."""

    mean: Array  # [K, D]
    variance: Array  # [K, D]
    shift: Array  # [D]: taken from the cells before anything is squared
    least: Array  # [D]: the least variance
    spherical: bool = False
    empty: float = 0.0

    @cached_property
    def natural(self) -> Array:
        """Of [1, x, x^2] for each column: -m^2 / 2v - log(2 pi v) / 2, m / v, -1 / 2v."""
        m, v = self.mean - self.shift, self.variance
        return np.hstack([-0.5 * (m**2 / v + np.log(2 * np.pi * v)), m / v, -0.5 / v]).T

    def prepare(self, cells: Array, /) -> Array:
        """[1, x, x^2] for each column, 0 where missing: [N, 3 D]."""
        x = cells - self.shift
        seen = ~np.isnan(x)
        x = np.where(seen, x, 0.0)
        return np.hstack([seen, x, x**2])

    def log_density(self, cells: Tensor, /) -> Tensor:
        """The squares of the distances themselves keep their digits far out, where exact recursions are needed."""
        seen, x, _ = cells.double().chunk(3, 1)
        out = cells.new_zeros(len(cells), len(self.mean), dtype=torch.float64)
        for m, v, there, column in zip((self.mean - self.shift).T, self.variance.T, seen.T, x.T, strict=True):
            mean, variance = (torch.as_tensor(np.array(one), device=out.device) for one in (m, v))
            out -= there[:, None] * ((column[:, None] - mean) ** 2 / variance + (2 * np.pi * variance).log()) / 2
        return out

    def maximize(self, sums: Tensor, config: Config, /) -> Diagonal:
        """Weighted moments of the observed cells, with the floor."""
        n, x, x2 = np.split(sums.cpu().numpy(), 3, axis=1)
        seen = n > 0
        m = np.where(seen, x / np.where(seen, n, 1), self.mean - self.shift)
        squares = np.maximum(x2 - 2 * m * x + m**2 * n, 0) + config.variance_prior
        if self.spherical:
            mass = n.sum(1, keepdims=True)
            spread = np.broadcast_to(squares.sum(1, keepdims=True) / np.where(mass > 0, mass, 1), m.shape)
            least, seen_any = np.broadcast_to(self.least.mean(), m.shape), np.broadcast_to(mass > 0, m.shape)
        else:
            spread, least, seen_any = squares / np.where(seen, n, 1), np.broadcast_to(self.least, m.shape), seen
        variance = np.where(seen_any, np.maximum(spread, least), self.variance)
        return replace(self, mean=np.where(seen, m + self.shift, self.mean), variance=variance)

    def penalty(self, config: Config, /) -> float:
        """-prior / 2 variance."""
        return float(-0.5 * config.variance_prior * (1 / self.variance).sum())

    @property
    def expected(self) -> Array:
        """The means: [K, D]."""
        return self.mean

    @property
    def free(self) -> int:
        """Means and variances; ``spherical`` ones have a variance per state."""
        return self.mean.size + (len(self.mean) if self.spherical else self.variance.size)

    def tensors(self) -> dict[str, Array]:
        """Mean and variance, each [K, D]."""
        return {"mean": self.mean, "variance": self.variance}

    def reseed(self, into: int, of: int, noise: float, /) -> Diagonal:
        """The mean moved by ``noise`` deviations."""
        mean, variance = self.mean.copy(), self.variance.copy()
        mean[into], variance[into] = mean[of] + noise * np.sqrt(variance[of]), variance[of]
        return replace(self, mean=mean, variance=variance)

    def draw(self, states: Array, chance: Array, cells: Array, knobs: Knobs, /) -> Array:
        """mean + deviation * normal; the temperature multiplies the variance."""
        made = self.mean[states] + np.sqrt(self.variance * knobs.temperature)[states] * chance
        return np.where(np.isnan(cells), made, cells)


@dataclass(frozen=True, eq=False)
class Poisson(Linear):
    """Columns of counts, independent given the state."""

    rate: Array  # [K, D]
    empty: float = 0.0

    @cached_property
    def natural(self) -> Array:
        """Of [1, x, log x!] for each column: -rate, log rate, -1."""
        return np.hstack([-self.rate, np.log(self.rate), -np.ones_like(self.rate)]).T

    def prepare(self, cells: Array, /) -> Array:
        """[1, x, log x!] for each column, 0 where missing: [N, 3 D]."""
        seen = ~np.isnan(cells)
        x = np.where(seen, cells, 0.0)
        return np.hstack([seen, x, torch.lgamma(torch.from_numpy(x) + 1).numpy()])

    def log_density(self, cells: Tensor, /) -> Tensor:
        """Summed column by column: the same for a step whatever other steps are there."""
        seen, x, log_factorial = cells.double().chunk(3, 1)
        out = cells.new_zeros(len(cells), len(self.rate), dtype=torch.float64)
        for r, there, column, log_f in zip(self.rate.T, seen.T, x.T, log_factorial.T, strict=True):
            rate = torch.as_tensor(np.array(r), device=out.device)
            out += column[:, None] * rate.log() - there[:, None] * rate - log_f[:, None]
        return out

    def maximize(self, sums: Tensor, config: Config, /) -> Poisson:
        """Weighted means of the observed counts."""
        n, x, _ = np.split(sums.cpu().numpy(), 3, axis=1)
        rate = (x + config.emission_prior - 1) / np.where(n > 0, n, 1)
        return replace(self, rate=np.where(n > 0, np.maximum(rate, LEAST_RATE), self.rate))

    def penalty(self, config: Config, /) -> float:
        """(prior - 1) log rate."""
        return float((config.emission_prior - 1) * np.log(self.rate).sum())

    @property
    def expected(self) -> Array:
        """The rates: [K, D]."""
        return self.rate

    @property
    def free(self) -> int:
        """The rates."""
        return self.rate.size

    def tensors(self) -> dict[str, Array]:
        """Rates: [K, D]."""
        return {"rate": self.rate}

    def reseed(self, into: int, of: int, noise: float, /) -> Poisson:
        """The rate moved by ``noise`` deviations."""
        rate = self.rate.copy()
        rate[into] = np.maximum(rate[of] + noise * np.sqrt(rate[of]), LEAST_RATE)
        return replace(self, rate=rate)

    def draw(self, states: Array, chance: Array, cells: Array, knobs: Knobs, /) -> Array:
        """By the inverse of the cumulative probabilities."""
        made = np.empty(cells.shape)
        for k, d in np.ndindex(self.rate.shape):
            at = np.flatnonzero(states == k)
            if len(at):
                low, log_p = poisson_table(float(self.rate[k, d]))
                made[at, d] = low + pick(knobbed(log_p, knobs), chance[at, d])
        return np.where(np.isnan(cells), made, cells)


def poisson_table(rate: float) -> tuple[int, Array]:
    """The lowest count with any chance worth a double, and log p from there on."""
    reach = 12 * np.sqrt(rate) + 60
    low = int(max(0.0, rate - reach))
    x = torch.arange(low, int(rate + reach) + 1, dtype=torch.float64)
    return low, (x * np.log(rate) - rate - torch.lgamma(x + 1)).numpy()


def labelled(emissions: tuple[Emission, ...]) -> Mapping[str, Array]:
    """The tensors of all emissions, by ``<position>.<name>``."""
    return {f"emission.{at}.{name}": t for at, one in enumerate(emissions) for name, t in one.tensors().items()}
