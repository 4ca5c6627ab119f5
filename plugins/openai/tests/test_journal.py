"""The journal: what is on the disk survives, what is torn is not believed, and sums are right."""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.errors import UsageError
from genreg_openai.calls import Answer
from genreg_openai.journal import NAME, Journal, totals

ANSWER = Answer(
    {"text": "诗 \u2028 \ud800", "note": None, "image": b"\x00\xff"}, "ok", {"input_tokens": 3}, Decimal("0.01")
)


def write(folder: Path | None, *steps: tuple) -> Journal:
    """A journal after some steps, still open."""
    journal = Journal(folder)

    async def run() -> None:
        for name, *arguments in steps:
            await getattr(journal, name)(*arguments)

    asyncio.run(run())
    return journal


def test_each_state_is_found_again(tmp_path):
    steps = [("sent", "a"), ("sent", "b"), ("submitted", "b", "batch_1"), ("sent", "c", Decimal("0.5")),
             ("rejected", "c", "429"), ("sent", "d"), ("done", "d", ANSWER)]  # fmt: skip
    write(tmp_path, *steps).close()
    journal = Journal(tmp_path)
    states = {key: journal.find(key).state for key in "abcd"}
    assert states == {"a": "sent", "b": "submitted", "c": "rejected", "d": "done"}
    assert journal.find("b").id == "batch_1"
    assert journal.answer(journal.find("d")) == ANSWER
    assert journal.find("e") is None
    assert len(journal) == 4
    journal.close()


def test_without_a_folder_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = write(None, ("sent", "a"), ("done", "a", ANSWER))
    assert journal.answer(journal.find("a")) == ANSWER
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([], False),
        ([("sent", "a"), ("rejected", "a", "401")], False),
        ([("sent", "a")], True),
        ([("sent", "a"), ("submitted", "a", "batch_1")], True),
        ([("sent", "a"), ("done", "a", ANSWER)], True),
        ([("sent", "a"), ("rejected", "a", "429"), ("sent", "b")], True),
        ([("sent", "a"), ("sent", "a"), ("rejected", "a", "429")], True),  # the first may have been billed
    ],
)
def test_a_journal_of_rejections_alone_is_not_left_behind(tmp_path, steps, left):
    write(tmp_path, *steps).close()
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"] * left


@given(st.integers(0, 400), st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_torn_end_is_cut_off_and_what_was_whole_stays(tmp_path_factory, cut, garbage):
    folder = tmp_path_factory.mktemp("journal")
    write(folder, ("sent", "a"), ("done", "a", ANSWER), ("sent", "b")).close()
    path = folder / NAME
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    cut = min(cut, len(whole))
    path.write_bytes(whole[:cut] + garbage.replace(b"\n", b""))
    journal = write(folder, ("sent", "z"))
    expected = {"a": "done" if cut >= len(lines[0] + lines[1]) else "sent", "b": "sent"}
    assert journal.find("a") is None if cut < len(lines[0]) else journal.find("a").state == expected["a"]
    assert (journal.find("b") is not None) == (cut == len(whole))
    journal.close()
    again = Journal(folder)
    assert again.find("z").state == "sent"
    again.close()


def test_many_requests_share_a_sync(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path)

    async def run() -> None:
        await asyncio.gather(*(journal.sent(str(number)) for number in range(500)))

    asyncio.run(run())
    assert len(journal) == 500
    assert 1 <= len(synced) <= 50
    journal.close()


def test_a_full_disk_is_told_to_whoever_writes(tmp_path, monkeypatch):
    journal = Journal(tmp_path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        asyncio.run(journal.sent("a"))
    journal.close()


def test_one_process_has_it_at_a_time(tmp_path):
    journal = Journal(tmp_path)
    with pytest.raises(UsageError, match=f"{tmp_path} is in use by another genreg"):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


def test_the_sums_count_failed_attempts_and_what_is_open(tmp_path):
    failed = Answer({"note": "500"}, "failed", cost=None)
    steps = [("sent", "a", Decimal(1)), ("rejected", "a", "429"), ("sent", "a", Decimal(1)), ("done", "a", ANSWER),
             ("sent", "b", Decimal(2)), ("done", "b", failed), ("sent", "c", Decimal(4))]  # fmt: skip
    write(tmp_path, *steps).close()
    found = totals(tmp_path)
    assert (found.sent, found.rejected, dict(found.outcomes)) == (4, 1, {"ok": 1, "failed": 1})
    assert found.cost == Decimal("2.01")  # all that was reserved, where nobody knows the cost
    assert found.bound == Decimal("6.01")
    account = found.account()
    assert account.facts == {
        "requests": 4, "outcomes": {"ok": 1, "failed": 1}, "input_tokens": 3, "cost": 2.01, "rejected": 1, "unknown": 1,
    }  # fmt: skip
    assert account.lines == (
        "4 requests, 3 tokens in, 0 tokens out, $2.01 or less (1 of unknown cost), 1 rejected and not billed",
        "failed: 500",
    )
    assert totals(tmp_path / "none").account().facts == {}
