"""Parquet and Arrow: in the file a category is a dictionary.

In between it is its value type with the notes ``values`` (in order), ``dictionary`` (the index type) and ``ordered``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, guessed_rows, noted, notes, resized
from genreg.draft import Batch
from genreg.errors import DataError
from genreg.textfiles import head, require_distinct, sound

GROUP = 1 << 26  # bytes of rows written together, as guessed from the schema: a row group
ROWS = 65_536  # the most in a row group


def _decoded_schema(schema: pa.Schema, batches: Iterable[Batch]) -> pa.Schema:
    """Each dictionary as its value type and notes; the batches are those of the dictionary columns."""
    names = _dictionaries(schema)
    values = {name: dict.fromkeys(notes(schema.field(name)).get("values", [])) for name in names}  # ordered sets
    last: dict[str, Any] = {}
    for batch in batches if names else ():
        for name in names:
            column: Any = batch.column(name)
            if name not in last or not column.dictionary.equals(last[name]):
                last[name] = column.dictionary
                values[name].update(dict.fromkeys(column.dictionary.drop_null().to_pylist()))
    for name in names:
        at, entry = schema.get_field_index(name), schema.field(name)
        type_: Any = entry.type
        entry = entry.with_type(type_.value_type)
        if all(isinstance(value, str | int | float) for value in values[name]):  # what a note can hold
            index = str(type_.index_type)
            entry = noted(entry, values=[*values[name]], dictionary=index, ordered=type_.ordered or None)
        schema = schema.set(at, entry)
    return schema


def _dictionaries(schema: pa.Schema) -> list[str]:
    return [entry.name for entry in schema if pa.types.is_dictionary(entry.type)]


def _decoded(batches: Iterable[Batch], schema: pa.Schema) -> Iterator[Batch]:
    for batch in batches:
        columns: list[Any] = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in batch.columns]
        columns = [c if c.type == kind else c.cast(kind) for c, kind in zip(columns, schema.types, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def parquet(path: Path) -> Source:
    """Parquet, streamed; raises DataError where the file is damaged."""
    from pyarrow import parquet as arrow_parquet

    def batches(size: int, names: list[str] | None = None) -> Iterator[Batch]:
        with sound(path, "Parquet"), arrow_parquet.ParquetFile(path) as file:
            yield from file.iter_batches(size, columns=names)

    head(path)
    with sound(path, "Parquet"), arrow_parquet.ParquetFile(path) as file:
        found, rows = _as_written(file.schema_arrow, file.metadata.metadata), file.metadata.num_rows
    require_distinct(path, found.names)
    schema = _decoded_schema(found, batches(ROWS, _dictionaries(found)))
    return Source(schema, lambda size: resized(_decoded(batches(size), schema), schema, size), rows)


def _as_written(schema: pa.Schema, metadata: Any) -> pa.Schema:
    """With what Parquet has no name for: seconds, dates in milliseconds, and what lists and maps call their items."""
    if stored := (metadata or {}).get(b"ARROW:schema"):
        written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored)))
        for at, field in enumerate(written if written.names == schema.names else ()):
            if pa.types.is_temporal(field.type) or pa.types.is_nested(field.type):
                with suppress(pa.ArrowException):  # another writer's may say what the rows cannot be brought to
                    pa.nulls(0, schema.field(at).type).cast(field.type)
                    schema = schema.set(at, schema.field(at).with_type(field.type))
    return schema


def arrow(path: Path) -> Source:
    """Arrow IPC, a file (Feather) or a stream; raises DataError where it is damaged."""
    opened: Any = pa.ipc.open_file if head(path).startswith(b"ARROW1") else pa.ipc.open_stream

    def batches() -> Iterator[Batch]:
        with sound(path, "Arrow IPC"), pa.memory_map(str(path)) as file:
            reader = opened(file)
            each = map(reader.get_batch, range(reader.num_record_batches)) if hasattr(reader, "get_batch") else reader
            for batch in each:
                batch.validate(full=True)  # a damaged offset would be followed out of the file
                yield batch

    with sound(path, "Arrow IPC"), pa.memory_map(str(path)) as file:
        found = opened(file).schema
    require_distinct(path, found.names)
    rows = sum(batch.num_rows for batch in batches())
    schema = _decoded_schema(found, batches())
    return Source(schema, lambda size: resized(_decoded(batches(), schema), schema, size), rows)


def _encoded_schema(schema: pa.Schema) -> pa.Schema:
    for at, entry in enumerate(schema):
        known = notes(entry)
        if "dictionary" in known and "values" in known:
            index: Any = pa.type_for_alias(known["dictionary"])
            schema = schema.set(at, entry.with_type(pa.dictionary(index, entry.type, bool(known.get("ordered")))))
    return schema


def _encoded(batches: Iterable[Batch], schema: pa.Schema) -> Iterator[Batch]:
    """Batches whose rows the schema alone decides; noted dictionaries are dictionaries, the same in all batches."""
    goal = _encoded_schema(schema)
    fields = {name: schema.field(name) for name in _dictionaries(goal)}
    shared = {name: pa.array(notes(entry)["values"], entry.type) for name, entry in fields.items()}
    for batch in resized(batches, schema, guessed_rows(schema, GROUP, ROWS)):
        columns: dict[str, Any] = dict(zip(schema.names, batch.columns, strict=True))
        for name, values in shared.items():
            codes = pc.index_in(columns[name], values)
            strange = columns[name].filter(pc.and_(pc.is_null(codes), pc.is_valid(columns[name])))
            if len(strange):
                raise DataError(f"column {name} holds {strange[0]}, which is not among the values noted for it")
            type_: Any = goal.field(name).type
            columns[name] = pa.DictionaryArray.from_arrays(codes.cast(type_.index_type), values, ordered=type_.ordered)
        yield pa.RecordBatch.from_arrays([*columns.values()], schema=goal)


NOT_PARQUET = r"interval|union|run_end_encoded|decimal\d+\(\d+, -"
NOT_ARROW = r"run_end_encoded|_view"  # Arrow holds these, and cannot take rows of them


def _refuse_types(schema: pa.Schema, kind: str, refused: str) -> None:
    """Raise DataError for the first column whose type, or one within it, is among the refused."""
    for one in schema:
        if re.search(refused, str(one.type)):
            raise DataError(f"column {one.name} holds {one.type}, which {kind} cannot hold: cast it to a plain type")


def write_parquet(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write Parquet with all metadata."""
    from pyarrow import parquet as arrow_parquet

    _refuse_types(schema, "Parquet", NOT_PARQUET)
    with arrow_parquet.ParquetWriter(path, _encoded_schema(schema)) as writer:
        for batch in _encoded(batches, schema):
            writer.write_batch(batch)


def write_arrow(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write an Arrow IPC file with all metadata."""
    _refuse_types(schema, "an Arrow file", NOT_ARROW)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _encoded_schema(schema)) as writer:
        for batch in _encoded(batches, schema):
            writer.write_batch(batch.take(pa.array(range(batch.num_rows))))  # in buffers of its own: the same bytes
