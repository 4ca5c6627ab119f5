"""The split as a step: by content, key or group as the core does it, by time, or by a column that says it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genreg import Array
from genreg.data import PARTS, Source, assign_parts, named_with_role, parse_split, require_columns, untimed
from genreg.errors import DataError, UsageError

Parts = npt.NDArray[np.int8]


def split(
    source: Source,
    *,
    shares: str = "70/15/15",
    label: str | None = None,
    key: str | None = None,
    group: str | None = None,
    time: str | None = None,
    part: str | None = None,
    seed: int = 0,
) -> Parts:
    """The part of each row as an index into train, validation, test: int8 [rows].

    Rows go by a hash of their content, their ``key`` or their ``group`` (which stays whole), with the shares kept
    within each ``label``; by ``time``, the earliest to train; or as the column ``part`` says in words.
    Raises DataError where a group, or a key, lies in two parts; UsageError for ways that exclude each other.
    """
    where = "--steps split"
    require_columns(source.schema, [name for name in (label, key, group, time, part) if name], f"{where}:")
    if time and part:
        raise UsageError(f"{where}: time={time} and part={part}: one of them decides")
    if not (time or part):
        label = label or named_with_role(source.schema, "label")
        return assign_parts(source, parse_split(shares), seed=seed, key=key, group=group, label=label)
    parts = by_time(source, time, parse_split(shares)) if time else by_column(source, str(part))
    for name in (group, key):
        if name:
            refuse_straddling(source, name, parts)
    return parts


def by_time(source: Source, time: str, shares: Any) -> Parts:
    """The earliest rows to train, the latest to test; rows of one time stay together. Raises DataError for null."""
    times = _column(source, time)
    if not (pa.types.is_temporal(times.type) or pa.types.is_integer(times.type) or pa.types.is_floating(times.type)):
        raise DataError(
            f"--steps split: time={time}: the column holds {times.type}, and times are dates, times, numbers"
        )
    if times.null_count:
        raise DataError(
            f"--steps split: time={time}: {times.null_count:,} rows have none: drop them with dropna:columns={time}"
        )
    values: Array = np.asarray(untimed(times).to_numpy(zero_copy_only=False))
    bounds = np.cumsum([shares.get(part, 0.0) for part in PARTS])[:-1]
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / max(len(values), 1)
    return np.searchsorted(bounds, middle, side="right")[where].astype(np.int8)


def by_column(source: Source, name: str) -> Parts:
    """As a column says: train, validation (val, dev), test. Raises DataError for any other word."""
    words = {"train": 0, "training": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2}
    found = []
    for word in _column(source, name).to_pylist():
        if str(word).lower() not in words:
            raise DataError(f"--steps split: part={name}: {word} is none of train, validation, test")
        found.append(words[str(word).lower()])
    return np.array(found, np.int8)


def refuse_straddling(source: Source, name: str, parts: Parts) -> None:
    """Raise DataError naming the first group whose rows lie in two parts."""
    home: dict[Any, int] = {}
    for value, part in zip(_column(source, name).to_pylist(), parts.tolist(), strict=True):
        if value is not None and home.setdefault(value, part) != part:
            both = " and ".join(PARTS[at] for at in sorted((home[value], part)))
            raise DataError(
                f"--steps split: {name}={value} has rows in {both}, and a group lies in one part: "
                f"group={name} without time or part keeps it whole"
            )


def _column(source: Source, name: str) -> Any:
    chunks = [batch.column(name) for batch in source.scan()]
    kind: Any = source.schema.field(name).type
    return pa.concat_arrays(chunks) if chunks else pa.array([], kind)
