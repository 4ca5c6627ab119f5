"""How values are spelled as text, and what the text of a column can be.

A column's type follows from all its cells: whole numbers are exact, leading zeros stay text, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import noted
from genreg.draft import Batch
from genreg.errors import DataError
from genreg.images import image_columns
from genreg.textfiles import PACKED

ROWS = 65_536  # rows turned into text together
TEXT = pa.large_string()

# ---- what the text of a column can be ----


TYPES: dict[str, pa.DataType] = {  # in order of preference; "beyond": whole numbers that no type here holds, so text
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "beyond": pa.string(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "zoned": pa.timestamp("us", "UTC"),
}
READ = {*TYPES.values()}  # what Arrow makes of text itself
TEMPORAL = {"date", "time", "zoned"}
TRUE, FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
CODE = r"^[ \t]*(\+|-?0[0-9])"  # 00123 is a code and +49 a telephone number: they are text
DECIMALS = 15  # more are the digits of float64 itself, and rounding to them would only disturb it


@dataclass
class Column:
    """The kinds that every cell so far is spelled as, and the most decimals written (None: an exponent was)."""

    kinds: set[str] = field(default_factory=lambda: set(TYPES))
    seen: bool = False
    decimals: int | None = 0

    def narrow(self, text: Any) -> None:
        """Keep the kinds that fit the cells of ``text``, nulls apart."""
        cells = text.drop_null() if text.null_count else text
        if self.kinds and len(cells):
            self.seen = True
            numbers = "float" in self.kinds and (self._numbers(cells) or self._numbers(pc.ascii_trim(cells, " \t")))
            self.kinds &= numbers or self._others(cells)

    def _numbers(self, cells: Any) -> set[str]:
        if "int64" in self.kinds and _is_spelled(cells, pa.int64()):
            negative = pc.min(cells.cast(pa.int64())).as_py() < 0
            return {"int64", "beyond", "float"} if negative else {"int64", "uint64", "beyond", "float"}
        if "uint64" in self.kinds and _is_spelled(cells, pa.uint64()):
            return {"uint64", "beyond", "float"}
        if "beyond" in self.kinds and all_true(pc.match_substring_regex(cells, "^(-?[1-9][0-9]*|0)$")):
            return {"beyond", "float"}
        if not _castable(cells, pa.float64()) or any_true(pc.match_substring_regex(cells, CODE)):
            return set()
        if self.decimals is not None:
            exponent = any_true(pc.match_substring(cells, "e")) or any_true(pc.match_substring(cells, "E"))
            point = pc.find_substring(cells, ".")
            after = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(pc.binary_length(cells), point), 1))
            self.decimals = None if exponent else max(self.decimals, pc.max(after).as_py())
        return {"float"}

    def _others(self, cells: Any) -> set[str]:
        if "bool" in self.kinds and all_true(pc.is_in(cells, pa.array(TRUE + FALSE))):
            return {"bool"}
        return {kind for kind in TEMPORAL & self.kinds if _castable(cells, TYPES[kind])}

    def field(self, name: str) -> pa.Field[Any]:
        """The column's field: text where nothing was seen, or nothing else fits."""
        kind = next((kind for kind in TYPES if self.seen and kind in self.kinds), "")
        known = kind == "float" and self.decimals is not None and self.decimals <= DECIMALS
        return noted(pa.field(name, TYPES.get(kind, pa.string())), decimals=self.decimals if known else None)


def _castable(cells: Any, goal: pa.DataType) -> bool:
    try:
        cells.cast(goal)
    except pa.ArrowInvalid:
        return False
    return True


def _is_spelled(cells: Any, goal: pa.DataType) -> bool:
    """Whether each cell is a whole number in its one spelling: no leading zero, no plus, not hexadecimal."""
    return _castable(cells, goal) and bool(cells.cast(goal).cast(pa.string()).equals(cells))


def all_true(flags: Any) -> bool:
    """Whether all flags are true, nulls apart."""
    return bool(pc.all(flags, min_count=0).as_py())


def any_true(flags: Any) -> bool:
    """Whether one of the flags is true."""
    return bool(pc.any(flags, min_count=0).as_py())


# ---- rows as lines of text ----


def refuse_nested(schema: pa.Schema, kind: str, way: str, *, lists: bool) -> None:
    """Raise DataError for the first column that lines of text cannot hold."""
    for entry in schema:
        leaf: Any = entry.type
        while lists and is_listed(leaf):
            leaf = leaf.value_type
        within = leaf is not entry.type and (pa.types.is_time(leaf) or pa.types.is_duration(leaf))
        if within or not is_scalar(leaf):
            image = entry.name in image_columns(schema)
            what, way = ("images", ".png, a folder (OUT/), .npz or .parquet") if image else (entry.type, way)
            raise DataError(f"column {entry.name} holds {what}, which {kind} cannot hold: write {way}")


def is_scalar(kind: pa.DataType) -> bool:
    """Whether one text spells a value of the type, and can be read as it again."""
    types = pa.types
    able = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_string, types.is_temporal)
    return kind in (TEXT, pa.null()) or (any(check(kind) for check in able) and not types.is_interval(kind))


def is_listed(kind: pa.DataType) -> bool:
    """Whether the type is a list of any kind that JSON spells."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def join(*parts: Any, by: str = "") -> Any:
    """Texts joined element by element; null is empty."""
    texts = [pa.scalar(part, TEXT) if isinstance(part, str) else part for part in (*parts, by)]
    return pc.binary_join_element_wise(*texts, null_handling="replace", null_replacement="")


def write_lines(
    batches: Iterable[Batch], path: Path, head: str, lines: Callable[[Batch], Any], tail: Callable[[], str] = str
) -> None:
    """Write the head, the text that ``lines`` makes of each row, and the tail."""
    kind: Any = PACKED.get(path.suffix.lower())
    with path.open("wb") as raw, pa.CompressedOutputStream(raw, kind) if kind else raw as opened:
        file: Any = opened
        file.write(head.encode())
        for batch in batches:
            for at in range(0, batch.num_rows if batch.num_columns else 0, ROWS):
                text = lines(batch.slice(at, ROWS))
                file.write(memoryview(text.buffers()[2])[: pc.sum(pc.binary_length(text)).as_py()])
        file.write(tail().encode())


def spelled(column: Any) -> Any:
    """A scalar column as text: floats shortest but never like whole numbers, times as ISO 8601, in UTC."""
    if pa.types.is_floating(column.type):
        return pc.replace_substring_regex(column.cast(TEXT), "^(-?[0-9]+)$", r"\1.0")
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    text = column.cast(TEXT)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        strange = text.filter(pc.invert(pc.match_substring_regex(text, "^[0-9]{4}-")))
        if len(strange):
            raise DataError(f"the time {strange[0]} is not within the years 0 to 9999: write .parquet or .arrow")
    return text


def respelled(text: Any, kind: Any) -> Any:
    """What ``spelled`` made, in its type again; raises ArrowInvalid for text that is none."""
    types = pa.types
    if types.is_null(kind):
        return pa.nulls(len(text))
    if types.is_duration(kind):
        return text.cast(pa.int64()).cast(kind)
    if types.is_time(kind) and not types.is_time(text.type):
        day = pc.binary_join_element_wise("1970-01-01", text.cast(pa.string()), " ")
        return day.cast(pa.timestamp(kind.unit)).cast(kind)
    return text.cast(kind)
