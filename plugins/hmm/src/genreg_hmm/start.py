"""Where EM starts: the transitions that there may be, and first guesses that follow from the seed."""

from __future__ import annotations

import numpy as np

from genreg.draft import Array
from genreg.errors import DataError
from genreg.random import Stream, uniform
from genreg_hmm.categorical import Categorical
from genreg_hmm.config import Config, Part
from genreg_hmm.emissions import LEAST_RATE, Diagonal, Emission, Poisson
from genreg_hmm.gaussian import Full, floored
from genreg_hmm.learning import Parameters
from genreg_hmm.model import unknown_probability
from genreg_hmm.sequences import Sequences

SAMPLE = 20_000  # steps that k-means looks at
ROUNDS = 20  # of k-means
CONSTANT = 1e-18  # the least variance of a constant column, as a share of its square


def allowed(config: Config, states: int) -> tuple[Array, Array]:
    """Which states a sequence may begin in [K], and which transitions there are [K, K]: bool."""
    if config.mask:
        return np.ones(states, bool), np.array(config.mask, bool)
    ahead = np.arange(states) - np.arange(states)[:, None]
    if config.topology == "left-right":
        reach = states if config.band is None else config.band
        return np.arange(states) == 0, (ahead >= 0) & (ahead <= reach)
    if config.topology == "banded":
        return np.ones(states, bool), np.abs(ahead) <= (config.band or 1)
    return np.ones(states, bool), np.ones((states, states), bool)


def first_guess(config: Config, states: int, data: Sequences, *, seed: int, restart: int) -> Parameters:
    """Parameters to start EM from; raises DataError where there are more states than steps."""
    steps = int(data.lengths.sum())
    if states > steps:
        raise DataError(f"states={states}: there are only {steps} steps of training data: ask for fewer states")
    chance = Chance(seed, restart)
    begin, go = allowed(config, states)
    start = begin * (0.5 + chance.uniform(states))
    transition = go * (0.5 + chance.uniform(states, states))
    at = np.unique(np.linspace(0, steps - 1, min(steps, SAMPLE)).astype(np.int64))
    labels = _labels(config, states, data, at, chance)
    emissions = tuple(
        _emission(config, part, cells, at, labels, states, chance)
        for part, cells in zip(config.parts, data.parts, strict=True)
    )
    end = np.full(states, max(len(data), 1) / steps) if config.end else None
    return Parameters(start / start.sum(), transition / transition.sum(1, keepdims=True), emissions, end)


class Chance:
    """Uniforms that follow from the seed and the number of the restart."""

    def __init__(self, seed: int, restart: int) -> None:
        self._seeds, self._step = np.array([seed], np.uint64), restart << 16

    def uniform(self, *shape: int) -> Array:
        """The next uniforms."""
        self._step += 1
        drawn: Array = uniform(self._seeds, shape, stream=Stream.INIT, step=self._step)[0]
        return drawn


def _labels(config: Config, states: int, data: Sequences, at: Array, chance: Chance) -> Array:
    """A state for each of the chosen steps: by place in a left-right chain, by k-means, or at random."""
    if config.topology == "left-right" and not config.mask and config.start == "kmeans":
        place = np.arange(int(data.lengths.sum())) - np.repeat(data.offsets[:-1], data.lengths)
        share = place / np.repeat(data.lengths, data.lengths)
        return np.asarray((share * states).astype(np.int64)[at])
    dense = [_spread(part, cells[at]) for part, cells in zip(config.parts, data.parts, strict=True) if cells.ndim == 2]
    if not dense:
        return np.zeros(len(at), np.int64)
    points = np.hstack(dense)
    if config.start == "random":
        chosen = points[np.argsort(chance.uniform(len(points)), kind="stable")[:states]]
        return _nearest(points, chosen)
    return kmeans(points, states, chance)


def _spread(part: Part, cells: Array) -> Array:
    """Cells in units of their deviation, counts by their root; what is missing is at the mean."""
    values = np.sqrt(cells) if part.kind == "poisson" else cells
    mean, deviation = _moments(values)
    return np.nan_to_num((values - mean) / np.where(deviation > 0, deviation, 1))


def _moments(values: Array) -> tuple[Array, Array]:
    """Mean and deviation of each column's observed cells, in two passes."""
    seen = ~np.isnan(values)
    n = np.maximum(seen.sum(0), 1)
    first = np.where(seen.any(0), values[seen.argmax(0), np.arange(values.shape[1])], 0.0)
    mean = first + np.where(seen, values - first, 0.0).sum(0) / n
    return mean, np.sqrt((np.where(seen, values - mean, 0.0) ** 2).sum(0) / n)


