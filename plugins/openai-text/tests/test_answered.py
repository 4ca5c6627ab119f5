"""Streams of events, wherever they are cut, and answers of every shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg_openai.calls import Failure
from genreg_openai.events import events, read
from genreg_openai.testing.text import chat, response
from genreg_openai_text.answered import Said, fits, take
from genreg_openai_text.asked import most_tokens, shots

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


def parsed(data: bytes, cuts: list[int]) -> list[str]:
    async def chunks() -> AsyncIterator[bytes]:
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, stop in pairwise(edges):
            yield data[start:stop]

    async def run() -> list[str]:
        return [event async for event in events(chunks())]

    return asyncio.run(run())


@given(st.lists(TEXT, max_size=5), st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=150, deadline=None)
def test_events_are_the_same_wherever_the_stream_is_cut(texts, cuts, end):
    stream = "".join(
        f": comment{end}event: x{end}data: {json.dumps(text, ensure_ascii=False)}{end}{end}" for text in texts
    )
    assert [json.loads(event) for event in parsed(stream.encode(), cuts)] == texts


def test_lines_of_one_event_are_joined_and_the_last_needs_no_end():
    assert parsed(b"data: a\ndata: b\n\ndata: c", []) == ["a\nb", "c"]
    assert parsed(b"data:x\n\n", []) == ["x"]


def said_of(made: list, host: str = "h") -> Said:
    said = Said()
    for _, event in made:
        if event != "[DONE]":
            take(said, event, host)
    return said


@pytest.mark.parametrize("make", [chat, response])
@pytest.mark.parametrize(
    ("fault", "limit", "outcome"),
    [(None, None, "ok"), (None, 3, "length"), ("refusal", None, "refused"), ("content_filter", None, "filtered")],
)
def test_a_stream_and_a_whole_answer_say_the_same(make, fault, limit, outcome):
    body = {
        "model": "m",
        "messages": [{"content": "hi"}],
        "input": "hi",
        "max_tokens": limit,
        "max_output_tokens": limit,
    }
    body["stream_options"] = {"include_usage": True}
    made, whole = make(body, fault, "1"), Said()
    take(whole, made.whole, "h")
    assert said_of(made.events) == whole
    assert whole.outcome == outcome
    assert whole.usage["output_tokens"] > 0


def test_usage_finish_and_choices_may_be_missing():
    said = Said()
    for event in (
        {"choices": []},
        {"choices": [{"delta": {"content": "a", "reasoning_content": "…"}}]},
        {"choices": None},
    ):
        take(said, event, "h")
    assert (said.text, said.outcome, said.usage) == ("a", "truncated", {})


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "error", "message": "busy"}, "h broke off: busy"),
        ({"error": {"message": "busy"}}, "h broke off: busy"),
        ({"object": "error", "message": "busy"}, "h broke off: busy"),
        ({"type": "response.failed", "response": {"status": "failed", "error": {"message": "no"}}}, "h failed: no"),
        ({"hello": 1}, "h answered with JSON that is no answer of the API"),
    ],
)
def test_an_error_in_a_stream_is_an_error(event, message):
    with pytest.raises(Failure) as caught:
        take(Said(), event, "h")
    assert caught.value.message == message
    for text in ("{", "[1]", "3"):
        with pytest.raises(Failure, match="h answered with"):
            read(text, "h")


@given(st.text())
@settings(deadline=None)
def test_a_prompt_has_no_more_tokens_than_bytes(prompt):
    assert most_tokens(prompt, {}) >= len(prompt.encode("utf-8", "surrogatepass"))


def test_a_value_fits_a_schema_by_types_keys_and_choices():
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": ["integer", "null"]}, "b": {"enum": ["x"]}, "c": {"items": {"type": "number"}}},
    }
    assert fits({"a": 1, "b": "x", "c": [1, 2.5], "more": []}, schema)
    for wrong in ({}, [], {"a": "1"}, {"a": True}, {"a": 1, "b": "y"}, {"a": None, "c": ["z"]}):
        assert not fits(wrong, schema)


def test_shots_are_turns():
    assert [turn["content"] for turn in shots('{"prompt": "a", "text": "b", "more": 1}\n')] == ["a", "b"]
