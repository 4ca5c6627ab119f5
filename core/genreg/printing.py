"""Rows on stdout: pictures, JSON Lines, plain lines of a single text column, a table on a terminal, CSV in a pipe."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow as pa

from genreg.delimited import write_csv
from genreg.draft import Batch
from genreg.images import image_columns, write_picture
from genreg.lines import write_jsonl
from genreg.outputs import as_text
from genreg.specs import Write


def print_rows(batches: Iterator[Batch], schema: pa.Schema, *, as_json: bool, to_stdout: bool = False) -> None:
    """Print rows as they come; ``to_stdout``: as into a pipe, on a terminal too."""
    if image_columns(schema):
        with tempfile.TemporaryDirectory() as folder:
            write_picture(batches, schema, path := Path(folder) / "out")
            sys.stdout.buffer.write(path.read_bytes())
    elif as_json:
        _stream(batches, schema, write_jsonl)
    elif len(schema) == 1 and pa.types.is_string(schema.field(0).type):
        for batch in batches:
            click.echo("".join(f"{cell or ''}\n" for cell in batch.column(0).to_pylist()), nl=False)
    elif sys.stdout.isatty() and not to_stdout:
        for batch in batches:
            click.echo(as_text(pa.Table.from_batches([batch])))
    else:
        _stream(batches, schema, write_jsonl if any(pa.types.is_nested(f.type) for f in schema) else write_csv)


@dataclass
class Live:
    """Text on a terminal as it comes: the pieces of the row that is waited for, and what is missing of a whole one."""

    column: str
    shown: str = ""  # of that row

    @classmethod
    def of(cls, columns: pa.Schema) -> Live | None:
        """For the first column of text, if there is one."""
        names = [field.name for field in columns if pa.types.is_string(field.type)]
        return cls(names[0]) if names else None

    def watch(self, piece: str) -> None:
        """Print a piece."""
        self.shown += piece
        click.echo(_harmless(piece), nl=False)

    def print_rows(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Print each row to its end, and hand the batches on."""
        for batch in batches:
            for text in batch.column(self.column).to_pylist():
                click.echo(_harmless((text or "").removeprefix(self.shown)))
                self.shown = ""
            yield batch


def _harmless(text: str) -> str:
    """Text whose control characters cannot reach a terminal, apart from ends of lines and tabs."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def _stream(batches: Iterator[Batch], schema: pa.Schema, writer: Write) -> None:
    """Each batch as the writer writes it to a file, without the head that comes first, as soon as it is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        writer([], schema, path)
        head = rest = path.read_bytes()
        for batch in batches:
            writer([batch], schema, path)
            sys.stdout.buffer.write(rest + path.read_bytes()[len(head) :])
            sys.stdout.buffer.flush()
            rest = b""
