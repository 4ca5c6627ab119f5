"""The built-in loaders and writers: csv, jsonl, parquet, arrow, txt.

No type is inferred while streaming. CSV and JSON Lines are read twice in bounded memory: a first pass settles each
column's type over the whole file, a second one reads with that schema. A category is its value type with the notes
``values`` (in order), ``dictionary`` (the index type) and ``ordered``; Parquet and Arrow files hold it as a dictionary.
A writer gets a path that does not exist yet; what the path itself raises (OSError) is for its caller to tell.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, guessed_rows, noted, notes, resized, single_batch
from genreg.draft import Batch
from genreg.errors import DataError
from genreg.images import image_columns
from genreg.specs import DataLoader

BLOCK = 1 << 21  # bytes of text parsed at a time: no CSV row may be longer
GROUP = 1 << 26  # bytes of rows written together, as guessed from the schema: a row group
ROWS = 65_536  # rows turned into text together, and the most in a row group
TEXT = pa.large_string()

# ---- what the text of a column can be ----

TYPES: dict[str, pa.DataType] = {  # in order of preference; "beyond": whole numbers that no type here holds, so text
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "beyond": pa.string(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "zoned": pa.timestamp("us", "UTC"),
}
TEMPORAL = {"date", "time", "zoned"}
TRUE, FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
CODE = r"^[ \t]*(\+|-?0[0-9])"  # 00123 is a code and +49 a telephone number: they are text
DECIMALS = 15  # more are the digits of float64 itself, and rounding to them would only disturb it


@dataclass
class Column:
    """The kinds that every cell so far is spelled as, and the most decimals written (None: an exponent was)."""

    kinds: set[str] = field(default_factory=lambda: set(TYPES))
    seen: bool = False
    decimals: int | None = 0

    def narrow(self, text: Any) -> None:
        """Keep the kinds that fit the cells of ``text``, nulls apart."""
        cells = text.drop_null() if text.null_count else text
        if self.kinds and len(cells):
            self.seen = True
            numbers = "float" in self.kinds and (self._numbers(cells) or self._numbers(pc.ascii_trim(cells, " \t")))
            self.kinds &= numbers or self._others(cells)

    def _numbers(self, cells: Any) -> set[str]:
        if "int64" in self.kinds and _spelled(cells, pa.int64()):
            negative = pc.min(cells.cast(pa.int64())).as_py() < 0
            return {"int64", "beyond", "float"} if negative else {"int64", "uint64", "beyond", "float"}
        if "uint64" in self.kinds and _spelled(cells, pa.uint64()):
            return {"uint64", "beyond", "float"}
        if "beyond" in self.kinds and _all(pc.match_substring_regex(cells, "^(-?[1-9][0-9]*|0)$")):
            return {"beyond", "float"}
        if not _castable(cells, pa.float64()) or _any(pc.match_substring_regex(cells, CODE)):
            return set()
        if self.decimals is not None:
            exponent = _any(pc.match_substring(cells, "e")) or _any(pc.match_substring(cells, "E"))
            point = pc.find_substring(cells, ".")
            after = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(pc.binary_length(cells), point), 1))
            self.decimals = None if exponent else max(self.decimals, pc.max(after).as_py())
        return {"float"}

    def _others(self, cells: Any) -> set[str]:
        if "bool" in self.kinds and _all(pc.is_in(cells, pa.array(TRUE + FALSE))):
            return {"bool"}
        return {kind for kind in TEMPORAL & self.kinds if _castable(cells, TYPES[kind])}

    def field(self, name: str) -> pa.Field[Any]:
        """The column's field: text where nothing was seen, or nothing else fits."""
        kind = next((kind for kind in TYPES if self.seen and kind in self.kinds), "")
        known = kind == "float" and self.decimals is not None and self.decimals <= DECIMALS
        return noted(pa.field(name, TYPES.get(kind, pa.string())), decimals=self.decimals if known else None)


def _castable(cells: Any, goal: pa.DataType) -> bool:
    try:
        cells.cast(goal)
    except pa.ArrowInvalid:
        return False
    return True


def _spelled(cells: Any, goal: pa.DataType) -> bool:
    """Whether each cell is a whole number in its one spelling: no leading zero, no plus, not hexadecimal."""
    return _castable(cells, goal) and bool(cells.cast(goal).cast(pa.string()).equals(cells))


