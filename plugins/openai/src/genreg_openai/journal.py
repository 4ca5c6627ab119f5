"""The journal: what was sent, written down and synced before it is sent, and each answer, before anyone sees it.

One file of lines, each a CRC-32 and a JSON record, appended to alone; the last record of a key says how it stands:

    sent        on its way, with the most it may cost: if the run dies now, nobody knows whether it was billed
    submitted   the service goes on with it under an id, from which the answer can be fetched
    rejected    surely not billed: it may be sent again
    done        the answer, whatever its outcome

A journal of rejections alone is removed when it is closed: nothing was paid for, and nothing is to be gone on with.
A crash can only tear the last line, which is cut off when the journal is opened again. Many requests share one fsync:
while the disk is busy with some records, those that come meanwhile wait to be written together (group commit).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from genreg.draft import Account
from genreg.errors import UsageError
from genreg_openai.calls import Answer

NAME = "requests.jsonl"
MOST_NOTES = 5  # reasons told at the end of a run


@dataclass(frozen=True, slots=True)
class Entry:
    """How a key stands: its last state, where that record lies in the file, and the id it was submitted under."""

    state: str
    at: int
    size: int
    id: str | None = None


class Journal:
    """The journal of one run, in its folder; without a folder it is as short-lived as the process.

    Raises UsageError where another process has it open.
    """

    def __init__(self, folder: Path | None) -> None:
        self.synced = folder is not None
        self._path = folder / NAME if folder else None
        self._file: BinaryIO = _opened(self._path) if self._path else tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._entries: dict[str, Entry] = {}
        self.totals, end = Totals(), 0
        for end, size, record in _records(self._file):
            self._note(record, end, size)
            end += size
        self._file.truncate(end)
        self._end = end
        self._lock = threading.Lock()
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "journal")

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def matters(self) -> bool:
        """Whether anything was answered, or may have been taken by the service."""
        open_or_done = any(entry.state != "rejected" for entry in self._entries.values())
        return open_or_done or self.totals.sent > self.totals.rejected  # the latter: what was sent twice

    def find(self, key: str) -> Entry | None:
        """How a key stands; None where it was never sent."""
        return self._entries.get(key)

    def answer(self, entry: Entry) -> Answer:
        """The answer of an entry that is done, from the file."""
        record = _decoded(os.pread(self._file.fileno(), entry.size, entry.at))
        assert record is not None
        return _answer(record["answer"])

    async def sent(self, key: str, worst: Decimal | None = None) -> None:
        """Note that a request is about to be sent; back once that is on the disk."""
        await self._write({"key": key, "is": "sent", "worst": None if worst is None else str(worst)})

    async def submitted(self, key: str, id: str) -> None:
        """Note the id under which the service goes on with it."""
        await self._write({"key": key, "is": "submitted", "id": id})

    async def rejected(self, key: str, why: str) -> None:
        """Note that it was surely not billed."""
        await self._write({"key": key, "is": "rejected", "why": why})

    async def done(self, key: str, answer: Answer) -> None:
        """Note the answer; back once it is on the disk."""
        await self._write({"key": key, "is": "done", "answer": _plain(answer)})

    async def _write(self, record: dict[str, Any]) -> None:
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((record, written))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await asyncio.shield(written)

    async def _commit(self) -> None:
        """Write what waits, a group at a time, until nothing does; an error of the disk goes to all of its group."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                try:
                    await loop.run_in_executor(self._disk, self._append, [record for record, _ in group])
                except OSError as error:
                    for _, written in group:
                        written.set_exception(error)
                    continue
                for _, written in group:
                    written.set_result(None)
        finally:
            self._committing = None

    def _append(self, records: list[dict[str, Any]]) -> None:
        """Write records with one fsync, and note where they lie: in the thread of the disk."""
        lines = [_encoded(record) for record in records]
        with self._lock:
            self._file.seek(self._end)
            self._file.write(b"".join(lines))
            self._file.flush()
            if self.synced:
                os.fsync(self._file.fileno())
            for record, line in zip(records, lines, strict=True):
                self._note(record, self._end, len(line))
                self._end += len(line)

    def _note(self, record: Mapping[str, Any], at: int, size: int) -> None:
        self._entries[record["key"]] = Entry(record["is"], at, size, record.get("id"))
        self.totals.add(record)

    def close(self) -> None:
        """Write what waits, and let the file go."""
        self._disk.shutdown()
        if self._path and not self.matters:
            self._path.unlink(missing_ok=True)
        self._file.close()


