"""Source: a re-iterable stream of batches with one schema; field metadata; the split into parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from genreg.draft import Array, Batch
from genreg.errors import DataError, UsageError, did_you_mean

Part: TypeAlias = Literal["all", "train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
EXACT_SHARES_BELOW = 100_000  # rows: below, parts follow from the rank of the hash; from there on, from a threshold
SPOOL_ABOVE = 1 << 28  # bytes of rows held in memory; what is larger lies in a file and is mapped
BLOCK = 4096  # rows that a shuffle moves together, or fewer where they are large
BUFFER = 16  # blocks that a shuffle mixes
UNSPOOLED = "only a source over a table can be shuffled: spool it first"
HELD = 1 << 28  # bytes that a shuffle or a scan holds at a time


@dataclass(frozen=True, eq=False)
class Source:
    """A re-iterable stream of batches with one schema, tagged with the part of the data that it is.

    ``read(size)`` yields batches of at most ``size`` rows in order. A source over a ``table`` can also be shuffled.
    """

    schema: pa.Schema
    read: Callable[[int], Iterator[Batch]]
    rows: int | None = None
    part: Part = "all"
    table: pa.Table | None = None
    through: tuple[Callable[[Batch], Batch], ...] = ()
    skipped: MutableMapping[str, str] = dataclass_field(default_factory=dict)  # what a pass left out as broken, and why

    @classmethod
    def of(cls, table: pa.Table, part: Part = "all") -> Source:
        """A source over rows at hand (in memory or mapped from a file)."""
        return cls(table.schema, lambda size: iter(table.to_batches(max_chunksize=size)), table.num_rows, part, table)

    def map(self, function: Callable[[Batch], Batch]) -> Source:
        """The same rows, each batch passed through ``function``, which keeps the number of rows."""
        schema = function(empty_batch(self.schema)).schema
        return replace(self, schema=schema, through=(*self.through, function))

    def batches(self, *, size: int, shuffle: int | None = None, start: int = 0) -> Iterator[Batch]:
        """Batches of ``size`` rows (the last may be shorter), from row ``start`` of the order on.

        With ``shuffle``, a seed, the order of blocks and the mixing within a buffer of blocks follow from it alone.
        A source that is not over a table may yield shorter batches on the way.
        """
        for batch in self._whole(size, start) if shuffle is None else self._shuffled(size, shuffle, start):
            for function in self.through:
                batch = function(batch)
            yield batch

    def scan(self) -> Iterator[Batch]:
        """Every row once, in batches bounded in rows and bytes."""
        if self.table is not None:
            return self.batches(size=rows_within(self.table, HELD, 65_536))
        large = any(isinstance(f.type, pa.BaseExtensionType) or pa.types.is_binary(f.type) for f in self.schema)
        return self.batches(size=256 if large else 65_536)  # images: nobody knows how large before they are read

    def _whole(self, size: int, start: int) -> Iterator[Batch]:
        if self.table is not None:
            for at in range(start, self.table.num_rows, size):
                yield single_batch(self.table.slice(at, size))
            return
        for batch in self.read(size):
            if start < batch.num_rows:
                yield batch.slice(max(start, 0))
            start -= batch.num_rows

    def order(self, seed: int) -> npt.NDArray[np.int64]:
        """The row numbers in the order that ``batches`` yields them when shuffled: int64 [rows]."""
        buffers = [np.concatenate([np.arange(at, at + n) for at, n in spans])[i] for spans, i in self._buffers(seed)]
        return np.concatenate([np.empty(0, np.int64), *buffers])

    def _buffers(self, seed: int) -> Iterator[tuple[list[tuple[int, int]], npt.NDArray[np.int64]]]:
        """What a shuffle mixes at a time: blocks of rows as (start, count), and the order of their rows."""
        assert self.table is not None, UNSPOOLED
        table, rows = self.table, self.table.num_rows
        block = rows_within(table, HELD // BUFFER, BLOCK)
        blocks = shuffled(-(-rows // block), seed, step=0).tolist()
        for buffer, at in enumerate(range(0, len(blocks), BUFFER)):
            spans = [(number * block, min(block, rows - number * block)) for number in blocks[at : at + BUFFER]]
            yield spans, shuffled(sum(count for _, count in spans), seed, step=buffer + 1)

    def _shuffled(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        assert self.table is not None, UNSPOOLED
        table = self.table

        def mixed(skipped: int) -> Iterator[Batch]:
            for spans, order in self._buffers(seed):
                if skipped < len(order):
                    blocks = pa.concat_tables([table.slice(*span) for span in spans])
                    yield from blocks.take(order[skipped:]).to_batches()
                skipped = max(skipped - len(order), 0)

        return resized(mixed(start), table.schema, size)


def shuffled(count: int, seed: int, *, step: int) -> npt.NDArray[np.int64]:
    """A permutation of range(count) that follows from the seed and the step alone."""
    from genreg.random import Stream, bits

    return np.argsort(bits(np.array([seed], np.uint64), count, stream=Stream.SHUFFLE, step=step)[0], kind="stable")


def rows_within(table: pa.Table, bytes_: int, most: int) -> int:
    """How many of the table's rows fit in so many bytes: a power of two, at most ``most``."""
    fit = bytes_ * table.num_rows // max(table.nbytes, 1)
    return min(most, 1 << max(fit.bit_length() - 1, 0)) if table.num_rows else most


