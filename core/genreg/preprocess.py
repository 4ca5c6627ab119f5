"""The chain of maps, and the built-in steps.

A ``clean`` step acts on training rows and has no undo. A ``map`` takes each column alone, skips absent ones, and has
``apply``, ``undo`` and ``log_jacobian``; what it learned is JSON and tensors, kept in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, floats, noted, notes, require_columns, with_column
from genreg.draft import Array, Batch
from genreg.errors import CheckpointError, DataError, NotFound, UsageError, did_you_mean
from genreg.options import bind, of_function, parse_call
from genreg.specs import Fitted, FittedMap, Preprocessor

MOST_CATEGORIES = 10_000
EXACT_WHOLE, EXACT_SPREAD = 2.0**52, 2.0**49  # whole numbers up to, and so far apart, survive an affine map in float64


class Step(NamedTuple):
    """A fitted map with its name and the distribution that it comes from."""

    name: str
    plugin: str
    fitted: FittedMap


@dataclass(frozen=True)
class Chain:
    """Fitted maps in the order in which they are applied."""

    steps: tuple[Step, ...] = ()

    def apply(self, batch: Batch, *, given: bool = False) -> Batch:
        """The batch after all maps; with ``given``, a value that training never saw is refused by name."""
        for step in self.steps:
            if given and isinstance(step.fitted, Categories):
                step.fitted.refuse_unseen(batch)
            batch = step.fitted.apply(batch)
        return batch

    def undo(self, batch: Batch) -> Batch:
        """The batch before all maps."""
        for step in reversed(self.steps):
            batch = step.fitted.undo(batch)
        return batch

    def log_jacobian(self, batch: Batch) -> Array:
        """log |d apply / d data| over all maps: float64 [n]."""
        total = np.zeros(batch.num_rows)
        for step in self.steps:
            total += step.fitted.log_jacobian(batch)
            batch = step.fitted.apply(batch)
        return total

    def state(self) -> tuple[list[dict[str, Any]], dict[str, Array]]:
        """What a checkpoint keeps: JSON per step, and tensors named ``<position>.<name>``."""
        written: list[dict[str, Any]] = []
        tensors: dict[str, Array] = {}
        for at, step in enumerate(self.steps):
            state, arrays = step.fitted.state()
            written.append({"step": step.name, "plugin": step.plugin, "state": state})
            tensors.update({f"{at}.{name}": array for name, array in arrays.items()})
        return written, tensors


def restore_chain(
    written: Sequence[Mapping[str, Any]], tensors: Mapping[str, Array], find: Callable[[str], Preprocessor]
) -> Chain:
    """The chain of a checkpoint; raises CheckpointError where a step's state is damaged."""
    steps = []
    for at, one in enumerate(written):
        own = {name.partition(".")[2]: array for name, array in tensors.items() if name.partition(".")[0] == str(at)}
        try:
            fitted = cast(FittedMap, find(one["step"]).restore(one["state"], own))
            steps.append(Step(one["step"], one["plugin"], fitted))
        except NotFound as error:
            raise CheckpointError(f"the checkpoint's chain needs {one['plugin']}: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"step {at} of the checkpoint's chain is damaged: {error!r}") from None
    return Chain(tuple(steps))


def fit_steps(
    calls: Sequence[str], train: Source, find: Callable[[str], tuple[Preprocessor, str]], kind: str
) -> tuple[Source, list[Step]]:
    """Fit the steps of one kind in turn, each on what those before it make; returns the source after them.

    Raises DataError for a source that is not the training part.
    """
    steps = []
    for call in calls:
        name, knobs = parse_call(call, "--preprocess")
        preprocessor, plugin = find(name)
        if preprocessor.kind != kind:
            continue
        if train.part != "train":
            raise DataError(f"{name} is fitted on the training part alone, and this is the part {train.part}")
        values = bind(of_function(preprocessor.fit), knobs, f"--preprocess {name}: ")
        fitted = preprocessor.fit(train, **values)
        steps.append(Step(name, plugin, cast(FittedMap, fitted)))
        train = train.map(fitted.apply) if kind == "map" else cleaned(train, fitted)
    return train, steps


def cleaned(source: Source, step: Fitted) -> Source:
    """The source's rows after a clean step, which may be fewer."""
    apply = step.begin() if isinstance(step, CleanStep) and step.begin else step.apply
    batches = [apply(batch) for batch in source.scan()]
    schema = batches[0].schema if batches else source.schema
    return Source.of(pa.Table.from_batches(batches, schema), source.part)


# ---- maps ----


def _present(batch: Batch, columns: Sequence[str], *numbers: Array) -> list[tuple[Any, ...]]:
    """The columns that the batch has, each with its numbers."""
    return [row for row in zip(columns, *(n.tolist() for n in numbers), strict=True) if row[0] in batch.schema.names]


def _with_numbers(batch: Batch, name: str, values: Array) -> Batch:
    """The batch with other numbers in a column: float64, of any decimals, null where it was."""
    field = noted(batch.schema.field(name).with_type(pa.float64()), decimals=None)
    return with_column(batch, field, with_nulls(values, batch.column(name)))


def _summed_where_valid(batch: Batch, columns: Sequence[str], numbers: Array) -> Array:
    """For each row the sum of the columns' numbers over its cells that are not null: float64 [n]."""
    total = np.zeros(batch.num_rows)
    for name, number in _present(batch, columns, numbers):
        total += np.where(np.asarray(batch.column(name).is_null()), 0.0, number)
    return total


@dataclass(frozen=True)
class Standardize:
    """x -> (x - mean) / deviation, per column, in float64."""

    columns: tuple[str, ...]
    mean: Array
    deviation: Array

    def apply(self, batch: Batch, /) -> Batch:
        """Columns in units of their deviation from the mean: float64."""
        for name, mean, deviation in _present(batch, self.columns, self.mean, self.deviation):
            batch = _with_numbers(batch, name, (floats(batch, name) - mean) / deviation)
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Columns in the data's units: float64."""
        for name, mean, deviation in _present(batch, self.columns, self.mean, self.deviation):
            batch = _with_numbers(batch, name, floats(batch, name) * deviation + mean)
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """-log deviation for each cell that is not null."""
        return _summed_where_valid(batch, self.columns, -np.log(self.deviation))

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Columns as JSON, moments as float64 tensors."""
        return {"columns": list(self.columns)}, {"mean": self.mean, "deviation": self.deviation}


def standardize(source: Source, *, columns: list[str] | None = None) -> Standardize:
    """Bring numeric columns to mean 0 and deviation 1.

    One stable pass (Chan, Golub and LeVeque 1979); a constant column keeps its scale. It takes numbers, and where they
    are named yes/no, dates and times. Categories, the label, text and columns with a role are left alone unless named.
    Raises DataError where float64 cannot hold a column's squares, or its whole numbers would not come back exactly.
    """
    chosen = chosen_columns(source.schema, columns, "standardize", is_number)
    count, mean, squares = (np.zeros(len(chosen)) for _ in range(3))
    low, high = np.full(len(chosen), np.inf), np.full(len(chosen), -np.inf)
    for batch in source.scan():
        for at, name in enumerate(chosen):
            values = floats(batch, name)
            values = values[~np.isnan(values)]
            if len(values):
                low[at], high[at] = min(low[at], values.min()), max(high[at], values.max())
                with np.errstate(over="ignore", invalid="ignore"):
                    shift, total = values.mean() - mean[at], count[at] + len(values)
                    squares[at] += ((values - values.mean()) ** 2).sum() + shift**2 * count[at] * len(values) / total
                    mean[at] += shift * len(values) / total
                count[at] = total
    for name, finite in zip(chosen, np.isfinite(mean) & np.isfinite(squares), strict=True):
        if not finite:
            raise DataError(
                f"column {name} holds numbers whose squares float64 cannot hold: leave it out: --drop {name}"
            )
    refuse_inexact(source.schema, chosen, low, high, "standardize")
    deviation = np.sqrt(squares / np.maximum(count, 1))
    varies = (low < high) & (deviation > 0)  # the mean of a constant column is rounded, so its squares need not be 0
    mean = np.where(low == high, low, mean)
    return Standardize(tuple(chosen), mean, np.where(varies, deviation, 1.0))


@dataclass(frozen=True)
class MinMax:
    """x -> low + (high - low) (x - smallest) / span, per column, in float64; both ends are met exactly."""

    columns: tuple[str, ...]
    smallest: Array
    span: Array
    low: float = 0.0
    high: float = 1.0

    def apply(self, batch: Batch, /) -> Batch:
        """Columns between low and high, where they lie within the training values: float64."""
        for name, smallest, span in _present(batch, self.columns, self.smallest, self.span):
            unit = (floats(batch, name) - smallest) / span
            batch = _with_numbers(batch, name, (1 - unit) * self.low + unit * self.high)
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Columns in the data's units: float64."""
        for name, smallest, span in _present(batch, self.columns, self.smallest, self.span):
            unit = (floats(batch, name) - self.low) / (self.high - self.low)
            batch = _with_numbers(batch, name, smallest + unit * span)
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """log (high - low) - log span for each cell that is not null."""
        return _summed_where_valid(batch, self.columns, np.log(self.high - self.low) - np.log(self.span))

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Columns and the range as JSON, extents as float64 tensors."""
        written = {"columns": list(self.columns), "low": self.low, "high": self.high}
        return written, {"smallest": self.smallest, "span": self.span}


def minmax(source: Source, *, columns: list[str] | None = None, low: float = 0.0, high: float = 1.0) -> MinMax:
    """Bring numeric columns to the range from ``low`` to ``high``, 0 to 1 unless told.

    Generated values may lie beyond it, and are not clipped; a constant column keeps its scale. It takes what
    standardize takes. Raises UsageError for an empty range, DataError where values would not come back exactly.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UsageError(f"--preprocess minmax: low={low:g},high={high:g}: low must lie below high")
    chosen = chosen_columns(source.schema, columns, "minmax", is_number)
    smallest, largest = _extents(source, chosen)
    with np.errstate(over="ignore", invalid="ignore"):
        span = largest - smallest
    for name, own in zip(chosen, span.tolist(), strict=True):
        if own == np.inf:
            raise DataError(f"column {name} spans more than float64 can hold: leave it out: --drop {name}")
    refuse_inexact(source.schema, chosen, smallest, largest, "minmax", max(abs(low), abs(high)) / (high - low))
    smallest = np.where(np.isfinite(smallest), smallest, 0.0)
    return MinMax(tuple(chosen), smallest, np.where(span > 0, span, 1.0), low, high)


def _extents(source: Source, names: Sequence[str]) -> tuple[Array, Array]:
    """The smallest and the largest value of each column; infinity and -infinity where there is none."""
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for batch in source.scan():
        for at, name in enumerate(names):
            values = floats(batch, name)
            low[at] = np.fmin(low[at], np.fmin.reduce(values, initial=np.inf))
            high[at] = np.fmax(high[at], np.fmax.reduce(values, initial=-np.inf))
    return low, high


def refuse_inexact(
    schema: pa.Schema, names: Sequence[str], low: Array, high: Array, step: str, loss: float = 1.0
) -> None:
    """Raise DataError where float64 would not bring whole numbers, dates or times back to what they were."""
    for name, least, most in zip(names, low.tolist(), high.tolist(), strict=True):
        whole = not pa.types.is_floating(schema.field(name).type) and most >= least
        far = (most - least) * max(loss, 1.0) >= EXACT_SPREAD or max(abs(least), abs(most)) > EXACT_WHOLE
        if whole and far:
            raise DataError(
                f"column {name} holds whole numbers that {step} cannot bring back exactly, "
                f"from {least:.0f} to {most:.0f}: leave it out with --drop {name}, or name it as --key {name}"
            )


@dataclass(frozen=True)
class Categories:
    """Value -> code, per column: int32 with the ordered values noted; len(values) is the code of an unseen value."""

    values: Mapping[str, Sequence[Any]]

    def apply(self, batch: Batch, /) -> Batch:
        """Codes in place of values; null stays null, and a value that training never saw has a code of its own."""
        for name, values in self.values.items():
            if name in batch.schema.names:
                field, column = batch.schema.field(name), batch.column(name)
                codes = pc.index_in(column, value_set=pa.array(values, field.type)).fill_null(len(values))
                codes = pc.if_else(pc.is_valid(column), codes, pa.scalar(None, pa.int32()))
                batch = with_column(batch, noted(field.with_type(pa.int32()), values=list(values)), codes)
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Values in place of codes; the code of an unseen value becomes null."""
        for name, values in self.values.items():
            if name in batch.schema.names:
                codes = batch.column(name)
                known = pc.if_else(pc.less(codes, len(values)), codes, pa.scalar(None, codes.type))
                big = any(isinstance(value, int) and value >= 2**63 for value in values)
                kind = pa.uint64() if big else None if values else pa.string()
                taken = pa.array(values, kind).take(known)
                batch = with_column(batch, batch.schema.field(name).with_type(taken.type), taken)
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """Zero: probabilities of categories have no unit."""
        return np.zeros(batch.num_rows)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The ordered values of each column as JSON."""
        return {"values": {name: list(values) for name, values in self.values.items()}}, {}

    def unseen(self, batch: Batch) -> Iterator[tuple[str, Any, int]]:
        """Each value that training never saw, with its column's name and the number of its cells."""
        for name in (name for name in self.values if name in batch.schema.names):
            column = batch.column(name)
            seen = pc.or_kleene(pc.is_in(column, pa.array(self.values[name], column.type)), pc.is_null(column))
            for pair in pc.value_counts(column.filter(pc.invert(seen))).to_pylist():
                yield name, pair["values"], pair["counts"]

    def refuse_unseen(self, batch: Batch) -> None:
        """Raise UsageError for a given value that is not one of the column's categories."""
        for name, value, _ in self.unseen(batch):
            known = self.values[name]
            hint = did_you_mean(str(value), map(str, known)) if len(known) <= 100 else ""
            raise UsageError(f"{name}={value} was not seen in training{hint}")


def categories(source: Source, *, columns: list[str] | None = None) -> Categories:
    """Number the values of text, yes/no and label columns, in their noted or sorted order.

    Raises DataError where a column has more than 10,000 values, or a label that is neither text nor whole number.
    """
    chosen = chosen_columns(source.schema, columns, "categories", is_category)
    for name in chosen:
        kind = source.schema.field(name).type
        if not (is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
            raise DataError(f"column {name} holds {kind}: categories are text, whole numbers or yes/no")
    seen: dict[str, set[Any]] = {name: set() for name in chosen}
    for batch in source.scan():
        for name in chosen:
            seen[name].update(pc.unique(batch.column(name)).drop_null().to_pylist())
            if len(seen[name]) > MOST_CATEGORIES:
                raise DataError(
                    f"column {name} has more than {MOST_CATEGORIES:,} different values: leave it out with --drop {name}"
                )
    return Categories({n: notes(source.schema.field(n)).get("values") or sorted(seen[n]) for n in chosen})


# ---- clean steps ----


@dataclass(frozen=True)
class CleanStep:
    """A clean step as a function of a batch; ``begin`` makes the function of a pass that remembers earlier batches."""

    apply: Callable[[Batch], Batch]
    begin: Callable[[], Callable[[Batch], Batch]] | None = None

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Nothing: a clean step acts before training and is not needed again."""
        return {}, {}


def dropna(source: Source, *, columns: list[str] | None = None) -> CleanStep:
    """Leave out training rows with a missing cell in any column, or in those named."""
    chosen = chosen_columns(source.schema, columns, "dropna", lambda _: True)

    def apply(batch: Batch) -> Batch:
        whole = np.ones(batch.num_rows, bool)
        for name in chosen:
            whole &= np.asarray(batch.column(name).is_valid())
        return batch.filter(pa.array(whole))

    return CleanStep(apply)


def fillna(
    source: Source, *, columns: list[str] | None = None, strategy: str = "mean", value: str | None = None
) -> CleanStep:
    """Fill missing cells with the training mean, median or mode, or with a value.

    ``mean`` and ``median`` are for numbers; text and yes/no columns take the mode instead. Raises UsageError for
    another strategy, DataError for a value that is not of a column's type or a column without any cell.
    """
    if strategy not in ("mean", "median", "mode"):
        raise UsageError(f"--preprocess fillna: strategy={strategy}: there are mean, median, mode")
    table = pa.Table.from_batches(list(source.scan()), source.schema)
    chosen = chosen_columns(source.schema, columns, "fillna", lambda _: True)

    @cache
    def fill(name: str) -> Any:
        column, want = table.column(name), table.schema.field(name).type
        return _cast_text(name, value, want) if value is not None else typical(name, column, want, strategy)

    def apply(batch: Batch) -> Batch:
        for name in chosen:
            if (column := batch.column(name)).null_count:
                batch = with_column(batch, batch.schema.field(name), column.fill_null(fill(name)))
        return batch

    for name in chosen:
        if table.column(name).null_count:
            fill(name)  # what cannot be filled is refused before any row is read again
    return CleanStep(apply)


def clip(source: Source, *, columns: list[str] | None = None) -> CleanStep:
    """Make NaN missing, and pull infinities to the largest and smallest finite training values."""
    chosen = chosen_columns(source.schema, columns, "clip", lambda f: pa.types.is_floating(f.type))
    low, high = dict.fromkeys(chosen, np.inf), dict.fromkeys(chosen, -np.inf)
    for batch in source.scan():
        for name in chosen:
            values = floats(batch, name)
            values = values[np.isfinite(values)]
            low[name] = min(low[name], values.min(initial=np.inf))
            high[name] = max(high[name], values.max(initial=-np.inf))

    def apply(batch: Batch) -> Batch:
        for name in chosen:
            values = floats(batch, name)
            ends = np.where(values > 0, high[name], low[name])
            inside = np.where(np.isinf(values), ends, values)
            kept = pa.array(inside, pa.float64(), mask=~np.isfinite(inside))
            batch = with_column(batch, batch.schema.field(name), kept.cast(batch.schema.field(name).type))
        return batch

    return CleanStep(apply)


def dedupe(source: Source, *, columns: list[str] | None = None) -> CleanStep:
    """Keep the first of equal rows, or of rows that are equal in the columns named.

    Rows are compared by fingerprints of 104 bits: 16 bytes a row, of which full runs of 64 MB lie in files.
    """
    from genreg.distinct import Seen, fingerprints

    chosen = chosen_columns(source.schema, columns, "dedupe", lambda _: True)

    def begin() -> Callable[[Batch], Batch]:
        seen = Seen()
        return lambda batch: batch.filter(pa.array(seen.first(fingerprints(batch, chosen))))

    return CleanStep(lambda batch: begin()(batch), begin)


def typical(name: str, column: Any, want: pa.DataType, strategy: str) -> Any:
    """The mean, median or mode of a column as a scalar; raises DataError where it has no cell, or is nested."""
    if column.null_count == len(column):
        raise DataError(
            f"column {name} has no value to fill from: --preprocess fillna:columns={name},value=…, or --drop {name}"
        )
    if pa.types.is_nested(want):
        way_out = f"--preprocess dropna:columns={name}, or --drop {name}"
        raise DataError(f"column {name} holds {want}, which has no typical value: {way_out}")
    if strategy == "mode" or not (pa.types.is_integer(want) or pa.types.is_floating(want)):
        counts = pc.value_counts(column.drop_null()).to_pylist()
        return pa.scalar(min(counts, key=lambda pair: (-pair["counts"], pair["values"]))["values"], want)
    number = pc.mean(column) if strategy == "mean" else pc.quantile(column, 0.5)[0]
    return (pc.round(number) if pa.types.is_integer(want) else number).cast(want)


def _cast_text(name: str, value: str, want: pa.DataType) -> Any:
    try:
        return pa.scalar(value).cast(want)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"--preprocess fillna: value={value} is not a {want}, which column {name} holds") from None


def chosen_columns(
    schema: pa.Schema, columns: list[str] | None, step: str, takes: Callable[[pa.Field[Any]], bool]
) -> list[str]:
    """The columns named, which must be there (DataError), or those that the step takes unless told."""
    if columns is None:
        return [field.name for field in schema if takes(field)]
    require_columns(schema, columns, f"--preprocess {step}: columns")
    return columns


def is_number(field: pa.Field[Any]) -> bool:
    """Whether a column holds numbers that are measured: no category, and no role."""
    numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    return numeric and not notes(field).get("role") and not notes(field).get("values")


def is_category(field: pa.Field[Any]) -> bool:
    """Whether a column holds categories: text, yes/no, the label, noted values."""
    own = notes(field)
    return is_text(field.type) or pa.types.is_boolean(field.type) or own.get("role") == "label" or "values" in own


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def with_nulls(values: Array, like: Any) -> Any:
    """Numbers as a float64 column that is null where ``like`` is."""
    return pa.array(values, pa.float64(), mask=np.asarray(like.is_null()))


def restore_standardize(state: Mapping[str, Any], tensors: Mapping[str, Array]) -> Standardize:
    """Standardize from its state; raises ValueError where it is damaged."""
    columns, mean, deviation = state["columns"], tensors["mean"], tensors["deviation"]
    if not isinstance(columns, list) or not mean.shape == deviation.shape == (len(columns),):
        raise ValueError("standardize needs a mean and a deviation for each column")
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation > 0).all()):
        raise ValueError("standardize needs finite means, and deviations above 0")
    return Standardize(tuple(columns), mean, deviation)


def _restore_minmax(state: Mapping[str, Any], tensors: Mapping[str, Array]) -> MinMax:
    columns, smallest, span = state["columns"], tensors["smallest"], tensors["span"]
    low, high = float(state["low"]), float(state["high"])
    if not isinstance(columns, list) or not smallest.shape == span.shape == (len(columns),):
        raise ValueError("minmax needs a smallest value and a span for each column")
    if not (
        np.isfinite(smallest).all() and np.isfinite(span).all() and (span > 0).all() and -np.inf < low < high < np.inf
    ):
        raise ValueError("minmax needs finite values, spans above 0, and low below high")
    return MinMax(tuple(columns), smallest, span, low, high)


def restore_categories(state: Mapping[str, Any], _: Mapping[str, Array]) -> Categories:
    """Categories from their state; raises ValueError where they are damaged."""
    for name, values in state["values"].items():
        kinds = {type(value) for value in values}
        if not isinstance(values, list) or len(kinds) > 1 or kinds - {str, int, bool} or len(set(values)) < len(values):
            raise ValueError(f"categories needs different texts, whole numbers or yes/no for {name}")
    return Categories(state["values"])


def no_restore(_state: Mapping[str, Any], _tensors: Mapping[str, Array]) -> Fitted:
    """Raise CheckpointError: nothing of a clean step is kept."""
    raise CheckpointError("a clean step acts before training and is not part of a checkpoint")


PREPROCESSORS = [
    Preprocessor(standardize, restore_standardize),
    Preprocessor(minmax, _restore_minmax),
    Preprocessor(categories, restore_categories),
    Preprocessor(dropna, no_restore, kind="clean"),
    Preprocessor(dedupe, no_restore, kind="clean"),
    Preprocessor(fillna, no_restore, kind="clean"),
    Preprocessor(clip, no_restore, kind="clean"),
]
