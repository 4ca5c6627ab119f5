"""MixedNB: a classifier of tables, with columns of every kind and missing cells: the family nb by another door."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import no_columns, noted, single_batch, with_column
from genreg.draft import Array, Batch
from genreg.errors import GenregError, did_you_mean
from genreg_nb.config import Config, columns, described
from genreg_nb.densities import densities, log_constants, log_joint
from genreg_nb.model import NaiveBayes
from genreg_nb.sklearn.arrays import CHUNK
from genreg_nb.sklearn.base import Classifier
from genreg_nb.sklearn.checks import encoded
from genreg_nb.statistics import Statistics, cells, measure, nothing

LABEL = "__class__"


class MixedNB(Classifier):
    """Naive Bayes of a table: pandas, Arrow, or an array whose columns are called x0, x1, …

    Text, yes/no and the columns that ``categorical`` names are categories, ``bernoulli`` names columns of 0 and 1,
    ``multinomial`` counts that share a row's total; all others are Gaussian. NaN, None and absent columns are missing.
    The numbers are those of the family ``nb``: each column has its own variance floor, and totals tell of the class.
    """

    def __init__(
        self,
        *,
        categorical: Any = (),
        bernoulli: Any = (),
        multinomial: Any = (),
        alpha: float = 1.0,
        var_smoothing: float = 1e-9,
        priors: Any = None,
    ) -> None:
        self.categorical = categorical
        self.bernoulli = bernoulli
        self.multinomial = multinomial
        self.alpha = alpha
        self.var_smoothing = var_smoothing
        self.priors = priors

    def _rows(self, X: Any, *, first: bool) -> Batch:  # noqa: N803
        batch = as_batch(X)
        if first:
            self._remember(X, batch)
        for field in batch.schema:
            if field.name not in self._types:
                raise ValueError(f"column {field.name} was not there when the model was fitted")
            was, now = self._types[field.name], kind_of(field.type)
            if "nothing" not in (was, now) and was != now:
                raise ValueError(f"column {field.name} held {was} when the model was fitted, and holds {now} now")
        return batch

    def _remember(self, X: Any, batch: Batch) -> None:  # noqa: N803
        """Note form, names and kinds of the columns, and which are categories; raises ValueError."""
        if not batch.num_columns or not batch.num_rows:
            raise ValueError("MixedNB takes a table with at least one row and one column")
        arrow = isinstance(X, (pa.Table, pa.RecordBatch))
        self._form = "arrow" if arrow else "pandas" if hasattr(X, "to_dict") else "array"
        self.feature_names_in_ = np.array(batch.schema.names, object)
        self.n_features_in_ = batch.num_columns
        self._types = {field.name: kind_of(field.type) for field in batch.schema}
        categories = column_names(self.categorical)
        for name in categories:
            if name not in self._types:
                raise ValueError(f"categorical: the table has no column {name}{did_you_mean(name, self._types)}")
        self._values: dict[str, list[Any]] = {
            name: [] for name, kind in self._types.items() if kind in ("text", "yes/no") or name in categories
        }

    def _start(self, rows: Batch) -> None:
        named = {kind: column_names(getattr(self, kind)) for kind in ("bernoulli", "multinomial")}
        priors = "empirical" if self.priors is None else [float(p) for p in np.asarray(self.priors)]
        self._see(rows)
        settings = {"alpha": self.alpha, "var_smoothing": self.var_smoothing, "priors": priors, **named}
        coded = self._coded(rows, np.zeros(rows.num_rows, np.int64))
        self._config = plainly(lambda: described(Config.model_validate(settings), coded.schema))
        if isinstance(priors, list) and len(priors) != len(self.classes_):
            raise ValueError("Number of priors must match number of classes.")
        self._statistics = nothing(self._config)

    def _see(self, rows: Batch) -> None:
        """Put new values at the end of their column's."""
        for name, values in self._values.items():
            if name in rows.schema.names:
                found = pc.unique(rows.column(name)).drop_null().to_pylist()
                values.extend(sorted(set(found) - set(values)))

    def _coded(self, rows: Batch, codes: Array | None) -> Batch:
        """The rows with codes in place of values, and the label."""
        arrays: list[Any] = []
        fields: list[Any] = []
        for field, column in zip(rows.schema, rows.columns, strict=True):
            if field.name in self._values:
                values = self._values[field.name]
                known = pa.array(values, field.type) if not pa.types.is_null(field.type) else pa.nulls(len(values))
                found = pc.index_in(column, value_set=known).fill_null(len(values))
                column = pc.if_else(pc.is_valid(column), found, pa.scalar(None, pa.int32()))
                field = noted(pa.field(field.name, pa.int32()), values=values)
            elif pa.types.is_null(field.type):
                column, field = column.cast(pa.float64()), field.with_type(pa.float64())
            arrays, fields = [*arrays, column], [*fields, field]
        if codes is not None:
            label = noted(pa.field(LABEL, pa.int32()), role="label", values=list(range(len(self.classes_))))
            arrays, fields = [*arrays, pa.array(codes, pa.int32())], [*fields, label]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)) if fields else no_columns(rows.num_rows)

    def _count(self, rows: Batch, codes: Array, weights: Array | None) -> None:
        self._see(rows)
        coded = self._coded(rows, codes)
        config = plainly(lambda: described(self._config, self._whole(coded).schema))
        total = widened(self._statistics, self._config, config)
        for start in range(0, coded.num_rows, CHUNK):
            part = cells_plainly(config, coded.slice(start, CHUNK))
            own = None if weights is None else weights[start : start + CHUNK]
            total = total.merge(measure(config, part._replace(weights=own)))
        self._config, self._statistics = config, total

    def _whole(self, coded: Batch) -> Batch:
        """The schema's columns, those that are absent from this batch too, in their old order."""
        if not hasattr(self, "_config"):
            return coded
        fields = []
        for field in columns(self._config):
            here = field.name in coded.schema.names
            fields.append(coded.schema.field(field.name) if here and field.name in {*self._values, LABEL} else field)
        return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in fields], schema=pa.schema(fields))

    def _read(self) -> None:
        self._model = NaiveBayes(self._config, densities(self._config, self._statistics))
        self.class_count_ = self._statistics.classes
        self.class_prior_ = np.exp(self._model.density.log_prior)

    def _joint(self, rows: Batch) -> Array:
        coded = self._coded(rows, None)
        joint = np.empty((rows.num_rows, len(self.classes_)))
        for start in range(0, rows.num_rows, CHUNK):
            part = cells_plainly(self._config, coded.slice(start, CHUNK))
            own = log_joint(self._model.density, part) + log_constants(self._model.density, part)
            joint[start : start + CHUNK] = own.T
        return joint

    def sample(self, n_samples: int = 1, *, y: Any = None, given: Any = None, seed: int = 0) -> tuple[Any, Array]:
        """Rows and their classes, given some cells: a mapping (the same for all rows) or a table of ``n_samples`` rows.

        X comes in the form that was fitted: pandas, Arrow or an array. Row i follows from seed + i alone.
        """
        self._check_fitted()
        seeds = np.arange(n_samples, dtype=np.uint64) + np.uint64(seed)
        if isinstance(given, dict):
            given = pa.table({name: pa.array([value] * n_samples) for name, value in given.items()})
        known = no_columns(n_samples) if given is None else self._rows(given, first=False)
        if known.num_rows != n_samples:
            raise ValueError(f"given has {known.num_rows} rows for {n_samples} samples")
        asked = self._coded(known, None)
        if y is not None:
            codes, _ = encoded(np.broadcast_to(y, (n_samples,)), self.classes_, n_samples)
            asked = with_column(asked, pa.field(LABEL, pa.int32()), pa.array(codes, pa.int32()))
        draft = plainly(lambda: self._model.propose(seeds, asked))
        return self._decoded(self._model.render(draft), known), self.classes_[np.asarray(draft.values)]

    def _decoded(self, made: Batch, known: Batch) -> Any:
        """Samples with values in place of codes and the given cells over them, in the form that was fitted."""
        found: dict[str, Any] = {}
        whole = {*self._config.binary, *self._config.counts}
        for name in self.feature_names_in_:
            column = made.column(name)
            if name in self._values:
                column = pa.array(self._values[name]).take(column)
            elif name in whole:
                column = column.cast(pa.int64())
            if name in known.schema.names:
                column = pc.if_else(pc.is_valid(known.column(name)), known.column(name).cast(column.type), column)
            found[name] = column
        table = pa.table(found)
        if self._form == "array":
            return np.stack([column.to_numpy() for column in table.columns], 1)
        return table.to_pandas() if self._form == "pandas" else table


