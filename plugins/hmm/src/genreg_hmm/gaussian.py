"""Gaussian emissions with full covariances, one per state or tied, exact where cells are missing.

Steps are grouped by which cells they have; a group is complete in its own subspace, where marginals and conditionals of
a Gaussian are Gaussian. In learning, missing cells are hidden variables: their conditional mean and covariance enter
the sums (Dempster, Laird and Rubin, 1977).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genreg.draft import Array
from genreg_hmm.categorical import Evidence, Knobs
from genreg_hmm.config import Config
from genreg_hmm.emissions import scaled


class Conditional(NamedTuple):
    """x_hidden given x_seen in each state: mean = at_rest + gain x_seen, and a covariance."""

    at_rest: Array  # [K, H]
    gain: Array  # [K, H, S]
    covariance: Array  # [K, H, H]


@dataclass(frozen=True, eq=False)
class Full:
    """Gaussian columns with a full covariance in each state; ``tied`` ones share it."""

    mean: Array  # [K, D]
    covariance: Array  # [K, D, D]
    shift: Array  # [D]: taken from the cells before anything is squared
    least: Array  # [D]: the least variance
    tied: bool = False
    empty: float = float("nan")

    def prepare(self, cells: Array, /) -> Array:
        """x, NaN where missing: [N, D]."""
        return cells - self.shift

    def evidence(self, cells: Tensor, dtype: torch.dtype, /) -> Evidence:
        """exp(log p - max over k of log p)."""
        return scaled(self.log_density(cells).to(dtype))

    def log_density(self, cells: Tensor, /) -> Tensor:
        """The marginal of the cells that a step has: [N, K]; computed in float64."""
        out = cells.new_zeros(len(cells), len(self.mean))
        for seen, at in patterns(cells):
            if len(seen):
                x = cells[at][:, seen].double()
                factor = np.linalg.cholesky(self.covariance[:, seen[:, None], seen])
                inverse = torch.as_tensor(np.linalg.inv(factor), device=cells.device)
                mean = torch.as_tensor((self.mean - self.shift)[:, seen], device=cells.device)
                white = torch.einsum("kij,knj->kni", inverse, x - mean[:, None])  # [K, n, S]
                logs = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1) + 0.5 * len(seen) * np.log(2 * np.pi)
                log_p = -0.5 * (white**2).sum(2).T - torch.as_tensor(logs, device=cells.device)
                out[at] = log_p.to(cells.dtype)
        return out

    def sums(self, cells: Tensor, weight: Tensor, /) -> Tensor:
        """Expected [1, x, x x'] of each state: float64 [K, 1 + D + D^2]."""
        size = cells.shape[1]
        total = np.zeros((weight.shape[1], 1 + size + size * size))
        for seen, at in patterns(cells):
            if not len(seen):
                continue
            x, w = cells[at][:, seen].double().cpu().numpy(), weight[at].double().cpu().numpy()
            hidden = np.setdiff1d(np.arange(size), seen)
            inside = self._given(seen, hidden)
            for k in range(len(total)):
                whole = np.empty((len(x), size))
                whole[:, seen] = x
                whole[:, hidden] = inside.at_rest[k] + x @ inside.gain[k].T
                n, second = w[:, k].sum(), whole.T @ (w[:, k, None] * whole)
                second[np.ix_(hidden, hidden)] += n * inside.covariance[k]
                total[k] += np.concatenate([[n], w[:, k] @ whole, second.ravel()])
        return torch.as_tensor(total, device=weight.device)

    def _given(self, seen: Array, hidden: Array) -> Conditional:
        m, c = self.mean - self.shift, self.covariance
        across = c[:, hidden[:, None], seen]  # [K, H, S]
        gain = np.linalg.solve(c[:, seen[:, None], seen], across.swapaxes(1, 2)).swapaxes(1, 2)
        at_rest = m[:, hidden] - np.einsum("khs,ks->kh", gain, m[:, seen])
        return Conditional(at_rest, gain, c[:, hidden[:, None], hidden] - gain @ across.swapaxes(1, 2))

    def maximize(self, sums: Tensor, config: Config, /) -> Full:
        """Weighted moments, with the floor on the variance in every direction."""
        total, size = sums.cpu().numpy(), len(self.shift)
        n, x, second = total[:, 0], total[:, 1 : 1 + size], total[:, 1 + size :].reshape(-1, size, size)
        seen = n > 0
        m = np.where(seen[:, None], x / np.where(seen, n, 1)[:, None], self.mean - self.shift)
        spread = second - np.einsum("k,ki,kj->kij", n, m, m) + config.variance_prior * np.eye(size)
        if self.tied:
            shared = spread.sum(0) / n.sum() if seen.any() else self.covariance[0]
            covariance = np.broadcast_to(floored(shared[None], self.least), self.covariance.shape)
        else:
            own = floored(spread / np.where(seen, n, 1)[:, None, None], self.least)
            covariance = np.where(seen[:, None, None], own, self.covariance)
        return replace(self, mean=np.where(seen[:, None], m + self.shift, self.mean), covariance=covariance)

    def penalty(self, config: Config, /) -> float:
        """-prior / 2 times the trace of the precision."""
        return float(-0.5 * config.variance_prior * np.trace(np.linalg.inv(self.covariance), axis1=1, axis2=2).sum())

    @property
    def expected(self) -> Array:
        """The means: [K, D]."""
        return self.mean

    @property
    def free(self) -> int:
        """Means, and half of each symmetric matrix; ``tied`` states have one."""
        states, size = self.mean.shape
        return int(self.mean.size + size * (size + 1) // 2 * (1 if self.tied else states))

    def tensors(self) -> dict[str, Array]:
        """Mean [K, D] and covariance [K, D, D]."""
        return {"mean": self.mean, "covariance": np.ascontiguousarray(self.covariance)}

    def reseed(self, into: int, of: int, noise: float, /) -> Full:
        """The mean moved by ``noise`` deviations of each column."""
        mean, covariance = self.mean.copy(), self.covariance.copy()
        mean[into] = mean[of] + noise * np.sqrt(np.diagonal(covariance[of]))
        covariance[into] = covariance[of]
        return replace(self, mean=mean, covariance=covariance)

    def draw(self, states: Array, chance: Array, cells: Array, knobs: Knobs, /) -> Array:
        """From the conditional given the cells of a step that are there; the temperature multiplies the covariance."""
        made = cells.copy()
        for seen, at_ in patterns(torch.from_numpy(cells)):
            hidden = np.setdiff1d(np.arange(cells.shape[1]), seen)
            if len(hidden):
                inside, at = self._given(seen, hidden), at_.numpy()
                factor = np.sqrt(knobs.temperature) * np.linalg.cholesky(inside.covariance)
                z = states[at]
                for row, column in enumerate(hidden):  # sums in a fixed order: a sample does not depend on its batch
                    total = inside.at_rest[z, row] + self.shift[column]
                    for s, other in enumerate(seen):
                        total = total + inside.gain[z, row, s] * (cells[at, other] - self.shift[other])
                    for h in range(row + 1):
                        total = total + factor[z, row, h] * chance[at, hidden[h]]
                    made[at, column] = total
        return made


def patterns(cells: Tensor) -> Iterator[tuple[Array, Tensor]]:
    """Which columns are there, and the steps that have just these."""
    there = ~torch.isnan(cells)
    if bool(there.all()):
        yield np.arange(cells.shape[1]), torch.arange(len(cells), device=cells.device)
        return
    found, which = torch.unique(there, dim=0, return_inverse=True)
    for at, row in enumerate(found):
        yield np.flatnonzero(row.cpu().numpy()), torch.nonzero(which == at).squeeze(1)


def floored(covariance: Array, least: Array) -> Array:
    """Covariances [K, D, D] whose variance in no direction is below the least, in units of each column."""
    unit = np.sqrt(least)
    values, vectors = np.linalg.eigh((covariance + covariance.swapaxes(1, 2)) / 2 / np.outer(unit, unit))
    if (values >= 1).all():
        return (covariance + covariance.swapaxes(1, 2)) / 2
    lifted: Array = np.einsum("kij,kj,klj->kil", vectors, np.maximum(values, 1), vectors) * np.outer(unit, unit)
    return lifted
