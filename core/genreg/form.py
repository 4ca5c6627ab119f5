"""Between the user's form and the model's: conditions go in through the maps, samples come out through their undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import conform, no_columns, noted, untimed, with_column
from genreg.draft import Array, Batch, Inferring, Scoring, Seeds
from genreg.errors import PluginError, Unsupported, UsageError
from genreg.preprocess import Chain
from genreg.specs import Condition

OUTCOME = "outcome"


def control(name: str) -> str:
    """The name of a control where a data column has it too: the bare name is the column, ``@name`` the control."""
    return f"@{name}"


def given_names(conditions: Sequence[Condition]) -> list[str]:
    """The columns of ``given``, one per condition: its data column; a control's name, ``@name`` if that is a column."""
    columns = {condition.column for condition in conditions}
    return [c.column or (control(c.name) if c.name in columns else c.name) for c in conditions]


@dataclass(frozen=True, eq=False)
class Form:
    """The data's schema, the model's columns, the conditions, and the chain of maps between them."""

    schema: pa.Schema  # of the samples that come out
    columns: pa.Schema  # of what render returns
    conditions: Sequence[Condition] = ()
    chain: Chain = field(default_factory=Chain)

    @cached_property
    def given(self) -> pa.Schema:
        """The schema of ``given`` in the user's units."""
        return pa.schema([data.with_name(n) if data else pa.field(n, c.type) for n, c, data in self._controls])

    @cached_property
    def _controls(self) -> list[tuple[str, Condition, pa.Field[Any] | None]]:
        """Each condition with its column of ``given`` and the field of the data that it is, if it is one."""
        fields: dict[str | None, Any] = {field.name: field for field in self.schema}
        pairs = zip(given_names(self.conditions), self.conditions, strict=True)
        return [(name, condition, fields.get(condition.column)) for name, condition in pairs]

    def outcome(self, streams: bool) -> str | None:
        """The name of the column that says how each row ended, for a family that streams."""
        return None if not streams else control(OUTCOME) if OUTCOME in self.schema.names else OUTCOME

    def samples(self, *, streams: bool = False) -> pa.Schema:
        """The schema of the samples: the data's columns, and the outcome of a stream."""
        name = self.outcome(streams)
        return self.schema.append(pa.field(name, pa.string())) if name else self.schema

    def into_model(self, given: Batch) -> Batch:
        """``given`` as the model sees it: data columns through the maps, every condition in its declared type."""
        fields: list[Any] = []
        columns: list[Any] = []
        for name, condition, data in self._controls:
            column, declared = given.column(name), pa.field(name, condition.type)
            nothing = column.null_count == len(column)
            floating = not nothing and pa.types.is_floating(column.type)
            if floating and not pc.all(pc.is_finite(column), min_count=0).as_py():
                raise UsageError(f"{name}: NaN and infinity cannot be given; leave out what is not known")
            if data and not nothing:
                one = pa.RecordBatch.from_arrays([column], schema=pa.schema([data]))
                column = self.chain.apply(one, given=True).column(0)
            if data and data.name in self.columns.names:
                declared = self.columns.field(data.name).with_name(name)
            column = untimed(column) if pa.types.is_floating(declared.type) else column
            fields.append(declared)
            kind: Any = declared.type
            columns.append(pa.nulls(len(column), kind) if nothing else column.cast(kind))
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)) if fields else no_columns(given.num_rows)

    def out_of_model(self, rendered: Batch, given: Batch, rows: Array) -> Batch:
        """Samples in the user's form: maps undone, rounded, and the given cells written over, bit for bit.

        ``rows`` [n] is the row of ``given`` that each sample came from; -1: none.
        """
        for name in self.columns.names:
            if name not in rendered.schema.names:
                raise PluginError(f"render left out the column {name}, which the family declares")
        samples = conform(self.chain.undo(conform(rendered, self.columns)), self.schema)
        at = pa.array(rows, pa.int64(), mask=np.asarray(rows) < 0)
        for name, _, data in self._controls:
            seen = given.column(name)
            if data and seen.null_count < given.num_rows:
                cells = _overlaid(samples.column(data.name), seen.take(at), data.type)
                samples = with_column(samples, data, cells)
        return samples

    def log_prob(self, model: Scoring, batch: Batch, seeds: Seeds) -> Array:
        """log p of each row in the data's units: float64 [n], in nats. Raises Unsupported where the model cannot."""
        if not isinstance(model, Scoring):
            raise Unsupported("this family has no log_prob")
        data = conform(batch, self.scored(batch.schema))
        mapped = conform(self.chain.apply(data), self.columns)
        return np.asarray(model.log_prob(mapped, seeds), np.float64) + self.chain.log_jacobian(data)

    def infer(self, model: Inferring, batch: Batch, seeds: Seeds) -> Batch:
        """What the model infers of each row, in the data's units. Raises Unsupported where the model cannot."""
        if not isinstance(model, Inferring):
            raise Unsupported("this family has no infer")
        data = conform(batch, self.scored(batch.schema))
        return self.chain.undo(model.infer(conform(self.chain.apply(data), self.columns), seeds))

    def scored(self, there: pa.Schema) -> pa.Schema:
        """The data's columns that are there, exact: log p is that of the value, not of its rounding."""
        return pa.schema([noted(field, decimals=None) for field in self.schema if field.name in there.names])


def _overlaid(made: Any, seen: Any, want: pa.DataType) -> Any:
    """What was made, with the given cells over it; in lists element by element, whose nulls stay as made."""
    if seen.null_count == len(seen):
        return made
    if isinstance(want, pa.BaseExtensionType):  # pixels, which if_else does not take
        cells = pc.if_else(pc.is_valid(seen), seen.storage, made.storage)
        return pa.ExtensionArray.from_storage(want, cells)
    if not (pa.types.is_list(want) or pa.types.is_large_list(want) or pa.types.is_fixed_size_list(want)):
        return pc.if_else(pc.is_valid(seen), seen.cast(want), made)
    merged = []
    for given, own in zip(seen.to_pylist(), made.to_pylist(), strict=True):
        if given is None:
            merged.append(own)
            continue
        merged.append([b if a is None else a for a, b in zip_longest(given, own or [])])
    return pa.array(merged, want)