def _all(flags: Any) -> bool:
    return bool(pc.all(flags, min_count=0).as_py())


def _any(flags: Any) -> bool:
    return bool(pc.any(flags, min_count=0).as_py())


# ---- files, encodings, batches ----


def _head(path: Path) -> bytes:
    """The first bytes of a file; raises DataError where it cannot be read or is empty."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not head:
        raise DataError(f"{path.name} is empty")
    return head


def _codec(path: Path, loader: str, encoding: str) -> str:
    """The encoding as Python's codec for it, without a byte order mark; raises DataError."""
    import codecs

    try:
        "x".encode(encoding)
    except LookupError:
        raise DataError(f"encoding={encoding}: no such encoding; try utf-8, gb18030, utf-16 or cp1252") from None
    name = codecs.lookup(encoding).name
    if _guess(_head(path)).startswith("utf-16") and not name.startswith(("utf-16", "utf-32")):
        raise _wrong_encoding(path, loader, name)
    return "utf-8-sig" if name == "utf-8" else name


def _wrong_encoding(path: Path, loader: str, encoding: str) -> DataError:
    """What to say of a file that is not valid in the encoding: where, what it looks like, and the way out."""
    with path.open("rb") as file:
        sample, where = file.read(4096) + file.readline(), ""
        file.seek(0)
        for number, line in enumerate(() if _guess(sample).startswith("utf-16") else file, 1):
            try:
                line.decode(encoding)
            except UnicodeError:
                sample, where = line + file.read(1 << 16) + file.readline(), f" (line {number})"
                break
    guess = _guess(sample)
    name = encoding.removesuffix("-sig").upper()
    found = f"it looks like {guess.upper()}: --loader {loader}:encoding={guess}"
    return DataError(f"{path.name} is not {name}{where}; {found}")


def _guess(sample: bytes) -> str:
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = (sample[::2].count(0), sample[1::2].count(0))
    if max(zeros) > len(sample) / 8 and not min(zeros):
        return "utf-16-be" if zeros[0] else "utf-16-le"
    for encoding in ("utf-8", "gb18030"):
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Western text can pass as GB18030, but then few of its second bytes are above 0x7f
        if encoding == "utf-8" or sum(byte > 127 for byte in sample) >= 1.5 * sum(char > "\x7f" for char in text):
            return encoding
    return "cp1252"


def _require_distinct(path: Path, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path.name} has more than one column named {', '.join(twice)}: rename them")


