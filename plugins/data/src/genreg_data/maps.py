"""Maps: robust, quantile to normal, logarithm, channels of images, one-hot and ordinal categories.

Each is fitted in one pass and undone after generation. A map of numbers takes integers, floats and, where they are
named, yes/no, dates and times; anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import Array, Batch
from genreg.data import Source, floats, noted, notes, with_column
from genreg.errors import DataError, UsageError
from genreg.images import image_columns
from genreg.preprocess import (
    Categories,
    Standardize,
    chosen_columns,
    is_category,
    is_number,
    is_text,
    refuse_inexact,
    with_nulls,
)
from genreg_data.sketch import Quantiles

WIDEST = 1000  # columns that one-hot makes of one
LARGEST_LOG = 2.0**44  # whole numbers up to it come back exactly from their logarithm


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
    scores = np.array([NormalDist().inv_cdf(share) for share in np.clip(shares, 1e-7, 1 - 1e-7).tolist()])
    knots = {}
    for at, name in enumerate(chosen):
        values, first, counts = np.unique(found[:, at], return_index=True, return_counts=True)
        middle = shares[first] / 2 + shares[first + counts - 1] / 2
        ends = np.clip(middle, 1e-7, 1 - 1e-7).tolist()
        own = np.array([NormalDist().inv_cdf(share) for share in ends]) if (counts > 1).any() else scores
        if len(values) < 2 or np.isnan(values).any():  # a constant keeps its scale
            start = float(np.nan_to_num(values[0])) if len(values) else 0.0
            values, own = np.array([start, start + max(1.0, abs(start))]), np.array([0.0, max(1.0, abs(start))])
        with np.errstate(over="ignore"):
            steps = np.diff(values)
        if not np.isfinite(steps).all():
            raise DataError(f"column {name} spans more than float64 can hold: leave it out: --drop {name}")
        loss = float((steps / np.diff(own)).max() * 10 / max(steps.sum(), 1e-300))
        refuse_inexact(source.schema, [name], low[at : at + 1], high[at : at + 1], "quantile", loss)
        knots[name] = values, own
    return NormalScores(knots)


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


# ---- logarithm ----


@dataclass(frozen=True)
class Log:
    """x -> log(x + shift), per column, in float64."""

    columns: tuple[str, ...]
    shift: float = 0.0

    def apply(self, batch: Batch, /) -> Batch:
        """Columns as logarithms: float64; raises DataError for a value that has none."""
        for name in self._there(batch):
            field = noted(batch.schema.field(name).with_type(pa.float64()), decimals=None)
            batch = with_column(batch, field, with_nulls(np.log(self._moved(batch, name)), batch.column(name)))
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Columns in the data's units: float64."""
        for name in self._there(batch):
            with np.errstate(over="ignore"):
                values = np.exp(floats(batch, name)) - self.shift
            batch = with_column(batch, batch.schema.field(name), with_nulls(values, batch.column(name)))
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """-log(x + shift) for each cell that is not null."""
        total = np.zeros(batch.num_rows)
        for name in self._there(batch):
            total -= np.nan_to_num(np.log(self._moved(batch, name)))
        return total

    def _there(self, batch: Batch) -> list[str]:
        return [name for name in self.columns if name in batch.schema.names]

    def _moved(self, batch: Batch, name: str) -> Array:
        """x + shift, float64 [n], NaN where null; raises DataError where it has no logarithm."""
        values = floats(batch, name) + self.shift
        if (values <= 0).any():
            least = float(np.nanmin(values)) - self.shift
            raise DataError(
                f"column {name} holds {least:g}, which has no logarithm: --preprocess log:columns={name},"
                f"shift={1 - min(least, 0):g} adds a number first"
            )
        return values

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Columns and the shift as JSON."""
        return {"columns": list(self.columns), "shift": self.shift}, {}


def log(source: Source, *, columns: list[str], shift: float = 0.0) -> Log:
    """Take the natural logarithm of the columns named, plus ``shift``: 1 where there are zeros.

    Raises DataError for a value that has no logarithm, and for whole numbers above 2^44.
    """
    chosen = chosen_columns(source.schema, columns, "log", lambda _: False)
    for name in chosen:
        kind = source.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise DataError(f"--preprocess log: column {name} holds {kind}, and numbers have logarithms")
    step = Log(tuple(chosen), shift)
    for batch in source.scan():
        step.apply(batch)
        for name in chosen:
            values = floats(batch, name)
            if pa.types.is_integer(batch.schema.field(name).type) and np.nanmax(values, initial=0) > LARGEST_LOG:
                raise DataError(f"column {name} holds {np.nanmax(values):.0f}: log brings whole numbers back to 2^44")
    return step


# ---- channels of images ----


@dataclass(frozen=True)
class Channels:
    """x -> (x - mean) / deviation per channel of image columns, float32 [h, w, c]."""

    mean: Mapping[str, Array]  # [c] of each column
    deviation: Mapping[str, Array]

    def apply(self, batch: Batch, /) -> Batch:
        """Pixels in units of their channel's deviation: float32."""
        for name in self._there(batch):
            column: Any = batch.column(name)
            if column.type.value_type == pa.uint8():
                mapped = (_pixels(column) - self.mean[name]) / self.deviation[name]
                batch = _with_pixels(batch, name, mapped.astype(np.float32), column)
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Pixels from 0 to 255: uint8, rounded and clipped."""
        for name in self._there(batch):
            column: Any = batch.column(name)
            values = _pixels(column).astype(np.float64) * self.deviation[name] + self.mean[name]
            batch = _with_pixels(batch, name, np.clip(np.rint(values), 0, 255).astype(np.uint8), column)
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """-log deviation of each of an image's numbers."""
        total = np.zeros(batch.num_rows)
        for name in self._there(batch):
            kind: Any = batch.schema.field(name).type
            slope = -kind.shape[0] * kind.shape[1] * np.log(self.deviation[name]).sum()
            total += np.where(np.asarray(batch.column(name).is_null()), 0.0, slope)
        return total

    def _there(self, batch: Batch) -> list[str]:
        return [name for name in self.mean if name in batch.schema.names]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Columns as JSON, moments as float64 tensors [2, c]."""
        tensors = {f"{at}": np.stack([self.mean[name], self.deviation[name]]) for at, name in enumerate(self.mean)}
        return {"columns": list(self.mean)}, tensors


def channels(source: Source, *, columns: list[str] | None = None) -> Channels:
    """Bring each channel of images to mean 0 and deviation 1; a constant channel keeps its scale.

    Pixels are uint8 of one size, and come back exactly. Raises DataError for any other column.
    """
    able = image_columns(source.schema)
    chosen = chosen_columns(source.schema, columns, "channels", lambda field: field.name in able)
    sums: dict[str, Array] = {}
    for name in chosen:
        kind: Any = source.schema.field(name).type
        if name not in able or not isinstance(kind, pa.FixedShapeTensorType):
            what = "encoded images" if name in able else str(kind)
            raise DataError(f"--preprocess channels: column {name} holds {what}, and it takes pixels of one size")
        sums[name] = np.zeros((3, kind.shape[2]))
    for batch in source.scan():
        for name, total in sums.items():  # whole numbers below 2^53, so that the sums are exact
            x = _pixels(batch.column(name).drop_null()).reshape(-1, total.shape[1]).astype(np.int64)
            total += [np.full(x.shape[1], len(x)), x.sum(axis=0), (x * x).sum(axis=0)]
    mean = {name: s / np.maximum(n, 1) for name, (n, s, _) in sums.items()}
    deviation = {
        name: np.where(n * q > s * s, np.sqrt(np.maximum(n * q - s * s, 0)) / np.maximum(n, 1), 1.0)
        for name, (n, s, q) in sums.items()
    }
    return Channels(mean, deviation)


def _pixels(column: Any) -> Array:
    """An image column as [n, h, w, c]; a null is zeros."""
    kind = column.type
    if column.null_count:
        flat = pc.fill_null(pc.list_flatten(_storage_without_nulls(column)), 0)
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, *kind.shape)
    return np.asarray(column.to_numpy_ndarray()).reshape(-1, *kind.shape)


def _storage_without_nulls(column: Any) -> Any:
    nothing = pa.scalar([0] * column.type.storage_type.list_size, column.type.storage_type)
    return pc.if_else(column.is_valid(), column.storage, nothing)


def _with_pixels(batch: Batch, name: str, values: Array, like: Any) -> Batch:
    """The batch with images [n, h, w, c] in the column, null where ``like`` is."""
    kind: Any = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), like.type.shape)
    size = int(np.prod(like.type.shape))
    mask = like.is_null() if like.null_count else None
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), size, mask=mask)
    column = pa.ExtensionArray.from_storage(kind, flat.cast(kind.storage_type))
    return with_column(batch, batch.schema.field(name).with_type(kind), column)


# ---- categories ----


@dataclass(frozen=True)
class OneHot:
    """A column -> as many of zeros and ones as it has values, float64, named ``column=value``."""

    values: Mapping[str, list[Any]]
    uint64: tuple[str, ...] = ()  # columns whose values int64 does not hold

    def apply(self, batch: Batch, /) -> Batch:
        """Zeros and ones in place of values: all null for null, all zero for a value that training never saw."""
        for name, values in self.values.items():
            if name in batch.schema.names:
                column = batch.column(name)
                for value in values:
                    hit = pc.equal(column, pa.scalar(value, column.type)).cast(pa.float64())
                    batch = batch.append_column(pa.field(f"{name}={_spelled(value)}", pa.float64()), hit)
                batch = batch.drop_columns([name])
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """The value whose column is largest; null where all are null, or exactly zero."""
        for name, values in self.values.items():
            own = [f"{name}={_spelled(value)}" for value in values]
            if own and all(column in batch.schema.names for column in own):
                cells = np.stack([floats(batch, column) for column in own], axis=1)
                nothing = np.isnan(cells).all(axis=1) | (cells == 0).all(axis=1)
                at = np.where(nothing, 0, np.nan_to_num(cells, nan=-np.inf).argmax(axis=1))
                kind = pa.uint64() if name in self.uint64 else None
                column = pa.array(values, kind).take(pa.array(at, mask=nothing))
                batch = batch.drop_columns(own)
                batch = with_column(batch, pa.field(name, column.type), column)
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """Zero: probabilities of categories have no unit."""
        return np.zeros(batch.num_rows)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The values of each column as JSON."""
        return {"values": dict(self.values), "uint64": list(self.uint64)}, {}