def spool(source: Source, folder: Path, name: str = "rows", *, above: int | None = None) -> Source:
    """The same rows at hand: in memory, or above so many bytes (SPOOL_ABOVE) in ``folder``/``name``.arrow, mapped."""
    if source.table is not None and not source.through:
        return source
    held: list[Batch] = []
    size, writer = 0, None
    path, unfinished = folder / f"{name}.arrow", folder / f"{name}.arrow.part"
    with ExitStack() as opened:
        for batch in source.scan():
            held.append(batch)
            size += batch.nbytes
            if size > (SPOOL_ABOVE if above is None else above):
                writer = writer or opened.enter_context(pa.ipc.new_file(str(unfinished), source.schema))
                writer.write_table(pa.Table.from_batches(held, source.schema))
                held, size = [], 0
        if writer is not None:
            writer.write_table(pa.Table.from_batches(held, source.schema))
    if writer is None:
        return Source.of(pa.Table.from_batches(held, source.schema), source.part)
    unfinished.replace(path)  # a new file: what an earlier source has mapped stays as it is
    return Source.of(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), source.part)


def chosen_rows(source: Source, chosen: npt.NDArray[np.bool_], part: Part) -> Source:
    """The rows of ``source`` that are chosen (bool [rows]), as a part; read through, never held."""

    def read(size: int) -> Iterator[Batch]:
        start = 0
        for batch in source.batches(size=size):
            yield batch.filter(pa.array(chosen[start : start + batch.num_rows]))
            start += batch.num_rows

    return Source(source.schema, read, int(chosen.sum()), part)


def single_batch(table: pa.Table) -> Batch:
    """A table's rows as one batch, also where it has none."""
    if not table.num_rows:
        return empty_batch(table.schema)
    (batch,) = table.combine_chunks().to_batches()
    return batch


def resized(batches: Iterable[Batch], schema: pa.Schema, size: int) -> Iterator[Batch]:
    """The same rows in batches of exactly ``size``, the last one shorter."""
    held: list[Batch] = []
    rows = 0
    for batch in batches:
        at = 0
        while at < batch.num_rows:
            held.append(batch.slice(at, size - rows))
            at, rows = at + held[-1].num_rows, rows + held[-1].num_rows
            if rows == size:
                yield single_batch(pa.Table.from_batches(held, schema))
                held, rows = [], 0
    if held:
        yield single_batch(pa.Table.from_batches(held, schema))


