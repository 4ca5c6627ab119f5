"""Against aimock, a server that no one here wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aimock import control, serving
from test_faults import rows_of

from genreg import load
from genreg.errors import UsageError
from genreg_openai.journal import totals

POEM = "给我写一首关于秋天的诗。"
AUTUMN = "落叶满山秋意浓,\n一江寒水映孤峰。"
KEY = "test-key"
FIXTURES = [
    {"match": {"userMessage": "秋天"}, "response": {"content": AUTUMN}},
    {"match": {"userMessage": "long"}, "response": {"content": "too lon", "finishReason": "length"}},
    {"match": {"userMessage": "bad"}, "response": {"content": "I must", "finishReason": "content_filter"}},
    {"match": {"userMessage": "cut"}, "response": {"content": "a b c d e f g h " * 8}, "truncateAfterChunks": 9},
    {"match": {"userMessage": "broken"}, "response": {"error": {"message": "overloaded", "type": "x"}, "status": 500}},
    {
        "match": {"userMessage": "fast", "sequenceIndex": 0},
        "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429},
    },
    {"match": {"userMessage": "fast"}, "response": {"content": "well"}},
]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("aimock"), FIXTURES, KEY) as url:
        yield url


@pytest.fixture(params=["chat", "responses"])
def options(aimock, request, monkeypatch) -> dict[str, str]:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{aimock}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return {"api": request.param, "model": "gpt-5.4-mini"}


def test_the_seeds_example(options):
    samples = load("openai-text", options=options).sample(prompt=POEM)
    assert samples.table.column("text").to_pylist() == [AUTUMN]
    assert samples.table.column("outcome").to_pylist() == ["ok"]


@pytest.mark.parametrize(("prompt", "outcome"), [("long", "length"), ("cut", "truncated"), ("broken", "failed")])
def test_answers_end_as_they_end(prompt, outcome, options, tmp_path):
    (row,) = rows_of(load("openai-text", options=options), tmp_path, prompt=prompt)
    assert row["outcome"] == outcome
    assert bool(row["text"]) == (outcome != "failed")


def test_a_filtered_answer_is_told_apart(options, tmp_path):
    (row,) = rows_of(load("openai-text", options=options), tmp_path, prompt="bad")
    # aimock has no filtered response: it makes it a failed one, as its table of finish reasons says
    assert row["outcome"] == ("filtered" if options["api"] == "chat" else "failed")


def test_a_rate_limit_is_waited_for(options, tmp_path, aimock):
    control(aimock, "journal", KEY)
    (row,) = rows_of(load("openai-text", options=options), tmp_path, prompt="fast")
    assert row["text"] == "well"


def test_a_wrong_key_is_told(options, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UsageError, match="answered 401"):
        rows_of(load("openai-text", options=options), tmp_path, prompt=POEM)


def test_what_it_does_not_know_is_an_error_and_not_a_success(options, tmp_path):
    (row,) = rows_of(load("openai-text", options=options), tmp_path, prompt="nothing matches this")
    assert row["outcome"] == "failed"
    assert "answered 503" in row["note"]


def test_lost_connections_are_unknown_or_truncated_and_not_asked_again(options, tmp_path, aimock):
    control(aimock, "chaos", KEY, {"disconnectRate": 1})
    try:
        rows = rows_of(load("openai-text", options=options), tmp_path, n=3, prompt=POEM)
    finally:
        control(aimock, "chaos", KEY, {"disconnectRate": 0})
    assert {row["outcome"] for row in rows} <= {"unknown", "truncated"}
    assert totals(tmp_path).sent == 3
    assert rows_of(load("openai-text", options=options), tmp_path, n=3, prompt=POEM) == rows