def kmeans(points: Array, count: int, chance: Chance) -> Array:
    """The cluster of each point: k-means++ (Arthur and Vassilvitskii, 2007), then Lloyd's rounds."""
    draws = chance.uniform(count)
    centers = points[[int(draws[0] * len(points))]]
    distance = ((points - centers[0]) ** 2).sum(1)
    for u in draws[1:]:
        cdf = np.cumsum(distance)
        apart = cdf[-1] > 0  # else there are fewer different points than clusters
        at = int(np.searchsorted(cdf, u * cdf[-1], side="right") if apart else u * len(points))
        centers = np.vstack([centers, points[at]])
        distance = np.minimum(distance, ((points - points[at]) ** 2).sum(1))
    for _ in range(ROUNDS):
        labels = _nearest(points, centers)
        sums = np.stack([np.bincount(labels, column, count) for column in points.T], 1)
        sizes = np.bincount(labels, minlength=count)
        moved = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return _nearest(points, centers)


def _nearest(points: Array, centers: Array) -> Array:
    return np.asarray(((centers**2).sum(1) - 2 * points @ centers.T).argmin(1))


def _emission(
    config: Config, part: Part, cells: Array, at: Array, labels: Array, states: int, chance: Chance
) -> Emission:
    """A first guess from all cells, and for what is dense from those of the steps ``at``, whose states are guessed."""
    if part.kind in ("categorical", "text"):
        size = len(part.columns[0].values)
        counts = np.bincount(cells, minlength=size + 2)[:size].astype(np.float64)
        p = counts * -np.log1p(-chance.uniform(states, size))  # Dirichlet about the symbols' own shares
        return Categorical(p / p.sum(1, keepdims=True), unknown_probability(config, part))
    mean, deviation = _moments(cells)
    each = [_moments(cells[at][labels == k]) if (labels == k).any() else (mean, deviation) for k in range(states)]
    own = np.stack([found[0] for found in each])
    seen = np.stack([(~np.isnan(cells[at][labels == k])).any(0) for k in range(states)])
    own = np.where(seen, own, mean)
    if part.kind == "poisson":
        return Poisson(np.maximum(own * (0.9 + 0.2 * chance.uniform(*own.shape)), max(LEAST_RATE, 1e-3)))
    least = np.where(deviation > 0, config.variance_floor * deviation**2, CONSTANT * np.maximum(mean**2, 1))
    spread = np.stack([found[1] for found in each])
    variance = np.maximum(np.where(seen, np.maximum(spread, 0.1 * deviation), deviation) ** 2, least)
    own = own + 0.1 * deviation * (chance.uniform(*own.shape) - 0.5)  # states that begin alike would stay alike
    if config.covariance in ("diag", "spherical"):
        return Diagonal(own, variance, mean, least, config.covariance == "spherical")
    tied = config.covariance == "tied"
    full = np.stack([np.diag(v) for v in (np.broadcast_to(variance.mean(0), variance.shape) if tied else variance)])
    return Full(own, floored(full, least), mean, least, tied)


def reseeded(parameters: Parameters, mass: Array, least: float, *, noise: float) -> Parameters | None:
    """States that the chain allows and that have no steps, as displaced copies of the fullest; None: there are none."""
    reached = (parameters.start > 0) | (parameters.transition > 0).any(0)
    empty = np.flatnonzero((mass < least) & reached)
    if not len(empty):
        return None
    order = [k for k in np.argsort(-mass, kind="stable") if k not in empty] or [int(mass.argmax())]
    emissions, start, transition = list(parameters.emissions), parameters.start.copy(), parameters.transition.copy()
    for at, k in enumerate(empty):
        of = int(order[at % len(order)])
        emissions = [one.reseed(int(k), of, noise) for one in emissions]
        for table in (start[None], transition):
            share = np.where(table[:, k] > 0, (table[:, of] + table[:, k]) / 2, 0)
            moved = np.where(table[:, k] > 0, share - table[:, k], 0)
            table[:, k] += moved
            table[:, of] -= np.where(table[:, of] > 0, moved, 0)
        start, transition = np.maximum(start, 0), np.maximum(transition, 0)
    start, transition = start / start.sum(), transition / transition.sum(1, keepdims=True)
    return Parameters(start, transition, tuple(emissions), parameters.end)


def free_parameters(parameters: Parameters) -> int:
    """How many numbers were free to be learned, for AIC and BIC."""
    count = int((parameters.start > 0).sum()) - 1 + int((parameters.transition > 0).sum()) - parameters.states
    count += 0 if parameters.end is None else parameters.states
    return count + sum(one.free for one in parameters.emissions)