@contextmanager
def _sound(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        raise DataError(f"{path.name} is damaged, or not {kind}: {str(error).partition(chr(10))[0]}") from None


# ---- CSV ----


class Utf8:
    """A text file as a stream of UTF-8 that is never cut after a return.

    Arrow loses the newline of a return and newline within quotes that lie in two blocks (apache/arrow#51368).
    """

    closed = False

    def __init__(self, path: Path, encoding: str) -> None:
        import codecs

        self._file = path.open("rb")
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._left = ""

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``; none at the end."""
        while True:
            data = self._file.read(max(1, size // 4))  # no encoding takes fewer bytes for what takes four in UTF-8
            text = self._left + self._decoder.decode(data, not data)
            ready = text.rstrip("\r") if data else text
            self._left = text[len(ready) :]
            if ready or not data:
                return ready.encode()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self.closed = True


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
            with self.path.open(encoding=self.encoding, newline="") as file:
                first = file.readline().removeprefix("\ufeff")
                reader = python_csv.reader(itertools.chain([first], file), delimiter=self.delimiter)
                yield from ((reader.line_num, row) for row in reader if row)
        except UnicodeError:
            raise _wrong_encoding(self.path, "csv", self.encoding) from None
        except python_csv.Error as error:
            raise DataError(f"{self.path.name} cannot be read as CSV: {error}") from None

    def header(self) -> list[str]:
        """The names of the columns; raises DataError where they are missing or not distinct."""
        names = next((row for _, row in self.rows()), [])
        if not names:
            raise DataError(f"{self.path.name} is empty")
        _require_distinct(self.path, names)
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
            column_types=dict(zip(schema.names, schema.types, strict=True)),
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
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        except UnicodeError:
            raise _wrong_encoding(self.path, "csv", self.encoding) from None
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
        return DataError(f"{self.path.name} cannot be read as CSV: {reason}")


def csv(path: Path, *, encoding: str = "utf-8", delimiter: str = "", null: str | list[str] = "") -> Source:
    """Comma- or tab-separated values with a header.

    The delimiter is a tab for ``.tsv``, else a comma, unless given. Missing are empty cells and the words of ``null``,
    where they have no quotes. Whole numbers are exact; leading zeros, and what is beyond uint64, stay text; NaN is a
    float; a column without a value is text. Float columns note their decimals. Raises DataError.
    """
    codec = _codec(path, "csv", encoding)
    mark = {"": "\t" if path.suffix.lower() == ".tsv" else ",", "tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(mark) != 1 or not mark.isascii() or mark in '"\r\n':
        raise DataError(f"delimiter={delimiter}: write one character, such as ; or tab")
    layout = Layout(path, codec, mark, [null] if isinstance(null, str) else null)
    columns = {name: Column() for name in layout.header()}
    rows = 0
    for batch in layout.batches(pa.schema([(name, pa.string()) for name in columns])):
        rows += batch.num_rows
        for column, text in zip(columns.values(), batch.columns, strict=True):
            column.narrow(text)
    schema = pa.schema([column.field(name) for name, column in columns.items()])
    return Source(schema, lambda size: resized(layout.batches(schema), schema, size), rows)


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
    """A JSON Lines file, read in chunks of whole lines."""

    path: Path
    encoding: str

    def chunks(self) -> Iterator[tuple[int, str]]:
        """Each chunk with the number of its first line."""
        line = 1
        try:
            with self.path.open(encoding=self.encoding, newline="\n") as file:
                while chunk := file.read(BLOCK) + file.readline():
                    yield line, chunk.removeprefix("\ufeff")
                    line += chunk.count("\n")
        except UnicodeError:
            raise _wrong_encoding(self.path, "jsonl", self.encoding) from None

    def rows(self, line: int, chunk: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each object with its line; raises DataError where there is something else."""
        for number, text in enumerate(chunk.split("\n"), line):
            if text.strip():
                try:
                    row = json.loads(text, object_pairs_hook=_distinct)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self.path.name} line {number} is not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise DataError(f'{self.path.name} line {number} is not an object such as {{"column": 1}}')
                yield number, row

    def survey(self) -> tuple[dict[str, Values], int]:
        """What each column holds, and the number of rows."""
        columns: dict[str, Values] = {}
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
                with _sound(self.path, f"text in the column {name}"):  # half of a surrogate pair
                    column.add(values)
                if len(column.words) > 1:
                    raise self._mixed(line, chunk, name, before)
        return columns, count

    def _mixed(self, line: int, chunk: str, name: str, words: set[str]) -> DataError:
        seen = Values(words=words)
        for number, row in self.rows(line, chunk):
            seen.add([row.get(name)])
            if len(seen.words) > 1:
                line = number
                break
        both = " and ".join(sorted(seen.words))
        return DataError(f"{self.path.name} line {line}: column {name} holds {both}: write one kind of value")

    def batches(self, schema: pa.Schema) -> Iterator[Batch]:
        """The rows as the schema says."""
        from pyarrow import json as arrow_json

        # pyarrow refuses to read dates and times from JSON, but casts them from text
        raw = pa.schema([(f.name, pa.string() if pa.types.is_temporal(f.type) else f.type) for f in schema])
        for _, chunk in self.chunks():
            data: Any = pa.BufferReader(chunk.encode())
            read = arrow_json.ReadOptions(block_size=4 * BLOCK + data.size())
            parse = arrow_json.ParseOptions(explicit_schema=raw, unexpected_field_behavior="ignore")
            with _sound(self.path, "as it was when its types were read"):
                yield single_batch(arrow_json.read_json(data, read, parse).cast(schema))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"{', '.join(name for name in row if [n for n, _ in pairs].count(name) > 1)} is there twice")
    return row


