"""Clean steps: noise out of text, rows by length, range, size and pattern, cells filled from their group."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import Batch
from genreg.data import Source, notes, with_column
from genreg.errors import DataError, UsageError, did_you_mean
from genreg.images import each_image, image_columns
from genreg.preprocess import CleanStep, chosen_columns, is_text, typical
from genreg_data.cleaners import CLEANERS


def scrub(source: Source, *, cleaners: list[str], columns: list[str] | None = None, empty: str = "null") -> CleanStep:
    """Take noise out of text with ready-made cleaners, in the order named.

    They are html, url, email, control, punctuation, symbols, space, halfwidth, fullwidth, nfc, nfd, nfkc, nfkd, lower.
    Without ``columns`` all text but the label is cleaned. Text of which nothing is left is missing, or stays empty with
    ``empty=keep``. Raises UsageError for a cleaner that is not there, DataError for a column that is not text.
    """
    for name in cleaners:
        if name not in CLEANERS:
            raise UsageError(
                f"--preprocess scrub: cleaners={name}: there is no such cleaner{did_you_mean(name, CLEANERS)}"
            )
    if empty not in ("null", "keep"):
        raise UsageError(f"--preprocess scrub: empty={empty}: write null or keep")

    def clean(column: Any) -> Any:
        text = column
        for name in cleaners:
            text = CLEANERS[name](text)
        emptied = pc.and_(pc.equal(pc.binary_length(text), 0), pc.greater(pc.binary_length(column), 0))
        return pc.if_else(emptied, pa.scalar(None, text.type), text) if empty == "null" else text

    return _on_text(source, columns, "scrub", clean)


def replace(source: Source, *, pattern: str, by: str = "", columns: list[str] | None = None) -> CleanStep:
    r"""Put text in place of what a regular expression (RE2) matches: nothing unless ``by`` is given.

    ``\1`` in ``by`` is the first group. Raises UsageError for a pattern that RE2 does not know.
    """
    _compiled(pattern, "replace")
    return _on_text(source, columns, "replace", lambda text: pc.replace_substring_regex(text, pattern, by))


def match(source: Source, *, column: str, pattern: str, drop: bool = False) -> CleanStep:
    """Keep the rows whose text a regular expression (RE2) matches, or with ``drop`` the others.

    A missing cell matches nothing.
    """
    _compiled(pattern, "match")
    _text_columns(source.schema, [column], "match")

    def keep(batch: Batch) -> Any:
        found = pc.fill_null(pc.match_substring_regex(batch.column(column), pattern), False)
        return pc.invert(found) if drop else found

    return _kept(keep)


def within(source: Source, *, column: str, low: str | None = None, high: str | None = None) -> CleanStep:
    """Keep the rows whose number, date or time lies from ``low`` to ``high``, ends included; missing cells too.

    Raises DataError for a bound that is not of the column's type.
    """
    chosen_columns(source.schema, [column], "within", lambda _: True)
    kind = source.schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
        raise DataError(f"--preprocess within: column {column} holds {kind}, and a range is of numbers, dates or times")
    if low is None and high is None:
        raise UsageError("--preprocess within: give low=…, high=… or both")
    bounds = [None if bound is None else _bound(bound, kind, column) for bound in (low, high)]

    def keep(batch: Batch) -> Any:
        cells, kept = batch.column(column), pa.array(np.ones(batch.num_rows, bool))
        for bound, fits in zip(bounds, (pc.greater_equal, pc.less_equal), strict=True):
            if bound is not None:
                kept = pc.and_(kept, pc.fill_null(fits(cells, bound), True))
        return kept

    return _kept(keep)


def length(source: Source, *, column: str, least: int = 0, most: int | None = None) -> CleanStep:
    """Keep the rows whose text (in characters) or list (in cells) is so long; missing cells too."""
    chosen_columns(source.schema, [column], "length", lambda _: True)
    kind = source.schema.field(column).type
    if not (is_text(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DataError(f"--preprocess length: column {column} holds {kind}, and text and lists have a length")
    measure = pc.utf8_length if is_text(kind) else pc.list_value_length

    def keep(batch: Batch) -> Any:
        sizes = measure(batch.column(column)).cast(pa.int64())
        fits = pc.greater_equal(sizes, least)
        return pc.fill_null(fits if most is None else pc.and_(fits, pc.less_equal(sizes, most)), True)

    return _kept(keep)


def imagesize(
    source: Source, *, column: str | None = None, least: int = 1, most: int | None = None,
    broken: Literal["refuse", "drop"] = "refuse",
) -> CleanStep:  # fmt: skip
    """Keep the rows whose image has sides from ``least`` to ``most`` pixels; broken ones stop the run, or are dropped.

    It looks at encoded images, which may be of any size.
    """
    name = image_column(source.schema, column, "imagesize")

    def fits(image: Any) -> bool:
        return bool(min(image.shape[:2]) >= least and (most is None or max(image.shape[:2]) <= most))

    def keep(batch: Batch) -> Any:
        kept = []
        for row in range(batch.num_rows):
            try:
                kept += [image is None or fits(image) for image in each_image(batch.column(name).slice(row, 1))]
            except DataError as error:
                if broken == "refuse":
                    raise DataError(f"{error}: leave it out with --preprocess imagesize:broken=drop") from None
                kept.append(False)
        return pa.array(kept, pa.bool_())

    return _kept(keep)


class Fill(NamedTuple):
    """What a column's missing cells are filled with: by group, and where a group has no cell of its own."""

    by_group: dict[Any, Any]
    otherwise: Any