def onehot(source: Source, *, columns: list[str] | None = None, most: int = 100) -> OneHot:
    """Make a column of zeros and ones of each value of text, yes/no and label columns.

    The order is the noted or sorted one. Raises DataError where a column has more than ``most`` values.
    """
    chosen = chosen_columns(source.schema, columns, "onehot", is_category)
    found = {
        name: _values(source, name, min(most, WIDEST), "onehot", "most=…, up to 1000, allows more") for name in chosen
    }
    made = [f"{name}={_spelled(value)}" for name, values in found.items() for value in values]
    for name in made:
        if name in source.schema.names or made.count(name) > 1:
            raise DataError(f"--preprocess onehot would make a second column {name}: rename one")
    large = [n for n, values in found.items() if any(isinstance(v, int) and v >= 2**63 for v in values)]
    return OneHot(found, tuple(large))


def ordinal(source: Source, *, column: str, order: list[str]) -> Categories:
    """Number the values of a column in the order given: small, medium, large become 0, 1, 2.

    Raises DataError where training has a value that the order lacks.
    """
    chosen_columns(source.schema, [column], "ordinal", lambda _: False)
    kind = source.schema.field(column).type
    try:
        values = pa.array(order, pa.string()).cast(kind).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"--preprocess ordinal: order={order} is not of {kind}, which column {column} holds") from None
    if not values or len(set(values)) < len(values):
        raise UsageError(f"--preprocess ordinal: order={order}: name each value once")
    for value in _values(source, column, len(values) + 1, "ordinal", "the order has fewer", ordered=False):
        if value not in values:
            raise DataError(f"--preprocess ordinal: column {column} holds {value}, which order={order} lacks")
    return Categories({column: values})


