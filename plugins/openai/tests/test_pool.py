"""The pool: each request once, pieces that can be read, bounded memory, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from genreg.draft import Done, Piece
from genreg.errors import UsageError
from genreg_openai.budget import Budget
from genreg_openai.calls import Answer, Call, Failure, Request
from genreg_openai.journal import Journal
from genreg_openai.limits import Throttle
from genreg_openai.pool import Pool


def pool_of(ask: Callable[[Request, Call], Any], folder: Path | None = None, **how: Any) -> Pool:
    @asynccontextmanager
    async def connect():
        yield ask

    how = {"throttle": Throttle(4), **how}
    return Pool("host", connect, Journal(folder), **how)


def requests(count: int, key: Callable[[int], str] = str) -> Iterator[Request]:
    return (Request(row, key(row), {}, worst=Decimal("0.1")) for row in range(count))


def run(pool: Pool, count: int, key: Callable[[int], str] = str) -> list[Piece | Done]:
    try:
        return list(pool.run(requests(count, key)))
    finally:
        pool.journal.close()


def test_every_row_is_finished_once_and_never_more_than_the_limit_are_asked():
    asked, running, most = Counter(), [0], [0]

    async def ask(request, call):
        asked[request.row] += 1
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.001 * (request.row % 5))
        running[0] -= 1
        return Answer({"text": str(request.row)})

    done = run(pool_of(ask), 200)
    assert sorted((event.row, event.columns["text"]) for event in done) == [(row, str(row)) for row in range(200)]
    assert set(asked.values()) == {1}
    assert most[0] == 4


def test_pieces_are_those_of_the_oldest_row_and_whole():
    async def ask(request, call):
        for part in "abc":
            await asyncio.sleep(0.001)
            call.piece(f"{request.row}{part}")
        if request.row == 0:
            await asyncio.sleep(0.05)
        return Answer()

    events = run(pool_of(ask), 8)
    finished: set[int] = set()
    for event in events:
        if isinstance(event, Done):
            finished.add(event.row)
        else:
            assert event.row == min(set(range(8)) - finished)
    assert "".join(event.text for event in events if isinstance(event, Piece)).startswith("0a0b0c")


def test_rows_that_ask_the_same_share_one_answer():
    asked = Counter()

    async def ask(request, call):
        asked[request.key] += 1
        await asyncio.sleep(0.01)
        return Answer({"text": request.key})

    done = run(pool_of(ask), 10, key=lambda row: str(row % 2))
    assert len(done) == 10
    assert asked == {"0": 1, "1": 1}


def test_a_slow_row_holds_back_a_bounded_number(monkeypatch):
    monkeypatch.setattr("genreg_openai.pool.AHEAD", 20)
    taken, slow = [0], threading.Event()

    async def ask(request, call):
        while request.row == 0 and not slow.is_set():
            await asyncio.sleep(0.001)
        return Answer()

    def watched() -> Iterator[Request]:
        for request in requests(100):
            taken[0] += 1
            yield request

    pool, done = pool_of(ask), 0
    for event in pool.run(watched()):
        done += isinstance(event, Done)
        if done == 20:
            assert taken[0] <= 22
            slow.set()
    assert done == 100
    pool.journal.close()


def test_what_was_submitted_is_fetched_and_not_asked_again(tmp_path):
    calls = []

    async def ask(request, call):
        calls.append(call.id)
        if call.id is None:
            await call.submitted("job-7")
            raise KeyError("the process dies here")
        return Answer({"text": f"fetched {call.id}"})

    with pytest.raises(KeyError):
        run(pool_of(ask, tmp_path), 1)
    (done,) = run(pool_of(ask, tmp_path), 1)
    assert done.columns == {"text": "fetched job-7"}
    assert calls == [None, "job-7"]


def test_leaving_early_waits_for_what_is_on_its_way_and_notes_it(tmp_path):
    answered = []

    async def ask(request, call):
        await asyncio.sleep(0.02 if request.row == 0 else 0.2)
        answered.append(request.row)
        return Answer({"text": "x"})

    pool = pool_of(ask, tmp_path)
    events = pool.run(requests(50))
    next(events)
    events.close()
    states = [entry.state for entry in map(pool.journal.find, map(str, range(50))) if entry]
    assert states == ["done"] * len(answered)
    assert 4 <= len(answered) <= 5
    pool.journal.close()


def test_what_stops_the_run_stops_those_that_wait_too():
    asked = []

    async def ask(request, call):
        asked.append(request.row)
        if request.row == 2:
            raise Failure("no more", billed=False, stops=UsageError)
        await asyncio.sleep(0.01)
        return Answer()

    pool = pool_of(ask, throttle=Throttle(1))
    with pytest.raises(UsageError, match="no more"):
        run(pool, 50)
    assert asked == [0, 1, 2]


def test_a_mistake_of_the_asking_code_is_raised_as_it_is():
    async def ask(request, call):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run(pool_of(ask), 3)


def test_a_client_that_cannot_be_made_is_told():
    @asynccontextmanager
    async def connect():
        raise RuntimeError("no client")
        yield

    with pytest.raises(RuntimeError, match="no client"):
        run(Pool("host", connect, Journal(None)), 3)


def test_the_budget_stops_the_run_before_it_is_exceeded():
    async def ask(request, call):
        await asyncio.sleep(0.001)
        return Answer(cost=Decimal("0.1"))

    budget = Budget(Decimal("0.75"))
    pool = pool_of(ask, budget=budget)
    with pytest.raises(UsageError, match=r"the budget of \$0\.75 does not reach: \$0\.700000 is spent"):
        run(pool, 50)
    assert budget.spent == Decimal("0.7")


def test_a_full_disk_ends_the_run_before_anything_is_sent(monkeypatch, tmp_path):
    asked = []

    async def ask(request, call):
        asked.append(request.row)
        return Answer()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genreg_openai.journal.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        run(pool_of(ask, tmp_path), 5)
    assert asked == []
