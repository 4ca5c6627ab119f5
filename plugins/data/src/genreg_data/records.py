"""JSON arrays of records, ``[{"a": 1}, …]``, read object by object: the file may be larger than memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from genreg import Batch
from genreg.data import Source
from genreg.errors import DataError
from genreg.lines import Lines, distinct, json_objects, json_source
from genreg.spelling import join, refuse_nested, write_lines
from genreg.textfiles import codec_of, opened, wrong_encoding

BLOCK = 1 << 20  # characters read at a time
LONGEST = 1 << 26  # characters of one object
WHITE = re.compile(r"[ \t\r\n]*")


def json(path: Path | Sequence[Path], *, encoding: str = "utf-8") -> Source:
    """JSON: an array of objects; several files are one table.

    Types are settled as for JSON Lines, over all objects or by a schema file. Raises DataError that names the object.
    """
    paths = [path] if isinstance(path, Path) else [*path]
    return json_source([Lines(one, partial(_chunks, one, encoding), "object") for one in paths])


def _chunks(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The objects of the array as JSON Lines, chunk by chunk, each chunk with the number of its first object."""
    codec, number, first, held, size = codec_of(path, "json", encoding), 0, 1, [], 0
    try:
        with io.TextIOWrapper(opened(path), codec) as file:
            for text in ObjectArray(path.name, file).objects():
                number, size = number + 1, size + len(text)
                held.append(text.replace("\n", " "))  # between values alone: within text JSON has none
                if size >= BLOCK:
                    yield first, "\n".join(held) + "\n"
                    first, held, size = number + 1, [], 0
        if held:
            yield first, "\n".join(held) + "\n"
    except UnicodeError:
        raise wrong_encoding(path, "json", codec) from None


class ObjectArray:
    """The text of an array, of which only what lies around one object is held."""

    def __init__(self, name: str, file: TextIO) -> None:
        self._name, self._file = name, file
        self._text, self._at, self._number = "", 0, 0
        self._decoder = JSONDecoder(object_pairs_hook=distinct)

    def objects(self) -> Iterator[str]:
        """The text of each object; raises DataError where there is something else."""
        if self._next().removeprefix("\ufeff") != "[":
            raise DataError(
                f"{self._name} is no array of objects, [{{…}}, …]: name objects that are a line each .jsonl"
            )
        self._at += 1
        if self._next() != "]":
            yield self._object()
            while (mark := self._next()) == ",":
                self._at += 1
                yield self._object()
            if mark != "]":
                raise self._problem("the array goes on without a comma" if mark else "it is cut off")
        self._at += 1
        if self._next():
            raise self._problem("something follows the array")

    def _object(self) -> str:
        """The text of the next object, reading on where it ends too early; raises DataError for what is none."""
        self._number += 1
        if self._next() not in ("{", ""):
            raise DataError(f'{self._number}. item of {self._name} is not an object such as {{"column": 1}}')
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if len(self._text) - self._at > LONGEST and self._ends(error, 16):
                    reason = f"it is longer than {LONGEST:,} characters, or its end is missing"
                    raise self._problem(reason) from None
                reason = "it is cut off" if self._ends(error) else error.msg
                if not self._ends(error, 16) or not self._more():
                    raise self._problem(reason) from None
            except (ValueError, RecursionError) as error:
                raise self._problem(str(error)) from None
            else:
                text, self._at = self._text[self._at : end], end
                return text

    def _next(self) -> str:
        """The next character that is not white; none at the end."""
        while True:
            found = WHITE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _more(self) -> bool:
        """Read on, twice what is held; whether there was anything."""
        self._text = self._text[self._at :]
        self._at = 0
        data = self._file.read(max(BLOCK, len(self._text)))
        self._text += data
        return bool(data)

    def _ends(self, error: JSONDecodeError, within: int = 0) -> bool:
        """Whether the error is that the text ends, give or take ``within`` characters: a word or an escape is cut."""
        return error.pos >= len(self._text.rstrip()) - within or error.msg.startswith("Unterminated")

    def _problem(self, reason: str) -> DataError:
        return DataError(f"{self._name} object {self._number} is not JSON: {reason}")


def write_json(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> None:
    """Write an array of objects, each on a line of its own; raises DataError for NaN and infinity, unknown to JSON."""
    refuse_nested(schema, "JSON", ".parquet or .arrow", lists=True)
    first = True

    def lines(batch: Batch) -> Any:
        nonlocal first
        before = ["[\n" if first else ",\n"] + [",\n"] * (batch.num_rows - 1)
        first = False
        return join(pa.array(before, pa.large_string()), json_objects(batch))

    write_lines(batches, path, "", lines, lambda: "[]\n" if first else "\n]\n")