def jsonl(path: Path, *, encoding: str = "utf-8") -> Source:
    """JSON Lines: one object a line; lists are sequences.

    Numbers are int64, uint64 or float64; text that is ISO dates or times throughout becomes those; a column without a
    value is text; a key that is not there is null. Raises DataError that names the line.
    """
    lines = Lines(path, _codec(path, "jsonl", encoding))
    columns, rows = lines.survey()
    if not columns:
        raise DataError(f"{path.name} has no columns")
    schema = pa.schema([values.field(name) for name, values in columns.items()])
    return Source(schema, lambda size: resized(lines.batches(schema), schema, size), rows)


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
    codec = _codec(path, "txt", encoding)
    schema = pa.schema([("text", pa.string())])

    def batches() -> Iterator[Batch]:
        try:
            with path.open(encoding=codec) as file:
                pieces = _pieces(file, by)
                while lines := list(itertools.islice(pieces, ROWS)):
                    rows = [re.sub(r"\\(.)", _unescaped, line) for line in lines] if escapes else lines
                    yield pa.RecordBatch.from_arrays([pa.array(rows, pa.string())], schema=schema)
        except UnicodeError:
            raise _wrong_encoding(path, "txt", codec) from None

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


# ---- Parquet and Arrow: in the file a category is a dictionary ----


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
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def parquet(path: Path) -> Source:
    """Parquet, streamed; raises DataError where the file is damaged."""
    from pyarrow import parquet as arrow_parquet

    def batches(size: int, names: list[str] | None = None) -> Iterator[Batch]:
        with _sound(path, "Parquet"), arrow_parquet.ParquetFile(path) as file:
            yield from file.iter_batches(size, columns=names)

    _head(path)
    with _sound(path, "Parquet"), arrow_parquet.ParquetFile(path) as file:
        found, rows = file.schema_arrow, file.metadata.num_rows
    _require_distinct(path, found.names)
    schema = _decoded_schema(found, batches(ROWS, _dictionaries(found)))
    return Source(schema, lambda size: resized(_decoded(batches(size), schema), schema, size), rows)


def arrow(path: Path) -> Source:
    """Arrow IPC, a file (Feather) or a stream; raises DataError where it is damaged."""
    opened: Any = pa.ipc.open_file if _head(path).startswith(b"ARROW1") else pa.ipc.open_stream

    def batches() -> Iterator[Batch]:
        with _sound(path, "Arrow IPC"), pa.memory_map(str(path)) as file:
            reader = opened(file)
            each = map(reader.get_batch, range(reader.num_record_batches)) if hasattr(reader, "get_batch") else reader
            for batch in each:
                batch.validate(full=True)  # a damaged offset would be followed out of the file
                yield batch

    with _sound(path, "Arrow IPC"), pa.memory_map(str(path)) as file:
        found = opened(file).schema
    _require_distinct(path, found.names)
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


