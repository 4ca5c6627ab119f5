"""Every way in which a service fails: its outcome, its message, what the journal says, and what was paid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genreg import load
from genreg.errors import GenregError, UsageError
from genreg.generate import generate
from genreg_openai.journal import totals

APIS = ("chat", "responses")


@dataclass(frozen=True)
class Case:
    """A fault, how its row ends, what it is told as, and how often it is sent and billed."""

    fault: dict[str, Any]
    outcome: str
    note: str = ""
    sent: int = 1
    billed: int = 1
    text: bool = True  # whether some text is kept


CASES = {
    "rate limit": Case({"kind": "rate_limit", "times": 2, "retry_after_ms": 20}, "ok", sent=3),
    "server error": Case({"kind": "server_error"}, "failed", "answered 500: The server", billed=0, text=False),
    "overloaded": Case({"kind": "server_error", "status": 503}, "failed", "answered 503", billed=0, text=False),
    "web page": Case({"kind": "html", "status": 200}, "failed", "answered with text/html", billed=0, text=False),
    "bad gateway": Case({"kind": "html", "status": 502}, "failed", "answered 502: a web page", billed=0, text=False),
    "hang": Case({"kind": "hang", "seconds": 1.0}, "unknown", "did not answer in time", text=False),
    "drop before": Case({"kind": "drop"}, "unknown", "was lost: it may have been billed", billed=0, text=False),
    "drop within": Case({"kind": "drop_midstream", "after": 6}, "truncated", "was lost: it may have been billed"),
    "drop at once": Case({"kind": "drop_midstream", "after": 0}, "unknown", "was lost", text=False),
    "drop after": Case({"kind": "drop_after"}, "ok"),
    "stream ends": Case({"kind": "truncate_stream", "after": 6}, "truncated", "the stream ended before the answer did"),
    "stream ends at once": Case({"kind": "truncate_stream", "after": 0}, "truncated", "the stream ended", text=False),
    "error event": Case({"kind": "stream_error", "after": 6}, "failed", "broke off: The server had an error"),
    "broken JSON": Case({"kind": "malformed_json", "after": 6}, "failed", "answered with broken JSON"),
    "a list": Case({"kind": "wrong_type"}, "failed", "JSON that is no answer of the API", billed=0, text=False),
    "refusal": Case({"kind": "refusal"}, "refused", "I'm sorry, I can't help with that.", text=False),
    "content filter": Case({"kind": "content_filter"}, "filtered", "a content filter stopped the answer"),
    "empty": Case({"kind": "empty"}, "failed", "the answer is empty", text=False),
}  # fmt: skip


def rows_of(model: Any, folder: Path, n: int = 1, **given: Any) -> list[dict[str, Any]]:
    """Rows of a run that keeps its journal in ``folder``, without windows."""
    prepared = model.prepare(model.given(None, {"prompt": "Write a haiku.", **given}), n, seed=1)
    own = prepared.window(0, n)
    made = generate(model.model, model.form, own.seeds, own.batch, folder=folder)
    return [row for batch in made for row in batch.to_pylist()]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", CASES)
def test_a_fault_has_its_outcome_and_is_not_paid_twice(name, api, server, tmp_path):
    case, model = CASES[name], load("openai-text", options={"api": api, "timeout": "0.4"})
    server.fault(**case.fault)
    (row,) = rows_of(model, tmp_path)
    assert (row["outcome"], bool(row["text"])) == (case.outcome, case.text)
    assert case.note in (row["note"] or "")
    assert bool(row["note"]) == bool(case.note)
    assert len(server.log) == case.sent
    if name == "hang":
        while server.state.in_flight:
            pass
    assert server.billed == case.billed
    account = totals(tmp_path)
    assert (account.sent, dict(account.outcomes), account.open) == (case.sent, {case.outcome: 1}, {})
    (again,) = rows_of(model, tmp_path)  # a resumed run pays nothing
    assert again == row
    assert len(server.log) == case.sent


@pytest.mark.parametrize("api", APIS)
def test_an_exhausted_quota_ends_the_run_at_once(api, server, tmp_path):
    server.fault("quota", times=-1)
    model = load("openai-text", options={"api": api, "concurrency": "1"})
    with pytest.raises(UsageError, match=r"answered 429: You exceeded.*retrying is useless"):
        rows_of(model, tmp_path, n=20)
    assert len(server.log) == 1
    server.state.faults.clear()
    assert [row["outcome"] for row in rows_of(model, tmp_path, n=20)] == ["ok"] * 20
    assert server.billed == 20


def test_a_limit_that_does_not_end_ends_the_run_and_loses_nothing(server, tmp_path):
    server.fault("rate_limit", times=-1, match="stuck", retry_after_ms=1)
    options = {"concurrency": "1", "attempts": "3"}
    rows_of(load("openai-text", options=options), tmp_path, prompt="answered before")
    with pytest.raises(GenregError, match=r"answered 429: Rate limit reached") as caught:
        rows_of(load("openai-text", options=options), tmp_path, prompt="stuck")
    assert caught.value.exit_code == 1
    assert len(server.log) == 1 + 3
    found = totals(tmp_path)
    assert (dict(found.outcomes), found.rejected) == ({"ok": 1}, 3)


def test_a_longer_wait_than_patience_is_not_waited_for(server, tmp_path):
    server.fault("rate_limit", retry_after=3600)
    with pytest.raises(GenregError, match="answered 429"):
        rows_of(load("openai-text"), tmp_path)
    assert len(server.log) == 1


def test_what_may_have_been_billed_is_asked_again_only_when_told(server, tmp_path):
    server.fault("drop")
    assert rows_of(load("openai-text"), tmp_path)[0]["outcome"] == "unknown"
    (row,) = rows_of(load("openai-text", options={"resend": "true"}), tmp_path)
    assert row["outcome"] == "ok"
    assert len(server.log) == 2


def test_a_server_error_is_asked_again_at_once_where_that_was_told(server, tmp_path, monkeypatch):
    monkeypatch.setattr("genreg_openai.pool.FIRST_WAIT", 0.01)
    server.fault("server_error", times=2)
    (row,) = rows_of(load("openai-text", options={"resend": "true"}), tmp_path)
    assert (row["outcome"], len(server.log), server.billed) == ("ok", 3, 1)


def test_a_server_that_is_not_there_is_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("genreg_openai.pool.FIRST_WAIT", 0.01)
    model = load("openai-text", options={"base_url": "http://127.0.0.1:9/v1", "attempts": "2"})
    with pytest.raises(GenregError, match=r"127\.0\.0\.1:9 cannot be reached"):
        rows_of(model, tmp_path, n=3)


@pytest.mark.parametrize("api", APIS)
def test_connections_are_used_again(api, server, tmp_path):
    rows_of(load("openai-text", options={"api": api, "concurrency": "2"}), tmp_path, n=20)
    assert len({entry["port"] for entry in server.log}) <= 2


def test_many_connections_are_several_pools_which_use_them_again(server, tmp_path):
    rows = rows_of(load("openai-text", options={"concurrency": "20"}), tmp_path, n=80)
    assert [row["outcome"] for row in rows] == ["ok"] * 80
    assert len({entry["port"] for entry in server.log}) <= 2 * 20


def test_a_redirect_is_named_and_not_followed(server, tmp_path):
    server.fault("redirect", location="https://elsewhere.example/v1")
    with pytest.raises(UsageError, match=r"points to https://elsewhere\.example/v1: name it in base_url"):
        rows_of(load("openai-text"), tmp_path)


def test_a_wrong_key_and_a_model_that_is_not_there_end_the_run(server, tmp_path, monkeypatch):
    model = load("openai-text", options={"model": "gone", "concurrency": "1"})
    with pytest.raises(UsageError, match=r"answered 404: The model `gone` does not exist"):
        rows_of(model, tmp_path, n=9)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UsageError, match=r"answered 401: .*genreg keys set 127\.0\.0\.1:"):
        rows_of(load("openai-text", options={"concurrency": "1"}), tmp_path, n=9)
    assert len(server.log) == 2


def test_a_parameter_that_is_refused_fails_its_row_alone(server, tmp_path):
    (row,) = rows_of(load("openai-text"), tmp_path, temperature=3.0)
    assert row["outcome"] == "failed"
    assert "answered 400: Invalid 'temperature': 3.0" in row["note"]


def test_a_stream_without_an_end_is_whole_where_that_is_said(server, tmp_path):
    server.fault("truncate_stream", after=8)
    (row,) = rows_of(load("openai-text", options={"lenient": "true"}), tmp_path)
    assert row["outcome"] == "ok"