def fillgroup(
    source: Source, *, group: str, columns: list[str] | None = None,
    strategy: Literal["mean", "median", "mode"] = "mean",
) -> CleanStep:  # fmt: skip
    """Fill missing cells with the mean, median or mode of the row's group, else of all rows.

    Numbers take the strategy, text and yes/no the mode. Raises DataError for a column without any cell.
    """
    chosen_columns(source.schema, [group], "fillgroup", lambda _: True)
    table = pa.Table.from_batches(list(source.scan()), source.schema)
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(table.column(group).to_pylist()):
        rows.setdefault(value, []).append(row)
    fills = {}
    for name in chosen_columns(source.schema, columns, "fillgroup", lambda field: field.name != group):
        column, kind = table.column(name), table.schema.field(name).type
        if column.null_count:
            whole = typical(name, column, kind, strategy)
            cells = {value: column.take(at) for value, at in rows.items()}
            own = {v: typical(name, c, kind, strategy) for v, c in cells.items() if c.null_count < len(c)}
            fills[name] = Fill(own, whole)

    def apply(batch: Batch) -> Batch:
        groups = batch.column(group).to_pylist() if group in batch.schema.names else [None] * batch.num_rows
        for name, fill in fills.items():
            column, field = batch.column(name), batch.schema.field(name)
            if column.null_count:
                values = pa.array([fill.by_group.get(value, fill.otherwise).as_py() for value in groups], field.type)
                batch = with_column(batch, field, pc.coalesce(column, values))
        return batch

    return CleanStep(apply)


def image_column(schema: pa.Schema, column: str | None, step: str) -> str:
    """The column of images that is named, or the only one; raises DataError."""
    able = image_columns(schema)
    if column is None and len(able) == 1:
        return able[0]
    if column is not None:
        chosen_columns(schema, [column], step, lambda _: True)
    if column not in able:
        there = f"name one: column={able[0]}" if able else "the data has no images"
        asked = f"column {column} holds {schema.field(column).type}, not images" if column else there
        raise DataError(f"--preprocess {step}: {asked}")
    return column


def text_column(schema: pa.Schema, column: str | None, step: str) -> str:
    """The column of text that is named, or the only one but the label; raises DataError."""
    able = _text_columns(schema, None if column is None else [column], step)
    if len(able) != 1:
        there = f"name one of {', '.join(able)}: column={able[0]}" if able else "the data has no text"
        raise DataError(f"--preprocess {step}: {there}")
    return able[0]


def _on_text(source: Source, columns: list[str] | None, step: str, change: Callable[[Any], Any]) -> CleanStep:
    chosen = _text_columns(source.schema, columns, step)

    def apply(batch: Batch) -> Batch:
        for name in chosen:
            batch = with_column(batch, batch.schema.field(name), change(batch.column(name)))
        return batch

    return CleanStep(apply)


def _text_columns(schema: pa.Schema, columns: list[str] | None, step: str) -> list[str]:
    chosen = chosen_columns(schema, columns, step, lambda f: is_text(f.type) and not notes(f).get("role"))
    for name in chosen:
        if not is_text(schema.field(name).type):
            raise DataError(f"--preprocess {step}: column {name} holds {schema.field(name).type}, not text")
    return chosen


def _kept(keep: Callable[[Batch], Any]) -> CleanStep:
    return CleanStep(lambda batch: batch.filter(keep(batch)))


def _compiled(pattern: str, step: str) -> None:
    """Raise UsageError for what is no regular expression of RE2."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = re.sub(r"^Invalid regular expression: ", "", str(error))
        raise UsageError(f"--preprocess {step}: pattern={pattern} is no regular expression: {reason}") from None


def _bound(text: str, kind: pa.DataType, column: str) -> Any:
    try:
        return pa.scalar(text).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"--preprocess within: {text} is not a {kind}, which column {column} holds") from None
