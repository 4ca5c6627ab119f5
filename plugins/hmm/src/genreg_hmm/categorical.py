"""Symbols: a table of probabilities, looked up; with the knobs that act on it when symbols are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genreg.draft import Array
from genreg_hmm.config import Config


class Evidence(NamedTuple):
    """p(x | k) up to a factor per step: ``scaled`` [N, K] times exp(``log_scale`` [N])."""

    scaled: Tensor
    log_scale: Tensor | None  # None: 0 throughout


class Knobs(NamedTuple):
    """How emissions are drawn; the same for all steps that are drawn together."""

    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0


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
        return int(self.probability.shape[1]) + 1

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

    @property
    def expected(self) -> Array:
        """The probabilities of the symbols: [K, V]."""
        return self.probability

    @property
    def free(self) -> int:
        """The probabilities that are not 0, less one in each state, for they sum to 1."""
        return int((self.probability > 0).sum()) - len(self.probability)

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
    return np.asarray(np.searchsorted(cdf, chance * cdf[-1], side="right"))
