"""State paths from the chain, and from its posterior given what is observed: NumPy, log space, one uniform per step.

Backward filtering, forward sampling: log beta_t of the steps still to come is computed first, then z_t is drawn from
p(z_t | z_{t-1}) p(x_t | z_t) beta_t, forward in time. So a step after the last observation is drawn from the chain
alone, with the same uniform as without any observation. Nothing here depends on which rows are drawn together, to the
last bit: no matrix product touches a row's probabilities. A state of probability 0 never comes out, for u < 1 times the
total of a row of cumulative probabilities is below the total, and the first entry above it has a probability.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import chain as chained

import numpy as np

from genreg.draft import Array, Seeds
from genreg.errors import Unsupported

FEW = 16  # rows below which Python's bisect is quicker than arrays
ROOM = 1 << 22  # numbers that a step of the backward filter may hold


@dataclass(frozen=True, eq=False)
class Observed:
    """log p(x_t | z_t) of the first ``lengths`` [n] steps of each row: [n, T', K], anything beyond."""

    log_evidence: Array
    lengths: Array


def draw_paths(
    start: Array, transition: Array, uniforms: Array, seeds: Seeds, observed: Observed | None = None
) -> Array:
    """One state per uniform [n, T]: int64 [n, T]; raises Unsupported where what is observed is impossible."""
    rows, steps = uniforms.shape
    if not rows or not steps:
        return np.empty((rows, steps), np.int64)
    first = np.broadcast_to(start, (rows, len(start)))
    if observed is None or not observed.lengths.any():
        paths = np.empty((rows, steps), np.int64)
        paths[:, 0] = _pick(np.cumsum(first, 1), uniforms[:, 0])
        _extend(paths, transition, uniforms, 1)
        return paths
    size = max(1, ROOM // transition.size)
    if rows > size:
        pieces = [slice(at, at + size) for at in range(0, rows, size)]
        given = [Observed(observed.log_evidence[p], observed.lengths[p]) for p in pieces]
        drawn = [
            draw_paths(start, transition, uniforms[p], seeds[p], own) for p, own in zip(pieces, given, strict=True)
        ]
        return np.concatenate(drawn)
    return _draw_given(first, transition, uniforms, seeds, observed)


def _draw_given(first: Array, transition: Array, uniforms: Array, seeds: Seeds, observed: Observed) -> Array:
    """Paths from the posterior; raises Unsupported, naming a seed and a step, where it has no path."""
    with np.errstate(divide="ignore"):
        log_first, log_a = np.log(first), np.log(transition)
    weights = _filtered(log_a, observed)
    paths = np.empty(uniforms.shape, np.int64)
    cdf = np.cumsum(transition, 1)
    for t in range(min(int(observed.lengths.max()), uniforms.shape[1])):
        seen = observed.lengths > t
        if t:
            paths[~seen, t] = _pick(cdf[paths[~seen, t - 1]], uniforms[~seen, t])
        else:
            paths[~seen, 0] = _pick(np.cumsum(first[~seen], 1), uniforms[~seen, 0])
        log_p = (log_a[paths[seen, t - 1]] if t else log_first[seen]) + weights[seen, t]
        top = log_p.max(1, keepdims=True)
        if not np.isfinite(top).all():
            seed = seeds[seen][int(np.argmin(np.isfinite(top[:, 0])))]
            raise Unsupported(f"seed {seed}: what is given is impossible under this model, from step {t + 1} on")
        paths[seen, t] = _pick(np.cumsum(np.exp(log_p - top), 1), uniforms[seen, t])
    _extend(paths, transition, uniforms, t + 1)
    return paths


def _filtered(log_a: Array, observed: Observed) -> Array:
    """log p(x_t | z_t) + log p(x after t | z_t), up to a factor per row and step: [n, T', K]."""
    out = observed.log_evidence.copy()
    for t in range(out.shape[1] - 1, 0, -1):
        seen = observed.lengths > t
        if seen.any():
            ahead = out[seen, t][:, None, :] + log_a  # [m, from, to]
            top = ahead.max(2, keepdims=True)
            top = np.where(np.isfinite(top), top, 0)
            with np.errstate(divide="ignore"):
                out[seen, t - 1] += np.log(np.exp(ahead - top).sum(2)) + top[:, :, 0]
    return out


def _pick(cdf: Array, uniforms: Array) -> Array:
    """The first place whose cumulative probability is above u times the total."""
    return np.asarray((cdf <= (uniforms * cdf[:, -1])[:, None]).sum(1))


def _extend(paths: Array, transition: Array, uniforms: Array, start: int) -> None:
    """The steps from ``start`` on, from the chain alone."""
    cdf = np.cumsum(transition, 1)
    if len(paths) < FEW:
        table, totals = cdf.tolist(), cdf[:, -1].tolist()
        for path, chance in zip(paths, uniforms[:, start:].tolist(), strict=True):
            z, found = int(path[start - 1]), []
            for u in chance:
                z = bisect_right(table[z], u * totals[z])
                found.append(z)
            path[start:] = found
        return
    for t in range(start, paths.shape[1]):
        paths[:, t] = _pick(cdf[paths[:, t - 1]], uniforms[:, t])


def first_end(ends: Array, after: Array) -> Array:
    """How many steps each row has that ends at the first marked step [n, T] not before ``after`` [n]; 0: none yet."""
    at = np.arange(ends.shape[1])
    late = ends & (at >= after[:, None] - 1)
    return np.where(late.any(1), late.argmax(1) + 1, 0)


def padded(rows: list[Array], width: int, fill: float) -> Array:
    """Arrays [T_i, ...] as one [n, width, ...], filled up."""
    like = next(iter(chained(rows, [np.empty(0)])))
    out = np.full((len(rows), width, *like.shape[1:]), fill, like.dtype)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
