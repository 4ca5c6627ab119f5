"""Conditions from the command line, from Python and from files, as one batch with one row per sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import empty_batch, single_batch, with_column
from genreg.draft import Batch, Seeds
from genreg.errors import UsageError, did_you_mean
from genreg.form import Form, control, given_names
from genreg.images import each_image, encoded
from genreg.loading import open_source
from genreg.options import Option, typed
from genreg.sequences import gathered, named_by
from genreg.specs import DataLoader

MOST_BYTES = 1 << 30  # of the conditions of one run, which each sample carries

Elsewhere: TypeAlias = Callable[[str], str | None]  # where a control that is no condition has its home


@dataclass(frozen=True, eq=False)
class Given:
    """Conditions in the user's units, one row per sample; ``passed`` are columns of a file that go to the output."""

    batch: Batch
    from_file: bool = False
    passed: Batch | None = None
    seeds: Seeds = field(default_factory=lambda: np.empty(0, np.uint64))  # one per sample, once it is decided
    copies: int = 1  # samples for each row of a file

    def window(self, start: int, count: int) -> Given:
        """The conditions of ``count`` samples from ``start`` on, one row for each, with their seeds.

        Raises UsageError where they would take more than MOST_BYTES.
        """
        seeds = self.seeds[start : start + count]
        rows = np.arange(start, start + len(seeds)) // max(self.copies, 1)
        at = rows if self.from_file else np.zeros_like(rows)
        if (size := self.batch.nbytes // max(self.batch.num_rows, 1)) * len(at) > MOST_BYTES:
            way = "ask for fewer at a time, or give smaller images"
            raise UsageError(f"{len(at):,} samples cannot carry {size:,} bytes of conditions each: {way}")
        passed = taken(self.passed, at) if self.passed else None
        return replace(self, batch=taken(self.batch, at), passed=passed, seeds=seeds, copies=1)

    def over(self, defaults: Given) -> Given:
        """The same, with the defaults' one row where a condition is not set in any row."""
        batch = self.batch
        for target in batch.schema:
            default = defaults.batch.column(target.name)[0]
            if default.is_valid and batch.column(target.name).null_count == batch.num_rows:
                batch = with_column(batch, target, pa.array([default.as_py()] * batch.num_rows, target.type))
        return replace(self, batch=batch)

    def passing(self, schema: pa.Schema) -> pa.Schema:
        """The samples' schema with the passed columns put first."""
        extra: list[Any] = [f for f in self.passed.schema if f.name not in schema.names] if self.passed else []
        return pa.schema([*extra, *schema])

    def pass_through(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches of samples with the passed columns of the same rows put first."""
        start = 0
        for batch in batches:
            schema = self.passing(batch.schema)
            own = self.passed.slice(start, batch.num_rows) if self.passed else None
            columns = [batch.column(n) if n in batch.schema.names else own.column(n) for n in schema.names]  # type: ignore[union-attr]
            start += batch.num_rows
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def taken(batch: Batch, at: Any) -> Batch:
    """The rows at the indices, also of a batch without columns."""
    return batch.take(at) if batch.num_columns else empty_batch(batch.schema, len(at))


def read_given(
    form: Form,
    given: Any,
    values: Mapping[str, Any],
    loaders: Mapping[str, DataLoader],
    *,
    key: str | None = None,
    elsewhere: Elsewhere = lambda _: None,
) -> Given:
    """Given conditions from a mapping, a table (Arrow, pandas), a file, and single values that fill every row.

    Raises UsageError for a column that is no condition (unless ``key`` names it), a value of the wrong type, or one
    condition given twice.
    """
    if isinstance(given, Mapping):
        if twice := [name for name in values if name in given]:
            raise UsageError(f"given: {twice[0]} is given twice")
        values, given = {**given, **values}, None
    table, by = _table(given, loaders), named_by(form.schema)
    if table is not None and by in table.schema.names:
        table, key = _as_sequences(table, by, form, elsewhere), key or by
    rows = 1 if table is None else table.num_rows
    batch, passed, set_names = empty_batch(form.given, rows), None, set()
    if table is not None:
        values, through = filled_in(values, table, {key} if key else set())
        passed = table.select([name for name in table.schema.names if name in through]) if through else None
        for name in table.schema.names:
            if name in through:
                continue
            target = form.given.field(resolve_name(form, name, f"--given: the column {name}", elsewhere))
            if target.name in set_names:
                raise UsageError(f"--given: the column {name}: {target.name} is given twice")
            batch = with_column(batch, target, _cast(table.column(name), target, name))
            set_names.add(target.name)
        if key and key not in table.schema.names:
            raise UsageError(f"--key {key}: the given table has no column {key}{did_you_mean(key, table.schema.names)}")
    elif key:
        raise UsageError(f"--key {key} names a column of a --given FILE, and none is given")
    for name, value in values.items():
        target = form.given.field(resolve_name(form, name, _asked(name, value), elsewhere))
        if target.name in set_names:
            raise UsageError(f"{_asked(name, value)}: {target.name} is given twice")
        set_names.add(target.name)
        each = value if isinstance(value, Template) else [value]
        cells = [given_scalar(cell, target, name).as_py() for cell in each]
        batch = with_column(batch, target, pa.array(cells if len(cells) == rows else cells * rows, target.type))
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            raise UsageError(f"--given {name}: NaN and infinity cannot be given: leave out what is not known")
    return Given(batch, from_file=table is not None, passed=passed)


class Template(list[str]):
    """A value that a table has filled in, one text per row."""


PLACE = re.compile(r"(\{\{[^\W\d][\w .-]*\}\}|\{[^\W\d][\w .-]*\})")  # {column}; {{column}} is text in braces


def filled_in(values: Mapping[str, Any], table: Batch, used: set[str]) -> tuple[dict[str, Any], set[str]]:
    """Values with one text per row where ``{column}`` stands for that column's cell, and the columns ``used`` then.

    Braces around anything but a name are text. Raises UsageError for a name that is no column.
    """
    filled = dict(values)
    for name, value in values.items():
        parts = PLACE.split(value) if isinstance(value, str) else []
        columns = list(dict.fromkeys(part[1:-1] for part in parts[1::2] if not part.startswith("{{")))
        for column in columns:
            if column not in table.schema.names:
                close = did_you_mean(column, table.schema.names)
                why = f"the file has no column {column}{close} (for braces in the text, write {{{{{column}}}}})"
                raise UsageError(f"{_asked(name, value)}: {why}")
        if len(parts) > 1:
            whole, filled[name] = {part: part[1:-1] for part in parts[1::2]}, Template()
            for row in table.select(columns).to_pylist() if columns else [{}] * table.num_rows:
                cells = {f"{{{key}}}": "" if cell is None else str(cell) for key, cell in row.items()}
                filled[name].append("".join((whole | cells).get(part, part) for part in parts))
        used = used.union(columns)
    return filled, used


def _as_sequences(table: Batch, by: str, form: Form, elsewhere: Elsewhere) -> Batch:
    """A long table of conditions with one row per sequence; what is no list is said of a whole sequence."""
    constant = []
    for name in table.schema.names:
        if name != by:
            kind: Any = form.given.field(resolve_name(form, name, f"--given: the column {name}", elsewhere)).type
            constant += [] if pa.types.is_list(kind) else [name]
    source = gathered(pa.Table.from_batches([table]), by, constant)
    return single_batch(pa.Table.from_batches(list(source.scan()), source.schema))


def resolve_name(form: Form, name: str, asked: str, elsewhere: Elsewhere) -> str:
    """The column of ``given`` that a name means: a data column first, else a condition; ``@name`` is a control."""
    names, own = given_names(form.conditions), [condition.name for condition in form.conditions]
    controls = [control(c.name) if c.column is None else None for c in form.conditions]
    for spelled in ([condition.column for condition in form.conditions], names, controls, own):
        if name in spelled:
            return names[spelled.index(name)]
    known = [*names, *own]
    raise UsageError(f"{asked}: {elsewhere(name) or f'there is no condition {name}{did_you_mean(name, known)}'}")


def given_scalar(value: Any, target: pa.Field[Any], name: str) -> Any:
    """One value in the condition's type; text is read as that type. Raises UsageError naming condition and type."""
    kind = target.type
    try:
        if value is None:
            return pa.scalar(None, kind)
        if _holds_images(kind):
            return pa.scalar(encoded(value, _asked(name, value)), kind)
        if pa.types.is_list(kind) and _holds_images(kind.value_type):
            several = typed(Option(name, list), value, "--given ")
            return pa.scalar([encoded(one, _asked(name, one)) for one in several], kind)
        if not isinstance(value, str) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.scalar(value, kind)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return pa.scalar(typed(Option(name, list), value, "--given "), kind)
        return pa.scalar(value).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        raise UsageError(f"{_asked(name, value)}: {name} takes {kind}") from None


def _holds_images(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _asked(name: str, value: Any) -> str:
    """How a condition was given, at the head of a message."""
    return f"--given {name}={value}" if isinstance(value, (str, int, float, list, Path)) else f"--given {name}"


def _table(given: Any, loaders: Mapping[str, DataLoader]) -> Batch | None:
    if given is None:
        return None
    if isinstance(given, (str, Path)):
        if not Path(given).suffix and "://" not in str(given):
            raise UsageError(f"--given {given}: write NAME=VALUE, or a file such as {Path(given).name or 'rows'}.csv")
        source = open_source(given, loaders)
        given = pa.Table.from_batches(list(source.scan()), source.schema)
    return single_batch(as_table(given, "given takes a mapping, a table or a file"))


def as_table(rows: Any, wanted: str) -> pa.Table:
    """Rows at hand (Arrow or pandas) as a table; raises UsageError, beginning with ``wanted``, for anything else."""
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    if isinstance(rows, pa.Table):
        return rows
    raise UsageError(f"{wanted}, not {type(rows).__name__}")


def _cast(column: Any, target: pa.Field[Any], name: str) -> Any:
    several: Any = target.type
    if _holds_images(target.type) or (pa.types.is_list(several) and _holds_images(several.value_type)):
        cells = each_image(column) if isinstance(column.type, pa.BaseExtensionType) else column.to_pylist()
        return pa.array([None if cell is None else given_scalar(cell, target, name).as_py() for cell in cells], several)
    try:
        return column.cast(target.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        told = f"--given: the column {name} is {column.type}, and {target.name} takes {target.type}"
        raise UsageError(f"{told}: {' '.join(str(error).split())}") from None
