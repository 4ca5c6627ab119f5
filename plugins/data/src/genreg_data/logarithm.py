"""The logarithm as a map: undone by the exponential, for numbers that come back exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source, floats, noted, with_column
from genreg.errors import DataError
from genreg.preprocess import chosen_columns, with_nulls

LARGEST_LOG = 2.0**44  # whole numbers up to it come back exactly from their logarithm


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


def restore_log(state: Mapping[str, Any], _: Mapping[str, Array]) -> Log:
    """Columns and shift; raises ValueError where they are damaged."""
    shift = float(state["shift"])
    if not isinstance(state["columns"], list) or not np.isfinite(shift):
        raise ValueError("log needs columns and a finite shift")
    return Log(tuple(state["columns"]), shift)
