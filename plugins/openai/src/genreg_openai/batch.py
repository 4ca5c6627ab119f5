"""The Batch API: many requests in one file, half the price, an answer within a day.

    requests ─► journal says done? answer from there; under way? join its batch ─► note "sent", and the file's own name
             ─► upload, begin a batch ─► note its id ─► look until it has ended ─► note each answer ─► the rows are done

The name is in the batch's metadata. So where a process dies between beginning a batch and noting its id, the next run
finds out whether it was begun, and neither loses nor repeats it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from genreg.cli.common import note
from genreg.draft import Done
from genreg.errors import GenregError, UsageError
from genreg.windows import JOURNAL
from genreg_openai.budget import Budget
from genreg_openai.calls import NOTE, Answer, Failure, Request, key_of
from genreg_openai.endpoint import Endpoint, client
from genreg_openai.journal import Journal
from genreg_openai.policy import FILTERED, Unreachable, judged
from genreg_openai.pool import UNKNOWN

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")
# From a request and the body of its answer; raises Failure for what is none
Answered: TypeAlias = Callable[[Request, Mapping[str, Any]], Awaitable[Answer]]

MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000  # in one batch (the service takes 200 MB)
NEW = "new:"  # before a batch's own name, as long as nobody knows the service's id of it
TAG = "genreg"  # the key of that name in the batch's metadata
ENDED = {"completed", "failed", "expired", "cancelled"}
TOGETHER = 64  # answers that are noted with one fsync
NOTHING = Decimal(0)  # USD
TRIES = 6  # looks in a row that may fail


@dataclass(frozen=True)
class Batches:
    """How requests are sent as batches: to an API's ``path``, each as ``sent`` has it, read by ``answered``.

    ``poll`` are the seconds between two looks; requests of a batch that expired are sent again, ``attempts`` times in
    all: an expired request is not billed.
    """

    endpoint: Endpoint
    path: str
    journal: Journal
    budget: Budget
    answered: Answered
    sent: Callable[[Request], Mapping[str, Any]] = lambda request: request.body
    poll: float = 30.0
    timeout: float = 120.0
    attempts: int = 6

    def run(self, requests: Iterator[Request]) -> Generator[Done, None, None]:
        """Finished rows, as batches end. Raises UsageError or Unreachable where that must wait for people."""
        with _Loop() as loop:
            service = client(self.endpoint, timeout=self.timeout, connections=4)
            try:
                work = _Work(self, service)
                for request in requests:
                    yield from work.done(loop.call(work.begin(request)))
                loop.call(work.join())
                while work.todo or work.open:
                    loop.call(work.submit())
                    loop.call(asyncio.sleep(self.poll if work.looked else min(self.poll, 1.0)))
                    for id in loop.call(work.ended()):
                        answers = work.results(id)
                        while group := loop.call(_some(answers, TOGETHER)):
                            yield from work.done(loop.call(work.take(group)))
                        yield from work.done(loop.call(work.close(id)))
            finally:
                loop.call(service.close())


@dataclass
class _Work:
    """One run: requests to be sent, and those of batches that are under way."""

    how: Batches
    service: AsyncOpenAI
    todo: dict[str, Request] = field(default_factory=dict)  # by key
    open: dict[str, dict[str, Request]] = field(default_factory=dict)  # by batch id
    rows: dict[str, list[int]] = field(default_factory=dict)  # by key: those that wait for its answer
    tried: dict[str, int] = field(default_factory=dict)  # by key
    reserved: dict[str, Decimal | None] = field(default_factory=dict)  # by key, in this run
    held: dict[str, Decimal] = field(default_factory=dict)  # by key: what an earlier run's request may cost
    batches: dict[str, Any] = field(default_factory=dict)  # by id, as it was last seen
    looked: int = 0

    def done(self, answers: Iterable[tuple[str, Answer]]) -> Iterator[Done]:
        """The rows that wait for the answers."""
        for key, answer in answers:
            for row in self.rows.pop(key, ()):
                yield Done(row, answer.columns, answer.outcome)

    async def begin(self, request: Request) -> list[tuple[str, Answer]]:
        """Take a request in: its answer, where the journal has it."""
        key, journal = request.key, self.how.journal
        known = journal.find(key)
        self.rows.setdefault(key, []).append(request.row)
        if known and known.state == "done":
            return [(key, journal.answer(known))]
        if known and known.state == "sent":  # not by a batch
            answer = Answer({NOTE: UNKNOWN}, "unknown")
            await journal.done(key, answer)
            return [(key, answer)]
        if known and known.state == "submitted" and known.id:
            self.held[key] = journal.totals.open.get(key) or NOTHING
            self.open.setdefault(known.id, {})[key] = request
        elif not any(key in batch for batch in self.open.values()):
            self.todo[key] = request
        return []

    async def join(self) -> None:
        """Find the batches of which an earlier run did not learn the id; what was never begun is to be sent."""
        for name in [id for id in self.open if id.startswith(NEW)]:
            requests, id = self.open.pop(name), await self.find(name)
            if id is None:
                for key, request in requests.items():
                    await self.how.journal.rejected(key, "its batch was never begun")
                    self.how.budget.spent -= self.held.pop(key)
                    self.todo[key] = request
            else:
                await asyncio.gather(*(self.how.journal.submitted(key, id) for key in requests))
                self.open[id] = requests
        for id, requests in self.open.items():
            note(f"batch {id} of an earlier run: {_counted(requests)}")

    async def find(self, name: str) -> str | None:
        """The service's id of a batch, by our own name of it; None where it has none."""
        try:
            async for batch in self.service.batches.list(limit=100):
                if (batch.metadata or {}).get(TAG) == name.removeprefix(NEW):
                    return batch.id
        except Exception as error:
            raise self.later(error, "finds out whether a batch of an earlier run was begun") from None
        return None

    def later(self, error: Exception, what: str) -> Unreachable:
        """Why the run ends here, and what --resume does then."""
        host, scrub = self.how.endpoint.host, self.how.endpoint.scrub
        return Unreachable(f"{scrub(judged(error, host).message)}; --resume {what}")

    async def submit(self) -> None:
        """Send what there is to be sent, as much as the budget reaches for."""
        while self.todo:
            lines: dict[str, bytes] = {}
            size = 0
            for key, request in self.todo.items():
                line = _line(key, self.how.path, self.how.sent(request))
                fits = len(lines) < MOST_REQUESTS and size + len(line) <= MOST_BYTES
                if not fits or not self.affords(request.worst):
                    break
                await self.how.budget.reserve(request.worst)
                self.reserved[key] = request.worst
                lines[key], size = line, size + len(line)
            if not lines:
                if not self.open:  # nothing will be settled that could make room
                    await self.how.budget.reserve(next(iter(self.todo.values())).worst)
                return
            await self.send({key: self.todo.pop(key) for key in lines}, b"".join(lines.values()))

    def affords(self, worst: Decimal | None) -> bool:
        """Whether the budget reaches for one request more."""
        budget = self.how.budget
        return budget.cap is None or worst is None or budget.spent + budget.reserved + worst <= budget.cap

    async def send(self, requests: dict[str, Request], data: bytes) -> None:
        """Note what is sent, begin a batch, and note its id."""
        journal, name = self.how.journal, NEW + key_of(*requests, *(self.tried.get(key, 0) for key in requests))
        notes = [(journal.sent(key, one.worst), journal.submitted(key, name)) for key, one in requests.items()]
        await asyncio.gather(*(one for pair in notes for one in pair))
        try:
            file = await self.service.files.create(file=("genreg.jsonl", data), purpose="batch")
            path: Any = self.how.path  # the client knows those there are as literals
            tag = {TAG: name.removeprefix(NEW)}
            batch = await self.service.batches.create(
                completion_window="24h", endpoint=path, input_file_id=file.id, metadata=tag
            )
            id = batch.id
        except Exception as error:
            failure = judged(error, self.how.endpoint.host)
            if failure.billed:
                raise self.later(failure, "finds out whether the batch was begun") from None
            message = self.how.endpoint.scrub(failure.message)
            for key in requests:
                await journal.rejected(key, message)
            raise (failure.stops or UsageError)(message) from None
        await asyncio.gather(*(journal.submitted(key, id) for key in requests))
        self.open[id] = requests
        for key in requests:
            self.tried[key] = self.tried.get(key, 0) + 1
        note(f"batch {id} has begun with {_counted(requests)}: it may take a day, and --resume picks it up again")

    async def ended(self) -> list[str]:
        """The batches that have ended by now."""
        self.looked += 1
        for id in self.open:
            failed = 0
            while True:
                try:
                    self.batches[id] = await self.service.batches.retrieve(id)
                    break
                except Exception as error:
                    failed, failure = failed + 1, judged(error, self.how.endpoint.host)
                    if failed == TRIES or (failure.stops and not failure.retry):
                        raise self.later(failure, f"looks for the batch {id} again") from None
                    await asyncio.sleep(min(0.2 * 2**failed, self.how.poll))
        return [id for id in self.open if self.batches[id].status in ENDED]

    async def results(self, id: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """Each line of a batch's files that answers one of its requests: what was answered, or refused."""
        batch = self.batches[id]
        try:
            for file in filter(None, (batch.output_file_id, batch.error_file_id)):
                async with self.service.files.with_streaming_response.content(file) as response:
                    async for line in response.iter_lines():
                        found = json.loads(line) if line.strip() else {}
                        if found.get("custom_id") in self.open[id]:
                            yield found["custom_id"], found
        except Exception as error:
            raise self.later(error, f"fetches the answers of batch {id} again") from None

    async def take(self, lines: list[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Answer]]:
        """Read answers, settle what they cost, and note them."""
        found = []
        for key, line in lines:
            batch = next((one for one in self.open.values() if key in one), None)
            if batch is None or (line.get("error") or {}).get("code") == "batch_expired":
                continue
            request = batch.pop(key)
            try:
                response = line.get("response") or {}
                if response.get("status_code") != 200:
                    raise _refused(line)
                answer = await self.how.answered(request, response.get("body") or {})
            except Failure as failure:
                columns = {**failure.columns, NOTE: self.how.endpoint.scrub(failure.message)}
                answer = Answer(columns, failure.outcome, cost=None if failure.billed else NOTHING)
            found.append((key, answer))
            self.settle(key, answer.cost)
        await asyncio.gather(*(self.how.journal.done(key, answer) for key, answer in found))
        return found

    def settle(self, key: str, cost: Decimal | None) -> None:
        """Book the cost; None: nobody knows it, so all that it could be."""
        if key in self.reserved:
            self.how.budget.settle(self.reserved.pop(key), cost)
        elif cost is not None:
            self.how.budget.spent += cost - self.held.pop(key, NOTHING)

    async def close(self, id: str) -> list[tuple[str, Answer]]:
        """End a batch: what it did not answer is surely not billed, and is sent again where the batch expired."""
        batch, left = self.batches[id], self.open.pop(id)
        told = f"batch {id} {'has ' if batch.status == 'expired' else ''}{batch.status}"
        if counts := batch.request_counts:
            note(f"{told}: {counts.completed:,} of {counts.total:,} answered")
        if not left:
            return []
        why = ": ".join(filter(None, (told, _errors(batch))))
        over = []
        for key, request in left.items():
            if batch.status == "completed":  # it may have been billed, and nobody says so
                self.settle(key, None)
                over.append((key, Answer({NOTE: f"{why} without an answer to this request"}, "failed")))
                continue
            await self.how.journal.rejected(key, why)
            self.settle(key, NOTHING)
            if batch.status == "expired" and self.tried.get(key, 1) < self.how.attempts:
                self.todo[key] = request
            elif batch.status == "expired":
                late = {NOTE: f"{why} before this request's turn: not billed"}
                over.append((key, Answer(late, "failed", cost=NOTHING)))
        if batch.status in ("failed", "cancelled"):
            raise GenregError(f"{why}; --resume sends what it did not answer")
        await asyncio.gather(*(self.how.journal.done(key, answer) for key, answer in over))
        return over


def require_journal(folder: Path) -> None:
    """Raise UsageError where nothing would be left of a batch if this process ended: where rows go to no file."""
    if folder.name != JOURNAL:
        raise UsageError("batch=true may take a day: name a file with -o, so that --resume can pick the batch up")


def _counted(requests: Mapping[str, Request]) -> str:
    return f"{len(requests):,} request{'s' * (len(requests) != 1)}"


def _line(key: str, path: str, body: Mapping[str, Any]) -> bytes:
    """A request as a line of a batch's file."""
    line = {"custom_id": key, "method": "POST", "url": path, "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _refused(line: Mapping[str, Any]) -> Failure:
    """What a line says that is no answer."""
    response = line.get("response") or {}
    error = (response.get("body") or {}).get("error") or line.get("error") or {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    said = error.get("message") or error.get("code") or "it does not say why"
    outcome = "filtered" if error.get("code") in FILTERED else "failed"
    return Failure(f"refused in its batch ({response.get('status_code') or 'no status'}): {said}", outcome=outcome,
                   billed=False)  # fmt: skip


def _errors(batch: Any) -> str:
    """What a batch says went wrong with it."""
    found = (batch.errors.data if batch.errors else None) or []
    return "; ".join(dict.fromkeys(str(error.message or error.code) for error in found))[:300]


async def _some(stream: AsyncIterator[T], most: int) -> list[T]:
    """The next items, at most so many."""
    found: list[T] = []
    async for item in stream:
        found.append(item)
        if len(found) == most:
            break
    return found


async def _left() -> None:
    """What is still to be written down."""
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)


class _Loop:
    """An event loop in a thread of its own, so that a notebook's loop does not mind."""

    def __enter__(self) -> _Loop:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="genreg-openai-batch", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.call(_left())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