def guessed_rows(schema: pa.Schema, size: int, most: int) -> int:
    """How many rows take about ``size`` bytes, 1 to ``most``: guessed from the types alone, so that it never varies."""
    return max(1, min(most, size // (1 + sum(_width(field.type) for field in schema))))


def _width(kind: Any) -> int:
    """About how many bytes a cell takes: exact where the type has one size."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if types.is_struct(kind):
        return sum(_width(field.type) for field in kind)
    try:
        return -(-int(kind.bit_width) // 8)
    except ValueError:  # text, a list, or binary, which is an encoded image
        return 1 << 18 if types.is_binary(kind) or types.is_large_binary(kind) else 256


def empty_batch(schema: pa.Schema, rows: int = 0) -> Batch:
    """A batch of ``rows`` nulls in each field (and of ``rows`` rows, also where there are no fields)."""
    if not len(schema):
        return no_columns(rows)
    return pa.RecordBatch.from_arrays([pa.nulls(rows, field.type) for field in schema], schema=schema)


def no_columns(rows: int) -> Batch:
    """A batch that has rows and no columns."""
    rows_only: Any = pa.StructArray.from_buffers(pa.struct([]), rows, [None])
    return pa.RecordBatch.from_struct_array(rows_only)


def with_column(batch: Batch, field: pa.Field[Any], values: Any) -> Batch:
    """The batch with one column put in its old place, or added at the end."""
    at = batch.schema.get_field_index(field.name)
    if at >= 0:
        return batch.set_column(at, field, values)
    if not batch.num_columns:
        return pa.RecordBatch.from_arrays([values], schema=pa.schema([field]))
    return batch.append_column(field, values)


# ---- field metadata: what a type cannot hold ----


def notes(field: pa.Field[Any]) -> dict[str, Any]:
    """What is noted at a field: role, unit, decimals, values (of a category, in order), dictionary."""
    raw = (field.metadata or {}).get(b"genreg")
    return dict(json.loads(raw)) if raw else {}


def noted(field: pa.Field[Any], **changes: Any) -> pa.Field[Any]:
    """The field with notes added; None takes one away."""
    found = {key: value for key, value in {**notes(field), **changes}.items() if value is not None}
    rest: dict[bytes | str, bytes | str] = {k: v for k, v in (field.metadata or {}).items() if k != b"genreg"}
    if found:
        rest[b"genreg"] = json.dumps(found, ensure_ascii=False).encode()
    return field.remove_metadata().with_metadata(rest) if rest else field.remove_metadata()


def named_with_role(schema: pa.Schema, role: str) -> str | None:
    """The name of the column that has the role, if any."""
    return next((field.name for field in schema if notes(field).get("role") == role), None)


def require_columns(schema: pa.Schema, names: Sequence[str], option: str) -> None:
    """Raise DataError where a column that ``option`` names is not there."""
    for name in names:
        if name not in schema.names:
            raise DataError(f"{option} {name}: the data has no column {name}{did_you_mean(name, schema.names)}")


# ---- generated columns take the form of the data's ----


def conform(batch: Batch, schema: pa.Schema) -> Batch:
    """Cast every column to the schema: floats rounded before they become whole numbers or dates, clipped to the type.

    A column that is missing is null. Float columns are rounded to their noted decimals.
    """
    there = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns = [
        conform_column(there[f.name], f) if f.name in there else pa.nulls(batch.num_rows, f.type) for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema) if len(schema) else no_columns(batch.num_rows)


def conform_column(column: Any, field: pa.Field[Any]) -> Any:
    """One column in the field's type, rounded and clipped; lists element by element."""
    want: Any = field.type
    if column.type == want and not field.metadata:
        return column
    if pa.types.is_list(column.type) and pa.types.is_list(want) and not pa.types.is_nested(want.value_type):
        cells, lengths = conform_column(column.flatten(), field.with_type(want.value_type)), column.value_lengths()
        ends = np.cumsum(lengths.fill_null(0).to_numpy(zero_copy_only=False))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, cells, type=want, mask=column.is_null())
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        if pa.types.is_boolean(want):
            return pc.greater(column, 0.5)
        if pa.types.is_integer(want) or pa.types.is_temporal(want):
            whole = want if pa.types.is_integer(want) else pa.int32() if want.bit_width == 32 else pa.int64()
            numbers = _whole_numbers(column, whole)
            if pa.types.is_time(want):  # a time lies within one day
                day = 86_400 * 1000 ** ("s", "ms", "us", "ns").index(want.unit)
                numbers = pc.max_element_wise(numbers, 0, skip_nulls=False)
                numbers = pc.min_element_wise(numbers, day - 1, skip_nulls=False).cast(whole)
            return numbers.cast(want)
        decimals = notes(field).get("decimals")
        if decimals is not None and pa.types.is_floating(want):
            column = _rounded(column.cast(pa.float64()), decimals)  # float32 has no 1.3 to widen
    if pa.types.is_floating(want):
        column = untimed(column)
    if column.type == want:
        return column
    return column.cast(want, safe=not pa.types.is_floating(want))


def _rounded(column: Any, decimals: int) -> Any:
    """float64 rounded half to even, to the number that its decimals spell: Arrow's round makes -200.17000000000002."""
    values, scale = column.to_numpy(zero_copy_only=False), 10.0**decimals
    near = np.abs(values) < 2**53 / scale
    rounded = np.where(near, np.rint(np.where(near, values, 0.0) * scale) / scale, values)
    return pa.array(rounded, pa.float64(), mask=np.asarray(column.is_null()))


def _whole_numbers(column: Any, want: pa.DataType) -> Any:
    """Rounded half to even and clipped to the range of ``want``, exactly at its ends; NaN is null."""
    bounds = np.iinfo(np.dtype(str(want)))
    values = column.to_numpy(zero_copy_only=False)
    null = np.asarray(column.is_null(nan_is_null=True))
    rounded = np.rint(np.where(null, 0.0, values).astype(np.float64))
    low, high = rounded <= float(bounds.min), rounded >= float(bounds.max)
    whole = np.where(low | high, 0.0, rounded).astype(bounds.dtype)
    whole[low], whole[high] = bounds.min, bounds.max
    return pa.array(whole, want, mask=null)


def untimed(column: Any) -> Any:
    """Dates and times as the whole numbers that they are held as; other columns as they are."""
    if not pa.types.is_temporal(column.type) or pa.types.is_interval(column.type):
        return column
    return column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())


def floats(batch: Batch, name: str) -> Array:
    """A column as float64 [n], null as NaN; raises DataError where float64 cannot hold a value exactly."""
    column = batch.column(batch.schema.get_field_index(name))
    column = untimed(column)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise DataError(f"column {name} holds {column.type}, not numbers: leave it out with --drop {name}")
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid:
        raise DataError(
            f"column {name} holds whole numbers beyond 2^53, which float64 cannot hold exactly: "
            f"leave it out with --drop {name}, or name it as --key {name}"
        ) from None
    return np.array(numbers.to_numpy(zero_copy_only=False), np.float64)


def refuse_not_finite(batch: Batch) -> None:
    """Raise DataError naming the first column that has NaN or infinity, which are not null."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        cells: Any = column
        while pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
            cells = cells.flatten()
        if pa.types.is_floating(cells.type) and not pc.all(pc.is_finite(cells), skip_nulls=True, min_count=0).as_py():
            raise DataError(
                f"column {field.name} has NaN or infinity, which are not missing values: "
                f"clip them with --preprocess clip:columns={field.name}, or --drop {field.name}"
            )


# ---- the split: a row's part follows from its content ----


def parse_split(text: str) -> dict[Part, float]:
    """``70/15/15`` as shares of train, validation and test; raises UsageError.

    >>> parse_split("80/20")
    {'train': 0.8, 'validation': 0.2}
    """
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        shares = []
    if not 1 <= len(shares) <= 3 or min(shares) < 0 or shares[0] <= 0 or not np.isfinite(sum(shares)):
        raise UsageError(f"--split {text}: write the shares of train, validation and test, such as 70/15/15")
    return {part: share / sum(shares) for part, share in zip(PARTS, shares, strict=False)}


def row_hashes(batch: Batch, columns: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """A hash of (seed, the canonical values of the columns) for each row, whatever types they are held in."""
    texts = []
    for name in sorted(columns):
        column = _widened(batch.column(batch.schema.get_field_index(name)))
        if isinstance(column, pa.FixedShapeTensorArray):
            texts.append(tensor_bytes(column))
        else:
            texts.append([None if value is None else canonical(value) for value in column.to_pylist()])
    prefix = f"{seed}\x1e".encode()
    digests = b"".join(
        hashlib.blake2b(prefix + ascii(row).encode(), digest_size=8).digest() for row in zip(*texts, strict=True)
    )
    return np.frombuffer(digests, "<u8")


def _widened(column: Any) -> Any:
    """float32 as the shortest float64 that it may have been read from; times as text without their unit or zone."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _widened(column.dictionary_decode())
    if pa.types.is_float32(kind):
        return column.cast(pa.string()).cast(pa.float64())
    if pa.types.is_list(kind) and pa.types.is_float32(kind.value_type):
        return column.cast(pa.list_(pa.string())).cast(pa.list_(pa.float64()))
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp(kind.unit))
    elif not pa.types.is_time(kind):
        return column
    text = pc.replace_substring_regex(column.cast(pa.string()), r"(\.\d*[1-9])0+$|\.0+$", r"\1")
    return pc.replace_substring_regex(text, " 00:00:00$", "")  # midnight is the date


