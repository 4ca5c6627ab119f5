"""Quantiles of a stream in bounded memory: exact while few, then Munro and Paterson's sorted buffers (1980)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genreg import Array

EXACT = 1 << 16  # values in a buffer: up to so many quantiles are exact, then off by less than 2 in 10,000 ranks


class Quantiles:
    """A buffer at level l holds EXACT sorted values, each standing for 2^l: two of a level become one, of every other.

    Which other takes turns, so that errors cancel. A level adds at most 1 / (2 EXACT) to the error of a rank.
    """

    def __init__(self) -> None:
        self._loose: list[Array] = []
        self._full: list[tuple[int, Array]] = []  # levels fall
        self._turn = 0

    def add(self, values: Array) -> None:
        """Take in values, float64 [n], of which none is NaN."""
        self._loose.append(np.array(values, np.float64))
        if sum(map(len, self._loose)) <= EXACT:
            return
        loose = np.concatenate(self._loose)
        whole = len(loose) - len(loose) % EXACT
        for at in range(0, whole, EXACT):
            self._push(0, np.sort(loose[at : at + EXACT]))
        self._loose = [loose[whole:]]

    def _push(self, level: int, buffer: Array) -> None:
        while self._full and self._full[-1][0] == level:
            both = np.sort(np.concatenate([self._full.pop()[1], buffer]), kind="stable")
            self._turn ^= 1
            level, buffer = level + 1, both[self._turn :: 2]
        self._full.append((level, buffer))

    def at(self, shares: Sequence[float]) -> Array:
        """The values at shares of the ranks (0: the least), between two of them in proportion: float64; NaN of none."""
        buffers = [(0, np.sort(values)) for values in self._loose] + self._full
        values = np.concatenate([np.empty(0), *(buffer for _, buffer in buffers)])
        weights = np.concatenate([np.empty(0), *(np.full(len(buffer), 2.0**level) for level, buffer in buffers)])
        if not len(values):
            return np.full(len(shares), np.nan)
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
        ranks = np.cumsum(weights) - (weights + 1) / 2  # of the middle one that a value stands for
        return np.asarray(np.interp(np.asarray(shares) * (weights.sum() - 1), ranks, values))
