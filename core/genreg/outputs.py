"""Where samples go: a file by its suffix, the terminal, a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from genreg.draft import Batch
from genreg.files import new_file, refuse_existing
from genreg.loading import by_suffix
from genreg.specs import DataLoader
from genreg.wide import padded, width

WIDEST = 40  # columns of a cell on a terminal


def write(
    batches: Iterable[Batch], schema: pa.Schema, path: Path, loaders: Mapping[str, DataLoader], *, force: bool = False
) -> None:
    """Stream batches to a file by its suffix, which appears whole or not at all; raises UsageError where it cannot."""
    refuse_existing(path, force=force)
    writer = by_suffix(path, loaders, writes=True).write
    assert writer is not None
    with new_file(path, force=force) as temporary:
        writer(batches, schema, temporary)


def as_text(table: pa.Table) -> str:
    """Rows as aligned text: columns as wide as their cells, wide characters counted as two, null as ``-``."""
    if not table.num_columns:
        return ""
    rows = [list(table.schema.names), *([shown(cell) for cell in row] for row in _rows(table))]
    widths = [max(width(row[at]) for row in rows) for at in range(table.num_columns)]
    numeric = [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in table.schema]
    return "\n".join(
        "  ".join(
            " " * (w - width(cell)) + cell if right else padded(cell, w)
            for cell, w, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def as_html(table: pa.Table, most: int = 20) -> str:
    """The first rows as an HTML table, everything escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.schema.names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(shown(cell))}</td>" for cell in row) + "</tr>"
        for row in _rows(table.slice(0, most))
    )
    more = f"<p>… {table.num_rows:,} rows</p>" if table.num_rows > most else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def shown(cell: Any) -> str:
    """A cell as people read it, cut where it is long; control characters cannot reach a terminal."""
    if cell is None:
        return "-"
    text = f"<{len(cell):,} bytes>" if isinstance(cell, bytes) else str(cell)
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _rows(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
