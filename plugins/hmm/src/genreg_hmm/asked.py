"""What ``given`` asks for: what is observed, how long, and how emissions are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.data import empty_batch, with_column
from genreg.draft import Array, Batch
from genreg.errors import UsageError
from genreg_hmm.categorical import Knobs
from genreg_hmm.config import Config, columns
from genreg_hmm.sequences import Sequences, sequences

LARGEST = 10_000_000  # steps of a sample


@dataclass(frozen=True, eq=False)
class Asked:
    """What ``given`` says of n samples."""

    seen: Sequences  # what is observed, from the first step on
    lengths: Array  # int64 [n]; 0: until the end that is drawn
    prefix: Array  # object [n]: text or None
    knobs: dict[str, Array]

    @classmethod
    def of(cls, config: Config, given: Batch) -> Asked:
        """Read the conditions; raises UsageError for what contradicts itself or the alphabet."""
        names = [column.name for column in config.columns]
        prefix: Any = _condition(given, "prefix", names)
        whole = empty_batch(columns(config), given.num_rows)
        for name in names:
            if name in given.schema.names:
                whole = with_column(whole, whole.schema.field(name), given.column(name))
        closed = np.zeros(given.num_rows, bool)
        for name in names:
            closed |= np.asarray(whole.column(name).is_valid())
        texts = np.full(given.num_rows, None, object)
        if prefix is not None and prefix.null_count < len(prefix):
            starts = np.asarray(prefix.is_valid())
            if (starts & closed).any():
                raise UsageError(f"prefix: {names[0]} is given too, and says how it begins: leave one of them out")
            merged = pa.array(
                [
                    a if a is not None else b
                    for a, b in zip(prefix.to_pylist(), whole.column(names[0]).to_pylist(), strict=True)
                ]
            )
            whole = with_column(whole, whole.schema.field(names[0]), merged.cast(whole.schema.field(names[0]).type))
            texts[:] = prefix.to_pylist()
        seen = sequences(config, whole)
        _refuse_unknown(config, seen)
        lengths = _lengths(config, seen, closed, _condition(given, "length", names))
        return cls(seen, lengths, texts, _knobs(given, names))


def _condition(given: Batch, name: str, names: list[str]) -> Any:
    wanted = f"@{name}" if name in names else name
    return given.column(wanted) if wanted in given.schema.names else None


def _refuse_unknown(config: Config, seen: Sequences) -> None:
    for part, cells in zip(config.parts, seen.parts, strict=True):
        if part.kind == "categorical" and (cells == len(part.columns[0].values)).any():
            step = int(np.flatnonzero(cells == len(part.columns[0].values))[0])
            row = int(np.searchsorted(seen.offsets, step, side="right")) - 1
            values = part.columns[0].values
            shown = ", ".join(map(str, values[:20])) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
            place = f"row {row + 1}, step {step - seen.offsets[row] + 1}"
            raise UsageError(
                f"{part.columns[0].name}: {place} is a symbol that training did not see; there are: {shown}"
            )


def _lengths(config: Config, seen: Sequences, closed: Array, asked: Any) -> Array:
    open_end = np.zeros(len(seen), np.int64) if config.end else seen.lengths + config.length
    nothing = np.flatnonzero(closed & (seen.lengths == 0))
    if len(nothing):
        raise UsageError(
            f"{config.columns[0].name}: row {nothing[0] + 1} is given as a sequence of no steps: leave it out"
        )
    default = np.where(closed, seen.lengths, open_end)
    if asked is None or asked.null_count == len(asked):
        return default
    wanted = asked.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    there = np.asarray(asked.is_valid())
    if ((wanted < 1) | (wanted > LARGEST))[there].any():
        wrong = wanted[there & ((wanted < 1) | (wanted > LARGEST))][0]
        raise UsageError(f"length={wrong}: a sample has from 1 to {LARGEST:,} steps")
    short = there & (wanted < seen.lengths)
    if short.any():
        raise UsageError(
            f"length={wanted[short][0]} is shorter than what is given, which has {seen.lengths[short][0]} steps"
        )
    text = next((column.name for column in config.columns if column.kind == "text"), None)
    if text and (there & closed & (wanted > seen.lengths)).any():
        raise UsageError(f"length: the text {text} is given as a whole; to have it continued give it as the prefix")
    return np.where(there, wanted, default)


def _knobs(given: Batch, names: list[str]) -> dict[str, Array]:
    found = {}
    for name, default in Knobs()._asdict().items():
        column = _condition(given, name, names)
        values = (
            np.full(given.num_rows, default)
            if column is None
            else column.fill_null(default).to_numpy(zero_copy_only=False)
        )
        if name == "temperature" and not ((values >= 0) & np.isfinite(values)).all():
            raise UsageError(f"temperature={values[~((values >= 0) & np.isfinite(values))][0]:g}: it is 0 or more")
        if name == "top_k" and column is not None and (values < 1)[np.asarray(column.is_valid())].any():
            raise UsageError(f"top_k={values.min()}: it is 1 or more")
        if name == "top_p" and not ((values > 0) & (values <= 1)).all():
            raise UsageError(f"top_p={values[~((values > 0) & (values <= 1))][0]:g}: it is above 0, and at most 1")
        found[name] = values
    return found
