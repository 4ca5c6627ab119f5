"""What naive Bayes learns from rows: counts, and n, mean and M2 per class and column, that stream and merge.

Two sets of rows counted apart and merged are the same as both counted together, in any partition and order. All is
float64, whatever the data: an offset of 1e6 in float32 data does not cancel. Weights multiply; smoothing is never in
here. Shapes: m rows, C classes, G Gaussian columns, K categorical and Bernoulli ones with W = sum of (k_j + 1) levels,
the last of each being the bucket of values that training did not see, and V multinomial ones. Rows lie along the last
axis, because Arrow hands over columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from genreg.data import Source, floats, named_with_role
from genreg.draft import Array, Batch
from genreg.errors import DataError
from genreg.specs import Report
from genreg_nb.config import Config, shown
from genreg_nb.counts import Counted, count
from genreg_nb.kernels import Moments, moments, shift_of

CELLS = 1 << 19  # at a time: what is made of them stays in the cache
MOST_TOTALS = 65_536  # different row totals of counts


def chunk(config: Config) -> int:
    """The rows to take at a time: 8192 of a narrow table, fewer of a wide one."""
    return min(8192, max(64, CELLS // max(1, len(config.columns))))


class Cells(NamedTuple):
    """A batch of m rows as the model computes with it."""

    labels: Array  # int64 [m]; -1: missing, C: not seen in training
    numbers: Array  # float64 [G, m]; NaN: missing
    levels: Array  # int64 [K, m]: into the W levels of all columns; W: missing
    counts: Array  # float64 [V, m]: whole numbers; NaN: missing
    weights: Array | None = None  # float64 [m]; None: all 1


def cells(config: Config, batch: Batch, weight: str | None = None) -> Cells:
    """The batch as arrays; a column that is absent is missing. Raises DataError where a cell is not of its kind."""
    rows = batch.num_rows
    there = {name for name in batch.schema.names if batch.column(name).null_count < rows}
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
            binary = name in config.binary
            codes = _ones(batch, name) if binary else _codes(batch, name, block.stop - block.start - 1)
            np.copyto(levels[j], block.start + codes, where=codes >= 0)
    counts = np.full((len(config.counts), rows), np.nan)
    for j, name in enumerate(config.counts):
        if name in there:
            counts[j] = _whole(batch, name)
    return Cells(labels, numbers, levels, counts, None if weight is None else _weights(batch, weight))


def _codes(batch: Batch, name: str, unseen: int) -> Array:
    column: Any = batch.column(batch.schema.get_field_index(name))
    codes: Array = pc.fill_null(column, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.minimum(codes, unseen)


def _ones(batch: Batch, name: str) -> Array:
    values = floats(batch, name)
    wrong = ~((values == 0) | (values == 1) | np.isnan(values))
    if wrong.any():
        raise DataError(f"column {name} holds {values[wrong][0]:g}, and a Bernoulli column holds 0 and 1")
    return np.nan_to_num(values, nan=-1).astype(np.int64)


def _whole(batch: Batch, name: str) -> Array:
    values = floats(batch, name)
    wrong = ~((values >= 0) & (np.floor(values) == values) | np.isnan(values)) | np.isinf(values)
    if wrong.any():
        raise DataError(f"column {name} holds {values[wrong][0]:g}, and a multinomial column holds counts: 0, 1, 2, …")
    return values


def _weights(batch: Batch, name: str) -> Array:
    values = floats(batch, name)
    wrong = ~((values >= 0) & np.isfinite(values))
    if wrong.any():
        found = "a missing cell" if np.isnan(values[wrong][0]) else f"{values[wrong][0]:g}"
        raise DataError(f"column {name} holds {found}, and a row's weight is a number from 0 on")
    return values


class Statistics(NamedTuple):
    """All that a model learns from rows. Counts are float64: exact to 2^53, or sums of the rows' weights."""

    classes: Array  # [C]: rows
    moments: Moments  # [C, G]
    levels: Array  # [C, W]: cells
    counted: Counted  # [C, V], and the totals

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of rows."""
        return Statistics(
            self.classes + other.classes,
            self.moments.merge(other.moments),
            self.levels + other.levels,
            self.counted.merge(other.counted),
        )


def nothing(config: Config) -> Statistics:
    """The statistics of no rows."""
    classes, zeros = len(config.classes), np.zeros((len(config.classes), len(config.gaussian)))
    counted = count(np.zeros((len(config.counts), 0)), np.zeros((0, classes)))
    return Statistics(np.zeros(classes), Moments(zeros, zeros, zeros), np.zeros((classes, config.width)), counted)


def measure(config: Config, rows: Cells) -> Statistics:
    """The statistics of rows; those whose label is missing or unseen are left out."""
    classes, width, labels = len(config.classes), config.width, rows.labels
    one_hot = (labels[:, None] == np.arange(classes)).astype(np.float64)  # [m, C], no 1 in rows that are left out
    known = (labels >= 0) & (labels < classes) & (rows.levels < width)
    flat, weights = (labels * width + rows.levels)[known], None
    if rows.weights is not None:
        one_hot *= rows.weights[:, None]
        weights = np.broadcast_to(rows.weights, rows.levels.shape)[known]
    levels = np.bincount(flat, weights, minlength=classes * width).astype(np.float64).reshape(classes, width)
    own = moments(rows.numbers, labels, one_hot, shift_of(rows.numbers))
    return Statistics(one_hot.sum(0), own, levels, count(rows.counts, one_hot))


def gather(config: Config, source: Source, report: Report) -> tuple[Statistics, int, int]:
    """The statistics of a source, in one pass, and how many rows were read, and of them without a label.

    Raises DataError for a cell that is not of its kind.
    """
    total, read, unlabelled, weight = nothing(config), 0, 0, named_with_role(source.schema, "weight")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name once all rows are read
        for batch in source.batches(size=chunk(config)):
            rows = cells(config, batch, weight)
            total = total.merge(measure(config, rows))
            read, unlabelled = read + batch.num_rows, unlabelled + int((rows.labels < 0).sum())
            report(read, source.rows)
            if len(total.counted.totals.values) > MOST_TOTALS:
                names = ", ".join(config.counts[:3]) + (" …" if len(config.counts) > 3 else "")
                raise DataError(
                    f"the rows of {names} have more than {MOST_TOTALS:,} different totals: are they counts?"
                )
    return total, read, unlabelled


def refuse(config: Config, statistics: Statistics, read: int, weight: str | None = None) -> None:
    """Raise DataError, by name, for statistics that no model can be read from."""
    if not statistics.classes.any():
        if weight and read:
            raise DataError(f"the weights in column {weight} are all 0 in the rows that have a label")
        where = f"no training row has a label in column {config.label}"
        raise DataError(where if read else "there are no training rows")
    moments_, counted = statistics.moments, statistics.counted
    seen = {name: bool(n.any()) for name, n in zip(config.gaussian, moments_.n.T, strict=True)}
    seen |= {name: bool(statistics.levels[:, block].any()) for name, block in config.blocks}
    for name, any_cell in seen.items():
        if not any_cell:
            raise DataError(f"column {name} has no value in the training rows: leave it out with --drop {name}")
    if config.counts and not counted.totals.n.any():
        names = ", ".join(config.counts)
        raise DataError(f"no training row has all the counts {names}: fill them with --preprocess fillna")
    for name, m2 in zip(config.gaussian, moments_.m2.T, strict=True):
        if not np.isfinite(m2).all():
            raise DataError(
                f"column {name} holds infinity, or numbers whose squares overflow: leave it out with --drop {name}"
            )
    _refuse_empty_classes(config, statistics)


def _refuse_empty_classes(config: Config, statistics: Statistics) -> None:
    cells_of = statistics.moments.n.sum(1) + statistics.levels.sum(1) + statistics.counted.totals.n.sum(1)
    lost = np.flatnonzero((statistics.classes > 0) & (cells_of == 0))
    if len(config.columns) > (config.label is not None) and lost.size:
        raise DataError(
            f"class {shown(config.classes[lost[0]])} has no value in any column, for all its rows are missing: "
            "fill them with --preprocess fillna, or leave the class out"
        )
