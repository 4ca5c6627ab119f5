"""From a stream of events to an answer: what was said and used, how it ended, and whether that is what was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genreg_openai.calls import Failure

ENDS = {"stop": "ok", "length": "length", "content_filter": "filtered", "max_output_tokens": "length"}


@dataclass
class Said:
    """What has come of an answer so far."""

    text: str = ""
    refusal: str = ""
    end: str | None = None  # an outcome, once the service has said how it ended
    usage: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    id: str | None = None

    @property
    def outcome(self) -> str:
        """How it ended: a stream that just stopped is truncated."""
        if self.refusal and self.end in ("ok", None):
            return "refused"
        return self.end or "truncated"


def take(said: Said, event: dict[str, Any], host: str) -> str:
    """Take in one event of either API, or a whole answer; what it adds to the text. Raises Failure for an error."""
    kind = event.get("type")
    if kind == "error" or event.get("object") == "error" or (isinstance(event.get("error"), dict) and not kind):
        found = event.get("error") if isinstance(event.get("error"), dict) else event
        raise Failure(f"{host} broke off: {(found or {}).get('message') or found}")
    if isinstance(kind, str) and kind.startswith("response."):
        return _response_event(said, kind, event, host)
    if event.get("object") == "response":
        return _response(said, event, host)
    if "choices" in event:
        return _chat(said, event)
    if kind is None:
        raise Failure(f"{host} answered with JSON that is no answer of the API")
    return ""


def _response_event(said: Said, kind: str, event: dict[str, Any], host: str) -> str:
    """An event of the Responses API."""
    if kind == "response.output_text.delta":
        piece = str(event.get("delta") or "")
        said.text += piece
        return piece
    if kind == "response.refusal.delta":
        said.refusal += str(event.get("delta") or "")
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        _response(said, event.get("response") or {}, host)
    return ""


def _response(said: Said, response: dict[str, Any], host: str) -> str:
    """The whole response, which comes last in a stream."""
    parts = [part for item in response.get("output") or [] for part in item.get("content") or []]
    before, whole = said.text, "".join(part.get("text") or "" for part in parts if part.get("type") == "output_text")
    said.text = whole or before
    said.refusal = "".join(part.get("refusal") or "" for part in parts) or said.refusal
    said.model, said.id = response.get("model") or said.model, response.get("id") or said.id
    _used(said, response.get("usage"))
    if response.get("status") == "failed":
        error = response.get("error") or {}
        raise Failure(f"{host} failed: {error.get('message') or error or 'it does not say why'}")
    reason = (response.get("incomplete_details") or {}).get("reason")
    if response.get("status") in ("completed", "incomplete"):
        said.end = "ok" if response["status"] == "completed" else ENDS.get(str(reason), "length")
    return said.text.removeprefix(before) if said.text.startswith(before) else ""


def _chat(said: Said, event: dict[str, Any]) -> str:
    """A chunk of a chat completion, or a whole one."""
    said.model, said.id = event.get("model") or said.model, event.get("id") or said.id
    _used(said, event.get("usage"))
    piece = ""
    for choice in (event.get("choices") or [])[:1]:  # empty in the event that brings the usage
        part = choice.get("delta") or choice.get("message") or {}
        piece = part.get("content") or ""
        said.text += piece
        said.refusal += part.get("refusal") or ""
        if reason := choice.get("finish_reason"):
            said.end = ENDS.get(reason, "ok")
    return str(piece)


def _used(said: Said, usage: dict[str, Any] | None) -> None:
    """Note the tokens, by the names that prices know."""
    if not usage:
        return
    asked = usage.get("input_tokens", usage.get("prompt_tokens"))  # the Responses API's name, and chat's
    made = usage.get("output_tokens", usage.get("completion_tokens"))
    details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details") or {}
    counts = {"input_tokens": asked, "output_tokens": made, "cached_tokens": details.get("cached_tokens")}
    said.usage = {name: count for name, count in counts.items() if isinstance(count, int)}


# ---- how it ended ----


def outcome_of(said: Said, schema: Any, *, lenient: bool) -> tuple[str, str | None]:
    """How an answer ended, and why it is not ok; ``schema`` None: any text will do."""
    outcome = said.outcome
    if outcome == "truncated" and lenient and said.text:
        outcome = "ok"
    if outcome == "ok" and not said.text:
        return "failed", "the answer is empty"
    if outcome == "ok" and schema is not None and not _is_json_of(said.text, schema):
        return "failed", "the answer does not fit the JSON Schema: this server may not know schemas"
    why = {
        "truncated": "the stream ended before the answer did; where a server always ends so, --option lenient=true",
        "filtered": said.refusal or "a content filter stopped the answer",
        "length": "the answer reached the limit of its tokens",
    }
    return outcome, why.get(outcome, said.refusal or None)


def _is_json_of(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        return fits(json.loads(text), schema)
    except ValueError:
        return False


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value has the types, keys and choices that a JSON Schema names; its other words are not looked at.

    >>> fits({"a": [1]}, {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}})
    False
    """
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        whole = all(key in value for key in schema.get("required", ()))
        return whole and all(fits(cell, known[key]) for key, cell in value.items() if key in known)
    items = schema.get("items")
    return not isinstance(value, list) or not isinstance(items, dict) or all(fits(cell, items) for cell in value)


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a type of JSON Schema's; True and False are no numbers, and unknown types hold anything."""
    types: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
        "integer": int, "number": (int, float),
    }  # fmt: skip
    if isinstance(value, bool) and kind in ("integer", "number"):
        return False
    return isinstance(value, types.get(kind, object))
