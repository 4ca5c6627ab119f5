"""What naive Bayes learns from rows: counts, and n, mean and M2 per class and column, that stream and merge.

Two sets of rows counted apart and merged are the same as both counted together, in any partition and order. All is
float64, whatever the data: an offset of 1e6 in float32 data does not cancel. Smoothing is never in here. Shapes: m
rows, C classes, G Gaussian columns, K categorical ones with W = sum of (k_j + 1) levels, the last of each being the
bucket of values that training did not see. Rows lie along the last axis, because Arrow hands over columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from genreg.data import Source, floats
from genreg.draft import Array, Batch
from genreg.specs import Report
from genreg_nb.config import Config

CHUNK = 8192  # rows at a time: what is made of them stays in the cache


class Cells(NamedTuple):
    """A batch of m rows as the model computes with it."""

    labels: Array  # int64 [m]; -1: missing, C: not seen in training
    numbers: Array  # float64 [G, m]; NaN: missing
    levels: Array  # int64 [K, m]: into the W levels of all columns; W: missing


def cells(config: Config, batch: Batch) -> Cells:
    """The batch as arrays; a column that is absent is missing."""
    rows, there = batch.num_rows, set(batch.schema.names)
    labels = np.full(rows, 0 if config.label is None else -1)
    if config.label is not None and config.label in there:
        labels = _codes(batch, config.label, len(config.classes))
    numbers = np.full((len(config.gaussian), rows), np.nan)
    for j, name in enumerate(config.gaussian):
        if name in there:
            numbers[j] = floats(batch, name)
    levels = np.full((len(config.blocks), rows), config.width)
    for j, (name, block) in enumerate(config.blocks):
        if name in there:
            codes = _codes(batch, name, block.stop - block.start - 1)
            np.copyto(levels[j], block.start + codes, where=codes >= 0)
    return Cells(labels, numbers, levels)


def _codes(batch: Batch, name: str, unseen: int) -> Array:
    column: Any = batch.column(batch.schema.get_field_index(name))
    codes: Array = pc.fill_null(column, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.minimum(codes, unseen)


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations from it, of observed cells: float64, of one shape."""

    n: Array
    mean: Array
    m2: Array

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of cells (Chan, Golub and LeVeque, 1979)."""
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        delta = other.mean - self.mean
        return Moments(n, self.mean + delta * share, self.m2 + other.m2 + delta**2 * self.n * share)


class Statistics(NamedTuple):
    """All that a model learns from rows. Counts are float64 (exact to 2^53), so that weights will fit."""

    classes: Array  # [C]: rows
    moments: Moments  # [C, G]
    levels: Array  # [C, W]: cells

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of rows."""
        return Statistics(self.classes + other.classes, self.moments.merge(other.moments), self.levels + other.levels)


def nothing(config: Config) -> Statistics:
    """The statistics of no rows."""
    count = len(config.classes)
    zeros = np.zeros((count, len(config.gaussian)))
    return Statistics(np.zeros(count), Moments(zeros, zeros, zeros), np.zeros((count, config.width)))


def measure(config: Config, rows: Cells) -> Statistics:
    """The statistics of rows; those whose label is missing or unseen are left out."""
    count, width, labels = len(config.classes), config.width, rows.labels
    one_hot = (labels[:, None] == np.arange(count)).astype(np.float64)  # [m, C], no 1 in rows that are left out
    known = (labels >= 0) & (labels < count) & (rows.levels < width)
    flat = (labels * width + rows.levels)[known]
    levels = np.bincount(flat, minlength=count * width).astype(np.float64).reshape(count, width)
    return Statistics(one_hot.sum(0), _moments(rows.numbers, labels, one_hot), levels)


def _moments(numbers: Array, labels: Array, one_hot: Array) -> Moments:
    # Two passes over the chunk, from its first value on: an offset cancels before anything is summed, and a constant
    # column has exactly that constant as its mean and exactly no deviation from it.
    if not numbers.size:
        zeros = np.zeros((one_hot.shape[1], len(numbers)))
        return Moments(zeros, zeros, zeros)
    seen = ~np.isnan(numbers)
    first = np.nan_to_num(np.take_along_axis(numbers, seen.argmax(1)[:, None], 1))  # [G, 1]
    away = np.where(seen, numbers - first, 0.0)
    n = seen.astype(np.float64) @ one_hot  # [G, C]
    mean = (away @ one_hot) / np.maximum(n, 1)
    away -= np.take(mean, labels, 1, mode="clip")  # rows left out have no 1 in one_hot
    m2 = np.where(seen, away, 0.0) ** 2 @ one_hot
    return Moments(n.T, np.where(n > 0, first + mean, 0.0).T, m2.T)


def gather(config: Config, source: Source, report: Report) -> tuple[Statistics, int]:
    """The statistics of a source, in one pass, and the number of rows read."""
    total, read = nothing(config), 0
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name once all rows are read
        for batch in source.batches(size=CHUNK):
            total = total.merge(measure(config, cells(config, batch)))
            read += batch.num_rows
            report(read, source.rows)
    return total, read
