"""Rows that finish in any order come out in order, each once, with its outcome; anything else is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.data import noted
from genreg.draft import Done, Draft, Piece
from genreg.errors import PluginError
from genreg.form import Form
from genreg.generate import generate
from genreg.printing import Live
from genreg.samplers import interpolate
from genreg.specs import Condition, Sampler
from genreg.stream import OUTCOMES

COLUMNS = pa.schema([noted(pa.field("x", pa.float64()), decimals=1), pa.field("name", pa.string())])
CONDITIONS = [Condition("name", pa.string(), "a name", column="name")]
FORM = Form(COLUMNS, COLUMNS, CONDITIONS)


@dataclass
class Script:
    """Plays events; where an event is a number, that many drafts are pulled. All that remain are pulled first."""

    events: list[Any]
    pull: bool = True
    folder: Path | None = None

    def propose(self, seeds, given, /):
        return Draft(np.zeros((len(seeds), 1)), seeds, ("latent",), center=np.zeros(1))

    def render(self, draft, /):
        raise AssertionError("a model that streams is not rendered")

    def stream(self, drafts, /, *, folder) -> Iterator[Piece | Done]:
        self.folder = folder
        if self.pull:
            list(drafts)
        for event in self.events:
            if isinstance(event, int):
                for _ in range(event):
                    next(drafts, None)
            elif isinstance(event, Exception):
                raise event
            else:
                yield event


def rows(n: int, names: Any = ()) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"name": [*names, *[None] * (n - len(names))]}, schema=FORM.given)


def run(script: Script, n: int, names: Any = (), samplers: Any = (), **how: Any) -> list[pa.RecordBatch]:
    return list(generate(script, FORM, np.arange(n, dtype=np.uint64), rows(n, names), samplers, **how))


def made(script: Script, n: int, *names: Any, **how: Any) -> list[dict[str, Any]]:
    return [row for batch in run(script, n, names, **how) for row in batch.to_pylist()]


def done(row: int, x: float | None = None, outcome: str = "ok") -> Done:
    return Done(row, {} if x is None else {"x": x}, outcome)


# ---- order ----


@given(st.permutations(range(12)), st.integers(1, 13), st.integers(1, 13))
@settings(max_examples=60, deadline=None)
def test_rows_come_in_order_whatever_order_they_finish_in(order, batch, window):
    batches = run(Script([done(row, row) for row in order]), 12, batch=batch, window=window)
    assert [x for made in batches for x in made.column("x").to_pylist()] == list(range(12))
    assert all(made.num_rows == batch for made in batches[:-1])


def test_a_row_comes_out_as_soon_as_those_before_it_are_there():
    script = Script([done(1, 1), done(0, 0), done(3, 3), done(2, 2)])
    reached = []

    def watched(drafts, /, *, folder):
        for event in Script.stream(script, drafts, folder=folder):
            reached.append(event.row)
            yield event

    script.stream = watched
    found = generate(script, FORM, np.arange(4, dtype=np.uint64), rows(4), batch=2)
    assert next(found).column("x").to_pylist() == [0, 1]
    assert reached == [1, 0]


def test_pieces_are_for_people_and_leave_no_row():
    events = [Piece(1, "a"), done(1, 1), Piece(0, "b"), Piece(0, "c"), done(0, 0), Piece(7, "no such row")]
    assert [row["x"] for row in made(Script(events), 2)] == [0, 1]


def test_rows_count_over_all_drafts():
    script = Script([2, done(3, 3), done(0, 0), 1, done(5, 5), done(1, 1), done(2, 2), done(4, 4)], pull=False)
    assert [row["x"] for row in made(script, 6, window=2)] == list(range(6))


def test_rows_that_a_sampler_makes_are_rows_of_a_stream():
    script = Script([done(row, row) for row in reversed(range(7))])
    found = made(script, 3, samplers=[(Sampler(interpolate, scope="all"), {"steps": 3})])
    assert [row["x"] for row in found] == list(range(7))


def test_given_cells_lie_over_their_own_rows_in_whatever_order_they_finish():
    script = Script(
        [
            done(2, 2),
            Done(0, {"x": 0.0, "name": "made"}),
            done(3, outcome="failed"),
            Done(1, {"x": 1.0, "name": "made"}),
        ]
    )
    found = made(script, 4, "one", None, "three", "four", window=3)
    assert [row["name"] for row in found] == ["one", "made", "three", "four"]


def test_no_rows_start_no_stream():
    script = Script([AssertionError("started")])
    (batch,) = run(script, 0)
    assert batch.num_rows == 0
    assert batch.schema.equals(FORM.samples(streams=True), check_metadata=True)
    assert script.folder is None


def test_the_folder_is_handed_on(tmp_path):
    script = Script([done(0)])
    run(script, 1, folder=tmp_path)
    assert script.folder == tmp_path


# ---- outcomes ----


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_is_told_and_cells_that_are_not_there_are_null(outcome):
    assert made(Script([done(0, outcome=outcome), done(1, 0.25)]), 2) == [
        {"x": None, "name": None, "outcome": outcome},
        {"x": 0.2, "name": None, "outcome": "ok"},
    ]


def test_cells_are_rounded_as_the_datas():
    assert made(Script([Done(0, {"x": 0.123, "name": "花"})]), 1) == [{"x": 0.1, "name": "花", "outcome": "ok"}]


# ---- breaches ----

BREACHES: dict[str, tuple[list[Any], str]] = {
    "twice, waiting": ([done(1), done(1)], "stream finished row 1 twice, or before its draft was taken"),
    "twice, written": ([done(0), done(0)], "stream finished row 0 twice, or before its draft was taken"),
    "beyond": ([done(3)], "stream finished row 3 twice, or before its draft was taken"),
    "negative": ([done(-1)], "stream finished row -1 twice, or before its draft was taken"),
    "a row is missing": ([done(0), done(2)], "stream ended without row 1"),
    "the last is missing": ([done(0), done(1)], "stream ended without row 2"),
    "all are missing": ([], "stream ended without row 0"),
    "no outcome": (
        [done(0, outcome="great")],
        "stream finished row 0 as great; the outcomes are ok, length, refused, filtered, truncated, failed, unknown",
    ),
    "no column": ([Done(0, {"y": 1})], "stream finished row 0 with a column y, which the family does not declare"),
    "another type": (
        [done(0), Done(1, {"x": "one"}), done(2)],
        "stream made cells that are not of the declared types: "
        "Could not convert 'one' with type str: tried to convert to double",
    ),
}


@pytest.mark.parametrize(("events", "message"), BREACHES.values(), ids=BREACHES)
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_breach_is_told(events, message, batch):
    with pytest.raises(PluginError) as raised:
        run(Script(events), 3, batch=batch)
    assert " ".join(str(raised.value).split()) == message


def test_a_draft_that_was_not_taken_is_missed():
    with pytest.raises(PluginError, match=r"^stream ended without row 2$"):
        run(Script([1, done(0), done(1)], pull=False), 6, window=2)
    with pytest.raises(PluginError, match=r"^stream finished row 2 twice, or before its draft was taken$"):
        run(Script([1, done(2)], pull=False), 6, window=2)


def test_what_a_stream_raises_is_raised_after_the_rows_that_were_ready():
    found = generate(
        Script([done(0), done(1), OSError("no network")]), FORM, np.arange(4, dtype=np.uint64), rows(4), batch=2
    )
    assert next(found).num_rows == 2
    with pytest.raises(OSError, match="no network"):
        next(found)


# ---- pieces for people ----


def test_a_watcher_sees_the_pieces_of_the_row_that_comes_next_alone():
    seen: list[str] = []
    events = [Piece(1, "early"), Piece(0, "a"), done(0, 0), Piece(1, "b"), Piece(0, "late"), done(1, 1)]
    run(Script(events), 2, watch=seen.append)
    assert seen == ["a", "b"]


def test_text_on_a_terminal_is_printed_once_and_harmless(capsys):
    live = Live.of(pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string())]))
    live.watch("落叶\x1b[2J")
    rows = pa.RecordBatch.from_pydict({"text": ["落叶\x1b[2J\tend", None, "second"]})
    assert list(live.print_rows(iter([rows]))) == [rows]
    assert capsys.readouterr().out == "落叶 [2J\tend\n\nsecond\n"
    assert Live.of(pa.schema([pa.field("n", pa.int64())])) is None
