"""A prior fitted to latents: per class a mixture of Gaussians with full covariances, by EM, in NumPy.

The aggregate posterior of a class is not N(0, I): a decoder that is told the class still finds the class in the
latents, and a draw of N(0, I) asks it for a digit that no digit's latents look like (Tomczak and Welling, "VAE with a
VampPrior", 2018; Ghosh et al., "From variational to deterministic autoencoders", 2020). So latents are drawn from what
the encoder makes of training pictures. The number of components is the one with the best density of held-out latents.
Shapes: n rows, d latents, C classes, K components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from genreg.draft import Array, Seeds
from genreg.random import Stream, categorical, normal, uniform

FLOOR = 0.02  # added to every variance: a latent's scale is about 1
SHRINK = 1.0  # rows' worth of the pooled covariance that each component starts from
ROWS_PER_COMPONENT = 8  # a class with fewer rows than this for each has fewer components
STEPS, TOLERANCE = 100, 1e-4
CANDIDATES = (1, 2, 4, 8)


class Gaussians(NamedTuple):
    """One class's mixture."""

    log_weights: Array  # [K]; -inf: not used
    means: Array  # [K, d]
    factors: Array  # [K, d, d], lower: covariance = factor @ factor.T


def log_densities(z: Array, g: Gaussians) -> Array:
    """log weight + log density of each row under each component: [n, K]."""
    out = np.full((len(z), len(g.means)), -np.inf)
    for k in np.flatnonzero(np.isfinite(g.log_weights)):
        white = np.linalg.solve(g.factors[k], (z - g.means[k]).T)  # [d, n]
        log_volume = np.log(np.diagonal(g.factors[k])).sum() + 0.5 * z.shape[1] * np.log(2 * np.pi)
        out[:, k] = g.log_weights[k] - log_volume - 0.5 * (white**2).sum(0)
    return out


def log_density(z: Array, g: Gaussians) -> Array:
    """log p(z): float64 [n]."""
    each = log_densities(z, g)
    most = each.max(1)
    total: Array = most + np.log(np.exp(each - most[:, None]).sum(1))
    return total


def maximize(
    z: Array, responsibilities: Array, pooled: Array, *, floor: float = FLOOR, shrink: float = SHRINK
) -> Gaussians:
    """The M step: weights, means and covariances, the latter drawn a little towards ``pooled`` [d, d]."""
    n = responsibilities.sum(0)
    means = responsibilities.T @ z / np.maximum(n, 1e-12)[:, None]
    factors = []
    for k, mean in enumerate(means):
        away = z - mean
        scatter = (responsibilities[:, k, None] * away).T @ away
        covariance = (scatter + shrink * pooled) / max(n[k] + shrink, 1e-12)
        factors.append(np.linalg.cholesky(covariance + floor * np.eye(z.shape[1])))
    with np.errstate(divide="ignore"):
        return Gaussians(np.log(n / n.sum()), means, np.stack(factors))


def expect(z: Array, g: Gaussians) -> tuple[Array, float]:
    """The E step: responsibilities [n, K], and the mean log density under ``g``."""
    each = log_densities(z, g)
    most = each.max(1, keepdims=True)
    weight = np.exp(each - most)
    total = weight.sum(1, keepdims=True)
    return weight / total, float((most + np.log(total)).mean())