def tensor_bytes(column: Any) -> list[bytes | None]:
    """The cells of a column of tensors as bytes."""
    rows = (row.tobytes() for row in column.drop_null().to_numpy_ndarray())
    return [next(rows) if there else None for there in column.is_valid().to_pylist()]


def canonical(value: Any) -> Any:
    """One spelling per value: 5 and 5.0 are the same number, -0 is 0; text, dates and bytes are themselves."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else repr(float(value))
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (list, tuple)):
        return [None if item is None else canonical(item) for item in value]
    if isinstance(value, dict):
        return [(name, None if item is None else canonical(item)) for name, item in sorted(value.items())]
    return value if isinstance(value, bytes) else str(value)


def assign_parts(
    source: Source,
    shares: Mapping[Part, float],
    *,
    seed: int,
    key: str | None = None,
    group: str | None = None,
    label: str | None = None,
) -> npt.NDArray[np.int8]:
    """The index into PARTS of each row: int8 [rows].

    The unit that stays together is the group, else the key, else all equal rows. Below EXACT_SHARES_BELOW rows the
    units of each class are ranked by hash, so that shares are exact to one unit; from there on the hash is compared
    with a threshold.
    """
    chosen = [name for name in (group or key,) if name] or source.schema.names
    hashes, classes = [], []
    for batch in source.scan():
        hashes.append(row_hashes(batch, chosen, seed))
        if label and not group:
            classes.append(row_hashes(batch, [label], 0))
    bounds = np.cumsum([shares.get(part, 0.0) for part in PARTS])[:-1]
    if sum(map(len, hashes)) >= EXACT_SHARES_BELOW:  # batch by batch: 9 bytes a row are held
        below = [np.searchsorted(bounds, (own >> 11) * 2.0**-53, side="right").astype(np.int8) for own in hashes]
        return np.concatenate([np.empty(0, np.int8), *below])
    hashed = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    parts = np.zeros(len(hashed), np.int8)
    labels = np.concatenate(classes) if classes else np.zeros(len(hashed), np.uint64)
    _, unit = np.unique(hashed, return_inverse=True)
    class_of = np.full(len(hashed), np.iinfo(np.uint64).max)  # of each unit: a key's rows may have several labels
    np.minimum.at(class_of, unit, labels)
    labels = class_of[unit]
    for value in np.unique(labels):
        of_class = np.flatnonzero(labels == value)
        _, unit, sizes = np.unique(hashed[of_class], return_inverse=True, return_counts=True)
        middle = (np.cumsum(sizes) - sizes / 2) / len(of_class)
        parts[of_class] = np.searchsorted(bounds, middle, side="right")[unit].astype(np.int8)
    return parts
