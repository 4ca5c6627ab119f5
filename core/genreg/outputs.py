"""Where samples go: a file by its suffix, the terminal, a notebook."""

from __future__ import annotations

import html
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.draft import Array, Batch
from genreg.errors import UsageError
from genreg.files import new_file, new_folder, refuse_existing
from genreg.images import BESIDE, LABELS, SUFFIXES, as_tag, as_they_are, each_image, image_columns
from genreg.loading import is_folder, writer_of
from genreg.schemafile import beside
from genreg.sequences import named_by, spread, spread_schema
from genreg.specs import DataLoader
from genreg.wide import padded, width

WIDEST = 40  # columns of a cell on a terminal


def write(
    batches: Iterable[Batch],
    schema: pa.Schema,
    path: str | Path,
    loaders: Mapping[str, DataLoader],
    *,
    force: bool = False,
    names: Array | None = None,
    **about: Any,
) -> None:
    """Stream batches to a file by its suffix, or to a folder where the path ends in ``/``: whole or not at all.

    ``about`` (seeds, recipe) goes to a writer that has a parameter of that name. ``names`` [n] are the
    numbers that samples go by in a long table. Raises UsageError where it cannot.
    """
    refuse_output(path, force=force)
    writer = writer_of(path, loaders)
    known = inspect.signature(writer).parameters
    target = Path(path)
    batches, schema = as_in_data(batches, schema, names)
    with new_folder(target, replace=force) if is_folder(path) else new_file(target, force=force) as temporary:
        writer(batches, schema, temporary, **{name: value for name, value in about.items() if name in known})
    if force:
        beside(target).unlink(missing_ok=True)  # it told of what was replaced


def as_in_data(batches: Iterable[Batch], schema: pa.Schema, names: Array | None) -> tuple[Iterable[Batch], pa.Schema]:
    """The rows as the data's were: where those were steps, one per step, the samples named by ``names`` [n]."""
    if named_by(schema) is None:
        return batches, schema
    names = np.empty(0, np.uint64) if names is None else names
    return spread(batches, schema, names), spread_schema(schema, names)


def refuse_output(path: str | Path, *, force: bool = False) -> None:
    """Raise UsageError where writing to ``path`` would overwrite something unasked, or cannot succeed."""
    folder = Path(path)
    if not str(path).endswith("/") or not os.path.lexists(folder):
        refuse_existing(folder, force=force)
    elif not force:
        raise UsageError(f"{path} is there already: choose another name, or --force to replace it")
    elif not folder.is_dir() or not all(_is_ours(file.name) for file in folder.iterdir()):
        raise UsageError(f"{path} is no folder of images alone, so --force does not replace it: choose another name")


def _is_ours(name: str) -> bool:
    return name.startswith(LABELS) or name.removesuffix(BESIDE).endswith(tuple(SUFFIXES.values()))


def as_text(table: pa.Table) -> str:
    """Rows as aligned text: columns as wide as their cells, wide characters counted as two, null as ``-``."""
    if not table.num_columns:
        return ""
    cells = _rows(table, shown, each_image, lambda image: "<image {1} x {0}>".format(*image.shape))
    rows = [(*table.schema.names,), *cells]
    widths = [max(width(row[at]) for row in rows) for at in range(table.num_columns)]
    numeric = [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in table.schema]
    lines = ([padded(*cell) for cell in zip(row, widths, numeric, strict=True)] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def as_html(table: pa.Table, most: int = 20) -> str:
    """The first rows as an HTML table, everything escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.schema.names)
    rows = _rows(table.slice(0, most), lambda cell: html.escape(shown(cell)), as_they_are, as_tag)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    more = f"<p>… {table.num_rows:,} rows</p>" if table.num_rows > most else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def shown(cell: Any) -> str:
    """A cell as people read it, cut where it is long; control characters cannot reach a terminal."""
    if cell is None:
        return "-"
    text = f"<{len(cell):,} bytes>" if isinstance(cell, bytes) else str(cell)
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _rows(
    table: pa.Table,
    show: Callable[[Any], str],
    images: Callable[[Any], Iterable[Any]],
    picture: Callable[[Any], str],
) -> Iterable[tuple[str, ...]]:
    pictures = image_columns(table.schema)
    columns = [
        (show(None) if image is None else picture(image) for image in images(column))
        if name in pictures
        else map(show, column.to_pylist())
        for name, column in zip(table.schema.names, table.columns, strict=True)
    ]
    return zip(*columns, strict=True)
