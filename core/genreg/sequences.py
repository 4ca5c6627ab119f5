"""Long tables, whose rows are steps: gathered into one row per sequence, and spread again when samples are written.

A gathered table's columns are lists, one cell a step, or scalars that hold for a whole sequence. Each notes in
``sequence_by`` what spreads it again: the column that names sequences, its type, and whether it stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, noted, notes, require_columns
from genreg.draft import Array, Batch
from genreg.errors import DataError, PluginError

STEPS = 1 << 20  # gathered at a time, or one sequence


def named_by(schema: pa.Schema) -> str | None:
    """The column that named the sequences of a long table; None where the rows were no steps."""
    return next((str(found["column"]) for field in schema if (found := notes(field).get("sequence_by"))), None)


# ---- from steps to sequences ----


def gathered(table: pa.Table, by: str, constant: Sequence[str] = ()) -> Source:
    """One row for each value of ``by``, in the order in which the values first appear, its steps in file order.

    The ``constant`` columns stay scalars. Raises DataError where ``by`` is missing, null or no name, there is nothing
    to gather, or a constant column varies within a sequence.
    """
    require_columns(table.schema, [by], "--sequence-by")
    if len(table.schema) == 1:
        raise DataError(f"--sequence-by {by}: the data has no other column, so its sequences would hold nothing")
    if not table.num_rows:
        raise DataError(f"--sequence-by {by}: the data has no rows, so there are no sequences")
    codes = _codes(table, by)
    order, lengths = np.argsort(codes, kind="stable"), np.bincount(codes)
    ends = np.cumsum(lengths)
    for name in constant:
        _refuse_varying(table, name, by, codes, order[ends - lengths])
    at = table.schema.names.index(by)
    fields = [
        _gathered_field(field, table.schema.field(by), behind=number > at, scalar=field.name in {by, *constant})
        for number, field in enumerate(table.schema)
    ]
    schema = pa.schema(fields)

    def read(size: int) -> Iterator[Batch]:
        first = 0
        while first < len(ends):
            begin = ends[first] - lengths[first]
            last = min(first + size, max(first + 1, int(np.searchsorted(ends, begin + STEPS, side="right"))))
            rows = table.take(pa.array(order[begin : ends[last - 1]])).combine_chunks()
            offsets = np.concatenate([[0], ends[first:last] - begin])
            yield _as_rows(rows, schema, offsets)
            first = last

    return Source(schema, read, len(ends))


def as_sequences(source: Source, schema: pa.Schema) -> Source:
    """A long table gathered as that was which the model of ``schema`` learned from."""
    by = named_by(schema)
    assert by is not None
    listed = {field.name for field in schema if pa.types.is_list(field.type)}
    table = pa.Table.from_batches(list(source.scan()), source.schema)
    return gathered(table, by, [n for n in source.schema.names if n != by and n in schema.names and n not in listed])


def _codes(table: pa.Table, by: str) -> npt.NDArray[np.int64]:
    """The number of each row's sequence, by first appearance: int64 [rows]."""
    column = table.column(by)
    if missing := pc.sum(pc.is_null(column, nan_is_null=True)).as_py():
        rows = f"{missing:,} rows have no value" if missing > 1 else "a row has no value"
        raise DataError(f"--sequence-by {by}: {rows}, so nobody knows which sequence it belongs to")
    if pa.types.is_nested(column.type) or isinstance(column.type, pa.BaseExtensionType):
        raise DataError(f"--sequence-by {by}: the column holds {column.type}, which names no sequence")
    kind: Any = column.type
    values: Any = column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column
    found = values.combine_chunks().dictionary_encode()
    return np.asarray(found.indices, np.int64)


def _refuse_varying(table: pa.Table, name: str, by: str, codes: Array, first: Array) -> None:
    column = table.column(name)
    told = column.take(pa.array(first)).take(pa.array(codes))
    same = pc.or_(pc.fill_null(pc.equal(column, told), False), pc.and_(pc.is_null(column), pc.is_null(told)))
    if not pc.all(same).as_py():
        where = table.column(by)[pc.index(same, False).as_py()].as_py()
        raise DataError(
            f"column {name} varies within the sequence {where} of --sequence-by {by}, and what is said of a whole "
            f"sequence has one value: name a column that does not, or leave out the option that names it"
        )


def _gathered_field(field: Any, by: Any, *, behind: bool, scalar: bool) -> Any:
    if field.name == by.name:
        return field
    note = {"column": by.name, "type": _type_name(by.type), "behind": behind}
    return noted(field if scalar else field.with_type(pa.list_(field.type)), sequence_by=note)


def _as_rows(rows: pa.Table, schema: pa.Schema, offsets: Array) -> Batch:
    columns: list[Any] = []
    for field, column in zip(schema, rows.columns, strict=True):
        whole: Any = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
        if field.type == column.type:
            columns.append(whole.take(pa.array(offsets[:-1])))
        else:
            columns.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), whole, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


# ---- from sequences to steps ----


def spread_schema(schema: pa.Schema, names: Array) -> pa.Schema:
    """The long table's schema, in the order of the data's; ``names`` [n] are the numbers that samples are named by."""
    by = named_by(schema)
    assert by is not None
    before: list[Any] = []
    behind: list[Any] = []
    kind: Any = None
    for field in schema:
        found = notes(field).get("sequence_by")
        if not found:
            if field.name != by:
                behind.append(field)
            continue
        kind = found["type"]
        step = field.with_type(field.type.value_type) if pa.types.is_list(field.type) else field
        (behind if found["behind"] else before).append(noted(step, sequence_by=None))
    own = schema.field(by) if by in schema.names else pa.field(by, _fitting(kind, names))
    return pa.schema([*before, own, *behind])


def spread(batches: Iterable[Batch], schema: pa.Schema, names: Array) -> Iterator[Batch]:
    """Batches with one row per step: of gathered columns, what they list; of others, their value at each step.

    A sequence is named by its cell of the column that names them where that is there, else by ``names`` [n].
    """
    long, at = spread_schema(schema, names), 0
    by = named_by(schema)
    for batch in batches:
        own = names[at : at + batch.num_rows]
        at += batch.num_rows
        lists = [name for name in batch.schema.names if pa.types.is_list(schema.field(name).type)]
        lengths = [pc.fill_null(pc.list_value_length(batch.column(name)), 0).to_numpy() for name in lists]
        if any((other != lengths[0]).any() for other in lengths[1:]):
            raise PluginError("the model made lists of unequal length in one row, which a long table cannot hold")
        row = pa.array(np.repeat(np.arange(batch.num_rows), lengths[0] if lengths else 1))
        columns: list[Any] = []
        for field in long:
            if field.name in lists:
                columns.append(pc.list_flatten(batch.column(field.name)))
            elif field.name == by and by not in batch.schema.names:
                columns.append(pa.array(own).cast(field.type).take(row))
            else:
                columns.append(batch.column(field.name).take(row))
        yield pa.RecordBatch.from_arrays(columns, schema=long)


def _type_name(kind: Any) -> str:
    """``string``, or the type of whole numbers that can name samples."""
    if pa.types.is_integer(kind):
        return str(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return "string" if text or pa.types.is_dictionary(kind) else "int64"


def _fitting(kind: str, names: Array) -> pa.DataType:
    """The type of the column that named the sequences, or a wider one where a number does not fit."""
    if kind == "string":
        return pa.string()
    most = int(names.max(initial=0))
    kinds = [np.dtype(name) for name in (kind, "int64", "uint64")]
    return pa.from_numpy_dtype(next(one for one in kinds if most <= np.iinfo(one).max))