def fit_class(
    z: Array, components: int, pooled: Array, *, seed: int, floor: float = FLOOR, shrink: float = SHRINK
) -> Gaussians:
    """EM from spread-out rows (k-means++) until the density hardly grows."""
    components = max(1, min(components, len(z) // ROWS_PER_COMPONENT))
    nearest = _spread_out(z, components, seed)
    g = maximize(z, np.eye(components)[nearest], pooled, floor=floor, shrink=shrink)
    before = -np.inf
    for _ in range(STEPS if components > 1 else 0):
        responsibilities, now = expect(z, g)
        if now - before < TOLERANCE:
            break
        g, before = maximize(z, responsibilities, pooled, floor=floor, shrink=shrink), now
    return g


def _spread_out(z: Array, components: int, seed: int) -> Array:
    """The nearest of ``components`` rows for each row: int64 [n]; far rows are likelier to be chosen."""
    u = uniform(np.array([seed], np.uint64), (components,), stream=Stream.INIT)[0]
    chosen = [int(u[0] * len(z))]
    distances = [((z - z[chosen[0]]) ** 2).sum(1)]
    for k in range(1, components):
        total = np.cumsum(np.minimum.reduce(distances))
        chosen.append(min(int(np.searchsorted(total, u[k] * total[-1], side="right")), len(z) - 1))
        distances.append(((z - z[chosen[-1]]) ** 2).sum(1))
    nearest: Array = np.stack(distances).argmin(0)
    return nearest


@dataclass(frozen=True, eq=False)
class Mixture:
    """The prior p(z | y), all classes with K components, unused ones with weight 0."""

    log_weights: Array  # [C, K]
    means: Array  # [C, K, d]
    factors: Array  # [C, K, d, d]

    @classmethod
    def standard(cls, classes: int, latents: int) -> Mixture:
        """N(0, I) for every class."""
        eye = np.broadcast_to(np.eye(latents), (classes, 1, latents, latents))
        return cls(np.zeros((classes, 1)), np.zeros((classes, 1, latents)), eye)

    @classmethod
    def of(cls, each: Sequence[Gaussians]) -> Mixture:
        """The classes' mixtures, padded to the same number of components."""
        most, latents = max(len(g.means) for g in each), each[0].means.shape[1]
        classes = len(each)
        weights, means = np.full((classes, most), -np.inf), np.zeros((classes, most, latents))
        factors = np.broadcast_to(np.eye(latents), (classes, most, latents, latents)).copy()
        for y, g in enumerate(each):
            k = len(g.means)
            weights[y, :k], means[y, :k], factors[y, :k] = g
        return cls(weights, means, factors)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Mixture:
        """The mixture of a checkpoint's tensors, in float64."""
        weights = np.asarray(tensors["weights"], np.float64)
        with np.errstate(divide="ignore"):
            logs = np.log(weights / weights.sum(1, keepdims=True))
        return cls(logs, np.asarray(tensors["means"], np.float64), np.asarray(tensors["factors"], np.float64))

    def tensors(self) -> dict[str, Array]:
        """Weights, means and covariance factors in float32: no picture shows the difference."""
        held = {"weights": np.exp(self.log_weights), "means": self.means, "factors": self.factors}
        return {name: np.ascontiguousarray(array, np.float32) for name, array in held.items()}

    def spread(self, scale: float) -> Mixture:
        """The same mixture with the deviations of all its Gaussians scaled."""
        return self if scale == 1 else replace(self, factors=self.factors * scale)

    def of_class(self, y: int) -> Gaussians:
        """One class's mixture."""
        return Gaussians(self.log_weights[y], self.means[y], self.factors[y])

    def center(self, labels: Array) -> Array:
        """The mean of the prior given the class: [n, d]."""
        mean: Array = (np.exp(self.log_weights)[..., None] * self.means).sum(1)[labels]
        return mean

    def draw(self, seeds: Seeds, labels: Array) -> Array:
        """One draw per seed given its class: float64 [n, d]."""
        component = categorical(seeds, self.log_weights[labels], stream=Stream.PRIOR, step=1)
        noise = normal(seeds, (self.means.shape[-1],), stream=Stream.PRIOR)
        # Summed row by row, and not as a matrix product: a row is then the same whatever the batch.
        scaled: Array = (self.factors[labels, component] * noise[:, None, :]).sum(2)
        return self.means[labels, component] + scaled

    def log_prob(self, z: Array, labels: Array) -> Array:
        """log p(z | y): float64 [n]."""
        out = np.empty(len(z))
        for y in np.unique(labels):
            at = labels == y
            out[at] = log_density(np.asarray(z[at], np.float64), self.of_class(int(y)))
        return out


def fit_mixture(z: Array, labels: Array, classes: int, components: int, *, seed: int) -> Mixture:
    """A mixture per class; a class without rows takes the one of all rows."""
    z = np.asarray(z, np.float64)
    means = [z[labels == y].mean(0) if (labels == y).any() else z.mean(0) for y in range(classes)]
    within = z - np.stack(means)[labels]
    pooled = within.T @ within / len(z)
    each = []
    for y in range(classes):
        own = z[labels == y]
        each.append(fit_class(own if len(own) else z, components if len(own) else 1, pooled, seed=seed))
    return Mixture.of(each)


class Fitted(NamedTuple):
    """The prior that was chosen, and the held-out density of each candidate, in nats."""

    mixture: Mixture
    components: int
    densities: dict[int, float]


def choose_mixture(
    z: Array, labels: Array, held: tuple[Array, Array] | None, classes: int, *, components: int | None, seed: int
) -> Fitted:
    """The mixture whose number of components gives held-out latents the best density; ``components`` fixes it.

    Without held-out latents every eighth row is held out, and the chosen number is fitted on all.
    """
    if held is None:
        order = np.argsort(uniform(np.arange(len(z), dtype=np.uint64), stream=Stream.INIT, step=seed), kind="stable")
        out = np.zeros(len(z), bool)
        out[order[: len(z) // 8]] = True
        rest = (z[~out], labels[~out])
        held = (z[out], labels[out]) if out.any() else (z, labels)
    else:
        rest = (z, labels)
    densities = {}
    for count in CANDIDATES if components is None else (components,):
        fitted = fit_mixture(*rest, classes, count, seed=seed)
        densities[count] = float(fitted.log_prob(*held).mean())
    best = max(densities, key=lambda count: densities[count])
    return Fitted(fit_mixture(z, labels, classes, best, seed=seed), best, densities)
