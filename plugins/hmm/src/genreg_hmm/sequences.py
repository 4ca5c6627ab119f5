"""Between Arrow and arrays: a row is a sequence, all sequences of a batch lie end to end.

Gaussian columns and counts are float64 [N, D], NaN where missing. Symbols are codes, int64 [N]: V stands for a symbol
that training did not see, V + 1 for a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.draft import Array, Batch
from genreg.errors import DataError
from genreg_hmm.config import Column, Config

LARGEST_COUNT = 10**9
CJK = (
    "\u2e80-\u303f\u3041-\u30ff\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # no spaces between words
)
WORD = re.compile(rf"[{CJK}\uff00-\uffef]|[^\W{CJK}\uff00-\uffef]+(?:['’-][^\W{CJK}]+)*|[^\w\s]")
WIDE = re.compile(rf"[{CJK}\uff00-\uffef]")
OPENING, CLOSING = "([{“‘`/-", ")]},.;:!?”’/-"


@dataclass(frozen=True, eq=False)
class Sequences:
    """n sequences of N steps in all."""

    lengths: Array  # int64 [n]
    parts: tuple[Array, ...]  # one per emission: [N, D] or [N]

    @property
    def offsets(self) -> Array:
        """Where each sequence begins, and the end: int64 [n + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.lengths)


def sequences(config: Config, batch: Batch, *, first_row: int = 0) -> Sequences:
    """The batch as arrays; raises DataError, naming the row, where lists of one row differ in length.

    A column that is absent, or null in a row, is missing throughout.
    """
    cut = {c.name: _cut(batch, c, config.unit) for c in config.columns if c.name in batch.schema.names}
    lengths = np.full(batch.num_rows, -1)
    for name, (own, _) in cut.items():
        _refuse_unequal(lengths, own, name, first_row)
        lengths = np.maximum(lengths, own)
    lengths = np.maximum(lengths, 0)
    parts = []
    for part in config.parts:
        cells = [
            _filled(lengths, *cut[c.name], missing(c)) if c.name in cut else _nothing(lengths, c) for c in part.columns
        ]
        parts.append(cells[0] if part.kind in ("categorical", "text") else np.stack(cells, 1))
    return Sequences(lengths, tuple(parts))


def missing(column: Column) -> float:
    """What stands for a missing cell."""
    return len(column.values) + 1 if column.kind in ("categorical", "text") else np.nan


def _nothing(lengths: Array, column: Column) -> Array:
    kind = np.int64 if column.kind in ("categorical", "text") else np.float64
    return np.full(int(lengths.sum()), missing(column), kind)


def _filled(lengths: Array, own: Array, cells: Array, empty: float) -> Array:
    """Cells with those of the rows that are null in this column put in, as missing."""
    if not ((own < 0) & (lengths > 0)).any():
        return cells
    out = np.full(int(lengths.sum()), empty, cells.dtype)
    out[np.repeat(own >= 0, lengths)] = cells
    return out


def _refuse_unequal(lengths: Array, own: Array, name: str, first_row: int) -> None:
    wrong = np.flatnonzero((lengths >= 0) & (own >= 0) & (lengths != own))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"row {first_row + row + 1}: column {name} has {own[row]} steps, and the columns before it have "
            f"{lengths[row]}: the lists of one row must be of one length"
        )


