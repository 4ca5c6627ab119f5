"""Rows that a model finishes in any order, put in order again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from genreg.data import conform
from genreg.draft import Batch, Done, Draft, Piece, Streaming
from genreg.errors import PluginError
from genreg.form import Form

Watch: TypeAlias = Callable[[str], object]

OUTCOMES = ("ok", "length", "refused", "filtered", "truncated", "failed", "unknown")


def in_order(
    model: Streaming,
    form: Form,
    drafts: Iterator[Draft],
    given: Batch,
    batch: int,
    folder: Path,
    watch: Watch | None = None,
) -> Iterator[Batch]:
    """Rows in order as they become ready; one that is waited for holds back those after it, and no request.

    ``watch`` sees the pieces of the row that is waited for.
    """
    origin: dict[int, int] = {}  # row of all drafts -> row of given, until the row is written

    def noted() -> Iterator[Draft]:
        total = 0
        for draft in drafts:
            origin.update(zip(range(total, total + len(draft)), draft.given_rows.tolist(), strict=True))
            total += len(draft)
            yield draft

    waiting: dict[int, Done] = {}
    ready: list[Done] = []
    next_row = 0
    for event in model.stream(noted(), folder=folder):
        if isinstance(event, Piece):
            if watch and event.row == next_row:
                watch(event.text)
            continue
        if event.row < next_row or event.row in waiting or event.row not in origin:
            raise PluginError(f"stream finished row {event.row} twice, or before its draft was taken")
        _check(event, form)
        waiting[event.row] = event
        while next_row in waiting:
            ready.append(waiting.pop(next_row))
            next_row += 1
        while len(ready) >= batch:
            yield _finished(ready[:batch], form, given, origin)
            ready = ready[batch:]
    if waiting or origin.keys() - {done.row for done in ready} or next(drafts, None) is not None:
        raise PluginError(f"stream ended without row {next_row}")
    if ready:
        yield _finished(ready, form, given, origin)


def _check(done: Done, form: Form) -> None:
    """Raise PluginError where a finished row has an outcome or a column that there is none of."""
    if done.outcome not in OUTCOMES:
        raise PluginError(f"stream finished row {done.row} as {done.outcome}; the outcomes are {', '.join(OUTCOMES)}")
    for name in done.columns:
        if name not in form.columns.names:
            raise PluginError(f"stream finished row {done.row} with a column {name}, which the family does not declare")


def _finished(done: list[Done], form: Form, given: Batch, origin: dict[int, int]) -> Batch:
    cells = [{name: row.columns.get(name) for name in form.columns.names} for row in done]
    try:
        rendered = pa.RecordBatch.from_pylist(cells, schema=form.columns)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise PluginError(f"stream made cells that are not of the declared types: {error}") from None
    rows = np.array([origin.pop(row.row) for row in done])
    samples = form.out_of_model(rendered, given, rows)
    outcomes = pa.array([row.outcome for row in done], pa.string())
    return conform(samples.append_column(str(form.outcome(True)), outcomes), form.samples(streams=True))
