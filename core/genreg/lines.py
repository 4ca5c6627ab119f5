"""JSON Lines and plain text: a row a line.

JSON Lines are read twice in bounded memory: a first pass settles each column's type, a second one reads with it.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, resized, single_batch
from genreg.draft import Batch
from genreg.errors import DataError
from genreg.schemafile import beside, known_schema
from genreg.spelling import (
    ROWS,
    TEMPORAL,
    TEXT,
    Column,
    all_true,
    any_true,
    is_listed,
    join,
    refuse_nested,
    respelled,
    spelled,
    write_lines,
)
from genreg.textfiles import codec_of, opened, sound, wrong_encoding

BLOCK = 1 << 21  # bytes of text parsed at a time, or one line


# ---- JSON Lines ----

WORDS = {bool: "true or false", int: "numbers", float: "numbers", str: "text", list: "lists", dict: "objects"}


@dataclass
class Values:
    """What a JSON column holds: how deep in lists, words for its values, the range of its whole numbers."""

    text: Column = field(default_factory=lambda: Column(set(TEMPORAL)))
    floats: Column = field(default_factory=lambda: Column({"float"}))
    depth: int = 0
    words: set[str] = field(default_factory=set)
    low: int = 0
    high: int = 0

    def add(self, values: list[Any]) -> None:
        """Take in values of the column; afterwards there is more than one word where they differ in kind."""
        depth = 0
        while (types := set(map(type, values)) - {type(None)}) == {list}:
            values, depth = [*itertools.chain.from_iterable(filter(None, values))], depth + 1
        self.words |= {"lists of " * depth + WORDS[type_] for type_ in types}
        self.depth = max(self.depth, depth)
        if int in types:
            whole = [value for value in values if type(value) is int]
            self.low, self.high = min(self.low, *whole), max(self.high, *whole)
        if float in types:
            numbers = [value for value in values if type(value) is float]
            self.floats.narrow(pa.array(numbers, pa.float64()).cast(pa.string()))
        if types == {str} and not depth:
            self.text.narrow(pa.array(values, pa.string()))

    def field(self, name: str) -> pa.Field[Any]:
        """The column's field; raises DataError for what no type holds."""
        word = next(iter(self.words), "text")
        if word.endswith("objects"):
            raise DataError(f"column {name} holds objects: write each of their keys as a column")
        if word.endswith("numbers"):
            limit = 2**63 if self.low < 0 else 2**64
            if not self.floats.seen and (self.high >= limit or self.low < -(2**63)):
                big = self.high if self.high >= limit else self.low
                raise DataError(f"column {name} holds {big}, beyond 64 bits: write it as text, in quotes")
            whole = pa.field(name, pa.int64() if self.high < 2**63 else pa.uint64())
            leaf = self.floats.field(name) if self.floats.seen else whole
        else:
            leaf = self.text.field(name) if word.endswith("text") else pa.field(name, pa.bool_())
        type_ = leaf.type
        for _ in range(self.depth):
            type_ = pa.list_(type_)
        return leaf.with_type(type_)