def write_parquet(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write Parquet with all metadata."""
    from pyarrow import parquet as arrow_parquet

    with arrow_parquet.ParquetWriter(path, _encoded_schema(schema)) as writer:
        for batch in _encoded(batches, schema):
            writer.write_batch(batch)


def write_arrow(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write an Arrow IPC file with all metadata."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _encoded_schema(schema)) as writer:
        for batch in _encoded(batches, schema):
            writer.write_batch(batch.take(pa.array(range(batch.num_rows))))  # in buffers of its own: the same bytes


# ---- rows as lines of text ----


def _refuse_nested(schema: pa.Schema, kind: str, way: str, *, lists: bool) -> None:
    types = pa.types
    refused = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    for entry in schema:
        leaf: Any = entry.type
        while lists and (types.is_list(leaf) or types.is_large_list(leaf) or types.is_fixed_size_list(leaf)):
            leaf = leaf.value_type
        if isinstance(leaf, pa.BaseExtensionType) or any(check(leaf) for check in refused):
            image = entry.name in image_columns(schema)
            what, way = ("images", ".png, a folder (OUT/), .npz or .parquet") if image else (entry.type, way)
            raise DataError(f"column {entry.name} holds {what}, which {kind} cannot hold: write {way}")


def _join(*parts: Any, by: str = "") -> Any:
    """Texts joined element by element; null is empty."""
    texts = [pa.scalar(part, TEXT) if isinstance(part, str) else part for part in (*parts, by)]
    return pc.binary_join_element_wise(*texts, null_handling="replace", null_replacement="")


def _write_lines(batches: Iterable[Batch], path: Path, head: str, lines: Callable[[Batch], Any]) -> None:
    """Write the head, then the text that ``lines`` makes of each row."""
    with path.open("wb") as file:
        file.write(head.encode())
        for batch in batches:
            for at in range(0, batch.num_rows if batch.num_columns else 0, ROWS):
                text = lines(batch.slice(at, ROWS))
                file.write(memoryview(text.buffers()[2])[: pc.sum(pc.binary_length(text)).as_py()])


def _spelling(column: Any) -> Any:
    """A scalar column as text: floats shortest but never like whole numbers, times as ISO 8601, in UTC."""
    if pa.types.is_floating(column.type):
        return pc.replace_substring_regex(column.cast(TEXT), "^(-?[0-9]+)$", r"\1.0")
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    return column.cast(TEXT)


def write_csv(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write CSV, with tabs for ``.tsv``: null is an empty cell, empty text is ``""``; raises DataError for a list."""
    _refuse_nested(schema, "CSV", ".jsonl or .parquet", lists=False)
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    _write_lines(batches, path, _csv_header(schema, mark), lambda batch: _csv_lines(batch, mark))


def csv_text(table: pa.Table, *, header: bool) -> str:
    """The rows as CSV text, with or without the header; raises DataError for a list."""
    _refuse_nested(table.schema, "CSV", ".jsonl or .parquet", lists=False)
    lines = _csv_lines(single_batch(table), ",").to_pylist() if table.num_rows else []
    return (_csv_header(table.schema, ",") if header else "") + "".join(lines)


def _csv_header(schema: pa.Schema, mark: str) -> str:
    return mark.join(_quoted(pa.array(schema.names, TEXT), mark).to_pylist()) + "\n"


def _csv_lines(batch: Batch, mark: str) -> Any:
    cells = [(column.type in (pa.string(), TEXT), _spelling(column)) for column in batch.columns]
    return _join(_join(*(_quoted(text, mark) if quotes else text for quotes, text in cells), by=mark), "\n")


def _quoted(text: Any, mark: str) -> Any:
    inside = _join('"', pc.replace_substring(text, '"', '""'), '"')
    return pc.if_else(pc.match_substring_regex(text, f'^$|["\r\n{mark}]'), inside, text)


def write_jsonl(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write JSON Lines, dates and times as ISO text; raises DataError for NaN and infinity, unknown to JSON."""
    _refuse_nested(schema, "JSON", ".parquet or .arrow", lists=True)

    def lines(batch: Batch) -> Any:
        keys = [json.dumps(name, ensure_ascii=False) + ": " for name in batch.schema.names]
        cells = [_json(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
        pairs = [_join(key, pc.fill_null(cell, "null")) for key, cell in zip(keys, cells, strict=True)]
        return _join("{", _join(*pairs, by=", "), "}\n")

    _write_lines(batches, path, "", lines)


def _json(name: str, column: Any) -> Any:
    """A column as JSON; raises DataError for NaN and infinity."""
    types, cannot = pa.types, f"column {name} has NaN or infinity, which JSON cannot hold: write .csv or .parquet"
    if types.is_floating(column.type) and not _all(pc.is_finite(column)):
        raise DataError(cannot)
    if not types.is_nested(column.type):
        text = _spelling(column)
        bare = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
        if any(check(column.type) for check in bare):
            return text
        if not _any(pc.match_substring_regex(text, r'[\x00-\x1f"\\]')):
            return pc.if_else(pc.is_valid(text), _join('"', text, '"'), None)
        column = text
    dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str).encode
    try:
        return pa.array([None if value is None else dump(value) for value in column.to_pylist()], TEXT)
    except ValueError:
        raise DataError(cannot) from None


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
        return _join(text, "\n")

    _write_lines(batches, path, "", lines)


LOADERS = [
    DataLoader(csv, (".csv", ".tsv"), write=write_csv),
    DataLoader(jsonl, (".jsonl", ".ndjson"), write=write_jsonl),
    DataLoader(parquet, (".parquet",), write=write_parquet),
    DataLoader(arrow, (".arrow", ".feather"), write=write_arrow),
    DataLoader(txt, (".txt",), write=write_txt),
]
