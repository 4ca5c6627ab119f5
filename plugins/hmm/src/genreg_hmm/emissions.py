"""Emissions: p(x | state) as evidence for the recursions, sums for learning, and draws.

Two kinds cover all but the full covariances (``gaussian.py``). Dense ones are exponential families: log p(x | k) is
features(x) . natural[k], so that evidence and sums are one matrix product each; the features of what is missing are 0,
whence it is left out exactly. Categorical ones look up a table. Parameters are float64 NumPy arrays; shapes: K states,
N steps, D columns, F features, V symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from genreg.draft import Array
from torch import Tensor

from genreg_hmm.config import Config

E = TypeVar("E", bound="Emission")
LEAST_RATE = 1e-10


class Evidence(NamedTuple):
    """p(x | k) up to a factor per step: ``scaled`` [N, K] times exp(``log_scale`` [N])."""

    scaled: Tensor
    log_scale: Tensor | None  # None: 0 throughout


class Knobs(NamedTuple):
    """How emissions are drawn; the same for all steps that are drawn together."""

    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0


class Emission(Protocol):
    """What the recursions and learning ask of an emission; ``prepare`` is done once, the rest at every EM step."""

    empty: Any  # property: what ``prepare`` makes of a missing step: rows of padding are filled with it

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
class Linear:
    """The half that all dense families share."""

    @cached_property
    def natural(self) -> Array:
        """The natural parameters: [F, K]."""
        raise NotImplementedError

    def log_density(self, cells: Tensor, /) -> Tensor:
        """features . natural."""
        return cells @ torch.as_tensor(self.natural, dtype=cells.dtype, device=cells.device)

    def evidence(self, cells: Tensor, dtype: torch.dtype, /) -> Evidence:
        """exp(log p - max over k of log p)."""
        return scaled(Linear.log_density(self, cells).to(dtype))

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
        """The squares of the distances themselves, which keep their digits far out, where exact recursions are needed."""
        seen, x, _ = cells.double().chunk(3, 1)
        out = cells.new_zeros(len(cells), len(self.mean), dtype=torch.float64)
        for m, v, there, column in zip((self.mean - self.shift).T, self.variance.T, seen.T, x.T, strict=True):
            mean, variance = torch.as_tensor(m, device=out.device), torch.as_tensor(v, device=out.device)
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
            rate = torch.as_tensor(r, device=out.device)
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


# ---- categorical ----


@dataclass(frozen=True, eq=False)
class Categorical:
    """Symbols: one row of probabilities per state.

    A symbol that training did not see is scored as ``unknown`` in every state: it says nothing of the state, is outside
    the sum over the V symbols, which is exactly 1, and is never drawn.
    """

    probability: Array  # [K, V]
    unknown: float

    @property
    def empty(self) -> int:
        """The code of a missing symbol."""
        return self.probability.shape[1] + 1

    def prepare(self, cells: Array, /) -> Array:
        """Codes as they are."""
        return cells

    def _table(self, cells: Tensor, dtype: torch.dtype) -> Tensor:
        ones = np.ones((2, len(self.probability)))
        return torch.as_tensor(np.vstack([self.probability.T, ones]), dtype=dtype, device=cells.device)

    def evidence(self, cells: Tensor, dtype: torch.dtype, /) -> Evidence:
        """Rows of the table; the scale is that of unknown symbols."""
        unknown = cells == self.probability.shape[1]
        log_scale = unknown.to(dtype) * float(np.log(self.unknown)) if bool(unknown.any()) else None
        return Evidence(self._table(cells, dtype).index_select(0, cells), log_scale)

    def log_density(self, cells: Tensor, /) -> Tensor:
        """Rows of the table's logarithm."""
        table = self._table(cells, torch.float64).log()
        table[-2] = float(np.log(self.unknown))
        return table.index_select(0, cells)

    def sums(self, cells: Tensor, weight: Tensor, /) -> Tensor:
        """Expected counts: float64 [K, V]."""
        size = self.probability.shape[1]
        counts = weight.new_zeros(size + 2, weight.shape[1]).index_add_(0, cells, weight)
        return counts[:size].T.double()

    def maximize(self, sums: Tensor, config: Config, /) -> Categorical:
        """Relative counts; a probability that is 0 stays 0."""
        return replace(self, probability=simplex(sums.cpu().numpy(), self.probability, config.emission_prior))

    def penalty(self, config: Config, /) -> float:
        """(prior - 1) log p over what is not 0."""
        return float((config.emission_prior - 1) * np.log(self.probability[self.probability > 0]).sum())

    def tensors(self) -> dict[str, Array]:
        """Probabilities: [K, V]."""
        return {"probability": self.probability}

    def reseed(self, into: int, of: int, noise: float, /) -> Categorical:
        """The other state's probabilities, every second symbol made likelier."""
        p = self.probability.copy()
        p[into] = p[of] * np.where(np.arange(p.shape[1]) % 2, 1 + abs(noise), 1.0)
        p[into] /= p[into].sum()
        return replace(self, probability=p)

    def draw(self, states: Array, chance: Array, cells: Array, knobs: Knobs, /) -> Array:
        """By the inverse of the cumulative probabilities, state by state."""
        made = cells.copy()
        with np.errstate(divide="ignore"):
            log_p = np.log(self.probability)
        order = np.argsort(states, kind="stable")
        ends = np.searchsorted(states[order], np.arange(len(log_p) + 1))
        for k in np.flatnonzero(np.diff(ends)):
            at = order[ends[k] : ends[k + 1]]
            made[at] = pick(knobbed(log_p[k], knobs), chance[at])
        return np.where(cells == self.empty, made, cells)


def simplex(counts: Array, old: Array, prior: float = 1.0) -> Array:
    """Rows of counts as probabilities under a Dirichlet prior; zeros stay, and so does a row without any count."""
    counts = np.where(old > 0, np.maximum(counts, 0) + prior - 1, 0)
    total = counts.sum(-1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1), old)


def knobbed(log_p: Array, knobs: Knobs) -> Array:
    """Unnormalized probabilities [V] under temperature, top-k and top-p, in this order; a 0 stays 0.

    top-p keeps the fewest symbols that hold the share (Holtzman et al., "The Curious Case of Neural Text Degeneration",
    2020); ties at the border of top-k go to the lower code.
    """
    top = log_p.max()
    if knobs.temperature == 0:
        return np.asarray(np.arange(len(log_p)) == log_p.argmax(), np.float64)
    p = np.exp((log_p - top) / knobs.temperature)
    order = np.argsort(-p, kind="stable")
    if 0 < knobs.top_k < len(p):
        p[order[knobs.top_k :]] = 0
    if knobs.top_p < 1:
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= knobs.top_p * p.sum()]] = 0
    return np.asarray(p)


def pick(p: Array, chance: Array) -> Array:
    """The inverse of the cumulative probabilities at uniforms [N]; what has probability 0 never comes out."""
    cdf = np.cumsum(p)
    return np.searchsorted(cdf, chance * cdf[-1], side="right")


def labelled(emissions: tuple[Emission, ...]) -> Mapping[str, Array]:
    """The tensors of all emissions, by ``<position>.<name>``."""
    return {f"emission.{at}.{name}": t for at, one in enumerate(emissions) for name, t in one.tensors().items()}
