"""Steps one after the other, over data larger than memory, with an account of what each of them took and changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import Array, Batch
from genreg.data import PARTS, Part, Source, chosen_rows, empty_batch, spool, with_column
from genreg.errors import DataError, UsageError
from genreg.options import bind, of_function, parse_call
from genreg.plugins import Components
from genreg.preprocess import Chain, CleanStep, Step
from genreg.specs import Fitted, FittedMap, Preprocessor, Report
from genreg_data.parts import split

HELD = 1 << 25  # bytes of rows held in memory between two steps: what is larger lies in a file and is mapped
EXAMPLES = 3  # rows and cells shown of each step
ROW = "\0row"  # the column of row numbers that rides through a clean step


@dataclass
class Account:
    """What a clean step did: rows before and after, cells changed, examples of both, by part."""

    step: str
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)  # cells, by column
    taken: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """The account as JSON."""
        rows = {part: {"before": self.before.get(part), "after": after} for part, after in self.after.items()}
        return {"step": self.step, "rows": rows, "taken": self.taken, "changed": self.changed, "changes": self.changes}


@dataclass(frozen=True)
class Prepared:
    """Parts after all steps, the maps that made them, and what each step did."""

    parts: Mapping[Part, Source]
    chain: Chain
    accounts: Sequence[Account]


def run_steps(
    source: Source, calls: Sequence[str], components: Components, folder: Path, report: Report, *, seed: int = 0
) -> Prepared:
    """Run steps in their order; what comes after ``split`` is fitted on the training part alone.

    Without a split, all rows are training rows. ``folder`` takes what does not fit in memory.
    Raises UsageError for steps in an order that cannot be, DataError for what a step finds in the data.
    """
    parts: dict[Part, Source] = {"train": spool(_counted(source, report), folder, "rows", above=HELD)}
    if not parts["train"].rows:
        raise DataError("the source has no rows")
    accounts: list[Account] = []
    maps: list[Step] = []
    for number, call in enumerate(calls):
        name, knobs = parse_call(call, "--steps")
        if name == "split":
            parts = _split(parts, maps, knobs, folder, seed)
            accounts.append(Account(call, after={part: rows_of(source) for part, source in parts.items()}))
            continue
        step: Preprocessor = components.find("preprocessors", name)
        values = bind(of_function(step.fit), knobs, f"--steps {name}: ")
        fitted = step.fit(parts["train"], **values)
        if step.kind == "map":
            maps.append(Step(name, components.owners["preprocessors", name], cast(FittedMap, fitted)))
            parts = {part: source.map(fitted.apply) for part, source in parts.items()}
            continue
        if maps:
            raise UsageError(f"--steps {name}: it cleans, and {maps[-1].name} before it maps: maps come last")
        account = Account(call)
        for part, source in parts.items():
            parts[part] = _cleaned(source, fitted, account, folder, f"{part}-{number}", report, alone=len(parts) == 1)
        accounts.append(account)
        if not parts["train"].rows:
            raise DataError(f"--steps {call}: it left no row")
    return Prepared(parts, Chain(tuple(maps)), accounts)


def rows_of(source: Source) -> int:
    """How many rows a spooled source has."""
    assert source.rows is not None
    return source.rows


def _split(
    parts: Mapping[Part, Source], maps: Sequence[Step], knobs: Mapping[str, str], folder: Path, seed: int
) -> dict[Part, Source]:
    """The parts that have rows, spooled; raises UsageError where rows are split already, or mapped."""
    if len(parts) > 1 or maps:
        raise UsageError("--steps split: rows are split once, and before any map, which is fitted on train alone")
    values = {"seed": seed, **bind(of_function(split), knobs, "--steps split: ")}
    whole = parts["train"]
    found = split(whole, **values)
    counts = np.bincount(found, minlength=len(PARTS)).tolist()
    if not counts[0]:
        raise DataError(f"--steps split: none of the {len(found):,} rows falls into train: give it a larger share")
    return {
        part: spool(chosen_rows(whole, found == at, part), folder, part, above=HELD)
        for at, part in enumerate(PARTS)
        if counts[at]
    }


def _cleaned(
    source: Source, step: Fitted, account: Account, folder: Path, name: str, report: Report, *, alone: bool
) -> Source:
    """The rows after a clean step, spooled, with the account of what it did."""
    begun = step.begin() if isinstance(step, CleanStep) and step.begin else step.apply
    schema = step.apply(empty_batch(source.schema)).schema

    def read(_: int) -> Iterator[Batch]:
        start = 0
        for batch in source.scan():
            numbered = _numbered(batch, start)
            after = begun(numbered)
            note_changes(account, batch, after, start, {} if alone else {"part": source.part})
            start += batch.num_rows
            report(start, source.rows)
            yield after.select(schema.names)

    part: str = source.part
    account.before[part] = account.before.get(part, 0) + (source.rows or 0)
    found = spool(Source(schema, read, None, source.part), folder, name, above=HELD)
    account.after[part] = account.after.get(part, 0) + rows_of(found)
    return found


def _numbered(batch: Batch, start: int) -> Batch:
    numbers = pa.array(np.arange(start, start + batch.num_rows))
    return with_column(batch, pa.field(ROW, pa.int64()), numbers)


def note_changes(account: Account, before: Batch, after: Batch, start: int, where: Mapping[str, str]) -> None:
    """Count the cells that changed, and keep the first examples of rows taken and of cells changed.

    ``before`` begins with the part's row ``start``; ``after`` has the numbers of its rows in ROW.
    """
    kept = after.column(ROW).to_numpy() - start
    gone = np.ones(before.num_rows, bool)
    gone[kept] = False
    for row in np.flatnonzero(gone)[: EXAMPLES - len(account.taken)].tolist():
        account.taken.append({**where, "row": start + row + 1, **shown_row(before, row)})
    left = before.take(pa.array(kept)) if gone.any() else before
    for name in left.schema.names:
        old, new = left.column(name), after.column(name)
        at = changed_cells(old, new)
        if not len(at):
            continue
        account.changed[name] = account.changed.get(name, 0) + len(at)
        for row in at[: max(0, EXAMPLES - len(account.changes))].tolist():
            cells = {"from": shown_cell(old[row].as_py()), "to": shown_cell(new[row].as_py())}
            account.changes.append({**where, "row": start + int(kept[row]) + 1, "column": name, **cells})


def changed_cells(old: Any, new: Any) -> Array:
    """Where two columns of as many rows differ: int64, ascending; nowhere if they cannot be compared."""
    nowhere = np.zeros(0, np.int64)
    if old.type != new.type or pa.types.is_nested(old.type) or isinstance(old.type, pa.BaseExtensionType):
        return nowhere
    if old.equals(new):
        return nowhere
    moved = pc.fill_null(pc.not_equal(old, new), False)
    if pa.types.is_floating(old.type):  # NaN is not equal to itself
        moved = pc.and_not(moved, pc.fill_null(pc.and_(pc.is_nan(old), pc.is_nan(new)), False))
    moved = pc.or_(moved, pc.not_equal(old.is_null(), new.is_null()))
    return np.flatnonzero(moved.to_numpy(zero_copy_only=False))


def shown_row(batch: Batch, row: int) -> dict[str, Any]:
    """A row as JSON, long cells cut."""
    pixels = [f.name for f in batch.schema if isinstance(f.type, pa.BaseExtensionType)]
    return {
        name: "image" if name in pixels else shown_cell(batch.column(name)[row].as_py()) for name in batch.schema.names
    }


def shown_cell(value: Any) -> Any:
    """A cell as JSON, cut where it is long."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _counted(source: Source, report: Report) -> Source:
    """The same rows as the training part, each batch of which is reported when it is read."""

    def read(size: int) -> Iterator[Batch]:
        done = 0
        for batch in source.batches(size=size):
            done += batch.num_rows
            report(done, source.rows)
            yield batch

    return Source(source.schema, read, source.rows, "train")
