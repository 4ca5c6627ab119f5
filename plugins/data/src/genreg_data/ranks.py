"""Maps by the order of values: robust, by the quartiles, and quantile, to normal scores.

Each takes integers and floats and, where they are named, yes/no, dates and times; it is fitted in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source, floats, noted, with_column
from genreg.errors import DataError, UsageError
from genreg.preprocess import Standardize, chosen_columns, is_number, refuse_inexact, with_nulls
from genreg_data.sketch import Quantiles

LEAST_SHARE = 1e-7  # of the rows below a value: the least and the largest one have finite scores


# ---- robust: the median and the spread between quartiles ----


def robust(source: Source, *, columns: list[str] | None = None) -> Standardize:
    """Bring numeric columns to median 0 and distance 1 between the quartiles, which outliers do not move.

    A column whose quartiles are equal keeps its scale. Up to 65,536 values the quartiles are exact, beyond that within
    2 in 10,000 ranks. Raises DataError where values would not come back exactly.
    """
    chosen = chosen_columns(source.schema, columns, "robust", is_number)
    found, low, high = _quantiles(source, chosen, [0.25, 0.5, 0.75])
    first, median, third = np.nan_to_num(found)
    with np.errstate(over="ignore"):
        spread = third - first
    if not np.isfinite(spread).all():
        name = chosen[int(np.argmin(np.isfinite(spread)))]
        raise DataError(f"column {name} spans more than float64 can hold: leave it out: --drop {name}")
    refuse_inexact(source.schema, chosen, low, high, "robust")
    return Standardize(tuple(chosen), median, np.where(spread > 0, spread, 1.0))


# ---- quantiles to normal scores ----


@dataclass(frozen=True)
class NormalScores:
    """x -> z between knots in straight lines, per column, in float64, and on in straight lines beyond the ends."""

    knots: Mapping[str, tuple[Array, Array]]  # values and their scores: both rise

    def apply(self, batch: Batch, /) -> Batch:
        """Columns as normal scores: float64."""
        for name, (values, scores) in self._there(batch):
            field = noted(batch.schema.field(name).with_type(pa.float64()), decimals=None)
            mapped = _through(floats(batch, name), values, scores)
            batch = with_column(batch, field, with_nulls(mapped, batch.column(name)))
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Columns in the data's units: float64."""
        for name, (values, scores) in self._there(batch):
            mapped = _through(floats(batch, name), scores, values)
            batch = with_column(batch, batch.schema.field(name), with_nulls(mapped, batch.column(name)))
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """log of the slope of the line that each cell lies on; a null cell has none."""
        total = np.zeros(batch.num_rows)
        for name, (values, scores) in self._there(batch):
            slopes = np.log(np.diff(scores)) - np.log(np.diff(values))
            at = np.clip(np.searchsorted(values, floats(batch, name), side="right") - 1, 0, len(slopes) - 1)
            total += np.where(np.asarray(batch.column(name).is_null()), 0.0, slopes[at])
        return total

    def _there(self, batch: Batch) -> list[tuple[str, tuple[Array, Array]]]:
        return [(name, pair) for name, pair in self.knots.items() if name in batch.schema.names]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Columns as JSON, knots as float64 tensors [2, k]."""
        tensors = {f"knots.{at}": np.stack(pair) for at, pair in enumerate(self.knots.values())}
        return {"columns": list(self.knots)}, tensors


def quantile(source: Source, *, columns: list[str] | None = None, quantiles: int = 1000) -> NormalScores:
    """Bring numeric columns to a normal distribution, whatever theirs is, by their quantiles.

    Each of ``quantiles`` values goes to the normal score of its rank, equal values to that of their middle rank;
    between them, and beyond the ends, the map is straight, so that everything comes back.
    Raises DataError where whole numbers would not come back exactly.
    """
    if not 2 <= quantiles <= 100_000:
        raise UsageError(f"--preprocess quantile: quantiles={quantiles}: write 2 to 100000")
    chosen = chosen_columns(source.schema, columns, "quantile", is_number)
    shares = np.linspace(0, 1, quantiles)
    found, low, high = _quantiles(source, chosen, shares.tolist())
    knots = {}
    for at, name in enumerate(chosen):
        values, scores = _knots(found[:, at], shares)
        with np.errstate(over="ignore"):
            steps = np.diff(values)
        if not np.isfinite(steps).all():
            raise DataError(f"column {name} spans more than float64 can hold: leave it out: --drop {name}")
        loss = float((steps / np.diff(scores)).max() * 10 / max(steps.sum(), 1e-300))
        refuse_inexact(source.schema, [name], low[at : at + 1], high[at : at + 1], "quantile", loss)
        knots[name] = values, scores
    return NormalScores(knots)


def _knots(quantiles: Array, shares: Array) -> tuple[Array, Array]:
    """The different ones of quantiles, ascending, and the normal scores of their middle ranks: float64 [k] each.

    A column that is constant, or has no value, has two knots that keep its scale.
    """
    values, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    if len(values) < 2 or np.isnan(values).any():
        start = float(np.nan_to_num(values[0])) if len(values) else 0.0
        width = max(1.0, abs(start))
        return np.array([start, start + width]), np.array([0.0, width])
    middle = shares[first] / 2 + shares[first + counts - 1] / 2
    below = np.clip(middle, LEAST_SHARE, 1 - LEAST_SHARE).tolist()
    return values, np.array([NormalDist().inv_cdf(share) for share in below])


def restore_quantile(state: Mapping[str, Any], tensors: Mapping[str, Array]) -> NormalScores:
    """Knots from their state; raises ValueError where they are damaged."""
    knots = {}
    for at, name in enumerate(state["columns"]):
        pair = tensors[f"knots.{at}"]
        if pair.ndim != 2 or pair.shape[0] != 2 or pair.shape[1] < 2 or not np.isfinite(pair).all():
            raise ValueError(f"quantile needs two finite rows of knots for {name}")
        if not (np.diff(pair) > 0).all():
            raise ValueError(f"quantile needs knots that rise for {name}")
        knots[name] = pair[0], pair[1]
    return NormalScores(knots)


# ---- both ----


def _through(x: Array, xs: Array, ys: Array) -> Array:
    """The broken line through (xs, ys) at x, its first and last pieces going on: float64."""
    at = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2)
    low, high = xs[at], xs[at + 1]
    share = (x - low) / (high - low)
    near = np.where(share > 0.5, high, low)  # from the nearer knot, which is met exactly
    from_near = (x - near) / (high - low) * (ys[at + 1] - ys[at])
    return np.asarray(np.where(share > 0.5, ys[at + 1], ys[at]) + from_near)


def _quantiles(source: Source, names: list[str], shares: list[float]) -> tuple[Array, Array, Array]:
    """Quantiles float64 [shares, columns], the least and the largest value of each column; NaN is left out."""
    sketches = [Quantiles() for _ in names]
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for batch in source.scan():
        for at, name in enumerate(names):
            values = floats(batch, name)
            values = values[~np.isnan(values)]
            if not np.isfinite(values).all():
                raise DataError(f"column {name} has infinity: clip it first with --preprocess clip:columns={name}")
            sketches[at].add(values)
            low[at], high[at] = min(low[at], values.min(initial=np.inf)), max(high[at], values.max(initial=-np.inf))
    found = np.array([sketch.at(shares) for sketch in sketches]).reshape(len(names), len(shares)).T
    return found, low, high
