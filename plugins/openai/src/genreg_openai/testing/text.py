"""What the fake answers to chat completions and to the Responses API."""

from __future__ import annotations

import hashlib
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Event: TypeAlias = tuple[str | None, dict[str, Any] | str]  # name and data

SAYING = (
    "a registry of small models hums along while the lantern keeps its patient watch over every "
    "river and the quiet machine counts stars in the long blue evening"
)
WORDS = SAYING.split()
REFUSAL = "I'm sorry, I can't help with that."


@dataclass
class Made:
    """An answer as a whole and as a stream, and what it would be billed as."""

    whole: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    tokens: int = 0
    images: int = 0


def dice(*parts: Any) -> random.Random:
    """Chance that depends on the parts alone."""
    return random.Random(hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).digest())


def words_for(prompt: str, seed: Any, limit: int | None, index: int = 0) -> tuple[str, bool]:
    """Words for a prompt, and whether the limit cut them off."""
    chance = dice(prompt, seed, index)
    words = [chance.choice(WORDS) for _ in range(chance.randint(10, 18))]
    cut = limit is not None and limit < len(words)
    return " ".join(words[:limit] if cut else words), cut


def count(text: str) -> int:
    """A fake count: a token a word."""
    return len(text.split())


def flat(content: Any) -> str:
    """The text of a message's content or of an input, whatever its shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return flat(content.get("text") or content.get("content") or "")
    return " ".join(map(flat, content)) if isinstance(content, list) else ""


def instance(schema: dict[str, Any], chance: random.Random) -> Any:
    """A smallest value that fits a simple JSON Schema."""
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(inner, chance) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), chance)]
    return {"string": chance.choice(WORDS), "integer": chance.randint(0, 9), "number": 0.5, "boolean": True}.get(kind)


def pieces(text: str) -> list[str]:
    """Words with the space in front, as tokens have it."""
    words = text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)] if text else []


def chat(body: dict[str, Any], fault: str | None, name: str) -> Made:
    """A chat completion."""
    prompt = " ".join(flat(message.get("content")) for message in body["messages"])
    base = {
        "id": f"chatcmpl-{name}", "created": int(time.time()), "model": body["model"], "system_fingerprint": "fp_fake",
    }  # fmt: skip
    said = [_choice(body, fault, prompt, index) for index in range(int(body.get("n") or 1))]
    used, made = count(prompt), sum(count(text or refusal or "") for text, _, refusal in said)
    usage = {
        "prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    choices: list[dict[str, Any]] = [
        {
            "index": index, "finish_reason": finish, "logprobs": None,
            "message": {"role": "assistant", "content": text, "refusal": refusal, "annotations": []},
        }
        for index, (text, finish, refusal) in enumerate(said)
    ]  # fmt: skip
    whole = {**base, "object": "chat.completion", "choices": choices, "usage": usage, "service_tier": "default"}
    return Made(whole, _chunks(base, said, usage, body), used + made)


def _choice(body: dict[str, Any], fault: str | None, prompt: str, index: int) -> tuple[str | None, str, str | None]:
    """Text, finish reason, refusal."""
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    text, cut = words_for(prompt, body.get("seed"), limit, index)
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        text, cut = json.dumps(instance(form["json_schema"]["schema"], dice(prompt))), False
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0]
    if fault == "refusal":
        return None, "stop", REFUSAL
    if fault == "content_filter":
        return text[:10], "content_filter", None
    return "" if fault == "empty" else text, "length" if cut else "stop", None


def _chunks(
    base: dict[str, Any], said: list[tuple[str | None, str, str | None]], usage: dict[str, Any], body: dict[str, Any]
) -> list[Event]:
    events: list[Event] = []
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
        extra = {"usage": None} if with_usage else {}
        events.append((None, {**base, "object": "chat.completion.chunk", **extra, "choices": [choice]}))

    for index, (text, finish, refusal) in enumerate(said):
        chunk(index, {"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(text or refusal or ""):
            chunk(index, {"refusal" if refusal else "content": piece})
        chunk(index, {}, finish)
    if with_usage:
        events.append((None, {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    return [*events, (None, "[DONE]")]


def response(body: dict[str, Any], fault: str | None, name: str) -> Made:
    """A response of the Responses API."""
    prompt = " ".join([body.get("instructions") or "", flat(body["input"])]).strip()
    text, cut = words_for(prompt, None, body.get("max_output_tokens"))
    form = (body.get("text") or {}).get("format") or {"type": "text"}
    if form.get("type") == "json_schema":
        text, cut = json.dumps(instance(form["schema"], dice(prompt))), False
    reason = "content_filter" if fault == "content_filter" else "max_output_tokens" if cut else None
    text = text[:10] if fault == "content_filter" else "" if fault == "empty" else text
    refusal = REFUSAL if fault == "refusal" else None
    status = "incomplete" if reason else "completed"
    part: dict[str, Any] = (
        {"type": "refusal", "refusal": refusal}
        if refusal
        else {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    )
    item = {"id": f"msg_{name}", "type": "message", "role": "assistant", "status": status, "content": [part]}
    used, made = count(prompt), count(refusal or text)
    whole = {
        **_frame(body, name, form), "status": status, "completed_at": int(time.time()), "output": [item],
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": {
            "input_tokens": used, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": made, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": used + made,
        },
    }  # fmt: skip
    return Made(whole, _response_events(whole, item, part), used + made)


def early(whole: dict[str, Any], status: str = "in_progress") -> dict[str, Any]:
    """The same response while it is being made."""
    rest = {name: value for name, value in whole.items() if name != "usage"}
    return {**rest, "status": status, "output": [], "incomplete_details": None, "completed_at": None}


def _frame(body: dict[str, Any], name: str, form: dict[str, Any]) -> dict[str, Any]:
    """What of a response only repeats the request."""
    return {
        "id": f"resp_{name}", "object": "response", "created_at": int(time.time()), "model": body["model"],
        "background": bool(body.get("background")), "error": None, "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"), "max_tool_calls": None, "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"), "reasoning": {"effort": None, "summary": None},
        "service_tier": "default", "store": body.get("store", True), "temperature": body.get("temperature", 1.0),
        "text": {"format": form}, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0), "truncation": "disabled", "metadata": body.get("metadata") or {},
    }  # fmt: skip


def _response_events(whole: dict[str, Any], item: dict[str, Any], part: dict[str, Any]) -> list[Event]:
    events: list[Event] = []

    def add(kind: str, **data: Any) -> None:
        events.append((kind, {"type": kind, "sequence_number": len(events), **data}))

    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    refused = part["type"] == "refusal"
    key, kind = ("refusal", "response.refusal") if refused else ("text", "response.output_text")
    extra: dict[str, Any] = {} if refused else {"logprobs": []}
    add("response.created", response=early(whole))
    add("response.in_progress", response=early(whole))
    add("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []})
    add("response.content_part.added", part={**part, key: ""}, **at)
    for piece in pieces(part[key]):
        add(f"{kind}.delta", delta=piece, **extra, **at)
    add(f"{kind}.done", **{key: part[key]}, **extra, **at)
    add("response.content_part.done", part=part, **at)
    add("response.output_item.done", output_index=0, item=item)
    add(f"response.{whole['status']}", response=whole)
    return events
