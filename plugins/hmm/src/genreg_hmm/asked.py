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
        whole = empty_batch(columns(config), given.num_rows)
        for name in names:
            if name in given.schema.names:
                whole = with_column(whole, whole.schema.field(name), given.column(name))
        closed = np.zeros(given.num_rows, bool)  # the sequence is given to its end
        for name in names:
            closed |= np.asarray(whole.column(name).is_valid())
        texts = np.full(given.num_rows, None, object)
        prefix: Any = _condition(given, "prefix", names)
        if prefix is not None and prefix.null_count < len(prefix):
            whole = _begun(whole, names[0], prefix, closed)
            texts[:] = prefix.to_pylist()
        seen = sequences(config, whole)
        _refuse_unknown(config, seen)
        lengths = _lengths(config, seen, closed, _condition(given, "length", names))
        return cls(seen, lengths, texts, _knobs(given, names))


def _begun(whole: Batch, name: str, prefix: Any, closed: Array) -> Batch:
    """The batch with prefixes in the first column; raises UsageError where a row has a prefix and a sequence."""
    if (np.asarray(prefix.is_valid()) & closed).any():
        raise UsageError(f"prefix: {name} is given too, and says how it begins: leave one of them out")
    pairs = zip(prefix.to_pylist(), whole.column(name).to_pylist(), strict=True)
    merged = pa.array([begin if begin is not None else cells for begin, cells in pairs])
    field = whole.schema.field(name)
    return with_column(whole, field, merged.cast(field.type))


def _condition(given: Batch, name: str, names: list[str]) -> Any:
    """The column of a condition, None where it is not given; ``@`` stands before the name of one of the data's."""
    wanted = f"@{name}" if name in names else name
    return given.column(wanted) if wanted in given.schema.names else None


def _refuse_unknown(config: Config, seen: Sequences) -> None:
    """Raise UsageError for a symbol that training did not see; a text's letters may be unknown."""
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
    """Steps of each sample, int64 [n], 0 until an end that is drawn; raises UsageError for a length that cannot be."""
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
    """Temperature, top_k and top_p of each row; raises UsageError outside of their ranges."""
    found = {}
    for name, default in Knobs()._asdict().items():
        column = _condition(given, name, names)
        if column is None:
            found[name] = np.full(given.num_rows, default)
            continue
        values = column.fill_null(default).to_numpy(zero_copy_only=False)
        if name == "temperature" and not ((values >= 0) & np.isfinite(values)).all():
            raise UsageError(f"temperature={values[~((values >= 0) & np.isfinite(values))][0]:g}: it is 0 or more")
        if name == "top_k" and (values < 1)[np.asarray(column.is_valid())].any():
            raise UsageError(f"top_k={values.min()}: it is 1 or more")
        if name == "top_p" and not ((values > 0) & (values <= 1)).all():
            raise UsageError(f"top_p={values[~((values > 0) & (values <= 1))][0]:g}: it is above 0, and at most 1")
        found[name] = values
    return found
