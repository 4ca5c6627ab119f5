"""Labels: a column by its name, a second file by key, and what is done with rows that have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from genreg import Batch
from genreg.data import Source, named_with_role, noted, require_columns, with_column
from genreg.errors import DataError
from genreg.preprocess import CleanStep, chosen_columns

Unlabeled: TypeAlias = Literal["refuse", "keep", "drop"]


def label(source: Source, *, column: str, unlabeled: Unlabeled = "refuse") -> CleanStep:
    """Say which column is the label, and what becomes of rows without one: refuse, keep or drop.

    Raises DataError for a column that is not there, or for the first row without a label.
    """
    chosen_columns(source.schema, [column], "label", lambda _: False)
    _refuse_second(source.schema, column, "label")
    field = noted(source.schema.field(column), role="label")
    return _labeled(lambda batch: with_column(batch, field, batch.column(column)), column, unlabeled)


def labels(
    source: Source, *, file: str, key: str, column: str = "label", unlabeled: Unlabeled = "refuse",
    loader: str = "", name: str = "",
) -> CleanStep:  # fmt: skip
    """Take each row's label from a second file, by a ``key`` that both have.

    ``column`` is the label's in that file, ``name`` what it is called here (the same, unless told). Raises DataError
    where a key has two labels, or a row none (unless they are kept or dropped).
    """
    name = name or column
    require_columns(source.schema, [key], "--preprocess labels: key")
    if name in source.schema.names:
        raise DataError(f"--preprocess labels: the data has a column {name} already: name=… calls the label otherwise")
    _refuse_second(source.schema, name, "labels")
    known, kind = _read_labels(Path(file), loader, key, column)
    field = noted(pa.field(name, kind), role="label")
    wanted = source.schema.field(key).type
    try:
        keys = pa.array(list(known), pa.string()).cast(wanted) if known else pa.array([], wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"--preprocess labels: {key} is {wanted} in the data, and {file} has others") from None
    values = pa.array(list(known.values()), kind)

    def join(batch: Batch) -> Batch:
        return with_column(batch, field, values.take(pc.index_in(batch.column(key), keys)))

    return _labeled(join, name, unlabeled)


def _read_labels(path: Path, loader: str, key: str, column: str) -> tuple[dict[str | None, Any], pa.DataType]:
    """Labels by their keys' text, and their type; raises DataError where a key has two."""
    from genreg.loading import open_source
    from genreg.plugins import load_plugins

    found = open_source(path, load_plugins().loaders, loader or None)
    require_columns(found.schema, [key, column], f"--preprocess labels: {path.name}:")
    known: dict[str | None, Any] = {}
    for batch in found.scan():
        keys = batch.column(key).cast(pa.string()).to_pylist()
        for own, value in zip(keys, batch.column(column).to_pylist(), strict=True):
            if own is None or value is None:
                continue
            if known.setdefault(own, value) != value:
                raise DataError(
                    f"--preprocess labels: {path.name} has two labels for {key}={own}: {known[own]}, {value}"
                )
    return known, found.schema.field(column).type


def _labeled(add: Callable[[Batch], Batch], column: str, unlabeled: Unlabeled) -> CleanStep:
    """The step that adds labels to a batch, then refuses, keeps or drops the rows that have none."""

    def apply(batch: Batch) -> Batch:
        batch = add(batch)
        missing = batch.column(column).null_count
        if missing and unlabeled == "refuse":
            raise DataError(
                f"column {column} has no label in {missing:,} of {batch.num_rows:,} rows: "
                "unlabeled=drop leaves them out, unlabeled=keep keeps them"
            )
        return batch.filter(batch.column(column).is_valid()) if missing and unlabeled == "drop" else batch

    return CleanStep(apply)


def _refuse_second(schema: pa.Schema, column: str, step: str) -> None:
    other = named_with_role(schema, "label")
    if other not in (None, column):
        raise DataError(f"--preprocess {step}: {other} is the label already, and {column} would be a second one")
