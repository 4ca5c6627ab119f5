"""Hugging Face datasets, ``hf-datasets://owner/name`` or a local folder: read by their ``datasets`` library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genreg import Batch
from genreg.data import Source, noted, resized
from genreg.errors import DataError
from genreg.images import image_field


def hf_datasets(reference: str, *, split: str = "train", config: str = "", revision: str = "") -> Source:
    """Hugging Face datasets: hf-datasets://owner/name, or a folder (hf-datasets:///home/me/reviews).

    Downloaded once to the library's cache and mapped from there. ``split`` may be a slice (train[:1000]); classes
    become their names, images encoded ones. Raises DataError for what the library cannot load.
    """
    datasets = _library(reference)
    name = reference.partition("://")[2]
    with _told(reference):
        options = {"name": config or None, "revision": revision or None}
        found = datasets.load_dataset(name, split=split, **options)
    features = found.features
    undecoded = {key: datasets.Image(decode=False) for key, one in features.items() if isinstance(one, datasets.Image)}
    for key, feature in undecoded.items():
        found = found.cast_column(key, feature)
    schema = pa.schema([_field(key, feature, datasets) for key, feature in features.items()])
    classes = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(classes) == 1:  # of several, nobody knows which is meant
        at = schema.get_field_index(classes[0])
        schema = schema.set(at, noted(schema.field(at), role="label"))

    def batches(size: int) -> Iterator[Batch]:
        with _told(reference):
            for table in found.with_format("arrow").iter(batch_size=size):
                columns = [_column(table.column(field.name), features[field.name], datasets) for field in schema]
                yield from pa.Table.from_arrays(columns, schema=schema).combine_chunks().to_batches()

    return Source(schema, lambda size: resized(batches(size), schema, size), found.num_rows)


def _field(name: str, feature: Any, datasets: Any) -> Any:
    """A feature as a column: classes by their names, images encoded."""
    if isinstance(feature, datasets.ClassLabel):
        return noted(pa.field(name, pa.string()), values=feature.names)
    if isinstance(feature, datasets.Image):
        return image_field(name)
    return pa.field(name, datasets.Features({name: feature}).arrow_schema.field(name).type)


def _column(column: Any, feature: Any, datasets: Any) -> Any:
    """A table's column as ``_field`` has it."""
    if isinstance(feature, datasets.ClassLabel):
        codes = pc.if_else(pc.less(column, 0), None, column)  # -1 is no label
        return pa.array(feature.names, pa.string()).take(codes)
    if isinstance(feature, datasets.Image):
        data = pc.struct_field(column, "bytes")
        if data.null_count > column.null_count:
            return _with_files(column)
        return data
    return column


def _with_files(column: Any) -> Any:
    """Images that are names of files, read."""
    cells: list[bytes | None] = []
    for cell in column.to_pylist():
        if cell is None or cell["bytes"] is not None:
            cells.append(cell and cell["bytes"])
            continue
        with open(cell["path"], "rb") as file:  # noqa: PTH123 - the library's own path
            cells.append(file.read())
    return pa.chunked_array([pa.array(cells, pa.binary())])


def _library(reference: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(f'{reference} needs the library datasets: pip install "datasets>=4"') from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


@contextmanager
def _told(reference: str) -> Iterator[None]:
    """What the library raises, in one line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the library's own are many, and come from others' libraries too
        reason = " ".join(str(error).split())
        raise DataError(f"{reference} cannot be loaded: {type(error).__name__}: {reason[:300]}") from None