@dataclass(frozen=True)
class Lines:
    """JSON objects, one a line, in chunks of whole lines; each chunk with the number of its first line."""

    path: Path
    chunks: Callable[[], Iterator[tuple[int, str]]]
    unit: str = "line"  # what messages call one

    def rows(self, line: int, chunk: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each object with its line; raises DataError where there is something else."""
        for number, text in enumerate(chunk.split("\n"), line):
            if text.strip():
                try:
                    row = json.loads(text, object_pairs_hook=distinct)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self.path.name} {self.unit} {number} is not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise DataError(f'{self.path.name} {self.unit} {number} is not an object such as {{"column": 1}}')
                yield number, row

    def survey(self, columns: dict[str, Values]) -> int:
        """Take in what each column holds; the number of rows."""
        count = 0
        for line, chunk in self.chunks():
            cells: dict[str, list[Any]] = {}
            for _, row in self.rows(line, chunk):
                count += 1
                for name, value in row.items():
                    cells.setdefault(name, []).append(value)
            for name, values in cells.items():
                column = columns.setdefault(name, Values())
                before = set(column.words)
                with sound(self.path, f"text in the column {name}"):  # half of a surrogate pair
                    column.add(values)
                if len(column.words) > 1:
                    raise self._mixed(line, chunk, name, before)
        return count

    def _mixed(self, line: int, chunk: str, name: str, words: set[str]) -> DataError:
        seen = Values(words=words)
        for number, row in self.rows(line, chunk):
            seen.add([row.get(name)])
            if len(seen.words) > 1:
                line = number
                break
        both = " and ".join(sorted(seen.words))
        return DataError(f"{self.path.name} {self.unit} {line}: column {name} holds {both}: write one kind of value")

    def batches(self, schema: pa.Schema) -> Iterator[Batch]:
        """The rows as the schema says."""
        from pyarrow import json as arrow_json

        raw = pa.schema([(field.name, _read_as(field.type)) for field in schema])
        for _, chunk in self.chunks():
            data: Any = pa.BufferReader(chunk.encode())
            read = arrow_json.ReadOptions(block_size=4 * BLOCK + data.size())
            parse = arrow_json.ParseOptions(explicit_schema=raw, unexpected_field_behavior="ignore")
            with sound(self.path, "as it was when its types were read"):
                batch = single_batch(arrow_json.read_json(data, read, parse))
                columns = [respelled(batch.column(field.name), field.type) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _in_utc(kind: Any) -> pa.DataType:
    """Lists of times with their zone as UTC: Arrow spells a zone's own offset without its seconds."""
    if is_listed(kind):
        return pa.list_(_in_utc(kind.value_type))
    return pa.timestamp(kind.unit, "UTC") if pa.types.is_timestamp(kind) and kind.tz else kind


def _read_as(kind: Any) -> pa.DataType:
    """What Arrow reads from JSON for a type: times as text, and every list as a plain one."""
    if is_listed(kind):
        return pa.list_(_read_as(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else pa.float64() if pa.types.is_float16(kind) else kind


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raises ValueError where a key is there twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"{', '.join(name for name in row if [n for n, _ in pairs].count(name) > 1)} is there twice")
    return row


def jsonl(path: Path | Sequence[Path], *, encoding: str = "utf-8") -> Source:
    """JSON Lines: one object a line; lists are sequences; several files are one table.

    Numbers are int64, uint64 or float64; text that is ISO dates or times throughout becomes those; a column without a
    value is text; a key that is not there is null. What lies in a schema file beside it (see ``schemafile``) is not
    asked of the values. Raises DataError that names the line.
    """
    paths = [path] if isinstance(path, Path) else [*path]
    return json_source([Lines(one, partial(_chunks, one, encoding)) for one in paths])


def _chunks(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    codec, line = codec_of(path, "jsonl", encoding, empty=beside(path).is_file()), 1
    try:
        with io.TextIOWrapper(opened(path), codec, newline="\n") as file:
            while chunk := file.read(BLOCK) + file.readline():
                yield line, chunk.removeprefix("\ufeff")
                line += chunk.count("\n")
    except UnicodeError:
        raise wrong_encoding(path, "jsonl", codec) from None


def json_source(files: Sequence[Lines]) -> Source:
    """Files of JSON objects as one table, of the schema that lies beside them, or else of what all of them hold."""
    schema, rows = known_schema([file.path for file in files]), None
    if schema is None:
        columns: dict[str, Values] = {}
        rows = sum(file.survey(columns) for file in files)
        if not columns:
            raise DataError(f"{files[0].path.name} has no columns")
        schema = pa.schema([values.field(name) for name, values in columns.items()])

    def batches() -> Iterator[Batch]:
        return itertools.chain.from_iterable(file.batches(schema) for file in files)

    return Source(schema, lambda size: resized(batches(), schema, size), rows)


def write_jsonl(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write JSON Lines, dates and times as ISO text; raises DataError for NaN and infinity, unknown to JSON."""
    refuse_nested(schema, "JSON", ".parquet or .arrow", lists=True)

    write_lines(batches, path, "", lambda batch: join(json_objects(batch), "\n"))


def json_objects(batch: Batch) -> Any:
    """Each row as a JSON object; raises DataError for NaN and infinity."""
    keys = [json.dumps(name, ensure_ascii=False) + ": " for name in batch.schema.names]
    cells = [_json(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    pairs = [join(key, pc.fill_null(cell, "null")) for key, cell in zip(keys, cells, strict=True)]
    return join("{", join(*pairs, by=", "), "}")


def _json(name: str, column: Any) -> Any:
    """A column as JSON; raises DataError for NaN and infinity."""
    types, cannot = pa.types, f"column {name} has NaN or infinity, which JSON cannot hold: write .csv or .parquet"
    if types.is_floating(column.type) and not all_true(pc.is_finite(column)):
        raise DataError(cannot)
    if not types.is_nested(column.type):
        text = spelled(column)
        bare = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
        if any(check(column.type) for check in bare):
            return text
        if not any_true(pc.match_substring_regex(text, r'[\x00-\x1f"\\]')):
            return pc.if_else(pc.is_valid(text), join('"', text, '"'), None)
        column = text
    else:
        cells = column
        while is_listed(cells.type):
            cells = cells.flatten()
        if types.is_temporal(cells.type):
            spelled(cells)  # which refuses years that text cannot hold
        column = column.cast(_in_utc(column.type)).cast(_read_as(column.type))
    dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str).encode
    try:
        return pa.array([None if value is None else dump(value) for value in column.to_pylist()], TEXT)
    except ValueError:
        raise DataError(cannot) from None


# ---- plain text ----


def txt(
    path: Path,
    *,
    encoding: str = "utf-8",
    escapes: bool = False,
    by: Literal["line", "paragraph", "file"] = "line",
) -> Source:
    """Plain text: the column ``text``, a row a line; ``escapes`` undoes the backslashes that genreg writes.

    By paragraph, the rows are the stretches between empty lines; by file, the whole is one row.
    """
    codec = codec_of(path, "txt", encoding)
    schema = pa.schema([("text", pa.string())])

    def batches() -> Iterator[Batch]:
        try:
            with io.TextIOWrapper(opened(path), codec) as file:
                pieces = _pieces(file, by)
                while lines := list(itertools.islice(pieces, ROWS)):
                    rows = [re.sub(r"\\(.)", _unescaped, line) for line in lines] if escapes else lines
                    yield pa.RecordBatch.from_arrays([pa.array(rows, pa.string())], schema=schema)
        except UnicodeError:
            raise wrong_encoding(path, "txt", codec) from None

    rows = sum(batch.num_rows for batch in batches())
    return Source(schema, lambda size: resized(batches(), schema, size), rows)


def _pieces(file: Iterable[str], by: str) -> Iterator[str]:
    """A text file's lines, paragraphs (whose lines stay apart), or all of it but the last newline."""
    if by == "line":
        yield from (line.removesuffix("\n") for line in file)
    elif by == "file":
        yield "".join(file).removesuffix("\n")
    else:
        for blank, lines in itertools.groupby(file, key=lambda line: not line.strip()):
            if not blank:
                yield "".join(lines).removesuffix("\n")


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r"}.get(match[1], match[1])


def write_txt(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    r"""Write one text column, a row a line: a newline within it as ``\n``, a backslash as ``\\``; null is empty.

    Raises DataError for several columns, or one that is not text.
    """
    if len(schema) != 1 or schema.types[0] not in (pa.string(), TEXT):
        there = ", ".join(f"{entry.name} ({entry.type})" for entry in schema)
        raise DataError(f"a .txt file holds one column of text, and here are {there}: write .csv or .jsonl")

    def lines(batch: Batch) -> Any:
        text = batch.column(0).cast(TEXT)
        for char, escape in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r")):
            text = pc.replace_substring(text, char, escape)
        return join(text, "\n")

    write_lines(batches, path, "", lines)