def _values(source: Source, name: str, most: int, step: str, way: str, *, ordered: bool = True) -> list[Any]:
    """The values of a column of text, whole numbers or yes/no, in their noted or sorted order."""
    field = source.schema.field(name)
    kind = field.type
    if not (is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
        raise DataError(f"--preprocess {step}: column {name} holds {kind}: categories are text, whole numbers, yes/no")
    seen: set[Any] = set()
    for batch in source.scan():
        seen.update(pc.unique(batch.column(name)).drop_null().to_pylist())
        if len(seen) > most:
            raise DataError(f"--preprocess {step}: column {name} has more than {most:,} different values; {way}")
    known = notes(field).get("values") if ordered else None
    return list(known) if known else sorted(seen)


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- from a checkpoint ----


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


def restore_log(state: Mapping[str, Any], _: Mapping[str, Array]) -> Log:
    """Columns and shift; raises ValueError where they are damaged."""
    shift = float(state["shift"])
    if not isinstance(state["columns"], list) or not np.isfinite(shift):
        raise ValueError("log needs columns and a finite shift")
    return Log(tuple(state["columns"]), shift)


def restore_channels(state: Mapping[str, Any], tensors: Mapping[str, Array]) -> Channels:
    """Moments of channels; raises ValueError where they are damaged."""
    mean, deviation = {}, {}
    for at, name in enumerate(state["columns"]):
        mean[name], deviation[name] = tensors[f"{at}"]
        if not (np.isfinite(tensors[f"{at}"]).all() and (deviation[name] > 0).all()):
            raise ValueError(f"channels needs finite means, and deviations above 0, for {name}")
    return Channels(mean, deviation)


def restore_onehot(state: Mapping[str, Any], _: Mapping[str, Array]) -> OneHot:
    """The values of each column; raises ValueError where they are damaged."""
    for name, values in state["values"].items():
        kinds = {type(value) for value in values}
        if not isinstance(values, list) or len(kinds) > 1 or kinds - {str, int, bool} or len(set(values)) < len(values):
            raise ValueError(f"onehot needs different texts, whole numbers or yes/no for {name}")
    return OneHot(dict(state["values"]), tuple(state["uint64"]))