def as_batch(X: Any) -> Batch:  # noqa: N803
    """A table, a frame or an array [n, d] as one batch; NaN is null."""
    if isinstance(X, pa.RecordBatch):
        X = pa.Table.from_batches([X])  # noqa: N806
    if hasattr(X, "to_dict") and hasattr(X, "columns"):
        X = pa.Table.from_pandas(X, preserve_index=False)  # noqa: N806
    if not isinstance(X, pa.Table):
        array = np.asarray(X)
        if array.ndim != 2:
            raise ValueError(f"Expected 2D array, got {array.ndim}D array instead: X.reshape(-1, 1) is one column")
        cast = list if array.dtype == object else np.ascontiguousarray
        arrays = [pa.array(cast(column), from_pandas=True) for column in array.T]
        X = pa.table(dict(zip([f"x{j}" for j in range(len(arrays))], arrays, strict=True)))  # noqa: N806
    for at, field in enumerate(X.schema):
        if pa.types.is_dictionary(field.type):
            X = X.set_column(at, field.name, X.column(at).cast(field.type.value_type))  # noqa: N806
        elif pa.types.is_floating(field.type):
            nan = pc.is_nan(X.column(at))
            X = X.set_column(at, field.name, pc.if_else(nan, pa.scalar(None, field.type), X.column(at)))  # noqa: N806
    return single_batch(X)


def kind_of(type_: pa.DataType) -> str:
    """What a column holds, in the words of a message."""
    if pa.types.is_null(type_):
        return "nothing"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    return "yes/no" if pa.types.is_boolean(type_) else "numbers"


def column_names(columns_: Any) -> list[str]:
    """Names as they are; a number is the place of an array's column."""
    return [name if isinstance(name, str) else f"x{name}" for name in columns_]


def plainly(function: Any) -> Any:
    """The function's value; what genreg refuses is a ValueError, as scikit-learn's users expect."""
    try:
        return function()
    except GenregError as error:
        raise ValueError(str(error)) from None


def cells_plainly(config: Config, batch: Batch) -> Any:
    """The cells of a batch; what is not of its kind is a ValueError."""
    return plainly(lambda: cells(config, batch))


def widened(statistics: Statistics, old: Config, new: Config) -> Statistics:
    """The statistics where categories have new values at their end, before the bucket of unseen ones."""
    levels = np.zeros((len(new.classes), new.width))
    for (_, was), (_, now) in zip(old.blocks, new.blocks, strict=True):
        levels[:, now.start : now.start + was.stop - was.start - 1] = statistics.levels[:, was][:, :-1]
        levels[:, now.stop - 1] += statistics.levels[:, was.stop - 1]
    return statistics._replace(levels=levels)
