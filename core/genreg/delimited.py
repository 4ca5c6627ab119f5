"""CSV and TSV, read twice in bounded memory: a first pass settles each column's type, a second one reads with it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, resized, single_batch
from genreg.draft import Batch
from genreg.errors import DataError
from genreg.schemafile import beside, known_schema
from genreg.spelling import FALSE, READ, TEXT, TRUE, Column, join, refuse_nested, respelled, spelled, write_lines
from genreg.textfiles import Utf8, codec_of, opened, require_distinct, unpacked_name, wrong_encoding

BLOCK = 1 << 21  # bytes of text parsed at a time: no CSV row may be longer


@dataclass(frozen=True)
class Layout:
    """How one CSV file is written down."""

    path: Path
    encoding: str
    delimiter: str
    null: list[str]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows as Python reads them, each with its last line: slow, for the header and for errors."""
        import csv as python_csv

        try:
            with io.TextIOWrapper(opened(self.path), self.encoding, newline="") as file:
                first = file.readline().removeprefix("\ufeff")
                reader = python_csv.reader(itertools.chain([first], file), delimiter=self.delimiter)
                yield from ((reader.line_num, row) for row in reader if row)
        except UnicodeError:
            raise wrong_encoding(self.path, "csv", self.encoding) from None
        except python_csv.Error as error:
            raise DataError(f"{self.path.name} cannot be read as CSV: {error}") from None

    def header(self) -> list[str]:
        """The names of the columns; raises DataError where they are missing or not distinct."""
        names = next((row for _, row in self.rows()), [])
        if not names:
            raise DataError(f"{self.path.name} is empty")
        require_distinct(self.path, names)
        return names

    def batches(self, schema: pa.Schema) -> Iterator[Batch]:
        """The rows as the schema says; raises DataError at the first that does not fit."""
        from pyarrow import csv as arrow_csv

        ragged: list[Any] = []
        parse = arrow_csv.ParseOptions(
            delimiter=self.delimiter,
            newlines_in_values=True,
            ignore_empty_lines=len(schema) > 1,  # in a single column an empty line is a null
            invalid_row_handler=lambda row: "error" if ragged.append(row) is None else "skip",  # type: ignore[func-returns-value]
        )
        convert = arrow_csv.ConvertOptions(
            column_types={field.name: field.type if field.type in READ else pa.string() for field in schema},
            null_values=["", *self.null],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=TRUE,
            false_values=FALSE,
        )
        read = arrow_csv.ReadOptions(block_size=4 * BLOCK)
        try:
            file: Any = Utf8(self.path, self.encoding)
            with closing(file), arrow_csv.open_csv(file, read, parse, convert) as reader:
                if reader.schema.names != schema.names:
                    raise DataError(f"{self.path.name}: the header cannot be read: it gives {reader.schema.names}")
                for batch in reader:
                    columns = [respelled(*pair) for pair in zip(batch.columns, schema.types, strict=True)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except UnicodeError:
            raise wrong_encoding(self.path, "csv", self.encoding) from None
        except (pa.ArrowInvalid, OSError) as error:
            if "Empty CSV file" not in str(error):  # what arrow says of a header without a newline
                raise self._problem(str(error), len(schema), bool(ragged)) from None

    def _problem(self, reason: str, expected: int, ragged: bool) -> DataError:
        if "straddl" in reason:
            return DataError(f"{self.path.name}: a quote is not closed, or a row is longer than {BLOCK:,} bytes")
        for number, (line, row) in enumerate(self.rows() if ragged else ()):
            if len(row) != expected:
                where = f"{self.path.name}: row {number} (line {line})"
                return DataError(f"{where} has {len(row)} columns, and the header has {expected}")
        known = f" (with the types of {beside(self.path).name})" if beside(self.path).is_file() else ""
        return DataError(f"{self.path.name} cannot be read as CSV{known}: {reason}")


def csv(
    path: Path | Sequence[Path], *, encoding: str = "utf-8", delimiter: str = "", null: str | list[str] = ""
) -> Source:
    """Comma- or tab-separated values with a header; several files are one table.

    The delimiter is a tab for ``.tsv``, else a comma, unless given. Missing are empty cells and the words of ``null``,
    where they have no quotes. Whole numbers are exact; leading zeros, and what is beyond uint64, stay text; NaN is a
    float; a column without a value is text. Float columns note their decimals. What lies in a schema file
    beside it (see ``schemafile``) is not asked of the cells. Raises DataError.
    """
    paths = [path] if isinstance(path, Path) else [*path]
    mark = {"tab": "\t", "\\t": "\t", "": _mark(paths[0])}.get(delimiter, delimiter)
    if len(mark) != 1 or not mark.isascii() or mark in '"\r\n':
        raise DataError(f"delimiter={delimiter}: write one character, such as ; or tab")
    words = [null] if isinstance(null, str) else null
    files = [Layout(one, codec_of(one, "csv", encoding), mark, words) for one in paths]
    schema, rows = known_schema(paths), None
    columns = {name: Column() for name in files[0].header()}
    for file in files:
        wanted, other = ([*columns], paths[0]) if schema is None else (schema.names, beside(paths[0]))
        if (names := file.header()) != wanted:
            raise DataError(f"{file.path.name} has the columns {', '.join(names)}; {other.name}: {', '.join(wanted)}")
    if schema is None:
        rows = 0
        for batch in _chained(files, pa.schema([(name, pa.string()) for name in columns])):
            rows += batch.num_rows
            for column, text in zip(columns.values(), batch.columns, strict=True):
                column.narrow(text)
        schema = pa.schema([column.field(name) for name, column in columns.items()])
    return Source(schema, lambda size: resized(_chained(files, schema), schema, size), rows)


def _chained(files: Iterable[Layout], schema: pa.Schema) -> Iterator[Batch]:
    return itertools.chain.from_iterable(file.batches(schema) for file in files)


def _mark(path: Path) -> str:
    return "\t" if unpacked_name(path).lower().endswith(".tsv") else ","


def write_csv(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write CSV, with tabs for ``.tsv``: null is an empty cell, empty text is ``""``; raises DataError for a list."""
    refuse_nested(schema, "CSV", ".jsonl or .parquet", lists=False)
    mark = _mark(path)
    write_lines(batches, path, _csv_header(schema, mark), lambda batch: _csv_lines(batch, mark))


def csv_text(table: pa.Table, *, header: bool) -> str:
    """The rows as CSV text, with or without the header; raises DataError for a list."""
    refuse_nested(table.schema, "CSV", ".jsonl or .parquet", lists=False)
    lines = _csv_lines(single_batch(table), ",").to_pylist() if table.num_rows else []
    return (_csv_header(table.schema, ",") if header else "") + "".join(lines)


def _csv_header(schema: pa.Schema, mark: str) -> str:
    return mark.join(_quoted(pa.array(schema.names, TEXT), mark).to_pylist()) + "\n"


def _csv_lines(batch: Batch, mark: str) -> Any:
    cells = [(column.type in (pa.string(), TEXT), spelled(column)) for column in batch.columns]
    return join(join(*(_quoted(text, mark) if quotes else text for quotes, text in cells), by=mark), "\n")


def _quoted(text: Any, mark: str) -> Any:
    inside = join('"', pc.replace_substring(text, '"', '""'), '"')
    return pc.if_else(pc.match_substring_regex(text, f'^$|["\r\n{mark}]'), inside, text)
