"""The pool: thousands of requests, some at a time, each paid for once.

    request ─► journal says done? answer from there ─► reserve its worst price ─► wait for a turn ─► note "sent"
            ─► ask ─► note the answer ─► settle its price ─► the row is done

The asking goes on in a thread of its own, which runs an event loop, so that it neither waits for whoever takes the
rows nor minds a notebook's loop. Requests are pulled as there is room, so that any number of them take little memory.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from queue import SimpleQueue
from typing import Any

from genreg.cli.common import note
from genreg.draft import Done, Piece
from genreg.errors import Interrupted
from genreg_openai.budget import Budget
from genreg_openai.calls import NOTE, Answer, Ask, Call, Connect, Failure, Request
from genreg_openai.journal import Journal
from genreg_openai.limits import Throttle
from genreg_openai.policy import judged

AHEAD = 4096  # rows that may be finished before the oldest one that is not: they are held in memory
GRACE = 20.0  # seconds for what is on its way, and paid for, when somebody presses Ctrl-C
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between attempts where the service names none
UNKNOWN = (
    "an earlier run sent it and was cut off before the answer: it may have been billed; --option resend=true asks again"
)


@dataclass(frozen=True)
class Pool:
    """What all requests of a run share; ``run`` finishes them in whatever order they are answered.

    ``attempts`` are those of one request; a wait that the service asks for may be ``patience`` seconds long. ``resend``
    asks again what may have been billed already: server errors, lost connections, and what an earlier run left open.
    """

    host: str
    connect: Connect
    journal: Journal
    budget: Budget = field(default_factory=Budget)
    throttle: Throttle = field(default_factory=lambda: Throttle(4))
    attempts: int = 6
    patience: float = 120.0
    resend: bool = False
    scrub: Callable[[str], str] = str  # takes a key out of what a service says

    def run(self, requests: Iterator[Request]) -> Generator[Piece | Done, None, None]:
        """Pieces and finished rows. Pieces are those of the oldest row that is not finished, so that people can read.

        Raises UsageError or Unreachable, once what is on its way has been answered and noted, where all that is left
        would fail alike: a wrong key, an exhausted quota or budget, a service that cannot be reached.
        """
        work = _Work(self)
        try:
            yield from work.events_of(requests)
        finally:
            work.end()


class _Work:
    """One run of a pool: the caller's thread feeds and takes, the loop's thread asks."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.events: SimpleQueue[Piece | Done | int] = SimpleQueue()  # a number: this row was given up
        self.open: dict[int, None] = {}  # rows handed to the loop and not taken back, oldest first
        self.early: dict[int, list[str]] = {}  # pieces of rows that are not the oldest: nobody is woken for them
        self.oldest, self.lock = 0, threading.Lock()  # the lock is for these two
        self.stopped: BaseException | None = None  # why nothing more is sent
        self.same: dict[str, asyncio.Future[Answer]] = {}  # by key: a row that asks the same shares the answer
        self.tasks: set[asyncio.Task[None]] = set()
        self.busy: set[asyncio.Task[Any] | None] = set()  # those with something on its way, or to be noted
        self.loop, self.finish, self.started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        self.thread = threading.Thread(target=self._loop, name="genreg-openai", daemon=True)
        self.thread.start()
        self.started.wait()

    # ---- the caller's thread ----

    def events_of(self, requests: Iterator[Request]) -> Iterator[Piece | Done]:
        """Feed the loop and take what it finishes, until there is nothing left."""
        room, last, more = 2 * self.pool.throttle.most, -1, True
        while True:
            while more and not self.stopped and len(self.open) < room and last - next(iter(self.open), last) < AHEAD:
                request = next(requests, None)
                more = request is not None
                if request is not None:
                    self.open[request.row], last = None, request.row
                    self.loop.call_soon_threadsafe(self._start, request)
            if not self.open:
                break
            event = self.events.get()
            if isinstance(event, Piece):
                yield event
                continue
            row = event.row if isinstance(event, Done) else event
            del self.open[row]
            if isinstance(event, Done):
                yield event
            with self.lock:
                self.early.pop(row, None)
                self.oldest = next(iter(self.open), last + 1)
                held = "".join(self.early.pop(self.oldest, ()))
            if held:
                yield Piece(self.oldest, held)
        if self.stopped:
            raise self.stopped

    def end(self) -> None:
        """Let what is on its way be answered and noted, and end the loop; a second Ctrl-C does not wait for it."""
        if self.open:
            self.stopped = self.stopped or Interrupted("interrupted")
        try:
            if self.thread.is_alive():
                self.loop.call_soon_threadsafe(self._finish)
                self.thread.join(0.5)
            if self.thread.is_alive():
                note(f"waiting up to {GRACE:.0f} s for answers that are paid for; Ctrl-C again does not wait")
                self.thread.join(GRACE)
        finally:
            with suppress(RuntimeError):  # it has ended
                self.loop.call_soon_threadsafe(self._cancel, self.tasks)
            self.thread.join(5)

    # ---- the loop's thread ----

    def _loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            self.stopped = self.stopped or error
        finally:
            self.loop.close()
            self.started.set()

    async def _serve(self) -> None:
        async with self.pool.connect() as ask:
            self.ask: Ask = ask
            self.started.set()
            await self.finish.wait()
            while self.tasks:
                await asyncio.wait(self.tasks)

    def _start(self, request: Request) -> None:
        task = self.loop.create_task(self._row(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(self.busy.discard)

    def _finish(self) -> None:
        self.finish.set()
        self._cancel(self.tasks - self.busy)

    def _cancel(self, tasks: set[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()

    def _stop(self, reason: BaseException) -> None:
        """Send nothing more; what waits for its turn is given up."""
        if self.stopped is None:
            self.stopped = reason
            self._cancel(self.tasks - self.busy)

    async def _row(self, request: Request) -> None:
        """One row, whatever happens: an answer, or the reason why the run stops."""
        try:
            answer = await self._shared(request)
        except asyncio.CancelledError:
            self.events.put(request.row)
        except BaseException as error:
            self._stop(error)
            self.events.put(request.row)
        else:
            with self.lock:
                self.early.pop(request.row, None)  # the row is whole before anybody waited for its pieces
            self.events.put(Done(request.row, answer.columns, answer.outcome))

    async def _shared(self, request: Request) -> Answer:
        """The answer, which rows that ask the same at the same time share."""
        if request.key in self.same:
            return await asyncio.shield(self.same[request.key])
        shared = self.same[request.key] = self.loop.create_future()
        try:
            answer = await self._answer(request)
            shared.set_result(answer)
        finally:
            shared.cancel()
            del self.same[request.key]
        return answer

    async def _answer(self, request: Request) -> Answer:
        """The journal's answer, or one that is asked for and noted."""
        journal, resend = self.pool.journal, self.pool.resend
        known = journal.find(request.key)
        if known and known.state == "done":
            answer = journal.answer(known)
            if answer.outcome not in ("failed", "unknown") or not resend:
                return answer
        if known and known.state == "sent" and not resend:
            answer = Answer({NOTE: UNKNOWN}, "unknown")
            await journal.done(request.key, answer)
            return answer
        if self.stopped:
            raise self.stopped
        await self.pool.budget.reserve(request.worst)
        cost = request.worst
        try:
            answer = await self._asked(request, known.id if known and known.state == "submitted" else None)
            cost = answer.cost
        except _NotBilled as error:
            cost = Decimal(0)
            raise error.reason from None
        finally:
            self.pool.budget.settle(request.worst, cost)
        return answer

    async def _asked(self, request: Request, id: str | None) -> Answer:
        """Ask, and ask again what was surely not billed; the answer is on the disk when this is back."""
        pool, journal, attempt = self.pool, self.pool.journal, 0
        while True:
            attempt += 1
            try:
                answer = await self._attempt(request, id)
            except Failure as failure:
                if not failure.billed:
                    await journal.rejected(request.key, failure.message)
                again = failure.retry or (pool.resend and failure.billed)
                if again and attempt < pool.attempts and not self.stopped and (failure.after or 0) <= pool.patience:
                    await self._pause(failure, attempt)
                    continue
                if failure.stops:
                    raise _NotBilled(failure.stops(failure.message)) from None
                columns = {**failure.columns, NOTE: failure.message}
                answer = Answer(columns, failure.outcome, cost=None if failure.billed else Decimal(0))
            await journal.done(request.key, answer)
            return answer

    async def _attempt(self, request: Request, id: str | None) -> Answer:
        """Ask once, in turn; raises Failure, having told the throttle and the pool what it means for others."""
        pool = self.pool
        await pool.throttle.enter(request.tokens)
        answered = False
        try:
            if self.stopped:
                raise _NotBilled(self.stopped)
            self.busy.add(asyncio.current_task())
            if id is None:
                await pool.journal.sent(request.key, request.worst)
            call = Call(partial(self._tell, request.row), partial(pool.journal.submitted, request.key), id)
            answer = await self.ask(request, call)
            answered = True
        except (_NotBilled, OSError):  # OSError: the journal's, for the network's are wrapped
            raise
        except Exception as error:
            failure = judged(error, pool.host)
            failure.message = pool.scrub(failure.message)
            if failure.crowded:  # before others get a turn
                pool.throttle.back_off(FIRST_WAIT if failure.after is None else failure.after)
            if failure.stops and not failure.retry:
                self._stop(failure.stops(failure.message))
            raise failure from error
        finally:
            pool.throttle.leave(answered=answered)
        return answer

    async def _pause(self, failure: Failure, attempt: int) -> None:
        """Wait before asking again: as long as the service says, else longer each time."""
        wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.75, 1)
        wait = wait if failure.after is None else failure.after
        self.busy.discard(asyncio.current_task())
        await asyncio.sleep(wait)

    def _tell(self, row: int, text: str) -> None:
        with self.lock:
            if row == self.oldest:
                self.events.put(Piece(row, text))
            else:
                self.early.setdefault(row, []).append(text)


class _NotBilled(Exception):
    """The run stops, and this request is surely not billed."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason
