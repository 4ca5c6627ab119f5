"""Categories as numbers: a column of zeros and ones for each value, or its place in an order that is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import Array, Batch
from genreg.data import Source, floats, notes, with_column
from genreg.errors import DataError, UsageError
from genreg.preprocess import Categories, chosen_columns, is_category, is_text

WIDEST = 1000  # columns that one-hot makes of one


# ---- one-hot ----


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


def restore_onehot(state: Mapping[str, Any], _: Mapping[str, Array]) -> OneHot:
    """The values of each column; raises ValueError where they are damaged."""
    for name, values in state["values"].items():
        kinds = {type(value) for value in values}
        if not isinstance(values, list) or len(kinds) > 1 or kinds - {str, int, bool} or len(set(values)) < len(values):
            raise ValueError(f"onehot needs different texts, whole numbers or yes/no for {name}")
    return OneHot(dict(state["values"]), tuple(state["uint64"]))


# ---- ordinal ----


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


# ---- both ----


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