def _cut(batch: Batch, column: Column, unit: str) -> tuple[Array, Array]:
    """The length of each row (-1: null), and the cells of all rows end to end."""
    found: Any = batch.column(batch.schema.get_field_index(column.name))
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    null = np.asarray(found.is_null())
    if column.kind == "text":
        lengths, codes = text_codes(["" if t is None else t for t in found.to_pylist()], column.values, unit)
        return np.where(null, -1, lengths), codes
    lengths = pc.fill_null(pc.list_value_length(found), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    leaf = found.flatten()
    if column.kind == "categorical":
        return lengths, symbol_codes(leaf, column.values)
    return lengths, _numbers(leaf, column)


def _numbers(leaf: Any, column: Column) -> Array:
    """Readings or counts, float64, NaN where null; raises DataError for NaN, infinity, and counts that are none."""
    values = np.array(leaf.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if (~np.isfinite(values) & np.asarray(leaf.is_valid())).any():
        raise DataError(
            f"column {column.name} has NaN or infinity in its lists, which are not missing values: "
            "write null for what is missing"
        )
    if column.kind == "poisson":
        wrong = (values < 0) | (values != np.rint(values)) | (values > LARGEST_COUNT)
        if (wrong & ~np.isnan(values)).any():
            raise DataError(
                f"column {column.name} has {values[wrong & ~np.isnan(values)][0]:g}, and counts are whole numbers "
                f"from 0 to {LARGEST_COUNT:,}: --set emission=gaussian, or categorical"
            )
    return values


def symbol_codes(leaf: Any, values: Sequence[Any]) -> Array:
    """Codes of an array's symbols: V where a symbol is unknown, V + 1 where it is null."""
    known = pa.array(values, leaf.type)
    codes = pc.fill_null(pc.index_in(leaf, value_set=known), len(values))
    found: Array = pc.if_else(pc.is_valid(leaf), codes, len(values) + 1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def text_codes(texts: Sequence[str], values: Sequence[str], unit: str) -> tuple[Array, Array]:
    """The number of units in each text, and their codes end to end; V where a unit is unknown."""
    if unit == "word":
        code = {word: at for at, word in enumerate(values)}
        rows = [words(text) for text in texts]
        flat = np.array([code.get(word, len(values)) for row in rows for word in row], np.int64)
        return np.array([len(row) for row in rows], np.int64), flat
    points = code_points(texts)
    known = code_points(["".join(values)])  # sorted, for the values are
    at = np.minimum(np.searchsorted(known, points), max(len(known) - 1, 0))
    codes = np.where(known[at] == points, at, len(values)) if len(known) else np.zeros(len(points), np.int64)
    return np.array([len(text) for text in texts], np.int64), codes.astype(np.int64)


def words(text: str) -> list[str]:
    """Words, punctuation marks and CJK characters, without white space.

    >>> words("To be, 或者不 be")
    ['To', 'be', ',', '或', '者', '不', 'be']
    """
    return WORD.findall(text)


def spaced(units: Sequence[str], before: str = "") -> str:
    """Words as a text: no space next to a CJK character, before closing and after opening marks.

    >>> spaced(["be", ",", "或", "者", "(", "not", ")"], before="To")
    ' be,或者(not)'
    """
    out, last = [], before[-1:]
    for unit in units:
        tight = not last or last.isspace() or last in OPENING or unit[0] in CLOSING
        out.append(unit if tight or WIDE.match(last) or WIDE.match(unit) else " " + unit)
        last = unit[-1:] or last
    return "".join(out)


def code_points(texts: Sequence[str]) -> Array:
    """The characters of all texts as numbers: uint32."""
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)


# ---- back ----


def as_lists(flat: Any, lengths: Array) -> Any:
    """An Arrow list array of the lengths over a flat array."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.int32())
    return pa.ListArray.from_arrays(offsets, flat)


def as_texts(codes: Array, lengths: Array, column: Column, unit: str, prefixes: Sequence[str | None]) -> list[str]:
    """Text of codes that lie end to end; a prefix is kept letter by letter, what it has of unknown symbols too."""
    cells = np.array([*column.values, "\N{REPLACEMENT CHARACTER}", ""], object)[codes].tolist()
    out, end = [], 0
    for length, prefix in zip(lengths.tolist(), prefixes, strict=True):
        units, end, kept = cells[end : end + length], end + length, prefix or ""
        rest = units[len(words(kept)) :] if unit == "word" else units[len(kept) :]
        out.append(kept + (spaced(rest, kept) if unit == "word" else "".join(rest)))
    return out