@dataclass
class Totals:
    """What all requests of a journal used, failed attempts included."""

    sent: int = 0
    rejected: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    cost: Decimal = Decimal(0)
    unpriced: int = 0  # answers whose cost nobody knows
    open: dict[str, Decimal | None] = field(default_factory=dict)  # sent, not answered: the most each may cost
    notes: Counter[str] = field(default_factory=Counter)  # why rows are not ok

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record."""
        key, state = record["key"], record["is"]
        if state == "sent":
            self.sent += 1
            self.open[key] = None if record.get("worst") is None else Decimal(record["worst"])
        elif state == "rejected":
            self.rejected += 1
            self.open.pop(key, None)
        elif state == "done":
            answer, worst = record["answer"], self.open.pop(key, None)
            self.outcomes[answer["outcome"]] += 1
            self.usage.update(answer["usage"])
            if answer["cost"] is not None:
                self.cost += Decimal(answer["cost"])
            else:
                self.unpriced += 1
                self.cost += worst or 0  # as much as was reserved for it
            if note := answer["columns"].get("note"):
                self.notes[f"{answer['outcome']}: {note}"] += 1

    def account(self) -> Account:
        """The same, for the recipe and for people."""
        if not self.sent:
            return Account()
        facts: dict[str, Any] = {
            "requests": self.sent,
            "outcomes": dict(self.outcomes),
            **self.usage,
            "cost": float(self.cost),  # in USD
            "rejected": self.rejected,
            "unknown": len(self.open) + self.outcomes["unknown"],
        }
        facts = {name: fact for name, fact in facts.items() if fact or name in ("requests", "cost")}
        price = f"${self.cost:.6f}".rstrip("0").rstrip(".")
        price += f" or less ({self.unpriced} of unknown cost)" if self.unpriced else ""
        tokens = [f"{self.usage[f'{way}put_tokens']:,} tokens {way}" for way in ("in", "out")] if self.usage else []
        again = [f"{self.rejected:,} rejected and not billed"] if self.rejected else []
        lines = [", ".join([f"{self.sent:,} request{'s' * (self.sent > 1)}", *tokens, price, *again])]
        lines += [f"{count} x {why}" if count > 1 else why for why, count in self.notes.most_common(MOST_NOTES)]
        return Account(facts, tuple(lines))

    @property
    def bound(self) -> Decimal:
        """The most that all this can have cost, in USD."""
        return self.cost + sum(filter(None, self.open.values()), Decimal(0))


def totals(folder: Path) -> Totals:
    """What the journal in a folder adds up to; nothing where there is none."""
    found = Totals()
    if (folder / NAME).is_file():
        with (folder / NAME).open("rb") as file:
            for _, _, record in _records(file):
                found.add(record)
    return found


def _opened(path: Path) -> BinaryIO:
    """The file, to be appended to by this process alone; raises UsageError where another one has it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(f"{path.parent} is in use by another genreg: wait for it, or stop it") from None
    return file


def _records(file: BinaryIO) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Each whole record with its place and size; what a crash has torn is left out."""
    file.seek(0)
    at = 0
    for line in file:
        record = _decoded(line)
        if record is not None:
            yield at, len(line), record
        at += len(line)


def _encoded(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decoded(line: bytes) -> dict[str, Any] | None:
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
        return None
    record: dict[str, Any] = json.loads(text.decode("utf-8", "surrogatepass"))
    return record


def _plain(answer: Answer) -> dict[str, Any]:
    """An answer as JSON can hold it."""
    columns = {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in answer.columns.items()
    }
    cost = None if answer.cost is None else str(answer.cost)
    return {"columns": columns, "outcome": answer.outcome, "usage": dict(answer.usage), "cost": cost}


def _answer(plain: Mapping[str, Any]) -> Answer:
    columns = {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) and value.keys() == {"base64"} else value
        for name, value in plain["columns"].items()
    }
    cost = None if plain["cost"] is None else Decimal(plain["cost"])
    return Answer(columns, plain["outcome"], plain["usage"], cost)
